from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from cotrain.errors import InputError
from cotrain.estimators.labels import bootstrap
from cotrain.estimators.tri_training import TriTraining, _error, accepted_size, initial_size


@pytest.mark.parametrize(
    ("error", "previous_error", "size", "previous_size", "use"),
    [
        (F(1, 2), F(1, 2), 100, 1, 0),  # e must fall
        (F(3, 10), F(2, 10), 100, 10, 0),
        (F(1, 10), F(2, 10), 5, 5, 0),  # more rows than last time
        (F(1, 10), F(2, 10), 4, 5, 0),
        (F(0), F(1, 2), 1000, 1, 1000),  # no error: all
        (F(1, 10), F(2, 10), 15, 10, 15),  # 1.5 < 2: all
        (F(1, 10), F(2, 10), 19, 10, 19),  # 1.9 < 2: all
        (F(1, 10), F(2, 10), 20, 10, 19),  # 2 < 2 is false: ceil(2 / 0.1 - 1)
        (F(1, 10), F(2, 10), 100, 10, 19),
        (F(3, 20), F(1, 5), 50, 10, 13),  # ceil(2 / 0.15 - 1) = ceil(12.33)
        (F(1, 10), F(3, 10), 50, 2, 5),  # 0.3 * 2 / 0.1 is 5.999... in floating point
        (F(19, 100), F(20, 100), 100, 10, 0),  # l' = 10 is not above 0.19 / 0.01 = 19
        (F(19, 100), F(20, 100), 100, 19, 0),
        (F(19, 100), F(20, 100), 100, 20, 21),  # above: ceil(4 / 0.19 - 1) = ceil(20.05)
        (F(1, 10), F(2, 10), 5, 1, 0),  # l' = 1 is not above 0.1 / 0.1
    ],
)
def test_accept_rule(error, previous_error, size, previous_size, use):
    assert accepted_size(error, previous_error, size, previous_size) == use


@pytest.mark.parametrize(
    ("error", "size"), [(F(0), 1), (F(1, 10), 1), (F(1, 4), 2), (F(1, 3), 3), (F(2, 5), 5), (F(49, 100), 50)]
)
def test_first_size(error, size):
    """floor(e / (1/2 - e) + 1)"""
    assert initial_size(error, F(1, 2)) == size


@settings(max_examples=300)
@given(st.integers(0, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 400), st.integers(1, 300))
def test_whatever_is_accepted_lowers_the_bound(wrong, more, of, size, previous_size):
    """Zhou and Li's condition 0 < e / e' < l' / l < 1, and one row more would break it or there is none."""
    error, previous_error = F(wrong, 60 + of), F(wrong + more, 60 + of)
    use = accepted_size(error, previous_error, size, previous_size)
    assert 0 <= use <= size
    if use:
        assert error * use < previous_error * previous_size
        assert use > previous_size
        if use < size:
            assert error * (use + 1) >= previous_error * previous_size


def data(seed: int = 0, n: int = 240, labelled: float = 0.15, classes: int = 3):
    x, y = make_classification(n, 8, n_informative=5, n_classes=classes, class_sep=1.0, flip_y=0.1, random_state=seed)
    hidden = np.random.RandomState(seed).rand(n) > labelled
    return x, y, np.where(hidden, -1, y)


@pytest.mark.parametrize("base", [LogisticRegression(), DecisionTreeClassifier(max_depth=3), GaussianNB()], ids=str)
def test_no_unlabelled_rows_is_a_vote_of_three_bootstraps(base):
    from sklearn.base import clone

    x, y, _ = data()
    model = TriTraining(base, random_state=4).fit(x, y)
    rng = np.random.RandomState(4)
    seeds = [int(rng.randint(np.iinfo(np.int32).max)) for _ in range(3)]
    guesses = []
    for seed in seeds:
        rows = bootstrap(y, rng)
        learner = clone(base)
        if "random_state" in learner.get_params():
            learner.set_params(random_state=seed)
        guesses.append(learner.fit(x[rows], y[rows]).predict_proba(x))
    votes = np.mean([np.eye(3)[p.argmax(axis=1)] for p in guesses], axis=0)
    np.testing.assert_allclose(model.predict_proba(x), (votes + np.mean(guesses, axis=0)) / 2, rtol=1e-12)
    assert (model.n_iter_, model.termination_condition_) == (0, "no_change")


def test_three_learners_without_bootstrap_are_themselves():
    x, y, _ = data()
    bases = [LogisticRegression(), GaussianNB(), DecisionTreeClassifier(max_depth=3, random_state=0)]
    model = TriTraining(bases, bootstrap=False, combine="mean").fit(x, y)
    own = np.mean([base.fit(x, y).predict_proba(x) for base in bases], axis=0)
    np.testing.assert_array_equal(model.predict_proba(x), own)


@pytest.mark.parametrize("seed", range(6))
def test_every_round_keeps_the_conditions(seed):
    x, _, gaps = data(seed, labelled=0.25)
    model = TriTraining(DecisionTreeClassifier(max_depth=2), random_state=seed).fit(x, gaps)
    errors, sizes = [0.5] * 3, [0] * 3
    for entry in model.history_:
        for i, (added, agreed, error) in enumerate(zip(entry["added"], entry["agreed"], entry["error"])):
            if error < errors[i]:
                sizes[i] = sizes[i] or int(error / (errors[i] - error) + 1 + 1e-9)
            if added:
                assert sizes[i] < added <= agreed
                assert error * added < errors[i] * sizes[i] + 1e-9
                errors[i], sizes[i] = error, added
    assert model.history_[-1]["added"] == [0, 0, 0]
    assert model.termination_condition_ == "no_change"


