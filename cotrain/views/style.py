"""How a text is written, whatever it says: its length, capitals, digits, punctuation and symbols.

Legend: N rows, P code points of a chunk of texts.
"""

import unicodedata

import numpy as np
import pandas as pd

from cotrain.views.scale import own_scales
from cotrain.views.text import LONGEST, cells
from cotrain.views.view import View

FEATURES = (
    "characters, log",
    "words, log",
    "letters a word",
    "capitals among letters",
    "words that begin with a capital",
    "digits among characters",
    "punctuation among characters",
    "symbols among characters",
    "letters of other scripts among letters",
    "characters that repeat the one before",
    "exclamation marks, log",
    "question marks, log",
    "full stops, log",
    "commas, log",
    "line breaks, log",
)
_CHUNK = 2_000  # texts counted at once
_LIMIT = 5.0  # at which a feature ends, for one odd text must not count more than all the rest
_LATIN = 0x250  # code points from which letters are of other scripts


class StyleView(View):
    """Fifteen numbers of each text, each of the same size. Words and characters are blind to them: they are hashed in
    lower case and brought to one length."""

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """float64 [N, 15] as `FEATURES` names them."""
        texts = cells(frame, self.columns)
        parts = [style(texts[start : start + _CHUNK]) for start in range(0, len(texts), _CHUNK)]
        return np.concatenate(parts) if parts else np.empty((0, len(FEATURES)))

    def fit(self, raw: np.ndarray) -> "StyleView":
        self.learned = own_scales(raw)
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return ((raw - self.learned["mean"]) * self.learned["scale"]).clip(-_LIMIT, _LIMIT).astype(np.float32)


def style(texts: list[str]) -> np.ndarray:
    """float64 [N, 15] of these texts; the first 20,000 characters of each count."""
    cut = [text[:LONGEST] for text in texts]
    points = np.frombuffer("".join(cut).encode("utf-32-le", errors="replace"), np.uint32)
    row = np.repeat(np.arange(len(cut)), [len(text) for text in cut])
    kinds, place = np.unique(points, return_inverse=True)
    category = np.array([unicodedata.category(chr(kind)) for kind in kinds], "U2")[place]
    major = category.astype("U1")

    def count(which: np.ndarray) -> np.ndarray:
        return np.bincount(row[which], minlength=len(cut)).astype(np.float64)

    first = np.ones(len(points), bool)
    first[1:] = row[1:] != row[:-1]
    same = np.zeros(len(points), bool)
    same[1:] = points[1:] == points[:-1]
    letter, digit = major == "L", major == "N"
    inside = letter | digit | (major == "M")
    begins = inside.copy()
    begins[1:] &= ~inside[:-1] | first[1:]
    capital = (category == "Lu") | (category == "Lt")
    characters, words, letters = count(np.ones(len(points), bool)), count(begins), count(letter)
    safe = np.maximum(characters, 1)
    parts = [
        np.log1p(characters),
        np.log1p(words),
        letters / np.maximum(words, 1),
        count(capital) / np.maximum(letters, 1),
        count(begins & capital) / np.maximum(words, 1),
        count(digit) / safe,
        count(major == "P") / safe,
        count(major == "S") / safe,
        count(letter & (points >= _LATIN)) / np.maximum(letters, 1),
        count(same & ~first & (major != "Z")) / safe,
        *(np.log1p(count(points == ord(mark))) for mark in "!?.,\n"),
    ]
    return np.stack(parts, 1)
