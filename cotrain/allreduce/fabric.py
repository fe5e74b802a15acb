"""A simulated fabric: what an all-reduce puts on every link, and how long it takes at a given latency and bandwidth.

Nothing is sent. An algorithm is a plan, a list of messages of which each may wait for earlier ones; the fabric counts
them and plays them. Ranks and the hosts of nodes are places; sums take no time.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, NamedTuple

from cotrain.allreduce.trees import double_binary_tree, segments
from cotrain.errors import InputError


class Place(NamedTuple):
    kind: Literal["rank", "host"]
    number: int  # of the rank, or of the node


@dataclass(frozen=True)
class Message:
    source: Place
    target: Place
    size: int  # bytes
    after: tuple[int, ...]  # places in the plan of the messages that it waits for


def flat(order: Sequence[int], size: int, algorithm: Literal["ring", "tree"] = "ring") -> list[Message]:
    """All ranks in one ring, in this order, or in one double binary tree; `size` bytes are reduced."""
    plan: list[Message] = []
    _across(plan, [Place("rank", rank) for rank in order], size, [()] * len(order), algorithm)
    return plan


def two_level(
    nodes: Sequence[Sequence[int]], size: int, outer: Literal["ring", "tree"] = "tree", chunks: int = 1
) -> list[Message]:
    """Every rank copies to its host, hosts sum and reduce among themselves, every rank copies the total back."""
    hosts = [Place("host", node) for node in range(len(nodes))]
    plan: list[Message] = []
    for start, end in segments(size, chunks):
        copied: list[tuple[int, ...]] = []
        for host, ranks in zip(hosts, nodes, strict=True):
            copied.append(tuple(_add(plan, Place("rank", rank), host, end - start, ()) for rank in ranks))
        total = _across(plan, hosts, end - start, copied, outer)
        for host, ranks, after in zip(hosts, nodes, total, strict=True):
            for rank in ranks:
                _add(plan, host, Place("rank", rank), end - start, after)
    return plan


@dataclass(frozen=True)
class Traffic:
    """What a plan cost; everything in it is simulated."""

    bytes_between: dict[tuple[int, int], int]  # (from node, to node) -> bytes
    messages_between: dict[tuple[int, int], int]
    rank_out: dict[int, int]  # rank -> bytes that it sent, to its host or to other ranks
    rank_in: dict[int, int]
    seconds: float

    def sent_by(self, node: int) -> int:
        """Bytes that a node sent to other nodes."""
        return sum(count for (source, _), count in self.bytes_between.items() if source == node)


@dataclass(frozen=True)
class Fabric:
    """Nodes of ranks: a link from each node to the network, and one from each rank to its node.

    A message holds each link on its way, in one direction, for its size over the narrowest bandwidth, and arrives a
    latency later. Whole messages take turns on a link, who was ready first goes first.
    """

    nodes: Sequence[Sequence[int]]
    latency: float = 0.0  # seconds, between nodes
    bandwidth: float = inf  # bytes a second, of each node's link
    local_latency: float = 0.0
    local_bandwidth: float = inf

    def run(self, plan: Sequence[Message]) -> Traffic:
        """Count and play a plan.

        Raises:
            InputError: a message from a rank that no node has.
        """
        node_of = {rank: number for number, ranks in enumerate(self.nodes) for rank in ranks}
        between: dict[tuple[int, int], int] = defaultdict(int)
        messages: dict[tuple[int, int], int] = defaultdict(int)
        rank_out: dict[int, int] = defaultdict(int)
        rank_in: dict[int, int] = defaultdict(int)
        ends = []
        for message in plan:
            ends.append([self._node(place, node_of) for place in (message.source, message.target)])
            if message.source.kind == "rank":
                rank_out[message.source.number] += message.size
            if message.target.kind == "rank":
                rank_in[message.target.number] += message.size
            source, target = ends[-1]
            if source != target:
                between[source, target] += message.size
                messages[source, target] += 1
        return Traffic(dict(between), dict(messages), dict(rank_out), dict(rank_in), self._seconds(plan, ends))

    def _seconds(self, plan: Sequence[Message], ends: Sequence[Sequence[int]]) -> float:
        followers: dict[int, list[int]] = defaultdict(list)
        for number, message in enumerate(plan):
            for earlier in message.after:
                followers[earlier].append(number)
        missing = [len(message.after) for message in plan]
        ready = [(0.0, number) for number, count in enumerate(missing) if not count]
        ready_at = [0.0] * len(plan)
        free: dict[tuple, float] = defaultdict(float)
        last = 0.0
        while ready:
            moment, number = heapq.heappop(ready)
            message, (source, target) = plan[number], ends[number]
            links = self._links(message, source, target)
            narrowest = min(
                (self.bandwidth if kind == "node" else self.local_bandwidth for kind, *_ in links), default=inf
            )
            start, held = moment, message.size / narrowest
            for link in links:  # what waits for a link further on lies in a buffer and does not hold the one before it
                start = max(start, free[link])
                free[link] = start + held
            arrival = start + held + (self.latency if source != target else self.local_latency)
            last = max(last, arrival)
            for later in followers[number]:
                missing[later] -= 1
                ready_at[later] = max(ready_at[later], arrival)
                if not missing[later]:
                    heapq.heappush(ready, (ready_at[later], later))
        return last

    @staticmethod
    def _links(message: Message, source: int, target: int) -> list[tuple[str, str, int]]:
        """The links on a message's way: kind, direction, number."""
        links = [("rank", "out", message.source.number)] if message.source.kind == "rank" else []
        if source != target:
            links += [("node", "out", source), ("node", "in", target)]
        return links + ([("rank", "in", message.target.number)] if message.target.kind == "rank" else [])

    @staticmethod
    def _node(place: Place, node_of: dict[int, int]) -> int:
        if place.kind == "host":
            return place.number
        if place.number not in node_of:
            raise InputError(f"Rank {place.number} is on none of the fabric's nodes.")
        return node_of[place.number]


