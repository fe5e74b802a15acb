"""How the score grows with the labels, and what more of them would add.

Legend: n labelled rows, C classes, S sizes (a third, two thirds and all of the labels in training), B draws.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from cotrain.auto.calibrate import soften
from cotrain.auto.choose import Board, interval
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.folds import Fold
from cotrain.auto.trial import even, joined, train

SHARES = (1 / 3, 2 / 3)
MORE = 50  # labels beyond those at hand that are projected
FASTEST = 1.0  # exponent of the curve at most: no learner's error falls faster than 1 / labels for long


def learning_curve(
    board: Board,
    members: Sequence[int],
    features: Features,
    y: np.ndarray,
    folds: Sequence[Fold],
    prior: np.ndarray,
    seconds: float,
    seed: int = 0,
    worth: float = 1.0,
    draws: int = 200,
) -> dict[str, Any] | None:
    """The committee's out-of-fold score with a third, two thirds and all of the training labels of each fold.

    Its members are trained again on the smaller parts (drawn by class, the third within the two thirds); their
    temperatures stay. Only whole repeats of the folds count. The gain of MORE labels is read off a power law through
    the three points; its 90 % interval comes from drawing rows again.

    Args:
        prior: class shares of the labelled rows, as for the trials [C]. seconds: time for it.
        worth: what a row counts in the intervals, as in `interval`.

    Returns:
        `{"points": [{"labels", "estimate", "low", "high"}], "more", "gain", "gain_low", "gain_high"}`, or None where
        the time was too short, a class is too rare to be thinned out, or a member could not be trained on so little.
    """
    end = time.perf_counter() + seconds
    place = np.full(len(y), -1)
    place[features.labelled] = np.arange(len(features.labelled))
    right: list[np.ndarray] = []  # of each whole repeat, [S, n]
    sizes: list[list[float]] = []  # of each fold
    for repeat in sorted({fold.repeat for fold in folds}):
        correct = np.full((len(SHARES) + 1, len(board.y)), np.nan)
        for number, fold in enumerate(f for f in folds if f.repeat == repeat):
            if time.perf_counter() > end:
                break
            parts = _thinned(y, fold.train, np.random.default_rng([seed, repeat, number]))
            matrices = features.of(fold.train, fold.unlabelled)
            held = place[fold.held]
            try:
                for s, part in enumerate(parts):
                    said = _said(board, members, matrices, y, part, fold, prior)
                    correct[s, held] = (said * board.decision).argmax(1) == board.y[held]
            except (ValueError, ArithmeticError, np.linalg.LinAlgError):
                return None
            everything = board.together(members)[repeat, held]
            if np.isnan(everything).any():  # a fold that the search did not come to
                break
            correct[-1, held] = (everything * board.decision).argmax(1) == board.y[held]
            sizes.append([*map(len, parts), len(fold.train)])
        else:
            right.append(correct)
            continue
        break
    if not right:
        return None
    correct = np.mean(right, axis=0)
    labels = np.mean(sizes, axis=0)
    if len(np.unique(labels.round())) < len(labels):
        return None
    scores = np.array([board.score(row) for row in correct])
    rng = np.random.default_rng(seed)
    units = board.unit.max() + 1
    gains = []
    for _ in range(draws):
        times = np.bincount(rng.integers(units, size=units), minlength=units)[board.unit]
        drawn = np.array([board.score(row, times) for row in correct])
        if np.isfinite(drawn).all():
            gains.append(projected_gain(labels, drawn, len(board.y)))
    if not gains:
        return None
    estimates = [interval(float(score), board.value, worth=worth) for score in scores]
    points = [
        {"labels": int(round(n)), "estimate": e.estimate, "low": e.low, "high": e.high}
        for n, e in zip(labels, estimates, strict=True)
    ]
    low, high = np.quantile(gains, [0.05, 0.95])
    gain = projected_gain(labels, scores, len(board.y))
    return {"points": points, "more": MORE, "gain": gain, "gain_low": float(low), "gain_high": float(high)}


def projected_gain(labels_S: np.ndarray, scores_S: np.ndarray, now: int, more: int = MORE) -> float:
    """What `more` labels add to the score beyond `now`, if the error goes on falling as b * labels^-c, 0 <= c <= 1.

    The line through the points in logarithms by least squares. Half a wrong row of `now` is added to each error, so
    that no error at all has a logarithm.
    """
    x = np.log(labels_S)
    error = np.log(1 - scores_S + 0.5 / now)
    slope = ((x - x.mean()) * (error - error.mean())).sum() / ((x - x.mean()) ** 2).sum()
    slope = np.clip(-slope, 0.0, FASTEST)
    height = np.exp(error.mean() + slope * x.mean())
    return float(height * (now**-slope - (now + more) ** -slope))


def _thinned(y: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Parts of the rows by SHARES, each class in its share (at least one row), each part within the next."""
    parts: list[list[np.ndarray]] = [[] for _ in SHARES]
    for label in np.unique(y[rows]):
        own = rng.permutation(rows[y[rows] == label])
        for part, share in zip(parts, SHARES, strict=True):
            part.append(own[: max(1, round(share * len(own)))])
    return [np.sort(np.concatenate(part)) for part in parts]


def _said(
    board: Board,
    members: Sequence[int],
    matrices: FoldFeatures,
    y: np.ndarray,
    labelled: np.ndarray,
    fold: Fold,
    prior: np.ndarray,
) -> np.ndarray:
    """What the members, trained on these labels, say of the held rows together [held, C]."""
    said = []
    for m in members:
        candidate = board.trials[m].candidate
        estimator = train(candidate, matrices, y, labelled, fold.unlabelled, prior)
        found = even(estimator, joined(matrices, candidate, fold.held), len(prior))
        said.append(soften(found, board.temperatures[m]))
    return np.mean(said, axis=0)
