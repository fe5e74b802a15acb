"""Co-EM: naive Bayes on several views of the same rows, each taught in every round by what all of them say together.

Source: Nigam & Ghani, "Analyzing the effectiveness and applicability of co-training", CIKM 2000, where the learners
take turns; here they speak at once and their mean is the guess.
Legend: n labelled rows, u unlabelled rows, C classes, W features of a view.
"""

from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import counts, encode, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier
from cotrain.estimators.products import Products


class CoEM(SemiSupervisedClassifier):
    """Multinomial naive Bayes on several views, for counts or TF-IDF, with soft guesses exchanged between them.

    One view's errors reach the others only as a part of the mean, and what the views agree on grows surer. Equal class
    shares are assumed. X is a tuple of matrices with the same rows, or one matrix.

    Args:
        scales: factor on each view, which says how strong a row is as evidence; None: 1 for all.
        weight: what an unlabelled row counts, against 1 of a labelled one.
        alpha: rows' worth of smoothing added to each feature of each class, positive.
        temperature: divides the log probabilities of each view before they become a guess: naive Bayes is too sure.
        rounds: most rounds.
        tolerance: stop when a round changes the guesses by less, mean over rows and classes.

    Attributes:
        feature_log_prob_ (an array [C, W] for each view), classes_, n_iter_, history_ (a dict per round);
        transduction_: y with all gaps filled; termination_condition_: "converged" or "max_iter".
    """

    def __init__(self, *, scales=None, weight=1.0, alpha=0.1, temperature=2.0, rounds=10, tolerance=1e-3):
        self.scales = scales
        self.weight = weight
        self.alpha = alpha
        self.temperature = temperature
        self.rounds = rounds
        self.tolerance = tolerance

    def fit(self, X, y) -> "CoEM":
        """Fits on X, matrices [n + u, W], not negative, and y [n + u] with gaps (-1, NaN, None or empty)."""
        if self.weight < 0 or self.alpha <= 0 or self.temperature <= 0:
            raise InputError(
                "weight must not be negative, alpha and temperature be positive; "
                f"got {self.weight}, {self.alpha} and {self.temperature}"
            )
        views = self._views(X, reset=True)
        self.classes_, code = encode(y, views[0].shape[0])
        labelled = code >= 0
        one_hot_nC = np.eye(len(self.classes_))[code[labelled]]
        given = [Products(view[labelled]).of_columns(one_hot_nC).T for view in views]
        asked = [Products(view[~labelled]) for view in views]
        self.history_: list[dict] = []
        guess_uC = np.zeros(((~labelled).sum(), len(self.classes_)))
        self.termination_condition_ = "converged"
        while True:
            # The first round knows the labels alone.
            taught = [view.of_columns(guess_uC).T if self.history_ else 0.0 for view in asked]
            self.feature_log_prob_ = [
                self._log_shares(own + self.weight * more) for own, more in zip(given, taught, strict=True)
            ]
            before, guess_uC = (
                guess_uC,
                self._guess([view.of_rows(known.T) for view, known in zip(asked, self.feature_log_prob_, strict=True)]),
            )
            change = float(np.abs(guess_uC - before).mean()) if len(guess_uC) else 0.0
            added = counts(self.classes_, guess_uC.argmax(axis=1))
            self.history_.append({"round": len(self.history_), "change": change, "added": added})
            if change < self.tolerance or not self.weight:
                break
            if len(self.history_) > self.rounds:
                self.termination_condition_ = "max_iter"
                break
        self.n_iter_ = len(self.history_) - 1
        found = code.copy()
        found[~labelled] = guess_uC.argmax(axis=1)
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C], the mean of the views'."""
        check_is_fitted(self)
        views = self._views(X, reset=False)
        for view, known in zip(views, self.feature_log_prob_, strict=True):
            if view.shape[1] != known.shape[1]:
                raise InputError(f"a view has {view.shape[1]} features; it had {known.shape[1]} in fit")
        return self._guess(
            [view @ known.T.astype(view.dtype) for view, known in zip(views, self.feature_log_prob_, strict=True)]
        )

    def _views(self, X, reset: bool) -> list[Any]:
        kinds: dict[str, Any] = {"accept_sparse": "csr", "dtype": [np.float64, np.float32]}
        if isinstance(X, tuple):
            parts = [check_array(part, **kinds) for part in X]
        else:
            parts = [validate_data(self, X, reset=reset, **kinds)]
        scales = (1.0,) * len(parts) if self.scales is None else self.scales
        if len(scales) != len(parts):
            raise InputError(f"{len(parts)} views came with {len(scales)} scales")
        views = []
        for view, scale in zip(parts, scales, strict=True):
            check_non_negative(view, "CoEM (input X)")
            views.append(view if scale == 1 else view * view.dtype.type(scale))
        if len({view.shape[0] for view in views}) > 1:
            raise InputError(f"the views have {[view.shape[0] for view in views]} rows; they need the same rows")
        return views

    def _log_shares(self, counts_CW: np.ndarray) -> np.ndarray:
        smooth_CW = counts_CW + self.alpha
        return np.log(smooth_CW) - np.log(smooth_CW.sum(axis=1, keepdims=True))

    def _guess(self, logs: list[np.ndarray]) -> np.ndarray:
        """The mean of the views' probabilities, from their logarithms (up to a constant of each row) [rows, C]."""
        parts = [softmax(log / self.temperature, axis=1) for log in logs]
        return np.asarray(np.mean(parts, axis=0, dtype=np.float64))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.classifier_tags.poor_score = True  # as MultinomialNB: counts are no points in space
        return tags
