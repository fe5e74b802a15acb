"""Rows of other tables, as if they stood below those of the first: labelled and unlabelled rows often come in files of
their own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from cotrain.auto.cells import tidy
from cotrain.auto.labels import cell_texts
from cotrain.auto.read import Source, read
from cotrain.auto.wording import listing
from cotrain.data.files import find_file, is_file
from cotrain.errors import InputError


def with_more(first: Source, tables: Any, target: str) -> Source:
    """The table with the rows of others after its own. Columns that only they have are left out, but for the target;
    those that they lack are empty there. Paths stay relative to their own table.

    Args:
        tables: what `read` takes, or a list of several.

    Raises:
        InputError: one cannot be read, is a folder without a table, or has no column of the first.
    """
    others = [read(each) for each in (tables if isinstance(tables, list | tuple) else [tables])]
    if not others:
        return first
    if any(source.of_files for source in (first, *others)):
        raise InputError(
            "The files of a folder without a table cannot be put below another table; make one folder of them."
        )
    wanted = list(first.frame.columns)
    if target not in wanted and any(target in other.frame for other in others):
        wanted.append(target)
    warnings = list(first.warnings)
    for other in others:
        own = other.frame.columns
        if not own.intersection(wanted).difference([target]).size:
            raise InputError(
                f"{other.name} has none of the columns of {first.name} ({listing(wanted)}); it has {listing(own)}."
            )
        warnings += [f"{other.name}: {warning}" for warning in other.warnings]
        if lacking := [name for name in wanted if name not in own and name != target]:
            warnings.append(f"{other.name} has no column {listing(lacking)}; it is empty in its rows.")
        if beyond := [name for name in own if name not in wanted]:
            warnings.append(
                f"{other.name} has columns that {first.name} has not, {listing(beyond)}; they are left out."
            )
    every = (first, *others)
    frame = pd.DataFrame({name: _joined(name, every, first.folder) for name in wanted})
    starts = [sum(map(len, every[:number])) for number in range(1, len(every))]
    return replace(
        first,
        frame=frame,
        name=" + ".join(source.name for source in every),
        warnings=warnings,
        below=tuple(zip(starts, others, strict=True)),
    )


def _joined(name: str, sources: Sequence[Source], folder: Path) -> pd.Series:
    """One column of all; text, where it is of one kind in one table and of another in another."""
    parts = [_cells(name, source, folder) for source in sources]
    if len({part.dtype.kind in "iuf" for part in parts if part.notna().any()}) > 1:
        parts = [pd.Series(cell_texts(part), dtype=object) if part.dtype.kind in "iuf" else part for part in parts]
    return tidy(pd.concat([part.astype(object) for part in parts], ignore_index=True))[0]


def _cells(name: str, source: Source, folder: Path) -> pd.Series:
    """The column's cells, empty where the table lacks it; names of files that are beside another table in full."""
    if name not in source.frame:
        return pd.Series([None] * len(source), dtype=object)
    cells = source.frame[name]
    if cells.dtype.kind in "iufbM" or source.folder.resolve() == folder.resolve():
        return cells
    known = next((cell for cell in cells.dropna() if cell.strip()), "")
    if not known or not is_file(find_file(known, source.folder)):
        return cells
    beside = source.folder.resolve()
    return cells.map(lambda cell: str(find_file(cell, beside)) if isinstance(cell, str) and cell.strip() else cell)
