"""Numbers and categories as features: by hand, and what must not change them."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from cotrain.views.table import MOST_CATEGORIES, ScaledView, StepView, TreeView

FRAME = pd.DataFrame(
    {
        "height": [1.0, 2.0, 3.0, np.nan],
        "income": [1.0, 10.0, 100.0, 100000.0],
        "colour": ["red", "blue", "red", ""],
    }
)


def test_scaled_by_hand():
    view = ScaledView(["height"])
    raw = view.extract(FRAME)
    features = view.fit(raw).transform(raw)
    # the gap becomes the median 2: mean 2, variance (1 + 0 + 1 + 0) / 4, and a column says where the gap was
    np.testing.assert_allclose(features[:, 0], np.array([-1, 0, 1, 0]) / np.sqrt(0.5), atol=1e-6)
    np.testing.assert_array_equal(features[:, 1], [0, 0, 0, 1])


def test_a_few_numbers_far_from_the_others_do_not_squash_these():
    """Of both signs, -9999 in three cells of a hundred: arcsinh of the distance from the median in usual distances."""
    usual = np.linspace(-1, 1, 97)
    frame = pd.DataFrame({"x": np.concatenate([usual, np.full(3, -9_999.0)])})
    view = ScaledView(["x"])
    features = view.fit(view.extract(frame)).transform(view.extract(frame))[:, 0]
    median = np.median(frame["x"])
    drawn = np.arcsinh((frame["x"] - median) / np.median(np.abs(frame["x"] - median))).to_numpy()
    np.testing.assert_allclose(features, (drawn - drawn.mean()) / drawn.std(), rtol=1e-5)
    assert np.ptp(features[:97]) > 1  # 0.001 by the plain standard deviation
    plain = ScaledView(["x"]).fit(view.extract(frame[:97]))
    assert not np.isfinite(plain.learned["usual"]).any()
    del plain.learned["usual"]  # as in files of before
    np.testing.assert_allclose(plain.transform(view.extract(frame[:97]))[:, 0], usual / usual.std(), atol=1e-6)


def test_skewed_columns_are_seen_in_logarithms_and_what_is_far_out_is_cut():
    table = np.random.default_rng(0).normal(size=(200, 2))
    table[:, 0] = np.exp(1.5 * table[:, 0])
    view = ScaledView(["a", "b"]).fit(table)
    drawn = np.log1p(table[:, 0])
    np.testing.assert_allclose(view.transform(table)[:, 0], (drawn - drawn.mean()) / drawn.std(), atol=1e-5)
    assert view.transform(np.array([[1.0, 1e9], [1.0, -1e9]]))[:, 1].tolist() == [10, -10]


def test_numbers_alone_are_kept_as_numbers():
    assert ScaledView(["height", "income"]).extract(FRAME).dtype == np.float64
    assert TreeView(["height", "colour"], categories=1).extract(FRAME).dtype == object


def test_categories_are_ones_and_zeros_and_unseen_ones_are_zeros():
    view = ScaledView(["colour"], categories=1)
    view.fit(view.extract(FRAME))
    new = pd.DataFrame({"colour": ["blue", "green"]})
    features = view.transform(view.extract(new))
    assert features.sum(1).tolist() == [1.0, 0.0]


def test_only_the_frequent_categories_get_a_feature():
    names = [f"c{i}" for i in range(300)] + ["c0"] * 5
    view = ScaledView(["c"], categories=1)
    raw = view.extract(pd.DataFrame({"c": names}))
    features = view.fit(raw).transform(raw)
    assert features.shape[1] == MOST_CATEGORIES
    assert features[0].sum() == 1  # the most frequent one is among them


def test_a_family_keeps_the_relative_sizes_of_its_columns():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 4)) * [1, 2, 2, 4]
    frame = pd.DataFrame(values, columns=[f"pixel{i}" for i in range(4)])
    view = ScaledView(list(frame))
    raw = view.extract(frame)
    spread = view.fit(raw).transform(raw).std(0)
    np.testing.assert_allclose(spread / spread[3], values.std(0) / values[:, 3].std(), rtol=1e-3)
    assert (spread**2).sum() == pytest.approx(4, rel=1e-3)  # together they count as much as four columns
    lone = frame.rename(columns=dict(zip(frame, ["a", "b", "c", "d"], strict=True)))
    view = ScaledView(list(lone))
    np.testing.assert_allclose(view.fit(view.extract(lone)).transform(view.extract(lone)).std(0), 1, rtol=1e-2)


def test_numbered_columns_of_unlike_ranges_share_no_unit_but_count_as_ten_at_most():
    values = np.random.default_rng(0).normal(size=(50, 40)) * np.geomspace(1, 1e6, 40)
    values[:, 7] = 3
    frame = pd.DataFrame(values, columns=[f"V{i}" for i in range(40)]).assign(weight=values[:, 0])
    view = ScaledView(list(frame))
    raw = view.extract(frame)
    spread = view.fit(raw).transform(raw).std(0)
    np.testing.assert_allclose(np.delete(spread, [7, 40]), 0.5, rtol=1e-2)  # the root of 10 of 40
    assert spread[7] == 0
    assert spread[40] == pytest.approx(1, rel=1e-2)


def test_units_do_not_matter():
    view = ScaledView(["height"])
    raw = view.extract(FRAME)
    inches = view.extract(FRAME.assign(height=FRAME["height"] * 39.37))
    np.testing.assert_allclose(view.fit(raw).transform(raw), view.fresh().fit(inches).transform(inches), atol=1e-5)


def test_infinities_count_as_missing_and_constants_vanish():
    frame = pd.DataFrame({"x": [1.0, np.inf, 3.0], "same": [5.0, 5.0, 5.0]})
    view = ScaledView(["x", "same"])
    raw = view.extract(frame)
    features = view.fit(raw).transform(raw)
    assert np.isfinite(features).all()
    assert (features[:, 1] == 0).all()


@pytest.mark.parametrize("huge", [1.4e307, -1.4e307, 1e38])
@pytest.mark.parametrize("kind", [ScaledView, TreeView])
def test_huge_numbers_stay_finite_and_keep_their_side(kind, huge):
    frame = pd.DataFrame({"x": [huge] * 12 + [1.0]})
    view = kind(["x"])
    raw = view.extract(frame)
    features = view.fit(raw).transform(raw)
    assert np.isfinite(features).all()
    assert np.sign(features[0, 0] - features[-1, 0]) == np.sign(huge)


def test_a_column_without_any_number_in_the_rows_at_hand_stands_for_zero():
    view = TreeView(["height"])
    view.fit(view.extract(pd.DataFrame({"height": [np.inf, np.nan]})))
    features = view.transform(view.extract(FRAME))
    assert features[:, 0].tolist() == [1.0, 2.0, 3.0, 0.0]


def test_trees_see_the_numbers_as_they_are():
    view = TreeView(["income", "colour"], categories=1)
    raw = view.extract(FRAME)
    features = view.fit(raw).transform(raw)
    np.testing.assert_allclose(features[:, 0], FRAME["income"])
    assert features[0, 1] == features[2, 1] != features[1, 1]
    unseen = view.transform(view.extract(pd.DataFrame({"income": [1.0], "colour": ["green"]})))
    assert unseen[0, 1] == -1


def test_steps_by_hand():
    frame = pd.DataFrame({"x": [0.0, 1, 2, 3, 4, 5, 6, 7, 16, np.nan], "same": 3.0})
    view = StepView(["x", "same"])
    raw = view.extract(frame)
    features = view.fit(raw).transform(raw)
    edges = np.quantile([*range(8), 16, 4], np.linspace(0, 1, 9))  # the missing one counts as the median, 4
    steps = edges[1:] > edges[:-1]
    assert features.shape == (10, steps.sum())  # a column of one value has no step
    np.testing.assert_allclose(features[0], 0)
    np.testing.assert_allclose(features[8], 1)
    np.testing.assert_allclose(features[:, 0], (np.array([*range(8), 16, 4]) / edges[1]).clip(0, 1), rtol=1e-6)
    assert (np.diff(features[:9], axis=0) >= 0).all()
    beyond = view.extract(pd.DataFrame({"x": [-5.0, 99], "same": [0.0, 9]}))
    np.testing.assert_array_equal(view.transform(beyond), np.stack([np.zeros(steps.sum()), np.ones(steps.sum())]))


@pytest.mark.parametrize("kind", [ScaledView, TreeView])
def test_one_very_long_cell_takes_no_more_than_itself(kind):
    table = pd.DataFrame({"c": ["red", "blue"] * 50})
    view = kind(["c"], categories=1)
    view.fit(view.extract(table))
    later = pd.DataFrame({"c": ["red", "x" * 1_000_000, "blue"] * 200})
    raw = view.extract(later)
    tracemalloc.start()
    found = view.transform(raw)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000  # as text of one width it would be 2.4 GB
    expected = {"ScaledView": [[0, 1], [0, 0], [1, 0]], "TreeView": [[1], [-1], [0]]}[kind.__name__]
    np.testing.assert_array_equal(found, expected * 200)


@pytest.mark.parametrize("kind", [ScaledView, TreeView])
def test_categories_that_numpy_would_take_for_the_same_are_one(kind):
    table = pd.DataFrame({"c": ["a", "a\0", "b", "a\0\0"]})
    view = kind(["c"], categories=1)
    raw = view.extract(table)
    found = view.fit(raw).transform(raw)
    assert (found[[1, 3]] == found[0]).all()
    assert (found[2] != found[0]).any()
