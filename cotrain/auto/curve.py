"""How the score grows with the labels, and what more of them would add.

Legend: n labelled rows, C classes, S sizes (a third, two thirds and all of the labels in training), B draws.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any

import numpy as np

from cotrain.auto.choose import Board
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.folds import Fold
from cotrain.auto.pace import NO_TIME, TOO_FEW, Pace, Skipped
from cotrain.auto.scores import interval
from cotrain.auto.trial import FAILURES, train_and_ask
from cotrain.threads import workers

SHARES = (1 / 3, 2 / 3)
MORE = 50  # labels beyond those at hand that are projected
FASTEST = 1.0  # exponent of the curve at most: no learner's error falls faster than 1 / labels for long


def learning_curve(
    board: Board,
    members: Sequence[int],
    features: Features,
    folds: Sequence[Fold],
    left: Callable[[], float],
    seed: int = 0,
    worth: float = 1.0,
    draws: int = 200,
    jobs: int = 1,
) -> dict[str, Any]:
    """The committee's out-of-fold score with a third, two thirds and all of the training labels of each fold.

    Its members are trained again on the smaller parts (drawn by class, the third within the two thirds); their
    temperatures stay. Of repeated folds the first repeat serves. The gain of MORE labels is read off a power law
    through the three points; its 90 % interval comes from drawing rows again.

    Args:
        left: seconds that are left for it, asked before each fold. worth: as in `interval`. jobs: threads.

    Returns:
        `{"points": [{"labels", "estimate", "low", "high"}], "more", "gain", "gain_low", "gain_high"}`.

    Raises Skipped: no time, too few labels to thin out, or a member that cannot be trained on so few.
    """
    own = [fold for fold in folds if fold.repeat == 0]  # more repeats would take long and move the curve little
    with workers(jobs) as pool:
        correct_Sn, labels_S = _thinned_folds(board, members, features, own, left, seed, pool)
    if len(np.unique(labels_S.round())) < len(labels_S):
        raise Skipped(TOO_FEW)
    rng = np.random.default_rng(seed)
    units = board.unit.max() + 1
    gains = []
    for _ in range(draws):
        times = np.bincount(rng.integers(units, size=units), minlength=units)[board.unit]
        drawn_S = np.array([board.estimate(correct, times) for correct in correct_Sn])
        if np.isfinite(drawn_S).all():
            gains.append(projected_gain(labels_S, drawn_S, len(board.y)))
    if not gains:
        raise Skipped(TOO_FEW)
    scores = [board.estimate(correct) for correct in correct_Sn]
    low, high = np.quantile(gains, [0.05, 0.95])
    return {
        "points": [
            {"labels": round(labels), **asdict(interval(score, board.weight(correct), worth=worth))}
            for labels, score, correct in zip(labels_S.tolist(), scores, correct_Sn, strict=True)
        ],
        "more": MORE,
        "gain": projected_gain(labels_S, np.array(scores), len(board.y)),
        "gain_low": float(low),
        "gain_high": float(high),
    }


def _thinned_folds(
    board: Board,
    members: Sequence[int],
    features: Features,
    folds: Sequence[Fold],
    left: Callable[[], float],
    seed: int,
    pool: Executor,
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each labelled row was told right [S, n], NaN where it was not held out, and the mean sizes [S]."""
    y, place = features.y, features.place
    correct_Sn = np.full((len(SHARES) + 1, len(board.y)), np.nan)
    sizes = []
    pace = Pace(len(folds), left)
    for number, fold in enumerate(folds):
        held = place[fold.held]
        everything = board.together(members)[fold.repeat, held]
        unseen = np.isnan(everything).any()  # the search did not come to this fold
        if unseen or not pace.will_do():
            raise Skipped(NO_TIME)
        parts = _thinned(y, fold.train, np.random.default_rng([seed, fold.repeat, number]))
        matrices = features.of(fold.train, fold.unlabelled)
        try:
            said = [_said(board, members, matrices, y, part, fold, pool) for part in parts]
        except FAILURES as error:
            raise Skipped("a learner of the result cannot be trained on a third of the labels") from error
        correct_Sn[:, held] = (np.stack([*said, everything]) * board.decision).argmax(2) == board.y[held]
        sizes.append([*map(len, parts), len(fold.train)])
    return correct_Sn, np.mean(sizes, axis=0)


def projected_gain(labels_S: np.ndarray, scores_S: np.ndarray, now: int, more: int = MORE) -> float:
    """What `more` labels add to the score beyond `now`, if the error goes on falling as b * labels^-c, 0 <= c <= 1.

    The line through the points in logarithms by least squares. Half a wrong row of `now` is added to each error, so
    that no error at all has a logarithm; and no more is promised than the last point leaves to gain.
    """
    x = np.log(labels_S)
    error = np.log(1 - scores_S + 0.5 / now)
    slope = ((x - x.mean()) * (error - error.mean())).sum() / ((x - x.mean()) ** 2).sum()
    slope = np.clip(-slope, 0.0, FASTEST)
    height = np.exp(error.mean() + slope * x.mean())
    return float(min(height * (now**-slope - (now + more) ** -slope), 1 - scores_S[-1]))


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
    pool: Executor,
) -> np.ndarray:
    """What the members, trained on these labels, say of the held rows together [held, C]."""
    prior = board.label_shares
    trials = [board.trials[m] for m in members]
    return board.voice(members, train_and_ask(trials, matrices, y, labelled, fold.unlabelled, fold.held, prior, pool))
