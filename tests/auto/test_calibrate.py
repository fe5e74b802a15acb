import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.auto.calibrate import (
    TEMPERATURES,
    calibration,
    classes_in_sets,
    conformal_threshold,
    soften,
    temperature,
    with_prior,
)

probabilities = st.lists(
    st.lists(st.floats(1e-6, 1), min_size=3, max_size=3).map(lambda row: [x / sum(row) for x in row]),
    min_size=1,
    max_size=20,
).map(np.array)


@given(probabilities, st.floats(0.2, 50))
def test_a_temperature_keeps_the_arg_max_and_the_order(p, heat):
    soft = soften(p, heat)
    np.testing.assert_allclose(soft.sum(1), 1)
    rows = np.arange(len(p))
    np.testing.assert_allclose(soft[rows, p.argmax(1)], soft.max(1))
    assert (np.diff(np.take_along_axis(soft, p.argsort(1, kind="stable"), 1), axis=1) >= -1e-12).all()


def test_soften_by_hand():
    np.testing.assert_allclose(soften(np.array([[0.8, 0.2]]), 2.0), [[2 / 3, 1 / 3]])
    np.testing.assert_allclose(soften(np.array([[0.8, 0.2]]), 1.0), [[0.8, 0.2]])
    assert np.isnan(soften(np.array([[np.nan, np.nan]]), 2.0)).all()


@pytest.mark.parametrize("planted", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    rng = np.random.default_rng(0)
    true = rng.dirichlet([0.7] * 4, 20_000)
    y = (rng.random(len(true))[:, None] > true.cumsum(1)).sum(1)
    said = soften(true, 1 / planted)  # what an over- or underconfident learner would say
    assert temperature(said, y, np.ones(len(y))) == pytest.approx(planted, rel=0.15)


def test_without_evidence_the_temperature_stays_near_one():
    sure_and_wrong = np.array([[0.99, 0.01]])
    assert temperature(sure_and_wrong, np.array([1]), np.array([0.0])) == pytest.approx(1.0, rel=0.1)
    assert temperature(sure_and_wrong, np.array([1]), np.array([50.0])) > 10
    assert TEMPERATURES[0] < 0.25
    assert TEMPERATURES[-1] > 50


def test_with_prior_by_hand():
    np.testing.assert_allclose(with_prior(np.array([[0.6, 0.4]]), np.array([0.2, 0.8])), [[3 / 11, 8 / 11]])
    even = np.array([[0.6, 0.4], [0.1, 0.9]])
    np.testing.assert_allclose(with_prior(even, np.array([0.5, 0.5])), even)


def test_calibration_by_hand():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    found = calibration(p, np.array([0, 1, 1, 0]))
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7]).mean())
    assert found["brier"] == pytest.approx((2 * np.array([0.1, 0.2, 0.6, 0.3]) ** 2).mean())
    assert found["ece"] is None  # four rows tell nothing
    (point,) = found["points"]
    assert (point["said"], point["was"], point["rows"]) == (pytest.approx(0.75), 0.75, 4)


def test_calibration_error_of_the_calibrated_is_small_and_of_the_boastful_large():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1], 3_000)
    y = (rng.random(3_000) > p[:, 0]).astype(int)
    assert calibration(p, y)["ece"] < 0.03
    assert calibration(soften(p, 0.2), y)["ece"] > 0.1


def test_rows_that_weigh_much_are_worth_few_and_tell_no_calibration_error():
    """Ninety rows share a half of the weight, ten the other: 1 / (90 / 180^2 + 10 / 20^2) = 36 rows are too few."""
    said, y = np.full((100, 2), [0.7, 0.3]), np.arange(100) // 90
    found = calibration(said, y, np.where(y == 0, 0.5 / 90, 0.5 / 10))
    assert found["worth"] == pytest.approx(36)
    assert (found["rows"], found["ece"]) == (100, None)
    assert calibration(said, y)["ece"] is not None


