"""Columns with several numbers in a cell, such as 122/78, 30x40 cm, 3h 12m or £45k - £62k: each becomes a column."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from cotrain.auto.cells import NUMBERS, read_numbers, text_series
from cotrain.auto.columns import find_kind
from cotrain.auto.wording import listing
from cotrain.auto.written import read_written, recognise

_MARKS = {  # between the numbers
    "/": r"\s*/\s*",
    "x": r"(?<=\d)\s*[x×*]\s*(?=\d)",
    "-": r"\s+(?:[-–—]|to)\s+|\s*[–—]\s*",
    ",": r"\s*[,;]\s*",
    " ": r"\s+",
}
_MOST = 4  # numbers in a cell
_SAMPLE = 500  # cells looked at
_FEWEST = 20  # cells of which something is said

Split = tuple[str, int]  # the mark between the numbers, and how many they are


def find_splits(frame: pd.DataFrame, named: Collection[str] = ()) -> dict[str, Split]:
    """The columns that are to be split, and how: those whose cells would be read as texts or codes, unless `named`."""
    found = {}
    for name, cells in frame.items():
        if name in named or not isinstance(cells.dtype, pd.StringDtype):
            continue
        filled = [cell for cell in cells.dropna().str.strip().iloc[: 2 * _SAMPLE].tolist() if cell][:_SAMPLE]
        split = _find_split(filled)
        if split and not frame.columns.intersection(split_columns(str(name), split[1])).empty:
            continue
        if split and find_kind(cells).kind in ("text", "code", "dropped"):
            found[str(name)] = split
    return found


def split_columns(name: str, count: int) -> list[str]:
    """The names of the columns that a split one becomes."""
    return [f"{name}:{number}" for number in range(1, count + 1)]


def split(frame: pd.DataFrame, splits: Mapping[str, Split]) -> pd.DataFrame:
    """The table with the numbers of split columns in columns of their own, in place; a cell that holds another count of
    numbers has none."""
    columns: dict[str, pd.Series] = {}
    for name, cells in frame.items():
        if name not in splits:
            columns[str(name)] = cells
            continue
        mark, count = splits[str(name)]
        texts = [None if gone else str(cell) for cell, gone in zip(cells, cells.isna())]
        parts = [found if len(found := _parts(text, mark)) == count else [None] * count for text in texts]
        columns |= {new: text_series(own) for new, own in zip(split_columns(str(name), count), zip(*parts))}
    return pd.DataFrame(columns, index=frame.index) if splits else frame


def warnings_of(frame: pd.DataFrame, splits: Mapping[str, Split]) -> list[str]:
    """What is said of the columns that are split."""
    said = []
    for name, (_, count) in splits.items():
        first = next(cell for cell in frame[name].dropna() if cell.strip())[:40]
        columns = listing(map(repr, split_columns(name, count)))
        said.append(f"Column {name!r} holds {count} numbers in a cell, such as {first!r}; each is a column: {columns}.")
    return said


def _parts(text: str | None, mark: str) -> list[str]:
    return re.split(_MARKS[mark], text.strip()) if text else []


def _find_split(cells: Sequence[str]) -> Split | None:
    several = [len(re.findall(r"\d+", cell)) > 1 for cell in cells[:50]]
    if len(cells) < _FEWEST or sum(several) < NUMBERS * len(several):
        return None
    for mark in _MARKS:
        parts = [_parts(cell, mark) for cell in cells]
        count, often = Counter(map(len, parts)).most_common(1)[0]
        alike = [found for found in parts if len(found) == count]
        if 1 < count <= _MOST and often >= NUMBERS * len(cells) and all(map(_are_numbers, zip(*alike))):
            return mark, count
    return None


def _are_numbers(texts: Iterable[str]) -> bool:
    texts = list(texts)
    if read_numbers(pd.Series(texts, dtype=str)).share >= NUMBERS:
        return True
    writing = recognise(texts)
    return writing is not None and len(read_written(texts, writing)[1]) <= (1 - NUMBERS) * len(texts)
