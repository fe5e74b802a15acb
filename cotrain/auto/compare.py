"""Methods side by side: the same rows, the same folds, the same time.

For each seed the labelled rows are split anew and every learner is tried once. A method is scored by the committee of
its learners: on rows that the choice of its members did not see (see `choose.bootstrap`), or on a table apart.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cotrain.auto.candidates import Candidate, named
from cotrain.auto.choose import Board, bootstrap
from cotrain.auto.evidence import (
    Evidence,
    Setup,
    after_lessons,
    board_of,
    check_seed_and_jobs,
    check_words,
    decide,
    gather,
    may_ask,
    pick,
    weigh,
)
from cotrain.auto.features import Features
from cotrain.auto.fit import committee
from cotrain.auto.prior import Asked
from cotrain.auto.problem import TestTable, load, read_test
from cotrain.auto.read import read
from cotrain.auto.report_parts import row_weights
from cotrain.auto.scores import chance, gain, interval, mean_of_known
from cotrain.auto.search import Clock, seconds
from cotrain.auto.trial import Trial
from cotrain.auto.views import Views, find_views
from cotrain.errors import InputError

AUTO = "auto"  # what `cotrain fit` would choose by itself


@dataclass(frozen=True)
class Line:
    """One method: its scores over the seeds (None where no learner of it was finished), and what it cost.

    sd: over the seeds, which split the same rows anew. low, high: 90 % interval of the mean, of what other rows would
    say. behind: the probability that the method of the highest mean is better on other rows; None for that one.
    """

    method: str
    mean: float | None
    sd: float | None
    worst: float | None
    low: float | None
    high: float | None
    behind: float | None
    seconds: float  # of training, for each seed
    learners: int  # configurations that were tried: the more, the more chances to be lucky
    values: list[float | None]

    @property
    def partly(self) -> str:
        """`1 of 2 seeds`, where the method came to an end with some of them only."""
        known = sum(value is not None for value in self.values)
        return f"{known} of {len(self.values)} seeds" if 0 < known < len(self.values) else ""


@dataclass(frozen=True)
class Judged:
    """A method's score with one seed. right: of which rows it is right [n], what each counts, and what was drawn."""

    score: float
    low: float
    high: float
    right: np.ndarray
    weight: np.ndarray
    unit: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """Methods in the order asked for. `scored`: on which rows."""

    lines: list[Line]
    seeds: list[int]
    metric: str
    scored: str
    rows: dict[str, int]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(
    data: Any,
    y: Any = None,
    *,
    methods: str | Sequence[str],
    seeds: int | Sequence[int] = 5,
    target: str | None = None,
    test: Any = None,
    unlabelled: str | None = None,
    budget: str | float = "3m",
    prior: Asked = "auto",
    metric: str = "auto",
    encoder: str | Sequence[str] = "auto",
    jobs: int = 2,
    **columns: Any,
) -> Comparison:
    """Score methods on a table over several seeds.

    Args:
        methods: names that --method takes, and "auto" for what `fit` chooses by itself.
        seeds: how many, or which.
        test: a table with labels, on which the methods are scored instead of on held-out rows.
        budget: time for each seed.
        columns: text, image, audio, drop, group and more, as `fit` takes them.

    Raises:
        InputError: what was given cannot be used, there is no such method for this table, or none came to an end.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not numbers:
        raise InputError("--seeds is a number of seeds, 1 or more.")
    for seed in numbers:
        check_seed_and_jobs(seed, jobs)
    time_for_each = seconds(budget)
    tested = None if test is None else read(test)
    problem = load(data, y, target=target, unlabelled=unlabelled, test=tested, seconds=time_for_each, **columns)
    check_words(prior, metric, problem.audit.classes)
    checked = None if tested is None else read_test(tested, problem, unlabelled)
    warnings = list(problem.audit.warnings) + (checked.warnings if checked else [])
    views = find_views(encoder, problem, warnings, time_for_each, jobs)
    said: list[str] = []
    use_unlabelled = may_ask(problem, said)
    groups = _groups(views, methods, use_unlabelled, problem.without_label > 0)
    warnings += [f"{AUTO}: {each}" for each in said if AUTO in groups]
    without = [name for name, group in groups.items() if not group.own]
    warnings += [f"{name} needs unlabelled rows, and there are none." for name in without]
    tried = list({candidate.name: candidate for group in groups.values() for candidate in group.tried}.values())
    features = Features(views.views, problem.frame, problem.y, jobs)
    setup = Setup(problem, features, prior, metric, 0, jobs, Clock(time_for_each), use_unlabelled, warnings)
    found: dict[str, list[Judged | None]] = {name: [] for name in groups}
    spent = dict.fromkeys(groups, 0.0)
    finished: list[int] = []
    with threadpool_limits(1):
        for seed in numbers:
            setup = replace(setup, seed=seed, clock=Clock(time_for_each))
            seen = gather(setup, tried)
            if setup.clock.stopped:  # with half of its folds it says nothing beside the others
                break
            setup = replace(setup, metric=seen.metric)  # of the first seed, for all
            for name, group in groups.items():
                trials = group.trials(seen)
                spent[name] += sum(trial.seconds for trial in trials if trial.candidate.name in group.own)
                found[name].append(_judged(group, trials, seen, setup, checked))
            finished.append(seed)
    if not finished:
        raise KeyboardInterrupt
    means = {name: np.mean([j.score for j in each if j]) for name, each in found.items() if any(each)}
    if not means:
        raise InputError("No method came to an end within the time of a seed; give a longer --budget.")
    best = max(means, key=lambda name: means[name])
    lines = [
        _line(name, found[name], spent[name], len(group.own), [] if name == best else found[best])
        for name, group in groups.items()
    ]
    for line in lines:
        if line.partly:
            warnings.append(f"{line.method} came to an end with {line.partly} only; its score is of these.")
    rows = {"labelled": len(problem.labelled), "unlabelled": problem.without_label}
    rows["test"] = 0 if checked is None else len(checked.y)
    scored = "held-out labelled rows" if checked is None else "the test table"
    return Comparison(lines, finished, setup.metric, scored, rows, list(dict.fromkeys(warnings)))


@dataclass(frozen=True)
class Group:
    """A method's learners by name, all that `fit` tries with that method, and whether unlabelled rows have a say."""

    name: str
    own: set[str]
    tried: list[Candidate]
    use_unlabelled: bool

    def trials(self, seen: Evidence) -> list[Trial]:
        """What came of its candidates."""
        names = {candidate.name for candidate in self.tried}
        return [trial for trial in seen.trials if trial.candidate.name in names]


