"""Whether the labelled rows come from where the unlabelled ones do.

Legend: N rows, n labelled rows.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from cotrain.auto.choose import Board
from cotrain.auto.evidence import out_of_fold
from cotrain.auto.features import Features
from cotrain.auto.folds import deal
from cotrain.auto.problem import Problem
from cotrain.views.view import Matrix

LOOKED_AT = 2_000  # unlabelled rows that are looked at
FOLDS = 5
APART = 0.8  # the place of labelled rows among unlabelled ones from which they come from elsewhere
CLEAR = 5.0  # standard errors that it is from 0.5 at least; rows share a classifier, so chance does more than that


@dataclass(frozen=True)
class Shift:
    """Where the labelled rows stand among the unlabelled ones, and the place from which that is elsewhere."""

    place: float
    bar: float

    @property
    def apart(self) -> bool:
        return self.place > self.bar

    def warning(self, used: bool, grouped: bool) -> str:
        """What a user should know of rows that come from elsewhere; `used`: the unlabelled rows, in the result.

        They are not left alone for it: where labels were drawn from a part of the rows (one source of news, dark
        digits, smooth cells), learners on the unlabelled rows were better on the rest in all of 14 runs.
        """
        said = (
            "The labelled rows are not like the unlabelled ones: a classifier tells them apart "
            f"({self.place:.2f}, where 0.5 is chance and 1 is always), so scores on labelled rows may not hold "
            "for the others."
        )
        if used:
            said += " The unlabelled rows were learnt from all the same; --method supervised does without."
        if not grouped:
            said += " If the rows come by speaker, patient or session, name that column with --group."
        return said


def find_shift(
    problem: Problem,
    features: Features,
    matrices: Mapping[str, Matrix],
    board: Board,
    members: Sequence[int],
    seed: int,
) -> Shift | None:
    """By the features of the best learner on labelled rows but trees and topics; these members say which class a row is
    of. None where there is nothing to compare, or where labels are of fewer than nine units: these may stand anywhere.
    """
    units = len(np.unique(problem.unit[features.labelled]))
    bar = max(APART, 0.5 + CLEAR / np.sqrt(12 * units))  # a place by chance has a variance of 1/12
    if bar >= 1:
        return None
    # Trees read what is not scaled; and topics fit the unlabelled rows, which they are learnt from, so closely that all
    # others stand apart.
    tried = [trial.candidate for trial in board.trials]
    linear = [m for m, c in enumerate(tried) if not c.unlabelled and c.route != "trees" and c.kind != "topics"]
    if not linear:
        return None
    best = max(linear, key=lambda m: board.score(board.correct[m]))
    said = np.full(len(problem.y), -1)
    together = out_of_fold(board, members)
    held = ~np.isnan(together[:, 0])
    said[features.labelled[held]] = (together[held] * board.decision).argmax(1)
    said[features.unlabelled] = (board.of_unlabelled(members) * board.decision).argmax(1)
    x = matrices[tried[best].views[0]]
    place = place_among(x, features.labelled, features.unlabelled, said, problem.unit, seed)
    return None if np.isnan(place) else Shift(place, float(bar))


def place_among(
    x: Matrix, labelled: np.ndarray, unlabelled: np.ndarray, said_N: np.ndarray, unit: np.ndarray, seed: int = 0
) -> float:
    """Where a classifier of "has a label" puts labelled rows among unlabelled ones: 0.5 among them, 1 apart from all.

    It is the area under the classifier's ROC curve, cross-validated by unit. Rows are compared with those of their own
    predicted class only, and in training both samples weigh the same in each class: labels drawn in other shares than
    the classes have (as many of each, say) are no sign that the rows come from elsewhere.

    Args:
        x: features of all rows. labelled, unlabelled: row numbers.
        said_N: the predicted class of each row, of the labelled ones out of fold; -1 is unknown.
        unit: rows of one unit are never on both sides.

    Returns:
        The mean over the labelled rows, NaN where none can be compared.

    Source: Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests", ICLR; the classes are ours.
    """
    rng = np.random.default_rng(seed)
    if len(unlabelled) > LOOKED_AT:
        unlabelled = np.sort(rng.choice(unlabelled, LOOKED_AT, replace=False))
    rows = np.concatenate([labelled, unlabelled])
    known = np.arange(len(rows)) < len(labelled)
    said = said_N[rows]
    both = [c for c in np.unique(said[said >= 0]) if known[said == c].any() and not known[said == c].all()]
    part = deal(known.astype(int), unit[rows], FOLDS, rng)
    places: list[np.ndarray] = []
    for number in range(FOLDS):
        weight = np.zeros(len(rows))
        for c in both:
            own = (said == c) & (part != number)
            for sample in (own & known, own & ~known):
                if (own & known).any() and (own & ~known).any():
                    weight[sample] = (own & known).sum() / sample.sum()
        learnt = weight > 0
        if not (known & learnt).any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a classifier that did not converge is judged by what it predicts
            learner = LogisticRegression(max_iter=300).fit(x[rows[learnt]], known[learnt], weight[learnt])
        for c in both:
            held = (part == number) & (said == c)
            here = known[held]
            if here.any() and not here.all():
                ranks = rankdata(learner.decision_function(x[rows[held]]))
                places.append((ranks[here] - rankdata(ranks[here])) / (~here).sum())
    return float(np.concatenate(places).mean()) if places else float("nan")
