"""Naive Bayes on several views: against scikit-learn's, and what views do for each other."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.naive_bayes import MultinomialNB

from cotrain.errors import InputError
from cotrain.estimators.co_em import CoEM


def texts(rows=600, words=120, seed=0):
    """Two views, each with words of its own, drawn from topics that share half of their words with everything."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=rows)
    views = []
    for _ in range(2):
        topics = rng.dirichlet(np.full(words, 0.3), size=3)
        mixed = 0.5 * topics.mean(0) + 0.5 * topics
        views.append(np.array([rng.multinomial(12, mixed[c]) for c in y], dtype=float))
    return views, y


def test_without_unlabelled_rows_one_view_is_multinomial_naive_bayes():
    (x, _), y = texts(60)
    ours = CoEM(temperature=1.0, alpha=0.3).fit(x, y)
    theirs = MultinomialNB(alpha=0.3, fit_prior=False).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-10)


def test_weight_zero_is_the_mean_of_the_views_learnt_from_labels_alone():
    (a, b), y = texts(80)
    given = np.where(np.arange(80) < 20, y, -1)
    both = CoEM(weight=0.0, temperature=1.0).fit((a, b), given)
    alone = [MultinomialNB(alpha=0.1, fit_prior=False).fit(x[:20], y[:20]).predict_proba(x) for x in (a, b)]
    np.testing.assert_allclose(both.predict_proba((a, b)), np.mean(alone, axis=0), atol=1e-10)


def test_a_round_by_hand():
    """One labelled row of each class, one unlabelled: its counts go to the classes by what the first round says."""
    x = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    first = CoEM(weight=0.0, alpha=1.0, temperature=1.0).fit(x, [0, 1, -1])
    said = np.array([3 / 4, 1 / 4])  # p(word 0): (2 + 1) / 4 and 1 / 4, equal shares
    np.testing.assert_allclose(first.predict_proba(x[2:])[0], said)
    then = CoEM(rounds=1, alpha=1.0, temperature=1.0, tolerance=0.0).fit(x, [0, 1, -1])
    counts = np.array([[2 + said[0], 0], [said[1], 2]]) + 1
    np.testing.assert_allclose(np.exp(then.feature_log_prob_[0]), counts / counts.sum(1, keepdims=True))


def test_weight_temperature_and_scale_by_hand():
    """The first round's odds 3 to 1 are root 3 to 1 at temperature 2; thrice the counts with thrice the smoothing and
    the temperature say the same, and the unlabelled row counts half."""
    x = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    said = np.array([3**0.5, 1]) / (3**0.5 + 1)
    first = CoEM(weight=0.0, alpha=1.0, temperature=2.0).fit(x, [0, 1, -1])
    np.testing.assert_allclose(first.predict_proba(x[2:])[0], said)
    then = CoEM(scales=(3.0,), rounds=1, weight=0.5, alpha=3.0, temperature=6.0, tolerance=0.0).fit(x, [0, 1, -1])
    counts = 3 * np.array([[2 + said[0] / 2, 0], [said[1] / 2, 2]]) + 3
    np.testing.assert_allclose(np.exp(then.feature_log_prob_[0]), counts / counts.sum(1, keepdims=True))


def test_views_help_each_other():
    views, y = texts()
    given = np.where(np.arange(600) < 9, y, -1)
    together = CoEM().fit(tuple(views), given).predict_proba(tuple(views)).argmax(1)
    alone = [CoEM().fit(view, given).predict(view) for view in views]
    rest = given < 0
    assert (together == y)[rest].mean() > max((said == y)[rest].mean() for said in alone)


def test_sparse_rows_are_the_same_rows():
    views, y = texts(100)
    given = np.where(np.arange(100) < 20, y, -1)
    dense = CoEM(scales=(1.5, 2.0)).fit(tuple(views), given)
    thin = tuple(sparse.csr_matrix(view) for view in views)
    again = CoEM(scales=(1.5, 2.0)).fit(thin, given)
    np.testing.assert_allclose(again.predict_proba(thin), dense.predict_proba(tuple(views)), atol=1e-9)
    np.testing.assert_array_equal(again.transduction_, dense.transduction_)


def test_what_cannot_be_is_said():
    views, y = texts(30)
    with pytest.raises(InputError, match="2 views came with 1 scales"):
        CoEM(scales=(1.0,)).fit(tuple(views), y)
    with pytest.raises(InputError, match="same rows"):
        CoEM().fit((views[0], views[1][:20]), y)
    with pytest.raises(InputError, match="temperature be positive"):
        CoEM(temperature=0.0).fit(views[0], y)
    model = CoEM().fit(tuple(views), y)
    with pytest.raises(InputError, match="features; it had"):
        model.predict_proba((views[0], views[1][:, :50]))
