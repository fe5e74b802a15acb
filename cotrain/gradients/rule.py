"""A gradient rule: gradients in, gradients out, between backward and the optimizer.

A *set* is one gradient for each parameter of a learner (None where a loss did not reach it). A rule gets one set
for each loss given to the learner and returns sets of the same form; the engine sums what is left.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from cotrain.errors import InputError

GradientSet = list[Tensor | None]


class GradientRule(ABC):
    """Base of all rules. `per_loss` says that the losses' gradients must arrive apart (PCGrad); otherwise one summed
    set arrives, which costs no more than a plain backward."""

    per_loss: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, sets: list[GradientSet]) -> list[GradientSet]: ...


@dataclass(frozen=True)
class Chain(GradientRule):
    """Rules one after another; made by `chain`."""

    rules: tuple[GradientRule, ...]

    @property
    def per_loss(self) -> bool:  # type: ignore[override]
        return any(rule.per_loss for rule in self.rules)

    def __call__(self, sets: list[GradientSet]) -> list[GradientSet]:
        given = len(sets)
        for rule in self.rules:
            if rule.per_loss and len(sets) < given:
                raise InputError(
                    f"{type(rule).__name__} needs the losses' gradients apart, and the rule before it in the chain "
                    "sums them: put it first."
                )
            sets = rule(sets)
        return sets


def chain(*rules: GradientRule) -> Chain:
    """First rule first: `chain(PCGrad(), Clip(1.0))` resolves conflicts and clips what came out.

    Raises (at a step):
        InputError: a rule that needs the losses' gradients apart comes after one that sums them.
    """
    return Chain(tuple(rules))


def total(sets: Sequence[GradientSet]) -> GradientSet:
    """The sum of the sets, parameter by parameter."""
    if len(sets) == 1:
        return sets[0]
    summed: GradientSet = []
    for gradients in zip(*sets, strict=True):
        present = [g for g in gradients if g is not None]
        summed.append(sum(present[1:], present[0]) if present else None)
    return summed
