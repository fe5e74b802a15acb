"""What holds for all estimators: scikit-learn's checks, ways to say "unlabelled", order, bad input."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from cotrain.errors import InputError
from cotrain.estimators.co_em import CoEM
from cotrain.estimators.co_forest import CoForest
from cotrain.estimators.co_training import CoTraining
from cotrain.estimators.democratic import DemocraticCoLearning
from cotrain.estimators.em_gaussian import EMGaussian
from cotrain.estimators.em_naive_bayes import EMNaiveBayes
from cotrain.estimators.graph import GraphSpreading
from cotrain.estimators.self_training import SelfTraining
from cotrain.estimators.tri_training import TriTraining

KINDS = [DecisionTreeClassifier(max_depth=4), LogisticRegression(), KNeighborsClassifier(3)]
ESTIMATORS = [
    SelfTraining(LogisticRegression(), random_state=0),
    SelfTraining(DecisionTreeClassifier(max_depth=3), criterion="quota", per_round=0.2, random_state=0),
    SelfTraining(LogisticRegression(), criterion="k_best", relabel=True, random_state=0),
    CoTraining(LogisticRegression(), random_state=0),
    CoTraining(
        DecisionTreeClassifier(max_depth=3), pool=20, per_round=6, teach="other", combine="mean", random_state=0
    ),
    TriTraining(DecisionTreeClassifier(max_depth=3), random_state=0),
    TriTraining(KINDS, disagreement=True, check_error=False, rounds=4, random_state=0),
    DemocraticCoLearning(KINDS, random_state=0),
    CoForest(trees=15, random_state=0),
    CoEM(),
    EMGaussian(),
    EMNaiveBayes(),
    GraphSpreading(),
    GraphSpreading(metric="cosine", prior="labelled"),
]
WITH_BASE = [
    lambda base: SelfTraining(base),
    lambda base: CoTraining(base),
    lambda base: TriTraining(base),
    lambda base: DemocraticCoLearning([base, LogisticRegression()]),
]
every = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: str(e).replace("\n", "")[:50])
with_base = pytest.mark.parametrize("make", WITH_BASE, ids=["self", "co", "tri", "democratic"])


def data(n: int = 90, labelled: int = 4, seed: int = 0):
    """Three blobs of non-negative numbers; the first `labelled` of each class keep their label."""
    x, y = make_blobs(n, n_features=6, centers=3, cluster_std=2.5, random_state=seed)
    x -= x.min()
    given = np.full(n, -1)
    for c in range(3):
        rows = np.flatnonzero(y == c)[:labelled]
        given[rows] = c
    return x, y, given


def fitted(estimator, x, y):
    from sklearn.base import clone

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return clone(estimator).fit(x, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    ESTIMATORS,
    expected_failed_checks=lambda estimator: {
        "check_classifiers_classes": "one of its label sets is {-1, 1}, and -1 means unlabelled"
    },
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@every
def test_gaps_may_be_written_in_any_way(estimator):
    x, _, given = data()
    names = np.array(["ant", "bee", "a longer name"])
    ways = [given, np.where(given < 0, np.nan, given)]
    ways += [
        np.array([gap if c < 0 else names[c] for c in given], dtype=object) for gap in (None, np.nan, "", -1, pd.NA)
    ]
    ways += [np.array(["" if c < 0 else names[c] for c in given]), pd.Series(given, dtype="Int64").replace(-1, pd.NA)]
    models = [fitted(estimator, x, way) for way in ways]
    first = models[0]
    for model in models:
        if model.classes_.dtype.kind in "OU":
            # Class numbers follow the alphabet: "a longer name" is class 2 of the numbers.
            assert model.classes_.tolist() == ["a longer name", "ant", "bee"]
            continue
        assert model.classes_.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(model.predict_proba(x), first.predict_proba(x))
    text = [model for model in models if model.classes_.dtype.kind in "OU"]
    assert len(text) == 6
    for model in text:
        np.testing.assert_array_equal(model.predict_proba(x), text[0].predict_proba(x))
        assert set(model.transduction_[given >= 0]) == set(names)
        assert all(isinstance(label, str) for label in model.predict(x))


@every
def test_order_of_the_unlabelled_rows_changes_nothing(estimator):
    x, _, given = data()
    x[50] = x[40]  # equal rows may swap, and nobody can tell
    rest = np.flatnonzero(given < 0)
    shuffled = np.arange(len(x))
    shuffled[rest] = np.random.RandomState(5).permutation(rest)
    a, b = fitted(estimator, x, given), fitted(estimator, x[shuffled], given[shuffled])
    np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(a.transduction_[shuffled], b.transduction_)
    if hasattr(a, "labeled_iter_"):
        np.testing.assert_array_equal(a.labeled_iter_[shuffled], b.labeled_iter_)
    c = fitted(estimator, sparse.csr_matrix(x), given)
    d = fitted(estimator, sparse.csr_matrix(x[shuffled]), given[shuffled])
    np.testing.assert_allclose(c.predict_proba(x), d.predict_proba(x), rtol=1e-9, atol=1e-12)


@every
def test_sparse_input_and_a_table_with_names(estimator):
    x, y, given = data()
    dense = fitted(estimator, x, given)
    thin = fitted(estimator, sparse.csr_array(x), given)
    assert (thin.predict(sparse.csr_array(x)) == y).mean() > 0.7  # sums round differently, and so ties may fall
    table = pd.DataFrame(x, columns=[f"c{i}" for i in range(x.shape[1])])
    named = fitted(estimator, table, given)
    np.testing.assert_allclose(named.predict_proba(table), dense.predict_proba(x), rtol=1e-9)
    assert named.feature_names_in_.tolist() == table.columns.tolist()


@every
def test_learns_and_tells_what_it_did(estimator):
    x, y, given = data()
    model = fitted(estimator, x, given)
    assert (model.predict(x) == y).mean() > 0.7
    np.testing.assert_array_equal(model.transduction_[given >= 0], given[given >= 0])
    np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1)
    assert model.history_
    assert all("round" in entry and "added" in entry for entry in model.history_)


@every
def test_a_class_with_one_label_and_duplicates_of_labelled_rows(estimator):
    x, _, given = data()
    given[np.flatnonzero(given == 2)[1:]] = -1
    rest = np.flatnonzero(given < 0)
    x[rest[:6]] = x[np.flatnonzero(given >= 0)[:6]]
    model = fitted(estimator, x, given)
    assert model.predict_proba(x).shape == (len(x), 3)


@every
def test_labels_that_cannot_be_used(estimator):
    x, _, given = data()
    with pytest.raises(InputError, match="no labelled row: all 90 labels are missing"):
        fitted(estimator, x, np.full(len(x), -1))
    with pytest.raises(InputError, match="only one class among the 4 labelled rows, 0"):
        fitted(estimator, x, np.where(given == 0, 0, -1))
    mixed = given.astype(object)
    mixed[np.flatnonzero(given == 1)] = "one"
    with pytest.raises(InputError, match="mix text and other types"):
        fitted(estimator, x, mixed)
    with pytest.raises(InputError, match="X has 90 rows, y has 89 labels"):
        fitted(estimator, x, given[:-1])
    with pytest.raises(ValueError, match="continuous"):
        fitted(estimator, x, np.where(given < 0, np.nan, given + 0.5))


@with_base
def test_learner_without_probabilities(make):
    x, _, given = data()
    with pytest.raises(InputError, match=r"LinearSVC.* has no predict_proba; wrap it in .*CalibratedClassifierCV"):
        make(LinearSVC()).fit(x, given)


class Nearest:
    """A learner that is no scikit-learn estimator: fit, predict_proba, classes_ and nothing else."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.centres = np.stack([np.asarray(x[y == c].mean(axis=0)).ravel() for c in self.classes_])

    def predict_proba(self, x):
        square = ((np.asarray(x)[:, None] - self.centres) ** 2).sum(axis=2)
        score = np.exp(-(square - square.min(axis=1, keepdims=True)) / 20)
        return score / score.sum(axis=1, keepdims=True)


