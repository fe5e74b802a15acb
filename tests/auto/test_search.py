import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from cotrain.auto import search as module
from cotrain.auto.candidates import STYLE, Candidate
from cotrain.auto.features import Features
from cotrain.auto.folds import make_folds
from cotrain.auto.search import Clock, search
from cotrain.auto.trial import Trial, even, some, train, train_and_ask
from cotrain.views.view import View

VIEWS: dict[int, set[int]] = {}  # rows on which each spy view was fitted


class SpyView(View):
    """The row's number and which fit of the view it went through."""

    def extract(self, frame):
        return frame["number"].to_numpy(dtype=np.float64)[:, None]

    def fit(self, raw):
        self.learned = {"me": np.array(len(VIEWS))}
        VIEWS[len(VIEWS)] = {int(row) for row in raw[:, 0]}
        return self

    def transform(self, raw):
        return np.hstack([raw, np.full((len(raw), 1), float(self.learned["me"]))])


class SpyLearner:
    """Says which row it was asked for, and fails if that row was ever seen in a fit."""

    def __init__(self, y, asked):
        self.y, self.asked = y, asked

    def fit(self, x, y):
        self.seen = {int(row) for row in x[:, 0]}
        self.view = VIEWS[int(x[0, 1])]
        self.classes_ = np.unique(y[y >= 0])
        np.testing.assert_array_equal(y, self.y[x[:, 0].astype(int)])
        return self

    def predict_proba(self, x):
        rows = x[:, 0].astype(int)
        assert int(x[0, 1]) in VIEWS
        held = {int(row) for row in rows if self.y[row] >= 0}
        assert not held & self.seen, "a held-out row was learnt from"
        assert not held & self.view, "a view was fitted on a held-out row"
        self.asked.update(held)
        return np.full((len(rows), len(self.classes_)), 1 / len(self.classes_))


def problem(labelled=20, unlabelled=40, classes=2):
    rows = labelled + unlabelled
    y = np.where(np.arange(rows) < labelled, np.arange(rows) % classes, -1)
    return pd.DataFrame({"number": np.arange(rows)}), y


def run(candidates, labelled=20, unlabelled=40, budget=60.0, jobs=2, unit=None, grouped=False, view=SpyView):
    frame, y = problem(labelled, unlabelled)
    features = Features({"spy": view(["number"])}, frame, y)
    unit = np.arange(len(y)) if unit is None else unit
    folds = make_folds(y, features.unlabelled, unit, np.arange(len(y)), grouped, 0)
    said: list[str] = []
    clock = Clock(budget)
    trials = search(candidates(y), features, folds, np.full(2, 0.5), clock, jobs, said.append)
    return trials, said, folds, clock


@pytest.mark.parametrize("unlabelled", [0, 40, 200])
@pytest.mark.parametrize("grouped", [False, True])
def test_held_out_rows_are_never_in_any_fit(unlabelled, grouped):
    asked: set[int] = set()
    unit = np.arange(20 + unlabelled) // 2
    trials, said, *_ = run(
        lambda y: [
            Candidate("on labels", ("spy",), False, lambda _: SpyLearner(y, asked)),
            Candidate("on all rows", ("spy",), True, lambda _: SpyLearner(y, asked)),
        ],
        unlabelled=unlabelled,
        unit=unit,
        grouped=grouped,
    )
    assert [trial.dropped for trial in trials] == ["", ""]
    assert asked == set(range(20))
    assert not said


def test_supervised_learners_never_see_an_unlabelled_row_and_the_others_see_all():
    seen: dict[str, list[set[int]]] = {"labels": [], "all": []}

    class Learner(SpyLearner):
        def fit(self, x, y):
            super().fit(x, y)
            seen[self.name].append(self.seen)
            return self

    def make(y, name):
        learner = Learner(y, set())
        learner.name = name
        return learner

    run(
        lambda y: [
            Candidate("a", ("spy",), False, lambda _: make(y, "labels")),
            Candidate("b", ("spy",), True, lambda _: make(y, "all")),
        ]
    )
    assert all(rows <= set(range(20)) for rows in seen["labels"])
    assert all(set(range(20, 60)) <= rows for rows in seen["all"])
    assert seen["labels"][-1] == set(range(20))  # the last fit is on all rows
    assert seen["all"][-1] == set(range(60))


