"""Whether the result would have been another with other labels: it is trained again with some of them left out.

Legend: n labelled rows, m unlabelled rows, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cotrain.auto.choose import Board
from cotrain.auto.features import Features, FoldFeatures
from cotrain.auto.pace import NO_TIME, TOO_FEW, Pace, Skipped
from cotrain.auto.trial import FAILURES, train_and_ask
from cotrain.threads import workers

TIMES = 5
DROPPED = 0.2  # of the labelled rows of each class
FLIPPING = 0.15  # share of unlabelled rows with another class from which the result depends on single labels
LOOKED_AT = 2_000  # unlabelled rows


@dataclass(frozen=True)
class Steadiness:
    """The share of unlabelled rows that get another class, over `times` trainings without `dropped` of the labels."""

    flipped: float
    times: int = TIMES
    dropped: float = DROPPED
    rows: int = 0


def steadiness(
    board: Board,
    members: Sequence[int],
    features: Features,
    matrices: FoldFeatures,
    left: Callable[[], float],
    seed: int = 0,
    jobs: int = 1,
) -> Steadiness:
    """Train the members again, TIMES, each time without a fifth of the labelled rows of each class, and compare.

    Only the labels differ: views, temperatures and classes' shares stay.

    Args:
        matrices: features of all rows. left: seconds that are left for it, asked before each round of trainings. jobs:
            threads.

    Raises Skipped: no unlabelled rows, no time, or too few labels to leave some out.
    """
    y = features.y
    if not len(features.unlabelled):
        raise Skipped("there are no unlabelled rows")
    rng = np.random.default_rng([seed, TIMES])
    place = np.arange(len(features.unlabelled))
    if len(place) > LOOKED_AT:
        place = np.sort(rng.choice(place, LOOKED_AT, replace=False))
    rows = features.unlabelled[place]
    trials = [board.trials[m] for m in members]
    usual = (board.of_unlabelled(members)[place] * board.decision).argmax(1)
    prior = board.label_shares
    pace = Pace(TIMES, left, sum(trial.seconds / max(trial.folds, 1) for trial in trials) / jobs)
    flips: list[float] = []
    with workers(jobs) as pool:
        for _ in range(TIMES):
            kept = _thinned(y, features.labelled, rng)
            if len(kept) == len(features.labelled):
                raise Skipped(TOO_FEW)
            if not pace.will_do():
                raise Skipped(NO_TIME)
            try:
                found = train_and_ask(trials, matrices, y, kept, features.unlabelled, rows, prior, pool, whole=True)
            except FAILURES as error:
                raise Skipped("a learner of the result cannot be trained on fewer labels") from error
            flips.append(((board.voice(members, found) * board.decision).argmax(1) != usual).mean())
    return Steadiness(float(np.mean(flips)), rows=len(rows))


def _thinned(y: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows without the share DROPPED of each class, drawn; of one or two rows in a class none is left out."""
    kept = []
    for label in np.unique(y[rows]):
        own = rng.permutation(rows[y[rows] == label])
        kept.append(own[round(DROPPED * len(own)) :])
    return np.sort(np.concatenate(kept))


def warning(found: Steadiness) -> str:
    return (
        f"The result depends on single labels: without a fifth of them, {found.flipped:.0%} of the unlabelled rows "
        "would get another class. More labels would make it steadier."
    )
