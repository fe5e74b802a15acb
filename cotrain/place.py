"""Where things live: this process among the run's processes, its device, and the sums and means that are the same on
one process and on many.

A run's ranks stand in a grid: along `data` each rank has other rows of the batch, along `learners` other learners. A
single process is a grid of one and pays for no collective.
"""

import atexit
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from cotrain.errors import InputError

TIMEOUT = 60.0  # seconds after which a rank that waits for another gives up; COTRAIN_TIMEOUT sets another


@dataclass(frozen=True)
class Ranks:
    """This process among the run's processes.

    rank, ranks: along the data. group, groups: along the learners. mesh: the grid, with the axes "learners" and "data";
    None on one process.
    """

    rank: int = 0
    ranks: int = 1
    group: int = 0
    groups: int = 1
    mesh: DeviceMesh | None = None

    def along(self, axis: Literal["data", "learners"]) -> dist.ProcessGroup | None:
        """The process group of this rank's row of the grid; None is every process there is."""
        return None if self.mesh is None else self.mesh.get_group(axis)


_here: ContextVar[Ranks | None] = ContextVar("cotrain_ranks", default=None)


def here() -> Ranks:
    """Where this process stands; outside a run every process there is has other rows."""
    ranks = _here.get()
    return Ranks(number(), processes()) if ranks is None else ranks


@contextmanager
def standing(ranks: Ranks) -> Iterator[None]:
    token = _here.set(ranks)
    try:
        yield
    finally:
        _here.reset(token)


# Processes and devices


def device_of(name: str) -> torch.device:
    """`auto` is this process's GPU if each process of this machine has one, else the CPU.

    Raises:
        InputError: a GPU is asked for, and there is none for this process.
    """
    gpus, local = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", 0))
    if name == "auto":
        name = "cuda" if gpus >= max(1, int(os.environ.get("LOCAL_WORLD_SIZE", local + 1))) else "cpu"
        if gpus and name == "cpu":
            warnings.warn(f"More processes than GPUs ({gpus}) on this machine: training on the CPU.", stacklevel=2)
    if name == "cuda" and local >= gpus:
        raise InputError(f"device='cuda' asks for GPU {local} for process {local} of this machine; there are {gpus}.")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", local)
    return torch.device(name)


