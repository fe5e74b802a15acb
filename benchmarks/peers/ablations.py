"""The main job's default with one part less: other choices from the learners that one fit has trained.

Legend: M learners, N rows to predict, C classes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from cotrain.auto import evidence, fit
from cotrain.auto.calibrate import with_prior
from cotrain.auto.choose import Board, Choice
from cotrain.auto.features import FoldFeatures
from cotrain.auto.problem import Problem
from cotrain.auto.trial import Trial


@dataclass
class Kept:
    """What a fit had in hand when it chose."""

    trials: list[Trial]
    problem: Problem
    rest: tuple[Any, ...]  # further arguments of `evidence.weigh`
    matrices: FoldFeatures


@contextmanager
def keeping() -> Iterator[list[Kept]]:
    """The fits made within, in their order."""
    kept: list[Kept] = []
    weigh, committee = evidence.weigh, fit.committee
    given: list[Any] = []

    def note_trials(trials: list[Trial], problem: Problem, *rest: Any) -> Any:
        given[:] = [trials, problem, rest]
        return weigh(trials, problem, *rest)

    def note_matrices(board: Board, members: Sequence[int], matrices: FoldFeatures, *rest: Any) -> Any:
        if given:
            kept.append(Kept(*given, matrices))
            given.clear()
        return committee(board, members, matrices, *rest)

    with mock.patch.object(evidence, "weigh", note_trials), mock.patch.object(fit, "committee", note_matrices):
        yield kept


def best_member_only() -> Any:
    def best(self: Board, among: Sequence[int], times: Any = None, reach: float = 1.0) -> list[int]:
        return [max(among, key=lambda m: self.score(self.correct[m], times))]

    return mock.patch.object(Board, "committee", best)


def no_agreement() -> Any:
    return mock.patch.object(Board, "_agreement", lambda self: np.full(len(self.trials), np.nan))


def nobody_joins() -> Any:
    choose = Board.choose

    def proven(self: Board, times: Any = None, unlabelled: bool = True) -> Choice:
        choice = choose(self, times, unlabelled)
        return choice if choice.proven else choose(self, times, unlabelled=False)

    return mock.patch.object(Board, "choose", proven)


# By name: a change of how is chosen, and which learners (by the beginning of their names) are not there.
ABLATIONS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "best member only": (best_member_only, ()),
    "no agreement evidence": (no_agreement, ()),
    "nobody joins the supervised committee": (nobody_joins, ()),
    "no EM naive Bayes, no co-EM": (nullcontext, ("EM naive Bayes", "co-EM")),
    "no self-training": (nullcontext, ("self-training",)),
    "no graph": (nullcontext, ("graph", "kernel machine taught by graph")),
    "no EM Gaussians": (nullcontext, ("EM Gaussians",)),
}


def predictions(kept: Kept, unseen: Any) -> dict[str, np.ndarray]:
    """What each ablation says of the rows of a table, classes as text [N]."""
    ran = [trial for trial in kept.trials if trial.estimator is not None]
    asked = kept.rest[0]
    seen = evidence.weigh(ran, kept.problem, *kept.rest)
    model = fit.committee(seen.board, range(len(ran)), kept.matrices, kept.problem, seen.prior.shares, seen.metric)
    frame, source, _ = model.aligned(unseen)
    features = model.features(frame, source.folder)
    rows = np.arange(len(frame))
    once: Any = SimpleNamespace(fitted=model.views.__getitem__)  # the views as they are fitted now, for all that follow
    said: dict[str, np.ndarray] = {}
    for name, (change, without) in ABLATIONS.items():
        with change():
            left = [trial for trial in ran if not trial.candidate.name.startswith(without)] if without else ran
            seen = evidence.weigh(left, kept.problem, *kept.rest)
            choice = evidence.decide(seen.board, asked)
            made = fit.committee(seen.board, choice.members, once, kept.problem, seen.prior.shares, seen.metric)
            said[name] = made.named(with_prior(made.even(features, rows), made.shares))
    return said
