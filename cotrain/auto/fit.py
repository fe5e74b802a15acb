"""`cotrain fit`: few labelled rows and many unlabelled ones in; the best model, a small one and an honest report out.

The steps: read and audit, make views, try learners out of fold, accept only what surely helps, form a committee,
estimate what it will do, calibrate, distil a student, report.
Legend: N rows, n labelled rows, m unlabelled rows, C classes.
"""

import math
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cotrain import __version__
from cotrain.auto import prior as priors
from cotrain.auto.advice import excerpt, label_next
from cotrain.auto.align import align
from cotrain.auto.audit import Audit, audit, overlap
from cotrain.auto.calibrate import calibration, conformal_threshold, soften, with_prior
from cotrain.auto.candidates import Candidate, candidates, named
from cotrain.auto.choose import Board, Choice, bootstrap, interval
from cotrain.auto.columns import Columns, infer
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.folds import make_folds
from cotrain.auto.labels import read_labels
from cotrain.auto.model import Member, Model, usable_rows
from cotrain.auto.read import Source, read
from cotrain.auto.search import Clock, search
from cotrain.auto.student import Student, distil, student_views
from cotrain.auto.trial import Trial
from cotrain.auto.views import Views, make_views
from cotrain.errors import InputError
from cotrain.views.view import View

Metric = Literal["auto", "accuracy", "balanced accuracy"]
ENOUGH = 3  # unlabelled rows per labelled one below which they are not asked
WORTH = 0.6  # of an independent row: out-of-fold rows share their training rows; set so that 90 % intervals cover 90 %


