"""The methods for few labels on one task: the same net, rows, augmentations and number of settings for each of them.

Legend: L labelled examples, U unlabelled examples, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cotrain.errors import InputError
from cotrain.judge import accuracy
from cotrain.learner import Learner, follow
from cotrain.method import Method
from cotrain.methods.semi.deep_co_training import DeepCoTraining
from cotrain.methods.semi.fixmatch import FixMatch
from cotrain.methods.semi.mean_teacher import MeanTeacher
from cotrain.methods.semi.mixmatch import MixMatch
from cotrain.methods.semi.remixmatch import ReMixMatch
from cotrain.methods.semi.supervised import Supervised
from cotrain.nets.headed import Headed
from cotrain.randomness import fold, seed_torch
from cotrain.stream import Once, Rows, Stream
from cotrain.views.copies import Augment, Augmented, Copies, Turn

Name = Literal["supervised", "mean teacher", "deep co-training", "mixmatch", "remixmatch", "fixmatch"]
Level = Literal["low", "middle", "high"]
NAMES: tuple[Name, ...] = ("supervised", "mean teacher", "deep co-training", "mixmatch", "remixmatch", "fixmatch")
LEVELS: tuple[Level, ...] = ("low", "middle", "high")
# Each method with and without mixup. MixMatch and ReMixMatch mix by themselves: without, only their mixing is left out.
ROWS: dict[str, dict] = {
    f"{name}{' + mixup' * mixup}": {"method": name, "mixup": mixup} for name in NAMES for mixup in (False, True)
}
# The row that is the method as its own paper has it.
PUBLISHED = {name: f"{name} + mixup" if name in ("mixmatch", "remixmatch") else name for name in NAMES[1:]}
# The grid: what all weights of unlabelled losses are multiplied with; of FixMatch the threshold instead.
FACTOR: dict[Level, float] = {"low": 0.3, "middle": 1.0, "high": 3.0}
THRESHOLD: dict[Level, float] = {"low": 0.95, "middle": 0.85, "high": 0.7}
TURNS = 4


def method_of(name: Name, mixup: bool = False, level: Level = "middle", ramp: int = 0, turn: bool = True) -> Method:
    """A method at a point of the grid.

    At the middle the weights are those of Cances et al. 2022, doi:10.1186/s13636-022-00255-6, but for Mean Teacher: 30
    instead of 1, between theirs and its own paper's 100.

    Args:
        mixup: with their alphas, 0.75, and 0.4 for labelled rows alone.
        ramp: steps over which weights rise.
        turn: False leaves out ReMixMatch's task without labels.
    """
    factor, alpha = FACTOR[level], 0.75 if mixup else 0.0
    match name:
        case "supervised":
            return Supervised(mixup=0.4 if mixup else 0.0)
        case "mean teacher":
            return MeanTeacher(weight=30 * factor, ramp=ramp, mixup=alpha)
        case "deep co-training":
            # With the published gradient through the targets the nets grow sure of each other's first mistakes: 0.37
            # and 0.47 on news of two seeds, 0.58 and 0.56 without it.
            return DeepCoTraining(
                weight_agreement=factor, weight_difference=0.5 * factor, detach_target=True, ramp=ramp, mixup=alpha
            )
        case "mixmatch":
            return MixMatch(weight=factor, ramp=ramp, mixup=alpha, divergence="cross-entropy")
        case "remixmatch":
            return ReMixMatch(
                weight=1.5 * factor,
                weight_strong=0.5 * factor,
                weight_turn=0.5 * factor * turn,
                ramp=ramp,
                mixup=alpha,
            )
        case "fixmatch":
            return FixMatch(threshold=THRESHOLD[level], mixup=alpha)


def judged_learner(method: Method) -> str:
    """The role to judge and to deploy."""
    return {DeepCoTraining: "one", MeanTeacher: "teacher"}.get(type(method), "model")


@dataclass(frozen=True)
class Task:
    """A problem with few labels; gives each method what it asks for.

    Args:
        x, y: labelled rows [L, ...] and their classes int64 [L].
        unlabelled: rows [U, ...] as x.
        net: makes a net, x -> logits [N, C]; a `Headed` with a linear head for ReMixMatch's task without labels.
        optimizer: as in `Learner`.
        weak, strong: how to make a copy of rows.
        labelled: how labelled rows are augmented; None is weak, for ReMixMatch strong (as in their papers).
        turn: a task without labels for ReMixMatch, with four ways to turn a row.
        batch, batch_unlabelled: rows in a batch of each stream.
        schedule: as in `Learner`.
        decay: of the mean teacher.
    """

    x: Tensor
    y: Tensor
    unlabelled: Tensor
    net: Callable[[], nn.Module]
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
    weak: Augment
    strong: Augment
    labelled: Augment | None = None
    turn: Turn | None = None
    batch: int = 32
    batch_unlabelled: int = 32
    schedule: Callable[[int], float] | None = None
    decay: float = 0.99

    def learners(self, method: Method, seed: int) -> dict[str, Learner]:
        """By the roles of the method; the first weights depend on seed and role.

        Raises:
            InputError: ReMixMatch's task without labels, for a net that has no features.
        """
        if isinstance(method, DeepCoTraining):
            return {role: self._learner(self.net, seed, role) for role in ("one", "two")}
        learners = {"model": self._learner(self.net, seed, "model")}
        if isinstance(method, MeanTeacher):
            learners["teacher"] = follow("model", self.decay)
        if isinstance(method, ReMixMatch) and method.weight_turn:
            net = learners["model"].net
            if not (isinstance(net, Headed) and isinstance(net.head, nn.Linear)):
                raise InputError(
                    "ReMixMatch's task without labels needs a Headed net (cotrain.nets), or weight_turn=0."
                )
            features = net.head.in_features
            learners["turns"] = self._learner(lambda: nn.Linear(features, TURNS), seed, "turns")
        return learners

    def streams(self, method: Method, seed: int) -> dict[str, Stream]:
        """By the names that the method asks for; unlabelled rows have the copies that it reads, and no others.

        Raises:
            InputError: ReMixMatch's task without labels, and no `turn`.
        """
        turned = isinstance(method, ReMixMatch) and method.weight_turn > 0
        if turned and self.turn is None:
            raise InputError("ReMixMatch's task without labels needs a turn, or weight_turn=0.")
        augment = self.labelled or (self.strong if isinstance(method, ReMixMatch) else self.weak)
        names = ("labelled", "labelled_two") if isinstance(method, DeepCoTraining) else ("labelled",)
        rows = {"x": self.x, "y": self.y}
        streams: dict[str, Stream] = {
            name: Rows(rows, self.batch, seed, name=name, view=Augmented(augment)) for name in names
        }
        if isinstance(method, Supervised):
            return streams
        view = Copies(
            self.weak,
            self.strong if isinstance(method, ReMixMatch | FixMatch) else None,
            weak_copies=2 if isinstance(method, MixMatch | MeanTeacher) else 1,
            turn=self.turn if turned else None,
        )
        streams["unlabelled"] = Rows({"x": self.unlabelled}, self.batch_unlabelled, seed, name="unlabelled", view=view)
        return streams

    def parts(self, method: Method, seed: int, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Learners, streams and judges as `Run` takes them; judged on rows x [N, ...] of classes y int64 [N]."""
        judge = accuracy(judged_learner(method)), Once({"x": x, "y": y})
        return {"learners": self.learners(method, seed), "streams": self.streams(method, seed), "judges": [judge]}

    def _learner(self, make: Callable[[], nn.Module], seed: int, role: str) -> Learner:
        with torch.random.fork_rng(devices=[]):
            seed_torch(fold(seed, "first weights", role))
            net = make()
        return Learner(net, self.optimizer, schedule=self.schedule)