@with_base
def test_learner_from_elsewhere(make):
    x, y, given = data()
    model = make(Nearest()).fit(x, given)
    assert (model.predict(x) == y).mean() > 0.8


@with_base
def test_seed_fixes_learners_whose_own_is_not_set(make):
    x, _, given = data()
    a, b, c = (make(DecisionTreeClassifier(max_features=1)).set_params(random_state=s).fit(x, given) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.predict_proba(x), b.predict_proba(x))
    assert (a.predict_proba(x) != c.predict_proba(x)).any()


def test_learner_that_has_not_seen_a_class():
    """Views and bootstraps may hide a class from a learner: its column is zero, the others stay in place."""
    from cotrain.estimators.learners import probabilities

    x = np.array([[0.0, 1], [1, 0], [0, 2], [2, 0]])
    learner = BernoulliNB().fit(x, ["a", "c", "a", "c"])
    full = probabilities(learner, x, np.array(["a", "b", "c"]))
    np.testing.assert_array_equal(full[:, [0, 2]], learner.predict_proba(x))
    assert not full[:, 1].any()


def test_negative_input_is_refused_where_counts_are_wanted():
    x, _, given = data()
    with pytest.raises(ValueError, match="Negative values"):
        EMNaiveBayes().fit(x - 5, given)
    with pytest.raises(ValueError, match="Negative values"):
        MultinomialNB().fit(x - 5, np.maximum(given, 0))  # scikit-learn's own sentence
