import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from test_curve import Spy, ample, problem

from cotrain.auto.curve import NO_TIME, TOO_FEW
from cotrain.auto.steady import TIMES, Steadiness, _thinned, steadiness, warning
from cotrain.auto.trial import even


def board_with(learners=(LogisticRegression,), **settings):
    """A board as the curve's tests make it, with what its learners say of the unlabelled rows."""
    board, features, y, _ = problem(learners=learners, **settings)
    x = features.of(features.labelled, features.unlabelled)
    for trial in board.trials:
        estimator = trial.candidate.make(None).fit(x["table"][features.labelled], y[features.labelled])
        trial.unlabelled = even(estimator, x["table"][features.unlabelled], len(board.decision))
    return board, features, x, y


class Stubborn(GaussianNB):
    """Says the first class whatever it is taught."""

    def predict_proba(self, X):
        return np.tile([0.9, 0.1], (len(X), 1))


def test_a_fifth_of_each_class_is_left_out():
    y = np.array([0] * 10 + [1] * 5 + [2] * 2 + [-1] * 3)
    kept = _thinned(y, np.flatnonzero(y >= 0), np.random.default_rng(0))
    assert np.bincount(y[kept]).tolist() == [8, 4, 2]
    assert len(set(kept)) == len(kept)


def test_what_does_not_heed_its_labels_is_steady():
    found = steadiness(*_given(board_with((Stubborn,))), ample)
    assert found == Steadiness(0.0, rows=100)


def test_shares_decide_before_and_after():
    """It says 0.9 to 0.1 of everything: of the second class, where that is nineteen times as frequent."""
    board, features, x, y = board_with((Stubborn,))
    board.decision = np.array([0.05, 0.95])
    assert steadiness(board, [0], features, x, y, ample).flipped == 0


def test_the_share_that_flips_by_hand():
    """Five learners on four fifths of the labels, compared one by one with the one on all."""
    board, features, x, y = board_with(labels=20, distance=0.7)
    table, labelled = x["table"], features.labelled
    usual = board.trials[0].unlabelled.argmax(1)
    rng = np.random.default_rng([3, TIMES])
    flips = []
    for _ in range(TIMES):
        kept = _thinned(y, labelled, rng)
        assert len(kept) == 16
        other = LogisticRegression().fit(table[kept], y[kept]).predict(table[features.unlabelled])
        flips.append((other != usual).mean())
    found = steadiness(board, [0], features, x, y, ample, seed=3)
    assert found.flipped == pytest.approx(np.mean(flips))
    assert 0 < found.flipped < 0.5
    assert found == steadiness(board, [0], features, x, y, ample, seed=3)


def test_the_clearer_the_classes_the_steadier():
    flipped = [steadiness(*_given(board_with(labels=20, distance=d)), ample).flipped for d in (0.7, 4.0)]
    assert flipped[0] > flipped[1] + 0.02


def test_a_committee_is_compared_as_a_whole():
    board, features, x, y = board_with((LogisticRegression, Stubborn), labels=20, distance=0.7)
    alone = steadiness(board, [0], features, x, y, ample)
    both = steadiness(board, [0, 1], features, x, y, ample)
    assert both.flipped < alone.flipped  # one of them never moves


def test_only_labels_that_are_kept_are_learnt_from():
    board, features, x, y = board_with((Spy,), labels=40)
    Spy.seen.clear()
    steadiness(board, [0], features, x, y, ample)
    assert [len(seen) for seen in Spy.seen] == [32] * TIMES
    assert len({seen.tobytes() for seen in Spy.seen}) > 1


def test_no_answer_where_it_cannot_be_had():
    board, features, x, y = board_with(labels=30)
    assert steadiness(board, [0], features, x, y, lambda: -1.0) == NO_TIME
    board.trials[0].candidate.__dict__["make"] = lambda _: LogisticRegression(C=-1.0)
    assert "cannot be trained" in steadiness(board, [0], features, x, y, ample)
    few = board_with(labels=30)
    y = few[3].copy()
    y[few[1].labelled[4:]] = -1  # two of each class
    few[1].labelled = few[1].labelled[:4]
    assert steadiness(few[0], [0], few[1], few[2], y, ample) == TOO_FEW


def test_the_warning_says_how_much():
    assert "21% of the unlabelled rows" in warning(Steadiness(0.21))


def _given(made):
    board, features, x, y = made
    return board, [0], features, x, y
