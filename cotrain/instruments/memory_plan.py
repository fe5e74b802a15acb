"""The memory of a rank that trains several learners together, known before anything is sharded; and the placement of
each learner that fits with the least traffic.

Source: Zhao et al. 2023, "PyTorch FSDP", arXiv:2304.11277, sections 3.2 and 5, for what is counted.
Legend: W ranks, F ranks that hold one copy of the parameters together (a shard group).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

from torch import nn

from cotrain import show
from cotrain.errors import InputError
from cotrain.instruments.memory import Bytes, activation_bytes, sharded, whole
from cotrain.learner import Follower, Learner
from cotrain.units import units_of

Placement = Literal["none", "ddp", "hsdp", "fsdp"]
PLAIN_FIRST = get_args(Placement)
MIB = 2**20
EVERY_WAY = 8  # learners up to which every combination of placements is tried, 3^8 of them


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by learner and placement on the rank that was planned for.

    `chosen` is the placement of each learner that fits the budget with the least traffic, the plainest where that is
    equal; None if nothing fits.
    """

    ranks: int
    learners: dict[str, dict[Placement, Bytes]]
    leaders: dict[str, str]  # of the followers, which are placed as these are
    activations: int | None  # None: not measured, and left out of the totals
    budget: int | None
    chosen: dict[str, Placement] | None

    def total(self, placements: Mapping[str, Placement] | Placement) -> int:
        """Bytes of all learners together, each under its placement or all under one."""
        if isinstance(placements, str):
            placements = dict.fromkeys(self.learners, placements)
        each = [ways[placements[name]] for name, ways in self.learners.items()]
        passing = max((one.passing for one in each), default=0)  # they take turns
        return sum(one.state + one.held for one in each) + passing + (self.activations or 0)

    def ways(self) -> Iterator[dict[str, Placement]]:
        """All combinations of placements; of more than eight learners, those that place all alike."""
        free = {name: list(ways) for name, ways in self.learners.items() if name not in self.leaders}
        combinations: Iterable[tuple[Placement, ...]] = product(*free.values())
        if len(free) > EVERY_WAY:
            first, *others = free.values()
            combinations = [(way,) * len(free) for way in first if all(way in other for other in others)]
        for combination in combinations:
            way = dict(zip(free, combination, strict=True))
            yield {name: way[self.leaders.get(name, name)] for name in self.learners}

    def rows(self) -> list[dict[str, Any]]:
        """One dict a learner and placement, in MiB."""
        found = []
        for name, ways in self.learners.items():
            for placement, each in ways.items():
                sizes = {
                    "parameters": each.parameters,
                    "gradients": each.gradients,
                    "optimizer": each.optimizer,
                    "held": each.held,
                    "passing": each.passing,
                    "sent a step": each.sent,
                }
                chosen = "chosen" if self.chosen is not None and self.chosen[name] == placement else ""
                row = {"learner": name, "placement": placement, **{k: v / MIB for k, v in sizes.items()}}
                found.append({**row, "": chosen})
        return found

    def verdict(self) -> str:
        """The choice in a sentence."""
        limit = "" if self.budget is None else f" of {self.budget / MIB:.4g} MiB"
        if self.chosen is None:
            least = min(map(self.total, self.ways()))
            return f"Nothing fits the budget{limit}: the least is {least / MIB:.4g} MiB. More ranks or smaller batches."
        named = ", ".join(f"{name}: {placement}" for name, placement in self.chosen.items())
        return f"{named} takes {self.total(self.chosen) / MIB:.4g} MiB{limit} on each of {self.ranks} ranks."

    def show(self) -> None:
        """Print the table, in MiB, and the choice."""
        show.table("Memory of a rank, MiB", self.rows())
        if self.activations is not None:
            show.line(f"Activations of one step: {self.activations / MIB:.4g} MiB.")
        show.line(self.verdict())


def memory_plan(
    learners: Mapping[str, Learner],
    ranks: int,
    *,
    shard_group: int | None = None,
    step: Callable[[], Any] | None = None,
    budget: int | None = None,
    rank: int = 0,
) -> MemoryPlan:
    """Plan the memory of a rank for learners as they are, built or not. Nothing is allocated or moved.

    Args:
        learners: by role; each is sharded by its `units`. A follower takes what its leader's parameters take, and is
            placed as its leader is.
        ranks: W; with one there is the placement "none" only.
        shard_group: F, ranks that hold one copy together under "hsdp", in most cases those of a machine; divides
            `ranks`. None leaves "hsdp" out. A net with a parameter of no dimension cannot be sharded.
        step: called once, to measure the activations: a method's step on the batch of one rank.
        budget: bytes of a rank; None asks for the least traffic only.
        rank: whose bytes. Shards of rows that W does not divide are uneven, and the first rank's are the largest.

    Raises:
        InputError: a number out of its range, a follower without a leader, or an optimizer whose state cannot be told.
    """
    _check(ranks, shard_group, budget, rank)
    leaders = {name: each.leader for name, each in learners.items() if isinstance(each, Follower)}
    planned = {}
    for name, learner in learners.items():
        net, factory = _followed(name, learner, learners)
        ways: dict[Placement, Bytes] = {"none" if ranks == 1 else "ddp": whole(name, net, factory, ranks)}
        if ranks > 1 and all(parameter.dim() for parameter in net.parameters()):
            units = units_of(net, learners[leaders.get(name, name)].units)
            if shard_group is not None:
                copies = ranks // shard_group
                ways["hsdp"] = sharded(name, net, factory, units, shard_group, copies, rank % shard_group)
            ways["fsdp"] = sharded(name, net, factory, units, ranks, 1, rank)
        planned[name] = ways
    activations = None if step is None else activation_bytes(step, learners)
    plan = MemoryPlan(ranks, planned, leaders, activations, budget, chosen=None)
    return replace(plan, chosen=_choose(plan))


def _choose(plan: MemoryPlan) -> dict[str, Placement] | None:
    """The placements that fit with the least traffic, of those the plainest."""

    def cost(way: dict[str, Placement]) -> tuple[int, int]:
        sent = sum(plan.learners[name][placement].sent for name, placement in way.items())
        return sent, sum(PLAIN_FIRST.index(placement) for placement in way.values())

    fitting = (way for way in plan.ways() if plan.budget is None or plan.total(way) <= plan.budget)
    return min(fitting, key=cost, default=None)


def _followed(name: str, learner: Learner, learners: Mapping[str, Learner]) -> tuple[nn.Module, Any]:
    """The net that a learner is, and how it is trained."""
    if not isinstance(learner, Follower):
        return learner.net, learner.factory
    leader = learners.get(learner.leader)
    if leader is None or isinstance(leader, Follower):
        raise InputError(f"{name!r} follows {learner.leader!r}, which is no learner with a net of its own.")
    return leader.net, None


def _check(ranks: int, shard_group: int | None, budget: int | None, rank: int) -> None:
    if ranks < 1:
        raise InputError(f"ranks is at least 1, not {ranks}.")
    if not 0 <= rank < ranks:
        raise InputError(f"rank is one of 0..{ranks - 1}, not {rank}.")
    if shard_group is not None and (shard_group < 1 or ranks % shard_group):
        raise InputError(f"shard_group divides the {ranks} ranks, {shard_group} does not.")
    if budget is not None and budget < 1:
        raise InputError(f"budget is a number of bytes, at least 1, not {budget}.")
