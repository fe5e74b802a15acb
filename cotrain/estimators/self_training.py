"""Self-training: a learner is trained again and again on its own confident guesses.

Source: Yarowsky, "Unsupervised word sense disambiguation rivaling supervised methods", ACL 1995; quotas per class as
in Blum & Mitchell, COLT 1998; `relabel` as in Cascante-Bonilla et al., "Curriculum labeling", AAAI 2021.
Legend: u unlabelled rows, C classes.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import class_prior, counts, encode, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier, fresh, probabilities, trained


class SelfTraining(SemiSupervisedClassifier):
    """One learner that labels the unlabelled rows for itself.

    Args:
        base: the learner, with `fit` and `predict_proba`.
        criterion: which guesses are used. "threshold": those above `threshold`; "k_best": the `k` most confident of
            all; "quota": the most confident of each class, as many as its share of `per_round`.
        threshold: least probability (0..1), exclusive, for "threshold".
        k: rows per round for "k_best".
        per_round: for "quota", rows per round over all classes: an int, or a float as share of the unlabelled rows;
            or a dict class -> rows, which then is the quota.
        prior: shares of the classes in the quotas: "labelled", an array [C] or a dict class -> share.
        rounds: most rounds; None: no limit.
        relabel: every round labels all unlabelled rows anew, and `k` and `per_round` grow with the round's number;
            otherwise a row keeps its first label.
        warm: go on training the same learner (`warm_start`, or a learner whose `fit` continues) instead of a new one.
        random_state: seed of a learner whose own random state is not set.

    Attributes:
        learner_, classes_, n_iter_, history_ (a dict per round);
        transduction_: y with the gaps filled; labeled_iter_: the round that labelled a row, 0 given, -1 never;
        termination_condition_: "no_change", "max_iter", "all_labeled" or "cycle" (relabel: labels come round again).
    """

    def __init__(
        self,
        base,
        *,
        criterion="threshold",
        threshold=0.75,
        k=10,
        per_round=0.08,
        prior="labelled",
        rounds=10,
        relabel=False,
        warm=False,
        random_state=None,
    ):
        self.base = base
        self.criterion = criterion
        self.threshold = threshold
        self.k = k
        self.per_round = per_round
        self.prior = prior
        self.rounds = rounds
        self.relabel = relabel
        self.warm = warm
        self.random_state = random_state

    def fit(self, X, y) -> "SelfTraining":
        """Fits on X, array or sparse [n + u, features], and y [n + u] with gaps (-1, NaN, None or empty)."""
        if self.criterion not in ("threshold", "k_best", "quota"):
            raise InputError(f'criterion is {self.criterion!r}; use "threshold", "k_best" or "quota"')
        if self.k < 1:
            raise InputError(f"k is {self.k}; use a number of rows, at least 1")
        start = self._start()
        X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False)
        self.classes_, code = encode(y, X.shape[0])
        order = stable_order(code, X)
        x, label = X[order], code[order]
        given = label >= 0
        since = np.where(given, 0, -1)
        quota = quotas(self.per_round, self.prior, self.classes_, code)

        self.history_: list[dict] = []
        self.termination_condition_, fitted = "all_labeled", False
        states: set[bytes] = set()
        while (label < 0).any() or (self.relabel and not given.all()):
            if len(self.history_) == self.rounds:
                self.termination_condition_ = "max_iter"
                break
            learner = self._train(start, x, label)
            asked = np.flatnonzero(~given if self.relabel else label < 0)
            probability = probabilities(learner, x[asked], self.classes_)
            turn = len(self.history_) + 1
            chosen = self._choose(probability, quota, turn if self.relabel else 1)
            before, label = label, label.copy()
            label[asked] = -1
            label[asked[chosen]] = probability[chosen].argmax(axis=1)
            since = np.where(label < 0, -1, np.where(before < 0, turn, since))
            changed = label != before
            self.history_.append(
                {"round": turn, "added": counts(self.classes_, label[changed]), "labelled": int((label >= 0).sum())}
            )
            fitted = not changed.any()
            if fitted:
                self.termination_condition_ = "max_iter" if turn == self.rounds else "no_change"
                break
            if self.relabel:
                # Labels that were there before come round for ever, once what a round may add grows no more.
                most = {"threshold": 0, "k_best": self.k, "quota": quota}[self.criterion]
                taken = np.minimum(np.multiply(most, turn), len(label))
                state = hashlib.blake2b(label.tobytes() + taken.tobytes()).digest()
                if state in states:
                    self.termination_condition_ = "cycle"
                    break
                states.add(state)

        self.learner_ = learner if fitted else self._train(start, x, label)
        self.n_iter_ = len(self.history_)
        found = np.empty_like(code)
        self.labeled_iter_ = np.empty_like(code)
        found[order], self.labeled_iter_[order] = label, since
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C] of the last learner."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False, reset=False)
        return probabilities(self.learner_, X, self.classes_)

    def _learners(self) -> list:
        return [self.base]

    def _start(self):
        learner = fresh(self.base, check_random_state(self.random_state))
        if self.warm and hasattr(learner, "get_params"):
            if "warm_start" not in learner.get_params():
                raise InputError(f"warm=True needs a learner with a parameter warm_start; {learner!r} has none")
            learner.set_params(warm_start=True)
        return learner

    def _train(self, start, x, label):
        if not self.warm:
            return trained(start, x, label, self.classes_)
        start.fit(x[label >= 0], self.classes_[label[label >= 0]])
        return start

    def _choose(self, probability: np.ndarray, quota: np.ndarray, times: int) -> np.ndarray:
        """Positions of the rows whose guess is used; `times` multiplies what a round may add."""
        confidence = probability.max(axis=1)
        if self.criterion == "threshold":
            return np.flatnonzero(confidence > self.threshold)
        if self.criterion == "k_best":
            return np.argsort(-confidence, kind="stable")[: self.k * times]
        return choose_by_quota(probability, quota * times)


def quotas(per_round, prior, classes: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Rows per class and round [C]: shares of `per_round` by largest remainder, at least one each."""
    if isinstance(per_round, Mapping):
        if set(per_round) != set(classes.tolist()) or min(per_round.values()) < 0:
            raise InputError(f"per_round must give a number of rows for each class {classes.tolist()}; got {per_round}")
        return np.array([per_round[label] for label in classes.tolist()], dtype=int)
    if isinstance(per_round, (int, np.integer)) and per_round > 0:
        total = int(per_round)
    elif isinstance(per_round, (float, np.floating)) and 0 < per_round <= 1:
        total = round(float(per_round) * int((code < 0).sum()))
    else:
        raise InputError(
            f"per_round is {per_round!r}; use a number of rows, a share in (0, 1], or a dict class -> rows"
        )
    exact = total * class_prior(prior, classes, code)
    number = np.floor(exact).astype(int)
    number[np.argsort(number - exact, kind="stable")[: total - number.sum()]] += 1
    return np.maximum(number, 1)


def choose_by_quota(probability: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """Positions of the quota[c] most confident rows among those guessed to be of class c, for every c."""
    guess, confidence = probability.argmax(axis=1), probability.max(axis=1)
    ranked = np.argsort(-confidence, kind="stable")
    return np.concatenate([ranked[guess[ranked] == c][:number] for c, number in enumerate(quota)])
