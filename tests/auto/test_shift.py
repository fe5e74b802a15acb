from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from test_steady import board_with

from cotrain.auto import evidence
from cotrain.auto.candidates import candidates
from cotrain.auto.fit import fit
from cotrain.auto.shift import APART, Shift, find_shift, place_among

FAST = {"encoder": "none", "jobs": 1}
pytestmark = pytest.mark.usefixtures("hasty")


def split(n, m):
    return np.arange(n), np.arange(n, n + m)


def test_rows_of_one_source_stand_among_each_other():
    places = []
    for seed in range(12):
        x = np.random.default_rng(seed).normal(size=(440, 3))
        places.append(place_among(x, *split(40, 400), np.zeros(440, int), np.arange(440), seed))
    assert np.mean(places) == pytest.approx(0.5, abs=0.05)
    assert max(places) < APART


def test_it_is_the_area_under_the_roc_curve():
    """One class, and features that leave nothing to learn: the score is the feature itself, up to its sign."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(2.0, 1.0, 50), rng.normal(0.0, 1.0, 500)][:, None]
    known = np.arange(550) < 50
    found = place_among(x, *split(50, 500), np.zeros(550, int), np.arange(550))
    assert found == pytest.approx(roc_auc_score(known, x[:, 0]), abs=0.03)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_planted_shift_is_seen_in_any_feature(place):
    x = np.random.default_rng(place).normal(size=(440, 3))
    x[:40, place] += 3
    assert place_among(x, *split(40, 400), np.zeros(440, int), np.arange(440)) > 0.95


def test_labels_drawn_in_other_shares_than_the_classes_have_are_no_shift():
    """Half of the labels are of a class of one in twenty, which lies far off."""
    rng = np.random.default_rng(1)
    y = np.r_[np.arange(40) % 2, rng.random(800) < 0.05].astype(int)
    x = rng.normal(size=(840, 2)) + 5 * y[:, None]
    assert (
        place_among(x, *split(40, 800), np.zeros(840, int), np.arange(840)) > 0.7
    )  # blind to classes, it would be one
    assert place_among(x, *split(40, 800), y, np.arange(840)) == pytest.approx(0.5, abs=0.12)
    x[:40, 1] += 3
    assert place_among(x, *split(40, 800), y, np.arange(840)) > 0.9  # within the classes it is still seen


def test_units_are_never_on_both_sides():
    """Every group lies elsewhere, and has labelled or unlabelled rows only: what tells one tells nothing of others."""
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(40), 10)
    labelled = np.flatnonzero(unit < 10)
    x = 10 * rng.normal(size=(40, 30))[unit] + rng.normal(size=(400, 30))
    unlabelled = np.flatnonzero(unit >= 10)
    said = np.zeros(400, int)
    assert place_among(x, labelled, unlabelled, said, np.arange(400)) > 0.95
    assert place_among(x, labelled, unlabelled, said, unit) < APART


def test_topics_learnt_from_the_unlabelled_rows_do_not_make_the_labelled_ones_strangers():
    """Texts of one source, of many rare words: the topics of the unlabelled ones fit no others, labelled or not."""
    rng = np.random.default_rng(0)
    common = [f"w{n}" for n in range(4_000)]
    y = rng.integers(2, size=1_000)
    texts = [" ".join([*rng.choice(common, 12), *rng.choice(["sun", "ice"], 3, p=[0.8, 0.2] if c else [0.2, 0.8])])
             for c in y]  # fmt: skip
    table = pd.DataFrame({"text": texts, "label": pd.Series(y).astype(str).where(np.arange(1_000) < 60, None)})
    result = fit(table, target="label", text="text", method="logistic", **FAST)
    topics = next(c for c in result.report["candidates"] if c["name"] == "logistic regression, topics")
    assert topics["estimate"] is not None
    assert not result.report["shift"]["apart"]
    assert result.report["shift"]["place"] < 0.65


def test_labelled_rows_are_of_the_classes_that_are_said_out_of_fold():
    board, features, x = board_with(distance=0.7)
    y = features.y
    unit = np.arange(len(y))
    said = np.r_[board.together([0])[0].argmax(1), board.trials[0].unlabelled.argmax(1)]
    found = find_shift(SimpleNamespace(y=y, unit=unit), features, x, board, [0], 0)
    assert found.place == place_among(x["table"], *split(60, 100), said, unit)


def test_nothing_to_compare():
    x = np.random.default_rng(0).normal(size=(20, 2))
    labelled, unlabelled = split(10, 10)
    said = np.r_[np.zeros(10, int), np.ones(10, int)]  # no class has rows of both sorts
    assert np.isnan(place_among(x, labelled, unlabelled, said, np.arange(20)))
    assert np.isnan(place_among(x, labelled, unlabelled, np.full(20, -1), np.arange(20)))


@settings(max_examples=25)
@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 4), st.integers(0, 10**6))
def test_a_place_is_a_share_whatever_the_rows(n, m, classes, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + m, 2))
    found = place_among(x, *split(n, m), rng.integers(-1, classes, n + m), rng.integers(0, n + m, n + m), seed)
    assert np.isnan(found) or 0 <= found <= 1


def test_what_is_said():
    shift = Shift(0.93, 0.8)
    assert shift.apart
    assert not Shift(0.93, 0.956).apart
    used = shift.warning(True, False)
    assert "a classifier tells them apart (0.93, where 0.5 is chance" in used
    assert "--method supervised" in used
    assert "--group" in used
    assert "--method" not in shift.warning(False, False)
    assert "--group" not in shift.warning(True, True)


# In a fit


@pytest.fixture(scope="module")
def elsewhere():
    """A ring within a ring, which only all rows show; those with labels have another `age`."""
    rng = np.random.default_rng(0)
    y = np.arange(820) % 2
    angle = 2 * np.pi * rng.random(820)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) * (1 + 2 * y)[:, None]
    table = pd.DataFrame(ring + rng.normal(0, 0.1, (820, 2)), columns=["a", "b"])
    table["age"] = rng.normal(40, 1, 820) + 2.5 * (np.arange(820) < 20)
    table["kind"] = np.where(y, "x", "z").astype(object)
    table.loc[20:, "kind"] = None
    return table


def test_rows_from_elsewhere_are_warned_of_and_used(elsewhere, monkeypatch):
    names = {"logistic regression, table", "graph, table"}
    monkeypatch.setattr(evidence, "candidates", lambda views: [c for c in candidates(views) if c.name in names])
    other = fit(elsewhere, target="kind", **FAST).report
    assert other["shift"]["place"] > other["shift"]["bar"]
    assert other["shift"]["apart"]
    assert other["used_unlabelled"]
    assert sum("not like the unlabelled ones" in text for text in other["warnings"]) == 1
    few = elsewhere.assign(kind=elsewhere["kind"].where(elsewhere.index < 8))
    assert fit(few, target="kind", budget="0.001s", **FAST).report["shift"] is None
    usual = fit(elsewhere.drop(columns="age"), target="kind", **FAST).report
    assert usual["shift"]["place"] < 0.7
    assert not usual["shift"]["apart"]
    assert not any("not like the unlabelled ones" in text for text in usual["warnings"])


def test_trees_alone_do_not_tell(elsewhere):
    assert fit(elsewhere, target="kind", method="trees", budget="0.001s", **FAST).report["shift"] is None
