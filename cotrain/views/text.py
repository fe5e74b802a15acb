"""Text as hashed counts of words or of characters, weighted by how rare they are. NumPy and SciPy only.

Whole chunks of texts are hashed at once: with P[i] = sum_{j<i} c_j B^j over the code points c, the slice i..k has the
polynomial hash (P[k] - P[i]) B^-i modulo 2^64 (B is odd, so it has an inverse).
Legend: N rows, V hash values, D kept features.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from cotrain.threads import workers
from cotrain.views.view import View

BITS = 22  # of the hash: 4 million values, so that even 300,000 different words rarely meet
LONGEST = 20_000  # characters of a cell that are read
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_CHUNK = 250_000  # characters hashed at once: what is made of them stays near the processor
_BREAK = "\x00"  # stands between texts; no word or n-gram crosses it


def word_counts(texts: Sequence[str], longest: int = 2) -> sparse.csr_matrix:
    """Counts of words and of runs of up to `longest` words, float32 [N, V]. A word is a run of letters and digits, or
    one character of a script without blanks between words, or one symbol such as an emoji."""
    return _stack(lambda chunk: _count_words(chunk, longest), texts)


def character_counts(texts: Sequence[str], shortest: int = 1, longest: int = 5) -> sparse.csr_matrix:
    """Counts of character n-grams, float32 [N, V]. N-grams reach over the blank at a word's edge and no further; one
    blank is none."""
    return _stack(lambda chunk: _count_characters(chunk, shortest, longest), texts)


def _stack(count: Callable[[list[str]], sparse.csr_matrix], texts: Sequence[str]) -> sparse.csr_matrix:
    with workers(min(4, os.cpu_count() or 1)) as pool:
        parts = list(pool.map(count, _chunks(texts)))
    return sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, 2**BITS), dtype=np.float32)


def _chunks(texts: Sequence[str]) -> Iterator[list[str]]:
    """Lists of texts of bounded length, cleaned: composed Unicode, lower case, single blanks, a blank at both ends."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text)
        clean = f" {' '.join(text[:LONGEST].lower().replace(_BREAK, ' ').split())} "
        chunk.append(clean)
        size += len(clean) + 1
        if size > _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _Hashed:
    """A chunk of texts as code points with the prefix sums that hash any slice of it."""

    def __init__(self, texts: Sequence[str]):
        joined = _BREAK.join([*texts, ""])
        self.points = np.frombuffer(joined.encode("utf-32-le", errors="replace"), dtype=np.uint32)
        count = len(self.points)
        lengths = np.fromiter((len(text) + 1 for text in texts), np.int64, len(texts))
        self.row = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)
        self.rows = len(texts)
        powers = np.full(count, _BASE, np.uint64)
        inverses = np.full(count, _INVERSE, np.uint64)
        powers[0] = inverses[0] = 1
        np.multiply.accumulate(powers, out=powers)
        np.multiply.accumulate(inverses, out=inverses)
        self._inverses = inverses
        self._prefix = np.zeros(count + 1, np.uint64)
        np.cumsum((self.points.astype(np.uint64) + np.uint64(1)) * powers, out=self._prefix[1:])

    def slices(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """uint64 hash of each slice start..end-1."""
        return (self._prefix[end] - self._prefix[start]) * self._inverses[start]

    def words(self) -> tuple[np.ndarray, np.ndarray]:
        """Where words start and where they have ended: runs of letters or digits (of any script) with marks that belong
        to them, single characters of unspaced scripts and single symbols, whatever chooses their look left out."""
        kinds, place = np.unique(self.points, return_inverse=True)
        category = [unicodedata.category(chr(kind)) for kind in kinds]
        letter = np.array([of[0] in "LNM" and not 0xFE00 <= kind <= 0xFE0F for of, kind in zip(category, kinds)])[place]
        mark = np.array([of[0] == "M" for of in category])[place]
        alone = np.array(
            [of == "So" or (of == "Lo" and bool(UNSPACED.match(chr(kind)))) for of, kind in zip(category, kinds)]
        )[place]
        within = letter | alone
        starts, ends = within.copy(), within.copy()
        together = letter[1:] & (mark[1:] & within[:-1] | letter[:-1] & ~alone[:-1] & ~alone[1:])
        starts[1:] &= ~together
        ends[:-1] &= ~together
        return np.flatnonzero(starts), np.flatnonzero(ends) + 1


# Scripts without blanks between words: Hiragana, Chinese characters (in Japanese too), Thai, Lao, Burmese, Khmer.
# Katakana write foreign words, which stand between others.
UNSPACED = re.compile(
    "[\u3041-\u309f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"
)


def _count_words(texts: Sequence[str], longest: int) -> sparse.csr_matrix:
    hashed = _Hashed(texts)
    start, end = hashed.words()
    row, word = hashed.row[start], _scatter(hashed.slices(start, end))
    rows, values, run = [row], [word], word
    for length in range(2, longest + 1):
        # The run from word i is hashed from the run one shorter and the word that it adds.
        inside = row[: len(row) - length + 1] == row[length - 1 :]
        run = _scatter(run[: len(run) - 1] * _BASE + word[length - 1 :])
        rows.append(row[: len(run)][inside])
        values.append(run[inside])
    return _matrix(rows, values, hashed.rows)


def _count_characters(texts: Sequence[str], shortest: int, longest: int) -> sparse.csr_matrix:
    hashed = _Hashed(texts)
    count = len(hashed.points)
    boundary = (hashed.points == ord(" ")) | (hashed.points == 0)
    boundaries = np.concatenate([[0], np.cumsum(boundary)])
    rows, values = [], []
    for length in range(shortest, longest + 1):
        start = np.arange(count - length + 1)
        inner = boundaries[start + length - 1] - boundaries[start + 1]
        good = (inner == 0) & (hashed.points[start] != 0) & (hashed.points[start + length - 1] != 0)
        if length == 2:
            good &= ~(boundary[start] & boundary[start + 1])  # an empty text is two blanks, and has no n-gram
        start = start[good]
        rows.append(hashed.row[start])
        values.append(_scatter(hashed.slices(start, start + length) + np.uint64(length)))
    return _matrix(rows, values, hashed.rows)


def _scatter(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64: makes every bit depend on every bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _matrix(rows: list[np.ndarray], values: list[np.ndarray], count: int) -> sparse.csr_matrix:
    row = np.concatenate(rows)
    column = (np.concatenate(values) >> np.uint64(64 - BITS)).astype(np.int32)
    ones = np.ones(len(row), np.float32)
    counts = sparse.csr_matrix((ones, (row, column)), shape=(count, 2**BITS))
    counts.sum_duplicates()
    return counts


def cells(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns' texts of each row as one text; a missing cell is empty."""
    parts = [frame[column].fillna("").astype(str) for column in columns]
    if len(parts) == 1:
        return parts[0].tolist()
    return [" \n ".join(texts) for texts in zip(*parts, strict=True)]


class _Counts(View):
    """Hashed counts -> columns seen in enough rows, in logarithms, weighted by rarity (TF-IDF), rows of unit length."""

    def fit(self, raw: sparse.csr_matrix) -> "View":
        found, frequency = np.unique(raw.indices, return_counts=True)
        least = 2 if raw.shape[0] >= 100 else 1
        kept = np.flatnonzero((frequency >= least) & (frequency <= max(0.95 * raw.shape[0], least)))
        most = self.settings["most"]
        if len(kept) > most:
            kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:most]])
        idf = np.log((1 + raw.shape[0]) / (1 + frequency[kept])) + 1
        self.learned = {"column": found[kept].astype(np.int32), "idf": idf.astype(np.float32)}
        return self

    def transform(self, raw: sparse.csr_matrix) -> sparse.csr_matrix:
        features = self.counts(raw)
        np.log1p(features.data, out=features.data)
        features.data *= self.learned["idf"][features.indices]
        norm = np.sqrt(features.multiply(features).sum(1)).A1
        features.data /= np.repeat(np.maximum(norm, 1e-12), np.diff(features.indptr)).astype(np.float32)
        return features

    def counts(self, raw: sparse.csr_matrix) -> sparse.csr_matrix:
        """The kept columns, as counts; what naive Bayes wants."""
        columns = self.learned["column"]
        place = np.full(2**BITS, -1, np.int32)
        place[columns] = np.arange(len(columns), dtype=np.int32)
        index = place[raw.indices]
        kept = index >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])[raw.indptr].astype(np.int32)
        return sparse.csr_matrix((raw.data[kept].copy(), index[kept], ends), shape=(raw.shape[0], len(columns)))


