"""Augmented copies of each example, as the fields of a batch.

The convention of all methods that compare copies: the first copy is the field `weak` (or `strong`), the next ones are
`weak2`, `weak3`, ... A copy has the shape [B, ...] of a batch of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from cotrain.errors import InputError
from cotrain.randomness import Draws
from cotrain.stream import Batch

Augment = Callable[[Tensor, Draws], Tensor]  # a batch [B, ...] and noise for each of its rows -> [B, ...]
Turn = Callable[[Tensor, Draws], tuple[Tensor, Tensor]]  # -> what was turned [B, ...] and how, int64 [B]


@dataclass(frozen=True)
class Augmented:
    """A view that augments the field `x` and passes the others through; for labelled rows."""

    augment: Augment

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        return {**batch, "x": self.augment(batch["x"], draws)}


@dataclass(frozen=True)
class Copies:
    """A view that makes copies of the field `x`, for unlabelled rows; every copy has noise of its own.

    Args:
        weak, strong: how to make one copy.
        weak_copies, strong_copies: how many of each; 0 leaves the field out.
        turn: makes `turned` and `turn` from the first strong copy: a task that needs no labels.
    """

    weak: Augment
    strong: Augment | None = None
    weak_copies: int = 1
    strong_copies: int = 1
    turn: Turn | None = None

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        made = {name_of("weak", number): self.weak(batch["x"], draws) for number in range(self.weak_copies)}
        if self.strong is not None:
            made |= {name_of("strong", number): self.strong(batch["x"], draws) for number in range(self.strong_copies)}
        if self.turn is not None:
            made["turned"], made["turn"] = self.turn(made["strong"], draws)
        return made


def chain(*augments: Augment) -> Augment:
    """One after the other."""

    def chained(x: Tensor, draws: Draws) -> Tensor:
        for augment in augments:
            x = augment(x, draws)
        return x

    return chained


def always(change: Callable[[Tensor], Tensor]) -> Augment:
    """A change that is the same for all (a spectrogram, a standardization) as a step of a chain."""
    return lambda x, draws: change(x)


def jitter(deviation: float) -> Augment:
    """Adds normal noise of a standard deviation in the units of x; for tables and vectors."""

    def jittered(x: Tensor, draws: Draws) -> Tensor:
        return x + deviation * draws.normal(*x.shape[1:]).to(x)

    return jittered


def copies(fields: Mapping[str, Tensor], kind: str) -> list[Tensor]:
    """All copies of a kind in a batch, in order.

    Raises:
        InputError: there is none.
    """
    found: list[Tensor] = []
    while (name := name_of(kind, len(found))) in fields:
        found.append(fields[name])
    if not found:
        raise InputError(f"The unlabelled stream needs the field {kind!r}; it has: {', '.join(map(repr, fields))}.")
    return found


def name_of(kind: str, number: int) -> str:
    """The field of copy `number`, counted from 0."""
    return kind if number == 0 else f"{kind}{number + 1}"
