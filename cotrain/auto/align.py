"""Brings a table into the form in which columns were learnt from: names, kinds and types; whatever the file held."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cotrain.auto.cells import read_numbers, text_series
from cotrain.auto.codes import code_columns, read_parts
from cotrain.auto.columns import Columns, unknown_column
from cotrain.auto.compound import split
from cotrain.auto.dates import date_columns, date_numbers, other_order, read_dates
from cotrain.auto.delimited import LIKE_A_ROW
from cotrain.auto.folder import LABEL, TEXT
from cotrain.auto.labels import cell_texts
from cotrain.auto.nested import is_key, unfold_as
from cotrain.auto.read import Source
from cotrain.auto.vectors import read_vectors, vector_columns
from cotrain.auto.wording import listing
from cotrain.auto.written import CLOCK, Writing, read_written, recognise
from cotrain.errors import InputError

_BOOLEANS = (("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0"))
_TRUTH = {word: truth for words, truth in zip(_BOOLEANS, (1.0, 0.0)) for word in words}


def named_as(source: Source, columns: Columns) -> Source:
    """The columns that were learnt from, under their names: of objects, of cells with several numbers, or of the files
    of a folder without a table."""
    if not source.of_files:
        frame, said = unfold_as(source.frame, (columns.target, *columns.features, *columns.group, *columns.splits))
        frame, parted = split(_renamed(frame, columns, columns.splits, said), columns.splits)
        return source.changed(frame, said + parted)
    own = source.frame.columns[0]
    known = columns.text if own == TEXT else columns.image + columns.audio
    names = {own: known[0]} if len(known) == 1 else {}
    return replace(source, frame=source.frame.rename(columns=names | {LABEL: columns.target}))


def align(frame: pd.DataFrame, columns: Columns, warnings: list[str] | None = None) -> pd.DataFrame:
    """The feature and group columns of a table, ready for views; rows keep their order.

    Text (its first `columns.longest` characters) and file names are text, "" where missing; numbers float64, NaN where
    missing or infinite; categories text, "" where missing; each date becomes four number columns, each code the
    categories of its parts, and each vector as many number columns as it has numbers (`columns.numbers` and
    `columns.categories` have their names). Columns may come in any order; those that the fit did not know are ignored,
    and those that it knew and are not there count as missing, unless they hold text, images or sounds and are no key of
    an object. What was done is added to `warnings`.

    Raises InputError if a column of text, images or sounds is not there, or none of all.
    """
    said: list[str] = [] if warnings is None else warnings
    frame = _renamed(frame, columns, columns.features + columns.group, said)
    if not any(name in frame.columns for name in columns.features):
        raise InputError(
            f"{unknown_column(columns.features[0], frame.columns)} None of the columns that the model was fitted on is "
            "there; the table needs a header line with their names."
        )
    out: dict[str, pd.Series | np.ndarray] = {}
    for name in columns.text + columns.image + columns.audio:
        if name in frame.columns:
            texts = _texts(frame[name])
        elif is_key(name, frame.columns):
            said.append(f"No row has the key {name!r}; all its cells count as missing.")
            texts = text_series([""] * len(frame))
        else:
            raise InputError(f"{unknown_column(name, frame.columns)} The model was fitted on it and cannot do without.")
        cut = name in columns.text and columns.longest is not None
        out[name] = texts.str[: columns.longest] if cut else texts
    for name in columns.cells:
        cells = frame.get(name)
        if cells is None:
            near = difflib.get_close_matches(name, _spare(frame, columns), n=1, cutoff=0.8)
            said.append(
                f"Column {name!r} is not there; all its cells count as missing."
                + (f" If {near[0]!r} is meant, rename it." if near else "")
            )
            cells = pd.Series(np.full(len(frame), np.nan), name=name)
        if name in columns.number:
            out[name] = values = read_as_numbers(cells, columns.written.get(name), columns.spans.get(name, ()), said)
            for number in columns.none.get(name, ()):
                if count := np.count_nonzero(values == number):
                    said.append(f"Column {name!r}: {number:g} stands for a missing value in {count:,} rows.")
                    values[values == number] = np.nan
        elif name in columns.category:
            out[name] = _categories(name, cell_texts(cells), columns, said)
        elif name in columns.code:
            places = columns.parts[name]
            parts = read_parts(cell_texts(cells), places)
            names = code_columns(name, places)
            out |= {part: _categories(part, values, columns, said) for part, values in zip(names, parts)}
        elif name in columns.vector:
            out.update(zip(vector_columns(name, columns.shapes[name]), _vectors(cells, columns.shapes[name], said)))
        else:
            out.update(zip(date_columns(name), date_numbers(read_as_dates(cells, columns.orders[name], said))))
    for name in columns.group:
        if name in frame.columns:
            out[name] = text_series([value or "" for value in cell_texts(frame[name])])
    if extra := _spare(frame, columns):
        said.append(f"Columns that the fit did not know are ignored: {listing(extra)}.")
    return pd.DataFrame(out, index=pd.RangeIndex(len(frame)))


def source_warnings(source: Source, columns: Columns) -> list[str]:
    """What was odd about a table, but for the doubt whether its first line is a header where it names all columns."""
    certain = set(columns.features) <= set(source.frame.columns)
    return [warning for warning in source.warnings if not (certain and warning == LIKE_A_ROW)]


def _spare(frame: pd.DataFrame, columns: Columns) -> list[str]:
    """The columns that the fit did not know."""
    known = {columns.target, *columns.features, *columns.group, *columns.dropped, *columns.splits}
    return [str(name) for name in frame.columns if name not in known]


def _renamed(frame: pd.DataFrame, columns: Columns, names: Iterable[str], said: list[str]) -> pd.DataFrame:
    """The table with these names of the fit where only upper and lower case differ."""
    lower: dict[str, list[str]] = {}
    for name in _spare(frame, columns):
        lower.setdefault(name.casefold(), []).append(name)
    new = {}
    for name in names:
        alike = lower.get(name.casefold(), [])
        if name not in frame.columns and len(alike) == 1:
            new[alike[0]] = name
            said.append(f"Column {alike[0]!r} is taken for {name!r}, which the model was fitted on.")
    return frame.rename(columns=new) if new else frame


def _texts(cells: pd.Series) -> pd.Series:
    if _is_text(cells) and not cells.isna().any():
        return cells.reset_index(drop=True)
    return text_series(cells.fillna("") if _is_text(cells) else [value or "" for value in cell_texts(cells)])


def _is_text(cells: pd.Series) -> bool:
    return isinstance(cells.dtype, pd.StringDtype)


def read_as_numbers(cells: pd.Series, writing: Writing | None, span: tuple[float, ...], said: list[str]) -> np.ndarray:
    """The cells as float64, NaN where one is no number; read otherwise than the fit's where they are written so.

    span: the least and the greatest number of the fit, which tells whether 2,525 is above two thousand; () if unknown.
    """
    if _is_text(cells):
        texts = cells.fillna("").tolist()
        if writing is None:
            values, strays = _read_plain(cells, texts, span, said)
        else:
            values, strays = read_written(texts, writing)
            other = recognise(texts) if 2 * len(strays) > len(texts) else None
            if other is not None and other.mark != writing.mark and other.unit == writing.unit:
                said.append(_written_otherwise(cells, [texts[place] for place in strays], other))
                values, strays = read_written(texts, other)
        if strays:
            shown = ", ".join(map(repr, list(dict.fromkeys(cells.iloc[row][:40] for row in strays))[:3]))
            said.append(
                f"Column {cells.name!r}: cells that are not numbers count as missing: {len(strays):,} ({shown})."
            )
    else:
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan).copy()
    infinite = np.isinf(values)
    if infinite.any():
        said.append(f"Column {cells.name!r}: infinite cells count as missing: {int(infinite.sum()):,}.")
        values[infinite] = np.nan
    return values


def _read_plain(
    cells: pd.Series, texts: list[str], span: tuple[float, ...], said: list[str]
) -> tuple[np.ndarray, list[int]]:
    """Cells of a column that held plain numbers, and the places of those that are none; numbers that are written
    otherwise, and true and false where the column held 1 and 0, are read too."""
    read = read_numbers(cells)
    values, strays = read.values.copy(), read.strays.tolist()
    written = [texts[row] for row in strays if re.search(r"\d", texts[row])]
    other = recognise(written) if written else None
    if other is not None and other.mark != CLOCK and not other.unit:
        other = _within(written, other, span)
        said.append(_written_otherwise(cells, written, other))
        dotted = sum("." in text and "," not in text for text in texts)
        rest = range(len(texts)) if other.mark == "," and len(written) > dotted else strays
        values[rest], still = read_written([texts[row] for row in rest], other)
        strays = [rest[place] for place in still]
    truths = [_TRUTH.get(texts[row].strip().casefold()) for row in strays]
    if strays and None not in truths and span == (0, 1) and np.isin(values[~np.isnan(values)], (0, 1)).all():
        said.append(f"Column {cells.name!r}: {texts[strays[0]]!r} is taken as {truths[0]:.0f}, and so on.")
        values[strays], strays = truths, []
    return values, strays


def _within(texts: list[str], writing: Writing, span: tuple[float, ...]) -> Writing:
    """With the comma as the decimal mark where each may be one and more numbers are then in the span of the fit's."""
    if writing.mark != "." or not span:
        return writing
    comma = writing._replace(mark=",")
    values, strays = read_written(texts, comma)
    if strays:
        return writing
    others, _ = read_written(texts, writing)
    inside, usual = (np.count_nonzero((span[0] <= each) & (each <= span[1])) for each in (values, others))
    return comma if inside > usual else writing


