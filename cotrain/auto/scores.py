"""Scores of rows that were told right or wrong: the mean, what it may be on other rows, what one gains over another.

Legend: n rows; correctness is a share of 0..1, NaN where a row was not judged.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr
from scipy.stats import beta


@dataclass(frozen=True)
class Estimate:
    """A score between 0 and 1 with its 90 % interval."""

    estimate: float
    low: float
    high: float


def mean(correct: np.ndarray, weight: np.ndarray) -> float:
    """Of the judged rows; NaN where there is none."""
    weight = weight * ~np.isnan(correct)
    total = weight.sum()
    return float((weight * np.nan_to_num(correct)).sum() / total) if total else float("nan")


def mean_of_known(several: np.ndarray) -> np.ndarray:
    """The mean over the first axis, of numbers that are not NaN; NaN where all are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # places where all are
        return np.nanmean(several, axis=0)


def gain(of: np.ndarray, over: np.ndarray, weight: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
    """Mean paired gain and its standard error, of rows that both judged. Half a row of +1 and half a row of -1 are
    added, so that a few rows without a difference are not taken for certainty. unit: codes of what was drawn."""
    weight = weight * ~np.isnan(of - over)
    weight = weight / max(weight.sum(), 1e-12)
    difference = np.nan_to_num(of - over)
    middle = float((weight * difference).sum())
    # Rows of one unit are one piece of evidence; a few units that say the same by chance are no more than rows.
    rows = weight * (difference - middle)
    parts = np.bincount(unit, rows)
    count = max((weight > 0).sum(), 1)
    variance = max(float((parts**2).sum()), float((rows**2).sum())) + 1.0 / (count + 1) ** 2
    return middle, float(np.sqrt(variance))


def chance(errors: float, units: int) -> float:
    """The probability that a gain of so many standard errors is one: Student's t, for there may be few units."""
    return float(stdtr(max(units - 1, 1), errors))


def interval(score: float, value: np.ndarray, level: float = 0.9, worth: float = 1.0, growth: float = 1.0) -> Estimate:
    """The score with its interval: a Beta posterior from Jeffreys' prior; rows count what they are worth together. The
    upper end is that of an error `growth` times as large. value: what each row counts in the score, sums to 1."""
    count = worth / max((value**2).sum(), 1e-12)
    low = beta.ppf((1 - level) / 2, score * count + 0.5, (1 - score) * count + 0.5)
    best = 1 - growth * (1 - score)
    high = beta.ppf((1 + level) / 2, best * count + 0.5, (1 - best) * count + 0.5)
    return Estimate(score, min(float(low), score), max(float(high), score))  # all right or all wrong is inside