def test_the_conformal_threshold_by_hand():
    own = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    p = np.stack([own, 1 - own], 1)
    y = np.zeros(9, int)
    shares = np.array([0.7, 0.3])  # of one class the labels may have no row
    assert conformal_threshold(p, y, 0.5, shares) == pytest.approx(0.5)  # ceil(10 * 0.5) = 5 of 9 are at least as sure
    assert conformal_threshold(p, y, 0.9, shares) == pytest.approx(0.1)
    assert conformal_threshold(p, y, 0.95, shares) is None  # impossible below 19 rows
    two = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])  # sure of six rows of one class, unsure of three of the other
    said = np.stack([own, 1 - own], 1)
    said[two == 1] = said[two == 1, ::-1]
    # the six count 4.5 together, and 5 are asked for: the next one is of the other class
    assert conformal_threshold(said, two, 0.5, np.array([0.5, 0.5])) == pytest.approx(0.3)


def test_sets_hold_the_likeliest_class_and_all_above_the_threshold():
    p = np.array([[0.5, 0.4, 0.1], [0.8, 0.1, 0.1], [np.nan] * 3])
    none = [False] * 3
    np.testing.assert_array_equal(classes_in_sets(p, 0.6), [[True, False, False], [True, False, False], none])
    np.testing.assert_array_equal(classes_in_sets(p, 0.3), [[True, True, False], [True, False, False], none])


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_cover_what_they_promise(coverage):
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        p = rng.dirichlet([1.0, 1.0, 1.0], 80)
        y = (rng.random(80)[:, None] > p.cumsum(1)).sum(1)
        threshold = conformal_threshold(p[:40], y[:40], coverage, np.full(3, 1 / 3))
        covered.append((p[40:][np.arange(40), y[40:]] >= threshold).mean())
    assert np.mean(covered) == pytest.approx(coverage + 0.5 / 41, abs=0.02)


def test_sets_cover_rows_to_come_where_labels_have_other_shares():
    rng = np.random.default_rng(2)
    shares = np.array([0.8, 0.2])

    def draw(of_first):
        y = (rng.random(400) > of_first).astype(int)
        x = rng.normal(np.where(y == 0, 0.0, 1.5), np.where(y == 0, 2.0, 0.5))  # the first class is the harder one
        density = np.stack([np.exp(-(x**2) / 8) / 2, np.exp(-((x - 1.5) ** 2) / 0.5) / 0.5], 1)
        return with_prior(density / density.sum(1, keepdims=True), shares), y

    covered, plain = [], []
    for _ in range(50):
        (p, y), (q, z) = draw(0.2), draw(0.8)
        for found, told in ((covered, shares), (plain, np.bincount(y) / len(y))):
            found.append((q[np.arange(len(z)), z] >= conformal_threshold(p, y, 0.7, told)).mean())
    assert np.mean(covered) == pytest.approx(0.7, abs=0.02)
    assert abs(np.mean(plain) - 0.7) > 0.05


def test_rows_that_count_twice_are_as_two():
    rng = np.random.default_rng(1)
    p = rng.dirichlet([1, 1], 60)
    y = (rng.random(60) > p[:, 0]).astype(int)
    weight = np.repeat([1.0, 2.0], 30)
    weighted, plain = calibration(p, y, weight, bins=1), calibration(np.r_[p, p[30:]], np.r_[y, y[30:]], bins=1)
    for name in ("log_loss", "brier", "ece"):
        assert weighted[name] == pytest.approx(plain[name])


def test_weights_count_in_the_calibration_error():
    """A quarter of the weight is told right where 0.6 is said, three quarters where 0.9 is."""
    sure = np.repeat([0.6, 0.9], 50)
    found = calibration(np.stack([sure, 1 - sure], 1), np.zeros(100, int), np.repeat([1.0, 3.0], 50), bins=2)
    assert found["ece"] == pytest.approx(0.25 * 0.4 + 0.75 * 0.1)
