"""A user's table, read and audited: the rows to learn from, and a table with labels to be judged by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cotrain.auto.afford import longest_read, set_aside
from cotrain.auto.align import align, named_as, source_warnings
from cotrain.auto.audit import Audit, audit, overlap
from cotrain.auto.columns import Columns, infer, names_in
from cotrain.auto.compound import find_splits, split, warnings_of
from cotrain.auto.folder import LABEL
from cotrain.auto.groups import shared_prefix_groups
from cotrain.auto.labels import read_labels
from cotrain.auto.model import usable_rows
from cotrain.auto.more import with_more
from cotrain.auto.nested import unfold
from cotrain.auto.read import Source, read
from cotrain.auto.unlisted import with_unlisted
from cotrain.auto.wording import SHOWN, listing
from cotrain.errors import InputError


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
    copies: np.ndarray  # rows of one number hold the same
    spare: int  # rows without a label beyond those that are learnt from
    grouped: bool  # the units are groups (speakers, patients) that the user named or that the files' names show

    @property
    def labelled(self) -> np.ndarray:
        return np.flatnonzero(self.y >= 0)

    @property
    def unlabelled(self) -> np.ndarray:
        return np.flatnonzero(self.y < 0)

    @property
    def without_label(self) -> int:
        """Rows of the table without a label, those that are not learnt from included."""
        return len(self.unlabelled) + self.spare


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
    more: Any = (),
    test: Source | None = None,
    seconds: float = math.inf,
) -> Problem:
    """Read and audit; arguments as those of `fit`. `test`: a test table, whose files are not learnt from. `seconds`:
    the budget, which may be too short for all files."""
    source = read(data if y is None else (data, y))
    if target is None and y is None and not source.of_files:
        taken = f" The table is {source.name}; move it away if the folders beside it are the classes."
        asked = "Name the column of the labels: --target COL (or target=, or y with arrays)."
        raise InputError(asked + taken * source.is_folder)
    target = (LABEL if source.of_files else "target") if target is None else str(target)
    source = with_more(source.changed(*unfold(source.frame)), more, target)
    named = {"text": text, "image": image, "audio": audio, "drop": drop, "group": group}
    splits = find_splits(source.frame, {target, *(name for given in named.values() for name in names_in(given))})
    frame, said = split(source.frame, splits)
    source = source.changed(frame, warnings_of(source.frame, splits) + said)
    columns = replace(infer(source.frame, target=target, **named, folder=source.folder), splits=splits)
    source = with_unlisted(source, columns, test)
    longest = longest_read(source.frame, columns, seconds)
    columns = replace(columns, longest=longest, unlabelled=None if unlabelled is None else str(unlabelled))
    looked = audit(source, columns, unlabelled=unlabelled, seconds=seconds)
    _refuse_broken_rows(source, looked)
    frame = align(source.frame, columns)
    every = np.flatnonzero(looked.usable)
    cells = pd.util.hash_pandas_object(frame, index=False).to_numpy()
    rows = set_aside(every, looked.y >= 0, cells, len(columns.numbers))
    if spare := len(every) - len(rows):
        learnt = int((looked.y[rows] < 0).sum())
        looked.warnings.append(
            f"Of {learnt + spare:,} rows without a label {learnt:,} are learnt from; more would take longer and change "
            "little."
        )
    rows = rows[np.lexsort((cells[rows], looked.y[rows], looked.content[rows]))]
    unit = looked.cluster
    if columns.group:
        unit = frame.groupby(list(columns.group), dropna=False).ngroup().to_numpy()
        if empty := int((frame.iloc[rows][list(columns.group)] == "").all(axis=1).sum()):
            names = " and ".join(map(repr, columns.group))
            looked.warnings.append(f"{empty:,} rows say nothing in {names}; they are taken for one group.")
    shown = None if columns.group else _groups_by_name(frame, columns, looked, rows)
    if shown is not None:
        unit = shown
    frame, y = frame.iloc[rows].reset_index(drop=True), looked.y[rows]
    grouped = bool(columns.group) or shown is not None
    return Problem(source, columns, looked, rows, frame, y, unit[rows], looked.cluster[rows], spare, grouped)


def _refuse_broken_rows(source: Source, looked: Audit) -> None:
    """Rows with too few cells whose labels nobody else has are pieces of texts with line breaks outside quotes.

    Raises InputError.
    """
    short = np.zeros(len(looked.y), bool)
    short[: len(source.lines)] = np.isin(source.lines, source.short)  # rows without a line stand below
    strange = np.flatnonzero(short & (looked.y >= 0) & ~np.isin(looked.y, looked.y[~short]))
    if len(strange) < 3:
        return
    where = listing((source.row_label(row) for row in strange[:SHOWN]), len(strange))
    raise InputError(
        f"{source.name}: {len(strange):,} rows have fewer cells than the header and labels that no other row has, such "
        f"as {looked.classes[looked.y[strange[0]]][:40]!r} ({where}). A cell that runs over several lines must stand "
        "in double quotes."
    )


def _groups_by_name(frame: pd.DataFrame, columns: Columns, looked: Audit, rows: np.ndarray) -> np.ndarray | None:
    """The group of each row (a speaker, a session) as the names of sound files show it; None where they show none, or
    where fewer than three groups have labels. Sounds of one speaker are so alike that a score on speakers who were
    learnt from says nothing of others."""
    if not columns.audio:
        return None
    names = frame[columns.audio[0]].iloc[rows].astype(str).tolist()
    labels = [looked.classes[code] if code >= 0 else None for code in looked.y[rows]]
    groups = shared_prefix_groups(names, labels)
    if groups is None or len({group for group, label in zip(groups, labels, strict=True) if label is not None}) < 3:
        return None
    hint = f"The file names in {columns.audio[0]!r} share"  # is what follows, less surely
    looked.warnings[:] = [warning for warning in looked.warnings if not warning.startswith(hint)]
    values, number = np.unique(groups, return_inverse=True)
    looked.warnings.append(
        f"The names in {columns.audio[0]!r} share a part with {len(values):,} values (such as "
        f"{', '.join(values[:3])}); "
        "taken for speakers or sessions, each is held out as a whole; --group says it better."
    )
    unit = np.full(len(frame), -1)
    unit[rows] = number
    return unit


@dataclass(frozen=True)
class TestTable:
    """A table with labels, apart.

    y: class codes; classes that no training row has come after those of the training rows.
    """

    frame: pd.DataFrame
    folder: Path
    y: np.ndarray
    repeated: int
    warnings: list[str]


def read_test(test: Any, problem: Problem, unlabelled: str | None) -> TestTable:
    """Raises InputError: no labels in it, or none of a class that training rows have."""
    source = named_as(read(test), problem.columns)
    target = problem.columns.target
    if target not in source.frame.columns:
        raise InputError(f"{source.name} has no column {target!r}; a test table has the labels in it.")
    labels = read_labels(source.frame[target], unlabelled)
    classes = problem.audit.classes
    strange = [name for name in labels.classes if name not in classes]
    named = listing(strange)
    no_label = f"{source.name}: no row has a label in column {target!r}; a test table has the labels in it."
    if strange == labels.classes == ["-1"]:  # as arrays say it; in training no class of that name is there
        raise InputError(no_label)
    if strange and len(strange) == len(labels.classes):
        raise InputError(f"{source.name}: column {target!r} has only classes that no training row has: {named}.")
    codes = labels.codes([*classes, *strange])
    said = source_warnings(source, problem.columns)
    frame = align(source.frame, problem.columns, said)
    usable = usable_rows(source, frame, problem.columns, said)
    rows = np.flatnonzero((codes >= 0) & usable)
    if not len(rows):
        raise InputError(no_label)
    if unknown := int((codes[rows] >= len(classes)).sum()):
        said.append(
            f"{unknown:,} of {len(rows):,} rows are of classes that no training row has ({named}); they count as wrong."
        )
    repeated = int(np.isin(overlap(problem.source, source, problem.columns), rows).sum())
    warnings = [f"{source.name} (test): {warning}" for warning in said]
    return TestTable(frame.iloc[rows].reset_index(drop=True), source.folder, codes[rows], repeated, warnings)
