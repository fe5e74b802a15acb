"""Looks at a table before anything is learnt from it: labels, duplicates, conflicts, gaps, leaks, broken files."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from cotrain.auto.afford import beyond
from cotrain.auto.align import align
from cotrain.auto.columns import Columns, unknown_column
from cotrain.auto.dates import MONTH, orders_shown
from cotrain.auto.duplicates import hash_content, repeats_by_nature
from cotrain.auto.labels import Labels, read_labels
from cotrain.auto.leaks import find_leaks
from cotrain.auto.media import check_media, media_paths, refuse_or_warn
from cotrain.auto.read import Source
from cotrain.auto.wording import SHOWN, listing
from cotrain.auto.written import read_written
from cotrain.errors import InputError
from cotrain.views.text import LONGEST

MANY_CATEGORIES = 1_000
_LISTED = 50  # conflicts kept with their rows


@dataclass(frozen=True, eq=False)
class Audit:
    """What a look at a table found. Arrays have one entry a row, in the order of the source.

    y: int64, the place of the label in `classes`, -1 for rows without one. usable: bool, False for rows whose files are
    missing or broken; these have no label here and are to be left out. content: uint64, a hash of what the row holds.
    cluster: int64, rows of one number hold the same and belong on one side of a fold. counts: labelled rows by class.
    conflicts: groups of rows that hold the same and differ in their label, the first of `conflict_groups`, as
        {"rows": [...], "where": [...], "labels": [...]}; rows count from 1.
    repeated_unlabelled: labelled rows whose content is also there unlabelled. missing, infinite, empty_texts,
    long_texts, categories: numbers of cells (of values, for categories) by column. leaks: accuracy by column.
    """

    rows: int
    y: np.ndarray
    usable: np.ndarray
    content: np.ndarray
    cluster: np.ndarray
    classes: list[str]
    counts: dict[str, int]
    duplicates: int = 0
    near_duplicates: int = 0
    conflicts: list[dict[str, list]] = field(default_factory=list)
    conflict_groups: int = 0
    repeated_unlabelled: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    infinite: dict[str, int] = field(default_factory=dict)
    empty_texts: dict[str, int] = field(default_factory=dict)
    long_texts: dict[str, int] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    leaks: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> np.ndarray:
        """bool [N]."""
        return self.y >= 0

    @property
    def unlabelled(self) -> np.ndarray:
        """bool [N]: usable rows without a label."""
        return self.usable & ~self.labelled

    def to_dict(self) -> dict[str, Any]:
        """Plain values without the arrays, for JSON."""
        names = (
            "rows classes counts duplicates near_duplicates conflicts conflict_groups repeated_unlabelled missing "
            "infinite empty_texts long_texts categories leaks warnings"
        )
        plain = {name: getattr(self, name) for name in names.split()}
        numbers = {"labelled": self.labelled, "unlabelled": self.unlabelled, "left_out": ~self.usable}
        return plain | {name: int(mask.sum()) for name, mask in numbers.items()}


def audit(source: Source, columns: Columns, *, unlabelled: str | None = None, seconds: float = math.inf) -> Audit:
    """Looks at a table; what is odd becomes a warning, in words.

    unlabelled: the cell of the target column that stands for "no label", beside empty cells. seconds: for everything
    that is done with the table; where its files are too many for that, unlabelled rows are left out.

    Raises InputError: no labels, one class only, more than half of the files missing or broken.
    """
    warnings = list(source.warnings)
    warnings += _left_out(columns.dropped)
    warnings += _read_as_numbers(source.frame, columns)
    warnings += columns.hints
    if columns.target not in source.frame.columns:
        raise InputError(unknown_column(columns.target, source.frame.columns))
    aligned: list[str] = []
    frame = align(source.frame, replace(columns, longest=None), aligned)  # texts differ by all of their characters
    labels = read_labels(source.frame[columns.target], unlabelled)
    unread, said = beyond(frame, columns, source.folder, labels.known, seconds)
    usable, files = _check_files(source, frame, columns, warnings, ~unread)
    if said:
        warnings.append(said)
    warnings += labels.warnings
    given = labels.known & usable
    _refuse(labels, given, source, columns.target)
    left = set(labels.values[given])
    classes = [name for name in labels.classes if name in left]
    y = np.where(usable, labels.codes(classes), -1)
    counts = dict(zip(classes, np.bincount(y[given], minlength=len(classes)).tolist()))
    warnings += _count_warnings(y, usable, classes, counts, source)

    content = hash_content(frame, columns, files)
    by_nature = repeats_by_nature(frame, columns, content.near)
    cluster = np.unique(content.unit, return_inverse=True)[1].astype(np.int64)
    if by_nature:
        cluster = np.argsort(np.lexsort((content.exact, y, content.near)))  # each by itself, in an order of content
    told = usable & ~content.blank
    conflicts, groups, conflicting = (
        ([], 0, 0) if by_nature else _conflicts(content.near, y, told, labels.values, source)
    )
    repeated = 0 if by_nature else int(np.isin(content.near[told & (y >= 0)], content.near[told & (y < 0)]).sum())
    exact, near = _repeats(content.exact[told]), _repeats(content.near[told])
    warnings += _duplicate_warnings(exact, near - exact, conflicts, conflicting, repeated, by_nature)
    if content.blank.any():
        rows = _rows(np.flatnonzero(content.blank), source)
        warnings.append(f"Rows in which every column is empty: {int(content.blank.sum()):,} ({rows}).")

    missing = {own: _missing(frame[name]) for name, own in columns.own.items()}
    infinite = {name: _infinite(source.frame[name]) for name in columns.number}
    empty = {name: int((frame[name].str.strip() == "").sum()) for name in columns.text}
    long = {name: int((frame[name].str.len() > _read_of(columns)).sum()) for name in columns.text}
    categories = {name: len(columns.levels.get(name, ())) for name in columns.categories}
    leaks = find_leaks(frame, columns, y)
    warnings += aligned
    warnings += _cell_warnings(frame, columns, missing, empty, long, categories, source)
    warnings += [
        f"Column {name!r} alone predicts the label in {accuracy:.1%} of the labelled rows: if it is not known before "
        f"the label is, it leaks; leave it out with --drop {name!r}."
        for name, accuracy in leaks.items()
    ]
    return Audit(
        rows=len(frame),
        y=y,
        usable=usable,
        content=content.near,
        cluster=cluster,
        classes=classes,
        counts=counts,
        duplicates=exact,
        near_duplicates=near - exact,
        conflicts=conflicts,
        conflict_groups=groups,
        repeated_unlabelled=repeated,
        missing={name: number for name, number in missing.items() if number},
        infinite={name: number for name, number in infinite.items() if number},
        empty_texts={name: number for name, number in empty.items() if number},
        long_texts={name: number for name, number in long.items() if number},
        categories=categories,
        leaks=leaks,
        warnings=warnings,
    )


def overlap(train: Source, test: Source, columns: Columns) -> np.ndarray:
    """Row numbers of `test` that hold the same as a row of `train`, whatever their labels; int64.

    Texts are compared without case and punctuation, files by their content. Rows without any content do not count.
    """
    hashes = []
    for source in (train, test):
        frame = align(source.frame, columns, [])
        _, files = _check_files(source, frame, columns, None)
        content = hash_content(frame, columns, files)
        hashes.append((content.near, content.blank))
    (known, known_blank), (asked, asked_blank) = hashes
    return np.flatnonzero(np.isin(asked, known[~known_blank]) & ~asked_blank)


def _check_files(
    source: Source, frame: pd.DataFrame, columns: Columns, warnings: list[str] | None, asked: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which rows have all their files, and the hashes of the files by column; of the rows `asked` only. Without
    `warnings` nothing is refused."""
    usable = np.ones(len(frame), bool) if asked is None else asked.copy()
    rows = np.flatnonzero(usable)
    files = {}
    for name in columns.image + columns.audio:
        paths = media_paths(frame[name].iloc[rows].tolist(), source.folder)
        media = check_media(paths, "image" if name in columns.image else "audio")
        usable[rows] &= media.usable
        files[name] = np.zeros(len(frame), np.uint64)
        files[name][rows] = media.content
        if warnings is not None:
            warnings += refuse_or_warn(media, name, lambda row: source.row_label(int(rows[row])))
    return usable, files


