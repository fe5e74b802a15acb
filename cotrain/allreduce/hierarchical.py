"""All-reduce in two levels: the ranks of a node through shared memory, the nodes through a double binary tree.

Source: HFReduce in An et al., "Fire-Flyer AI-HPC", 2024, arXiv:2408.14158.
"""

import queue
import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.futures import Future

from cotrain import place
from cotrain.allreduce.inner import AloneInner, GroupInner, Inner, SharedInner, summed_as
from cotrain.allreduce.links import Links, PeerLost, SimulatedLinks
from cotrain.allreduce.nodes import group_by_node, node_name
from cotrain.allreduce.outer import Outer, RingOuter, TreeOuter, Wire
from cotrain.errors import InputError

INNER = ("shm", "gloo", "nccl", "none")
OUTER: dict[str, type[Outer]] = {"tree": TreeOuter, "ring": RingOuter}


class Hierarchical:
    """Sums tensors over all ranks, first inside each node, then across nodes.

    A tensor is cut into chunks, and each chunk goes through copy in, sum inside the node, sum across nodes, copy out.
    One thread takes chunks up to the total, another brings totals back, and messages travel by themselves, so that
    copies, sums and the network overlap, with each other and with whatever the caller does meanwhile. Each thread has
    process groups of its own: no order between it and the caller's collectives is needed.

    All ranks build it together, and all must reduce the same tensors in the same order. Without a process group, or in
    one of a single rank, it changes nothing and starts nothing.
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None = None,
        *,
        inner: Literal["shm", "gloo", "nccl", "none"] = "shm",
        outer: Literal["tree", "ring"] = "tree",
        wire: Wire = "fp32",
        chunk: int = 1 << 20,
        slots: int = 4,
        local_size: int | None = None,
        timeout: timedelta = timedelta(seconds=60),
        simulated_latency: float = 0.0,
    ):
        """
        Args:
            group: the ranks; None: all. As torch counts the groups of a process, a later one over all ranks needs the
                same number of earlier ones on every rank.
            inner: inside a node, through shared memory or by torch's collectives. "none": not at all, as each rank
                holds another shard; the sum then goes over the ranks of the same place in every node.
            outer: across nodes.
            wire: precision of what goes between nodes. "fp32": the tensor's own, fp32 at least. Sums are fp32 or fp64.
            chunk: bytes that travel together.
            slots: chunks under way at most.
            local_size: ranks that make a node; None: those of one name (COTRAIN_NODE, else the host's).
            timeout: how long a peer is waited for.
            simulated_latency: seconds by which messages between differently named nodes are late, for measurements.

        Raises:
            InputError: an unknown name, settings that differ between ranks, nodes of unequal size, no shared memory.
        """
        if inner not in INNER or outer not in OUTER or wire not in ("fp32", "bf16"):
            raise InputError(
                f"inner={inner!r}, outer={outer!r}, wire={wire!r}: inner is one of {', '.join(INNER)}, outer one of "
                f"{', '.join(OUTER)}, wire fp32 or bf16."
            )
        if chunk < 64 or chunk % 64 or slots < 1:
            raise InputError(f"chunk={chunk} must be a positive multiple of 64 bytes, slots={slots} at least 1.")
        self.chunk = chunk
        self.lost: Exception | None = None
        joined = place.joined()
        ranks = dist.get_process_group_ranks(group or dist.group.WORLD) if joined else [0]
        self.size = len(ranks)  # over how many ranks a tensor is summed
        self.nodes = [[ranks[0]]]  # the ranks of each node
        self.links: list[Links] = []
        self._closed = False
        if self.size == 1:
            return

        rank = dist.get_rank()
        new = partial(dist.new_group, timeout=timeout, use_local_synchronization=True)
        self._control = new(ranks, backend="gloo")
        settings = (inner, outer, wire, chunk, slots, local_size)
        given = self._exchange((node_name(), settings))
        if len({asked for _, asked in given.values()}) > 1:
            asked = "; ".join(f"rank {one}: {asked}" for one, (_, asked) in given.items())
            raise InputError(
                f"All ranks need one (inner, outer, wire, chunk, slots, local_size), and they gave {asked}."
            )
        names = {one: name for one, (name, _) in given.items()}
        self.nodes = [[ranks[i] for i in node] for node in group_by_node(list(names.values()), local_size)]
        node = next(node for node in self.nodes if rank in node)
        here, index = self.nodes.index(node), node.index(rank)
        self.node = names[rank]

        peers = [other[index] for other in self.nodes]
        make = partial(SimulatedLinks, latency=simulated_latency) if simulated_latency else Links
        across = [new(peers, backend="gloo") if len(peers) > 1 else None for _ in ("up", "down")]
        self.links = [make(each, names) for each in across]
        self._outer = OUTER[outer](self.links[0], self.links[1], peers, here, wire)
        self._inner: Inner = AloneInner()
        if inner == "none":
            self.size = len(peers)
        elif inner == "shm" and len(node) > 1:
            self._inner = SharedInner(
                node,
                index,
                self.node,
                chunk=chunk,
                slots=slots,
                timeout=timeout,
                exchange=self._exchange,
            )
        elif len(node) > 1:
            device = torch.device("cuda", torch.cuda.current_device()) if inner == "nccl" else torch.device("cpu")
            self._inner = GroupInner(new(node, backend=inner), new(node, backend=inner), device, self.node)

        self._slots = threading.Semaphore(slots)
        self._jobs: queue.Queue = queue.Queue()
        self._totals: queue.Queue = queue.Queue()
        self._threads = [
            threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._up, self._down)
        ]
        for thread in self._threads:
            thread.start()

    def all_reduce(self, tensor: Tensor, *, average: bool = False) -> "Future[Tensor]":
        """Sum a contiguous floating-point tensor over the ranks, in place; NaN and infinity go through.

        The result is the same on all ranks, bit for bit.

        Args:
            average: the mean and not the sum.

        Returns:
            A future of the tensor; its wait() raises PeerLost, with the node's name, if a peer is gone.

        Raises:
            InputError: a tensor that is not contiguous or not floating-point, or after `close`.
        """
        if not tensor.is_contiguous() or not tensor.is_floating_point():
            raise InputError(
                f"All-reduce takes contiguous floating-point tensors, not {tensor.dtype} {tensor.stride()}."
            )
        future: Future[Tensor] = Future(devices=[tensor.device]) if tensor.is_cuda else Future()
        if self.size == 1 or not tensor.numel():
            future.set_result(tensor)
            return future
        if self._closed:
            raise InputError("This all-reduce was closed.")
        ready = torch.cuda.current_stream(tensor.device).record_event() if tensor.is_cuda else None
        self._jobs.put((tensor, average, ready, future))
        return future

    def close(self) -> None:
        """End the threads, after what was asked for is done."""
        if self._closed or not self.links:
            return
        self._closed = True
        self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for links in self.links:
            links.close()

    def __enter__(self) -> "Hierarchical":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @torch.no_grad()
    def _up(self) -> None:
        """Chunks in, up to their totals."""
        number = 0
        while (job := self._jobs.get()) is not None:
            tensor, average, ready, future = job
            try:
                if ready is not None:
                    ready.synchronize()  # the device has finished the gradients
                each = self.chunk // summed_as(tensor.dtype).itemsize
                for chunk in (chunks := tensor.view(-1).split(each)):
                    self._slots.acquire()
                    try:
                        if self.lost is not None:
                            raise self.lost
                        part = self._inner.gather(number, chunk)
                        sending = self._outer.reduce(number, part, self.size if average else 1)
                    except Exception:
                        self._slots.release()
                        raise
                    self._totals.put((number, chunk, part, sending, job if chunk is chunks[-1] else None))
                    number += 1
            except Exception as error:
                future.set_exception(self._give_up(error))
        self._totals.put(None)

    @torch.no_grad()
    def _down(self) -> None:
        """Totals back, chunks out."""
        while (item := self._totals.get()) is not None:
            number, chunk, part, sending, job = item
            try:
                if self.lost is not None:
                    raise self.lost
                sending += self._outer.spread(number, part)
                self._inner.spread(number, chunk, part)
                for message in sending:
                    message.wait()
                if job is not None:
                    tensor, _, _, future = job
                    future.set_result(tensor)
            except Exception as error:
                failure = self._give_up(error)
                if job is not None:
                    job[3].set_exception(failure)
            finally:
                self._slots.release()

    def _give_up(self, error: Exception) -> Exception:
        """Keep the first failure, tell the others, and say what they said if they failed before."""
        if self.lost is None:
            self.lost = error
            self.lost = self._first_failure(error)
            if isinstance(self._inner, SharedInner):
                self._inner.give_up()
        return self.lost

    def _first_failure(self, error: Exception) -> Exception:
        """Who waits for one that waits for the lost one would blame the wrong node: the first to notice is believed."""
        if not isinstance(error, PeerLost):
            return error
        first = [str(error)]

        def ask() -> None:
            with suppress(RuntimeError):  # the store's own process may be the lost one
                first.append(self._control.get_group_store().compare_set("lost", "", str(error)).decode())

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(5)  # and its machine may be gone without a word
        said = first[-1]
        return error if said == str(error) else PeerLost(f"{said} (noticed by another rank; here: {error})")

    def _exchange(self, value: object) -> dict[int, Any]:
        """What every rank gave, by global rank."""
        ranks = dist.get_process_group_ranks(self._control)
        values: list = [None] * len(ranks)
        dist.all_gather_object(values, value, group=self._control)
        return dict(zip(ranks, values, strict=True))