def _add(plan: list[Message], source: Place, target: Place, size: int, after: tuple[int, ...]) -> int:
    plan.append(Message(source, target, size, after))
    return len(plan) - 1


def _across(
    plan: list[Message], places: Sequence[Place], size: int, ready: Sequence[tuple[int, ...]], algorithm: str
) -> list[tuple[int, ...]]:
    """Plan an all-reduce among places that start after `ready`; returns after which messages each has the total."""
    if algorithm not in ("ring", "tree"):
        raise InputError(f"There is no algorithm {algorithm!r}; there are ring and tree.")
    return (_ring if algorithm == "ring" else _tree)(plan, places, size, ready)


def _ring(
    plan: list[Message], places: Sequence[Place], size: int, ready: Sequence[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    count, has = len(places), list(ready)
    lengths = [end - start for start, end in segments(size, count)]
    for step in range(2 * (count - 1)):
        got = list(has)
        for here, place in enumerate(places):
            if length := lengths[(here - step) % count]:  # the segment that has just arrived, or the own one at first
                after = (here + 1) % count
                got[after] = (*ready[after], _add(plan, place, places[after], length, has[here]))
        has = got
    return has


def _tree(
    plan: list[Message], places: Sequence[Place], size: int, ready: Sequence[tuple[int, ...]]
) -> list[tuple[int, ...]]:
    total: list[tuple[int, ...]] = [()] * len(places)
    for (start, end), tree in zip(segments(size, 2), double_binary_tree(len(places)), strict=True):
        if start == end:
            continue
        upwards = sorted(range(len(places)), key=lambda rank: -len(tree.path(rank)))  # children before parents
        has = list(ready)
        for rank in upwards:
            if (parent := tree.parents[rank]) is not None:
                has[parent] += (_add(plan, places[rank], places[parent], end - start, has[rank]),)
        for rank in reversed(upwards):
            for child in tree.children(rank):
                has[child] = (_add(plan, places[rank], places[child], end - start, has[rank]),)
        total = [one + other for one, other in zip(total, has, strict=True)]
    return total
