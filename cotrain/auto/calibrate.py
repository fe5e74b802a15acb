"""Probabilities that mean what they say: one temperature, its check, and sets of classes with stated coverage.

Legend: N rows, C classes.
"""

from typing import Any

import numpy as np
from scipy.special import softmax

MEASURABLE = 50  # held-out rows from which calibration can be measured, as many as weigh the same
TEMPERATURES = np.exp(np.linspace(-1.5, 4.0, 45))
_STEP = 4  # places of the grid that are passed over first: the loss has one valley
_SPREAD = 0.6  # standard deviation of the log temperature believed before any row is seen


def soften(probability: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/temperature), normalized over the last axis; NaN stays NaN."""
    return softmax(np.log(np.clip(probability, 1e-12, 1)) / temperature, axis=-1)


def temperature(probability_NC: np.ndarray, y_N: np.ndarray, weight_N: np.ndarray) -> float:
    """The temperature that makes held-out labels most likely, drawn a little to 1 because the rows are few.

    Weights sum to the number of rows that the evidence is worth.
    """
    logits = np.log(np.clip(probability_NC, 1e-12, 1))
    logits = logits - logits.max(1, keepdims=True)
    own = logits[np.arange(len(y_N)), y_N]

    def loss(place: int) -> float:
        heat = TEMPERATURES[place]
        surprise = np.minimum(np.log(np.exp(logits / heat).sum(1)) - own / heat, -np.log(1e-12))
        return float((weight_N * surprise).sum() + 0.5 * (np.log(heat) / _SPREAD) ** 2)

    last = len(TEMPERATURES) - 1
    near = min(range(0, last + 1, _STEP), key=loss)
    return float(TEMPERATURES[min(range(max(0, near - _STEP + 1), min(last, near + _STEP - 1) + 1), key=loss)])


def even(estimator: Any, x: Any, classes: int) -> np.ndarray:
    """Probabilities [N, C] restated for equal class shares; next to nothing for a class that was never seen."""
    found = np.asarray(estimator.predict_proba(x), dtype=np.float64)
    shares = getattr(estimator, "class_log_prior_", None)
    if shares is not None:
        found = found / np.exp(shares)
    probability = np.full((len(found), classes), 1e-9)
    probability[:, estimator.classes_] += found
    return probability / probability.sum(1, keepdims=True)


def with_prior(even_NC: np.ndarray, shares_C: np.ndarray) -> np.ndarray:
    """Probabilities stated for equal shares, restated for these."""
    joint = even_NC * shares_C
    return joint / joint.sum(-1, keepdims=True)


def calibration(
    probability_NC: np.ndarray, y_N: np.ndarray, weight_N: np.ndarray | None = None, bins: int = 10
) -> dict:
    """Negative log-likelihood, Brier score, expected calibration error over equally filled bins, and the bins.

    weight_N: what each row counts; None: all the same. `worth` is as many rows of one weight as tell as much.
    """
    weight_N = np.ones(len(y_N)) if weight_N is None else weight_N
    worth = float(weight_N.sum() ** 2 / (weight_N**2).sum())
    confidence = probability_NC.max(1)
    correct = probability_NC.argmax(1) == y_N
    one_hot = np.eye(probability_NC.shape[1])[y_N]
    own = probability_NC[np.arange(len(y_N)), y_N]
    points = []
    error = 0.0
    for part in np.array_split(np.argsort(confidence, kind="stable"), max(1, min(bins, len(y_N) // 15))):
        said, was = (float(np.average(each[part], weights=weight_N[part])) for each in (confidence, correct))
        points.append({"said": said, "was": was, "rows": len(part)})
        error += float(abs(said - was) * weight_N[part].sum() / weight_N.sum())
    return {
        "log_loss": float(np.average(-np.log(np.maximum(own, 1e-12)), weights=weight_N)),
        "brier": float(np.average(((probability_NC - one_hot) ** 2).sum(1), weights=weight_N)),
        "ece": error if worth >= MEASURABLE else None,  # below, the error of the error is as large
        "rows": len(y_N),
        "worth": worth,
        "points": points,
    }


def classes_in_sets(probability_NC: np.ndarray, threshold: float) -> np.ndarray:
    """Which classes cannot be ruled out, bool [N, C]: those of at least this probability, and the likeliest. None where
    a row's probabilities are NaN."""
    return probability_NC >= np.minimum(threshold, probability_NC.max(1, keepdims=True))


def conformal_threshold(
    probability_NC: np.ndarray, y_N: np.ndarray, coverage: float, shares_C: np.ndarray
) -> float | None:
    """For `classes_in_sets`: such sets hold the truth with the stated coverage, or more often.

    Split-conformal quantile on out-of-fold probabilities (cross-conformal, Vovk 2015), each class weighed by its share
    among the rows to come (label shift, Podkopaev & Ramdas 2021; the row to come itself counts as a mean one). None
    where fewer than 1 / (1 - coverage) - 1 rows make the promise impossible.
    """
    n = len(y_N)
    own = probability_NC[np.arange(n), y_N]
    weight = (shares_C / np.maximum(np.bincount(y_N, minlength=len(shares_C)), 1))[y_N]
    order = np.argsort(-own, kind="stable")
    held = np.cumsum(weight[order]) * (n / max(weight.sum(), 1e-300))  # rows that hold the truth, down to each
    place = int(np.searchsorted(held, (n + 1) * coverage - 1e-9))
    return float(own[order[place]]) if place < n else None
