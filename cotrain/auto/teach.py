"""The committee teaches a student, and what is lost by it is measured.

Legend: N rows, C classes.
"""

import time
from typing import Any

import numpy as np
from scipy import sparse

from cotrain.auto.calibrate import with_prior
from cotrain.auto.evidence import Setup
from cotrain.auto.model import Model, Predictor
from cotrain.auto.pace import Pace
from cotrain.auto.problem import Problem
from cotrain.auto.student import Student, distil, student_views
from cotrain.auto.views import Views
from cotrain.errors import InputError
from cotrain.views.view import extract_each

CHECKED = 2_000  # rows at most on which a student is checked
LEAST_SHARE = 0.001  # share of a class for which its rows count most
FIRST, MANY = 20, 1_000  # rows on which the pace of a model is measured
LONG = 0.5  # seconds for that


def teach(
    setup: Setup,
    views: Views,
    model: Model,
    even_NC: np.ndarray,
    unseen_NC: np.ndarray,
    shares_C: np.ndarray | None = None,
) -> tuple[Student, dict[str, Any], float | None]:
    """A student of the committee; what the report says of it; and the score that it loses against the committee on rows
    that it was not taught, None where no row could be kept from it.

    `even_NC`: what the committee says of the rows, for equal shares; `unseen_NC`: and of labelled rows that it had not
    seen either, NaN where there is no such answer.
    `shares_C`: where all classes shall count the same, their shares among the rows. Rows of rare classes then count as
    often as those of common ones, as if as many rows of each class had been drawn.
    """
    problem, seed = setup.problem, setup.seed
    classes = problem.audit.classes
    target = with_prior(even_NC, model.shares)
    labelled = problem.labelled
    target[labelled] = np.eye(len(classes))[problem.y[labelled]]
    weight = None if shares_C is None else 1 / np.maximum(target @ shares_C, LEAST_SHARE) / len(classes)

    def of(rows: np.ndarray) -> np.ndarray | None:
        return None if weight is None else weight[rows]

    fresh = student_views(views.views, problem.columns, len(classes), model.views)
    if not fresh:
        raise InputError("No column is left that a small model could read.")
    checked, taught = _parted(problem, np.random.default_rng(seed))
    raw = extract_each(fresh, problem.frame, setup.features.extracted)
    matrices = {name: view.fit(raw[name]).transform(raw[name]) for name, view in fresh.items()}
    time_for_it = max(2.0, min(20.0, setup.clock.left() / 3))
    read, how, agreement, loss, before = list(fresh), False, None, None, None
    checked = checked[~np.isnan(unseen_NC[checked, 0])]
    if len(checked):
        wanted = with_prior(unseen_NC[checked], model.shares)
        found: list[tuple[float, list[str], bool, float, Student]] = []
        ways = _ways(matrices)
        pace = Pace(len(ways) + 1, setup.clock.left)  # and the student of all rows
        for names, mixed in ways:
            if not pace.will_do() and found:
                break
            own, part = {name: fresh[name] for name in names}, [matrices[name][taught] for name in names]
            trial = distil(
                own, part, target[taught], problem.columns, classes, seed, time_for_it, mixed, weight_N=of(taught)
            )
            said = trial.logits([matrices[name][checked] for name in names]).argmax(1)
            # What the committee believes is lost where the student says something else.
            lost = float(np.average(wanted.max(1) - wanted[np.arange(len(said)), said], weights=of(checked)))
            found.append((lost, names, mixed, float((said == wanted.argmax(1)).mean()), trial))
        loss, read, how, agreement, before = min(found, key=lambda each: each[0])  # of equal ones the first
    own, part = {name: fresh[name] for name in read}, [matrices[name] for name in read]
    student = distil(own, part, target, problem.columns, classes, seed, time_for_it, how, before, weight)
    size = sum(w.nbytes for w in student.weights.values())
    size += sum(a.nbytes for view in student.views.values() for a in view.learned.values())
    about = {
        "kind": student.kind,
        "bytes": int(size),
        "parameters": int(student.parameters),
        "agreement": agreement,
        "rows_per_second": speed(student, problem),
    }
    return student, about, loss


def _ways(matrices: dict[str, Any]) -> list[tuple[list[str], bool]]:
    """The views that a student may read, and whether it is taught mixtures of rows: all views; or all but edges, whose
    hundreds of numbers drown what pixels show where the classes differ in brightness only, and but steps, which hide
    from a net that rows far apart differ more."""
    plain = [name for name in matrices if not name.startswith(("edges", "steps"))]
    mixtures = (False,) if any(sparse.issparse(x) for x in matrices.values()) else (False, True)
    sets = [list(matrices)] + ([plain] if 0 < len(plain) < len(matrices) else [])
    return [(names, mixed) for names in sets for mixed in mixtures]


def speed(model: Predictor, problem: Problem) -> float:
    """Rows a second, with the reading of files: of as many as find time by the pace of the first ones, for which some
    things are done once; or of these, where they take longer (sounds)."""

    def rate(count: int) -> float:
        some = problem.frame.iloc[:count]
        start = time.perf_counter()
        model.probabilities(some, problem.source.folder)
        return len(some) / max(time.perf_counter() - start, 1e-9)

    first = rate(FIRST)
    return round(rate(min(MANY, int(first * LONG))) if first * LONG > FIRST else first, 1)


def _parted(problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows on which a student is checked, a fifth of the unlabelled ones, and those that teach it. Where rows belong to
    groups, the rows of whole groups are checked and those of all others teach: rows to come are of new groups."""
    every = np.arange(len(problem.y))
    pool = problem.unlabelled if len(problem.unlabelled) >= 20 else every
    groups, sizes = np.unique(problem.unit[pool], return_counts=True)
    if not problem.grouped or len(groups) < 3:
        checked = rng.permutation(pool)[: min(len(pool) // 5, CHECKED)]
        return checked, np.setdiff1d(every, checked)
    groups, sizes = groups[sizes <= len(pool) / 2], sizes[sizes <= len(pool) / 2]  # most of the rows teach
    order = rng.permutation(len(groups))
    drawn = groups[order[: 1 + np.searchsorted(sizes[order].cumsum(), len(pool) / 5)]]
    away = np.isin(problem.unit, drawn)
    return rng.permutation(pool[away[pool]])[:CHECKED], every[~away]
