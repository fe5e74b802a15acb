"""Columns of codes, such as AX-1234-Q: each cell is another one, but parts of them may repeat and tell something."""

import re
from collections import Counter
from collections.abc import Sequence

_PART = re.compile(r"[^\W\d_]+|\d+")  # a run of letters or of digits
_ALIKE = 0.95  # share of the codes that must be built alike
_ROWS = 5  # codes for each value of a part that repeats, on average


def repeating_parts(codes: Sequence[str]) -> tuple[int, ...]:
    """The places of the parts that repeat, in codes that are built alike: the same runs of letters and of digits with
    the same marks between them; () if no part does."""
    built = Counter(map(_shape, codes)).most_common(1)
    if not built or built[0][1] < _ALIKE * len(codes):
        return ()
    alike = [_PART.findall(code) for code in codes if _shape(code) == built[0][0]]
    distinct = [len(set(values)) for values in zip(*alike)]
    return tuple(place for place, number in enumerate(distinct) if 1 < number <= len(alike) / _ROWS)


def code_columns(name: str, places: Sequence[int]) -> tuple[str, ...]:
    """The names of the category columns that a column of codes becomes."""
    return tuple(f"{name}:part {place + 1}" for place in places)


def read_parts(codes: Sequence[str | None], places: Sequence[int]) -> list[list[str]]:
    """For each place the part that each code has there, "" where it has none."""
    parts = [_PART.findall(code or "") for code in codes]
    return [[found[place] if place < len(found) else "" for found in parts] for place in places]


def _shape(code: str) -> str:
    return _PART.sub(lambda part: "0" if part[0].isdigit() else "A", code.strip())
