import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from cotrain.errors import InputError
from cotrain.estimators.co_training import CoTraining


def two_views(n: int = 300, labelled: int = 3, seed: int = 0):
    """Two views that are independent given the class, and a column that numbers the rows in each of them."""
    rng = np.random.RandomState(seed)
    y = rng.randint(2, size=n)
    a, b = (rng.randn(n, 5) + 1.2 * (2 * y[:, None] - 1) * (np.arange(5) < 2) for _ in "ab")
    given = np.full(n, -1)
    for c in (0, 1):
        given[np.flatnonzero(y == c)[:labelled]] = c
    return a, b, y, given


class Spy(GaussianNB):
    """Remembers every training set as (row number, label); the row's number is its last column."""

    log: list = []  # noqa: RUF012

    def fit(self, x, y):
        Spy.log.append(list(zip(x[:, -1].astype(int).tolist(), y.tolist())))
        return super().fit(x[:, :-1], y)

    def predict_proba(self, x):
        return super().predict_proba(x[:, :-1])


@pytest.mark.parametrize("teach", ["common", "other"])
@pytest.mark.parametrize("pool", [None, 30])
def test_no_row_twice_and_quotas_kept(teach, pool):
    a, b, _, given = two_views()
    number = np.arange(len(a))[:, None]
    Spy.log = []
    quota = {0: 2, 1: 4}
    model = CoTraining(Spy(), per_round=quota, pool=pool, rounds=12, teach=teach, random_state=0)
    model.fit((np.hstack([a, number]), np.hstack([b, number])), given)

    for training_set in Spy.log:
        rows = [row for row, _ in training_set]
        assert len(rows) == len(set(rows))
    for before, after in zip(Spy.log[:-2], Spy.log[2:]):  # a learner keeps what it was taught
        assert set(before) <= set(after)
    since = model.labeled_iter_
    assert ((since == 0) == (given >= 0)).all()
    for entry in model.history_:
        new = model.transduction_[since == entry["round"]]
        assert entry["added"] == {c: int((new == c).sum()) for c in (0, 1)}
        assert all(entry["added"][c] <= 2 * quota[c] for c in (0, 1))
        assert entry["pool"] <= (pool or 294)
    if pool:  # refilled as long as rows are left
        assert [entry["pool"] for entry in model.history_] == [30] * 12
    if teach == "other":  # each learner gets exactly what the other one chose
        grown = [len(after) - len(before) for before, after in zip(Spy.log[:-2], Spy.log[2:])]
        assert max(grown) <= 6
    else:
        assert all(sorted(x) == sorted(y) for x, y in zip(Spy.log[::2], Spy.log[1::2]))


class Column:
    def fit(self, x, y):
        self.classes_, self.seen = np.unique(y), dict(zip(x[:, 0].tolist(), y.tolist()))

    def predict_proba(self, x):
        return np.column_stack([1 - x[:, 0], x[:, 0]])


def test_one_round_by_hand():
    """A is surest of rows 2 (for 1) and 3 (for 0), B of rows 3 (for 1, and surer) and 4 (for 0)."""
    a = np.array([[0.0], [1.0], [0.9], [0.2], [0.45]])
    b = np.array([[0.0], [1.0], [0.6], [0.95], [0.1]])
    given = np.array([0, 1, -1, -1, -1])
    common = CoTraining(Column(), per_round={0: 1, 1: 1}, rounds=1).fit((a, b), given)
    assert common.transduction_.tolist() == [0, 1, 1, 1, 0]
    assert common.history_[0] == {"round": 1, "added": {0: 1, 1: 2}, "conflicts": 1, "pool": 3, "labelled": 5}
    assert [len(learner.seen) for learner in common.learners_] == [5, 5]
    other = CoTraining(Column(), per_round={0: 1, 1: 1}, rounds=1, teach="other").fit((a, b), given)
    assert other.learners_[0].seen == {0.0: 0, 1.0: 1, 0.2: 1, 0.45: 0}  # rows 3 and 4, as B says
    assert other.learners_[1].seen == {0.0: 0, 1.0: 1, 0.6: 1, 0.95: 0}  # rows 2 and 3, as A says
    sure = CoTraining(Column(), per_round={0: 1, 1: 1}, rounds=5, threshold=0.92).fit((a, b), given)
    assert sure.transduction_.tolist() == [0, 1, -1, 1, -1]
    assert sure.termination_condition_ == "no_change"
    np.testing.assert_allclose(common.predict_proba((a[2:3], b[2:3]))[0, 1], 0.9 * 0.6 / (0.9 * 0.6 + 0.1 * 0.4))
    mean = CoTraining(Column(), combine="mean").fit((a, b), given)
    np.testing.assert_allclose(mean.predict_proba((a[2:3], b[2:3]))[0, 1], 0.75)


