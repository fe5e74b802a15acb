import re

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from test_curve import Spy, ample, failing, problem

from cotrain.auto.pace import NO_TIME, TOO_FEW, Skipped
from cotrain.auto.steady import TIMES, Steadiness, _thinned, steadiness, warning
from cotrain.auto.trial import even


def board_with(learners=(LogisticRegression,), **settings):
    """A board as the curve's tests make it, with what its learners say of the unlabelled rows."""
    board, features, _ = problem(learners=learners, **settings)
    x = features.of(features.labelled, features.unlabelled)
    for trial in board.trials:
        estimator = trial.candidate.make(None).fit(x["table"][features.labelled], features.y[features.labelled])
        trial.unlabelled = even(estimator, x["table"][features.unlabelled], len(board.decision))
    return board, features, x


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
    board, features, x = board_with((Stubborn,))
    board.decision = np.array([0.05, 0.95])
    assert steadiness(board, [0], features, x, ample).flipped == 0


def test_the_share_that_flips_by_hand():
    """Five learners on four fifths of the labels, compared one by one with the one on all."""
    board, features, x = board_with(labels=20, distance=0.7)
    table, labelled, y = x["table"], features.labelled, features.y
    usual = board.trials[0].unlabelled.argmax(1)
    rng = np.random.default_rng([3, TIMES])
    flips = []
    for _ in range(TIMES):
        kept = _thinned(y, labelled, rng)
        assert len(kept) == 16
        other = LogisticRegression().fit(table[kept], y[kept]).predict(table[features.unlabelled])
        flips.append((other != usual).mean())
    found = steadiness(board, [0], features, x, ample, seed=3)
    assert found.flipped == pytest.approx(np.mean(flips))
    assert 0 < found.flipped < 0.5
    assert found == steadiness(board, [0], features, x, ample, seed=3)


def test_the_clearer_the_classes_the_steadier():
    flipped = [steadiness(*_given(board_with(labels=20, distance=d)), ample).flipped for d in (0.7, 4.0)]
    assert flipped[0] > flipped[1] + 0.02


def test_a_committee_is_compared_as_a_whole():
    board, features, x = board_with((LogisticRegression, Stubborn), labels=20, distance=0.7)
    alone = steadiness(board, [0], features, x, ample)
    both = steadiness(board, [0, 1], features, x, ample)
    assert both.flipped < alone.flipped  # one of them never moves


def test_only_labels_that_are_kept_are_learnt_from():
    board, features, x = board_with((Spy,), labels=40)
    Spy.seen.clear()
    steadiness(board, [0], features, x, ample)
    assert [len(seen) for seen in Spy.seen] == [32] * TIMES
    assert len({seen.tobytes() for seen in Spy.seen}) > 1


@pytest.mark.parametrize("failure", [ValueError("odd"), MemoryError()])
def test_no_answer_where_it_cannot_be_had(failure):
    board, features, x = board_with(labels=30)
    with pytest.raises(Skipped, match=re.escape(NO_TIME)):
        steadiness(board, [0], features, x, lambda: -1.0)
    with pytest.raises(Skipped, match="cannot be trained"):
        steadiness(failing(board, failure), [0], features, x, ample)
    board, features, x = board_with(labels=30)
    features.labelled = features.labelled[:4]  # two of each class
    with pytest.raises(Skipped, match=re.escape(TOO_FEW)):
        steadiness(board, [0], features, x, ample)
    features.unlabelled = features.unlabelled[:0]
    with pytest.raises(Skipped, match="no unlabelled rows"):
        steadiness(board, [0], features, x, ample)


def test_the_warning_says_how_much():
    assert "21% of the unlabelled rows" in warning(Steadiness(0.21))


def _given(made):
    board, features, x = made
    return board, [0], features, x
