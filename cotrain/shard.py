"""Sharded learners: each rank keeps a part of every parameter and gathers a unit's parameters only while it computes.

Torch's own FSDP2 (`fully_shard`), Zhao et al. 2023, arXiv:2304.11277. What stands here is which modules are units, and
which tensors a backward pass must name.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cotrain import place
from cotrain.errors import InputError
from cotrain.units import Unit


def shard(net: nn.Module, device: str, hybrid: int | None = None, units: Sequence[Unit] = ()) -> None:
    """Shard a net in place over the ranks that share a batch's rows.

    Args:
        hybrid: ranks in a group that keeps one whole copy among them; the groups are replicas of each other. None: all
            ranks keep one copy.
        units: what is gathered and freed as one, inner ones first; the net itself is the last.

    Raises:
        InputError: the group size does not divide the ranks, the net is sharded already, or a parameter is a number.
    """
    if sharded(net):
        raise InputError("is sharded already; give the net as it was made, the engine shards it.")
    if numbers := [name for name, parameter in net.named_parameters() if parameter.dim() == 0]:
        raise InputError(
            f"has a parameter without dimensions, {numbers[0]!r}, which cannot be sharded: give it the shape [1], or "
            "place the learner 'ddp'."
        )
    mesh = _mesh(device, hybrid)
    for unit in [*units, [net]]:
        fully_shard(unit, mesh=mesh)


def _mesh(device: str, hybrid: int | None) -> DeviceMesh:
    here = place.here()
    if hybrid is None:
        mesh = here.mesh or place.grid(torch.device(device)).mesh  # there is none yet in a loop of one's own
        assert mesh is not None
        return mesh["data"]
    if here.groups > 1:
        raise InputError("cannot be placed 'hsdp' where learners are dealt out to groups of ranks; use 'fsdp'.")
    if hybrid < 1 or here.ranks % hybrid:
        raise InputError(f"has shards in groups of {hybrid}, which does not divide {here.ranks} ranks.")
    return place.mesh_of(device, (here.ranks // hybrid, hybrid), ("replicas", "shards"))


def sharded(net: nn.Module) -> bool:
    return any(isinstance(module, FSDPModule) for module in net.modules())


def leaves(net: nn.Module) -> list[nn.Parameter]:
    """The tensors at which autograd ends in a sharded net, in the order of its parameters.

    They are the gathered parameters, not the shards that the optimizer steps: a backward pass that names the shards as
    its inputs reaches nothing and says nothing. The gradient arrives at the shard, averaged.
    """
    units = [module for module in net.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.unshard()
    found = list(net.parameters())
    for unit in units:
        unit.reshard()
    return found


def free(net: nn.Module) -> None:
    """Let go of what a forward pass left gathered; costs nothing where nothing is.

    A forward pass that no backward pass follows leaves some units gathered, and the next one would use them as they
    are, whatever the optimizer did to the shards in between.
    """
    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def parts(net: nn.Module) -> list[Tensor]:
    """This rank's parts of the parameters, and the buffers."""
    free(net)
    return [local(tensor) for tensor in (*net.parameters(), *net.buffers())]


def whole(tensor: Tensor) -> Tensor:
    """The full tensor of a shard, on every rank; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """A full tensor cut as the pattern is."""
    if not isinstance(pattern, DTensor) or isinstance(tensor, DTensor) or tensor.shape != pattern.shape:
        return tensor
    return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)


def local(tensor: Tensor) -> Tensor:
    """This rank's part; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
