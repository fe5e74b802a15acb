"""Which learners have a say."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_choose import board
from test_choose import trial as judged

from cotrain.auto import evidence
from cotrain.auto.candidates import STYLE, Candidate
from cotrain.auto.evidence import _metric, after_lessons, decide, may_ask, only, pick, weigh
from cotrain.auto.fit import fit
from cotrain.auto.trial import Trial

Y = np.arange(40) % 2
PROBLEM = SimpleNamespace(y=Y, labelled=np.arange(40), unit=np.arange(40), audit=SimpleNamespace(classes=["a", "b"]))


def trial(right, kind, unlabelled=False, modality="texts"):
    """A learner that is right on so many of the 40 rows, of both classes alike."""
    own = np.where(np.arange(40) < right, 0.8, 0.2)
    probability = np.stack([np.where(c == Y, own, 1 - own) for c in (0, 1)], -1)[None]
    candidate = Candidate(f"{kind} {right}", ("view",), unlabelled, lambda _: None, kind, modality=modality)
    return Trial(candidate, probability, estimator=True, unlabelled=probability[0])


def seen(*trials):
    return weigh(list(trials), PROBLEM, True, "auto", "accuracy", [])


@pytest.mark.parametrize(
    ("words", "style", "heard"),
    [
        (30, 30, True),
        (30, 29, False),  # what the texts say is the better bet
        (24, 26, False),  # no more than chance, surely
        (24, 28, True),
    ],
)
def test_style_is_heard_where_it_shows_something_and_as_much_as_words(words, style, heard):
    trials = [trial(words, "words"), trial(20, STYLE), trial(style, STYLE), trial(36, STYLE, unlabelled=True)]
    found = seen(*trials)
    assert [bool(t.silent) for t in found.board.trials] == [False, *[not heard] * 3]
    assert found.board.parts == [list(range(4)) if heard else [0]]
    choice = found.board.choose()
    if not heard:
        assert (choice.members, choice.supervised) == ([0], [0])
        assert choice.reasons[1:] == ["how the texts are written tells too little"] * 3
        assert set(found.board.heard) == {0}
        assert only(found.board, choice, {trials[2].candidate.name}).members == [0]


def test_style_is_measured_against_the_best_on_words():
    assert seen(trial(20, "words"), trial(34, "words"), trial(30, STYLE)).board.trials[2].silent


def told(right, **settings):
    """A learner that is right on these rows, and nearly sure."""
    made, own = trial(20, "words", **settings), np.where(right, 0.95, 0.05)
    probability = np.stack([np.where(c == Y, own, 1 - own) for c in (0, 1)], -1)
    return replace(made, probability=probability[None], unlabelled=probability.copy())


def test_judged_rows_stand_for_the_others_of_their_class():
    """All rows of one class were held out and told, ten of twenty of the other, and eight of these told."""
    one = told((Y == 0) | (np.arange(40) < 16))
    one.probability[0, (Y == 1) & (np.arange(40) >= 20)] = np.nan
    board = seen(one).board
    assert board.estimate(board.correct[0]) == pytest.approx(0.9, abs=0.01)


def test_learners_are_chosen_for_the_shares_that_were_given():
    """One tells all rows of a class and 60 % of the other, one 80 % and all."""
    place = np.arange(40) // 2
    trials = [told((Y == 0) | (place < 12)), told((Y == 1) | (place < 16), unlabelled=True)]
    given = weigh(trials, PROBLEM, True, "a:0.7,b:0.3", "accuracy", []).board
    even = weigh(trials, PROBLEM, True, "uniform", "accuracy", []).board
    assert given.gain(given.correct[1], given.correct[0])[0] == pytest.approx(0.86 - 0.88)
    assert even.gain(even.correct[1], even.correct[0])[0] == pytest.approx(0.9 - 0.8)
    assert given.surely_better([1], [0]) < 0.5 < even.surely_better([1], [0])


def test_it_is_compared_with_learners_on_texts_alone():
    numbers = trial(40, "table", modality="numbers and categories")
    found = seen(numbers, trial(24, "words"), trial(30, STYLE))
    assert not any(t.silent for t in found.board.trials)
    assert found.board.parts == [[0], [1, 2]]


def test_texts_and_sounds_are_judged_apart():
    loud = trial(24, STYLE, modality="'clip'")
    found = seen(trial(24, "words"), trial(30, STYLE), trial(30, "sound", modality="'clip'"), loud)
    assert [bool(t.silent) for t in found.board.trials] == [False, False, False, True]
    assert loud.silent == "how loud the sounds are tells too little"


def test_where_nothing_else_was_tried_style_has_its_say():
    found = seen(trial(20, STYLE), trial(20, STYLE, unlabelled=True))
    assert not any(t.silent for t in found.board.trials)


def test_a_class_is_rare_only_where_another_is_common():
    assert _metric("auto", np.array([0.1, 0.9])) == "balanced accuracy"
    assert _metric("auto", np.array([0.3, 0.7])) == "accuracy"
    assert _metric("auto", np.array([0.04, *[0.96 / 9] * 9])) == "accuracy"
    assert _metric("auto", np.array([0.2, 0.2, 0.6])) == "accuracy"  # a third would be even: common, but none rare


def test_shares_that_are_given_decide_what_counts():
    assert weigh([trial(24, "words")], PROBLEM, True, "a:0.1,b:0.9", "auto", []).metric == "balanced accuracy"


@pytest.mark.parametrize(("unlabelled", "enough"), [(29, False), (30, True)])
def test_three_unlabelled_rows_for_each_labelled_one_are_enough(unlabelled, enough):
    problem, warnings = SimpleNamespace(labelled=np.arange(10), without_label=unlabelled), []
    assert may_ask(problem, warnings) is enough
    assert bool(warnings) is not enough


def test_beside_a_method_on_unlabelled_rows_those_on_labelled_rows_are_tried(monkeypatch):
    em, logistic = (Candidate(name, ("v",), name == "em", lambda _: None) for name in ("em", "logistic"))
    monkeypatch.setattr(evidence, "named", lambda views: {"emnb": [em], "supervised": [logistic]})
    assert pick(None, "emnb") == ([em, logistic], {"em"})


@pytest.mark.parametrize(("rows", "wrong", "alone"), [(40, 0, False), (200, 0, True), (4_000, 100, False)])
def test_where_the_supervised_result_is_surely_perfect_the_unlabelled_rows_are_left_alone(rows, wrong, alone):
    y, warnings = np.arange(rows) % 2, []
    found = board([judged(np.arange(rows) >= wrong, y), judged(np.ones(rows), y, unlabelled=True)], y)
    assert found.choose().used_unlabelled
    assert decide(found, True, warnings).used_unlabelled is not alone
    assert bool(warnings) is alone


@pytest.mark.parametrize(("right", "asked"), [(24, False), (36, True)])
def test_a_poor_committee_is_not_asked_for_the_shares(right, asked):
    source = seen(trial(right, "words")).prior.source
    assert source.startswith("the labelled rows, drawn to equal shares") is not asked


def test_learners_on_unlabelled_rows_without_a_say_are_not_asked_for_the_shares_either():
    trials = [told(np.arange(40) < 24), told(np.ones(40, bool), unlabelled=True)]
    source = weigh(trials, PROBLEM, False, "auto", "accuracy", []).prior.source
    assert source.startswith("the labelled rows, drawn to equal shares")


@pytest.mark.parametrize(
    ("right", "modality", "asked", "taught"),
    [
        (30, "numbers", True, True),
        (30, "texts", True, False),
        (40, "numbers", True, False),
        (30, "numbers", False, False),
    ],
)
def test_who_is_taught_by_the_committee(monkeypatch, right, modality, asked, taught):
    """Not learners on texts alone, nor where nothing is to gain, nor where the unlabelled rows have no say."""
    pupil = trial(right, "numbers", unlabelled=True, modality=modality)
    pupil = replace(pupil, candidate=replace(pupil.candidate, taught=True))
    monkeypatch.setattr(evidence, "lessons", lambda *_: [pupil])
    monkeypatch.setattr(evidence, "GOOD", 0.9)
    monkeypatch.setattr(evidence, "SURELY_GOOD", 0.8)
    before = seen(trial(right, "numbers", modality=modality))
    clock = SimpleNamespace(slot=lambda *_: None)
    setup = SimpleNamespace(use_unlabelled=asked, clock=clock, problem=PROBLEM, prior="auto", features=None, jobs=1)
    after = after_lessons(setup, before)
    if taught:
        assert after.first is before
        assert after.board.trials[-1] is pupil
    else:
        assert after is before


def test_what_is_told_by_style_alone_is_found_and_taught_on():
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(300)]

    def texts(rows):
        loud = np.arange(rows) % 2 == 1
        said = [" ".join(rng.choice(words, 12)) for _ in range(rows)]
        return [text.upper() if up else text for text, up in zip(said, loud)], np.where(loud, "loud", "calm")

    said, labels = texts(120)
    table = pd.DataFrame({"said": said, "how": np.where(np.arange(120) < 24, labels, "")})
    result = fit(table, target="how", text="said", method="logistic", encoder="none", jobs=1)
    assert result.report["chosen"]["members"] == ["logistic regression, style"]
    said, labels = texts(60)
    for knows in (result.model, result.student):
        assert (knows.predict(pd.DataFrame({"said": said})) == labels).mean() > 0.95
