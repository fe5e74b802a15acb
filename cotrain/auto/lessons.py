"""Learners on different sorts of columns teach each other: what all of them say together of the unlabelled rows, each
learns from its own columns.

This is co-training (Blum & Mitchell, "Combining labeled and unlabeled data with co-training", COLT 1998) in one round,
with every unlabelled row instead of the surest ones. A note that says little gets its class from the photograph.
Legend: n labelled rows, R repeats, C classes.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from cotrain.auto.calibrate import even
from cotrain.auto.candidates import MIXED
from cotrain.auto.choose import Board, Choice
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.folds import Fold, fold_of_all
from cotrain.auto.pace import Pace
from cotrain.auto.trial import FAILURES, Trial, some, train, train_and_ask
from cotrain.progress import progress
from cotrain.threads import workers
from cotrain.views.view import joined

TAUGHT_ROWS = 2_000  # unlabelled rows that are taught
NAME = "taught by all columns"


def lessons(
    board: Board,
    choice: Choice,
    features: Features,
    folds: Sequence[Fold],
    left: Callable[[], float],
    jobs: int = 1,
) -> list[Trial]:
    """The supervised committee and the best learner on each view once more, taught by the committee; none where all
    read one sort of columns.

    In each fold of the first repeat the committee is trained again without the held rows, so that a pupil is judged as
    all learners are.

    Args:
        left: seconds that are left for it, asked before each fold; where not all folds will be done, nothing is. jobs:
            threads.
    """
    folds = [fold for fold in folds if fold.repeat == 0]
    pupils = [board.trials[m].candidate for m in sorted({*choice.supervised, *_best_by_view(board)})]
    taught = some(features.unlabelled, TAUGHT_ROWS)
    if len(board.blend(choice.members).parts) < 2 or not len(taught):
        return []
    prior = board.label_shares
    trials = [
        Trial(
            replace(pupil, name=f"{pupil.name}, {NAME}", unlabelled=True, kind=MIXED, taught=True),
            np.full(board.probability.shape[1:], np.nan),
        )
        for pupil in pupils
    ]
    start, pace = time.perf_counter(), Pace(len(folds) + 1, left)
    everything = fold_of_all(features.labelled, features.unlabelled)
    with progress("learners teach each other", len(folds)) as advance, workers(jobs) as pool:
        for fold in [*folds, everything]:
            if not pace.will_do():
                return []
            matrices = features.of(fold.train, fold.unlabelled)
            try:
                _teach(board, choice.members, trials, matrices, features.y, fold, taught, pool, fold is everything)
                for trial in trials if len(fold.held) else ():
                    said = even(trial.estimator, joined(matrices, trial.candidate, fold.held), len(prior))
                    trial.probability[fold.repeat, features.place[fold.held]] = said
            except FAILURES:
                return []
            advance()
    for trial in trials:
        trial.unlabelled = even(trial.estimator, joined(matrices, trial.candidate, features.unlabelled), len(prior))
        trial.seconds = (time.perf_counter() - start) / len(trials)
        trial.folds = len(folds)
    return trials


def _best_by_view(board: Board) -> list[int]:
    """With many rows other views may be the best ones than with few."""
    best: dict[str, int] = {}
    for m, trial in enumerate(board.trials):
        if trial.candidate.unlabelled or trial.silent:
            continue
        known = best.get(trial.candidate.kind)
        if known is None or board.score(board.correct[m]) > board.score(board.correct[known]):
            best[trial.candidate.kind] = m
    return list(best.values())


def _teach(
    board: Board,
    members: Sequence[int],
    trials: Sequence[Trial],
    matrices: FoldFeatures,
    y: np.ndarray,
    fold: Fold,
    taught: np.ndarray,
    pool: Executor,
    whole: bool,
) -> None:
    """Fit each trial's estimator on the fold's labelled rows and on taught ones, with the classes that the members,
    trained on the same labels, give them."""
    teachers, prior = [board.trials[m] for m in members], board.label_shares
    known = np.intersect1d(taught, fold.unlabelled)
    said = train_and_ask(teachers, matrices, y, fold.train, fold.unlabelled, known, prior, pool, whole)
    filled = y.copy()
    filled[known] = (board.voice(members, said) * board.decision).argmax(1)
    rows = np.concatenate([fold.train, known])

    def fit(trial: Trial) -> None:
        trial.estimator = train(replace(trial.candidate, unlabelled=False), matrices, filled, rows, rows[:0], prior)

    list(pool.map(fit, trials))
