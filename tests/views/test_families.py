import numpy as np
import pandas as pd
import pytest

from cotrain.views.families import Picture, _likeness, cells, find_families, find_shapes, shapes, share_a_unit
from cotrain.views.image import HogView

RANDOM = np.random.default_rng(0)
LENGTH = 40


def walks(rows=200, length=LENGTH, name="t"):
    return pd.DataFrame(np.random.default_rng(1).normal(size=(rows, length)).cumsum(1)).add_prefix(name)


def blobs(rows=200, height=8, width=10):
    """Pictures of a light somewhere, whose brightness falls with the distance."""
    y, x = RANDOM.uniform(0, height, (rows, 1, 1)), RANDOM.uniform(0, width, (rows, 1, 1))
    distance = (np.arange(height)[:, None] - y) ** 2 + (np.arange(width) - x) ** 2
    return pd.DataFrame(np.exp(-distance / 8).reshape(rows, -1)).add_prefix("pixel")


# Names


def test_families_are_columns_whose_names_differ_in_a_number():
    assert find_families(["a1", "b", "a10", "a2", "a3", "c1", "c2"]) == [[0, 3, 4, 2], [1], [5], [6]]
    assert find_families(["0", "1", "2", "3"]) == [[0, 1, 2, 3]]
    assert find_families(["x_2_1", "x_1_2", "x_1_1", "x_2_2"]) == [[2, 1, 0, 3]]
    assert find_families(["850 nm", "850.5 nm", "1000 nm", "900 nm"]) == [[0, 1, 3, 2]]
    assert find_families(["t1a", "t2b", "t3c", "t4d"]) == [[0], [1], [2], [3]]
    assert find_families(["1" * 5_000, "01", "2", "00"]) == [[3, 1, 2, 0]]
    assert find_families([]) == []


def test_a_unit_is_shared_where_ranges_are_alike():
    assert share_a_unit(np.array([[0, 1, 5], [1, 3, 5]]))  # the constant does not count
    assert not share_a_unit(np.array([[0, 1, 0], [1, 2, 100]]))
    assert share_a_unit(np.array([[0, 0, 0], [1, 0.4, 0.4]]))  # as by the column in the middle
    assert not share_a_unit(np.array([[0, 0, 0], [1, 0.2, 0.2]]))
    assert not share_a_unit(np.ones((3, 3)))
    assert not share_a_unit(np.empty((0, 3)))


# Curves


def test_columns_in_which_neighbours_are_alike_are_a_curve():
    frame = walks()
    assert find_shapes(frame, list(frame.columns)) == ([tuple(frame.columns)], [])
    shuffled = frame.sample(frac=1, axis=1, random_state=0)
    assert find_shapes(shuffled, list(shuffled.columns)) == ([tuple(frame.columns)], [])
    both = pd.concat([frame, walks(name="x")], axis=1).assign(age=1.0)
    assert find_shapes(both, list(both.columns)) == ([tuple(frame.columns), tuple(walks(name="x").columns)], [])


