"""Judges: `(learners, stream) -> {name: number}`. They look at outputs and change nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import SupportsFloat

import torch
from torch import Tensor

from cotrain import place
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.method import Roles
from cotrain.stream import Batch

Judge = Callable[[Mapping[str, Learner], Iterable[Batch]], dict[str, float]]
Judgement = tuple[Judge, Iterable[Batch]]  # a judge and the test stream it reads


def judged(learners: Mapping[str, Learner], judges: Sequence[Judgement], device: torch.device) -> dict[str, float]:
    """All numbers of all judges, with the nets in evaluation mode and without gradients.

    Raises:
        InputError: what a judge gives is no number, or has a name that is taken; it asks for a learner that is missing.
    """
    numbers: dict[str, float] = {}
    learners = Roles("learner", learners, "A judge")
    with evaluating(learners), torch.no_grad():
        for judge, stream in judges:
            found = judge(learners, (place.move(batch, device) for batch in stream))
            for name, value in found.items():
                if name in numbers or name == "step":
                    whose = "the row's own" if name == "step" else "another judge's"
                    raise InputError(f"A judge gave {name!r}, which is {whose} number; give each number its own name.")
                numbers[name] = _number(name, value)
    return numbers


def _number(name: str, value: SupportsFloat) -> float:
    """What a log and a checkpoint can hold: tensors and numpy's numbers become Python's."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of several numbers
        raise InputError(f"A judge gave {name!r} as {value!r:.60}; it gives numbers by name.") from error


@contextmanager
def evaluating(learners: Mapping[str, Learner]) -> Iterator[None]:
    modes = [(module, module.training) for learner in learners.values() for module in learner.net.modules()]
    for learner in learners.values():
        learner.net.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def accuracy(of: str, name: str = "accuracy") -> Judge:
    """Share of rows whose largest logit is the label; the stream gives x [N, ...] and y int64 [N]."""

    def judge(learners: Mapping[str, Learner], stream: Iterable[Batch]) -> dict[str, float]:
        logits, labels = predictions(learners[of], stream)
        return {name: (logits.argmax(-1) == labels).float().mean().item()}

    return judge


def predictions(learner: Learner, stream: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Logits [N, C] and labels [N] over a whole stream of x and y."""
    pairs = [(learner(batch["x"]), batch["y"]) for batch in stream]
    if not pairs:
        raise InputError("A judge's stream gave no batch; it must start anew each time, as cotrain.stream.Once does.")
    return torch.cat([logits for logits, _ in pairs]), torch.cat([labels for _, labels in pairs])
