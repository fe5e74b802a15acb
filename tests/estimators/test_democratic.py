import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from cotrain.errors import InputError
from cotrain.estimators.democratic import DemocraticCoLearning, interval, value

KINDS = [LogisticRegression(), GaussianNB(), KNeighborsClassifier(3)]


def test_interval_is_wilsons():
    for right, rows in [(0, 5), (3, 5), (5, 5), (17, 40)]:
        reference = binomtest(right, rows).proportion_ci(0.95, method="wilson")
        np.testing.assert_allclose(interval(right / rows, rows), (reference.low, reference.high), atol=1e-12)


def test_value_by_hand():
    assert value(100, 0) == 100
    np.testing.assert_allclose(value(100, 10), 100 * 0.8**2)
    assert value(100, 60) == 0  # worse than chance is worth nothing, not something again
    np.testing.assert_allclose(value(100, 50, classes=4), 100 * (1 - 4 / 3 * 0.5) ** 2)


class Column:
    """Reads the probability of class 1 from one column and counts its training rows."""

    def __init__(self, column):
        self.column = column

    def fit(self, x, y):
        self.classes_, self.rows = np.unique(y), len(y)

    def predict_proba(self, x):
        return np.column_stack([1 - x[:, self.column], x[:, self.column]])


def votes():
    """40 labelled rows that all get right; 3 rows that only learner 2 sees as class 0, 2 rows on which all agree."""
    given = np.array([0, 1] * 20 + [-1] * 5)
    x = np.repeat(np.where(given[:, None] == 1, 0.9, 0.1), 3, axis=1) + np.arange(45)[:, None] / 1000
    x[40:43] = [[0.9, 0.8, 0.3], [0.8, 0.9, 0.2], [0.7, 0.7, 0.1]]
    x[43:] = [[0.9, 0.8, 0.7], [0.1, 0.2, 0.3]]
    return x, given


def test_the_outvoted_learn_from_the_majority():
    x, given = votes()
    model = DemocraticCoLearning([Column(0), Column(1), Column(2)]).fit(x, given)
    assert [learner.rows for learner in model.learners_] == [40, 40, 43]
    assert [entry["added"] for entry in model.history_] == [[0, 0, 3], [0, 0, 0]]
    low, high = interval(1, 40)
    np.testing.assert_allclose(model.weights_, (low + high) / 2)
    # Figure 2: a group of two and a group of one, of equal weight w.
    w = model.weights_[0]
    groups = np.array([1.5 / 2 * w, 2.5 / 3 * w])
    np.testing.assert_allclose(model.predict_proba(x[40:41])[0], groups / groups.sum())
    # Nobody votes for class 0 here: an empty group has no confidence.
    assert model.predict_proba(x[43:44])[0].tolist() == [0, 1]


def test_what_would_lower_the_value_is_refused():
    """8 labelled rows that are all told right promise 0.68 at least: of 3 more 0.97 may be wrong, and 11 rows of which
    0.97 are wrong are worth (11 - 1.94)^2 / 11 = 7.5. So it is where all mistake half of 40 labelled rows."""
    x, given = votes()
    model = DemocraticCoLearning([Column(0), Column(1), Column(2)]).fit(x[32:], given[32:])
    assert [entry["added"] for entry in model.history_] == [[0, 0, 0]]
    given[:40] = np.random.RandomState(0).permutation(given[:40])
    model = DemocraticCoLearning([Column(0), Column(1), Column(2)]).fit(x, given)
    assert [entry["added"] for entry in model.history_] == [[0, 0, 0]]


def test_wrong_labels_of_all_rounds_are_counted():
    """10 labelled rows promise 0.72, so p = 0.28 of a row is wrong: 6 more are worth (16 - 12 p)^2 / 16 = 10.03 rows,
    then 7 are worth 10.12 and 8 are worth 10.21. Were only the last one's p counted, 7 would be worth 15.91 and the
    eighth be refused: (18 - 4 p)^2 / 18 = 15.85."""

    class Wavering(Column):  # the more it was taught, the further to the right it reads
        def predict_proba(self, x):
            self.column = {16: 3, 17: 4, 18: 5}.get(self.rows, 2)
            return super().predict_proba(x)

    x = np.full((18, 6), 0.9)
    x[:5], x[10:16, 2], x[16, 3], x[17, 4] = 0.1, 0.1, 0.1, 0.1
    given = np.repeat([0, 1, -1], [5, 5, 8])
    model = DemocraticCoLearning([Column(0), Column(1), Wavering(2)]).fit(x, given)
    assert [entry["added"][2] for entry in model.history_] == [6, 1, 1, 0]


