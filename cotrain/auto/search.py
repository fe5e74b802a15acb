"""Runs the candidates over the folds within a time budget."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from cotrain import show
from cotrain.auto.candidates import STYLE, Candidate
from cotrain.auto.features import Features
from cotrain.auto.folds import Fold
from cotrain.auto.trial import LEAST_LEARNERS, Trial, run_all, run_folds
from cotrain.auto.wording import listing
from cotrain.errors import InputError
from cotrain.progress import progress
from cotrain.threads import workers

TRIALS = 0.6  # of the budget, in which learners are tried
FITS = 0.1  # of it, in which learners may be fitted for which there is no time to try them further


def seconds(text: str | float) -> float:
    """`90`, `90s`, `3m`, `1h` as seconds.

    Raises:
        InputError: anything else, or nothing.
    """
    if isinstance(text, int | float):
        value, unit = float(text), 1
    else:
        units, said = {"s": 1, "m": 60, "h": 3600}, str(text)
        unit = units.get(said[-1:].lower(), 0)
        try:
            value = float(said[:-1] if unit else said)
        except ValueError:
            value = -1.0
        unit = unit or 1
    if not 0 < value < math.inf:
        raise InputError(f"--budget takes a time such as 90s, 3m or 1h; not {text!r}.")
    return value * unit


class Clock:
    """The time budget of a fit, in seconds."""

    def __init__(self, budget: float):
        self.start = time.perf_counter()
        self.budget = budget
        self.finishing = False  # the trials are over; from now on there will be a result
        self.stopped = False  # by the user, while learners were tried

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.start

    def end(self, share: float) -> float:
        """The moment, by `time.perf_counter`, at which a share of the budget is spent."""
        return self.start + share * self.budget

    def left(self, share: float = 1.0) -> float:
        """What is left of a share of the budget."""
        return share * self.budget - self.spent

    def slot(self, share: float, rest: float = 0.5) -> Callable[[], float]:
        """Tells, whenever asked, what is left of a share of the budget that begins now: at most the share `rest` of
        what is left in all, and nothing once the user has ended the budget."""
        end = self.spent + min(share * self.budget, rest * self.left())
        return lambda: min(end, self.budget) - self.spent

    @contextmanager
    def interruptible(self, warn: Callable[[str], None]) -> Iterator[None]:
        """While the result is being finished, the first Ctrl-C only ends the budget; a second one ends the program."""
        usual = signal.getsignal(signal.SIGINT)
        stopped = False

        def answer(number: int, frame: Any) -> None:
            nonlocal stopped
            if stopped or not self.finishing:
                raise KeyboardInterrupt
            stopped = True
            self.budget = min(self.budget, self.spent)
            warn("Stopped by you after the trials; what was left to do got the least time.")
            show.aside("finishing the result; press Ctrl-C again to end without it")

        if usual is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, answer)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)


def search(
    candidates: Sequence[Candidate],
    features: Features,
    folds: Sequence[Fold],
    prior: np.ndarray,
    clock: Clock,
    jobs: int,
    warn: Callable[[str], None],
) -> list[Trial]:
    """Out-of-fold predictions of every candidate for which there is time, then its fit on all rows.

    Learners on labelled rows go first. Those on unlabelled rows follow view by view, the view on which the labelled
    rows alone went best first. TRIALS of the budget is the time for them. An interrupt ends the search with what
    is finished.
    """
    import torch  # noqa: F401  # its first import takes seconds, which are no learner's

    y = features.y[features.labelled]
    shape = (1 + max(fold.repeat for fold in folds), len(y), len(prior))
    trials = [Trial(candidate, np.full(shape, np.nan)) for candidate in candidates]
    supervised = [trial for trial in trials if not trial.candidate.unlabelled]
    steps = len(trials) * len(folds)
    with progress("trying learners", steps) as advance, workers(jobs) as pool:

        def sweep(group: list[Trial]) -> None:
            _sweep(group, trials, features, folds, prior, pool, clock, jobs, advance, warn)

        try:
            sweep(supervised or trials)
            scores: dict[str, float] = {}
            for trial in supervised:
                kind = trial.candidate.kind
                scores[kind] = max(scores.get(kind, 0.0), _accuracy(trial, y))
            others = [trial for trial in trials if trial.candidate.unlabelled and not trial.folds]
            kinds = dict.fromkeys(trial.candidate.kind for trial in others)
            for kind in sorted(kinds, key=lambda kind: -scores.get(kind, 0.0)):
                sweep([trial for trial in others if trial.candidate.kind == kind])
        except KeyboardInterrupt:
            if not any(trial.folds for trial in trials):
                raise
            clock.stopped = True
            warn("Stopped by you while learners were tried; the result is made of what was finished.")
    clock.finishing = True
    with workers(jobs) as pool:
        run_all([trial for trial in trials if not trial.dropped and trial.folds], features, prior, pool)
    return trials


def _sweep(
    group: list[Trial],
    trials: list[Trial],
    features: Features,
    folds: Sequence[Fold],
    prior: np.ndarray,
    pool: ThreadPoolExecutor,
    clock: Clock,
    jobs: int,
    advance: Callable[[], None],
    warn: Callable[[str], None],
) -> None:
    """Run some candidates over all folds. What the first fold shows to be too slow for the time that is left goes; if
    even the rest does not fit, folds are left out. Few candidates run several folds side by side."""
    done, views = 0, 0.0  # seconds that the views of a fold take, where each has its own
    while done < len(folds):
        running = [trial for trial in group if not trial.dropped]
        if done == 1:
            left = clock.left(TRIALS)
            some = max(2, min(len(folds), int(left / 2 / views))) if views else len(folds)
            _drop(running, _slowness(trials), some, (left - views * some) * jobs, FITS * clock.budget * jobs)
            running = [trial for trial in running if not trial.dropped]
        if not running:
            return
        count = 1
        if done:
            work = sum(trial.work / trial.folds for trial in running) * _slowness(trials)
            each, left = views + work / jobs, clock.left(TRIALS)
            if each > left:
                names = listing(trial.candidate.name for trial in running)
                warn(f"The time budget ended after {done} of {len(folds)} folds of {names}; estimates are less sure.")
                return
            count = max(1, min(math.ceil(2 * jobs / len(running)), int(left / max(each, 1e-9))))
        part = folds[done : done + count]
        try:
            made = run_folds(running, features, part, prior, pool, math.inf if done else clock.end(TRIALS))
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)  # those that are at it would still write
            for trial in group:  # a fold that is only half done would favour those that had their turn
                for fold in part:
                    trial.probability[fold.repeat, features.place[fold.held]] = np.nan
            raise
        done += len(part)
        views = 0.0 if features.shared else made / len(part)
        for _ in range(len(group) * len(part)):
            advance()


def _slowness(trials: list[Trial]) -> float:
    """How much longer than the processor works on them learners take, as a rule, for there are other programs. That the
    machine stood still once is no rule."""
    found = [trial.seconds / trial.work for trial in trials if trial.work > 0.01]
    return max(1.0, float(np.median(found))) if found else 1.0


def _drop(running: list[Trial], slowness: float, folds: int, left: float, last: float) -> None:
    """After the first fold, keep the candidates, quick ones first, whose other folds and last fit find time; and
    LEAST_LEARNERS on labelled rows whose last fit does, to be judged on fewer folds: `last` are the seconds for such
    fits."""
    spent = fits = 0.0
    order = sorted(running, key=lambda trial: (trial.candidate.kind == STYLE, trial.work))
    for place, trial in enumerate(order):
        seconds = trial.work * slowness
        spent += seconds * folds
        fits += seconds
        owed = place < LEAST_LEARNERS and fits <= last and not trial.candidate.unlabelled
        if place and spent > left and not owed:
            trial.dropped = f"no time was left for it ({seconds:.2g} s a fold)"


def _accuracy(trial: Trial, y: np.ndarray) -> float:
    said = ~np.isnan(trial.probability[..., 0])
    right = trial.probability.argmax(-1) == y
    return float(right[said].mean()) if said.any() else 0.0
