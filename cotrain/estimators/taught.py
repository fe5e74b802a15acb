"""A student fitted on the labels that a teacher found for the unlabelled rows."""

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.estimators.labels import encode, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier, probabilities, trained


class Taught(SemiSupervisedClassifier):
    """The teacher labels every unlabelled row once; the student learns from all rows as if they were true.

    Good where teacher and student fail differently: a neighbour graph knows the unlabelled rows and is coarse about new
    ones, a kernel machine or a forest is smooth about new ones and knows few labels.

    Args:
        teacher: semi-supervised estimator with `transduction_`, such as `GraphSpreading`.
        student: any classifier with `predict_proba`.
        most: rows that the student learns from: all labelled ones and a draw of the others. More cost time and add
            little, since their labels are the teacher's.

    Attributes:
        teacher_, student_: fitted; classes_; transduction_: y with all gaps filled by the teacher.
    """

    def __init__(self, teacher, student, most=4_000):
        self.teacher = teacher
        self.student = student
        self.most = most

    def fit(self, X, y) -> "Taught":
        """Fits on X, array or sparse [n + u, features], and y [n + u] with gaps (-1, NaN, None or empty)."""
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
        self.classes_, code = encode(y, X.shape[0])
        self.teacher_ = clone(self.teacher).fit(X, y)
        found = encode(self.teacher_.transduction_)[1]
        left = np.flatnonzero(found < 0)  # such as rows of which self-training was never sure
        if len(left):
            found[left] = np.searchsorted(self.classes_, self.teacher_.predict(X[left]))
        self.transduction_ = transduction(y, self.classes_, found)
        rows = np.arange(len(code))
        if len(rows) > self.most:
            others = np.random.RandomState(0).permutation(rows[code < 0])
            rows = np.sort(np.concatenate([rows[code >= 0], others[: max(0, self.most - (code >= 0).sum())]]))
        self.student_ = trained(self.student, X[rows], found[rows], self.classes_)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C], the student's."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        return probabilities(self.student_, X, self.classes_)