def _left_out(dropped: Mapping[str, str]) -> list[str]:
    """Why columns are not used; many for one reason in one sentence, such as the corners of pictures."""
    reasons: dict[str, list[str]] = {}
    for name, why in dropped.items():
        if "request" not in why:
            reasons.setdefault(why, []).append(repr(name))
    said = []
    for why, names in reasons.items():
        few = len(names) <= SHOWN
        said += [f"Column {n} is left out: {why}." for n in names] if few else [f"Left out: {listing(names)}: {why}."]
    return said


def _read_as_numbers(frame: pd.DataFrame, columns: Columns) -> list[str]:
    """How columns of texts are read as numbers, each by its first cell that is no plain number; and in which order
    dates are read whose cells do not show it."""
    said = []
    for name, order in columns.orders.items():
        if order == MONTH and isinstance(frame[name].dtype, pd.StringDtype) and not orders_shown(frame[name].dropna()):
            shown = frame[name].dropna().iloc[0][:40]
            said.append(f"Column {name!r}: dates such as {shown!r} are read {order}; no cell tells whether that is so.")
    for name, writing in columns.written.items():
        for cell in map(str.strip, frame[name].dropna()):
            value = np.nan if re.fullmatch(r"[+-]?[\d.]*", cell) else read_written([cell], writing)[0][0]
            if not np.isnan(value):
                said.append(f"Column {name!r} is read as numbers: {cell!r} as {value:g}.")
                break
    return said


def _refuse(labels: Labels, given: np.ndarray, source: Source, target: str) -> None:
    if not given.any():
        lost = " whose files can be used" if labels.known.any() else ""
        raise InputError(
            f"{source.name}: no row{lost} has a label in column {target!r} ({len(given):,} rows). "
            "Label some rows of every class and leave the cell empty in the others."
        )
    left = set(labels.values[given])
    if len(left) == 1:
        raise InputError(
            f"{source.name}: all {int(given.sum()):,} labelled rows are of one class, {left.pop()!r} "
            f"(column {target!r}). Label rows of at least one other class too."
        )


