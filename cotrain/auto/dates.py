"""Columns of dates and times: recognised, read, and turned into numbers."""

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

PARTS = ("day", "month", "weekday", "hour")
DAY, MONTH = "day first", "month first"  # orders of dates with the year last
SHORT = "year of two digits first"
_ZONE = r"(Z|UTC|GMT|(UTC|GMT)?[+-]\d{1,2}(:?\d{2})?)"
_TIME = rf"(([T ]|, )\d{{1,2}}:\d{{2}}(:\d{{2}}(\.\d+)?)?\s*([APap]\.?[Mm]\.?)?\s*{_ZONE}?)?$"
_YEAR_FIRST = re.compile(r"^(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|(19|20)\d\d-(0[1-9]|1[0-2]))" + _TIME)
_DAY_WORD, _MONTH_WORD = r"\d{1,2}(st|nd|rd|th)?", r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_LONG_YEAR = rf"({_DAY_WORD}[ -]{_MONTH_WORD}|{_MONTH_WORD}( {_DAY_WORD},?)?)[ -]\d{{4}}"
_NAMED = re.compile(
    rf"^((mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?({_LONG_YEAR}|{_DAY_WORD}-{_MONTH_WORD}-\d\d){_TIME}", re.IGNORECASE
)
_MARKED = re.compile(r":.*([A-Z]|\.|[+-]\d{1,2}(:?\d\d)?)$", re.IGNORECASE)  # a time with a zone or a half of the day
_EPOCH = {"seconds": 1, "milliseconds": 1_000}  # counted since 1970
_SPAN = (946_684_800, 2_051_222_400)  # in seconds: 2000 to 2034
_FORMATS = {"year first": "%Y-%m-%d", "named": "%d %b %Y", DAY: "%d.%m.%Y", MONTH: "%m/%d/%Y", SHORT: "%y-%m-%d"}
_YEAR_LAST = re.compile(r"^(\d{1,2})[-/.](\d{1,2})[-/.](\d{4}|\d{2})" + _TIME)


def looks_like_dates(texts: list[str]) -> str:
    """What the texts are: "year first" (2024-01-31), "day first" (31.1.2024), "month first" (1/31/2024), "year of two
    digits first" (24-01-31), "named" (31 January 2024), or "" where fewer than 95 of 100 can be read so."""
    order = _order([text.strip() for text in texts])
    return order if order and read_dates(pd.Series(texts), order).notna().mean() >= 0.95 else ""


def _order(stripped: list[str]) -> str:
    if not stripped:
        return ""
    for pattern, order in ((_YEAR_FIRST, "year first"), (_NAMED, "named")):
        if np.mean([bool(pattern.match(text)) for text in stripped]) >= 0.95:
            return order
    found = [match for text in stripped if (match := _YEAR_LAST.match(text))]
    if len(found) < 0.95 * len(stripped):
        return ""
    if _years_come_first(found):
        return SHORT
    shown, dotted = orders_shown(stripped), all("." in text for text in stripped)
    return DAY if DAY in shown or (dotted and not shown) else MONTH


def _years_come_first(found: list[re.Match]) -> bool:
    """Of dates such as 24-09-10: whether all first numbers are above 12, so no months, and fewer than the last ones."""
    if any(len(match.group(3)) == 4 for match in found):
        return False
    first, second, last = ([int(match.group(place)) for match in found] for place in (1, 2, 3))
    return min(first) > 12 >= max(second) and max(last) <= 31 and len(set(first)) < len(set(last))


def count_as_dates(numbers: np.ndarray) -> str:
    """What finite numbers are: "digits" (20240131), "seconds" or "milliseconds" since 1970 (in 2000 to 2034),
    or ""."""
    if len(numbers) < 2 or np.any(numbers % 1):
        return ""
    for order, unit in _EPOCH.items():
        if _SPAN[0] * unit <= numbers.min() and numbers.max() < _SPAN[1] * unit:
            return order
    if not 19_000_101 <= numbers.min() <= numbers.max() <= 20_991_231:
        return ""
    return "" if read_dates(pd.Series(numbers), "digits").isna().any() else "digits"


