"""A method: one pure step from learners, batch and memory to one loss for each owner."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cotrain.errors import InputError
from cotrain.learner import Learner

Owners = str | tuple[str, ...]
Losses = Mapping[Any, Tensor | Sequence[Tensor]]  # keys are Owners; Any, because Mapping is invariant in its key
Memory = dict[str, Any]
Learners = Mapping[str, Learner]
Batches = Mapping[str, Mapping[str, Tensor]]  # stream -> field -> tensor


class Roles(dict[str, Any]):
    """A dict by role whose missing keys are errors for the user: who asked, for what, and what there is."""

    def __init__(self, what: str, entries: Mapping[str, Any], who: str = "The method"):
        super().__init__(entries)
        self.what = what
        self.who = who

    def __missing__(self, key: str) -> Any:
        there = ", ".join(map(repr, self)) or "none"
        raise InputError(f"{self.who} needs a {self.what} named {key!r}; given: {there}.")


@dataclass(frozen=True)
class Method(ABC):
    """The losses of each learner. Subclasses are frozen dataclasses; their fields are the hyperparameters.

    `whole_batch` says that a step on a batch is not the mean of steps on its parts (contrastive losses, mixing across
    examples, running means of the batch); such a method is refused with microbatches, and over several ranks it looks
    at the whole batch through `place.over_batch` or `place.gather`. A subclass sets it (`whole_batch = True`) or, where
    it depends on the fields, makes it a property of its own.
    `spreads` says that learners may live on different ranks: the step goes over the learners that it is given,
    whichever these are, and hears of the others through `post` alone.
    """

    spreads: ClassVar[bool] = False

    @property
    def whole_batch(self) -> bool:
        return False

    def memory(self, learners: Learners) -> Memory:
        """Tensors that the method remembers between steps, at their start. The engine saves, moves, restores them and
        adds `step` (int, from 0) and `generator` (a torch.Generator on the CPU, seeded by the step)."""
        return {}

    @abstractmethod
    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        """One loss for each owner; a tuple of roles owns a loss together, a list of losses stays apart for the owner's
        gradient rule. All losses are taken at the same weights. A learner that is left out does not move."""

    @classmethod
    def example(cls) -> "Example":
        """Tiny learners and streams on which the method runs in milliseconds; what `cotrain.check` uses."""
        raise InputError(f"{cls.__name__} has no example(); cotrain.check needs one.")


@dataclass(frozen=True)
class Example:
    """What `cotrain.check` runs a method on. Made anew by each call of `Method.example()`."""

    method: Method
    learners: dict[str, Learner]
    streams: dict[str, Any]