class WordView(_Counts):
    """Words and pairs of words."""

    def __init__(self, columns: Sequence[str], most: int = 60_000):
        super().__init__(columns, most=most)

    def extract(self, frame: pd.DataFrame) -> sparse.csr_matrix:
        return word_counts(cells(frame, self.columns))


class CountView(_Counts):
    """Single words as plain counts, for naive Bayes."""

    def __init__(self, columns: Sequence[str], most: int = 60_000):
        super().__init__(columns, most=most)

    def extract(self, frame: pd.DataFrame) -> sparse.csr_matrix:
        return word_counts(cells(frame, self.columns), longest=1)

    def transform(self, raw: sparse.csr_matrix) -> sparse.csr_matrix:
        return self.counts(raw)


class CharacterView(_Counts):
    """Runs of up to 5 characters within words: robust to spelling, and to scripts without blanks."""

    def __init__(self, columns: Sequence[str], most: int = 40_000):
        super().__init__(columns, most=most)

    def extract(self, frame: pd.DataFrame) -> sparse.csr_matrix:
        return character_counts(cells(frame, self.columns))


class TopicView(WordView):
    """Words as a few hundred directions in which texts differ most (latent semantic analysis), unit length."""

    def __init__(self, columns: Sequence[str], most: int = 20_000, dimensions: int = 100):
        _Counts.__init__(self, columns, most=most, dimensions=dimensions)

    def fit(self, raw: sparse.csr_matrix) -> "TopicView":
        super().fit(raw)
        words = super().transform(raw)
        dimensions = min(self.settings["dimensions"], min(words.shape) - 1)
        self.learned["direction"] = _directions(words, dimensions) if dimensions > 0 else np.zeros((0, words.shape[1]))
        return self

    def transform(self, raw: sparse.csr_matrix) -> np.ndarray:
        features = super().transform(raw) @ self.learned["direction"].T
        return (features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _directions(x: sparse.csr_matrix, count: int, rounds: int = 4) -> np.ndarray:
    """The leading right singular vectors [count, D], by randomized subspace iteration (Halko et al. 2011)."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((x.shape[1], count + 10), dtype=np.float32)
    for _ in range(rounds):
        basis, _ = np.linalg.qr(x.T @ (x @ basis))
    _, _, rotation = np.linalg.svd(x @ basis, full_matrices=False)
    return (rotation @ basis.T)[:count].astype(np.float32)