OTHERS = {
    "in no order": walks().sample(frac=1, axis=1, random_state=0).set_axis(walks().columns, axis=1),
    "short": walks(length=19),
    "not numbered": walks().rename(columns=lambda name: f"{name} metres"),
    "noise": pd.DataFrame(RANDOM.normal(size=(200, LENGTH))).add_prefix("t"),
    "means in an order": pd.DataFrame(RANDOM.normal(size=(200, LENGTH)) + np.arange(LENGTH)).add_prefix("t"),
    "means in rows": pd.DataFrame(RANDOM.normal(size=(200, 64)) + np.tile(np.arange(8), 8)).add_prefix("t"),
    "like those below only": pd.DataFrame(np.tile(RANDOM.normal(size=(200, 8)), 5)).add_prefix("t"),
    "constant": pd.DataFrame(np.ones((200, LENGTH))).add_prefix("t"),
    "missing": walks() * np.nan,
    "no rows": walks().iloc[:0],
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_columns_are_neither_curves_nor_pictures(what):
    frame = OTHERS[what]
    assert find_shapes(frame, list(frame.columns)) == ([], [])


def test_missing_numbers_lie_between_their_neighbours_and_are_not_known_at_the_ends():
    frame = pd.DataFrame([[np.nan, 1.0, np.nan, 3.0, np.nan]], columns=list("abcde"))
    np.testing.assert_array_equal(cells(frame, list("abcde")), [[np.nan, 1, 2, 3, np.nan]])


def test_likeness_is_the_correlation_at_each_distance():
    seen = shapes(walks(60, 50).to_numpy(np.float32))
    found = [(seen[:, lag:] * seen[:, :-lag]).sum() / (seen**2).sum() for lag in range(1, 21)]
    np.testing.assert_allclose(_likeness(seen, 20), found, atol=1e-5)
    assert (_likeness(np.zeros((3, 50)), 20) == 0).all()


# Pictures


def test_columns_that_are_like_those_beside_and_below_are_pictures():
    frame = blobs()
    names = tuple(frame.columns)
    assert find_shapes(frame, names) == ([], [Picture(names, tuple(range(80)), (8, 10, 1))])
    assert find_shapes(walks(length=80), list(walks(length=80).columns))[1] == []


@pytest.mark.parametrize("order", ["planes", "pixels"])
def test_pixels_in_colour_stand_by_colours_or_side_by_side(order):
    lights = [blobs().to_numpy().reshape(200, -1, 1) * RANDOM.uniform(size=(200, 1, 3)) for _ in range(2)]
    pictures = np.maximum(*lights)  # [N, pixels, colours]
    x = pictures.transpose(0, 2, 1) if order == "planes" else pictures
    frame = pd.DataFrame(x.reshape(200, -1)).add_prefix("pixel")
    curves, (found,) = find_shapes(frame, list(frame.columns))
    assert not curves
    assert found.shape == (8, 10, 3)
    view = HogView(found.columns, shape=found.shape, pixels=(0, 1, 0, *found.places))
    assert (view.extract(frame) == (255 * pictures).round().astype(np.uint8).reshape(200, 8, 10, 3)).all()


@pytest.mark.parametrize(("height", "width"), [(9, 9), (6, 10), (12, 21)])
def test_pixels_in_grey_whose_number_can_be_divided_by_three(height, width):
    frame = blobs(height=height, width=width)
    (found,) = find_shapes(frame, list(frame.columns))[1]
    assert found.shape == (height, width, 1)


def test_pixels_that_are_the_same_everywhere_have_their_place():
    frame = blobs()
    constant = ["pixel0", "pixel1", "pixel79"]
    rest = frame.drop(columns=constant)
    (found,) = find_shapes(rest, list(rest.columns), constant)[1]
    assert found.shape == (8, 10, 1)
    assert found.places == tuple(range(2, 79))
    assert found.columns == tuple(rest.columns)


def test_pictures_of_columns_by_hand():
    frame = pd.DataFrame({"p1": [0.0, 2.0], "p2": [4.0, np.nan], "p5": [1.0, 9.0]})
    view = HogView(frame.columns, shape=(2, 3, 1), pixels=(0, 4, 2, 1, 2, 5))
    expected = [[[128, 0, 255], [128, 128, 64]], [[128, 128, 128], [128, 128, 255]]]
    assert view.extract(frame)[..., 0].tolist() == expected
    assert view.fresh().extract(frame)[..., 0].tolist() == expected
    assert view.source != HogView(frame.columns, shape=(3, 2, 1), pixels=(0, 4, 2, 1, 2, 5)).source


def test_three_columns_are_no_family_and_units_of_times_are_left_off():
    assert find_families(["a1", "a2", "a3"]) == [[0], [1], [2]]
    assert find_families(["1 ms", "10 ms", "2 ms", "3ms"]) == [[0, 2, 3, 1]]


def test_infinite_numbers_are_missing_and_very_large_ones_are_cut():
    frame = pd.DataFrame([[1.0, np.inf, 3.0, 1e300, -1e300]], columns=list("abcde"))
    found = cells(frame, list("abcde"))
    np.testing.assert_allclose(found, [[1, 2, 3, 1e15, -1e15]], rtol=1e-6)
    np.testing.assert_allclose(shapes(found), [[0, 0, 0, 2.5**0.5, -(2.5**0.5)]], atol=1e-5)


def test_small_differences_far_from_zero_are_shapes_and_flat_rows_have_none():
    found = shapes(np.array([[1000, 1001, 1002], [7, 7, 7]], np.float32))
    np.testing.assert_allclose(found, [[-(1.5**0.5), 0, 1.5**0.5], [0, 0, 0]], atol=1e-3)


def test_columns_that_are_a_little_like_their_neighbours_are_no_curve():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(200, LENGTH))
    for place in range(1, LENGTH):  # each is like the one before it by 0.45
        steps[:, place] = 0.45 * steps[:, place - 1] + np.sqrt(1 - 0.45**2) * steps[:, place]
    frame = pd.DataFrame(steps).add_prefix("t")
    assert find_shapes(frame, list(frame.columns)) == ([], [])


def test_three_pictures_that_are_a_third_alike_are_no_colours():
    shared = 0.7 * blobs().to_numpy()
    frame = pd.DataFrame(np.hstack([shared + blobs().to_numpy() for _ in range(3)])).add_prefix("pixel")
    (found,) = find_shapes(frame, list(frame.columns))[1]
    assert found.shape == (24, 10, 1)
