"""Learners teach each other: what all of them say together of the unlabelled rows, each learns in its own way.

This is co-training (Blum & Mitchell, "Combining labeled and unlabeled data with co-training", COLT 1998) in one round.
Learners on different sorts of columns teach every row: a note that says little gets its class from the photograph.
Learners on one sort err for the same rows, so they teach those of which they are surest together; trees, kernel
machines and lines then draw the border between the classes each as it does.
Legend: n labelled rows, R repeats, C classes.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cotrain.auto.calibrate import even
from cotrain.auto.candidates import MIXED
from cotrain.auto.choose import Board, Choice
from cotrain.auto.features import Features
from cotrain.auto.folds import Fold, fold_of_all
from cotrain.auto.pace import Pace
from cotrain.auto.trial import FAILURES, Trial, some, train, train_and_ask
from cotrain.progress import progress
from cotrain.threads import workers
from cotrain.views.view import joined

TAUGHT_ROWS = 2_000  # unlabelled rows that are taught
TREES = 100  # of a pupil; of a handful of labels more tell more, of many rows they take long
DOUBTFUL = 0.2  # of the rows of each class, the least sure, that learners on one sort of columns do not teach
NAME = "taught by the committee"


def lessons(
    board: Board,
    choice: Choice,
    features: Features,
    folds: Sequence[Fold],
    left: Callable[[], float],
    jobs: int = 1,
) -> list[Trial]:
    """The supervised committee and the best learner on each view once more, taught by the committee; none where it
    does not hear all sorts of columns.

    In each fold of the first repeat the committee is trained again without the held rows, so that a pupil is judged as
    all learners are.

    Args:
        left: seconds that are left for it, asked before each fold; where not all folds will be done, nothing is, and
            where what the learners took before tells so, nothing is begun. jobs: threads.
    """
    folds = [fold for fold in folds if fold.repeat == 0]
    asked = sorted({*choice.supervised, *_best_by_view(board)})
    taught = some(features.unlabelled, TAUGHT_ROWS)
    if len(board.blend(choice.members).parts) < len(board.parts) or not len(taught):
        return []
    trials = [
        Trial(
            replace(
                pupil,
                name=f"{pupil.name}, {NAME}",
                unlabelled=True,
                make=partial(_with_few_trees, pupil.make),
                kind=MIXED,
                taught=True,
            ),
            np.full(board.probability.shape[1:], np.nan),
        )
        for pupil in (board.trials[m].candidate for m in asked)
    ]
    trained = [board.trials[m] for m in {*choice.members, *asked}]
    least = sum(trial.seconds / (trial.folds + 1) for trial in trained) / jobs  # pupils learn from more rows than that
    start, pace = time.perf_counter(), Pace(len(folds) + 2, left, least)  # of all rows: all unlabelled ones are asked
    everything = fold_of_all(features.labelled, features.unlabelled)
    with progress("learners teach each other", len(folds)) as advance, workers(jobs) as pool:
        for fold in [*folds, everything]:
            if not pace.will_do():
                return []
            try:
                found = _taught(board, choice.members, trials, features, fold, taught, pool, fold is everything)
            except FAILURES:
                return []
            for trial, (estimator, said) in zip(trials, found, strict=True):
                if fold is everything:
                    trial.estimator, trial.unlabelled = estimator, said
                else:
                    trial.probability[fold.repeat, features.place[fold.held]] = said
            advance()
    for trial in trials:
        trial.seconds = (time.perf_counter() - start) / len(trials)
        trial.folds = len(folds)
    return trials


def _with_few_trees(make: Callable[[np.ndarray], Any], prior: np.ndarray) -> Any:
    learner = make(prior)
    if getattr(learner, "n_estimators", 0) > TREES:
        learner.n_estimators = TREES
    return learner


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


def _taught(
    board: Board,
    members: Sequence[int],
    trials: Sequence[Trial],
    features: Features,
    fold: Fold,
    taught: np.ndarray,
    pool: Executor,
    whole: bool,
) -> list[tuple[Any, np.ndarray]]:
    """Each trial's estimator, fitted on the fold's labelled rows and on taught ones with the classes that the members,
    trained on the same labels, give them; and what it says of the held rows, or, of the `whole`, of the unlabelled
    ones."""
    teachers, prior = [board.trials[m] for m in members], board.label_shares
    matrices, y = features.of(fold.train, fold.unlabelled), features.y
    known = np.intersect1d(taught, fold.unlabelled)
    if whole:  # the board has heard them already
        order = np.argsort(fold.unlabelled)
        places = order[np.searchsorted(fold.unlabelled, known, sorter=order)]
        said = [np.asarray(teacher.unlabelled)[places] for teacher in teachers]
    else:
        said = train_and_ask(teachers, matrices, y, fold.train, fold.unlabelled, known, prior, pool)
    matrices.make({name for trial in trials for name in trial.candidate.views}, pool)
    voice_NC = board.voice(members, said) * board.decision
    filled = y.copy()
    filled[known] = voice_NC.argmax(1)
    rows = np.concatenate([fold.train, known if len(board.parts) > 1 else known[surest(voice_NC)]])

    def fit_and_ask(trial: Trial) -> tuple[Any, np.ndarray]:
        estimator = train(replace(trial.candidate, unlabelled=False), matrices, filled, rows, rows[:0], prior)
        asked = joined(matrices, trial.candidate, fold.unlabelled if whole else fold.held)
        return estimator, even(estimator, asked, len(prior))

    return list(pool.map(fit_and_ask, trials))


def surest(weight_NC: np.ndarray) -> np.ndarray:
    """Which rows the likeliest class leads by most [N, C] -> bool [N]: of the rows of each class, all but DOUBTFUL."""
    guess, ranked = weight_NC.argmax(1), np.sort(weight_NC, axis=1)
    lead = (ranked[:, -1] - ranked[:, -2]) / weight_NC.sum(1)
    kept = np.zeros(len(weight_NC), dtype=bool)
    for label in np.unique(guess):
        own = np.flatnonzero(guess == label)
        kept[own[np.argsort(lead[own], kind="stable")[int(DOUBTFUL * len(own)) :]]] = True
    return kept