def test_no_unlabelled_rows_is_both_learners_together():
    a, b, y, _ = two_views()
    own = LogisticRegression().fit(a, y).predict_proba(a), GaussianNB().fit(b, y).predict_proba(b)
    mean = CoTraining(LogisticRegression(), GaussianNB(), combine="mean").fit((a, b), y)
    np.testing.assert_array_equal(mean.predict_proba((a, b)), (own[0] + own[1]) / 2)
    product = CoTraining(LogisticRegression(), GaussianNB()).fit((a, b), y)
    both = np.maximum(own[0], 1e-12) * np.maximum(own[1], 1e-12)
    np.testing.assert_array_equal(product.predict_proba((a, b)), both / both.sum(axis=1, keepdims=True))
    assert product.n_iter_ == 0


def test_views_may_be_said_in_many_ways():
    a, b, _, given = two_views()
    x = np.hstack([a, b])
    table = pd.DataFrame(x, columns=list("abcdefghij"))
    mask = np.arange(10) < 5
    pair = CoTraining(GaussianNB()).fit((a, b), given).predict_proba((a, b))
    for view_a, view_b in [
        (slice(0, 5), slice(5, None)),
        ([0, 1, 2, 3, 4], None),
        (None, range(5, 10)),
        (mask, ~mask),
        ([-10, -9, -8, -7, -6], [-5, -4, -3, -2, -1]),
        (lambda x: x[:, :5], lambda x: x[:, 5:]),
    ]:
        model = CoTraining(GaussianNB(), view_a=view_a, view_b=view_b).fit(x, given)
        np.testing.assert_array_equal(model.predict_proba(x), pair)
    named = CoTraining(GaussianNB(), view_a=list("abcde"), view_b=list("fghij")).fit(table, given)
    np.testing.assert_allclose(named.predict_proba(table), pair, rtol=1e-9)
    mixed = CoTraining(LogisticRegression()).fit([sparse.csr_matrix(a), b], given)
    assert mixed.predict_proba([sparse.csr_matrix(a), b]).shape == (300, 2)


def test_texts_through_functions():
    from sklearn.feature_extraction.text import CountVectorizer

    texts = ["good film", "bad film", "good good play", "bad play", "a good book", "such a bad book"]
    words = CountVectorizer().fit(texts)
    letters = CountVectorizer(analyzer="char").fit(texts)
    model = CoTraining(LogisticRegression(), view_a=words.transform, view_b=letters.transform, per_round=2)
    model.fit(texts, ["+", "-", "", "", "", ""])
    assert model.predict(["a good play", "a bad play"]).tolist() == ["+", "-"]


def test_random_halves_share_no_column():
    a, b, _, given = two_views()
    model = CoTraining(GaussianNB(), random_state=3).fit(np.hstack([a, b]), given)
    assert sorted(np.concatenate(model.views_).tolist()) == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view_a": [0, 1, 2], "view_b": [2, 3]}, r"share the columns \[2\]"),
        ({"view_a": [], "view_b": [2, 3]}, "view A has no columns"),
        ({"view_a": range(10)}, "view B has no columns"),
        ({"view_a": [0, 99]}, "columns that X .10 columns. does not have"),
        ({"view_a": ["a"]}, "X has no column 'a'; it has no column names"),
        ({"view_a": lambda x: x}, "both be functions"),
        ({"teach": "both"}, "teach is 'both'"),
        ({"combine": "max"}, "combine is 'max'"),
        ({"pool": 0}, "pool is 0"),
        ({"per_round": 0}, "per_round is 0"),
    ],
)
def test_bad_arguments(arguments, message):
    a, b, _, given = two_views()
    with pytest.raises(InputError, match=message):
        CoTraining(GaussianNB(), **arguments).fit(np.hstack([a, b]), given)


def test_bad_pairs():
    a, b, _, given = two_views()
    with pytest.raises(InputError, match="view_a and view_b must stay None"):
        CoTraining(GaussianNB(), view_a=[0]).fit((a, b), given)
    with pytest.raises(InputError, match="view A has 300 rows, view B 299"):
        CoTraining(GaussianNB()).fit((a, b[:-1]), given)


def test_independent_views_teach_each_other():
    """Blum and Mitchell's setting: six labels are enough for two independent views, far better than for one learner."""
    gains = []
    for seed in range(5):
        a, b, y, given = two_views(seed=seed)
        alone = GaussianNB().fit(np.hstack([a, b])[given >= 0], given[given >= 0]).score(np.hstack([a, b]), y)
        together = CoTraining(GaussianNB(), per_round=20, rounds=None).fit((a, b), given)
        gains.append((together.predict((a, b)) == y).mean() - alone)
    assert np.mean(gains) > 0.05
