import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.auto.blend import Blend, product

A, B, C = np.array([[0.8, 0.2]]), np.array([[0.6, 0.4]]), np.array([[0.9, 0.1]])


def test_one_sort_of_columns_is_averaged():
    np.testing.assert_allclose(Blend(((0, 1),), (1.0,))([A, B]), [[0.7, 0.3]])


def test_what_different_sorts_say_is_multiplied():
    """0.7 and 0.9: odds of 7/3 times 9 are 21."""
    np.testing.assert_allclose(Blend(((0, 1), (2,)), (1.0, 1.0))([A, B, C]), [[21 / 22, 1 / 22]])


def test_temperatures_divide_the_logarithms():
    """Odds of 7/3, and of 9 at temperature 2, which is 3; their product 7 at temperature 1/2 is 49."""
    np.testing.assert_allclose(Blend(((0, 1), (2,)), (1.0, 2.0), 0.5)([A, B, C]), [[49 / 50, 1 / 50]])


def test_a_part_that_knows_nothing_changes_nothing():
    np.testing.assert_allclose(product([C, np.array([[0.5, 0.5]])], (1.0, 0.3)), C)


def test_a_part_that_was_never_seen_to_err_is_not_believed_against_all_others():
    """Sure against three times 0.9: odds of 21 to 1 at the most against 729."""
    sure, others = np.array([[1.0, 0.0]]), [np.array([[0.1, 0.9]])] * 3
    assert product([sure, *others], (1.0,) * 4)[0, 0] > 0.99
    doubt = 1 / 11
    odds = (1 - doubt / 2) / (doubt / 2) * (((1 - doubt) * 0.1 + doubt / 2) / ((1 - doubt) * 0.9 + doubt / 2)) ** 3
    np.testing.assert_allclose(product([sure, *others], (1.0,) * 4, doubt)[0, 0], odds / (1 + odds))
    assert odds < 0.1


def test_a_row_that_was_not_held_out_stays_so():
    held = np.array([[0.8, 0.2], [np.nan, np.nan]])
    found = Blend(((0,), (1,)), (1.0, 1.0))([held, held])
    np.testing.assert_allclose(found, [[16 / 17, 1 / 17], [np.nan, np.nan]])


def test_certain_contradictions_stay_probabilities():
    found = product([np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0]])], (0.3, 0.3))
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.0]], atol=1e-9)


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=2, max_size=5))
def test_the_order_of_the_parts_does_not_matter(rows):
    said = [np.array([row]) / np.sum(row) for row in rows]
    numbers = [(m,) for m in range(len(said))]
    one = Blend(tuple(numbers), (1.0,) * len(said))(said)
    other = Blend(tuple(numbers[::-1]), (1.0,) * len(said))(said)
    np.testing.assert_allclose(one, other)
    np.testing.assert_allclose(one.sum(), 1)


def test_it_comes_back_from_plain_values():
    blend = Blend(((0, 2), (1,)), (0.5, 2.0), 1.5, 0.02)
    assert Blend.from_dict({**blend.to_dict(), "parts": [[0, 2], [1]], "temperatures": [0.5, 2.0]}, 3) == blend


@pytest.mark.parametrize(
    "change",
    [{"parts": [[0, 1]]}, {"parts": [[0, 2], [3]]}, {"parts": 3}, {"temperatures": [1.0]}, {"temperature": "x"}],
)
def test_values_that_do_not_fit_are_refused(change):
    values = {"parts": [[0, 2], [1]], "temperatures": [0.5, 2.0], "temperature": 1.5} | change
    with pytest.raises((ValueError, TypeError)):
        Blend.from_dict(values, 3)
