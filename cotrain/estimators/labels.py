"""Labels with gaps: which rows are labelled, which classes there are, in what order rows are used.

A label is missing where it is -1, NaN, None, pandas.NA, an empty text or masked.

Legend: n labelled rows, u unlabelled rows, C classes.
"""

import hashlib
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from cotrain.errors import InputError
from cotrain.masks import unmasked


def unlabelled(y: np.ndarray) -> np.ndarray:
    """bool, one per row: True where the label is missing."""
    missing = np.array(pd.isna(y))
    if y.dtype.kind in "biuf":
        return missing | (y == -1)
    blank = [not value.strip() if isinstance(value, str) else value == -1 for value in y[~missing]]
    missing[~missing] = blank
    return missing


def encode(y, rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The classes, sorted [C], and each row's class number, int64 [n + u], -1 where unlabelled.

    Args:
        y: one label or gap per row.
        rows: how many rows there are, if that is to be checked.

    Raises:
        InputError: not one label (or gap) per row, no labelled row, one class only, labels of mixed types, or gaps
            that NumPy turned into texts.
        ValueError: labels that scikit-learn does not take for classes (real numbers, several columns).
    """
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None")
    y = column_or_1d(unmasked(y, object), warn=True)
    if rows is not None and len(y) != rows:
        raise InputError(f"X has {rows} rows, y has {len(y)} labels; give one label or gap per row")
    missing = unlabelled(y)
    if y.dtype.kind in "US" and (gaps := sorted({"-1", "nan", "None", "<NA>"}.intersection(y.astype(str).tolist()))):
        raise InputError(
            f"the labels are a NumPy array of texts, in which {gaps[0]!r} cannot be told from a missing label; leave "
            "missing ones empty, or give an array of dtype object"
        )
    if missing.all():
        raise InputError(
            f"no labelled row: all {len(y)} labels are missing (-1, NaN, None or empty); give at least two classes"
        )
    given = y[~missing]
    if given.dtype.kind == "O":
        is_text = [isinstance(label, str) for label in given]
        if any(is_text) and not all(is_text):
            row = int(np.flatnonzero(~missing)[is_text.index(not is_text[0])])
            raise InputError(f"the labels mix text and other types, first in row {row}: {y[row]!r}; use one type")
        given = given if all(is_text) else np.asarray(given.tolist())
    check_classification_targets(given)
    classes, number = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"only one class among the {len(given)} labelled rows, {classes.tolist()[0]!r}; label another class too"
        )
    code = np.full(len(y), -1)
    code[~missing] = number
    return classes, code


def stable_order(code: np.ndarray, *views) -> np.ndarray:
    """Row numbers: labelled rows as given, then unlabelled rows in an order made of their content alone.

    Algorithms that draw, cut or break ties by position give the same result for every order of the unlabelled rows
    when they work in this one. Equal rows may change places, which nobody can tell.
    """
    labelled, rest = np.flatnonzero(code >= 0), np.flatnonzero(code < 0)
    if not len(rest):
        return labelled
    keys = [row_keys(view[rest]) for view in views]
    return np.concatenate([labelled, rest[np.lexsort(keys)]])


def row_keys(x) -> np.ndarray:
    """One 64-bit digest per row; Python's own hash would differ from process to process."""
    if sparse.issparse(x):
        x = sparse.csr_array(x)
        x.sum_duplicates()  # in place, on the caller's own selection of rows
        index, value = x.indices.tobytes(), x.data.tobytes()
        i, v = x.indices.itemsize, x.data.itemsize
        ends = x.indptr.tolist()
        rows = (index[i * a : i * b] + value[v * a : v * b] for a, b in pairwise(ends))
    else:
        rows = (row.tobytes() for row in np.ascontiguousarray(x))
    digests = b"".join(hashlib.blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(digests, dtype="<u8")


def transduction(y, classes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """A copy of y in which the missing labels that have a class number are filled; the others stay as they were."""
    filled = column_or_1d(unmasked(y, object)).copy()
    if filled.dtype.kind in "US":  # fixed width: a longer label would be cut
        filled = filled.astype(object)
    fill = unlabelled(filled) & (code >= 0)
    filled[fill] = classes[code[fill]]
    return filled


def class_prior(prior, classes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Probabilities [C] from "labelled" (shares of the labelled rows), an array [C], or a dict class -> share."""
    if isinstance(prior, str):
        if prior != "labelled":
            raise InputError(f'prior is {prior!r}; use "labelled", an array with one share per class, or a dict')
        share = np.bincount(code[code >= 0], minlength=len(classes)).astype(float)
    elif isinstance(prior, Mapping):
        if set(prior) != set(classes.tolist()):
            raise InputError(f"prior names the classes {list(prior)}, the labels have {classes.tolist()}")
        share = np.array([prior[label] for label in classes.tolist()], dtype=float)
    else:
        share = np.asarray(prior, dtype=float)
    if share.shape != classes.shape or not np.isfinite(share).all() or (share <= 0).any():
        raise InputError(f"prior must be {len(classes)} positive shares, one per class {classes.tolist()}; got {prior}")
    return share / share.sum()


def bootstrap(code: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Positions drawn with replacement class by class, so that every class keeps its number of rows."""
    rows = [np.flatnonzero(code == c) for c in np.unique(code)]
    return np.concatenate([members[rng.randint(len(members), size=len(members))] for members in rows])


def counts(classes: np.ndarray, code: np.ndarray) -> dict:
    """Rows per class, as a report shows them."""
    return dict(zip(classes.tolist(), np.bincount(code[code >= 0], minlength=len(classes)).tolist()))
