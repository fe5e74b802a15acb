"""RandAugment: each example goes through a few operations drawn from a pool, each with numbers of its own.

Source: Cubuk et al. 2020, "RandAugment", arXiv:1909.13719; magnitudes drawn anew each time, as in FixMatch (Sohn et al.
2020, arXiv:2001.07685, section 2.3). Legend: B examples.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from cotrain.randomness import Draws

NUMBERS = 5  # uniform numbers in 0..1 for each example and operation; the first is the magnitude

# Examples [B, ...] and their numbers [B, NUMBERS] -> [B, ...]; a pure function, so that a test can give the numbers.
Operation = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class RandomPool:
    """An augmentation of batches [B, ...].

    Args:
        operations: the pool; an operation is as likely as any other.
        count: operations in a row for each example.
        probability: with which each of them happens at all, 0..1.
    """

    operations: tuple[Operation, ...]
    count: int = 1
    probability: float = 1.0

    def __call__(self, x: Tensor, draws: Draws) -> Tensor:
        for _ in range(self.count):
            chosen_B = draws.integer(0, len(self.operations))
            if self.probability < 1:
                chosen_B[~draws.coin(self.probability)] = -1
            numbers = draws.uniform(NUMBERS)
            changed = x.clone()
            for number, operation in enumerate(self.operations):
                rows = (chosen_B == number).nonzero().squeeze(1)
                if len(rows):
                    changed[rows] = operation(x[rows], numbers[rows])
            x = changed
        return x
