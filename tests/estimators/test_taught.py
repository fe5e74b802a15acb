"""A student learns what the teacher found."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression

from cotrain.estimators.graph import GraphSpreading
from cotrain.estimators.labels import encode
from cotrain.estimators.self_training import SelfTraining
from cotrain.estimators.taught import Taught


def blobs():
    x, truth = make_blobs(300, centers=3, cluster_std=1.0, random_state=0)
    y = np.full(300, -1)
    for label in range(3):
        y[np.flatnonzero(truth == label)[:2]] = label
    return x, y, truth


def test_the_student_is_fitted_on_the_teachers_labels():
    x, y, _ = blobs()
    both = Taught(GraphSpreading(), LogisticRegression()).fit(x, y)
    teacher = GraphSpreading().fit(x, y)
    student = LogisticRegression().fit(x, teacher.transduction_)
    np.testing.assert_allclose(both.predict_proba(x), student.predict_proba(x))
    np.testing.assert_array_equal(both.transduction_, teacher.transduction_)


def test_without_unlabelled_rows_it_is_the_student():
    x, _, truth = blobs()
    alone = LogisticRegression().fit(x, truth)
    taught = Taught(GraphSpreading(), LogisticRegression()).fit(x, truth)
    np.testing.assert_allclose(taught.predict_proba(x), alone.predict_proba(x))


def test_most_bounds_the_students_rows_and_keeps_the_labelled_ones():
    class Spy(LogisticRegression):
        def fit(self, x, y):
            self.rows_ = len(x)
            return super().fit(x, y)

    x, y, truth = blobs()
    taught = Taught(GraphSpreading(), Spy(), most=50).fit(x, y)
    assert taught.student_.rows_ == 50
    assert (taught.predict(x) == truth).mean() > 0.8


@pytest.mark.parametrize("names", [None, np.array(["red", "green", "blue"], dtype=object)])
@pytest.mark.parametrize("gap", [-1, None])
def test_rows_of_which_the_teacher_was_never_sure_get_its_guess(names, gap):
    x, y, truth = blobs()
    labels = y.astype(object) if names is None else names[y]
    labels[y < 0] = gap
    teacher = SelfTraining(LogisticRegression(), threshold=0.9, rounds=1)
    unsure = encode(teacher.fit(x, labels).transduction_)[1] < 0
    assert 0 < unsure.sum() < 298
    taught = Taught(teacher, LogisticRegression()).fit(x, labels)
    np.testing.assert_array_equal(taught.student_.classes_, taught.classes_)
    np.testing.assert_array_equal(taught.transduction_[unsure], teacher.predict(x[unsure]))
    assert (taught.predict(x) == (truth if names is None else names[truth])).mean() > 0.8