@dataclass
class Result:
    """What a fit gives."""

    model: Model
    student: Student
    report: "Report"
    folder: Path | None = None  # where it was saved

    def save(self, folder: Path | str) -> None:
        """Write `model/`, `student/`, `report.json` and `report.html`; all of them, or none where one fails.

        Raises:
            OSError, InputError: the folder cannot be written, or the disk is full.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".saving-", ignore_cleanup_errors=True) as new:
            self.model.save(Path(new, "model"))
            self.student.save(Path(new, "student"))
            self.report.save(new)
            for path in sorted(Path(new).iterdir()):
                place = folder / path.name
                if place.is_dir():
                    shutil.rmtree(place)
                path.replace(place)
        self.folder = folder

    def rescue(self, folder: Path | str) -> None:
        """Save it; where that fails, into a new folder among the temporary files, with a warning that says where."""
        try:
            return self.save(folder)
        except (OSError, InputError) as error:
            said = f"The result could not be saved to {folder} ({getattr(error, 'strerror', None) or error})"
        warnings = self.report["warnings"]
        try:
            elsewhere = mkdtemp(prefix="cotrain-")
            warnings.insert(0, f"{said}; it is in {elsewhere} instead.")
            self.save(elsewhere)
        except (OSError, InputError):
            warnings[0] = f"{said}, nor among the temporary files; it is lost when this program ends."


class Report:
    """What is known of a fit, as plain values."""

    def __init__(self, values: dict[str, Any]):
        self.values = values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def save(self, folder: Path | str) -> None:
        from cotrain.auto.report import save

        save(self.values, Path(folder))

    def to_html(self, file: Path | str) -> None:
        from cotrain.auto.report import render

        Path(file).write_text(render(self.values), encoding="utf-8")


@dataclass(frozen=True)
class Problem:
    """The rows in an order of their own (by content, so that the order in the file changes nothing)."""

    source: Source
    columns: Columns
    audit: Audit
    rows: np.ndarray  # the source's row of each row here
    frame: pd.DataFrame
    y: np.ndarray
    unit: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        return np.flatnonzero(self.y >= 0)

    @property
    def unlabelled(self) -> np.ndarray:
        return np.flatnonzero(self.y < 0)


def seconds(text: str | float) -> float:
    """`90`, `90s`, `3m`, `1h` as seconds.

    Raises:
        InputError: anything else, or nothing.
    """
    if isinstance(text, int | float):
        value, unit = float(text), 1
    else:
        units = {"s": 1, "m": 60, "h": 3600}
        unit = units.get(text[-1:].lower(), 0)
        try:
            value = float(text[:-1] if unit else text)
        except ValueError:
            value = -1.0
        unit = unit or 1
    if not value > 0:
        raise InputError(f"--budget takes a time such as 90s, 3m or 1h; not {text!r}.")
    return value * unit


def load(
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
) -> Problem:
    """Read and audit."""
    if target is None and y is None:
        raise InputError("Name the column of the labels: --target COL (or target=, or y with arrays).")
    source = read(data if y is None else (data, y))
    target = target or "target"
    columns = infer(
        source.frame, target=target, text=text, image=image, audio=audio, drop=drop, group=group, folder=source.folder
    )
    looked = audit(source, columns, unlabelled=unlabelled)
    frame = align(source.frame, columns)
    rows = np.flatnonzero(looked.usable)
    cells = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    rows = rows[np.lexsort((cells[rows], looked.y[rows], looked.content[rows]))]
    unit = looked.cluster
    if columns.group:
        unit = frame.groupby(list(columns.group), dropna=False).ngroup().to_numpy()
    return Problem(source, columns, looked, rows, frame.iloc[rows].reset_index(drop=True), looked.y[rows], unit[rows])


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
    test: Any = None,
    budget: str | float = "3m",
    coverage: float = 0.9,
    prior: str = "auto",
    metric: Metric = "auto",
    method: str | None = None,
    encoder: str | Sequence[str] = "auto",
    seed: int = 0,
    jobs: int = 2,
    out: Path | str | None = None,
) -> Result:
    """Fit on a table in which few rows have a label.

    Args:
        data: a path (CSV, TSV, Parquet, JSON lines, NPZ, or a folder with a labels.csv), a DataFrame, or an array X.
        y: labels for an array X; -1, None or NaN is unlabelled.
        target: the column of the labels; empty cells are unlabelled.
        text, image, audio: columns of that sort; what is not named is inferred.
        drop: columns to leave out. group: columns whose equal rows (a speaker, a patient) stay on one side of a fold.
        unlabelled: a value of the target that means "no label".
        test: a table like data with labels, on which the result is scored at the end.
        budget: time for everything, such as "3m".
        coverage: of the sets of classes that cannot be ruled out, 0..1.
        prior: shares of the classes in the population: "auto", "label", "uniform", or "a:0.1,b:0.9".
        metric: what is optimized; "auto" is accuracy, or balanced accuracy where a class is rare.
        method: try only these learners ("supervised", "emnb", "graph", "cotraining", ...).
        encoder: pretrained encoders as views: "auto" (what is on this disk), "none", a path or a name, or several.
        seed: of everything random. jobs: threads. out: folder for model, student and report.

    Raises:
        InputError: what was given cannot be used; the message says where and what to do.
    """
    clock = Clock(seconds(budget))
    if not 0 < coverage < 1:
        raise InputError(f"--coverage is a share between 0 and 1, such as 0.9; not {coverage:g}.")
    if out is not None:
        _check_folder(Path(out))
    problem = load(
        data, y, target=target, text=text, image=image, audio=audio, drop=drop, group=group, unlabelled=unlabelled
    )
    checked = None if test is None else read_test(test, problem, unlabelled)
    warnings = list(problem.audit.warnings) + (checked.warnings if checked else [])
    with threadpool_limits(max(1, jobs)), clock.interruptible(partial(_warn_first, warnings)):
        result = _fit(problem, checked, clock, coverage, prior, metric, method, encoder, seed, max(1, jobs), warnings)
        if out is not None:
            result.rescue(out)
    return result


def _fit(
    problem: Problem,
    test: "Test | None",
    clock: Clock,
    coverage: float,
    prior: str,
    metric: Metric,
    method: str | None,
    encoder: str | Sequence[str],
    seed: int,
    jobs: int,
    warnings: list[str],
) -> Result:
    classes = problem.audit.classes
    check_words(prior, metric, classes)
    encoders = find_encoders(encoder, problem, warnings, clock.left())
    views = make_views(problem.frame, problem.columns, problem.source.folder, encoders)
    tried, own = pick(views, method)
    features = Features(views.views, problem.frame, problem.y, seed)
    asked = may_ask(problem, warnings)
    if not asked:
        tried = [c for c in tried if not c.unlabelled] or tried
    seen = gather(problem, features, tried, asked, prior, metric, seed, clock, jobs, warnings)
    trials, board, shares, measure = seen.trials, seen.board, seen.prior, seen.metric
    choice = board.choose(unlabelled=asked)
    if method is not None:
        choice = _only(board, choice, own)
    if method is None and already_good(board, choice) and choice.used_unlabelled:
        choice = board.choose(unlabelled=False)
        warnings.append("The supervised result is nearly perfect already; the unlabelled rows were left alone.")

    everything = features.of(features.labelled, features.unlabelled)
    model = committee(board, choice.members, everything, problem, shares.shares, measure)
    supervised = committee(board, choice.supervised, everything, problem, shares.shares, measure)
    even_N = model.even(everything, np.arange(len(problem.y)))
    together = out_of_fold(board, choice.members)
    held = ~np.isnan(together[:, 0])
    said = with_prior(together[held], model.shares)
    truth = problem.y[problem.labelled][held]
    model.threshold = conformal_threshold(said, truth, coverage)
    if model.threshold is None:
        needed = int(np.ceil(1 / (1 - coverage))) - 1
        warnings.append(f"Sets with {coverage:.0%} coverage cannot be promised below {needed} labelled rows.")

    student, about_student = _distil(problem, views, model, even_N, clock, seed)
    chosen_score, supervised_score = bootstrap(board, asked and method is None, seed)
    if not np.isfinite(chosen_score) or method is not None:
        chosen_score = board.score(board.right(choice.members))
        supervised_score = board.score(board.right(choice.supervised))
    if not choice.used_unlabelled:
        chosen_score = supervised_score
    values = {
        "version": __version__,
        "command": _command(),
        "seed": seed,
        "data": problem.source.name,
        "target": problem.columns.target,
        "rows": {
            "labelled": len(problem.labelled),
            "unlabelled": len(problem.unlabelled),
            "test": 0 if test is None else len(test.y),
        },
        "classes": classes,
        "metric": measure,
        "supervised": asdict(interval(supervised_score, board.value, worth=WORTH)),
        "chosen": {
            "name": _name(board, choice),
            "members": [board.trials[m].candidate.name for m in choice.members],
            **asdict(interval(chosen_score, board.value, worth=WORTH)),
        },
        "p_helped": choice.p_helped,
        "used_unlabelled": choice.used_unlabelled,
        "prior": {
            "shares": dict(zip(classes, shares.shares.tolist(), strict=True)),
            "source": shares.source,
            "asked": prior,
        },
        "candidates": _table(trials, board, choice),
        "student": about_student | {"estimate": float(max(0.0, chosen_score - about_student.pop("loss")))},
        "audit": problem.audit.to_dict(),
        "columns": problem.columns.to_dict(),
        "calibration": calibration(said, truth),
        "confusion": _confusion(said, truth, len(classes)),
        "coverage": {"asked": coverage, "threshold": model.threshold},
        "slices": _slices(problem, board, choice),
        "suspicious": suspicious(problem, said, held, classes),
        "label_next": [],
        "settings": {"budget": clock.budget, "jobs": jobs, "folds": seen.folds, "method": method},
        "machine": {"python": platform.python_version(), "system": platform.system()},
        "test": None,
        "warnings": warnings,
    }
    values["label_next"] = label_next(model, problem.frame, problem.unlabelled, everything, 20, problem.rows)
    if test is not None:
        values["test"] = _score_test(test, model, supervised, student, measure, warnings)
    values["seconds"] = round(clock.spent, 2)
    return Result(model, student, Report(values))


@dataclass(frozen=True)
class Evidence:
    """What learners said of rows that they were not trained on, and what follows from it.

    trials: all, also those that were dropped. board: of those that ran. metric: what counts on this table.
    folds: how many were planned.
    """

    trials: list[Trial]
    board: Board
    prior: priors.Prior
    metric: str
    folds: int


def gather(
    problem: Problem,
    features: Features,
    tried: Sequence[Candidate],
    asked: bool,
    prior: str,
    metric: str,
    seed: int,
    clock: Clock,
    jobs: int,
    warnings: list[str],
) -> Evidence:
    """Try learners out of fold. `asked`: may the unlabelled rows have a say.

    Raises:
        InputError: nothing can be held out, or no learner could be trained.
    """
    counts = np.bincount(problem.y[problem.labelled], minlength=len(problem.audit.classes))
    folds = make_folds(problem.y, features.unlabelled, problem.unit, bool(problem.columns.group), seed)
    if not folds:
        raise InputError("No class has two labelled rows (or groups), so nothing can be held out; label more rows.")
    trials = search(
        tried, features, problem.y, folds, counts / counts.sum(), clock, jobs, partial(_warn_first, warnings)
    )
    return weigh(trials, problem, asked, prior, metric, len(folds))


def weigh(trials: list[Trial], problem: Problem, asked: bool, prior: str, metric: str, folds: int) -> Evidence:
    """What follows from trials. Raises InputError if none of a learner on labelled rows came to an end."""
    classes = problem.audit.classes
    counts = np.bincount(problem.y[problem.labelled], minlength=len(classes))
    running = [t for t in trials if t.estimator is not None]
    if all(t.candidate.unlabelled for t in running):
        raise InputError("No learner could be trained on this table: " + "; ".join(t.dropped for t in trials[:3]))
    first = make_board(running, problem, np.full(len(classes), 1 / len(classes)), "accuracy")
    found = _shares_of_unlabelled(first, asked)
    shares = priors.estimate(prior, classes, counts.astype(float), found)
    measure = _metric(metric, shares.shares if found is not None or prior != "auto" else counts / counts.sum())
    return Evidence(trials, make_board(running, problem, shares.shares, measure), shares, measure, folds)


def _warn_first(warnings: list[str], text: str) -> None:
    """What happened to the fit itself comes before what is odd about the table, and once."""
    if text not in warnings:
        warnings.insert(0, text)


def pick(views: Views, method: str | None) -> tuple[list[Candidate], set[str]]:
    """What is tried, and the names of those that --method asks for (all, if it asks for nothing)."""
    if method is None:
        found = candidates(views)
        return found, {candidate.name for candidate in found}
    known = named(views)
    wanted = [name.strip() for name in method.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"There is no method {unknown[0]!r} for this table; there are {', '.join(known)}.")
    found = [candidate for name in dict.fromkeys(wanted) for candidate in known[name]]
    own = {candidate.name for candidate in found}
    if all(candidate.unlabelled for candidate in found):  # what would be without the unlabelled rows is always asked
        found += known["supervised"]
    return list({candidate.name: candidate for candidate in found}.values()), own


def may_ask(problem: Problem, warnings: list[str]) -> bool:
    """Whether the unlabelled rows may have a say at all."""
    labelled, unlabelled = len(problem.labelled), len(problem.unlabelled)
    if unlabelled < ENOUGH * labelled:
        if unlabelled:
            warnings.append(
                f"There are fewer than {ENOUGH} unlabelled rows for a labelled one ({unlabelled:,} for {labelled:,}); "
                "they were not learnt from."
            )
        return False
    return True


def _shares_of_unlabelled(board: Board, asked: bool) -> np.ndarray | None:
    """The classes' shares among the unlabelled rows, where there is a committee that can be trusted to see them: one
    accepted on unlabelled rows, or one that is right four times out of five."""
    choice = board.choose(unlabelled=asked)
    said = [(board.trials[m].unlabelled, board.temperatures[m]) for m in choice.members]
    heard = [soften(unlabelled, heat) for unlabelled, heat in said if unlabelled is not None]
    if not heard or not (choice.used_unlabelled or board.score(board.right(choice.members)) >= 0.8):
        return None
    return priors.saerens(np.mean(heard, axis=0))


def check_words(prior: str, metric: str, classes: Sequence[str]) -> None:
    """Raises InputError, before anything is tried, for a prior or a metric that will not do."""
    even = np.ones(len(classes))
    priors.estimate(prior, classes, even, None)
    _metric(metric, even / len(classes))


def _metric(asked: str, shares: np.ndarray) -> str:
    """Accuracy, unless a class is so rare that saying never "it" would pay: then every class counts the same."""
    if asked != "auto":
        if asked not in ("accuracy", "balanced accuracy"):
            raise InputError(f"--metric is auto, accuracy or balanced accuracy; not {asked!r}.")
        return asked
    rare = shares.min() < 0.5 / len(shares) and shares.max() > 1.5 / len(shares)
    return "balanced accuracy" if rare else "accuracy"


def make_board(trials: Sequence[Trial], problem: Problem, shares: np.ndarray, metric: str) -> Board:
    y = problem.y[problem.labelled]
    classes = len(shares)
    value = np.ones(len(y))
    if metric == "balanced accuracy":
        value = 1 / np.bincount(y, minlength=classes)[y]
    decision = shares if metric == "accuracy" else np.full(classes, 1 / classes)
    return Board(trials, y, problem.unit[problem.labelled], decision, value / value.sum())


def _only(board: Board, choice: Choice, names: set[str]) -> Choice:
    """With --method the user has chosen: the committee is made of that method's learners, whatever they score."""
    own = [m for m, t in enumerate(board.trials) if t.candidate.name in names] or choice.supervised
    members = board.committee(own)
    used = any(board.trials[m].candidate.unlabelled for m in members)
    helped = board.surely_better(members, choice.supervised) if used else 0.0
    return Choice(members, choice.supervised, used, helped, choice.reasons, choice.accepted)


