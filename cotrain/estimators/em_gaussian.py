"""Gaussians with one covariance for all classes, which unlabelled rows make better by expectation-maximisation.

Linear discriminant analysis where all rows are labelled. Source of the mixture with labels: McLachlan, "Iterative
reclassification procedure for constructing an asymptotically optimal rule of allocation in discriminant analysis",
JASA 1975; the soft version: Dempster, Laird & Rubin, JRSS B 1977.
Legend: n labelled rows, u unlabelled rows, C classes, D features.
"""

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.special import softmax
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import counts, encode, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier


class EMGaussian(SemiSupervisedClassifier):
    """A Gaussian for each class, all of one shape; the unlabelled rows tell that shape and move the means.

    Args:
        weight: what an unlabelled row counts, against 1 of a labelled one.
        shrink: share of a sphere in the covariance, 0 to 1; more in the first round, where few rows speak: as much as
            there are features for a row, so that many features and few labels begin as nearest means.
        rounds: most rounds.
        tolerance: stop when a round changes the guesses by less, mean over rows and classes.

    Attributes:
        means_ [C, D], covariance_ [D, D], class_log_prior_ [C], classes_, n_iter_, history_ (a dict per round);
        transduction_: y with all gaps filled; termination_condition_: "converged" or "max_iter".
    """

    def __init__(self, *, weight=1.0, shrink=0.1, rounds=30, tolerance=1e-3):
        self.weight = weight
        self.shrink = shrink
        self.rounds = rounds
        self.tolerance = tolerance

    def fit(self, X, y) -> "EMGaussian":
        """Fits on X [n + u, D], array or sparse, and y [n + u] with gaps (-1, NaN, None or empty)."""
        if self.weight < 0 or not 0 < self.shrink <= 1:
            raise InputError(
                f"weight must not be negative and shrink be in (0, 1]; got {self.weight} and {self.shrink}"
            )
        X = self._dense(X, reset=True)
        self.classes_, code = encode(y, X.shape[0])
        order = stable_order(code, X)
        self._centre = X.mean(axis=0)  # a large offset would cost the covariance its digits
        X, code = X[order] - self._centre, code[order]
        labelled = code >= 0
        classes, (n, size) = len(self.classes_), X[labelled].shape
        weight_NC = np.zeros((len(code), classes))
        weight_NC[labelled] = np.eye(classes)[code[labelled]]
        shrink = max(self.shrink, min(1.0, size / max(n - classes, 1)))
        self.history_: list[dict] = []
        guess_uC = np.zeros((int((~labelled).sum()), classes))
        self.termination_condition_ = "converged"
        while True:
            self._learn(X, weight_NC, shrink)
            before, guess_uC = guess_uC, self._say(X[~labelled])
            change = float(np.abs(guess_uC - before).mean()) if len(guess_uC) else 0.0
            added = counts(self.classes_, guess_uC.argmax(axis=1))
            self.history_.append({"round": len(self.history_), "change": change, "added": added})
            if change < self.tolerance or not self.weight:
                break
            if len(self.history_) > self.rounds:
                self.termination_condition_ = "max_iter"
                break
            weight_NC[~labelled] = self.weight * guess_uC
            shrink = self.shrink
        self.n_iter_ = len(self.history_) - 1
        self.means_ = self._means + self._centre
        code[~labelled] = guess_uC.argmax(axis=1)
        found = np.empty_like(code)
        found[order] = code
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C]."""
        check_is_fitted(self)
        return self._say(self._dense(X, reset=False) - self._centre)

    def _dense(self, X, reset: bool) -> np.ndarray:
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=reset)
        return X.toarray() if sparse.issparse(X) else X

    def _learn(self, X: np.ndarray, weight_NC: np.ndarray, shrink: float) -> None:
        """Shares, means and the covariance around them, rows counted by their weights."""
        mass_C = weight_NC.sum(axis=0)
        self.class_log_prior_ = np.log(mass_C / mass_C.sum())
        self._means = weight_NC.T @ X / mass_C[:, None]
        row_N = weight_NC.sum(axis=1)
        seen = row_N > 0
        total = (X[seen] * row_N[seen, None]).T @ X[seen]
        within = (total - (self._means * mass_C[:, None]).T @ self._means) / mass_C.sum()
        sphere = max(np.trace(within) / len(within), 1e-9 * max(1.0, float(np.abs(within).max())))
        self.covariance_ = (1 - shrink) * within + shrink * sphere * np.eye(len(within))
        self._slope = cho_solve(cho_factor(self.covariance_), self._means.T)
        self._offset = self.class_log_prior_ - 0.5 * np.einsum("cd,dc->c", self._means, self._slope)

    def _say(self, X: np.ndarray) -> np.ndarray:
        return softmax(X @ self._slope + self._offset, axis=1)
