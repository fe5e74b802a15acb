"""Tri-training: a row that two learners agree on teaches the third, as long as the agreement is right often enough.

Source: Zhou & Li, "Tri-training: exploiting unlabeled data using three classifiers", TKDE 2005, Table 1;
disagreement: Søgaard, "Simple semi-supervised training of part-of-speech taggers", ACL 2010; quotas as in co-training.
Legend: n labelled rows, u unlabelled rows, C classes; learner i is taught by the other two.
"""

import hashlib
import math
from fractions import Fraction

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import bootstrap, encode, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier, fresh, probabilities, trained
from cotrain.estimators.self_training import choose_by_quota, quotas


def initial_size(error: Fraction, previous_error: Fraction) -> int:
    """l' of a learner's first round: the least number of rows that can lower the bound on its error."""
    return math.floor(error / (previous_error - error) + 1)


def accepted_size(error: Fraction, previous_error: Fraction, size: int, previous_size: int) -> int:
    """How many of `size` agreed rows a learner may be taught: all, a random part of them, or none (0).

    Args:
        error, previous_error: e and e', error of the two teachers together in this and in the last accepted round.
        size, previous_size: |L| and l', rows agreed on now and rows taught in the last accepted round.
    """
    if error >= previous_error or size <= previous_size:
        return 0
    if error * size < previous_error * previous_size:
        return size
    if previous_size > error / (previous_error - error):
        return math.ceil(previous_error * previous_size / error - 1)
    return 0


