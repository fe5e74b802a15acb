import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import SelfTrainingClassifier

from cotrain.errors import InputError
from cotrain.estimators.self_training import SelfTraining, choose_by_quota, quotas


def data(seed: int = 0, n: int = 150, labelled: float = 0.15):
    x, y = make_classification(n, 8, n_informative=5, n_classes=3, class_sep=1.2, random_state=seed)
    hidden = np.random.RandomState(seed).rand(n) > labelled
    return x, y, np.where(hidden, -1, y)


class Column:
    """Guesses what the row says: the probability of class 1 is its only column. Remembers its training sets."""

    def __init__(self):
        self.seen = []

    def fit(self, x, y):
        self.seen.append(len(y))
        self.classes_ = np.unique(y)

    def predict_proba(self, x):
        return np.column_stack([1 - x[:, 0], x[:, 0]])


ROWS = np.array([[0.0], [1.0], [0.95], [0.9], [0.6], [0.2], [0.05]])
GAPS = np.array([0, 1, -1, -1, -1, -1, -1])


@pytest.mark.parametrize("base", [LogisticRegression(), GaussianNB(), KNeighborsClassifier(7)], ids=str)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"criterion": "threshold", "threshold": 0.75}, {"criterion": "threshold", "threshold": 0.75}),
        ({"criterion": "threshold", "threshold": 0.9}, {"criterion": "threshold", "threshold": 0.9}),
        ({"criterion": "threshold", "threshold": 0.7, "rounds": None}, {"threshold": 0.7, "max_iter": None}),
        ({"criterion": "threshold", "threshold": 0.6, "rounds": 2}, {"threshold": 0.6, "max_iter": 2}),
        ({"criterion": "k_best", "k": 9, "rounds": 10}, {"criterion": "k_best", "k_best": 9}),
        ({"criterion": "k_best", "k": 30, "rounds": None}, {"criterion": "k_best", "k_best": 30, "max_iter": None}),
    ],
)
def test_equals_scikit_learn_row_by_row(base, seed, ours, theirs):
    if ours["criterion"] == "k_best" and isinstance(base, KNeighborsClassifier):
        pytest.skip("its probabilities tie, and scikit-learn breaks ties by chance")
    x, _, given = data(seed)
    a = SelfTraining(base, **ours).fit(x, given)
    b = SelfTrainingClassifier(clone(base), **theirs).fit(x, given)
    np.testing.assert_array_equal(a.transduction_, b.transduction_)
    np.testing.assert_array_equal(a.labeled_iter_, b.labeled_iter_)
    assert (a.n_iter_, a.termination_condition_) == (b.n_iter_, b.termination_condition_)
    np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), atol=1e-4)


def test_no_unlabelled_rows_is_the_learner_itself():
    x, y, _ = data()
    for criterion in ("threshold", "k_best", "quota"):
        model = SelfTraining(LogisticRegression(), criterion=criterion).fit(x, y)
        np.testing.assert_array_equal(model.predict_proba(x), LogisticRegression().fit(x, y).predict_proba(x))
        assert (model.n_iter_, model.termination_condition_) == (0, "all_labeled")


def test_threshold_by_hand():
    """.95, .9 and .05 (.95 for class 0) come in round 1, .2 (.8 for class 0) is not above .8; then nothing changes."""
    model = SelfTraining(Column(), threshold=0.8).fit(ROWS, GAPS)
    assert model.transduction_.tolist() == [0, 1, 1, 1, -1, -1, 0]
    assert model.labeled_iter_.tolist() == [0, 0, 1, 1, -1, -1, 1]
    assert model.history_[0] == {"round": 1, "added": {0: 1, 1: 2}, "labelled": 5}
    assert model.termination_condition_ == "no_change"


def test_quota_by_hand():
    """One row of each class a round: first .95 and .05, then .9 and .2, then .6 alone."""
    model = SelfTraining(Column(), criterion="quota", per_round=2).fit(ROWS, GAPS)
    assert model.labeled_iter_.tolist() == [0, 0, 1, 2, 3, 2, 1]
    assert [entry["added"] for entry in model.history_] == [{0: 1, 1: 1}, {0: 1, 1: 1}, {0: 0, 1: 1}]
    assert model.termination_condition_ == "all_labeled"