def _written_otherwise(cells: pd.Series, texts: list[str], writing: Writing) -> str:
    values, _ = read_written(texts, writing)
    first = np.argmax(~np.isnan(values))
    return (
        f"Column {cells.name!r}: numbers that are not written as in training are read with {writing.mark!r} as the "
        f"decimal point, such as {texts[first][:40]!r} as {values[first]:.15g}."
    )


def _vectors(cells: pd.Series, shape: tuple[int, ...], said: list[str]) -> np.ndarray:
    texts = cell_texts(cells)
    values, strays = read_vectors(texts, shape)
    if strays:
        sides = " x ".join(map(str, shape))
        said.append(
            f"Column {cells.name!r}: cells that are not vectors of {sides} numbers count as missing: {len(strays):,}, "
            f"first {str(texts[strays[0]])[:40]!r}."
        )
    values[~np.isfinite(values)] = np.nan
    return values.T


def _categories(name: str, cells: Iterable[str | None], columns: Columns, said: list[str]) -> pd.Series:
    levels = columns.levels.get(name, ())
    values = [value or "" for value in cells]
    known = {*levels, ""}
    if taken := respelt({*values} - known, levels):
        values = [taken.get(value, value) for value in values]
        shown = listing(f"{value[:40]!r} is read as {level[:40]!r}" for value, level in sorted(taken.items()))
        said.append(f"Column {name!r}: categories are spelt differently from training: {shown}.")
    unseen = dict.fromkeys(value for value in values if value not in known)
    if unseen and levels:
        rows = sum(value in unseen for value in values)
        shown = listing(repr(value[:40]) for value in unseen)
        said.append(f"Column {name!r}: {rows:,} rows have categories that were not in training: {shown}.")
    return text_series(values)