class TriTraining(SemiSupervisedClassifier):
    """Three learners that start from bootstraps and then teach each other.

    Args:
        base: one learner, copied three times, or a list of three.
        disagreement: teach a learner only the rows on which it differs from its two agreeing teachers.
        check_error: keep Zhou and Li's conditions on the teachers' error, which shrink or refuse a round's rows;
            False: teach every round until nothing changes or lessons come round again.
        threshold: least probability (0..1) that both teachers must give to the label they agree on.
        per_round: None: every agreed row teaches (the papers). An int, a float as share of the unlabelled rows, or a
            dict class -> rows: only the most confident of each class, by `prior`, times the number of the round.
        prior: shares of the classes for `per_round`: "labelled", an array [C] or a dict class -> share.
        bootstrap: start from rows drawn with replacement, every class as often as it is labelled; False: from all rows.
        rounds: most rounds; None: no limit.
        combine: "vote": majority, ties broken by mean probability; "mean": mean probability.
        random_state: seed of bootstraps, sub-samples and learners whose own random state is not set.

    Attributes:
        learners_ (three), classes_, n_iter_, history_ (a dict per round);
        transduction_: y with all gaps filled by the final vote;
        termination_condition_: "no_change", "max_iter", or "cycle" (lessons come round again).
    """

    def __init__(
        self,
        base,
        *,
        disagreement=False,
        check_error=True,
        threshold=0.0,
        per_round=None,
        prior="labelled",
        bootstrap=True,
        rounds=30,
        combine="vote",
        random_state=None,
    ):
        self.base = base
        self.disagreement = disagreement
        self.check_error = check_error
        self.threshold = threshold
        self.per_round = per_round
        self.prior = prior
        self.bootstrap = bootstrap
        self.rounds = rounds
        self.combine = combine
        self.random_state = random_state

    def fit(self, X, y) -> "TriTraining":
        """Fits on X, array or sparse [n + u, features], and y [n + u] with gaps (-1, NaN, None or empty)."""
        if len(self._learners()) != 3:
            raise InputError(f"tri-training takes one learner or three, got {len(self._learners())}")
        if self.combine not in ("vote", "mean"):
            raise InputError(f'combine is {self.combine!r}; use "vote" or "mean"')
        rng = check_random_state(self.random_state)
        start = [fresh(base, rng) for base in self._learners()]
        X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False)
        self.classes_, code = encode(y, X.shape[0])
        order = stable_order(code, X)
        x, n = X[order], int((code >= 0).sum())
        given = code[order][:n]
        quota = None if self.per_round is None else quotas(self.per_round, self.prior, self.classes_, code)

        drawn = [bootstrap(given, rng) if self.bootstrap else np.arange(n) for _ in start]
        self.learners_ = [trained(base, x[rows], given[rows], self.classes_) for base, rows in zip(start, drawn)]
        probability = [probabilities(learner, x, self.classes_) for learner in self.learners_]
        errors = [Fraction(1, 2)] * 3
        sizes, taught = [0] * 3, [given[:0]] * 3
        self.history_: list[dict] = []
        self.termination_condition_ = "no_change"
        states: set[bytes] = set()
        while n < len(order) and len(self.history_) != self.rounds:
            turn = len(self.history_) + 1
            guess = [p.argmax(axis=1) for p in probability]
            lessons: dict[int, tuple[np.ndarray, np.ndarray]] = {}
            entry: dict = {"round": turn, "added": [0, 0, 0], "agreed": [0, 0, 0], "error": [1.0] * 3}
            for i in range(3):
                j, k = (i + 1) % 3, (i + 2) % 3
                agree = guess[j] == guess[k]
                error = _error(guess[j][:n][agree[:n]], given[agree[:n]])
                use = agree & (np.minimum(probability[j].max(axis=1), probability[k].max(axis=1)) >= self.threshold)
                if self.disagreement:
                    use &= guess[i] != guess[j]
                rows = n + np.flatnonzero(use[n:])
                if quota is not None:
                    rows = np.sort(rows[choose_by_quota(probability[j][rows] + probability[k][rows], quota * turn)])
                entry["agreed"][i], entry["error"][i] = len(rows), float(error)
                if self.check_error:
                    if error >= errors[i]:
                        continue
                    sizes[i] = sizes[i] or initial_size(error, errors[i])
                    size = accepted_size(error, errors[i], len(rows), sizes[i])
                    if not size:
                        continue
                    if size < len(rows):
                        rows = np.sort(rng.choice(rows, size, replace=False))
                    errors[i], sizes[i] = error, size
                lesson = np.full(len(order), -1)
                lesson[rows] = guess[j][rows]
                if self.check_error or not np.array_equal(lesson, taught[i]):
                    taught[i] = lesson
                    lessons[i] = rows, guess[j][rows]
            for i, (rows, labels) in lessons.items():
                entry["added"][i] = len(rows)
                used = np.concatenate([np.arange(n), rows])
                self.learners_[i] = trained(start[i], x[used], np.concatenate([given, labels]), self.classes_)
                probability[i] = probabilities(self.learners_[i], x, self.classes_)
            self.history_.append(entry)
            if not lessons:
                break
            if not self.check_error:
                # With disagreement, who was taught agrees, is then taught nothing, and disagrees again.
                taken = np.zeros(0) if quota is None else np.minimum(quota * turn, len(order))
                state = hashlib.blake2b(b"".join(part.tobytes() for part in (*taught, taken))).digest()
                if state in states:
                    self.termination_condition_ = "cycle"
                    break
                states.add(state)
        else:
            self.termination_condition_ = "max_iter" if n < len(order) else "no_change"

        self.n_iter_ = len(self.history_)
        found = np.empty_like(code)
        found[order] = self._combine(probability).argmax(axis=1)
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C]; with combine="vote" half the shares of the votes, half the mean probability.

        Half and half keeps the majority on top: a third of the votes outweighs any difference of the means.
        """
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False, reset=False)
        return self._combine([probabilities(learner, X, self.classes_) for learner in self.learners_])

    def _learners(self) -> list:
        return list(self.base) if isinstance(self.base, (list, tuple)) else [self.base] * 3

    def _combine(self, probability: list[np.ndarray]) -> np.ndarray:
        mean = np.mean(probability, axis=0)
        if self.combine == "mean":
            return mean
        votes = np.mean([np.eye(len(self.classes_))[p.argmax(axis=1)] for p in probability], axis=0)
        return (votes + mean) / 2


def _error(guess: np.ndarray, given: np.ndarray) -> Fraction:
    """Share of wrong labels among those agreed on; 1 (refuse) where there is no agreement to judge by."""
    return Fraction(int((guess != given).sum()), len(given)) if len(given) else Fraction(1)
