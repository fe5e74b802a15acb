import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB

from cotrain.auto.candidates import Candidate
from cotrain.auto.choose import Board
from cotrain.auto.curve import MORE, _thinned, _thinned_folds, learning_curve, projected_gain
from cotrain.auto.features import Features
from cotrain.auto.folds import make_folds
from cotrain.auto.pace import NO_TIME, TOO_FEW, Skipped
from cotrain.auto.scores import interval
from cotrain.auto.trial import Trial, run_folds
from cotrain.views.table import ScaledView


def ample() -> float:
    return 1e9


class Spy(GaussianNB):
    """Keeps what it was trained on."""

    seen: list = []  # noqa: RUF012

    def fit(self, X, y):
        Spy.seen.append(np.asarray(X).copy())
        return super().fit(X, y)


def failing(board, failure):
    """The board, with a first learner that cannot be trained any more."""

    def fail(prior):
        raise failure

    board.trials[0].candidate.__dict__["make"] = fail
    return board


def problem(labels=60, distance=1.0, seed=0, learners=(LogisticRegression,), classes=2):
    """A board with learners that ran on two numbers, and all that the curve needs beside it."""
    rng = np.random.default_rng(seed)
    y = np.arange(labels) % classes
    x = rng.normal(size=(labels + 100, 2)) + distance * np.r_[y, np.zeros(100, int)][:, None]
    codes = np.r_[y, np.full(100, -1)]
    features = Features({"table": ScaledView(("a", "b"))}, pd.DataFrame(x, columns=["a", "b"]), codes)
    unit = np.arange(len(codes))
    folds = make_folds(codes, features.unlabelled, unit, np.arange(len(codes)), False, seed)
    prior = np.bincount(y) / labels
    shape = (1 + max(fold.repeat for fold in folds), labels, classes)
    trials = [
        Trial(Candidate(f"learner {n}", ("table",), False, lambda _, make=make: make()), np.full(shape, np.nan))
        for n, make in enumerate(learners)
    ]
    with ThreadPoolExecutor(1) as pool:
        run_folds(trials, features, folds, prior, pool)
    assert not [trial.dropped for trial in trials if trial.dropped]
    board = Board(trials, y, unit[:labels], np.full(classes, 1 / classes), np.full(labels, 1 / labels))
    return board, features, folds


def test_projection_by_hand():
    labels = np.array([4.0, 9.0, 16.0])
    now = 16
    # The error is 1 / sqrt(labels), of which half a row of 16 is taken here because it is added again inside.
    scores = 1 - (1 / np.sqrt(labels) - 0.5 / now)
    assert np.isclose(projected_gain(labels, scores, now, more=9), 1 / 4 - 1 / 5)


def test_projection_at_its_limits():
    labels = np.array([10.0, 20.0, 40.0])
    assert projected_gain(labels, np.full(3, 0.8), 40) == pytest.approx(0.0, abs=1e-12)
    assert projected_gain(labels, np.array([0.9, 0.8, 0.7]), 40) == pytest.approx(0.0, abs=1e-12)  # no loss is promised
    steep = projected_gain(labels, np.array([0.0, 0.9, 0.999]), 40)
    assert 0 < steep <= 0.001 + 1e-9
    assert projected_gain(labels, np.ones(3), 40) == pytest.approx(0.0, abs=1e-12)
    assert projected_gain(labels, np.array([0.8, 0.9, 1.0]), 40) == 0.0  # nothing is left to gain


def test_projection_grows_with_the_labels_to_come():
    labels, scores = np.array([10.0, 20.0, 30.0]), np.array([0.6, 0.7, 0.75])
    gains = [projected_gain(labels, scores, 30, more) for more in (0, 10, 50, 500)]
    assert gains[0] == 0
    assert all(b > a for a, b in pairwise(gains))
    assert gains[-1] < 0.25 + 0.5 / 30


