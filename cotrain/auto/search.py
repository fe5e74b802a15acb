"""Runs the candidates over the folds within a time budget."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cotrain.auto.candidates import Candidate
from cotrain.auto.features import Features
from cotrain.auto.folds import Fold
from cotrain.auto.trial import Trial, run_all, run_fold
from cotrain.progress import progress


class Clock:
    """The time budget of a fit, in seconds."""

    def __init__(self, budget: float):
        self.start = time.perf_counter()
        self.budget = budget

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.start

    def left(self, share: float = 1.0) -> float:
        """What is left of a share of the budget."""
        return share * self.budget - self.spent


def search(
    candidates: Sequence[Candidate],
    features: Features,
    y: np.ndarray,
    folds: Sequence[Fold],
    prior: np.ndarray,
    clock: Clock,
    jobs: int,
    warn: Callable[[str], None],
) -> list[Trial]:
    """Out-of-fold predictions of every candidate that could be run, then its fit on all rows.

    The first fold runs every candidate and shows what each costs. If the rest does not fit into the time for trials
    (six tenths of the budget), the worse half goes after the second fold, then folds are left out. An interrupt ends the
    search with what is finished.
    """
    labelled = features.labelled
    place = np.full(len(y), -1)
    place[labelled] = np.arange(len(labelled))
    repeats = 1 + max(fold.repeat for fold in folds)
    shape = (repeats, len(labelled), len(prior))
    trials = [Trial(candidate, np.full(shape, np.nan)) for candidate in candidates]
    with progress("trying learners", total=len(folds)) as advance, ThreadPoolExecutor(jobs) as pool:
        for number, fold in enumerate(folds):
            running = [trial for trial in trials if not trial.dropped]
            if number:
                _drop(running, number, len(folds), y[labelled], clock)
                running = [trial for trial in running if not trial.dropped]
                next_fold = sum(trial.seconds / trial.folds for trial in running) / jobs
                if next_fold > clock.left(0.6):
                    warn(f"The time budget ended after {number} of {len(folds)} folds; estimates are less sure.")
                    break
            try:
                run_fold(running, features, y, fold, prior, place, pool, lambda: number > 0 or clock.left(0.6) > 0)
            except KeyboardInterrupt:
                if not number:
                    raise
                warn(f"Stopped by you after {number} of {len(folds)} folds; the result is made of what was finished.")
                for trial in trials:  # a fold that is only half done would favour those that had their turn
                    trial.probability[fold.repeat, place[fold.held]] = np.nan
                break
            advance()
        run_all([trial for trial in trials if not trial.dropped and trial.folds], features, y, prior, pool)
    return trials


def _drop(running: list[Trial], done: int, folds: int, y: np.ndarray, clock: Clock) -> None:
    """Give up what does not fit the time: learners that alone would eat it and, after two folds, the worse half."""
    left = clock.left(0.6)
    for trial in running:
        cost = trial.seconds / trial.folds * (folds - done)
        if cost > left and len(running) > 1 and trial is not min(running, key=lambda t: t.seconds):
            trial.dropped = f"too slow for the time budget ({trial.seconds / trial.folds:.1f} s a fold)"
    staying = [trial for trial in running if not trial.dropped]
    cost = sum(trial.seconds / trial.folds for trial in staying) * (folds - done)
    if done != 2 or cost <= left or len(staying) < 4:
        return
    scores = {id(trial): _accuracy(trial, y) for trial in staying}
    middle = float(np.median(list(scores.values())))
    rows = max(int((~np.isnan(staying[0].probability[..., 0])).sum()), 1)
    for kind in (False, True):  # each side keeps its better half
        side = [trial for trial in staying if trial.candidate.unlabelled == kind]
        best = max((scores[id(trial)] for trial in side), default=0.0)
        error = np.sqrt(max(best * (1 - best), 0.05) / rows)
        for trial in side:
            if scores[id(trial)] < min(middle, best - error):
                trial.dropped = "in the worse half after two folds, when time grew short"


def _accuracy(trial: Trial, y: np.ndarray) -> float:
    said = ~np.isnan(trial.probability[..., 0])
    right = trial.probability.argmax(-1) == y
    return float(right[said].mean()) if said.any() else 0.0