class Constant:
    """Gives everybody the same probabilities, after some time."""

    def __init__(self, seconds=0.0, share=0.5):
        self.seconds, self.share = seconds, share

    def fit(self, x, y):
        begun = time.thread_time()
        while time.thread_time() - begun < self.seconds:
            pass
        self.classes_ = np.unique(y[y >= 0])
        return self

    def predict_proba(self, x):
        return np.tile([self.share, 1 - self.share], (len(x), 1))


def constant(name, unlabelled, seconds=0.0, share=0.5):
    return Candidate(name, ("spy",), unlabelled, lambda _: Constant(seconds, share))


def test_every_labelled_row_gets_a_prediction_in_every_repeat():
    (trial,), *_ = run(lambda y: [constant("a", False, share=0.8)])
    assert trial.probability.shape == (4, 20, 2)
    np.testing.assert_allclose(trial.probability, np.broadcast_to([0.8, 0.2], (4, 20, 2)), rtol=1e-6)
    np.testing.assert_allclose(trial.unlabelled, np.broadcast_to([0.8, 0.2], (40, 2)), rtol=1e-6)
    assert trial.folds == 20


def test_a_learner_that_fails_is_given_up_with_the_reason_and_the_others_go_on():
    class Broken(Constant):
        def fit(self, x, y):
            raise ValueError("no such luck")

    class Huge(Constant):
        def fit(self, x, y):
            raise MemoryError("too large")

    trials, *_ = run(
        lambda y: [
            constant("a", False),
            Candidate("b", ("spy",), False, lambda _: Broken()),
            constant("c", True),
            Candidate("d", ("spy",), True, lambda _: Huge()),
        ]
    )
    failed = ["failed: ValueError: no such luck", "failed: MemoryError: too large"]
    assert [trial.dropped for trial in trials] == ["", failed[0], "", failed[1]]
    assert [trial.estimator is not None for trial in trials] == [True, False, True, False]


class Knows:
    """Says the true class of each row or, where it is not `right`, the other; `fits` notes its rows in each fit."""

    def __init__(self, y, right=True, fits=None):
        self.y, self.right, self.fits = y, right, fits

    def fit(self, x, y):
        if self.fits is not None:
            self.fits.append(len(y))
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, x):
        said = self.y[x[:, 0].astype(int)].clip(0)
        return np.where(np.eye(2)[said if self.right else 1 - said], 0.9, 0.1)


def test_learners_on_unlabelled_rows_come_in_the_order_of_how_their_kinds_did_on_labels():
    order = []

    def candidates(y):
        def make(unlabelled, kind):
            if unlabelled:
                order.append(kind)
            return Knows(y, kind == "good")

        return [
            Candidate(f"{kind} {unlabelled}", ("spy",), unlabelled, lambda _, u=unlabelled, k=kind: make(u, k), kind)
            for unlabelled in (False, True)
            for kind in ("poor", "good")
        ]

    run(candidates, jobs=1)
    assert order[0] == "good"


def test_of_the_unlabelled_rows_a_learner_gets_its_most_for_the_result_and_half_of_them_in_a_fold():
    fits: list[int] = []
    run(lambda y: [Candidate("a", ("spy",), True, lambda _: Knows(y, fits=fits), most=30)], unlabelled=40, jobs=1)
    assert set(fits[:-1]) == {16 + 15}
    assert fits[-1] == 20 + 30
    with_few = Candidate("b", ("v",), True, lambda _: Knows(np.zeros(54, int), fits=fits), most=10)
    for whole in (False, True):
        train(with_few, {"v": np.zeros((54, 1))}, np.zeros(54), np.arange(4), np.arange(4, 54), np.full(2, 0.5), whole)
    assert fits[-2:] == [4 + 5, 4 + 10]
    assert some(np.arange(100), 3).tolist() == [0, 49, 99]


class Says:
    """Gives every row these probabilities of these classes."""

    def __init__(self, probability, classes=(0, 1), **attributes):
        self.probability, self.classes_ = np.array(probability), np.array(classes)
        vars(self).update(attributes)

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return np.tile(self.probability, (len(x), 1))