def _count_warnings(y: np.ndarray, usable: np.ndarray, classes: list[str], counts: dict[str, int], source: Source):
    warnings = []
    single = [name for name, number in counts.items() if number == 1]
    if single:
        where = listing(
            f"{name!r} in {source.row_label(int(np.flatnonzero(y == classes.index(name))[0]))}" for name in single
        )
        warnings.append(f"Classes with a single label can be learnt but not judged: {where}.")
    unlabelled, labelled = int((usable & (y < 0)).sum()), int((y >= 0).sum())
    if not unlabelled:
        warnings.append("Every row has a label: there are no unlabelled rows to learn from.")
    elif unlabelled < labelled:
        warnings.append(
            f"There are fewer unlabelled rows ({unlabelled:,}) than labelled ones ({labelled:,}): "
            "little is to be gained from them."
        )
    return warnings


def _conflicts(
    near: np.ndarray, y: np.ndarray, told: np.ndarray, labels: np.ndarray, source: Source
) -> tuple[list[dict[str, list]], int, int]:
    """The first groups of labelled rows with equal content and different labels, and the numbers of such groups and
    rows in all."""
    rows = np.flatnonzero(told & (y >= 0))
    table = pd.DataFrame({"content": near[rows], "y": y[rows], "row": rows})
    differing = table[table.groupby("content")["y"].transform("nunique") > 1]
    groups = differing.groupby("content", sort=False)["row"].apply(list)
    listed: list[dict[str, list]] = [
        {
            "rows": [int(row) + 1 for row in group],
            "where": [source.row_label(row) for row in group],
            "labels": [str(labels[row]) for row in group],
        }
        for group in groups[:_LISTED]
    ]
    return listed, len(groups), len(differing)


def _repeats(hashes: np.ndarray) -> int:
    """Rows whose content came before."""
    return len(hashes) - len(np.unique(hashes))


def _duplicate_warnings(
    exact: int,
    near: int,
    conflicts: list[dict[str, list]],
    conflicting: int,
    repeated: int,
    by_nature: bool,
) -> list[str]:
    if by_nature:
        return (
            [f"Rows that equal another one: {exact:,}, as is to be expected with so few different values."]
            if exact
            else []
        )
    warnings = []
    if exact or near:
        warnings.append(
            f"Rows that repeat another one: {exact:,} exactly, {near:,} but for spelling; "
            "copies stay on one side of every fold."
        )
    if conflicts:
        shown = "; ".join(
            ", ".join(f"{where} {label!r}" for where, label in zip(c["where"][:4], c["labels"])) for c in conflicts[:3]
        )
        warnings.append(
            f"Labelled rows that hold the same as another but differ in the label: {conflicting:,} ({shown})."
        )
    if repeated:
        warnings.append(f"Labelled rows that are also there without a label: {repeated:,}.")
    return warnings


def _cell_warnings(
    frame: pd.DataFrame,
    columns: Columns,
    missing: dict[str, int],
    empty: dict[str, int],
    long: dict[str, int],
    categories: dict[str, int],
    source: Source,
) -> list[str]:
    warnings = []
    gaps = [f"{name!r} {number / len(frame):.0%}" for name, number in missing.items() if number > 0.5 * len(frame)]
    if gaps:
        warnings.append(f"More than half of the cells are missing in {listing(gaps)}.")
    for name in columns.text:
        if empty[name]:
            rows = _rows(np.flatnonzero(frame[name].str.strip() == ""), source)
            warnings.append(f"Column {name!r}: empty texts: {empty[name]:,} ({rows}).")
        if long[name]:
            rows = _rows(np.flatnonzero(frame[name].str.len() > _read_of(columns)), source)
            why = " because all would take too long" if _read_of(columns) < LONGEST else ""
            warnings.append(
                f"Column {name!r}: texts of which only the first {_read_of(columns):,} characters are read{why}: "
                f"{long[name]:,} ({rows})."
            )
    for name in columns.categories:
        if categories[name] > MANY_CATEGORIES:
            lone = int((frame[name][frame[name] != ""].value_counts() == 1).sum())
            warnings.append(
                f"Column {name!r} has {categories[name]:,} categories, {lone:,} of them in one row only; "
                "the rare ones count as one."
            )
    return warnings


def _missing(cells: pd.Series) -> int:
    return int((cells.isna() if pd.api.types.is_numeric_dtype(cells.dtype) else cells == "").sum())


def _infinite(cells: pd.Series) -> int:
    return int(np.isinf(cells.to_numpy(np.float64)).sum()) if pd.api.types.is_float_dtype(cells.dtype) else 0


def _rows(rows: Iterable[int], source: Source) -> str:
    rows = list(rows)
    return listing((source.row_label(int(row)) for row in rows[:SHOWN]), len(rows))


def _read_of(columns: Columns) -> int:
    """Characters of a text that are read at the most."""
    return columns.longest or LONGEST
