from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression

from cotrain.auto.candidates import Candidate
from cotrain.auto.choose import Board
from cotrain.auto.features import Features
from cotrain.auto.folds import make_folds
from cotrain.auto.lessons import NAME, lessons, surest
from cotrain.auto.trial import Trial, run_all, run_folds
from cotrain.views.table import ScaledView

MANY = 40  # columns of the sort that needs many rows


class Spy(LogisticRegression):
    """Keeps what it was trained on."""

    seen: list = []  # noqa: RUF012

    def fit(self, X, y, sample_weight=None):
        Spy.seen.append((np.asarray(X).copy(), np.asarray(y).copy()))
        return super().fit(X, y, sample_weight)


def ample() -> float:
    return 1e9


def problem(labels=40, unlabelled=400, modalities=("sharp", "wide"), make=LogisticRegression, seed=0):
    """A column that tells the classes apart, and many of which each tells a little: `given` as `lessons` takes it, and
    the true classes of all rows."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(labels + unlabelled) % 2)
    sharp = rng.normal(size=len(y)) + 3.0 * y
    wide = rng.normal(size=(len(y), MANY)) + 0.4 * y[:, None]
    frame = pd.DataFrame({"sharp": sharp, **{f"w{n}": wide[:, n] for n in range(MANY)}})
    codes = np.where(np.arange(len(y)) < labels, y, -1)
    views = {"sharp": ScaledView(("sharp",)), "wide": ScaledView(tuple(f"w{n}" for n in range(MANY)))}
    features = Features(views, frame, codes)
    folds = make_folds(codes, features.unlabelled, np.arange(len(y)), np.arange(len(y)), False, seed)
    shape = (1 + max(fold.repeat for fold in folds), labels, 2)
    trials = [
        Trial(
            Candidate(f"learner, {name}", (name,), False, lambda _: make(C=0.1), name, modality=modality),
            np.full(shape, np.nan),
        )
        for name, modality in zip(views, modalities, strict=True)
    ]
    prior = np.array([0.5, 0.5])
    with ThreadPoolExecutor(1) as pool:
        run_folds(trials, features, folds, prior, pool)
        run_all(trials, features, prior, pool)
    board = Board(trials, codes[:labels], np.arange(labels), prior, np.full(labels, 1 / labels))
    return (board, board.choose(), features, folds), y


def test_a_sort_of_columns_that_needs_many_rows_learns_from_another():
    (board, *given), y = problem()
    taught = lessons(board, *given, ample)
    assert [trial.candidate.name for trial in taught] == [f"learner, sharp, {NAME}", f"learner, wide, {NAME}"]
    assert [trial.candidate.modality for trial in taught] == ["sharp", "wide"]
    assert all(trial.candidate.unlabelled for trial in taught)
    after = Board([*board.trials, *taught], board.y, board.unit, board.decision, board.value)
    assert after.score(after.correct[3]) > after.score(after.correct[1])
    found = [np.mean(t.unlabelled.argmax(1) == y[40:]) for t in (board.trials[1], taught[1])]
    assert found[0] < 0.8
    assert found[1] > found[0] + 0.05
    choice = after.choose()
    assert choice.members == [2, 3]
    assert choice.supervised == [0, 1]
    assert choice.used_unlabelled
    assert choice.accepted == [True, True, True, True]
    assert "by those taught" in choice.reasons[3]
    assert after.choose(unlabelled=False).members == [0, 1]


def test_what_pupils_say_of_the_unlabelled_rows_is_kept():
    (board, choice, features, folds), y = problem()
    for trial in lessons(board, choice, features, folds, ample):
        assert trial.unlabelled.shape == (len(features.unlabelled), 2)
        assert (trial.unlabelled.argmax(1) == y[features.unlabelled]).mean() > 0.85
        assert trial.folds == 5
        assert trial.estimator is not None
        assert trial.seconds > 0


def test_held_rows_teach_nobody():
    (board, choice, features, folds), _ = problem(make=Spy)
    Spy.seen = []
    lessons(board, choice, features, folds, ample)
    one = [fold for fold in folds if fold.repeat == 0]
    assert len(Spy.seen) == 4 * len(one) + 2  # two teachers and two pupils; what the teachers say in the end is known
    for number, fold in enumerate(one):
        matrices = features.of(fold.train, fold.unlabelled)
        held = {name: {row.tobytes() for row in matrices[name][fold.held]} for name in matrices}
        for x, _ in Spy.seen[4 * number : 4 * number + 4]:
            name = "sharp" if x.shape[1] == matrices["sharp"].shape[1] else "wide"
            assert not held[name] & {row.tobytes() for row in x}
    sizes = [len(x) for x, _ in Spy.seen[:4]]
    assert sizes == [32, 32, 432, 432]


def test_labelled_rows_keep_their_label():
    (board, choice, features, folds), _ = problem(make=Spy)
    Spy.seen = []
    lessons(board, choice, features, folds, ample)
    _, y = Spy.seen[-1]
    np.testing.assert_array_equal(y[:40], features.y[:40])
    assert set(np.unique(y)) == {0, 1}


def test_learners_on_one_sort_teach_what_they_are_surest_of_and_stand_beside_those_taught():
    (board, choice, features, folds), y = problem(modalities=("numbers", "numbers"), make=Spy)
    Spy.seen = []
    taught = lessons(board, choice, features, folds, ample)
    assert Spy.seen
    assert {len(y) for _, y in Spy.seen[: -len(taught)]} <= {32, 352, 353}  # of 400 rows, all but a fifth of each class
    voice = board.of_unlabelled(choice.members)
    kept = surest(voice)
    assert (voice.argmax(1) == y[40:])[kept].mean() > (voice.argmax(1) == y[40:])[~kept].mean() + 0.1
    np.testing.assert_array_equal(Spy.seen[-1][1][40:], voice.argmax(1)[kept])
    after = Board([*board.trials, *taught], board.y, board.unit, board.decision, board.value)
    without, found = after.choose(unlabelled=False), after.choose()
    pupils = [len(board.trials) + m for m in range(len(taught))]
    assert without.members == choice.supervised
    assert after.gain(after.right([*without.members, *pupils]), after.right(without.members))[0] >= 0
    assert found.members == [*without.members, *pupils]
    assert found.used_unlabelled


def test_those_taught_by_one_sort_stay_out_where_the_committee_loses_by_them():
    (board, choice, features, folds), _ = problem(modalities=("numbers", "numbers"))
    taught = lessons(board, choice, features, folds, ample)
    for trial in taught:
        trial.probability = trial.probability[..., ::-1]
    after = Board([*board.trials, *taught], board.y, board.unit, board.decision, board.value)
    found = after.choose()
    assert found.members == choice.members
    assert not any(found.accepted[len(board.trials) :])
    assert "loses" in found.reasons[-1]


def test_the_surest_rows_of_each_class():
    lead = np.array([0.9, 0.8, 0.7, 0.6, 0.1, 0.5, 0.4, 0.3, 0.05, 0.2])
    first = np.repeat([True, False], 5)
    weight = np.where(first, (1 + lead) / 2, (1 - lead) / 2)
    rows = 3.0 * np.stack([weight, 1 - weight], axis=1)
    np.testing.assert_array_equal(np.flatnonzero(~surest(rows)), [4, 8])
    assert surest(rows[[0, 5, 6]]).all()  # a fifth of a row is none


@pytest.mark.parametrize("case", ["a sort that is not heard", "no time", "no unlabelled rows"])
def test_where_there_is_nothing_to_teach_nobody_is_taught(case):
    (board, choice, *given), _ = problem(unlabelled=0 if case == "no unlabelled rows" else 400)
    if case == "a sort that is not heard":
        choice = replace(choice, members=[0])
    assert lessons(board, choice, *given, (lambda: -1.0) if case == "no time" else ample) == []


def test_time_that_ends_on_the_way_leaves_nothing():
    given, _ = problem()
    left = iter([1e9] * 5)  # all folds, but not the last training
    assert lessons(*given, lambda: next(left, -1.0)) == []
    given[0].choose()  # the board is as it was


def test_pupils_have_fewer_trees_than_learners_on_a_handful_of_labels():
    (board, *given), _ = problem(make=lambda C: ExtraTreesClassifier(150, random_state=0))
    taught = lessons(board, *given, ample)
    assert [len(trial.estimator.estimators_) for trial in taught] == [100, 100]
    assert [len(trial.estimator.estimators_) for trial in board.trials] == [150, 150]


def test_lessons_that_will_not_fit_their_time_are_not_begun():
    (board, *given), _ = problem(make=Spy)
    for trial in board.trials:
        trial.seconds = 10.0 * (trial.folds + 1)
    Spy.seen = []
    assert lessons(board, *given, lambda: 139.0) == []  # two learners; five folds, and all rows take two more
    assert not Spy.seen
    assert lessons(board, *given, lambda: 141.0)
    assert lessons(board, *given, lambda: 71.0, jobs=2)


def test_a_learner_that_cannot_be_taught_stops_nobody():
    class Refusing(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            if len(y) > 100:
                raise ValueError("too many rows for me")
            return super().fit(X, y, sample_weight)

    given, _ = problem(make=Refusing)
    assert lessons(*given, ample) == []
