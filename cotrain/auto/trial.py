"""Out-of-fold predictions of candidates: what each says of labelled rows that it was not trained on.

Legend: n labelled rows, m unlabelled rows, C classes, R repeats, N rows in all.
"""

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrain.auto.calibrate import even
from cotrain.auto.candidates import Candidate
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.folds import Fold, fold_of_all
from cotrain.views.view import Matrix, joined

FAILURES = (ValueError, ArithmeticError, MemoryError)  # what learners raise on odd data; NumPy's LinAlgError too
LEAST_LEARNERS = 3  # learners on labelled rows that are tried and fitted, however short the time


@dataclass
class Trial:
    """One candidate's out-of-fold probabilities [R, n, C] for equal class shares; NaN where not held out."""

    candidate: Candidate
    probability: np.ndarray
    estimator: Any = None  # fitted on all rows, once the folds are done
    unlabelled: np.ndarray | None = None  # what that says of the unlabelled rows, [m, C]
    seconds: float = 0.0
    work: float = 0.0  # seconds of the processor, of its seconds
    folds: int = 0  # how many have been run
    dropped: str = ""  # why it was given up, if it was
    silent: str = ""  # why it has no say, if it has none


def train(
    candidate: Candidate,
    matrices: Mapping[str, Matrix],
    y: np.ndarray,
    labelled: np.ndarray,
    unlabelled: np.ndarray,
    prior: np.ndarray,
    whole: bool = False,
) -> Any:
    """The candidate's estimator, fitted on these rows; `whole`: for the result, not for a fold."""
    rows = labelled
    if candidate.unlabelled:
        most = len(unlabelled) if candidate.most is None else candidate.most if whole else candidate.most // 2
        rows = np.concatenate([labelled, some(unlabelled, most)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a learner that did not converge is judged by what it predicts
        return candidate.make(prior).fit(joined(matrices, candidate, rows), y[rows])


def some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly spread over their order, which is one of content."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def run_folds(
    trials: Sequence[Trial],
    features: Features,
    folds: Sequence[Fold],
    prior: np.ndarray,
    pool: Executor,
    deadline: float = math.inf,
) -> float:
    """Train every candidate on each fold and fill in what it says of the held rows.

    After the deadline (by `time.perf_counter`) those that did not begin are dropped, as long as LEAST_LEARNERS on
    labelled rows are done.

    Returns the seconds that the views took.
    """
    owed = 0 if any(trial.candidate.unlabelled or trial.folds for trial in trials) else LEAST_LEARNERS
    done: list[Trial] = []

    def run(trial: Trial, fold: Fold, matrices: FoldFeatures) -> None:
        if len(done) >= owed and time.perf_counter() > deadline:
            trial.dropped = "the time budget had ended"
            return
        estimator = train(trial.candidate, matrices, features.y, fold.train, fold.unlabelled, prior)
        said = even(estimator, joined(matrices, trial.candidate, fold.held), len(prior))
        trial.probability[fold.repeat, features.place[fold.held]] = said
        done.append(trial)

    seconds = _side_by_side(trials, features, folds, run, pool)
    for trial in trials:
        trial.folds += 0 if trial.dropped else len(folds)
    return seconds


def run_all(trials: Sequence[Trial], features: Features, prior: np.ndarray, pool: Executor) -> None:
    """Train every candidate on all rows and ask it for the unlabelled ones."""
    everything = fold_of_all(features.labelled, features.unlabelled)

    def run(trial: Trial, fold: Fold, matrices: FoldFeatures) -> None:
        estimator = train(trial.candidate, matrices, features.y, fold.train, fold.unlabelled, prior, True)
        if len(fold.unlabelled):
            trial.unlabelled = even(estimator, joined(matrices, trial.candidate, fold.unlabelled), len(prior))
        trial.estimator = estimator

    _side_by_side(trials, features, [everything], run, pool)


def _side_by_side(
    trials: Sequence[Trial],
    features: Features,
    folds: Sequence[Fold],
    run: Callable[[Trial, Fold, FoldFeatures], None],
    pool: Executor,
) -> float:
    """Run every candidate on each fold; one that fails is dropped. Returns the seconds that the views took."""

    def timed(task: tuple[Trial, Fold, FoldFeatures]) -> tuple[float, float]:
        start, begun = time.perf_counter(), time.thread_time()
        try:
            run(*task)
        except FAILURES as error:
            task[0].dropped = f"failed: {type(error).__name__}: {error}"
        return time.perf_counter() - start, time.thread_time() - begun

    names = {name for trial in trials for name in trial.candidate.views}
    tasks = []
    begun = time.perf_counter()
    for fold in folds:
        matrices = features.of(fold.train, fold.unlabelled)
        matrices.make(names, pool)
        tasks += [(trial, fold, matrices) for trial in trials]
    made = time.perf_counter() - begun
    tasks.sort(key=lambda task: -task[0].seconds)
    for (trial, *_), (seconds, work) in zip(tasks, pool.map(timed, tasks), strict=True):
        trial.seconds += seconds
        trial.work += work
    return made


def train_and_ask(
    trials: Sequence[Trial],
    matrices: FoldFeatures,
    y: np.ndarray,
    labelled: np.ndarray,
    unlabelled: np.ndarray,
    rows: np.ndarray,
    prior: np.ndarray,
    pool: Executor,
    whole: bool = False,
) -> list[np.ndarray]:
    """What each candidate, trained on `labelled` and `unlabelled`, says of `rows`, for equal class shares [N, C]."""

    def said(trial: Trial) -> np.ndarray:
        estimator = train(trial.candidate, matrices, y, labelled, unlabelled, prior, whole)
        return even(estimator, joined(matrices, trial.candidate, rows), len(prior))

    matrices.make({name for trial in trials for name in trial.candidate.views}, pool)
    order = sorted(range(len(trials)), key=lambda m: -trials[m].seconds)
    found = dict(zip(order, pool.map(said, [trials[m] for m in order]), strict=True))
    return [found[m] for m in range(len(trials))]
