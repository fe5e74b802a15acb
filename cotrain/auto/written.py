"""Numbers as people write them: 1,234.50 and 1.234,50, $12, 45 %, 3 kg, 1.2k, (7), 4/5, 12:30; recognised and read."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cotrain.auto.cells import MISSING, NUMBERS

CLOCK = ":"  # the mark of times of day and lengths of time, which are read as hours
_ALIKE = 0.95  # share of the cells with a unit that must have the same one
_SIDES = {"cr", "dr"}  # of an account: the sign is in the word
_MANY = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "bn": 1e9}
_MISSING = re.compile(rf"{MISSING}|[?.\-–—]+|unknown|missing", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?(?:\s?([ap])\.?m\.?)?", re.IGNORECASE)
_POSTAL = re.compile(r"(\d+)(?:-\d{4})?")  # 84624-1234
_MONEY = r"[A-Z]{0,2}[$€£¥₹₽₩₫₪฿₺₴]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|PLN|BRL|Rs\.?"
_WORD = r"[^\d\s,;:()]{1,12}"
_CELL = re.compile(
    rf"(?P<open>\()?(?:[<>~≈≤≥]\s?)?(?P<sign>[+\-−]?)\s?(?P<money>{_MONEY})?\s?(?P<inner>[+\-−]?)"
    r"(?=[.,]?\d)(?!0\d)"  # a code such as 007 is no number
    r"(?P<whole>[1-9]\d{0,2}(?P<group>[.,'’\s])(?:\d\d(?P=group))*\d{3}(?:(?P=group)\d{3})*|\d*)"
    r"(?:(?P<decimal>[.,])(?P<part>\d+))?"
    rf"(?P<after>[\-−](?!.))?(?P<unit>\s?(?:(?:/|out of )\s?\d+|{_WORD}(?:\s{_WORD})?))?(?(open)\))"
)


class Writing(NamedTuple):
    """How the numbers of a column are written.

    mark: of the decimals, "." or ",", or CLOCK. unit: in small letters, but no currency; "k" where thousands and
    millions are abbreviated. quantity: whether no identifier is written so, in groups of digits or with a unit apart.
    zeros: whether whole numbers have leading zeros, as postal codes do.
    """

    mark: str
    unit: str = ""
    quantity: bool = True
    zeros: bool = False


def recognise(texts: Sequence[str]) -> Writing | None:
    """How nearly all of these cells write numbers, if they do so in one way; plain numbers are written so too."""
    cells = [text.strip() for text in texts if not says_none(text)]
    least = max(1, NUMBERS * len(cells))
    if sum(bool(_TIME.fullmatch(cell)) for cell in cells) >= least:
        return Writing(CLOCK)
    found = [match for cell in cells if (match := _match(cell))]
    if len(found) < least:
        return None
    money, _ = _usual(_money(match) for match in found)
    unit, units = _usual(_unit(match) for match in found)
    # 3m may be metres; 3M beside 850000, or 2B, are millions.
    if units and units <= set(_MANY) and ("k" in units or len(units) > 1 or any(_is_capital(match) for match in found)):
        unit = "k"
    if unit is None or money is None or units & _SIDES:
        return None
    marks = {mark for match in found if (mark := _mark(match))}
    if len(marks) > 1:
        return None
    mark = marks.pop() if marks else "."
    apart = any(match["unit"] and not match["unit"].isalpha() for match in found)
    return Writing(mark, unit, bool(money) or apart or any(match["group"] not in (None, mark) for match in found))


def read_written(texts: Sequence[str | None], writing: Writing) -> tuple[np.ndarray, list[int]]:
    """The cells as float64 [N], NaN where one is missing or no such number, and the places of the latter."""
    values, strays = np.full(len(texts), np.nan), []
    read = _hours if writing.mark == CLOCK else _number
    for place, text in enumerate(texts):
        if text is None or says_none(text):
            continue
        value = read(text.strip(), writing)
        if value is None:
            strays.append(place)
        else:
            values[place] = value
    return values, strays


def says_none(text: str) -> bool:
    """Whether a cell stands for a missing value: nothing, N/A, ?, -, unknown."""
    return _MISSING.fullmatch(text.strip()) is not None


def _is_capital(match: re.Match) -> bool:
    return (match["unit"] or "").strip() in ("M", "B", "BN")


def _number(cell: str, writing: Writing) -> float | None:
    if writing.zeros:
        code = _POSTAL.fullmatch(cell)
        return float(code[1]) if code else None
    match = _match(cell)
    unit = _unit(match) if match else ""
    if not match or unit not in (_MANY if writing.unit == "k" else ("", writing.unit)):
        return None
    if _mark(match) not in ("", writing.mark):
        return None
    whole, part = match["whole"], match["part"] or ""
    if match["group"] == writing.mark:  # 1,234 in a column that has 5,67 too
        whole, part = whole.split(writing.mark)
    value = float(f"0{re.sub(r'[^0-9]', '', whole)}.{part}") * (_MANY[unit] if writing.unit == "k" else 1.0)
    return -value if match["open"] or {match["sign"], match["inner"], match["after"]} & {"-", "−"} else value


def _hours(cell: str, _: Writing) -> float | None:
    match = _TIME.fullmatch(cell)
    if not match:
        return None
    hours, minutes, seconds, half = match.groups()
    found = int(hours) + int(minutes) / 60 + float(seconds or 0) / 3600
    return found % 12 + (12 if half.lower() == "p" else 0) if half else found


def _match(cell: str) -> re.Match | None:
    if not cell.isascii():  # digits of other scripts
        cell = "".join(str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in cell)
    match = _CELL.fullmatch(cell)
    return match if match and (match["group"] is None or match["group"] != match["decimal"]) else None


def _mark(match: re.Match) -> str:
    """The decimal mark, as far as this number tells it: the comma of 1,234 may be one and may not."""
    group = match["group"]
    if group in (".", ",") and match["whole"].count(group) > 1:
        return "." if group == "," else ","
    return match["decimal"] or ""


def _usual(found: Iterable[str]) -> tuple[str | None, set[str]]:
    """What nearly all say that say something, "" if nobody does and None if they differ; and all that is said."""
    said = Counter(each for each in found if each)
    most, count = said.most_common(1)[0] if said else ("", 0)
    return most if count >= _ALIKE * said.total() else None, set(said)


def _money(match: re.Match) -> str:
    return match["money"] or ((match["unit"] or "").strip() if not _unit(match) else "")


def _unit(match: re.Match) -> str:
    """A year and two years have one unit; a currency is none."""
    unit = (match["unit"] or "").strip()
    return "" if re.fullmatch(_MONEY, unit) else unit.casefold().rstrip("s.") or unit
