"""Which rows a view learns from, where it does not need all of them."""

import hashlib

import numpy as np


def sample_rows(raw: np.ndarray, most: int) -> np.ndarray:
    """The numbers of at most `most` rows, int64, chosen and ordered by what the rows hold.

    The same set of rows gives the same rows in the same order, however the table is sorted: a view that learns from
    them does not depend on the table's order, not even in the last bit.
    """
    keys = np.array([hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in raw], dtype="S8")
    return np.argsort(keys, kind="stable")[:most]
