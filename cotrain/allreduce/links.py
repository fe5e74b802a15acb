"""Messages between nodes: sent, received, counted, and late where slow links are simulated."""

import heapq
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

import torch.distributed as dist
from torch import Tensor

from cotrain.errors import CotrainError


class PeerLost(CotrainError, RuntimeError):
    """Another process died or did not answer in time; the message names its node."""


class Pending(Protocol):
    """Something that is waited for."""

    def wait(self) -> Any: ...


class Links:
    """Point-to-point messages over a group of its own, of one thread.

    `sent_bytes` and `sent_messages` count what this rank sent to other nodes.
    """

    def __init__(self, group: dist.ProcessGroup | None, nodes: Mapping[int, str]):
        self.group = group
        self.nodes = nodes  # the node's name by global rank
        self.here = nodes[dist.get_rank()] if group is not None else ""
        self.sent_bytes = 0
        self.sent_messages = 0

    def send(self, tensor: Tensor, to: int, tag: int) -> Pending:
        """Send a contiguous tensor to a global rank; it may change once the result was waited for."""
        if self.nodes[to] != self.here:
            self.sent_bytes += tensor.numel() * tensor.element_size()
            self.sent_messages += 1
        return self._answered(self._start(tensor, to, tag), to)

    def receive(self, tensor: Tensor, source: int, tag: int) -> Pending:
        """Fill a contiguous tensor with the next message of that tag from a global rank."""
        return self._answered(dist.irecv(tensor, source, group=self.group, tag=tag), source)

    def _start(self, tensor: Tensor, to: int, tag: int) -> Pending | None:
        return dist.isend(tensor, to, group=self.group, tag=tag)

    def _answered(self, work: Pending | None, peer: int) -> Pending:
        assert work is not None
        return _Answered(work, f"node {self.nodes[peer]!r} (rank {peer})")

    def close(self) -> None:
        """Nothing is sent any more."""


class _Answered:
    """Turns a failed wait into one that names the peer."""

    def __init__(self, work: Pending, peer: str):
        self.work, self.peer = work, peer

    def wait(self) -> None:
        try:
            self.work.wait()
        except RuntimeError as error:
            raise PeerLost(f"Lost {self.peer} during an all-reduce: {error}") from error


class SimulatedLinks(Links):
    """Simulated slow links: a message to another node sets out `latency` seconds late; its sender goes on meanwhile.

    For measurements on one machine. Messages to one peer keep their order; bandwidth is the machine's own.
    """

    def __init__(self, group: dist.ProcessGroup | None, nodes: Mapping[int, str], latency: float):
        super().__init__(group, nodes)
        self.latency = latency
        self._waiting: list[tuple[float, int, _Late]] = []
        self._changed = threading.Condition()
        self._count = 0
        self._open = True
        threading.Thread(target=self._deliver, name="simulated links", daemon=True).start()

    def _start(self, tensor: Tensor, to: int, tag: int) -> Pending | None:
        if self.nodes[to] == self.here:
            return super()._start(tensor, to, tag)
        late = _Late(tensor, to, tag)
        with self._changed:
            self._count += 1  # ties go by it
            heapq.heappush(self._waiting, (time.monotonic() + self.latency, self._count, late))
            self._changed.notify()
        return late

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while self._open and (not self._waiting or self._waiting[0][0] > time.monotonic()):
                    self._changed.wait(self._waiting[0][0] - time.monotonic() if self._waiting else None)
                if not self._open:
                    return
                late = heapq.heappop(self._waiting)[2]
            try:
                late.work = super()._start(late.tensor, late.to, late.tag)
            except RuntimeError as error:
                late.error = error
            late.gone.set()

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify()


class _Late:
    """A message that has not set out yet."""

    def __init__(self, tensor: Tensor, to: int, tag: int):
        self.tensor, self.to, self.tag = tensor, to, tag
        self.gone = threading.Event()
        self.work: Pending | None = None
        self.error: RuntimeError | None = None

    def wait(self) -> None:
        self.gone.wait()
        if self.error is not None:
            raise self.error
        assert self.work is not None
        self.work.wait()
