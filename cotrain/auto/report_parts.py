"""The parts of the report that are read off the evidence, and the score on a test table.

Legend: n labelled rows, C classes.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cotrain.auto.choose import Board, Choice
from cotrain.auto.findings import NOT_RUN
from cotrain.auto.label_next import excerpt
from cotrain.auto.model import Model
from cotrain.auto.problem import Problem, TestTable
from cotrain.auto.scores import interval
from cotrain.auto.student import Student
from cotrain.auto.trial import Trial

UNLIKELY, LIKELY = 0.2, 0.7  # probabilities of a label and of another class from which the label is in doubt
SLICE = 20  # labelled rows in a part of which a score is told


def name_of(board: Board, choice: Choice) -> str:
    if len(choice.members) == 1:
        return board.trials[choice.members[0]].candidate.name
    return f"committee of {len(choice.members)}" + ("" if choice.used_unlabelled else ", supervised")


def members_by_column(board: Board, choice: Choice) -> dict[str, list[str]]:
    """The members by the sort of columns that they read."""
    found: dict[str, list[str]] = {}
    for candidate in (board.trials[m].candidate for m in choice.members):
        found.setdefault(candidate.modality, []).append(candidate.name)
    return found


def candidates(trials: Sequence[Trial], board: Board, choice: Choice) -> list[dict[str, Any]]:
    rows = []
    places = {id(t): m for m, t in enumerate(board.trials)}
    for trial in trials:
        row: dict[str, Any] = {
            "name": trial.candidate.name,
            "unlabelled": trial.candidate.unlabelled,
            "seconds": round(trial.seconds, 2),
        }
        if trial.silent:
            row["silent"] = True
        if trial.folds:
            row["folds"] = trial.folds
        m = places.get(id(trial))
        if m is None:
            nothing = dict.fromkeys(("estimate", "low", "high"))
            row |= nothing | {"accepted": False, "member": False, "reason": trial.dropped or NOT_RUN}
        else:
            row |= asdict(board.interval(board.estimate(board.correct[m]), board.correct[m]))
            row |= {"accepted": choice.accepted[m], "member": m in choice.members, "reason": choice.reasons[m]}
        rows.append(row)
    return sorted(rows, key=lambda row: -(row["estimate"] or 0))


def confusion(said: np.ndarray, truth: np.ndarray, classes: int) -> list[list[int]]:
    """Out-of-fold, truth by row, prediction by column."""
    flat = np.bincount(truth * classes + said.argmax(1), minlength=classes**2)
    return flat.reshape(classes, classes).tolist()


def slices(problem: Problem, board: Board, choice: Choice) -> list[dict[str, Any]]:
    """Score in parts of the labelled rows with at least SLICE: short and long texts, groups."""
    right = board.right(choice.members)
    labelled = problem.labelled
    parts: list[tuple[str, np.ndarray]] = []
    for name in problem.columns.text:
        length = problem.frame[name].str.len().to_numpy()[labelled]
        middle = np.median(length)
        parts += [(f"{name}: up to {middle:.0f} characters", length <= middle), (f"{name}: longer", length > middle)]
    for name in problem.columns.group:
        values = problem.frame[name].to_numpy()[labelled]
        groups, counts = np.unique(values[~np.isnan(right)], return_counts=True)
        parts += [(f"{name} = {value}", values == value) for value in groups[counts >= SLICE]]
    found = []
    for name, mask in parts:
        mask = mask & ~np.isnan(right)
        if mask.sum() >= SLICE:
            found.append({"name": name, "rows": int(mask.sum()), "accuracy": float(right[mask].mean())})
    return found


def suspicious(
    problem: Problem, said: np.ndarray, held: np.ndarray, classes: list[str], most: int = 20
) -> list[dict[str, Any]]:
    """Labels that the committee, which had not seen them, finds very unlikely. said: probabilities of the held rows for
    the classes' shares among labelled rows, for a label is wrong or right where classes are as common as there."""
    rows = problem.labelled[held]
    given = problem.y[rows]
    own = said[np.arange(len(rows)), given]
    other = said.argmax(1)
    order = np.argsort(own - said.max(1), kind="stable")
    return [
        {
            "row": int(problem.rows[rows[i]]) + 1,
            "where": problem.source.row_label(int(problem.rows[rows[i]])),
            "label": classes[given[i]],
            "rather": classes[other[i]],
            "probability": float(own[i]),
            "shown": excerpt(problem.frame.iloc[rows[i]], problem.columns),
        }
        for i in order[:most]
        if other[i] != given[i] and own[i] < UNLIKELY and said[i].max() > LIKELY
    ]


def score_test(
    test: TestTable, model: Model, supervised: Model, student: Student, metric: str, warnings: list[str]
) -> dict[str, Any]:
    if test.repeated:
        warnings.append(
            f"{test.repeated:,} of {len(test.y):,} test rows hold the same as a training row; the test score flatters."
        )
    known: dict[tuple[Any, ...], Any] = {}  # the three read the same rows
    said = {
        name: who.probabilities(test.frame, test.folder, known)
        for name, who in (("supervised", supervised), ("chosen", model), ("student", student))
    }
    scores = {name: score(probability, test.y, metric) for name, probability in said.items()}
    span = interval(scores["chosen"], row_weights(test.y, metric))
    never = [name for code, name in enumerate(model.classes) if not (said["chosen"].argmax(1) == code).any()]
    if never:
        warnings.append(f"Never predicted on the test rows: {', '.join(never)}.")
    return {
        "metric": metric,
        "rows": len(test.y),
        "repeated": test.repeated,
        **scores,
        "low": span.low,
        "high": span.high,
    }


def score(probability: np.ndarray, y: np.ndarray, metric: str) -> float:
    return float(row_weights(y, metric) @ (probability.argmax(1) == y))


def row_weights(y: np.ndarray, metric: str) -> np.ndarray:
    """What each row counts in a score [n], sums to 1: all the same, or all classes the same."""
    if metric == "accuracy":
        return np.full(len(y), 1 / len(y))
    _, code, counts = np.unique(y, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[code])


def command() -> str:
    """What the user typed; `cotrain.fit(...)` where a program called."""
    program = Path(sys.argv[0])
    own = program.stem == "cotrain" or (program.stem == "__main__" and program.parent.name == "cotrain")
    return shlex.join(["cotrain", *sys.argv[1:]]) if own else "cotrain.fit(...)"
