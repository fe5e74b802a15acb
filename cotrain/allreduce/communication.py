"""How gradients are averaged over ranks, by name: hooks for DDP, and the outer level of hybrid sharding."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, bf16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.distributed.fsdp import FSDPModule
from torch.futures import Future

from cotrain.allreduce.hierarchical import Hierarchical
from cotrain.errors import InputError

NAMES = ("flat", "bf16", "powersgd", "hier")


def communication(name: str, group: dist.ProcessGroup | None = None, **settings: Any) -> tuple[Any, Any]:
    """The state and hook for `DistributedDataParallel.register_comm_hook(state, hook)`.

    One state serves one model. All ranks call this together and in the same order.

    Args:
        name: "flat", torch's all-reduce as without a hook; "bf16", the same in bfloat16; "powersgd", torch's low-rank
            gradients with error feedback; "hier", in two levels.
        group: over which ranks; None: all.
        settings: of "powersgd" those of `PowerSGDState`, of "hier" those of `Hierarchical`.

    Raises:
        InputError: an unknown name or setting, and whatever `Hierarchical` refuses.
    """
    try:
        if name == "hier":
            return Hierarchical(group, **settings), hook
        if name == "powersgd":
            return PowerSGDState(process_group=group, **settings), powersgd_hook
    except TypeError as error:  # what Python says of a keyword that is not there
        raise InputError(f"Communication {name!r} does not take these settings: {error}.") from error
    if name not in NAMES:
        raise InputError(f"There is no communication {name!r}; there are {', '.join(NAMES)}.")
    if settings:
        raise InputError(f"Communication {name!r} takes no settings, and was given {', '.join(settings)}.")
    return group, allreduce_hook if name == "flat" else bf16_hook


def bf16_hook(state: dist.ProcessGroup | None, bucket: dist.GradBucket) -> Future[torch.Tensor]:
    """torch's hook, under a name that DDP does not refuse on a CPU: gloo sums bfloat16 as well."""
    return bf16_compress_hook(state, bucket)  # type: ignore[arg-type]


def powersgd_hook(state: PowerSGDState, bucket: dist.GradBucket) -> Future[torch.Tensor]:
    """torch's hook; under gloo one bucket after the other, as its later collectives start from callbacks.

    NCCL orders those by their streams. Under gloo two buckets at a time could meet in another order on another rank.
    """
    reduced = powerSGD_hook(state, bucket)
    if dist.get_backend(state.process_group) == "gloo":
        reduced.wait()
    return reduced


def hook(state: Hierarchical, bucket: dist.GradBucket) -> Future[torch.Tensor]:
    """The mean of a bucket in two levels, while backward goes on."""
    # Through `then` an exception of the worker reaches backward as an error with its message.
    return state.all_reduce(bucket.buffer(), average=True).then(_value)


def _value(done: Future[Tensor]) -> Tensor:
    return done.wait()


def reduce_across_nodes(model: nn.Module, state: Hierarchical) -> None:
    """Average the gradients of a model that `fully_shard` shards inside each node across nodes: hybrid sharding.

    torch waits for the hook in backward, so only the chunks of one call overlap, and nothing with backward.

    Args:
        model: sharded over the ranks of the node, as by the mesh
            `DeviceMesh("cpu", state.nodes, mesh_dim_names=("node", "rank"))["rank"]`.
        state: with inner="none", as sharding has summed inside the node.

    Raises:
        InputError: nothing in the model is sharded, or the state would sum inside the node again.
    """
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if not sharded:
        raise InputError("Nothing in this model is sharded: call fully_shard on it first.")
    if state.size != len(state.nodes):
        raise InputError("Sharding sums inside the node already: build Hierarchical with inner='none'.")

    def average(shard: Tensor) -> None:
        state.all_reduce(shard, average=True).wait()

    for module in sharded:
        module.set_all_reduce_hook(average)