def test_quotas_by_largest_remainder():
    classes, code = np.arange(3), np.array([0, 0, 0, 1, 2] + [-1] * 100)
    assert quotas(10, "labelled", classes, code).tolist() == [6, 2, 2]
    assert quotas(0.1, [0.55, 0.3, 0.15], classes, code).tolist() == [6, 3, 1]  # 5.5, 3, 1.5: first class first
    assert quotas(2, [0.98, 0.01, 0.01], classes, code).tolist() == [2, 1, 1]  # at least one of each
    assert quotas({0: 1, 1: 3, 2: 0}, "labelled", classes, code).tolist() == [1, 3, 0]
    many = np.r_[np.tile([0, 1], 20), np.full(40, -1)]
    assert quotas(0.5, "labelled", classes[:2], many).tolist() == [10, 10]  # a share is one of the unlabelled rows


@pytest.mark.parametrize("per_round", [0, -1, 1.5, 0.0, "prior", {0: 1}, {0: 1, 1: -1, 2: 1}])
def test_quotas_that_cannot_be(per_round):
    with pytest.raises(InputError, match="per_round"):
        quotas(per_round, "labelled", np.arange(3), np.array([0, 1, 2, -1]))


def test_choose_by_quota():
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    assert sorted(choose_by_quota(probability, np.array([2, 5]))) == [0, 1, 3]
    assert len(choose_by_quota(probability[:0], np.array([2, 5]))) == 0


def test_quotas_follow_the_prior():
    x, _, given = data(n=400)
    model = SelfTraining(LogisticRegression(), criterion="quota", per_round=20, rounds=3, prior=[0.2, 0.3, 0.5])
    for entry in model.fit(x, given).history_:
        assert entry["added"] == {0: 4, 1: 6, 2: 10}


def test_relabel_lets_a_row_change_its_mind():
    x, _, given = data(3)
    kept = SelfTraining(LogisticRegression(), criterion="quota", per_round=0.2, rounds=5).fit(x, given)
    free = SelfTraining(LogisticRegression(), criterion="quota", per_round=0.2, rounds=5, relabel=True).fit(x, given)
    assert (free.history_[0]["added"], free.n_iter_) == (kept.history_[0]["added"], 5)
    # The last labels are those of the learner that gave them, not of earlier ones.
    learner = LogisticRegression().fit(x[given >= 0], given[given >= 0])
    label = given.copy()
    for turn in range(1, 6):
        probability = learner.predict_proba(x[given < 0])
        chosen = choose_by_quota(probability, quotas(0.2, "labelled", np.arange(3), given) * turn)
        label = given.copy()
        label[np.flatnonzero(given < 0)[chosen]] = probability[chosen].argmax(axis=1)
        learner = LogisticRegression().fit(x[label >= 0], label[label >= 0])
    np.testing.assert_array_equal(free.transduction_, label)
    assert (free.transduction_ != kept.transduction_).any()


def test_with_relabel_each_round_takes_k_more_rows():
    x = np.r_[0.0, 1.0, np.linspace(0.01, 0.99, 20)][:, None]
    given = np.r_[0, 1, np.full(20, -1)]
    model = SelfTraining(Column(), criterion="k_best", k=3, relabel=True, rounds=4).fit(x, given)
    assert [entry["labelled"] for entry in model.history_] == [5, 8, 11, 14]


def test_labels_that_come_round_again_end_it():
    x, y = make_classification(60, 4, n_informative=3, n_redundant=0, flip_y=0.1, random_state=1)
    given = np.where(np.arange(60) < 8, y, -1)
    model = SelfTraining(KNeighborsClassifier(3), relabel=True, rounds=100).fit(x, given)
    assert model.termination_condition_ == "cycle"
    assert [entry["labelled"] for entry in model.history_].count(model.history_[-1]["labelled"]) > 1


def test_warm_goes_on_with_the_same_learner():
    warm = SelfTraining(Column(), threshold=0.8, warm=True).fit(ROWS, GAPS)
    cold = SelfTraining(Column(), threshold=0.8).fit(ROWS, GAPS)
    assert warm.learner_.seen == [2, 5]
    assert cold.learner_.seen == [5]
    x, _, given = data()
    model = SelfTraining(SGDClassifier(loss="log_loss", max_iter=50, random_state=0), warm=True, rounds=3).fit(x, given)
    assert model.learner_.warm_start


def test_bad_arguments():
    x, _, given = data()
    with pytest.raises(InputError, match="criterion is 'best'"):
        SelfTraining(LogisticRegression(), criterion="best").fit(x, given)
    with pytest.raises(InputError, match="k is 0"):
        SelfTraining(LogisticRegression(), criterion="k_best", k=0).fit(x, given)
    with pytest.raises(InputError, match="warm_start"):
        SelfTraining(GaussianNB(), warm=True).fit(x, given)