def read_dates(column: pd.Series, order: str) -> pd.Series:
    """datetime64 without zone, in UTC where one is given; NaT where a cell is no date. order: see looks_like_dates and
    count_as_dates; of texts it says which of day and month comes first where the year comes last, or that the year of
    two digits is first, and those are NaT that cannot be so, as are seconds and milliseconds not in 2000 to 2034."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return column
    if order == "digits" or order in _EPOCH:
        numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
        numbers = numbers.where(np.isfinite(numbers) & (numbers % 1 == 0))
        if order == "digits":
            return pd.to_datetime(numbers.astype("Int64").astype("string"), format="%Y%m%d", errors="coerce")
        numbers = numbers / _EPOCH[order]
        return pd.to_datetime(numbers.where(numbers.between(*_SPAN)), unit="s", errors="coerce")
    plain, named = np.full((2, len(column)), None, dtype=object)
    for place, cell in enumerate(column):
        text = cell.strip() if isinstance(cell, str) else ""
        if _YEAR_FIRST.match(text):
            plain[place] = text
        elif _NAMED.match(text):
            named[place] = _plain(text)
        elif order in (DAY, MONTH, SHORT) and (match := _YEAR_LAST.match(text)):
            plain[place] = _turned(match, order)
    texts = pd.Series([None if text is None else _plain(text) for text in plain], dtype=object)
    texts = texts.str.replace(r"^(\d{4})[/.](\d{1,2})[/.](\d{1,2})", r"\1-\2-\3", regex=True)
    texts = texts.str.replace(r"^(\d{4})-(\d)(?=-)", r"\1-0\2", regex=True)
    texts = texts.str.replace(r"^(\d{4}-\d{2})-(\d)(?!\d)", r"\1-0\2", regex=True)
    texts = texts.str.replace(r"^([\d-]+), ", r"\1 ", regex=True)
    half = texts.str.contains(r"\d\s*[ap]m\b", case=False, na=False).any()  # 4:00 PM is no ISO
    read = pd.to_datetime(texts, format="mixed" if half else "ISO8601", utc=True, errors="coerce")
    by_name = pd.to_datetime(pd.Series(named, dtype=object), format="mixed", utc=True, errors="coerce")
    return read.where(read.notna(), by_name).dt.tz_localize(None)


def write_dates(dates: pd.Series, order: str) -> pd.Series:
    """What read_dates reads in this order: texts, or float64 where dates are counted or are digits."""
    if order in _EPOCH:
        return (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(seconds=1) * _EPOCH[order]
    if order == "digits":
        return dates.dt.year * 10_000.0 + dates.dt.month * 100 + dates.dt.day
    timed = (dates.dropna() != dates.dropna().dt.normalize()).any()
    return dates.dt.strftime(_FORMATS[order] + (" %H:%M:%S" if timed else ""))


def _turned(match: re.Match, order: str) -> str:
    """A date with its year last, or of two digits, as one with its year of four digits first."""
    first, second, last = (int(part) for part in match.group(1, 2, 3))
    day, month, year = {DAY: (first, second, last), MONTH: (second, first, last), SHORT: (last, second, first)}[order]
    year += (2000 if year < 69 else 1900) * (year < 100)
    return f"{year}-{month:02}-{day:02}{match.string[match.end(3) :]}"


def orders_shown(texts: Iterable[str]) -> set[str]:
    """Which orders of day and month are the only ones that some text can have: 13/1/2024 is day first."""
    found = [match for text in texts if (match := _YEAR_LAST.match(text.strip()))]
    first, second = (max((int(match.group(place)) for match in found), default=0) for place in (1, 2))
    return {order for order, most in ((DAY, first), (MONTH, second)) if most > 12}


def other_order(texts: pd.Series, order: str) -> str:
    """The order in which filled cells of a column are written that was known to be in `order`; "" where it is that
    one, or none is seen."""
    shown = orders_shown(texts)
    if order in shown:
        return ""
    if order in (DAY, MONTH) and shown:
        return min(shown)
    if read_dates(texts, order).isna().sum() <= len(texts) / 2:
        return ""
    numbers = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    twice = np.repeat(numbers, 2)  # of a column of dates one will do
    other = looks_like_dates(texts.tolist()) or count_as_dates(twice)
    return other if other != order else ""


def _plain(text: str) -> str:
    """As pandas reads times: 16:00Z for 16:00 UTC, 16:00+01:00 for 16:00 GMT+1, PM for p.m."""
    if not _MARKED.search(text):
        return text
    text = re.sub(r"\s*(UTC|GMT)$", "Z", text)
    text = re.sub(r"\s*(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d\d))?$", _zone, text)
    return re.sub(r"\b([ap])\.m\.?", r"\1m", text, flags=re.IGNORECASE)


def _zone(match: re.Match) -> str:
    sign, hours, minutes = match.groups()
    return f"{sign}{hours:0>2}:{minutes or '00'}"


def date_columns(name: str) -> tuple[str, ...]:
    """The names of the number columns that a date column becomes."""
    return tuple(f"{name}:{part}" for part in PARTS)


def date_numbers(dates: pd.Series) -> list[np.ndarray]:
    """Days since 1970 with fraction, month 1-12, weekday 0 (Monday) to 6, hour with fraction; float64, NaN if none."""
    day = (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
    hour = (dates - dates.dt.normalize()) / pd.Timedelta(hours=1)
    return [part.to_numpy(np.float64, na_value=np.nan) for part in (day, dates.dt.month, dates.dt.day_of_week, hour)]
