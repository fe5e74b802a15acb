"""Gaussians of one shape: by hand, against linear discriminant analysis, and with rows that have no label."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cotrain.errors import InputError
from cotrain.estimators.em_gaussian import EMGaussian


def test_two_classes_on_a_line_by_hand():
    x = np.array([[0.0], [2.0], [10.0], [12.0]])
    model = EMGaussian(shrink=1e-9).fit(x, [0, 0, 1, 1])
    np.testing.assert_allclose(model.means_, [[1.0], [11.0]])
    np.testing.assert_allclose(model.covariance_, [[1.0]], rtol=1e-6)  # every row is 1 from its mean
    # log odds of class 1 at x: 10 (x - 6) / 1
    np.testing.assert_allclose(model.predict_proba([[6.0]])[0], [0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(model.predict_proba([[6.1]])[0, 1], 1 / (1 + np.exp(-1.0)), rtol=1e-5)


def test_an_unlabelled_row_counts_its_weight():
    model = EMGaussian(weight=0.5, shrink=1.0, rounds=1, tolerance=0.0).fit([[0.0], [10.0], [1.0]], [0, 1, -1])
    np.testing.assert_allclose(model.means_, [[0.5 / 1.5], [10.0]], atol=0.02)  # the third is all but surely of class 0


@pytest.mark.parametrize("shrink", [0.05, 0.5, 1.0])
def test_all_labelled_it_is_linear_discriminant_analysis(shrink):
    x, y = make_blobs(200, n_features=4, centers=3, cluster_std=3.0, random_state=0)
    ours = EMGaussian(shrink=shrink).fit(x, y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrink).fit(x, y)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)


def test_unlabelled_rows_find_the_shape():
    """Long thin clouds side by side: nearest means fail with few labels, the shape of all rows shows the way."""
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=600)
    x = np.column_stack([rng.normal(0, 3, 600), rng.normal(0, 0.3, 600) + 2 * truth])
    given = np.full(600, -1)
    for c in (0, 1):
        given[np.flatnonzero(truth == c)[:5]] = c
    alone = EMGaussian(weight=0.0, shrink=1.0).fit(x, given)
    both = EMGaussian(shrink=1e-3).fit(x, given)
    assert alone.score(x, truth) < 0.9
    assert both.score(x, truth) > 0.98
    np.testing.assert_array_equal(both.transduction_[given >= 0], given[given >= 0])
    assert (both.transduction_ == truth).mean() > 0.98


def test_more_features_than_labels_begin_as_nearest_means():
    x, y = make_blobs(12, n_features=40, centers=3, random_state=1)
    model = EMGaussian(weight=0.0).fit(x, y)
    nearest = ((x[:, None] - model.means_) ** 2).sum(-1).argmin(1)
    np.testing.assert_array_equal(model.predict(x), nearest)


def test_the_first_round_is_the_nearer_to_a_sphere_the_fewer_the_rows():
    x = np.random.default_rng(0).normal(size=(12, 5)) * [1, 2, 3, 4, 5]
    y = np.arange(12) % 2
    own, half = EMGaussian(weight=0.0).fit(x, y), EMGaussian(weight=0.0, shrink=0.5).fit(x, y)
    np.testing.assert_allclose(own.covariance_, half.covariance_)  # 5 features for 12 rows less 2 classes


def test_features_without_any_spread_are_no_harm():
    x = np.zeros((6, 3))
    model = EMGaussian().fit(x, [0, 1, 0, 1, -1, -1])
    np.testing.assert_allclose(model.predict_proba(x), 0.5)


@pytest.mark.parametrize("settings", [{"weight": -1.0}, {"shrink": 0.0}, {"shrink": 1.5}])
def test_settings_that_cannot_be(settings):
    with pytest.raises(InputError, match="weight must not be negative"):
        EMGaussian(**settings).fit([[0.0], [1.0]], [0, 1])


@pytest.mark.parametrize("offset", [1e6, 1.7e9])
def test_where_the_features_begin_does_not_matter(offset):
    x, truth = make_blobs(300, centers=3, random_state=2)
    x = x.round(2)
    given = np.where(np.arange(300) < 30, truth, -1)
    here, there = EMGaussian().fit(x, given), EMGaussian().fit(x + offset, given)
    np.testing.assert_allclose(there.predict_proba(x + offset), here.predict_proba(x), atol=1e-4)
    np.testing.assert_allclose(there.means_, here.means_ + offset, atol=1e-5)
