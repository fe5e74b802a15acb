"""PCGrad: where two losses pull a learner apart, each gives up the part that opposes the other."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cotrain.gradients.rule import GradientRule, GradientSet


@dataclass(frozen=True)
class PCGrad(GradientRule):
    """Project each loss's gradient onto the normal plane of every other gradient that it conflicts with.

    For losses i, in turn for every other j: where `g_i . g_j < 0`, `g_i <- g_i - (g_i . g_j / |g_j|^2) g_j`, with g_j
    the gradient as it was. The paper draws the losses' order anew each step; here it starts at the next loss and goes
    round, so that a resumed run is the same run. With two losses both are the same.

    Source: Yu et al. 2020, arXiv:2001.06782, Algorithm 1.
    """

    per_loss: ClassVar[bool] = True

    def __call__(self, sets: list[GradientSet]) -> list[GradientSet]:
        # A parameter that no loss reached stays None; one that some loss did not reach has a zero gradient there.
        model = [next((g for g in gradients if g is not None), None) for gradients in zip(*sets, strict=True)]
        if not any(gradient is not None for gradient in model):
            return [model]
        original = [_flat(gradients, model) for gradients in sets]
        projected = []
        for i in range(len(sets)):
            own = original[i].clone()
            for offset in range(1, len(sets)):
                other = original[(i + offset) % len(sets)]
                overlap = torch.dot(own, other)
                size = torch.dot(other, other)
                # The clamp leaves agreeing gradients alone without asking the device for the sign.
                own -= overlap.clamp(max=0.0) / size.clamp(min=torch.finfo(size.dtype).tiny) * other
            projected.append(_unflat(own, model))
        return projected


def _flat(gradients: GradientSet, model: GradientSet) -> Tensor:
    parts = [torch.zeros_like(m) if g is None else g for g, m in zip(gradients, model, strict=True) if m is not None]
    return torch.cat([part.flatten() for part in parts])


def _unflat(flat: Tensor, model: GradientSet) -> GradientSet:
    pieces = iter(flat.split([m.numel() for m in model if m is not None]))
    return [None if m is None else next(pieces).view_as(m) for m in model]