def _groups(views: Views, methods: str | Sequence[str], use_unlabelled: bool, any_unlabelled: bool) -> dict[str, Group]:
    """The methods as `fit` tries them: "auto" without learners on unlabelled rows where these are few, a named method
    without them only where there is none. Raises InputError for a method that does not exist for these views."""
    known = [AUTO, *named(views)]
    wanted = [name.strip() for name in (methods.split(",") if isinstance(methods, str) else methods)]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"There is no method {unknown[0]!r} for this table; there are {', '.join(known)}.")
    groups = {}
    for name in wanted:
        tried, own = pick(views, None if name == AUTO else name)
        use = use_unlabelled if name == AUTO else any_unlabelled
        if not use:
            tried = [candidate for candidate in tried if not candidate.unlabelled]
        groups[name] = Group(name, own & {candidate.name for candidate in tried}, tried, use)
    return groups


def _judged(
    group: Group,
    trials: list[Trial],
    seen: Evidence,
    setup: Setup,
    test: TestTable | None,
) -> Judged | None:
    """A method's score with one seed, as `fit` would come to it; None where none of its learners was finished."""
    problem, features, use_unlabelled = setup.problem, setup.features, group.use_unlabelled
    auto = group.name == AUTO
    if not any(trial.estimator is not None and not trial.candidate.unlabelled for trial in trials):
        return None
    found = weigh(trials, problem, use_unlabelled, setup.prior, seen.metric, seen.folds)
    if auto:
        found = after_lessons(setup, found)
    board: Board | None = found.board
    if not auto:
        board = board_of(trials, group.own, problem, found.prior, found.metric)
    if board is None:
        return None
    choice = decide(board, use_unlabelled and auto)
    if test is None:
        right = board.right(choice.members)
        corrected = bootstrap(board, use_unlabelled and auto, setup.seed)[0 if choice.used_unlabelled else 1]
        span = board.interval(corrected if np.isfinite(corrected) else board.estimate(right), right)
        return Judged(span.estimate, span.low, span.high, right, board.stands_for, board.unit)
    everything = features.of(features.labelled, features.unlabelled)
    model = committee(board, choice.members, everything, problem, found.prior.shares, found.metric)
    told = (model.probabilities(test.frame, test.folder).argmax(1) == test.y).astype(float)
    weight = row_weights(test.y, found.metric)
    span = interval(float(weight @ told), weight)
    return Judged(span.estimate, span.low, span.high, told, weight, np.arange(len(told)))


def _line(method: str, found: list[Judged | None], spent: float, learners: int, best: Sequence[Judged | None]) -> Line:
    known = [each for each in found if each is not None]
    values = [None if each is None else each.score for each in found]
    if not known:
        return Line(method, None, None, None, None, None, None, round(spent / len(found), 2), learners, values)
    scores = [each.score for each in known]
    mean, low, high = (float(np.mean(each)) for each in zip(*((j.score, j.low, j.high) for j in known), strict=True))
    sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    behind = _behind([(b, own) for b, own in zip(best, found) if b is not None and own is not None])
    return Line(method, mean, sd, min(scores), low, high, behind, round(spent / len(found), 2), learners, values)


def _behind(pairs: Sequence[tuple[Judged, Judged]]) -> float | None:
    """The probability that the first method is better than the second on other rows. Seeds split the same rows, so they
    are no further evidence: a row counts by how often it was told right."""
    if not pairs:
        return None
    first, second = (mean_of_known(np.stack([pair[side].right for pair in pairs])) for side in (0, 1))
    one = pairs[0][0]
    middle, error = gain(first, second, one.weight, one.unit)
    return chance(middle / error, int(one.unit.max()) + 1)