@pytest.mark.parametrize(
    ("learner", "expected"),
    [
        (Says([0.3, 0.7], classes=[0, 2]), [0.3, 0, 0.7]),  # it never saw the class between
        (Says([0.8, 0.1, 0.1], [0, 1, 2], class_log_prior_=np.log([0.8, 0.1, 0.1])), [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_what_is_said_is_restated_for_equal_shares_of_all_classes(learner, expected):
    np.testing.assert_allclose(even(learner, np.zeros((1, 1)), 3), [expected], atol=1e-8)


def test_answers_come_in_the_order_of_those_who_were_asked_however_long_they_take():
    class Matrices(dict):
        def make(self, names, pool):
            pass

    trials = [
        Trial(
            Candidate("", ("v",), False, lambda _, share=share: Says([share, 1 - share])), np.zeros(0), seconds=seconds
        )
        for share, seconds in ((0.9, 1.0), (0.2, 5.0))
    ]
    rows, none, y = np.arange(4), np.arange(0), np.arange(4) % 2
    with ThreadPoolExecutor(1) as pool:
        said = train_and_ask(trials, Matrices(v=np.zeros((4, 1))), y, rows, none, rows, np.full(2, 0.5), pool)
    assert [share[0, 0] for share in said] == [pytest.approx(0.9), pytest.approx(0.2)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_smallest_budget_still_gives_a_supervised_learner(jobs):
    trials, *_ = run(
        lambda y: [constant("a", False, 0.02), constant("b", True), constant("c", False)], budget=1e-9, jobs=jobs
    )
    done = [trial for trial in trials if trial.estimator is not None]
    assert any(not trial.candidate.unlabelled for trial in done)
    assert all(trial.dropped for trial in trials if trial not in done)


def test_what_is_too_slow_for_the_budget_is_dropped_and_said():
    trials, *_ = run(
        lambda y: [constant("a", False), constant("b", False, 0.2), constant("c", True)], budget=2.0, jobs=1
    )
    assert [bool(trial.dropped) for trial in trials] == [False, True, False]
    assert "no time was left for it" in trials[1].dropped


def test_three_learners_begin_however_late_it_is():
    trials, *_ = run(lambda y: [constant(name, False) for name in "abcd"], budget=1e-9, jobs=1)
    assert [trial.folds for trial in trials] == [1, 1, 1, 0]
    assert trials[3].dropped == "the time budget had ended"


def test_where_no_time_is_left_after_a_fold_three_quick_learners_stay_and_those_on_style_go_first():
    def trials(*seconds, unlabelled=False):
        nothing = np.full((1, 4, 2), np.nan)
        made = [Trial(constant(f"{s}", unlabelled), nothing, seconds=9.0, work=s) for s in seconds]
        return [Trial(Candidate("style", ("spy",), unlabelled, Constant, STYLE), nothing, work=0.01), *made]

    def kept(running, last):
        module._drop(running, 1.0, 10, -1.0, last)
        return [trial.candidate.name for trial in running if not trial.dropped]

    assert kept(trials(0.4, 0.1, 0.2, 0.3), last=1.0) == ["0.1", "0.2", "0.3"]
    assert kept(trials(0.4, 0.1, 0.2, 0.3), last=0.35) == ["0.1", "0.2"]  # their last fits take 0.3 s
    assert kept(trials(0.1, 0.2, unlabelled=True), last=1.0) == ["0.1"]


def test_a_machine_that_stood_still_once_gives_no_learner_up():
    """Of five learners the first fold of one took 50 times as long as the processor worked on it, the others twice."""
    nothing = np.full((1, 4, 2), np.nan)
    ratios = (2, 50, 2, 2, 2)
    trials = [Trial(constant(f"{r}", False), nothing, seconds=0.1 * r, work=0.1) for r in ratios]
    assert module._slowness(trials) == 2
    module._drop(trials, 2.0, 10, 10.0, 0.0)
    assert not any(trial.dropped for trial in trials)
    assert module._slowness([Trial(constant("a", False), nothing, seconds=0.01)]) == 1


def test_folds_are_left_out_when_time_is_up():
    trials, said, *_ = run(lambda y: [constant("a", False, 0.05)], budget=0.5, jobs=1)
    assert 1 <= trials[0].folds < 20
    assert any("The time budget ended after" in text for text in said)
    assert trials[0].estimator is not None


def test_the_number_of_threads_changes_nothing():
    from sklearn.naive_bayes import GaussianNB

    def candidates(y):
        return [Candidate(name, ("spy",), False, lambda _: GaussianNB()) for name in "ab"]

    one, two = (run(candidates, jobs=jobs, unlabelled=200)[0] for jobs in (1, 2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first.probability, second.probability)


def test_a_learner_alone_runs_on_two_folds_at_a_time_after_the_first():
    meeting, fits = threading.Barrier(2, timeout=20), []

    class Meeting(Constant):
        def fit(self, x, y):
            fits.append(1)
            if 1 < len(fits) <= 19:  # of twenty folds; the first shows how long one takes
                meeting.wait()
            return super().fit(x, y)

    (trial,), *_ = run(lambda y: [Candidate("a", ("spy",), False, lambda _: Meeting())], jobs=2)
    assert (trial.folds, trial.dropped) == (20, "")


def interrupting(after):
    """A learner at whose `after`-th fit the user presses Ctrl-C."""
    fits = []

    class Pressed(Constant):
        def fit(self, x, y):
            fits.append(1)
            if len(fits) == after:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)
            return super().fit(x, y)

    return Pressed


def test_an_interrupt_keeps_the_folds_that_were_finished():
    pressed = interrupting(after=8)
    trials, said, folds, clock = run(
        lambda y: [Candidate("a", ("spy",), False, lambda _: pressed()), constant("b", False)], jobs=1
    )
    assert trials[0].folds == trials[1].folds == 7
    broken = folds[7]
    for trial in trials:
        assert np.isnan(trial.probability[broken.repeat, broken.held]).all()
        assert not np.isnan(trial.probability[0]).any()  # the first repeat was complete
        assert trial.estimator is not None
    assert any("Stopped by you" in text for text in said)
    assert clock.finishing


def test_an_interrupt_while_folds_run_side_by_side_leaves_none_of_them():
    pressed = interrupting(after=3)
    (trial,), _, folds, _ = run(lambda y: [Candidate("a", ("spy",), False, lambda _: pressed())], jobs=1)
    assert trial.folds == 1
    assert not np.isnan(trial.probability[folds[0].repeat, folds[0].held]).any()
    assert np.isnan(trial.probability).all(2).sum() == 80 - len(folds[0].held)


def test_an_interrupt_before_any_fold_is_done_ends_the_program():
    pressed = interrupting(after=1)
    with pytest.raises(KeyboardInterrupt):
        run(lambda y: [Candidate("a", ("spy",), False, lambda _: pressed())], jobs=1)


def test_learners_on_unlabelled_rows_whose_first_fold_is_interrupted_are_given_up():
    pressed = interrupting(after=1)
    trials, _, _, clock = run(
        lambda y: [constant("a", False), Candidate("b", ("spy",), True, lambda _: pressed())], jobs=1
    )
    assert clock.stopped
    assert (trials[1].folds, trials[1].estimator) == (0, None)
    assert trials[0].estimator is not None


def test_while_the_result_is_finished_the_first_interrupt_only_ends_the_budget():
    clock, said = Clock(60.0), []
    with clock.interruptible(said.append):
        clock.finishing = True
        os.kill(os.getpid(), signal.SIGINT)
        assert clock.left() <= 0
        assert said == ["Stopped by you after the trials; what was left to do got the least time."]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_before_that_an_interrupt_is_an_interrupt():
    with Clock(60.0).interruptible(print), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_in_another_thread_signals_are_left_alone():
    found = []

    def work():
        with Clock(60.0).interruptible(print):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_the_clock_counts_down():
    clock = Clock(10.0)
    assert 9.5 < clock.left() <= 10.0
    assert clock.left(0.6) == pytest.approx(6.0, abs=0.5)
    assert clock.end(0.5) == pytest.approx(module.time.perf_counter() + 5.0, abs=0.5)


def test_a_slot_is_a_share_and_never_more_than_a_part_of_what_is_left():
    clock = Clock(1_000.0)
    assert clock.slot(0.1)() == pytest.approx(100, abs=1)
    assert clock.slot(0.9)() == pytest.approx(500, abs=1)
    assert clock.slot(0.9, 0.2)() == pytest.approx(200, abs=1)
    left = clock.slot(0.1)
    clock.start -= 60  # a minute goes by
    assert left() == pytest.approx(40, abs=1)
    clock.budget = clock.spent  # the user ends it
    assert left() <= 0
    assert clock.slot(0.1)() <= 0
