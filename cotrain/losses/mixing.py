"""Mixtures of examples, and calls in which every batch holds a bit of everything. Legend: N examples, B batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from cotrain import place
from cotrain.errors import InputError


def mixup_weight(count: int, alpha: float, generator: torch.Generator, dominant: bool = True) -> Tensor:
    """One weight for each example, float32 [count] on the CPU, drawn from Beta(alpha, alpha).

    Args:
        alpha: >= 0; small values leave one of the two examples nearly alone, 0 gives weight 1 everywhere.
        dominant: take max(w, 1 - w), so that a mixture stays nearer to its first example.

    Source: Zhang et al. 2018, "mixup", arXiv:1710.09412; `dominant`: Berthelot et al. 2019, arXiv:1905.02249, Eq. 9.
    """
    if alpha < 0:
        raise InputError(f"mixup's alpha is 0 or more, not {alpha}.")
    if alpha == 0:
        return torch.ones(count)
    # torch's own beta distribution draws from the global generator; numpy's takes the seed from ours.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    weight_N = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count)).float()
    return torch.maximum(weight_N, 1 - weight_N) if dominant else weight_N


def mix(one: Tensor, two: Tensor, weight_N: Tensor) -> Tensor:
    """weight * one + (1 - weight) * two, row by row; weight 1 gives `one` bit for bit.

    Raises:
        InputError: whole numbers (token ids, labels), which have no mixtures.
    """
    if not one.is_floating_point():
        raise InputError(f"Inputs of type {one.dtype} cannot be mixed; give vectors (embedded tokens), or set mixup=0.")
    weight = weight_N.to(one).view(-1, *[1] * (one.dim() - 1))
    return torch.lerp(two.to(one.dtype), one, weight)


def mixup(alpha: float, generator: torch.Generator, *fields: Tensor) -> tuple[Tensor, ...]:
    """Each row mixed with another of its batch: all fields [N, ...] (inputs, targets) by one order and one weight."""
    count, device = len(fields[0]), fields[0].device
    weight_N = place.move(mixup_weight(count, alpha, generator), device)
    order_N = place.move(torch.randperm(count, generator=generator), device)
    return tuple(mix(field, field[order_N], weight_N) for field in fields)


def mixup_all(alpha: float, generator: torch.Generator, *fields: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
    """Several batches mixed as one: each field is a list of tensors [N, ...], one a batch, and comes back as one."""
    sizes = [len(part) for part in fields[0]]
    mixed = mixup(alpha, generator, *(torch.cat(list(field)) for field in fields))
    return tuple(list(field.split(sizes)) for field in mixed)


def mixup_across(
    alpha: float, generator: torch.Generator, ones: Sequence[Tensor], twos: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The fields of one batch (inputs, targets) mixed with those of another, and the reverse; each row stays dominant.

    The i-th row of one meets the i-th of the other; the shorter batch is gone through again and again.
    """
    weight_N = place.move(mixup_weight(len(ones[0]) + len(twos[0]), alpha, generator), ones[0].device)
    sizes = [len(ones[0]), len(twos[0])]
    met = [torch.arange(size, device=weight_N.device) % other for size, other in zip(sizes, sizes[::-1], strict=True)]
    weights = weight_N.split(sizes)
    pairs = list(zip(ones, twos, strict=True))
    return (
        [mix(one, two[met[0]], weights[0]) for one, two in pairs],
        [mix(two, one[met[1]], weights[1]) for one, two in pairs],
    )


def interleaved(model: Callable[[Tensor], Tensor], inputs: Tensor, batches: int) -> Tensor:
    """Outputs for all rows, computed in `batches` calls of every B-th row each.

    A net with batch normalization then sees the same mix of labelled and unlabelled rows in every call.
    Source: the published code of Berthelot et al. 2019, arXiv:1905.02249, which swaps slices to the same end.
    """
    batches = max(1, min(batches, len(inputs)))
    order_N = torch.cat([torch.arange(start, len(inputs), batches) for start in range(batches)])
    outputs = torch.cat([model(inputs[start::batches]) for start in range(batches)])
    return outputs[place.move(order_N.argsort(), outputs.device)]
