"""What is in a column's cells: text columns become numbers where every cell is one, typed columns become one of four
kinds (text, numbers, true/false, times).
"""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cotrain.auto.vectors import vector_shape

# A code such as 007 is no number: no leading zeros. "1.", ".5" and "+2e-3" are.
_NUMBER = r"^[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_CODE = r"^[+-]?0[0-9]+$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
SPREADSHEET_ERRORS = r"#n/?a|#null!|#div/0!|#value!|#ref!|#name\?|#num!|#error!"
MISSING = rf"|n\.?/?a\.?|<na>|nan|null|none|{SPREADSHEET_ERRORS}"  # how programs write a cell without a value
_MISSING = rf"(?i)^({MISSING})$"
NUMBERS = 0.9  # share of the cells that are not missing that must be numbers, in a column of numbers
_NINES = tuple(float(sign * (10**digits - 1)) for digits in range(1, 7) for sign in (-1, 1))
_EXACT = 2**53  # integers up to here are exact in float64


@dataclass(frozen=True)
class Numbers:
    """The cells of a text column read as numbers; arrays of one entry per cell.

    values: float64, NaN where a cell is missing or no number. number, missing: bool; a cell that is neither is a stray.
    codes: whether some cell is a whole number written with leading zeros, so that the column is one of codes.
    """

    values: np.ndarray
    number: np.ndarray
    missing: np.ndarray
    codes: bool

    @property
    def strays(self) -> np.ndarray:
        """Row numbers of the cells that are neither missing nor numbers."""
        return np.flatnonzero(~self.number & ~self.missing)

    @property
    def share(self) -> float:
        """Numbers among the cells that are not missing; 0 for a column of codes, or one without any number."""
        filled = int((~self.missing).sum())
        return int(self.number.sum()) / filled if filled and not self.codes else 0.0


def read_numbers(texts: pd.Series) -> Numbers:
    """Reads every cell of a text column as a number, as far as that goes."""
    different, place = _different(texts)
    once = _read_each(different)
    return Numbers(once.values[place], once.number[place], once.missing[place], once.codes)


def _different(texts: pd.Series) -> tuple[pa.Array, np.ndarray]:
    """The cells that differ, missing ones included, and which of them each cell is: often few, as where numbers are
    pixels, so that they are looked at once."""
    encoded = arrow_texts(texts).dictionary_encode(null_encoding="encode")
    return encoded.dictionary, encoded.indices.to_numpy(zero_copy_only=False)


def _read_each(texts: pa.Array) -> Numbers:
    trimmed = pc.utf8_trim_whitespace(texts)
    number = _matches(trimmed, _NUMBER)
    missing, codes = np.zeros(len(number), bool), False
    if not number.all():
        missing = _matches(trimmed, _MISSING) | trimmed.is_null().to_numpy(zero_copy_only=False)
        number |= _matches(trimmed, _INFINITE)
        codes = bool(_matches(trimmed, _CODE).any())
    values = pc.cast(_plain(trimmed, number), pa.float64()).to_numpy(zero_copy_only=False)
    return Numbers(values, number, missing, codes)


def look_numeric(texts: pd.Series) -> float:
    """A quick look: the share of numbers among those of the first 200 cells that are not missing; 1 if all are."""
    head = [cell.strip() for cell in texts.iloc[:200] if isinstance(cell, str)]
    filled = [cell for cell in head if not re.match(_MISSING, cell)]
    numbers = sum(bool(re.match(_NUMBER, cell) or re.match(_INFINITE, cell)) for cell in filled)
    return numbers / len(filled) if filled else 1.0


def words_for_none(texts: list[str]) -> set[str]:
    """The cells that stand for a missing value among numbers or dates: what programs write, and where half of the cells
    have digits, at least 20 different ones, up to three words without any, such as "refused" or "k.A."."""
    different = set(texts)
    none = {text for text in different if re.match(_MISSING, text.strip())}
    words = {text for text in different - none if not re.search(r"\d", text)}
    if 0 < len(words) <= 3 and len(different - none - words) >= 20 and 2 * sum(t in words for t in texts) <= len(texts):
        none |= words
    return none


def numbers_for_none(values: np.ndarray) -> tuple[float, ...]:
    """Numbers that stand for a missing value: -9, -99, 99, -999 and so on that come up three times or more and stand
    alone: below zero where nothing else is, or beyond all others by three times their range. Of few different numbers
    only where these are answers (1 to 5, yes and no): 99 beside 19 and 49 is a price, as is 9999 where most others end
    in 9. values: finite."""
    least, most = values.min(initial=0), values.max(initial=0)
    often = [n for n in _NINES if least <= n <= most and np.count_nonzero(values == n) >= 3]
    others = values[~np.isin(values, often)]
    if len(others) < 20:
        return ()
    different = np.unique(others)
    low, high = different[[0, -1]]
    answers = len(different) > 1 and low in (0, 1) and bool((np.diff(different) == 1).all())
    if not answers and len(different) < 10:
        return ()
    prices = np.mean(others % 10 == 9) > 0.5
    above = np.inf if prices else max(9 if answers else 99, high + 3 * (high - low))
    below = min(-99, low - 3 * (high - low))
    return tuple(n for n in often if n < 0 <= low or n > above or n < below)


def whole_numbers(texts: pd.Series) -> np.ndarray | None:
    """int64 or float64 (where there are fractions or missing cells) if the whole column parses, else None.

    None also where float64 or int64 would lose digits, and for a column without a single number.
    """
    if look_numeric(texts) < 1:
        return None
    different, place = _different(texts)
    found = _whole_numbers(different)
    return None if found is None else found[place]


