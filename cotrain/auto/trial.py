"""Out-of-fold predictions of candidates: what each says of labelled rows that it was not trained on.

Legend: n labelled rows, m unlabelled rows, C classes, R repeats, N rows in all.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from cotrain.auto.candidates import Candidate
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.folds import Fold
from cotrain.views.view import Matrix


@dataclass
class Trial:
    """One candidate's out-of-fold probabilities [R, n, C] for equal class shares; NaN where not held out."""

    candidate: Candidate
    probability: np.ndarray
    estimator: Any = None  # fitted on all rows, once the folds are done
    unlabelled: np.ndarray | None = None  # what that says of the unlabelled rows, [m, C]
    seconds: float = 0.0
    folds: int = 0  # how many have been run
    dropped: str = ""  # why it was given up, if it was
    silent: str = ""  # why it has no say, if it has none


def joined(matrices: Mapping[str, Matrix], candidate: Candidate, rows: np.ndarray) -> Any:
    """The candidate's input: its views' features of these rows, side by side (or apart, where it wants views)."""
    parts = tuple(matrices[name][rows] for name in candidate.views)
    if candidate.apart:
        return parts
    if len(parts) == 1:
        return parts[0]
    if any(sparse.issparse(part) for part in parts):
        return sparse.hstack(parts, format="csr")
    return np.hstack(parts)


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


def even(estimator: Any, x: Any, classes: int) -> np.ndarray:
    """Probabilities [N, C] restated for equal class shares; next to nothing for a class that was never seen."""
    found = np.asarray(estimator.predict_proba(x), dtype=np.float64)
    shares = getattr(estimator, "class_log_prior_", None)
    if shares is not None:
        found = found / np.exp(shares)
    probability = np.full((len(found), classes), 1e-9)
    probability[:, estimator.classes_] += found
    return probability / probability.sum(1, keepdims=True)


def run_fold(
    trials: Sequence[Trial],
    features: Features,
    y: np.ndarray,
    fold: Fold,
    prior: np.ndarray,
    place: np.ndarray,
    pool: Executor,
    deadline: float,
) -> None:
    """Train every candidate on the fold and fill in what it says of the held rows; `place` maps rows to 0..n-1.

    After the deadline (by `time.perf_counter`) those that did not begin are dropped, as long as one learner on labelled
    rows is done.
    """
    matrices = features.of(fold.train, fold.unlabelled)

    def run(trial: Trial) -> None:
        estimator = train(trial.candidate, matrices, y, fold.train, fold.unlabelled, prior)
        said = even(estimator, joined(matrices, trial.candidate, fold.held), len(prior))
        trial.probability[fold.repeat, place[fold.held]] = said
        trial.folds += 1

    def run_in_time(trial: Trial) -> None:
        done = any(t.candidate.unlabelled or t.folds for t in trials)
        if done and time.perf_counter() > deadline:
            trial.dropped = "the time budget had ended"
        else:
            run(trial)

    _each(trials, matrices, run_in_time, pool)


def run_all(trials: Sequence[Trial], features: Features, y: np.ndarray, prior: np.ndarray, pool: Executor) -> None:
    """Train every candidate on all rows and ask it for the unlabelled ones."""
    matrices = features.of(features.labelled, features.unlabelled)

    def run(trial: Trial) -> None:
        estimator = train(trial.candidate, matrices, y, features.labelled, features.unlabelled, prior, True)
        if len(features.unlabelled):
            x = joined(matrices, trial.candidate, features.unlabelled)
            trial.unlabelled = even(estimator, x, len(prior))
        trial.estimator = estimator

    _each(trials, matrices, run, pool)


def _each(trials: Sequence[Trial], matrices: FoldFeatures, run: Callable[[Trial], None], pool: Executor) -> None:
    def timed(trial: Trial) -> None:
        start = time.perf_counter()
        try:
            run(trial)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
            trial.dropped = f"failed: {type(error).__name__}: {error}"
        trial.seconds += time.perf_counter() - start

    matrices.make({name for trial in trials for name in trial.candidate.views}, pool)
    list(pool.map(timed, sorted(trials, key=lambda trial: -trial.seconds)))  # no long one is left for the end


def train_and_ask(
    candidates: Sequence[Candidate],
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

    def said(candidate: Candidate) -> np.ndarray:
        estimator = train(candidate, matrices, y, labelled, unlabelled, prior, whole)
        return even(estimator, joined(matrices, candidate, rows), len(prior))

    matrices.make({name for candidate in candidates for name in candidate.views}, pool)
    return list(pool.map(said, candidates))
