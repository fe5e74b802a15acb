"""Rows of other tables, as if they stood below those of the first: labelled and unlabelled rows often come in files of
their own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_scalar

from cotrain.auto.align import read_as_numbers, respelt
from cotrain.auto.cells import NUMBERS, read_numbers, text_series, tidy
from cotrain.auto.columns import Found, find_kind
from cotrain.auto.dates import DAY, MONTH, looks_like_dates, orders_shown, other_order, read_dates, write_dates
from cotrain.auto.labels import cell_texts
from cotrain.auto.nested import unfold_as
from cotrain.auto.read import Source, read
from cotrain.auto.wording import listing
from cotrain.auto.written import CLOCK, read_written
from cotrain.data.files import find_file, is_file
from cotrain.errors import InputError


def with_more(first: Source, tables: Any, target: str) -> Source:
    """The table with the rows of others after its own. Columns that only they have are left out, but for the target;
    those that they lack are empty there. Numbers, dates and categories that they write otherwise are taken in the first
    one's form, with a warning. Paths stay relative to their own table.

    Args:
        tables: what `read` takes, or a list of several; a list of dicts is one table, of which they are the rows.

    Raises:
        InputError: one cannot be read, is a folder without a table, or has no column of the first.
    """
    several = isinstance(tables, list | tuple) and not any(map(_is_row, tables))
    others = [read(each) for each in (tables if several else [tables])]
    if not others:
        return first
    wanted = list(first.frame.columns)
    others = [other.changed(*unfold_as(other.frame, [*wanted, target])) for other in others]
    if any(source.of_files for source in (first, *others)):
        raise InputError(
            "The files of a folder without a table cannot be put below another table; make one folder of them."
        )
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
    frame = pd.DataFrame({name: _joined(name, every, target, warnings) for name in wanted})
    starts = [sum(map(len, every[:number])) for number in range(1, len(every))]
    return replace(
        first,
        frame=frame,
        name=" + ".join(source.name for source in every),
        warnings=warnings,
        below=tuple(zip(starts, others, strict=True)),
    )


def _is_row(table: Any) -> bool:
    """Whether a dict is a row, with a cell for each column, rather than a table, with a list for each."""
    return isinstance(table, Mapping) and any(isinstance(v, Mapping) or is_scalar(v) for v in table.values())


def _joined(name: str, sources: Sequence[Source], target: str, warnings: list[str]) -> pd.Series:
    """One column of all; text, where it is of one kind in one table and of another in another."""
    first, *others = sources
    parts = [_cells(name, source, first.folder) for source in sources]
    if name != target and name in first.frame:
        known = find_kind(parts[0], first.folder)
        for place, other in enumerate(others, start=1):
            cells, parts[place] = parts[place], _in_form(parts[place], parts[0], known)
            if (changed := np.flatnonzero(parts[place].notna() & (parts[place] != cells))).size:
                before, after = cells.iloc[changed[0]], parts[place].iloc[changed[0]]
                warnings.append(
                    f"{other.name}: column {name!r} is not written as in {first.name}; {str(before)[:40]!r} is taken "
                    f"as {str(after)[:40]!r}."
                )
    if len({part.dtype.kind in "iuf" for part in parts if part.notna().any()}) > 1:
        parts = [pd.Series(cell_texts(part), dtype=object) if part.dtype.kind in "iuf" else part for part in parts]
    return tidy(pd.concat([part.astype(object) for part in parts], ignore_index=True))[0]


def _in_form(cells: pd.Series, first: pd.Series, known: Found) -> pd.Series:
    """The cells of another table's column in the form of the first one's, so that both are one column; as they are,
    where they are of another kind."""
    if known.kind == "category":
        levels = {text for text in cell_texts(first) if text}
        values = cell_texts(cells)
        taken = respelt({value for value in values if value} - levels, sorted(levels))
        return pd.Series([taken.get(value or "", value) for value in values], dtype=object) if taken else cells
    texts = text_series(cell_texts(cells))
    filled = texts.fillna("") != ""
    if known.kind == "date":
        new = _dates_in_form(cells, texts[filled], first, known.order)
    elif known.kind == "number":
        new = _numbers_in_form(cells, texts, known)
    else:
        return cells
    return cells if new is None or new.notna().sum() < NUMBERS * filled.sum() else new


def _dates_in_form(cells: pd.Series, texts: pd.Series, first: pd.Series, order: str) -> pd.Series | None:
    """None where they are written in this order, or either table leaves open which of day and month comes first."""
    if cells.dtype.kind == "M":
        return None if first.dtype.kind == "M" else write_dates(cells, order)
    theirs = other_order(texts, order) or looks_like_dates(texts.tolist())
    shown = orders_shown(text or "" for text in cell_texts(first)) and orders_shown(texts)
    if theirs in ("", order) or ({theirs, order} == {DAY, MONTH} and not shown):
        return None
    return write_dates(read_dates(texts, theirs).set_axis(texts.index).reindex(cells.index), order)


def _numbers_in_form(cells: pd.Series, texts: pd.Series, known: Found) -> pd.Series | None:
    """None where the first table's numbers are written in the same way, or have a unit."""
    writing = known.writing
    if writing is not None and (writing.unit or writing.mark == CLOCK):
        return None
    mark = "." if writing is None else writing.mark
    if cells.dtype.kind in "iufb":
        if mark == ".":
            return None
        values = cells.to_numpy(np.float64)
    else:
        values = read_as_numbers(texts, writing, known.span, [])
        plain = read_numbers(texts).values if writing is None else read_written(texts.fillna("").tolist(), writing)[0]
        if np.array_equal(values, plain, equal_nan=True):
            return None
    written = [None if np.isnan(value) else np.format_float_positional(value, trim="-") for value in values]
    kept = [cell if text is None else text.replace(".", mark) for cell, text in zip(texts, written, strict=True)]
    return pd.Series(kept, dtype=object)


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
