"""The sum across nodes, in two halves that run in threads of their own: `reduce` towards its owners, `spread` back.

A part is a flat fp32 or fp64 tensor, of the same size on every node, and is changed in place. Between the halves every
element of the total stands at one owner, which divides it and rounds it to the wire once, so that all nodes end with
the same bits.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from cotrain.allreduce.links import Links, Pending
from cotrain.allreduce.trees import double_binary_tree, segments

Wire = Literal["fp32", "bf16"]


class Outer(ABC):
    """What both ways share: links up and down, the peers' ranks, and the precision of messages."""

    def __init__(self, up: Links, down: Links, peers: Sequence[int], here: int, wire: Wire):
        self.up, self.down = up, down
        self.peers, self.here = peers, here  # global ranks by node, this node's position among them
        self.wire = wire

    @abstractmethod
    def reduce(self, number: int, part: Tensor, divisor: int) -> list[Pending]:
        """Sum towards the owners; returns what is still being sent, to be waited for before the part is reused."""

    @abstractmethod
    def spread(self, number: int, part: Tensor) -> list[Pending]:
        """The totals from their owners to all; returns what is still being sent."""

    def _send(self, links: Links, values: Tensor, node: int, tag: int) -> Pending:
        return links.send(values.bfloat16() if self.wire == "bf16" else values, self.peers[node], tag)

    def _buffer(self, values: Tensor) -> Tensor:
        return torch.empty_like(values, dtype=torch.bfloat16 if self.wire == "bf16" else None)

    def _finish(self, total: Tensor, divisor: int) -> None:
        """By the owner: the mean, as it will be sent."""
        if divisor > 1:
            total /= divisor
        if self.wire == "bf16" and len(self.peers) > 1:
            total.copy_(total.bfloat16())  # the owner keeps what the others get


class TreeOuter(Outer):
    """A double binary tree: each of two trees sums one half of a part up to its root.

    About 2 log2 N messages one after the other, 2 S (N - 1) bytes in all over N nodes for S bytes.
    """

    def __init__(self, up: Links, down: Links, peers: Sequence[int], here: int, wire: Wire):
        super().__init__(up, down, peers, here, wire)
        # (which half, parent, children), the tree first in which this node has children: others wait for it there.
        trees = enumerate(double_binary_tree(len(peers)))
        places = [(half, tree.parents[here], tree.children(here)) for half, tree in trees]
        self.places = sorted(places, key=lambda place: -len(place[2]))

    def reduce(self, number: int, part: Tensor, divisor: int) -> list[Pending]:
        halves = self._halves(part)
        arriving = {
            (half, child): (buffer := self._buffer(halves[half]), self.up.receive(buffer, self.peers[child], tag))
            for half, _, children in self.places
            if len(halves[half])
            for child in children
            for tag in [_tag(number, len(part), half)]
        }
        sending: list[Pending] = []
        for half, parent, children in reversed(self.places):  # as a leaf it need not wait
            if not len(halves[half]):
                continue
            for child in children:
                buffer, message = arriving[half, child]
                message.wait()
                halves[half] += buffer
            if parent is None:
                self._finish(halves[half], divisor)
            else:
                sending.append(self._send(self.up, halves[half], parent, _tag(number, len(part), half)))
        return sending

    def spread(self, number: int, part: Tensor) -> list[Pending]:
        halves = self._halves(part)
        arriving = {}
        for half, parent, _ in self.places:
            if parent is not None and len(halves[half]):
                buffer = self._buffer(halves[half])
                arriving[half] = (buffer, self.down.receive(buffer, self.peers[parent], _tag(number, len(part), half)))
        sending: list[Pending] = []
        for half, _, children in self.places:
            if half in arriving:
                buffer, message = arriving[half]
                message.wait()
                halves[half].copy_(buffer)
            if len(halves[half]):
                sending += [
                    self._send(self.down, halves[half], child, _tag(number, len(part), half)) for child in children
                ]
        return sending

    @staticmethod
    def _halves(part: Tensor) -> list[Tensor]:
        return [part[start:end] for start, end in segments(len(part), 2)]


class RingOuter(Outer):
    """A ring: N - 1 steps sum each of N segments on its way round, N - 1 more carry the totals round.

    2 (N - 1) messages one after the other, 2 S (N - 1) / N bytes sent by each of N nodes for S bytes.
    """

    def reduce(self, number: int, part: Tensor, divisor: int) -> list[Pending]:
        pieces, count, tag = self._pieces(part), len(self.peers), _tag(number, len(part))
        sending: list[Pending] = []
        for step in range(count - 1):
            out, into = pieces[(self.here - step) % count], pieces[(self.here - step - 1) % count]
            buffer, message = self._exchange(self.up, out, into, tag, sending)
            if message is not None:
                message.wait()
                into += buffer
        self._finish(pieces[(self.here + 1) % count], divisor)
        return sending

    def spread(self, number: int, part: Tensor) -> list[Pending]:
        pieces, count, tag = self._pieces(part), len(self.peers), _tag(number, len(part))
        sending: list[Pending] = []
        for step in range(count - 1):
            out, into = pieces[(self.here - step + 1) % count], pieces[(self.here - step) % count]
            buffer, message = self._exchange(self.down, out, into, tag, sending)
            if message is not None:
                message.wait()
                into.copy_(buffer)
        return sending

    def _exchange(
        self, links: Links, out: Tensor, into: Tensor, tag: int, sending: list[Pending]
    ) -> tuple[Tensor, Pending | None]:
        """Start one step: a piece to the next node, another one from the previous node."""
        count, buffer = len(self.peers), self._buffer(into)
        message = links.receive(buffer, self.peers[(self.here - 1) % count], tag) if len(into) else None
        if len(out):
            sending.append(self._send(links, out, (self.here + 1) % count, tag))
        return buffer, message

    def _pieces(self, part: Tensor) -> list[Tensor]:
        return [part[start:end] for start, end in segments(len(part), len(self.peers))]


def _tag(number: int, length: int, half: int = 0) -> int:
    """By chunk, length and half: where ranks reduce other tensors, messages do not meet, and time runs out.

    Messages of one tag between two ranks keep their order, so tags may come round again.
    """
    return ((number % 2**10) * 2**20 + length % 2**20) * 2 + half
