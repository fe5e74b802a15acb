"""Rows that say the same: exactly, or but for spelling; and rows that must not be on both sides of a fold.

Hashes depend on the content alone, not on the order of rows or the run.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from cotrain.auto.cells import arrow_texts
from cotrain.auto.columns import Columns, count_words

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing
_NO_WORD = r"([^\pL\pN\pM\p{So}]|[\x{FE00}-\x{FE0F}])+"  # the latter choose the look of an emoji
_WORDS = 5  # texts with fewer words are said twice by chance


@dataclass(frozen=True, eq=False)
class Content:
    """What rows hold, as uint64 [N] hashes.

    exact: of all cells. near: of all cells, texts without case, punctuation and spacing. unit: rows with the same unit
    belong on one side of a fold: near duplicates, and rows that share a text of 5 words or more, or a file.
    blank: bool [N], rows in which every cell is missing.
    """

    exact: np.ndarray
    near: np.ndarray
    unit: np.ndarray
    blank: np.ndarray


def hash_content(frame: pd.DataFrame, columns: Columns, files: dict[str, np.ndarray] | None = None) -> Content:
    """frame: an aligned table. files: hashes of the files' bytes by image or audio column; else names are hashed."""
    rows = len(frame)
    exact, near, unit = (np.zeros(rows, np.uint64) for _ in range(3))
    blank = np.ones(rows, bool)
    words = np.zeros(rows, np.int64)
    for name in columns.text:
        plain = plain_texts(frame[name])
        exact, near, unit = _mix(exact, _hash(frame[name])), _mix(near, _hash(plain)), _mix(unit, _hash(plain))
        words += plain.map(count_words).to_numpy()
        blank &= (frame[name].str.strip() == "").to_numpy()
    for name in columns.image + columns.audio:
        digest = files[name] if files else _hash(frame[name])
        exact, near, unit = (_mix(total, digest) for total in (exact, near, unit))
        words += np.where(frame[name].str.strip() == "", 0, _WORDS)
        blank &= (frame[name].str.strip() == "").to_numpy()
    for name in columns.numbers:
        values = frame[name].to_numpy(np.float64) + 0.0  # -0.0 becomes 0.0
        digest = pd.util.hash_array(np.where(np.isnan(values), np.nan, values))
        exact, near = _mix(exact, digest), _mix(near, digest)
        blank &= np.isnan(values)
    for name in columns.categories:
        exact = _mix(exact, _hash(frame[name]))
        near = _mix(near, _hash(frame[name].str.strip().str.lower()))
        blank &= (frame[name] == "").to_numpy()
    return Content(exact, near, np.where(words >= _WORDS, unit, ~near), blank)


def repeats_by_nature(frame: pd.DataFrame, columns: Columns, near: np.ndarray) -> bool:
    """Whether equal rows are to be expected: a table of few different values, not one with copied rows.

    If the columns were independent, two rows would be equal with the product over columns of the sum of squared shares
    of their values. Where that explains a tenth of the equal pairs or more, they are no copies.
    """
    if columns.text or columns.image or columns.audio or len(frame) < 2:
        return False
    chance = 1.0
    for name in columns.numbers + columns.categories:
        shares = frame[name].value_counts(normalize=True, dropna=False).to_numpy()
        chance *= float((shares**2).sum())
    counts = np.unique(near, return_counts=True)[1].astype(np.float64)
    pairs = (counts * (counts - 1)).sum() / 2
    expected = chance * len(frame) * (len(frame) - 1) / 2
    return bool(pairs > 0 and expected >= 0.1 * pairs)


def plain_texts(texts: pd.Series) -> pd.Series:
    """Lower-case words, numbers and symbols such as emojis with single blanks between them; a text without any stays as
    it is."""
    given = arrow_texts(texts)
    folded = pc.utf8_lower(pc.utf8_normalize(given, form="NFKC"))
    words = pc.utf8_trim(pc.replace_substring_regex(folded, _NO_WORD, " "), characters=" ")
    return pc.if_else(pc.equal(words, ""), pc.utf8_trim_whitespace(given), words).to_pandas()


def _hash(texts: pd.Series) -> np.ndarray:
    return pd.util.hash_array(texts.to_numpy(dtype=object))


def _mix(total: np.ndarray, digest: np.ndarray) -> np.ndarray:
    mixed = (total ^ digest) * _MIX
    return mixed ^ (mixed >> np.uint64(29))