_READ = {
    "named": "by the names of months",
    "digits": "as year, month and day",
    "seconds": "as seconds since 1970",
    "milliseconds": "as milliseconds since 1970",
}


def respelt(unseen: Iterable[str], levels: Sequence[str]) -> dict[str, str]:
    """The levels that unseen values are in other letters: in upper or lower case, yes for true, or codes that have lost
    their leading zeros. Those that may be several are none."""
    alike: dict[str, set[str]] = {}
    truths = [next((words for words in _BOOLEANS if level.casefold() in words), ()) for level in levels]
    codes = [level for level in levels if level.isdecimal()]
    for level, words in zip(levels, truths, strict=True):
        for name in {level.casefold(), *(words if all(truths) else ())}:
            alike.setdefault(name, set()).add(level)
    if len({len(level) for level in codes}) == 1:
        for level in codes:
            alike.setdefault(level.lstrip("0") or "0", set()).add(level)
    found = {value: alike.get(value.casefold(), set()) for value in unseen}
    return {value: min(names) for value, names in found.items() if len(names) == 1}


def read_as_dates(cells: pd.Series, order: str, said: list[str]) -> pd.Series:
    """The cells as datetime64, NaT where one is no date; read in another order than the fit's where they show it."""
    if not _is_text(cells) and not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        name, cells = cells.name, text_series(cell_texts(cells))
        cells.name = name
    if not _is_text(cells):
        return read_dates(cells, order).reset_index(drop=True)
    filled = cells.fillna("").str.strip() != ""
    if other := other_order(cells[filled], order):
        said.append(
            f"Column {cells.name!r}: dates are not written as in training, such as {cells[filled].iloc[0][:40]!r}; "
            f"they are read {_READ.get(other, other)}."
        )
    dates = read_dates(cells, other or order)
    strays = np.flatnonzero(dates.isna().to_numpy() & filled.to_numpy())
    if len(strays):
        shown = listing(map(repr, dict.fromkeys(cells.iloc[row][:40] for row in strays)))
        said.append(f"Column {cells.name!r}: cells that are not dates count as missing: {len(strays):,} ({shown}).")
    return dates.reset_index(drop=True)