def test_subsampling_happens():
    """At least one of these runs meets the second branch of the rule: some agreed rows are left out."""
    cut = 0
    for seed in range(12):
        x, _, gaps = data(seed, labelled=0.25)
        model = TriTraining(DecisionTreeClassifier(max_depth=2), random_state=seed).fit(x, gaps)
        cut += sum(0 < a < g for entry in model.history_ for a, g in zip(entry["added"], entry["agreed"]))
    assert cut


class Column:
    """Reads the probability of class 1 from one column; `offset` more than that once it has been taught."""

    def __init__(self, column):
        self.column = column

    def fit(self, x, y):
        self.classes_, self.rows = np.unique(y), len(y)

    def predict_proba(self, x):
        return np.column_stack([1 - x[:, self.column], x[:, self.column]])


# Labelled 0, labelled 1, all agree on 1, learner 0 differs, learner 1 differs (unsurely), learner 2 differs.
ROWS = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9], [0.8, 0.8, 0.8], [0.2, 0.9, 0.9], [0.6, 0.1, 0.6], [0.9, 0.9, 0.3]])
GAPS = np.array([0, 1, -1, -1, -1, -1])


def test_agreement_and_disagreement_by_hand():
    bases = [Column(0), Column(1), Column(2)]
    all_ = TriTraining(bases, bootstrap=False).fit(ROWS, GAPS)
    assert all_.history_[0] == {"round": 1, "added": [2, 2, 2], "agreed": [2, 2, 2], "error": [0.0, 0.0, 0.0]}
    assert [learner.rows for learner in all_.learners_] == [4, 4, 4]
    # l' = 1 from e = 0, so a single row that differs is not more than last time, and is refused ...
    few = TriTraining(bases, bootstrap=False, disagreement=True).fit(ROWS, GAPS)
    assert few.history_[0]["agreed"] == [1, 1, 1]
    assert few.history_[0]["added"] == [0, 0, 0]
    # ... unless the conditions are off; what nobody is sure enough about stays out.
    free = TriTraining(bases, bootstrap=False, disagreement=True, check_error=False, threshold=0.7).fit(ROWS, GAPS)
    assert free.history_[0]["added"] == [1, 0, 1]
    assert free.termination_condition_ == "no_change"
    assert free.transduction_.tolist() == [0, 1, 1, 1, 1, 1]


def test_teachers_are_judged_where_they_agree():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    x = rng.normal(size=(60, 2)) + 0.8 * y[:, None]
    bases = [GaussianNB(), DecisionTreeClassifier(max_depth=1, random_state=0), LogisticRegression()]
    model = TriTraining(bases, bootstrap=False, rounds=1).fit(x, np.where(np.arange(60) < 30, y, -1))
    guess = [base.fit(x[:30], y[:30]).predict(x[:30]) for base in bases]
    for i, error in enumerate(model.history_[0]["error"]):
        one, other = guess[i - 1], guess[i - 2]
        assert error == pytest.approx((one != y[:30])[one == other].mean())
        assert error < max((one != y[:30]).mean(), (other != y[:30]).mean())  # of one alone it is more


def test_teachers_that_agree_on_no_labelled_row_are_taken_to_be_always_wrong():
    assert _error(np.zeros(0, int), np.zeros(0, int)) == 1


def test_both_teachers_must_be_sure():
    """Learner 2 says the same as the others on every row, but never surely: it teaches nobody, and is taught."""
    x = np.where(GAPS[:, None] == 0, 0.1, [0.9, 0.9, 0.6])
    settings = {"threshold": 0.8, "check_error": False, "rounds": 1, "bootstrap": False}
    model = TriTraining([Column(0), Column(1), Column(2)], **settings).fit(x, GAPS)
    assert model.history_[0]["agreed"] == [0, 0, 4]


def test_majority_wins_and_the_mean_breaks_ties():
    rng = np.random.RandomState(0)
    p = rng.dirichlet([0.3] * 4, size=(3, 500))
    model = TriTraining(LogisticRegression())
    model.classes_ = np.arange(4)
    combined = model._combine(list(p)).argmax(axis=1)
    votes = p.argmax(axis=2)
    for row in range(500):
        count = np.bincount(votes[:, row], minlength=4)
        best = count.argmax() if count.max() > 1 else (p[:, row].mean(axis=0) * count).argmax()
        assert combined[row] == best


def test_quotas_keep_the_shares_of_the_classes():
    x, _, gaps = data(2)
    model = TriTraining(LogisticRegression(), check_error=False, per_round={0: 4, 1: 4, 2: 4}, rounds=3, random_state=0)
    for entry in model.fit(x, gaps).history_:
        assert all(added <= 12 * entry["round"] for added in entry["added"])
    assert model.termination_condition_ == "max_iter"


def test_bad_arguments():
    x, _, gaps = data()
    with pytest.raises(InputError, match="one learner or three, got 2"):
        TriTraining([GaussianNB(), GaussianNB()]).fit(x, gaps)
    with pytest.raises(InputError, match="combine is 'max'"):
        TriTraining(GaussianNB(), combine="max").fit(x, gaps)


@pytest.mark.parametrize("per_round", [None, 3])
def test_lessons_that_come_round_again_end_it(per_round):
    x, truth = make_classification(200, 6, n_informative=4, flip_y=0.1, random_state=1)
    gaps = np.where(np.arange(200) < 20, truth, -1)
    base = DecisionTreeClassifier(max_depth=3)
    model = TriTraining(base, check_error=False, disagreement=True, per_round=per_round, rounds=None, random_state=0)
    assert model.fit(x, gaps).termination_condition_ == "cycle"
    assert 2 < model.n_iter_ < 400
