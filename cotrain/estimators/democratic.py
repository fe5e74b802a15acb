"""Democratic co-learning: different learners on the same rows; those outvoted learn from the majority.

Source: Zhou & Goldman, "Democratic co-learning", ICTAI 2004, Figures 1 and 2.
Legend: n labelled rows, u unlabelled rows, C classes, M learners.
"""

from statistics import NormalDist

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import encode, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier, fresh, probabilities, trained


def interval(right: float, rows: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of an accuracy when a share `right` of `rows` was right (Wilson's interval: never of zero width)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre, half = right + z**2 / (2 * rows), z * ((right * (1 - right) + z**2 / (4 * rows)) / rows) ** 0.5
    return (centre - half) / (1 + z**2 / rows), (centre + half) / (1 + z**2 / rows)


def value(rows: int, wrong: float, classes: int = 2) -> float:
    """q: what a training set with `wrong` wrong labels is worth, in clean rows; 0 when it is no better than chance."""
    return rows * max(0.0, 1 - classes / (classes - 1) * wrong / rows) ** 2


class DemocraticCoLearning(SemiSupervisedClassifier):
    """Several learners of different kinds that vote, weighted by their accuracy, on the unlabelled rows.

    Args:
        learners: a list of two or more learners of different kinds; three or more make a majority.
        confidence: of the intervals around the learners' accuracies, in (0, 1).
        folds: a learner's accuracy is measured on labelled rows held out in so many folds; 0: on its own training rows
            (faster, flatters).
        rounds: most rounds; None: no limit.
        random_state: seed of learners whose own random state is not set.

    Attributes:
        learners_, weights_ (centre of each learner's interval), classes_, n_iter_, history_ (a dict per round);
        transduction_: y with all gaps filled by the final vote;
        termination_condition_: "no_change" or "max_iter".
    """

    def __init__(self, learners, *, confidence=0.95, folds=5, rounds=10, random_state=None):
        self.learners = learners
        self.confidence = confidence
        self.folds = folds
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, X, y) -> "DemocraticCoLearning":
        """Fits on X, array or sparse [n + u, features], and y [n + u] with gaps (-1, NaN, None or empty)."""
        if len(self.learners) < 2:
            raise InputError(f"democratic co-learning takes two learners or more, got {len(self.learners)}")
        if self.folds < 0 or self.folds == 1:
            raise InputError(f"folds is {self.folds}; use 2 or more, or 0 to measure on the training rows")
        rng = check_random_state(self.random_state)
        start = [fresh(learner, rng) for learner in self.learners]
        X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False)
        self.classes_, code = encode(y, X.shape[0])
        order = stable_order(code, X)
        x, label = X[order], code[order]
        n, members, classes = int((code >= 0).sum()), range(len(start)), len(self.classes_)
        labels = [label.copy() for _ in members]  # L_i: what each learner trains on
        wrong = [0.0 for _ in members]  # e_i: how many of its added labels are expected to be wrong

        self.history_: list[dict] = []
        self.termination_condition_ = "no_change"
        changed = list(members)
        self.learners_, guess = [None] * len(start), np.zeros((len(start), len(order)), dtype=int)
        bounds = [(0.0, 1.0)] * len(start)
        while True:
            for i in changed:
                self.learners_[i] = trained(start[i], x, labels[i], self.classes_)
                guess[i] = probabilities(self.learners_[i], x, self.classes_).argmax(axis=1)
                bounds[i] = interval(self._accuracy(start[i], x, labels[i], label[:n], guess[i]), n, self.confidence)
            self.weights_ = np.mean(bounds, axis=1)
            if n == len(order):
                break
            if len(self.history_) == self.rounds:
                self.termination_condition_ = "max_iter"
                break
            proposed = self._propose(guess[:, n:])
            sizes = np.array([(each >= 0).sum() for each in labels])
            noise = 1 - sizes @ [lower for lower, _ in bounds] / sizes.sum()
            changed = []
            for i in members:
                rows = n + np.flatnonzero((proposed >= 0) & (proposed != guess[i, n:]) & (labels[i][n:] < 0))
                more = noise * len(rows)
                after = value(sizes[i] + len(rows), wrong[i] + more, classes)
                if len(rows) and after > value(sizes[i], wrong[i], classes):
                    labels[i][rows] = proposed[rows - n]
                    wrong[i] += more
                    changed.append(i)
            grown = [int((each >= 0).sum()) for each in labels]
            self.history_.append(
                {
                    "round": len(self.history_) + 1,
                    "added": [g - int(s) for g, s in zip(grown, sizes)],
                    "labelled": grown,
                    "weights": self.weights_.tolist(),
                }
            )
            if not changed:
                break

        self.n_iter_ = len(self.history_)
        found = np.empty_like(code)
        found[order] = self._vote(guess).argmax(axis=1)
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C]: the groups' confidences (Figure 2), normalised."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False, reset=False)
        guess = [probabilities(learner, X, self.classes_).argmax(axis=1) for learner in self.learners_]
        return self._vote(np.array(guess))

    def _learners(self) -> list:
        return list(self.learners)

    def _accuracy(self, start, x, label, given, guess) -> float:
        """Share of the n labelled rows that a learner gets right when they are held out of its training set."""
        n = len(given)
        if not self.folds:
            return float((guess[:n] == given).mean())
        turn = np.empty(n, dtype=int)
        for c in range(len(self.classes_)):  # a class's only row is always held in: turn -1
            size = (given == c).sum()
            turn[given == c] = np.arange(size) % self.folds if size > 1 else -1
        held_out = guess[:n].copy()
        for fold in range(turn.max() + 1):
            rows = np.flatnonzero(turn == fold)
            rest = label.copy()
            rest[rows] = -1
            held_out[rows] = probabilities(trained(start, x, rest, self.classes_), x[rows], self.classes_).argmax(
                axis=1
            )
        return float((held_out == given).mean())

    def _propose(self, guess_Mu: np.ndarray) -> np.ndarray:
        """The class of most votes where it also has most weight, else -1 [u]."""
        votes_MuC = np.eye(len(self.classes_))[guess_Mu]
        weight_uC = np.einsum("m,muc->uc", self.weights_, votes_MuC)
        count_uC = votes_MuC.sum(axis=0)
        # Of classes with equally many votes the one with most weight, whichever comes first.
        majority_u = np.where(count_uC == count_uC.max(axis=1, keepdims=True), weight_uC, -1).argmax(axis=1)
        rows = np.arange(len(majority_u))
        own = weight_uC[rows, majority_u]
        weight_uC[rows, majority_u] = -1
        return np.where(own > weight_uC.max(axis=1), majority_u, -1)

    def _vote(self, guess_MN: np.ndarray) -> np.ndarray:
        """Confidence of each class's group of voters: its mean weight, shrunk where the group is small [N, C]."""
        useful = self.weights_ > 1 / len(self.classes_)  # the paper's one half, for two classes
        useful = useful if useful.any() else np.ones_like(useful)
        votes_MNC = np.eye(len(self.classes_))[guess_MN[useful]]
        size_NC = votes_MNC.sum(axis=0)
        weight_NC = np.einsum("m,mnc->nc", self.weights_[useful], votes_MNC)
        confidence_NC = (size_NC + 0.5) / (size_NC + 1) * weight_NC / np.maximum(size_NC, 1)
        return confidence_NC / confidence_NC.sum(axis=1, keepdims=True)
