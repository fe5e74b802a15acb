import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln

from cotrain.auto.prior import PSEUDO, Told, confusion, estimate, of_labels, saerens, told, unmixed
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


@settings(max_examples=40)
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
    np.testing.assert_allclose(estimate({"b": 0.9, "a": 0.1}, AB, counts, None).shares, [0.1, 0.9])
    np.testing.assert_allclose(estimate({1: 0.9, 0: 0.1}, ["0", "1"], counts, None).shares, [0.1, 0.9])
    np.testing.assert_allclose(estimate("x:y:0.4,z:0.6", ["x:y", "z"], counts, None).shares, [0.4, 0.6])
    towns = ["Paris, France", "Rome, Italy"]
    np.testing.assert_allclose(estimate("Rome, Italy:0.6,Paris, France:0.4", towns, counts, None).shares, [0.4, 0.6])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("a:0.5", "names a; the classes are a, b"),
        ("a:0.5,c:0.5", "the classes are a, b"),
        ("a:0.5,b:0.5,c:0.3", "the classes are a, b"),
        ("a:0.5,b:0.9", "add up to 1.4"),
        ("a:0.1,b:0.1,b:0.9", "names b twice"),
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


def test_shares_that_are_given_rounded_add_up_to_one():
    given = estimate("a:0.33,b:0.33,c:0.33", list("abc"), np.ones(3), None)
    assert given.shares.sum() == pytest.approx(1, abs=1e-12)


def heard(unlabelled, labelled, true, drawn):
    return Told(np.array(unlabelled), np.array(labelled), np.array(true), drawn)


def test_auto_believes_a_good_committee_where_labels_were_chosen_class_by_class():
    """The labels are 0.4 from what is told; the committee errs by 0.02 on them, 400 times less in squares."""
    chosen = estimate("auto", AB, np.array([20.0, 20.0]), heard([0.9, 0.1], [0.52, 0.48], [0.5, 0.5], False))
    np.testing.assert_allclose(chosen.shares, [0.5 + 0.4 * 400 / 401, 0.5 - 0.4 * 400 / 401], rtol=1e-12)
    assert "the unlabelled rows: the labels do not look like a random draw" in chosen.source


def test_auto_weighs_labels_and_committee_by_their_errors_where_labels_were_drawn():
    """Labels: 2 * 0.9 * 0.1 / 40 = 0.0045; committee: 2 * 0.05^2 = 0.005."""
    drawn = estimate("auto", AB, np.array([36.0, 4.0]), heard([0.88, 0.12], [0.95, 0.05], [0.9, 0.1], True))
    weight = 0.0045 / 0.0095
    expected = (1 - weight) * np.array([41, 9]) / 50 + weight * np.array([0.88, 0.12])
    np.testing.assert_allclose(drawn.shares, expected, atol=1e-4)  # equal shares make these labels 1e-5 times as likely
    assert "labels look like a random draw" in drawn.source


def test_the_error_of_labels_that_are_no_draw_is_at_least_that_of_a_draw():
    """The committee says 0.73, the labels hardly less: they err by their noise, the committee by 2 * 0.05^2."""
    found = estimate("auto", AB, np.array([30.0, 10.0]), heard([0.73, 0.27], [0.8, 0.2], [0.75, 0.25], False))
    own, noise = of_labels(np.array([30.0, 10.0]))
    assert 2 * (0.73 - own[0]) ** 2 < noise
    weight = noise / (noise + 0.005)
    np.testing.assert_allclose(found.shares, (1 - weight) * own + weight * np.array([0.73, 0.27]))


def test_a_committee_that_tells_the_labelled_rows_shares_wrong_is_not_believed():
    """It says a of everything, of labelled rows too, half of which are b."""
    for drawn in (True, False):
        found = estimate("auto", AB, np.array([30.0, 30.0]), heard([1.0, 0.0], [1.0, 0.0], [0.5, 0.5], drawn))
        assert found.shares[0] < (0.51 if drawn else 0.76)
    assert "not sure" in estimate(
        "auto", AB, np.array([30.0, 30.0]), heard([0.8, 0.2], [1.0, 0.0], [0.5, 0.5], False)
    ).source  # fmt: skip


def test_auto_without_a_committee_draws_the_labels_to_equal_shares():
    """Nine a and one b: 1 / 1,024 were both as frequent, 9! 1! / 11! = 1 / 110 if any shares are as likely."""
    few = estimate("auto", AB, np.array([9.0, 1.0]), None)
    equal = 110 / (110 + 1024)
    np.testing.assert_allclose(few.shares, [0.5 * equal + (1 - equal) * 14 / 20, 0.5 * equal + (1 - equal) * 6 / 20])
    noise = (1 - equal) * 2 * 0.9 * 0.1 / 10 + equal * (1 - equal) * 2 * 0.2**2  # of a draw, and between both thoughts
    assert of_labels(np.array([9.0, 1.0]))[1] == pytest.approx(noise)
    many = estimate("auto", AB, np.array([9_000.0, 1_000.0]), None)
    np.testing.assert_allclose(many.shares, [0.9, 0.1], atol=0.001)


