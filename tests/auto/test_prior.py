import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.auto.prior import estimate, saerens
from cotrain.errors import InputError

AB = ["a", "b"]


def even_posteriors(shares, rows, seed=0, distance=1.5):
    """True posteriors under equal shares of rows drawn from unit normals, `distance` apart, with these shares."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), rows, p=shares)
    x = rng.normal(distance * y)
    likelihood = np.exp(-0.5 * (x[:, None] - distance * np.arange(len(shares))) ** 2)
    return likelihood / likelihood.sum(1, keepdims=True), np.bincount(y, minlength=len(shares)) / rows


@pytest.mark.parametrize("shares", [(0.1, 0.9), (0.5, 0.5), (0.75, 0.25), (0.6, 0.1, 0.3)])
def test_em_recovers_planted_shares_within_three_points(shares):
    even, _ = even_posteriors(np.array(shares), 5_000)
    assert np.abs(saerens(even) - shares).max() < 0.03


def test_em_leaves_matching_shares_alone():
    """Rows whose mean posterior is the prior already: a fixed point, reached in one step."""
    even = np.array([[0.9, 0.1], [0.1, 0.9], [0.7, 0.3], [0.3, 0.7]])
    np.testing.assert_allclose(saerens(even, rounds=1), [0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(saerens(even), [0.5, 0.5], atol=1e-12)


def test_em_by_hand():
    """One row twice as likely under a: the first step from (1/2, 1/2) gives (2/3, 1/3), the second (4/5, 1/5)."""
    even = np.array([[2 / 3, 1 / 3]])
    np.testing.assert_allclose(saerens(even, rounds=1), [2 / 3, 1 / 3])
    np.testing.assert_allclose(saerens(even, rounds=2), [4 / 5, 1 / 5])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.01, 1)), min_size=1, max_size=30))
def test_em_never_lowers_the_likelihood(rows):
    even = np.array(rows) / np.array(rows).sum(1, keepdims=True)
    found = [np.log(even @ saerens(even, rounds=rounds)).sum() for rounds in (1, 2, 5, 20)]
    assert np.diff(found).min() > -1e-9


def test_what_the_user_says_is_taken():
    counts = np.array([30.0, 10.0])
    np.testing.assert_allclose(estimate("label", AB, counts, None).shares, [0.75, 0.25])
    np.testing.assert_allclose(estimate("uniform", AB, counts, None).shares, [0.5, 0.5])
    given = estimate("b:0.9, a:0.1", AB, counts, None)
    np.testing.assert_allclose(given.shares, [0.1, 0.9])
    assert given.source == "as given"
    np.testing.assert_allclose(estimate("x:y:0.4,z:0.6", ["x:y", "z"], counts, None).shares, [0.4, 0.6])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("a:0.5", "names a; the classes are a, b"),
        ("a:0.5,c:0.5", "the classes are a, b"),
        ("a:0.5,b:0.9", "add up to 1.4"),
        ("a:1,b:0", "positive"),
        ("a:-0.5,b:1.5", "positive"),
        ("half", "takes auto, label, uniform or shares"),
        ("a:x,b:0.5", "takes auto, label, uniform or shares"),
        ("a:nan,b:0.5", "add up"),
        ("", "takes auto"),
    ],
)
def test_shares_that_cannot_be_are_refused(said, words):
    with pytest.raises(InputError, match=words):
        estimate(said, AB, np.array([3.0, 3.0]), None)


def test_auto_believes_the_unlabelled_rows_where_labels_were_chosen_class_by_class():
    found = np.array([0.95, 0.05])
    chosen = estimate("auto", AB, np.array([20.0, 20.0]), found)
    np.testing.assert_allclose(chosen.shares, found)
    assert "do not look like a random draw" in chosen.source


def test_auto_adds_labels_that_look_like_a_random_draw():
    drawn = estimate("auto", AB, np.array([36.0, 4.0]), np.array([0.88, 0.12]))
    np.testing.assert_allclose(drawn.shares, [(36 + 50 * 0.88) / 90, (4 + 50 * 0.12) / 90])
    assert "random draw" in drawn.source


def test_auto_without_a_committee_draws_the_labels_to_equal_shares():
    few = estimate("auto", AB, np.array([9.0, 1.0]), None)
    np.testing.assert_allclose(few.shares, [(9 + 25) / 60, (1 + 25) / 60])
    many = estimate("auto", AB, np.array([9_000.0, 1_000.0]), None)
    np.testing.assert_allclose(many.shares, [0.9, 0.1], atol=0.005)


def test_no_share_is_zero():
    assert estimate("auto", AB, np.array([20.0, 20.0]), np.array([1.0, 0.0])).shares.min() > 0