def test_parts_are_thirds_of_each_class_within_each_other():
    y = np.array([0] * 9 + [1] * 3 + [2])
    third, two_thirds = _thinned(y, np.arange(13), np.random.default_rng(0))
    assert np.bincount(y[third]).tolist() == [3, 1, 1]
    assert np.bincount(y[two_thirds]).tolist() == [6, 2, 1]
    assert set(third) <= set(two_thirds)


def test_more_labels_more_right_and_the_last_point_is_the_boards_own():
    board, features, folds = problem(labels=90, distance=1.3, learners=(LogisticRegression, GaussianNB))
    curve = learning_curve(board, [0, 1], features, folds, left=ample)
    points = curve["points"]
    assert [point["labels"] for point in points] == [24, 48, 72]
    assert points[-1]["estimate"] == pytest.approx(board.score(board.right([0, 1])))
    assert all(point["low"] < point["estimate"] < point["high"] for point in points)
    assert curve["more"] == MORE
    assert 0 <= curve["gain_low"] <= curve["gain"] <= curve["gain_high"] + 1e-9
    assert curve["gain_high"] < 1 - points[-1]["estimate"] + 0.01


def test_intervals_by_hand():
    board, features, folds = problem()
    found = learning_curve(board, [0], features, folds, left=ample, seed=5, worth=0.3)
    with ThreadPoolExecutor(1) as pool:
        correct, labels = _thinned_folds(board, [0], features, folds[:5], ample, 5, pool)
    rng, gains = np.random.default_rng(5), []
    for _ in range(200):
        drawn = rng.integers(60, size=60)
        gains.append(projected_gain(labels, correct[:, drawn].mean(1), 60))
    assert [found["gain_low"], found["gain_high"]] == pytest.approx(np.quantile(gains, [0.05, 0.95]).tolist())
    last = interval(correct[-1].mean(), np.full(60, 1 / 60), worth=0.3)
    assert found["points"][-1] == pytest.approx({"labels": 48, **asdict(last)})


def test_held_rows_are_never_trained_on():
    board, features, folds = problem(labels=30, learners=(Spy,))
    Spy.seen.clear()
    learning_curve(board, [0], features, folds, left=ample)
    assert len(Spy.seen) == 2 * 5  # one of the four repeats
    for number, fold in enumerate(folds[:5]):
        matrix = features.of(fold.train, fold.unlabelled)["table"]
        held = {tuple(row) for row in np.asarray(matrix[fold.held])}
        for seen in Spy.seen[2 * number : 2 * number + 2]:
            assert not held & {tuple(row) for row in seen}


def test_the_same_seed_gives_the_same_curve():
    given = problem(labels=45)
    curves = [learning_curve(given[0], [0], *given[1:], left=ample, seed=3) for _ in range(2)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("failure", [ValueError("odd"), MemoryError()])
def test_no_curve_where_it_cannot_be_had(failure):
    board, features, folds = problem(labels=60)
    with pytest.raises(Skipped, match=re.escape(NO_TIME)):
        learning_curve(board, [0], features, folds, left=lambda: -1.0)
    with pytest.raises(Skipped, match="cannot be trained"):
        learning_curve(failing(board, failure), [0], features, folds, left=ample)
    few = problem(labels=8, classes=4)  # one or two labels a class in training: a third is what two thirds are
    with pytest.raises(Skipped, match=re.escape(TOO_FEW)):
        learning_curve(few[0], [0], *few[1:], left=ample)


def test_there_is_no_curve_of_half_the_folds():
    board, features, folds = problem(labels=30)
    left = iter([1e9] * 4)  # for four of the first repeat's five folds
    with pytest.raises(Skipped, match=re.escape(NO_TIME)):
        learning_curve(board, [0], features, folds, left=lambda: next(left, -1.0))
    left = iter([1e9] * 5)
    assert isinstance(learning_curve(board, [0], features, folds, left=lambda: next(left, -1.0)), dict)
