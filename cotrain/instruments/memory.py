"""What a learner takes of one rank's memory under each placement, and what it takes as it stands.

Source: Zhao et al. 2023, "PyTorch FSDP", arXiv:2304.11277, sections 3.2 and 5; Rajbhandari et al. 2020, "ZeRO",
arXiv:1910.02054, section 3.
Legend: W ranks, F ranks that hold one copy of the parameters together (a shard group).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.units import Unit, managed


@dataclass(frozen=True)
class Bytes:
    """What one learner takes of one rank under one placement."""

    parameters: int  # buffers among them, which are never sharded
    gradients: int
    optimizer: int
    held: int  # gathered or copied beyond that, from the first forward of a step to its last backward
    passing: int  # the same for a moment only: the learners take turns, so the largest counts, not the sum
    sent: int  # a rank's messages in one step with one forward and one backward

    @property
    def state(self) -> int:
        """What is there between two steps."""
        return self.parameters + self.gradients + self.optimizer


def whole(name: str, net: nn.Module, factory: Any, ranks: int) -> Bytes:
    """A learner that every rank has a copy of."""
    trained = _trained(net, factory)
    gradients = sum(map(_size, trained))
    return Bytes(
        parameters=sum(map(_size, [*net.parameters(), *net.buffers()])),
        gradients=gradients,
        optimizer=_optimizer_bytes(name, factory, [(p.shape, p.dtype) for p in trained]),
        held=gradients if ranks > 1 else 0,  # buckets
        passing=0,
        sent=2 * gradients * (ranks - 1) // ranks,
    )


def sharded(
    name: str, net: nn.Module, factory: Any, units: list[Unit], group: int, copies: int = 1, rank: int = 0
) -> Bytes:
    """A learner of which `group` ranks keep a copy together, and `copies` such groups one each."""
    padded = [sum(_padded(p, group) for p in managed(unit, units)) for unit in units]
    root = sum(_padded(p, group) for p in managed([net], units))
    trained = _trained(net, factory)
    kept = {id(parameter) for parameter in trained}

    def shard(parameter: nn.Parameter) -> int:
        return _size(parameter, shard_shape(parameter.shape, group, rank))

    # A trained unit is gathered twice, the net's own once, and gradients go the way back; shards then go to the copies.
    back = sum(_padded(p, group) for p in net.parameters() if id(p) in kept)
    gathers = root + sum(padded) * (2 if trained else 1)
    return Bytes(
        parameters=sum(map(shard, net.parameters())) + sum(map(_size, net.buffers())),
        gradients=sum(map(shard, trained)),
        optimizer=_optimizer_bytes(name, factory, [(shard_shape(p.shape, group, rank), p.dtype) for p in trained]),
        held=root,
        # The largest unit, its gradient before it is scattered, and the unit that is gathered ahead.
        passing=max(padded, default=0) * (3 if trained else 2) + (root if trained else 0),
        sent=(gathers + back) * (group - 1) // group + 2 * (back // group) * (copies - 1) // copies,
    )


def activation_bytes(step: Callable[[], Any], learners: Mapping[str, Learner]) -> int:
    """Bytes that one step's forwards keep for its backwards, parameters and buffers left out; the batch counts.

    Storages are counted once and whole. The step draws random numbers and moves running means as any step does.
    """
    nets = [learner.net for learner in learners.values()]
    known = {t.untyped_storage().data_ptr() for net in nets for t in (*net.parameters(), *net.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage  # held, so that no other takes its address
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(storage.nbytes() for storage in saved.values())


def state_bytes(learner: Learner) -> dict[str, int]:
    """Bytes that a learner has on this rank now: its parameters with buffers, gradients, optimizer state; of a sharded
    one its own shards, padding left out."""
    from cotrain import shard

    shard.free(learner.net)
    parameters = list(learner.net.parameters())
    optimizer = [] if learner.optimizer is None else list(_tensors(learner.optimizer.state))
    return {
        "parameters": sum(map(_local, [*parameters, *learner.net.buffers()])),
        "gradients": sum(_local(p.grad) for p in parameters if p.grad is not None),
        "optimizer": sum(map(_local, optimizer)),
    }


def shard_shape(shape: Sequence[int], ranks: int, rank: int) -> tuple[int, ...]:
    """What a rank holds of a parameter: rows in blocks of ceil(rows / ranks), the last ranks fewer or none."""
    block = -(-shape[0] // ranks)
    return (max(0, min(block, shape[0] - rank * block)), *shape[1:])


def _optimizer_bytes(name: str, factory: Any, shapes: Sequence[tuple[Sequence[int], torch.dtype]]) -> int:
    """The state after one step, taken on tensors without storage; on real ones for optimizers that do not go there."""
    if factory is None:
        return 0
    for device in ("meta", "cpu"):
        try:
            shards = [nn.Parameter(torch.zeros(shape, dtype=dtype, device=device)) for shape, dtype in shapes]
            optimizer = factory(shards)
            for shard in shards:
                shard.grad = torch.zeros_like(shard)
            optimizer.step()
            return sum(map(_size, _tensors(optimizer.state)))
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            reason = error
    raise InputError(
        f"The optimizer of {name!r} took no step on zeros, so its state is not known: {reason}"
    ) from reason


def _tensors(tree: Any) -> Iterable[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)


def _trained(net: nn.Module, factory: Any) -> list[nn.Parameter]:
    return [] if factory is None else [p for p in net.parameters() if p.requires_grad]


def _size(tensor: Tensor, shape: Sequence[int] | None = None) -> int:
    return torch.Size(tensor.shape if shape is None else shape).numel() * tensor.element_size()


def _padded(parameter: nn.Parameter, ranks: int) -> int:
    """Bytes of a gathered parameter: all ranks send as much as the first."""
    return ranks * _size(parameter, shard_shape(parameter.shape, ranks, 0))


def _local(tensor: Tensor) -> int:
    from cotrain.shard import local

    return _size(local(tensor))
