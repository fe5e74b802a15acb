"""Co-Forest: every tree of a random forest is taught by all the others.

Source: Li & Zhou, "Improve computer-aided diagnosis with machine learning techniques using undiagnosed samples",
IEEE Transactions on Systems, Man and Cybernetics A, 2007, Table I.
Legend: n labelled rows, u unlabelled rows, C classes, T trees; a tree's company is the forest without it.
"""

import math

import numpy as np
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import bootstrap, encode, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier, probabilities


class CoForest(SemiSupervisedClassifier):
    """A random forest whose trees learn from confident, weighted guesses of their company.

    Args:
        trees: how many trees; the paper: 10.
        threshold: share of the company's votes (0..1), exclusive, at which a guess is used; the paper: 0.75.
        max_features: columns tried at each split, as in `DecisionTreeClassifier`.
        rounds: most rounds; None: until no tree changes.
        random_state: seed of bootstraps, splits and sub-samples.

    Attributes:
        trees_, classes_, n_iter_, history_ (a dict per round);
        transduction_: y with all gaps filled by the final forest;
        termination_condition_: "no_change" or "max_iter".
    """

    def __init__(self, *, trees=100, threshold=0.75, max_features="sqrt", rounds=None, random_state=None):
        self.trees = trees
        self.threshold = threshold
        self.max_features = max_features
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, X, y) -> "CoForest":
        """Fits on X, array or sparse [n + u, features], and y [n + u] with gaps (-1, NaN, None or empty)."""
        if self.trees < 2:
            raise InputError(f"trees is {self.trees}; a tree needs at least one other to teach it")
        rng = check_random_state(self.random_state)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32)
        self.classes_, code = encode(y, X.shape[0])
        order = stable_order(code, X)
        x, n, u = X[order], int((code >= 0).sum()), int((code < 0).sum())
        given, free = code[order][:n], x[n:]
        labelled = x[:n]

        seeds = rng.randint(np.iinfo(np.int32).max, size=self.trees)
        bags = [bootstrap(given, rng) for _ in seeds]
        self.trees_ = [self._grow(seed, labelled[bag], given[bag]) for seed, bag in zip(seeds, bags)]
        out_TN = np.ones((self.trees, n), dtype=bool)
        for outside, bag in zip(out_TN, bags):
            outside[bag] = False
        own_TNC = np.array([self._votes(tree, labelled) for tree in self.trees_])
        total_uC = np.sum([self._votes(tree, free) for tree in self.trees_], axis=0)
        error, weight = np.full(self.trees, 0.5), np.zeros(self.trees)

        self.history_: list[dict] = []
        self.termination_condition_ = "no_change"
        while u and len(self.history_) != self.rounds:
            held_NC = np.einsum("tn,tnc->nc", out_TN, own_TNC)
            lessons: dict[int, tuple] = {}
            errors = []
            for i, tree in enumerate(self.trees_):
                now = self._error(held_NC - out_TN[i][:, None] * own_TNC[i], given)
                errors.append(now)
                if now >= error[i]:
                    continue
                weight[i] = weight[i] or min(u / 10, 100)
                size = u if now == 0 else min(u, math.ceil(error[i] * weight[i] / now - 1))
                asked = np.sort(rng.choice(u, size, replace=False))
                company = (total_uC[asked] - self._votes(tree, free[asked])) / (self.trees - 1)
                sure = company.max(axis=1)
                used = sure > self.threshold
                if used.sum() > weight[i] and now * sure[used].sum() < error[i] * weight[i]:
                    lessons[i] = asked[used], company[used].argmax(axis=1), sure[used]
                    error[i], weight[i] = now, sure[used].sum()
            for i, (rows, label, sure) in lessons.items():
                total_uC -= self._votes(self.trees_[i], free)
                used = np.concatenate([np.arange(n), n + rows])
                weights = np.concatenate([np.ones(n), sure])
                self.trees_[i] = self._grow(seeds[i], x[used], np.concatenate([given, label]), weights)
                total_uC += self._votes(self.trees_[i], free)
                own_TNC[i] = self._votes(self.trees_[i], labelled)
            self.history_.append(
                {
                    "round": len(self.history_) + 1,
                    "added": sum(len(lesson[0]) for lesson in lessons.values()),
                    "changed": len(lessons),
                    "error": float(np.mean(errors)),
                }
            )
            if not lessons:
                break
        else:
            self.termination_condition_ = "max_iter" if u else "no_change"

        self.n_iter_ = len(self.history_)
        found = code.copy()
        found[order[n:]] = total_uC.argmax(axis=1)
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C]: mean over the trees."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float32, reset=False)
        return np.mean([self._votes(tree, X) for tree in self.trees_], axis=0)

    def _grow(self, seed, x, label, weights=None) -> DecisionTreeClassifier:
        tree = DecisionTreeClassifier(max_features=self.max_features, random_state=int(seed))
        return tree.fit(x, self.classes_[label], sample_weight=weights)

    def _votes(self, tree, x) -> np.ndarray:
        return probabilities(tree, x, self.classes_)

    def _error(self, votes_NC: np.ndarray, given: np.ndarray) -> float:
        """Error of a tree's company on the labelled rows that its out-of-bag trees are confident about.

        1 where they are confident about none: then there is nothing to judge by, and the tree is not taught.
        """
        total_N = votes_NC.sum(axis=1)
        sure = votes_NC.max(axis=1) > self.threshold * np.maximum(total_N, 1e-12)
        return float((votes_NC[sure].argmax(axis=1) != given[sure]).mean()) if sure.any() else 1.0
