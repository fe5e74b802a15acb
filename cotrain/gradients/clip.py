"""Clip a learner's gradient to a largest norm."""

from dataclasses import dataclass

import torch

from cotrain.errors import InputError
from cotrain.gradients.rule import GradientRule, GradientSet, total


@dataclass(frozen=True)
class Clip(GradientRule):
    """Scale the whole gradient of the learner by `min(1, norm / |g|)`, `|g|` the 2-norm over all its parameters.

    The norm is the learner's own, never one over several learners: that would couple their step sizes.
    Source: Pascanu et al. 2013, arXiv:1211.5063, Algorithm 1.
    """

    norm: float  # largest 2-norm allowed, > 0

    def __post_init__(self) -> None:
        if not self.norm > 0:
            raise InputError(f"Clip(norm) is a positive number, not {self.norm}.")

    def __call__(self, sets: list[GradientSet]) -> list[GradientSet]:
        # A sparse one (of an embedding) is its entries, those of the same row summed.
        gradients = [g.coalesce() if g is not None and g.is_sparse else g for g in total(sets)]
        present = [g.values() if g.is_sparse else g for g in gradients if g is not None]
        if not present:
            return [gradients]
        size = torch.nn.utils.get_total_norm(present)  # of a sharded learner's gradient too, over all ranks
        torch._foreach_mul_(present, (self.norm / (size + 1e-6)).clamp(max=1.0))
        return [gradients]
