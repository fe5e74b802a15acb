"""Naive Bayes with expectation-maximisation: unlabelled rows count as rows of every class, in part.

Source: Nigam, McCallum, Thrun & Mitchell, "Text classification from labeled and unlabeled documents using EM",
Machine Learning 2000; `weight` is their lambda (section 5.3).
Legend: n labelled rows, u unlabelled rows, C classes, W features (words).
"""

import numpy as np
from scipy import sparse
from scipy.special import logsumexp, softmax
from sklearn.utils.validation import check_is_fitted, check_non_negative, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import class_prior, counts, encode, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier
from cotrain.estimators.products import Products


class EMNaiveBayes(SemiSupervisedClassifier):
    """Multinomial naive Bayes for counts or TF-IDF, which unlabelled rows make better.

    Args:
        weight: what an unlabelled row counts, against 1 of a labelled one; 0: MultinomialNB.
        alpha: rows' worth of smoothing added to each feature of each class, positive.
        prior: shares of the classes. "estimated": by EM, from labelled and unlabelled rows; "labelled": from the
            labelled rows; an array [C] or a dict class -> share: fixed.
        scale: factor on X. "auto": 1 where X holds whole numbers (counts), otherwise as many as make a row weigh, on
            average, its number of entries; a TF-IDF row of length 1 is too weak as evidence and EM goes astray on it.
        rounds: most rounds of EM.
        tolerance: stop when a round raises the objective by fewer nats per (weighted) row.

    Attributes:
        class_log_prior_ [C], feature_log_prob_ [C, W], classes_, scale_, n_iter_;
        objective_: weighted log likelihood plus log prior of the parameters (up to a constant), before each round and
            after the last, in nats; it never falls;
        history_ (a dict per round), transduction_: y with all gaps filled;
        termination_condition_: "converged" or "max_iter".
    """

    def __init__(self, *, weight=0.2, alpha=0.1, prior="estimated", scale="auto", rounds=30, tolerance=1e-4):
        self.weight = weight
        self.alpha = alpha
        self.prior = prior
        self.scale = scale
        self.rounds = rounds
        self.tolerance = tolerance

    def fit(self, X, y) -> "EMNaiveBayes":
        """Fits on X, array or sparse [n + u, W], not negative, and y [n + u] with gaps (-1, NaN, None or empty)."""
        if self.weight < 0 or self.alpha <= 0:
            raise InputError(f"weight must not be negative and alpha be positive; got {self.weight} and {self.alpha}")
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
        check_non_negative(X, "EMNaiveBayes (input X)")
        self.classes_, code = encode(y, X.shape[0])
        self.scale_ = _scale(X) if isinstance(self.scale, str) and self.scale == "auto" else float(self.scale)
        X = X if self.scale_ == 1 else X * X.dtype.type(self.scale_)
        labelled = code >= 0
        one_hot_nC = np.eye(len(self.classes_))[code[labelled]]
        rows_C, counts_CW = one_hot_nC.sum(axis=0), np.ascontiguousarray((X[labelled].T @ one_hot_nC).T)
        asked = Products(X[~labelled])
        mass = rows_C.sum() + self.weight * (~labelled).sum()
        estimated = isinstance(self.prior, str) and self.prior == "estimated"
        prior_C = class_prior("labelled" if estimated else self.prior, self.classes_, code)

        self.objective_: list[float] = []
        self.history_: list[dict] = []
        all_rows_C, all_counts_CW = rows_C, counts_CW
        while True:
            # M step: shares of all rows and counts, labelled ones whole, unlabelled ones in part.
            self.class_log_prior_ = np.log(all_rows_C / all_rows_C.sum() if estimated else prior_C)
            smooth_CW = all_counts_CW + self.alpha
            self.feature_log_prob_ = np.log(smooth_CW) - np.log(smooth_CW.sum(axis=1, keepdims=True))
            # E step: how probable each class is for each unlabelled row.
            joint_uC = asked.of_rows(self.feature_log_prob_.T) + self.class_log_prior_
            evidence_u = logsumexp(joint_uC, axis=1)
            expected_uC = np.exp(joint_uC - evidence_u[:, None])
            self.objective_.append(
                float(
                    (counts_CW * self.feature_log_prob_).sum()
                    + rows_C @ self.class_log_prior_
                    + self.weight * evidence_u.sum()
                    + self.alpha * self.feature_log_prob_.sum()
                )
            )
            guess = expected_uC.argmax(axis=1)
            self.history_.append(
                {"round": len(self.history_), "objective": self.objective_[-1], "added": counts(self.classes_, guess)}
            )
            gain = np.diff(self.objective_[-2:])
            if not (self.weight and len(guess)) or (len(gain) and gain[0] < self.tolerance * mass):
                self.termination_condition_ = "converged"
                break
            if len(self.history_) > self.rounds:
                self.termination_condition_ = "max_iter"
                break
            all_rows_C = rows_C + self.weight * expected_uC.sum(axis=0)
            all_counts_CW = counts_CW + self.weight * asked.of_columns(expected_uC).T

        self.n_iter_ = len(self.history_) - 1
        found = code.copy()
        found[~labelled] = guess
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C]."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        check_non_negative(X, "EMNaiveBayes (input X)")
        X = X if self.scale_ == 1 else X * X.dtype.type(self.scale_)
        return softmax(X @ self.feature_log_prob_.T.astype(X.dtype) + self.class_log_prior_, axis=1)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.classifier_tags.poor_score = True  # as MultinomialNB: counts are no points in space
        return tags


def _scale(X) -> float:
    value = X.data if sparse.issparse(X) else X
    total = value.sum()
    return 1.0 if total == 0 or (value == np.floor(value)).all() else float(np.count_nonzero(value) / total)