def already_good(board: Board, choice: Choice) -> bool:
    score = board.score(board.right(choice.supervised))
    return bool(score >= 0.98 and interval(score, board.value, worth=WORTH).low >= 0.95)


def committee(
    board: Board, members: Sequence[int], matrices: FoldFeatures, problem: Problem, shares: np.ndarray, metric: str
) -> Model:
    """The committee of these candidates as they were fitted on all rows."""
    trials = [(board.trials[m], board.temperatures[m]) for m in members]
    found = [Member(t.candidate.name, t.candidate.views, t.candidate.apart, t.estimator, heat) for t, heat in trials]
    used = dict.fromkeys(name for member in found for name in member.views)
    classes = problem.audit.classes
    stated = shares if metric == "accuracy" else np.full(len(classes), 1 / len(classes))
    return Model(problem.columns, {name: matrices.fitted(name) for name in used}, found, classes, stated)


def out_of_fold(board: Board, members: Sequence[int]) -> np.ndarray:
    """The committee's out-of-fold probabilities, averaged over repeats [n, C]; NaN where a row was never held out."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows that were never held out
        return np.nanmean(board.together(members), axis=0)


def _distil(
    problem: Problem, views: Views, model: Model, even_NC: np.ndarray, clock: Clock, seed: int
) -> tuple[Student, dict[str, Any]]:
    """A student of the committee, and how well it does what the committee does on rows it was not taught."""
    classes = problem.audit.classes
    target = with_prior(even_NC, model.shares)
    labelled = problem.labelled
    target[labelled] = np.eye(len(classes))[problem.y[labelled]]
    fresh = student_views(views.views, problem.columns, len(classes))
    if not fresh:
        raise InputError("No column is left that a small model could read.")
    rng = np.random.default_rng(seed)
    pool = problem.unlabelled if len(problem.unlabelled) >= 20 else np.arange(len(problem.y))
    checked = rng.permutation(pool)[: min(len(pool) // 5, 2_000)]
    taught = np.setdiff1d(np.arange(len(problem.y)), checked)
    extracted: dict[tuple, Any] = {}
    features = []
    for view in fresh.values():
        if view.source not in extracted:
            extracted[view.source] = view.extract(problem.frame)
        features.append(view.fit(extracted[view.source]).transform(extracted[view.source]))
    time_for_it = max(2.0, min(20.0, clock.left() / 3))
    trial = distil(fresh, [f[taught] for f in features], target[taught], problem.columns, classes, seed, time_for_it)
    agreement, loss = 1.0, 0.0
    if len(checked):
        said = trial.logits([f[checked] for f in features]).argmax(1)
        wanted = target[checked]
        agreement = float((said == wanted.argmax(1)).mean())
        # What the committee believes is lost where the student says something else.
        loss = float((wanted.max(1) - wanted[np.arange(len(said)), said]).mean())
    student = distil(fresh, features, target, problem.columns, classes, seed, time_for_it)
    some = problem.frame.iloc[: min(len(problem.frame), 500)]
    start = time.perf_counter()
    student.probabilities(some, problem.source.folder)
    rate = len(some) / max(time.perf_counter() - start, 1e-9)
    size = sum(w.nbytes for w in student.weights.values())
    size += sum(a.nbytes for view in student.views.values() for a in view.learned.values())
    return student, {
        "kind": student.kind,
        "bytes": int(size),
        "parameters": int(student.parameters),
        "agreement": agreement,
        "rows_per_second": round(rate, 1),
        "loss": loss,
    }


def _name(board: Board, choice: Choice) -> str:
    if len(choice.members) == 1:
        return board.trials[choice.members[0]].candidate.name
    return f"committee of {len(choice.members)}" + ("" if choice.used_unlabelled else ", supervised")


def _table(trials: Sequence[Trial], board: Board, choice: Choice) -> list[dict[str, Any]]:
    rows = []
    places = {id(t): m for m, t in enumerate(board.trials)}
    for trial in trials:
        row: dict[str, Any] = {
            "name": trial.candidate.name,
            "unlabelled": trial.candidate.unlabelled,
            "seconds": round(trial.seconds, 2),
        }
        m = places.get(id(trial))
        if m is None:
            nothing = dict.fromkeys(("estimate", "low", "high"))
            row |= nothing | {"accepted": False, "member": False, "reason": trial.dropped or "not run"}
        else:
            row |= asdict(interval(board.score(board.correct[m]), board.value, worth=WORTH))
            row |= {"accepted": choice.accepted[m], "member": m in choice.members, "reason": choice.reasons[m]}
        rows.append(row)
    return sorted(rows, key=lambda row: -(row["estimate"] or 0))


def _confusion(said: np.ndarray, truth: np.ndarray, classes: int) -> list[list[int]]:
    """Out-of-fold, truth by row, prediction by column."""
    flat = np.bincount(truth * classes + said.argmax(1), minlength=classes**2)
    return flat.reshape(classes, classes).tolist()


def _slices(problem: Problem, board: Board, choice: Choice) -> list[dict[str, Any]]:
    """Score in parts of the labelled rows with at least 20: short and long texts, groups."""
    right = board.right(choice.members)
    labelled = problem.labelled
    parts: list[tuple[str, np.ndarray]] = []
    for name in problem.columns.text:
        length = problem.frame[name].str.len().to_numpy()[labelled]
        middle = np.median(length)
        parts += [(f"{name}: up to {middle:.0f} characters", length <= middle), (f"{name}: longer", length > middle)]
    for name in problem.columns.group:
        values = problem.frame[name].to_numpy()[labelled]
        parts += [(f"{name} = {value}", values == value) for value in np.unique(values)]
    found = []
    for name, mask in parts:
        mask = mask & ~np.isnan(right)
        if mask.sum() >= 20:
            found.append({"name": name, "rows": int(mask.sum()), "accuracy": float(right[mask].mean())})
    return found


def suspicious(
    problem: Problem, said: np.ndarray, held: np.ndarray, classes: list[str], most: int = 20
) -> list[dict[str, Any]]:
    """Labels that the committee, which had not seen them, finds very unlikely."""
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
        if other[i] != given[i] and own[i] < 0.2 and said[i].max() > 0.7
    ]


@dataclass(frozen=True)
class Test:
    """A table with labels, apart."""

    frame: pd.DataFrame
    folder: Path
    y: np.ndarray
    repeated: int
    warnings: list[str]


def read_test(test: Any, problem: Problem, unlabelled: str | None) -> Test:
    """Raises InputError: no labels in it, or labels of classes that were not in training."""
    source = read(test)
    target = problem.columns.target
    if target not in source.frame.columns:
        raise InputError(f"{source.name} has no column {target!r}; a test table has the labels in it.")
    labels = read_labels(source.frame[target], unlabelled)
    classes = problem.audit.classes
    codes = labels.codes(classes)
    strange = sorted({str(v) for v in labels.values[(codes < 0) & labels.known]})
    if strange:
        named = ", ".join(strange[:5])
        raise InputError(f"{source.name}: column {target!r} has classes that no training row has: {named}.")
    said = list(source.warnings)
    frame = align(source.frame, problem.columns, said)
    usable = usable_rows(source, frame, problem.columns, said)
    rows = np.flatnonzero((codes >= 0) & usable)
    if not len(rows):
        raise InputError(f"{source.name}: no row has a label in column {target!r}; a test table has the labels in it.")
    repeated = int(np.isin(overlap(problem.source, source, problem.columns), rows).sum())
    warnings = [f"{source.name} (test): {warning}" for warning in said]
    return Test(frame.iloc[rows].reset_index(drop=True), source.folder, codes[rows], repeated, warnings)


def _score_test(
    test: Test, model: Model, supervised: Model, student: Student, metric: str, warnings: list[str]
) -> dict[str, Any]:
    if test.repeated:
        warnings.append(
            f"{test.repeated:,} of {len(test.y):,} test rows hold the same as a training row; the test score flatters."
        )
    folder = test.folder
    scores = {
        name: score(who.probabilities(test.frame, folder), test.y, metric)
        for name, who in (("supervised", supervised), ("chosen", model), ("student", student))
    }
    predicted = model.probabilities(test.frame, folder).argmax(1)
    never = [name for code, name in enumerate(model.classes) if not (predicted == code).any()]
    if never:
        warnings.append(f"Never predicted on the test rows: {', '.join(never)}.")
    return {"metric": metric, "rows": len(test.y), "repeated": test.repeated, **scores}


def score(probability: np.ndarray, y: np.ndarray, metric: str) -> float:
    right = probability.argmax(1) == y
    if metric == "balanced accuracy":
        return float(np.mean([right[y == c].mean() for c in np.unique(y)]))
    return float(right.mean())


def find_encoders(
    encoder: str | Sequence[str], problem: Problem, warnings: list[str], left: float = math.inf
) -> list[View]:
    wanted = [encoder] if isinstance(encoder, str) else list(encoder)
    if "none" in wanted:
        return []
    from cotrain.auto.encoders import encoder_views

    return encoder_views(wanted, problem.frame, problem.columns, problem.source.folder, left, warnings)


def _check_folder(folder: Path) -> None:
    """Before hours of work: can the result be written? Leaves nothing behind."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with TemporaryDirectory(dir=there, prefix=".writable-"):
            pass
    except OSError as error:
        raise InputError(f"--out {folder}: nothing can be written there ({error.strerror or error}).") from error


def _command() -> str:
    return " ".join(["cotrain", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("cotrain", "cli") else "cotrain.fit(...)"
