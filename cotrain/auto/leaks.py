"""Single columns that give the label away."""

import math

import numpy as np
import pandas as pd

from cotrain.auto.columns import Columns

ACCURATE = 0.99  # out-of-sample accuracy from one column alone, from which it is suspected
FEWEST = 10  # labelled rows below which nothing can be said
_STRONG = 0.9  # accuracy of a very good honest column; a leak must not be explained by it and luck


def find_leaks(frame: pd.DataFrame, columns: Columns, y: np.ndarray) -> dict[str, float]:
    """Columns that alone tell the label, with their accuracy: leave-one-out by the other rows of the same value, and
    for numbers of many values by the nearest value.

    frame: an aligned table; y: class codes [N], -1 is unlabelled. Among many columns of real values some fit a few
    rows by luck, so these need enough rows for an honest column of 90 % to be unlikely (5 % in all) to do as well.
    """
    known = y >= 0
    labels = y[known]
    if len(labels) < FEWEST:
        return {}
    majority = np.bincount(labels).max() / len(labels)
    names = columns.numbers + columns.categories
    enough = math.log(max(1, len(columns.numbers)) / 0.05) / -math.log(_STRONG)
    found: dict[str, float] = {}
    made_of = columns.own
    for name in names:
        cells = frame[name].to_numpy()[known]
        if name in columns.categories:
            codes, values = pd.factorize(cells)
            accuracy = _same_value(codes, labels)
        else:
            filled = np.isfinite(cells.astype(np.float64))
            if filled.sum() < FEWEST:
                continue
            numbers = np.where(filled, cells, np.nanmin(cells.astype(np.float64)) - 1).astype(np.float64)
            values, codes = np.unique(numbers, return_inverse=True)
            if len(values) > 3 * (labels.max() + 1) and len(labels) < enough:
                continue
            accuracy = max(_same_value(codes, labels), _nearest_value(codes, values, labels))
        if accuracy >= ACCURATE and 1 - accuracy <= 0.1 * (1 - majority):
            own = made_of[name]
            found[own] = max(float(accuracy), found.get(own, 0.0))
    return found


def _same_value(codes: np.ndarray, labels: np.ndarray) -> float:
    """Leave-one-out accuracy of the commonest label among the other rows of the same value."""
    return float((_guess(codes, labels) == labels).mean())


def _guess(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    table = np.zeros((codes.max() + 1, labels.max() + 1))
    np.add.at(table, (codes, labels), 1)
    others = table[codes]
    rows = np.arange(len(labels))
    others[rows, labels] -= 1
    # Ties go to the commoner class; that of a value no other row has is the commonest of the other rows.
    total = np.bincount(labels).astype(float) / (len(labels) + 1)
    return (others + 0.5 * total).argmax(1)


def _nearest_value(codes: np.ndarray, values: np.ndarray, labels: np.ndarray) -> float:
    """Leave-one-out accuracy of the commonest label at the nearest other value, or at the same where it recurs."""
    table = np.zeros((len(values), labels.max() + 1))
    np.add.at(table, (codes, labels), 1)
    gaps = np.diff(values)
    left = np.concatenate([[np.inf], gaps])
    right = np.concatenate([gaps, [np.inf]])
    neighbour = np.where(left <= right, np.arange(len(values)) - 1, np.arange(len(values)) + 1)
    neighbour = np.clip(neighbour, 0, len(values) - 1)
    alone = table.sum(1)[codes] == 1
    guess = np.where(alone, table[neighbour].argmax(1)[codes], _guess(codes, labels))
    return float((guess == labels).mean())