def start(device: torch.device) -> None:
    """Join the other processes where a launcher set RANK and WORLD_SIZE, once; alone there is nothing to join.

    Raises:
        InputError: the environment is incomplete, or the others did not come in time.
    """
    if joined() or "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(f"RANK and WORLD_SIZE are set, and {' and '.join(missing)} are not; torchrun sets all four.")
    backend = "nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout()))
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise InputError(
            f"Rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not join the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {error}"
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    """End the groups' threads while Python still runs: one that frees a tensor later takes the whole process down."""
    if hasattr(sys, "last_value") or not joined():
        return  # after an error the others may never answer what still waits
    _beside.clear()
    _meshes.clear()
    dist.destroy_process_group()


def timeout() -> float:
    """Seconds; see TIMEOUT."""
    said = os.environ.get("COTRAIN_TIMEOUT", str(TIMEOUT))
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise InputError(f"COTRAIN_TIMEOUT is a positive number of seconds, not {said!r}.")
    return seconds


_beside: dict[Any, dist.ProcessGroup] = {}
_meshes: dict[Any, DeviceMesh] = {}


def control() -> dist.ProcessGroup | None:
    """A group of all processes for small messages between hosts, apart from the gradients; None on one process."""
    return None if processes() == 1 else beside("control", timedelta(seconds=timeout()))


def beside(purpose: str, patience: timedelta | None = None) -> dist.ProcessGroup:
    """All processes once more, over gloo: a thread may talk over it while the default group trains.

    patience: after which a rank that waits gives up; torch's own (30 minutes) unless said.
    """
    world = dist.group.WORLD
    for stale in [key for key in _beside if key[0] != world]:
        del _beside[stale]
    if (world, purpose) not in _beside:
        _beside[world, purpose] = dist.new_group(backend="gloo", timeout=patience)
    return _beside[world, purpose]


def joined() -> bool:
    """Whether there is a process group."""
    return dist.is_available() and dist.is_initialized()


def processes() -> int:
    """How many there are in the run."""
    return dist.get_world_size() if joined() else 1


def number() -> int:
    """Which of the run's processes this is, from 0."""
    return dist.get_rank() if joined() else 0


def first() -> bool:
    """Whether this process is the one that writes and shows."""
    return number() == 0


def grid(device: torch.device, groups: int = 1) -> Ranks:
    """This process's place in a grid of `groups` groups of ranks; each group has other learners.

    Raises:
        InputError: the groups do not divide the ranks.
    """
    world = processes()
    if groups < 1 or world % groups:
        raise InputError(f"{groups} groups of learners do not divide {world} ranks evenly.")
    if not joined():
        return Ranks()
    size = world // groups
    key = dist.group.WORLD, device.type, groups
    if key not in _meshes:  # its process groups serve every run of this process
        _meshes[key] = mesh_of(device.type, (groups, size), ("learners", "data"))
    mesh = _meshes[key]
    rank = number()
    return Ranks(rank % size, size, rank // size, groups, mesh)


def mesh_of(device: str, shape: tuple[int, int], names: tuple[str, str]) -> DeviceMesh:
    """All processes in a grid, whose groups give up when the run does; those that torch makes wait for 30 minutes."""
    grid = torch.arange(processes()).view(shape)
    own: list[Any] = []
    for rows in (grid.T, grid):
        for row in rows.tolist():
            everybody = len(row) == processes()
            group = dist.group.WORLD if everybody else dist.new_group(row, timeout=timedelta(seconds=timeout()))
            if number() in row:
                own.append(group)
    return DeviceMesh.from_group(own, device, grid, mesh_dim_names=names)


def ranks_on_this_machine() -> int:
    """How many ranks the launcher started here."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes()))


def move(tree: Any, device: torch.device) -> Any:
    """The tensors in a dict (of dicts) on the device; other values as they are."""
    if isinstance(tree, Tensor):
        # Towards the host the copy is waited for: whoever reads it does not know that it is on its way.
        return tree if tree.device == device else tree.to(device, non_blocking=device.type != "cpu")
    if isinstance(tree, Mapping):
        return {key: move(value, device) for key, value in tree.items()}
    return tree


# What ranks tell each other along the data


def ranks() -> int:
    """How many processes share the rows of a batch."""
    return here().ranks


def average(tensor: Tensor) -> Tensor:
    """Mean over the ranks, in place, without gradient."""
    place = here()
    if place.ranks > 1:
        dist.all_reduce(tensor, group=place.along("data"))
        tensor /= place.ranks
    return tensor


def global_mean(values: Tensor) -> Tensor:
    """Mean over the rows [N, ...] of all ranks, without gradient; what running means in memory are made of.

    In fp32 at least, as the memory is, whatever the precision of the run.
    """
    return average(values.detach().to(torch.promote_types(values.dtype, torch.float32)).mean(0))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the masked values over the mean count of masked values on a rank; 0 but connected if none is on any.

    A mean over the local count would weigh ranks with few masked values too much. The count is the batch's, so a method
    that divides by it is not the mean of its microbatches: it says `whole_batch = True`.
    """
    count = average(mask.detach().float().sum())
    return (values * mask).sum() / count.clamp(min=1.0 / here().ranks)


def gather(values: Tensor) -> Tensor:
    """The rows of all ranks, in the order of the whole batch [ranks * N, ...]; gradients go back to the rows' ranks.

    Every rank has as many rows. For methods that look across the batch: what each rank then says of the whole batch is
    averaged over the ranks like any loss.
    """
    return values if here().ranks == 1 else _Gather.apply(values)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.place = place = here()
        pieces = [torch.empty_like(values) for _ in range(place.ranks)]
        dist.all_gather(pieces, values.contiguous(), group=place.along("data"))
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # A copy, for autograd may give the tensor itself to other nodes as well.
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient, group=ctx.place.along("data"))  # every rank's loss may look at these rows
        return gradient.chunk(ctx.place.ranks)[ctx.place.rank]


def share(values: Tensor) -> Tensor:
    """This rank's rows of a batch [ranks * N, ...]; the way back from `gather`."""
    place = here()
    return values if place.ranks == 1 else values.chunk(place.ranks)[place.rank]


def over_batch(function: Callable[..., Any], *fields: Any) -> Any:
    """This rank's rows of `function(*fields)`, which sees the rows of all ranks: how examples of a batch are mixed.

    Args:
        fields: tensors [N, ...], or lists and tuples of some. What the function returns has such a form too.
    """
    if here().ranks == 1:
        return function(*fields)
    from torch.utils import _pytree as pytree

    return pytree.tree_map(share, function(*pytree.tree_map(gather, fields)))


def agree(flag: bool, how: Literal["any", "all"] = "any") -> bool:
    """One answer for all ranks; what a branch that depends on data must ask, or ranks wait for each other for ever."""
    place = here()
    if place.ranks == 1 and place.groups == 1:
        return flag
    said = torch.tensor(int(flag if how == "any" else not flag))
    dist.all_reduce(said, group=control())
    return bool(said.item()) if how == "any" else not said.item()


def everywhere(value: Any) -> list[Any]:
    """What each process says (any plain value), in the order of their ranks."""
    if processes() == 1:
        return [value]
    said: list[Any] = [None] * processes()
    dist.all_gather_object(said, value, group=control())
    return said


def along_data(value: Any) -> list[Any]:
    """As `everywhere`, of the ranks that share the rows of a batch."""
    place = here()
    if place.ranks == 1:
        return [value]
    said: list[Any] = [None] * place.ranks
    dist.all_gather_object(said, value, group=place.along("data"))
    return said


def copy_from(tensors: Sequence[Tensor], rank: int = 0, group: dist.ProcessGroup | None = None) -> None:
    """Every process of a group (of the run, if none is given) gets the tensors of its `rank`-th, in place."""
    if joined() and dist.get_world_size(group) > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), group=group, group_src=rank)