def test_votes_by_hand():
    model = DemocraticCoLearning(KINDS)
    model.classes_, model.weights_ = np.array([0, 1]), np.array([0.9, 0.4, 0.4])
    said = np.array([[0], [1], [1]])
    assert model._propose(said).tolist() == [-1]  # two of three, that weigh less than the third
    assert model._vote(said).tolist() == [[1, 0]]  # those that are no better than chance are not heard
    model.weights_ = np.array([0.7, 0.6, 0.6])
    assert model._propose(said).tolist() == [1]
    model.classes_, model.weights_ = np.arange(3), np.array([0.2, 0.45, 0.45])  # chance is a third
    assert model._vote(said)[0].argmax() == 1
    assert model._vote(said)[0, 0] == 0


def data(seed: int = 0, n: int = 200, labelled: float = 0.2):
    x, y = make_classification(n, 8, n_informative=5, n_classes=3, random_state=seed)
    return x, y, np.where(np.random.RandomState(seed).rand(n) > labelled, -1, y)


def test_no_unlabelled_rows_is_the_weighted_vote():
    x, y, _ = data()
    model = DemocraticCoLearning(KINDS, folds=0).fit(x, y)
    assert model.n_iter_ == 0
    weights = [sum(interval(base.fit(x, y).score(x, y), len(y))) / 2 for base in KINDS]
    np.testing.assert_allclose(model.weights_, weights)
    guess = np.array([base.predict_proba(x).argmax(axis=1) for base in KINDS])
    confidence = np.zeros((len(x), 3))
    for row in range(len(x)):
        for c in range(3):
            group = [w for w, g in zip(weights, guess[:, row]) if g == c]
            if group:
                confidence[row, c] = (len(group) + 0.5) / (len(group) + 1) * np.mean(group)
    np.testing.assert_allclose(model.predict_proba(x), confidence / confidence.sum(axis=1, keepdims=True))


def test_held_out_accuracy_never_trains_on_the_row():
    """A learner that knows its training rows by heart is right on them, and by chance on those held out."""

    class ByHeart:
        def fit(self, x, y):
            self.classes_, self.table = np.unique(y), {row.tobytes(): label for row, label in zip(x, y)}

        def predict_proba(self, x):
            return np.array([self.classes_ == self.table.get(row.tobytes(), 0) for row in x], dtype=float)

    rng = np.random.RandomState(0)
    x, y = rng.rand(60, 3), np.arange(60) % 2
    y[50:] = -1
    open_ = DemocraticCoLearning([ByHeart(), LogisticRegression()], folds=0).fit(x, y)
    held = DemocraticCoLearning([ByHeart(), LogisticRegression()], folds=5).fit(x, y)
    assert open_.weights_[0] > 0.9
    assert abs(held.weights_[0] - 0.5) < 1e-9  # class 0 for all: half are right


def test_rows_that_learners_take_are_counted():
    x, _, given = data(4, labelled=0.5)
    model = DemocraticCoLearning(KINDS).fit(x, given)
    sizes = [int((given >= 0).sum())] * 3
    for entry in model.history_:
        sizes = [size + added for size, added in zip(sizes, entry["added"])]
        assert entry["labelled"] == sizes
    *rounds, last = [sum(entry["added"]) for entry in model.history_]
    assert all(rounds)
    assert last == 0
    assert model.termination_condition_ == "no_change"
    assert len(rounds) > 1
    assert int((given >= 0).sum()) < max(sizes) <= len(x)


def test_bad_arguments():
    x, _, given = data()
    with pytest.raises(InputError, match="two learners or more, got 1"):
        DemocraticCoLearning([GaussianNB()]).fit(x, given)
    with pytest.raises(InputError, match="folds is 1"):
        DemocraticCoLearning(KINDS, folds=1).fit(x, given)


def test_a_tie_of_votes_goes_to_the_more_accurate_whatever_the_classes_are_called():
    x, given = votes()
    x[0, 1] = 0.9  # learner 1 gets a labelled row wrong
    x[40:42, :2] = [[0.9, 0.1], [0.2, 0.8]]
    learners = [Column(0), Column(1)]
    model = DemocraticCoLearning(learners, folds=0).fit(x, given)
    other = DemocraticCoLearning(learners, folds=0).fit(1 - x, np.where(given < 0, -1, 1 - given))
    assert model.history_[0]["added"] == other.history_[0]["added"] == [0, 2]
    np.testing.assert_array_equal(model.transduction_, 1 - other.transduction_)
