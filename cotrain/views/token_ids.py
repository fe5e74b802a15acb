"""Texts as ids of words, and vectors for words learned without labels. Legend: N texts, T places, V ids."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from cotrain.errors import InputError

NOTHING, UNKNOWN = 0, 1  # no word at this place; a word that is not in the vocabulary


class TokenIds:
    """Texts -> ids int64 [N, T]: words from the left in their order, then 0s; longer texts lose their end.

    Args:
        size: V, the largest number of ids, the two above included; the most frequent words get one.
        length: T.
        least: how often a word must occur to get an id.

    Attributes:
        words: the word of each id, after `fit`.
    """

    def __init__(self, size: int = 10_000, length: int = 64, least: int = 2):
        if size < 3 or length < 1:
            raise InputError(f"size is at least 3 and length at least 1, not {size} and {length}.")
        self.size = size
        self.length = length
        self.least = least
        self.words: list[str] = []

    def fit(self, texts: Sequence[str]) -> "TokenIds":
        """Choose the vocabulary; words of equal frequency in the order of the alphabet.

        Raises:
            InputError: no word occurs often enough.
        """
        counts = Counter(word for text in texts for word in split_words(text))
        often = sorted((word for word, count in counts.items() if count >= self.least), key=lambda w: (-counts[w], w))
        if not often:
            raise InputError(f"No word occurs {self.least} times or more in the {len(texts)} texts.")
        self.words = ["", "?", *often[: self.size - 2]]
        return self

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        number = {word: place for place, word in enumerate(self.words)}
        ids_NT = np.full((len(texts), self.length), NOTHING)
        for row, text in zip(ids_NT, texts, strict=True):
            found = [number.get(word, UNKNOWN) for word in split_words(text)[: self.length]]
            row[: len(found)] = found
        return ids_NT


def split_words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return re.findall(r"\w+", text.lower())


def word_vectors(
    ids_NT: np.ndarray, vocabulary: int, size: int, window: int | None = None, smoothing: float = 0.75, seed: int = 0
) -> np.ndarray:
    """A vector for each id, float32 [V, size], from which words stand together; zeros for ids 0 and 1.

    Positive pointwise mutual information of words at most `window` places apart (None: in the same text), factorized;
    scaled to a standard deviation of 1 over all numbers.

    Args:
        smoothing: exponent of the frequency of the second word, 0..1; below 1 rare words weigh less.

    Source: Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization", section 4; smoothing: Levy,
    Goldberg & Dagan 2015, "Improving distributional similarity with lessons learned from word embeddings", section 3.2.
    """
    pairs: sparse.csr_matrix = sparse.csr_matrix((vocabulary, vocabulary))
    furthest = ids_NT.shape[1] - 1
    for distance in range(1, 1 + (furthest if window is None else min(window, furthest))):
        left, right = ids_NT[:, :-distance].ravel(), ids_NT[:, distance:].ravel()
        known = (left > UNKNOWN) & (right > UNKNOWN)
        ones = np.ones(known.sum())
        pairs = pairs + sparse.csr_matrix((ones, (left[known], right[known])), shape=pairs.shape)
    pairs = (pairs + pairs.T).tocoo()
    count = np.asarray(pairs.sum(0)).ravel()
    smooth = count**smoothing
    information = np.log(pairs.data * smooth.sum() / (count[pairs.row] * smooth[pairs.col]))
    table = sparse.csr_matrix((np.maximum(information, 0), (pairs.row, pairs.col)), shape=pairs.shape)
    u, s, _ = randomized_svd(table, size, random_state=seed)
    vectors = u * s
    vectors[count == 0] = 0
    return (vectors / max(vectors[count > 0].std(), 1e-12)).astype(np.float32)