def check_same(what: Mapping[str, Any]) -> None:
    """Ranks that would not do the same things in turn would wait for each other for ever: better to end here.

    Args:
        what: plain values by name, which must be the same on every rank.

    Raises:
        InputError: on every rank, with what differs and where.
    """
    told = everywhere(dict(what))
    for name in dict.fromkeys(name for one in told for name in one):
        values = [one.get(name) for one in told]
        if odd := next((rank for rank, value in enumerate(values) if value != values[0]), 0):
            raise InputError(
                f"The ranks are not in the same run: {name} is {values[0]!r} on rank 0, {values[odd]!r} on rank {odd}."
            )


# What learners on different ranks tell each other


def exchange(messages: Mapping[str, Any]) -> dict[str, Any]:
    """The messages (tensors, or dicts, lists and tuples of some) of the learners of all groups, on every rank, by the
    learners' names in the order of their groups; each from the rank with the same rows."""
    place = here()
    if place.groups == 1:
        return dict(messages)
    from torch.utils import _pytree as pytree

    group = place.along("learners")
    leaves, spec = pytree.tree_flatten(dict(messages))
    if not leaves:
        raise InputError("This group of ranks has no learner that posts a message; give fewer groups.")
    shapes = [(tuple(leaf.shape), leaf.dtype) for leaf in leaves]
    told: list[Any] = [None] * place.groups
    # The form of the messages, with numbers in place of tensors: a spec of torch's warns where it is unpickled.
    form = pytree.tree_unflatten(range(len(leaves)), spec)
    dist.all_gather_object(told, (form, shapes), group=group)
    delivered: dict[str, Any] = {}
    device = leaves[0].device
    for number, (their_form, their_shapes) in enumerate(told):
        mine = number == place.group
        own = iter(leaves)
        theirs = []
        for shape, dtype in their_shapes:
            tensor = next(own).detach().contiguous() if mine else torch.empty(shape, dtype=dtype, device=device)
            dist.broadcast(tensor, group=group, group_src=number)
            theirs.append(tensor)
        delivered |= pytree.tree_unflatten(theirs, pytree.tree_structure(their_form))
    return delivered
