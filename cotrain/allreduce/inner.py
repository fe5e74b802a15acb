"""The sum inside a node, in two halves that run in threads of their own: `gather` a chunk, `spread` it back.

`gather` ends with this rank's part of the chunk, summed over the node; each rank of the node holds another part.
Chunks are numbered from 0, and at most `slots` of them are between gather and the end of spread.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from cotrain.allreduce.links import PeerLost
from cotrain.errors import InputError


def summed_as(dtype: torch.dtype) -> torch.dtype:
    """Half precisions are summed in fp32."""
    return torch.promote_types(dtype, torch.float32)


class Inner(Protocol):
    def gather(self, number: int, chunk: Tensor) -> Tensor: ...

    def spread(self, number: int, chunk: Tensor, part: Tensor) -> None: ...


class AloneInner:
    """A node of one rank: its part is the chunk itself."""

    def gather(self, number: int, chunk: Tensor) -> Tensor:
        return chunk.to("cpu", summed_as(chunk.dtype))

    def spread(self, number: int, chunk: Tensor, part: Tensor) -> None:
        if part.data_ptr() != chunk.data_ptr():
            chunk.copy_(part)


class GroupInner:
    """Through the collectives of torch: reduce-scatter, then all-gather, each thread on a group of its own."""

    def __init__(self, up: dist.ProcessGroup, down: dist.ProcessGroup, device: torch.device, node: str):
        self.up, self.down, self.device, self.node = up, down, device, node
        self.size, self.index = dist.get_world_size(up), dist.get_rank(up)

    def gather(self, number: int, chunk: Tensor) -> Tensor:
        each = -(-len(chunk) // self.size)  # equal parts; what is beyond the chunk is zero
        full = torch.zeros(self.size * each, dtype=summed_as(chunk.dtype), device=self.device)
        full[: len(chunk)] = chunk
        part = torch.empty(each, dtype=full.dtype, device=self.device)
        with _naming(self.node):
            dist.reduce_scatter(part, list(full.chunk(self.size)), group=self.up)
        return part.to("cpu")

    def spread(self, number: int, chunk: Tensor, part: Tensor) -> None:
        full = torch.empty(self.size * len(part), dtype=part.dtype, device=self.device)
        with _naming(self.node):
            dist.all_gather(list(full.chunk(self.size)), part.to(self.device), group=self.down)
        chunk.copy_(full[: len(chunk)])


@contextmanager
def _naming(node: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(f"Lost a rank of node {node!r} during an all-reduce: {error}") from error


class SharedInner:
    """Through memory that the node's ranks share.

    Every rank copies its chunk in; each adds one part of all copies; each copies the finished parts out. One copy in
    and one out a rank, whatever the number of ranks.

    The memory is a file that is deleted as soon as all have it open, so that nothing is left behind by a crash.
    """

    def __init__(
        self,
        ranks: Sequence[int],
        index: int,
        node: str,
        *,
        chunk: int,
        slots: int,
        timeout: timedelta,
        exchange: Callable[[object], dict[int, Any]],
    ):
        """Called by all ranks of the group together.

        Args:
            ranks: the node's global ranks; `index` is this one's place among them.
            chunk: bytes; slots: chunks under way.
            exchange: what every rank of the group gave, by global rank.

        Raises:
            InputError: no room for the memory, or ranks of one node name that do not share one.
        """
        self.ranks, self.index, self.node = ranks, index, node
        self.slots, self.timeout = slots, timeout.total_seconds()
        size = len(ranks)
        counters = 8 * (3 + slots) * size
        start = -(-counters // 64) * 64
        total = start + slots * (size + 1) * chunk
        path, problem = None, None
        if index == 0:
            path, problem = _make_file(total)
        path, problem = exchange((path, problem))[ranks[0]]
        memory = None
        if problem is None and os.path.exists(path):
            memory = torch.from_file(path, shared=True, size=total, dtype=torch.uint8)
        failed = [rank for rank, fine in exchange(memory is not None).items() if not fine]
        if index == 0 and path is not None:
            os.unlink(path)
        if problem is not None:
            raise InputError(problem)
        if failed:
            raise InputError(
                f"Ranks {failed} do not see the memory of the node whose name they share. If they are on other "
                "machines or in other containers, name each node by COTRAIN_NODE."
            )
        assert memory is not None
        table = memory[:counters].view(torch.int64).view(3 + slots, size).numpy()
        # By rank: chunks copied in, chunks whose part is finished, whether it gave up; by slot and rank: elements.
        self.copied, self.finished, self.lost, self.lengths = table[0], table[1], table[2], table[3:]
        self.chunks = memory[start:].view(slots, size + 1, chunk)

    def gather(self, number: int, chunk: Tensor) -> Tensor:
        copies = self._values(number, chunk)
        copies[self.index].copy_(chunk)
        lengths = self.lengths[number % self.slots]
        lengths[self.index] = len(chunk)
        self.copied[self.index] = number + 1
        self._wait_for(self.copied, number + 1)
        if (lengths != len(chunk)).any():
            raise InputError(
                f"Ranks {list(self.ranks)} of node {self.node!r} reduce tensors of {lengths.tolist()} elements at the "
                "same time. All ranks must reduce the same tensors in the same order."
            )
        part = self._part(number, chunk)
        torch.sum(copies[: len(self.ranks), self._bounds(chunk)], dim=0, out=part)
        return part

    def spread(self, number: int, chunk: Tensor, part: Tensor) -> None:
        self.finished[self.index] = number + 1
        self._wait_for(self.finished, number + 1)
        chunk.copy_(self._values(number, chunk)[-1])

    def give_up(self) -> None:
        """Tell the node's other ranks that this one failed."""
        self.lost[self.index] = 1

    def _values(self, number: int, chunk: Tensor) -> Tensor:
        """[ranks + 1, length]: each rank's copy, and the sum."""
        return self.chunks[number % self.slots].view(summed_as(chunk.dtype))[:, : len(chunk)]

    def _bounds(self, chunk: Tensor) -> slice:
        each = -(-len(chunk) // len(self.ranks))
        return slice(min(self.index * each, len(chunk)), min((self.index + 1) * each, len(chunk)))

    def _part(self, number: int, chunk: Tensor) -> Tensor:
        return self._values(number, chunk)[-1, self._bounds(chunk)]

    def _wait_for(self, counter, value: int) -> None:
        started = time.monotonic()
        while (counter < value).any():
            waited = time.monotonic() - started
            lost = self.lost.any()
            if lost or waited > self.timeout:
                behind = [rank for rank, count in zip(self.ranks, counter, strict=True) if count < value]
                if not behind:  # who gave up had come first
                    return
                why = "gave up" if lost else f"did not come within {self.timeout:g} s"
                raise PeerLost(f"Node {self.node!r}: rank {', '.join(map(str, behind))} {why} during an all-reduce.")
            time.sleep(min(1e-3, max(2e-5, waited / 8)))  # the wait grows by an eighth at most


def _make_file(size: int) -> tuple[str | None, str | None]:
    """The path of a new file of zeros in memory, and what is wrong if there is none."""
    folder = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    number, path = tempfile.mkstemp(prefix="cotrain-allreduce-", dir=folder)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(bytes(size))  # written, not only promised: a full memory is an error here and no crash later
    except OSError as error:
        os.unlink(path)
        need = f"{size / 2**20:.0f} MiB of shared memory in {folder}"
        return None, f"An all-reduce needs {need}: {error}. Give smaller chunks or slots, or inner='gloo'."
    return path, None
