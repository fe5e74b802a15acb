"""Columns whose cells are objects, such as `{"colour": "red", "size": 40}`: each key becomes a column of its own."""

import ast
import json
import re
import warnings
from collections.abc import Collection, Iterable
from typing import Any

import pandas as pd

from cotrain.auto.cells import tidy
from cotrain.auto.wording import listing
from cotrain.auto.written import says_none

_KEYS = 100  # with more, the keys are rather data, such as words with their counts
_DEEPEST = 5  # objects inside objects
_LONGEST = 100_000  # characters of an object as Python writes it
_OBJECTS = 0.9  # share of the cells that are not missing that must be objects
_SPOILT = (ValueError, TypeError, SyntaxError, RecursionError, MemoryError)  # what a cell that is no object may raise
# What Python writes and cannot read back: nan, and NumPy's numbers; strings are matched first, to be left alone.
_UNREADABLE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\bnan\b|np\.\w+\(([^()]*)\)""")


def unfold(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with a column `name.key` in place for each key of a text column of objects, those inside others too;
    and what is to be said of it.

    An object is what JSON or Python write. A row that lacks a key, or whose cell is no object, lacks a value there.
    """
    columns: dict[str, pd.Series] = {}
    said: list[str] = []
    for name, cells in frame.items():
        columns |= _unfolded(str(name), cells, {*frame.columns, *columns}, said, _DEEPEST)
    return (pd.DataFrame(columns), said) if said else (frame, [])


def unfold_as(frame: pd.DataFrame, known: Collection[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with a column for each key of its objects that is known, in upper or lower case, however many of the
    cells are objects. Other keys are left out; objects that are known as a whole stay as they are."""
    columns: dict[str, pd.Series] = {}
    said: list[str] = []
    lower = {each.casefold() for each in known}
    own = {str(name).casefold() for name in frame}
    for name, cells in frame.items():
        wanted = [] if str(name).casefold() in lower else keys_of(str(name).casefold(), lower - own)
        columns |= _known(str(name), cells, wanted, said) or {str(name): cells}
    return pd.DataFrame(columns, index=frame.index), said


def is_key(name: str, columns: Iterable[str]) -> bool:
    """Whether a column that is not there may be a key that no row has: the object itself or other keys of it are."""
    outer, columns = name.rpartition(".")[0], list(columns)
    return bool(outer) and (outer in columns or bool(keys_of(outer, columns)))


def keys_of(name: str, columns: Iterable[str]) -> list[str]:
    """The columns that the keys of an object became."""
    return [column for column in columns if column.startswith(f"{name}.")]


def _unfolded(name: str, cells: pd.Series, taken: set[str], said: list[str], depth: int) -> dict[str, pd.Series]:
    objects = _objects(cells) if depth and isinstance(cells.dtype, pd.StringDtype) else None
    if objects is None:
        return {name: cells}
    keys = list(dict.fromkeys(key for each in objects if each for key in each))
    names = [f"{name}.{key}" for key in keys]
    if not 0 < len(keys) <= _KEYS or taken.intersection(names):
        return {name: cells}
    said.append(f"Column {name!r} holds objects; their keys are columns: {listing(map(repr, names))}.")
    said += _strays(name, cells, objects)
    taken = taken.union(names)
    columns: dict[str, pd.Series] = {}
    for key, new in zip(keys, names):
        values, odd = _values(objects, key)
        said += [f"Column {new!r}: {odd}."] if odd else []
        columns |= _unfolded(new, values, taken, said, depth - 1)
    return columns


def _known(name: str, cells: pd.Series, wanted: list[str], said: list[str]) -> dict[str, pd.Series]:
    """The keys of a column's objects, and of those inside them, that are wanted; wanted: names in small letters."""
    if not wanted or not isinstance(cells.dtype, pd.StringDtype):
        return {}
    objects = [_object(cell) if isinstance(cell, str) else None for cell in cells]
    columns: dict[str, pd.Series] = {}
    for key in dict.fromkeys(key for each in objects if each for key in each):
        new = f"{name}.{key}"
        if new.casefold() in wanted:
            columns[new] = _values(objects, key)[0]
        elif inner := keys_of(new.casefold(), wanted):
            columns |= _known(new, _values(objects, key)[0], inner, said)
    if columns:
        said += _strays(name, cells, objects)
    return columns


def _values(objects: list[dict[str, Any] | None], key: str) -> tuple[pd.Series, str]:
    return tidy(pd.Series([each.get(key) if each else None for each in objects], dtype=object))


def _strays(name: str, cells: pd.Series, objects: list[dict[str, Any] | None]) -> list[str]:
    """A warning of the cells that are neither objects nor missing, if there are any."""
    filled = (cell for cell, found in zip(cells, objects) if found is None and isinstance(cell, str))
    if not (strays := [cell for cell in filled if not says_none(cell)]):
        return []
    return [
        f"Column {name!r}: cells that are not objects count as missing: {len(strays):,} (such as {strays[0][:40]!r})."
    ]


def _objects(cells: pd.Series) -> list[dict[str, Any] | None] | None:
    """The object of each cell, None where there is none; None if this is no column of objects."""
    filled = [cell for cell in cells.dropna() if not says_none(cell)]
    if not filled or sum(map(_looks, filled[:100])) < _OBJECTS * min(len(filled), 100):
        return None
    objects = [_object(cell) if isinstance(cell, str) else None for cell in cells]
    return objects if sum(each is not None for each in objects) >= _OBJECTS * len(filled) else None


def _looks(cell: str) -> bool:
    cell = cell.strip()
    return cell[:1] + cell[-1:] == "{}"


def _object(cell: str) -> dict[str, Any] | None:
    if not _looks(cell):
        return None
    try:
        found = json.loads(cell)
    except _SPOILT:
        try:
            with warnings.catch_warnings(action="ignore", category=SyntaxWarning):  # of backslashes
                found = ast.literal_eval(_UNREADABLE.sub(_readable, cell.strip())) if len(cell) <= _LONGEST else None
        except _SPOILT:
            return None
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else None


def _readable(match: re.Match) -> str:
    return match[1] or ("None" if match[0] == "nan" else match[0])