def test_no_share_is_zero():
    found = heard([1.0, 0.0], [0.5, 0.5], [0.5, 0.5], False)
    assert estimate("auto", AB, np.array([20.0, 20.0]), found).shares.min() > 0


def test_only_labels_told_as_the_other_rows_are_drawn():
    """A learner that is always right: 40 labelled rows, half and half or as the other rows are, of 400 one in ten."""
    others = np.eye(2)[np.arange(400) % 10 // 9]
    for labels, drawn in ((np.arange(40) % 2, False), (np.arange(40) % 10 // 9, True)):
        found = told(np.eye(2)[labels], labels, others)
        assert found.drawn is drawn
        np.testing.assert_allclose(found.unlabelled, [0.9, 0.1], atol=1e-6)
        np.testing.assert_allclose(found.true, np.bincount(labels) / 40)
        np.testing.assert_allclose(found.labelled, found.true, atol=1e-6)
    never = told(np.eye(3)[[0, 0, 1]], np.array([0, 0, 1]), np.eye(3)[[0, 1, 1, 0]])  # a class that nobody says
    assert never.drawn


def test_as_many_labels_of_each_class_are_no_random_draw():
    """Even where the learner tells the other rows so, for it may be wrong by that."""
    said = np.eye(2)[np.arange(20) % 2]
    assert not told(said, np.arange(20) % 2, said).drawn
    said = np.eye(2)[np.arange(21) % 2]  # one more is as many
    assert not told(said, np.arange(21) % 2, said).drawn


def test_labelled_rows_are_told_without_their_classes():
    """It says a of everything; through its confusions its shares of the labelled rows would be right."""
    said = np.full((40, 2), [0.9, 0.1])
    assert told(said, np.arange(40) % 2, said).labelled[0] > 0.99


def test_labels_that_equal_shares_explain_tell_equal_shares():
    for counts, most in (((52, 48), 0.51), ((11, 9, 10), 0.35)):
        shares, noise = of_labels(np.array(counts, float))
        assert shares.max() < most
        assert noise < 0.01
    shares, _ = of_labels(np.array([80.0, 20.0]))
    np.testing.assert_allclose(shares, np.array([85, 25]) / 110, atol=1e-4)
    np.testing.assert_allclose(of_labels(np.array([7.0, 7.0, 7.0]))[0], 1 / 3)


def test_equal_shares_of_many_classes_are_believed_as_likely_as_they_make_the_labels():
    """Sixty labels of five classes: 1 / 5 each, or any shares alike, of which the Dirichlet integral is the mean."""
    counts = np.array([20.0, 12, 10, 10, 8])
    by_any = gammaln(5) - gammaln(65) + gammaln(counts + 1).sum()
    equal = 1 / (1 + np.exp(by_any + 60 * np.log(5)))
    counted = (counts + PSEUDO / 5) / (60 + PSEUDO)
    assert 0.1 < equal < 0.99
    np.testing.assert_allclose(of_labels(counts)[0], equal / 5 + (1 - equal) * counted)


def test_confusions_by_hand():
    """Two rows of a, told 0.8 and 0.6 right, none of b: 20 rows of each class as on average are added."""
    found = confusion(np.array([[0.8, 0.2], [0.6, 0.4]]), np.array([0, 0]))
    np.testing.assert_allclose(found, [[(1.4 + 20 * 0.7) / 22, (0.6 + 20 * 0.3) / 22], [0.3, 0.7]])


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (0.05, 0.9, 0.05), (1 / 3, 1 / 3, 1 / 3)])
def test_shares_are_found_through_confusions(shares):
    confused = np.array([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]])
    np.testing.assert_allclose(unmixed(np.array(shares) @ confused, confused), shares, atol=2e-3)


def test_a_class_that_is_often_taken_for_another_is_not_lost():
    """A third of the rows of c are told as a. Plain EM on what is said counts them as a; the confusions do not."""
    rng = np.random.default_rng(0)

    def said(y):
        return 0.9 * np.eye(3)[np.where((y == 2) & (rng.random(len(y)) < 1 / 3), 0, y)] + 0.1 / 3

    labelled, others = np.repeat(np.arange(3), 400), rng.choice(3, 5_000, p=[0.2, 0.2, 0.6])
    true = np.bincount(others) / len(others)
    heard = said(others)
    assert np.abs(saerens(heard) - true).max() > 0.15
    assert np.abs(told(said(labelled), labelled, heard).unlabelled - true).max() < 0.06


def test_labels_drawn_at_random_are_called_so_nineteen_times_in_twenty():
    """With a learner that errs, and confuses the classes unevenly."""
    rng = np.random.default_rng(0)
    called = []
    for _ in range(300):
        y = rng.choice(3, 1_050, p=[0.6, 0.3, 0.1])
        said = np.where(rng.random(1_050) < 0.7, y, rng.choice(3, 1_050, p=[0.1, 0.2, 0.7]))
        called.append(told(np.eye(3)[said[:50]], y[:50], np.eye(3)[said[50:]]).drawn)
    assert 0.9 < np.mean(called) < 0.99
