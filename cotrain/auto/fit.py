"""`cotrain fit`: few labelled rows and many unlabelled ones in; the best model, a small one and an honest report out.

The steps: read and audit, make views, try learners out of fold, accept only what surely helps, form a committee,
estimate what it will do, calibrate, distil a student, report.
Legend: N rows, n labelled rows, m unlabelled rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from cotrain import __version__
from cotrain.auto import report_parts
from cotrain.auto.calibrate import calibration, conformal_threshold, with_prior
from cotrain.auto.candidates import Candidate
from cotrain.auto.choose import Board, Choice, bootstrap
from cotrain.auto.evidence import (
    Setup,
    after_lessons,
    board_of,
    check_seed_and_jobs,
    check_words,
    decide,
    gather,
    may_ask,
    only,
    out_of_fold,
    pick,
    warn_first,
)
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.further import look_further
from cotrain.auto.label_next import label_next
from cotrain.auto.machine import machine
from cotrain.auto.model import Member, Model
from cotrain.auto.prior import Asked
from cotrain.auto.problem import Problem, TestTable, load, read_test
from cotrain.auto.read import read
from cotrain.auto.result import FitReport, Result, check_folder
from cotrain.auto.search import Clock, seconds
from cotrain.auto.shift import find_shift
from cotrain.auto.teach import speed, teach
from cotrain.auto.views import Views, find_views
from cotrain.auto.wording import listing
from cotrain.errors import InputError

Metric = Literal["auto", "accuracy", "balanced accuracy"]


def fit(
    data: Any,
    y: Any = None,
    *,
    target: str | None = None,
    text: str | Sequence[str] = (),
    image: str | Sequence[str] = (),
    audio: str | Sequence[str] = (),
    drop: str | Sequence[str] = (),
    group: str | Sequence[str] = (),
    unlabelled: str | None = None,
    more: Any = (),
    test: Any = None,
    budget: str | float = "3m",
    coverage: float = 0.9,
    prior: Asked = "auto",
    metric: Metric = "auto",
    method: str | None = None,
    encoder: str | Sequence[str] = "auto",
    seed: int = 0,
    jobs: int = 2,
    out: Path | str | None = None,
) -> Result:
    """Fit on a table in which few rows have a label.

    Args:
        data: a path (CSV, TSV, Parquet, Feather, JSON lines, NPZ, or a folder with a labels.csv or a subfolder for each
            class), a table in memory (DataFrame, Arrow, Polars, a dict of columns, a list of dicts, an
            array of records), or an array X.
        y: labels for an array X; -1, None or NaN is unlabelled.
        target: the column of the labels; empty cells are unlabelled. A folder without a table has "label".
        text, image, audio: columns of that sort; what is not named is inferred.
        drop: columns to leave out. group: columns whose equal rows (a speaker, a patient) stay on one side of a fold.
        unlabelled: a value of the target that means "no label".
        more: another table, or several, whose rows count as if they stood in data; the target may be missing there.
        test: a table like data with labels, on which the result is scored at the end.
        budget: time for everything, such as "3m".
        coverage: of the sets of classes that cannot be ruled out, 0..1.
        prior: shares of the classes in the population: "auto", "label", "uniform", "a:0.1,b:0.9" or
            {"a": 0.1, "b": 0.9}.
        metric: what is optimized; "auto" is accuracy, or balanced accuracy where a class is rare.
        method: try only these learners ("supervised", "emnb", "graph", "cotraining", ...).
        encoder: pretrained encoders as views: "auto" (what is on this disk), "none", a path or a name, or several.
        seed: of everything random. jobs: threads. out: folder for model, student and report.

    Raises:
        InputError: what was given cannot be used; the message says where and what to do.
    """
    clock = Clock(seconds(budget))
    if not isinstance(coverage, Real) or not 0 < coverage < 1:
        raise InputError(f"--coverage is a share between 0 and 1, such as 0.9; not {coverage!r}.")
    check_seed_and_jobs(seed, jobs)
    if out is not None:
        check_folder(out)
    tested = None if test is None else read(test)
    problem = load(
        data,
        y,
        target=target,
        text=text,
        image=image,
        audio=audio,
        drop=drop,
        group=group,
        unlabelled=unlabelled,
        more=more,
        test=tested,
        seconds=clock.budget,
    )
    checked = None if tested is None else read_test(tested, problem, unlabelled)
    warnings = list(problem.audit.warnings) + (checked.warnings if checked else [])
    with clock.interruptible(partial(warn_first, warnings)):
        check_words(prior, metric, problem.audit.classes)
        views = find_views(encoder, problem, warnings, clock.left(), jobs)
        picked = pick(views, method)
        features = Features(views.views, problem.frame, problem.y, jobs)
        use_unlabelled = may_ask(problem, warnings, method)
        setup = Setup(problem, features, prior, metric, seed, jobs, clock, use_unlabelled, warnings)
        with threadpool_limits(1):  # from now on what runs at the same time is learners and views, see `workers`
            result = _fit(setup, checked, views, picked, coverage, method)
        if out is not None:
            result.rescue(out)
    return result


def _fit(
    setup: Setup,
    test: TestTable | None,
    views: Views,
    picked: tuple[list[Candidate], set[str]],
    coverage: float,
    method: str | None,
) -> Result:
    problem, features, seed, warnings = setup.problem, setup.features, setup.seed, setup.warnings
    classes, (tried, own) = problem.audit.classes, picked
    if not setup.use_unlabelled:
        tried = [c for c in tried if not c.unlabelled] or tried
        if method is not None and own.isdisjoint(candidate.name for candidate in tried):
            warnings.append(
                f"--method {method} needs unlabelled rows, and there are none; the supervised result stands."
            )
    seen = gather(setup, tried)
    seen = after_lessons(setup, seen) if method is None else seen
    board, prior, measure = seen.board, seen.prior, seen.metric
    if measure == "balanced accuracy" and setup.metric == "auto" and prior.given:
        warnings.append(
            "With the class shares that were given, one class is rare, so every class counts the same and predictions "
            "do not lean to common classes; --metric accuracy makes them."
        )
    if method is None:
        choice = decide(board, setup.use_unlabelled, warnings)
    else:
        choice = only(board, board.choose(unlabelled=setup.use_unlabelled), own)
    everything = features.of(features.labelled, features.unlabelled)
    shift = find_shift(problem, features, everything, board, choice.members, seed) if setup.use_unlabelled else None
    if shift is not None and shift.apart:
        warnings.append(shift.warning(choice.used_unlabelled, problem.grouped))

    model = committee(board, choice.members, everything, problem, prior.shares, measure)
    supervised = committee(board, choice.supervised, everything, problem, prior.shares, measure)
    together = out_of_fold(board, choice.members)
    held = ~np.isnan(together[:, 0])
    said = with_prior(together[held], model.shares)
    truth = problem.y[problem.labelled][held]
    model.threshold = conformal_threshold(said, truth, coverage, prior.shares)
    if model.threshold is None:
        needed = next(n for n in count(1) if np.ceil((n + 1) * coverage) <= n)
        warnings.append(f"Sets with {100 * coverage:g}% coverage need at least {needed:,} held-out labelled rows.")
    warnings += unjudged(problem, truth)

    even_NC = model.even(everything, np.arange(len(problem.y)))
    unseen_NC = even_NC.copy()
    unseen_NC[problem.labelled] = together
    uneven = prior.shares if measure == "balanced accuracy" else None
    student, about_student, loss = teach(setup, views, model, even_NC, unseen_NC, uneven)
    own_board = None if method is None else board_of(seen.trials, own, problem, prior, measure)
    chosen_score, supervised_score = _corrected(setup, board, choice, method, own_board)
    chosen_right, supervised_right = board.rights(choice)
    values: dict[str, Any] = {
        "version": __version__,
        "command": report_parts.command(),
        "seed": seed,
        "data": problem.source.name,
        "target": problem.columns.target,
        "rows": {
            "labelled": len(problem.labelled),
            "unlabelled": problem.without_label,
            "test": 0 if test is None else len(test.y),
        },
        "classes": classes,
        "metric": measure,
        "supervised": asdict(board.interval(supervised_score, supervised_right)),
        "chosen": {
            "name": report_parts.name_of(board, choice),
            "members": [board.trials[m].candidate.name for m in choice.members],
            "parts": report_parts.members_by_column(board, choice),
            **asdict(board.interval(chosen_score, chosen_right)),
        },
        "model": {"rows_per_second": speed(model, problem)},
        "p_helped": choice.p_helped,
        "used_unlabelled": choice.used_unlabelled,
        "prior": {
            "shares": dict(zip(classes, prior.shares.tolist(), strict=True)),
            "source": prior.source,
            "asked": setup.prior,
        },
        "candidates": report_parts.candidates(seen.trials, board, choice),
        "student": about_student | {"estimate": None if loss is None else max(0.0, chosen_score - loss)},
        "audit": problem.audit.to_dict(),
        "columns": problem.columns.to_dict(),
        "calibration": calibration(said, truth, board.stands_for[held]),
        "confusion": report_parts.confusion(said, truth, len(classes)),
        "coverage": {"asked": coverage, "threshold": model.threshold},
        "slices": report_parts.slices(problem, board, choice),
        "suspicious": report_parts.suspicious(problem, with_prior(together[held], board.label_shares), held, classes),
        "settings": {
            "budget": setup.clock.budget,
            "jobs": setup.jobs,
            "folds": len(seen.folds),
            "method": method,
            "asked": setup.use_unlabelled,
        },
        "shift": None if shift is None else asdict(shift) | {"apart": shift.apart},
        "machine": machine(),
        "test": None,
        "warnings": warnings,
    }
    values["label_next"] = label_next(model, problem.frame, problem.unlabelled, everything, 20, problem.rows)
    for item in [*values["label_next"], *values["suspicious"]]:
        if place := problem.source.place(item["row"] - 1):
            item["file"] = place
    if test is not None:
        values["test"] = report_parts.score_test(test, model, supervised, student, measure, warnings)
    values |= look_further(setup, everything, seen, choice)
    values["seconds"] = round(setup.clock.spent, 2)
    return Result(model, student, FitReport(values))


def _corrected(
    setup: Setup, board: Board, choice: Choice, method: str | None, own_board: Board | None
) -> tuple[float, float]:
    """The scores of the result and of the supervised committee, corrected for having chosen the luckiest learners; as
    they are out of fold where no draw can tell the luck. own_board: of the learners of a method that was named."""
    chosen, supervised = bootstrap(board, setup.use_unlabelled and method is None, setup.seed)
    if own_board is not None:
        chosen = bootstrap(own_board, False, setup.seed)[1]
    scores = [
        score if np.isfinite(score) else board.estimate(right)
        for score, right in zip((chosen, supervised), board.rights(choice), strict=True)
    ]
    return scores[0] if choice.used_unlabelled else scores[1], scores[1]


def unjudged(problem: Problem, held: np.ndarray) -> list[str]:
    """Warnings of classes with several labels of which none was held out. held: the classes of rows that were."""
    y, unit, copies = (each[problem.labelled] for each in (problem.y, problem.unit, problem.copies))
    alone: list[str] = []
    others: list[str] = []
    for code in np.setdiff1d(np.flatnonzero(np.bincount(y) > 1), held):
        own = y == code
        one = min(len(np.unique(unit[own])), len(np.unique(copies[own]))) == 1
        (alone if one else others).append(repr(problem.audit.classes[code]))
    found = []
    if alone:
        found.append(
            f"The labelled rows of {_classes(alone)} are all of one group or copies of each other, so none can be held "
            "out: the estimates say nothing of them."
        )
    if others:
        found.append(
            f"No labelled row of {_classes(others)} was among those that were held out: the estimates say nothing of "
            "them."
        )
    return found


def _classes(names: list[str]) -> str:
    return ("class " if len(names) == 1 else "each of the classes ") + listing(names)


def committee(
    board: Board, members: Sequence[int], matrices: FoldFeatures, problem: Problem, shares: np.ndarray, metric: str
) -> Model:
    """The committee of these candidates as they were fitted on all rows."""
    trials = [(board.trials[m], board.temperatures[m]) for m in members]
    found = [
        Member(t.candidate.name, t.candidate.views, t.candidate.apart, t.estimator, temperature)
        for t, temperature in trials
    ]
    used = dict.fromkeys(name for member in found for name in member.views)
    classes = problem.audit.classes
    stated = shares if metric == "accuracy" else np.full(len(classes), 1 / len(classes))
    fitted = {name: matrices.fitted(name) for name in used}
    return Model(problem.columns, fitted, found, classes, stated, blend=board.blend(members))
