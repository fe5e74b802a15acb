"""Where things live: the device of a run, and the means that are the same on one process and on many."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def device_of(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def move(tree: Any, device: torch.device) -> Any:
    """The tensors in a dict (of dicts) on the device; other values as they are."""
    if isinstance(tree, Tensor):
        # Towards the host the copy is waited for: whoever reads it does not know that it is on its way.
        return tree if tree.device == device else tree.to(device, non_blocking=device.type != "cpu")
    if isinstance(tree, Mapping):
        return {key: move(value, device) for key, value in tree.items()}
    return tree


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def global_mean(values: Tensor, dim: int = 0) -> Tensor:
    """Mean over the batch of all ranks, without gradient; what running means in memory are made of.

    In fp32 at least, as the memory is, whatever the precision of the run.
    """
    mean = values.detach().to(torch.promote_types(values.dtype, torch.float32)).mean(dim)
    if world_size() > 1:
        dist.all_reduce(mean)
        mean = mean / world_size()
    return mean


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of the masked values over the mean count of masked values on a rank, at least 1; 0 but connected if none is.

    A mean over the local count would weigh ranks with few masked values too much. The count is the batch's, so a method
    that divides by it is not the mean of its microbatches: it says `whole_batch = True`.
    """
    count = mask.detach().float().sum()
    if world_size() > 1:
        dist.all_reduce(count)
        count = count / world_size()
    return (values * mask).sum() / count.clamp(min=1.0)