def _whole_numbers(texts: pa.Array) -> np.ndarray | None:
    read = _read_each(texts)
    if read.codes or len(read.strays) or not read.number.any():
        return None
    found = read.values[read.number]
    if not np.isfinite(found).all() or np.any(found % 1):
        return read.values
    plain = _plain(pc.utf8_trim_whitespace(texts), read.number)
    if _matches(plain, r"[.eE]").any():
        return read.values
    try:
        integers = pc.cast(plain, pa.int64())
    except pa.ArrowInvalid:
        return None  # more digits than int64 holds: an identifier
    if not read.missing.any():
        return integers.to_numpy(zero_copy_only=False)
    span = pc.min_max(integers).as_py()
    return read.values if max(-span["min"], span["max"]) <= _EXACT else None


def arrow_texts(texts: pd.Series) -> pa.Array:
    """A text column as one Arrow array of strings; missing cells are null."""
    array = pa.array(texts, type=pa.large_string(), from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def text_series(texts: Any) -> pd.Series:
    """Strings and None as pandas text. Half characters (lone surrogates), which no file can hold, become '?'."""
    try:
        array = pa.array(texts, type=pa.large_string(), from_pandas=True)
    except UnicodeEncodeError:
        whole = [text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else None for text in texts]
        array = pa.array(whole, type=pa.large_string())
    return array.to_pandas()


def tidy(cells: pd.Series) -> tuple[pd.Series, str]:
    """A column of typed cells as int64, float64, bool, datetime64 or text, and what there is to warn of (often "").

    Lists and dictionaries become JSON text; cells of several types become text; times lose their zone after being
    brought to UTC.
    """
    cells = cells.reset_index(drop=True)
    dtype = cells.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return tidy(cells.astype(dtype.categories.dtype) if not cells.isna().any() else cells.astype(object))
    if isinstance(dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(dtype):
        return pd.to_datetime(cells, utc=True).dt.tz_localize(None), ""
    if pd.api.types.is_timedelta64_dtype(dtype):
        return cells.dt.total_seconds(), "lengths of time are read as seconds"
    if isinstance(dtype, pd.PeriodDtype):
        return cells.dt.to_timestamp(), ""
    if pd.api.types.is_bool_dtype(dtype):
        return (text_series(_each(cells, str)), "") if cells.isna().any() else (cells.astype(bool), "")
    if pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_float_dtype(dtype):
        return _numeric(cells), ""
    if isinstance(dtype, pd.StringDtype):
        return text_series(cells), ""
    return _tidy_objects(cells.astype(object))


def _tidy_objects(cells: pd.Series) -> tuple[pd.Series, str]:
    kind = pd.api.types.infer_dtype(cells, skipna=True)
    if kind == "empty":
        return pd.Series(np.full(len(cells), np.nan)), ""
    if kind == "string":
        return text_series(cells), ""
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _numeric(cells), ""
    if kind == "boolean":
        return (text_series(_each(cells, str)), "") if cells.isna().any() else (cells.astype(bool), "")
    if kind in ("datetime", "datetime64", "date"):
        try:
            return pd.to_datetime(cells, utc=True).dt.tz_localize(None), ""
        except (ValueError, OverflowError):
            return text_series(_each(cells, str)), "dates out of range are read as text"
    if kind in ("timedelta", "timedelta64"):
        try:
            return tidy(pd.to_timedelta(cells))
        except (ValueError, OverflowError):
            pass  # longer than pandas can hold: text
    if kind == "bytes":
        return text_series(_each(cells, lambda cell: cell.decode("utf-8", "replace"))), "bytes are read as UTF-8 text"
    types = sorted({type(cell).__name__ for cell in cells[~cells.isna()]})
    texts = text_series(_each(cells, _as_text))
    if types == ["dict"] or (len(types) == 1 and vector_shape(texts[texts.notna()].iloc[:50].tolist())):
        return texts, ""
    if len(types) == 1:
        return texts, f"cells of type {types[0]} are read as text"
    return texts, f"cells of several types ({', '.join(types)}) are read as text"


def _numeric(cells: pd.Series) -> pd.Series:
    whole = not cells.isna().any() and pd.api.types.infer_dtype(cells) == "integer"
    try:
        if whole and not pd.api.types.is_unsigned_integer_dtype(cells.dtype):
            return cells.astype(np.int64)
        return pd.Series(cells.to_numpy(dtype=np.float64, na_value=np.nan))
    except OverflowError:
        return text_series(_each(cells, str))  # more digits than int64 holds: an identifier


def _each(cells: pd.Series, change) -> list[str | None]:
    return [None if gone else change(cell) for cell, gone in zip(cells, cells.isna())]


def _as_text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, (set, frozenset)):
        cell = sorted(cell, key=str)
    if isinstance(cell, (list, tuple, dict)):
        return json.dumps(cell, ensure_ascii=False, default=_plainer)
    return str(cell)


def _plainer(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _plain(trimmed: pa.Array, number: np.ndarray) -> pa.Array:
    """The numbers in the form that Arrow parses: without a plus; the other cells null."""
    return pc.utf8_ltrim(trimmed if number.all() else pc.if_else(pa.array(number), trimmed, None), characters="+")


def _matches(texts: pa.Array, pattern: str) -> np.ndarray:
    return pc.fill_null(pc.match_substring_regex(texts, pattern), False).to_numpy(zero_copy_only=False)
