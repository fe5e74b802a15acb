"""Columns with several numbers in a cell, such as 122/78, 30x40 cm, 3h 12m or £45k - £62k: each becomes a column."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from cotrain.auto.cells import NUMBERS, read_numbers, text_series, words_for_none
from cotrain.auto.columns import find_kind
from cotrain.auto.wording import listing
from cotrain.auto.written import read_written, recognise, says_none

_MARKS = {  # between the numbers
    "/": r"\s*/\s*",
    "x": r"(?<=\d)\s*[x×*]\s*(?=\d)",
    "-": r"\s+(?:[-–—]|to)\s+|\s*[–—]\s*",
    ",": r"\s*[,;]\s*",
    " ": r"\s+",
    "'": r"(?<=[a-z'′])\s*(?=\d)",  # a unit: 5'8", 4 h 53 min
    ":": r"(?<=\d)\s*(?:[-–—:|]|[a-z]+)\s*(?=\d)",  # 122-78, 122 over 78: dates and codes are written so too
}
_FITTED = ("/", "x", "-", ",", " ", "'")  # marks by which a column is told to hold several numbers
_OTHERWISE = ("/", "x", "-", ",", " ", ":")  # marks of cells that hold several numbers for sure
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
        filled = [cell for cell in cells.dropna().iloc[: 2 * _SAMPLE].tolist() if not says_none(cell)][:_SAMPLE]
        none = words_for_none(filled)
        split = _find_split([cell for cell in filled if cell not in none])
        if split and not frame.columns.intersection(split_columns(str(name), split[1])).empty:
            continue
        if split and find_kind(cells).kind in ("text", "code", "dropped"):
            found[str(name)] = split
    return found


def split_columns(name: str, count: int) -> list[str]:
    """The names of the columns that a split one becomes."""
    return [f"{name}:{number}" for number in range(1, count + 1)]


def split(frame: pd.DataFrame, splits: Mapping[str, Split]) -> tuple[pd.DataFrame, list[str]]:
    """The table with the numbers of split columns in columns of their own, in place, and what is to be said of it; a
    cell that holds another count of numbers has none."""
    columns: dict[str, pd.Series] = {}
    said: list[str] = []
    for name, cells in frame.items():
        if name not in splits:
            columns[str(name)] = cells
            continue
        mark, count = splits[str(name)]
        parts = _split(cells, mark, count, said)
        columns |= {new: text_series(own) for new, own in zip(split_columns(str(name), count), zip(*parts))}
    return (pd.DataFrame(columns, index=frame.index) if splits else frame), said


def _split(cells: pd.Series, mark: str, count: int, said: list[str]) -> list[list[str | None]]:
    """The numbers of each cell, None where it has not so many; with another mark between them where that tells as many
    numbers in nearly all cells without the usual one."""
    parts = [[] if gone else _parts(str(cell), mark) for cell, gone in zip(cells, cells.isna())]
    strays = [place for place, found in enumerate(parts) if len(found) not in (0, count)]
    texts = [str(cells.iloc[place]) for place in strays]
    if other := _other_mark(texts, count):
        said.append(
            f"Column {cells.name!r}: {count} numbers that are parted otherwise are read too, such as {texts[0][:40]!r}."
        )
        for place, text in zip(strays, texts):
            parts[place] = _parts(text, other)
        strays = [place for place in strays if len(parts[place]) != count]
    if strays:
        shown = listing(map(repr, dict.fromkeys(str(cells.iloc[place])[:40] for place in strays)))
        said.append(
            f"Column {cells.name!r}: cells without {count} numbers count as missing: {len(strays):,} ({shown})."
        )
    return [list(found) if len(found) == count else [None] * count for found in parts]


def _other_mark(texts: Sequence[str], count: int) -> str | None:
    """The mark between the numbers in nearly all of these cells; None if there is none."""
    for other in _OTHERWISE:
        parts = [found for text in texts if len(found := _parts(text, other)) == count]
        if parts and len(parts) >= NUMBERS * len(texts) and all(map(_are_numbers, zip(*parts))):
            return other
    return None


def warnings_of(frame: pd.DataFrame, splits: Mapping[str, Split]) -> list[str]:
    """What is said of the columns that are split."""
    said = []
    for name, (mark, count) in splits.items():
        first = next(cell for cell in frame[name].dropna() if len(_parts(cell, mark)) == count)[:40]
        columns = listing(map(repr, split_columns(name, count)))
        said.append(f"Column {name!r} holds {count} numbers in a cell, such as {first!r}; each is a column: {columns}.")
    return said


def _parts(text: str, mark: str) -> list[str]:
    """What stands between the marks; nothing in a cell that stands for a missing value."""
    if says_none(text):
        return []
    text = text.strip()
    return re.split(_MARKS[mark], text[1:-1] if text[:1] + text[-1:] in ("()", "[]") else text, flags=re.IGNORECASE)


def _find_split(cells: Sequence[str]) -> Split | None:
    several = [len(re.findall(r"\d+", cell)) > 1 for cell in cells[:50]]
    if len(cells) < _FEWEST or sum(several) < NUMBERS * len(several):
        return None
    for mark in _FITTED:
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
