"""From a table to a problem: groups that the names of sounds show."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from cotrain.auto.problem import load

SPEAKERS = ("ann", "bob", "cid", "dora")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    rows = []
    for number in range(48):
        name = f"{SPEAKERS[number % 4]}_{number // 4:02}.wav"
        soundfile.write(folder / name, 0.1 * np.sin(np.arange(800) * (0.1 + 0.01 * number)), 8_000)
        rows.append(
            {"file": name, "room": ["left", "right", "hall"][number % 3], "label": ["low", "high"][number // 24]}
        )
    return folder, pd.DataFrame(rows)


def loaded(sounds, change=lambda table: table, **settings):
    folder, table = sounds
    change(table.copy()).to_csv(folder / "labels.csv", index=False)
    return load(folder, target="label", audio="file", **settings)


def test_sounds_of_a_speaker_stay_together(sounds):
    problem = loaded(sounds)
    speaker = problem.frame["file"].str.split("_").str[0]
    assert problem.grouped
    assert len(np.unique(problem.unit)) == 4
    assert (pd.DataFrame({"who": speaker, "unit": problem.unit}).groupby("who")["unit"].nunique() == 1).all()
    told = [
        warning for warning in problem.audit.warnings if "The file names in" in warning or "The names in" in warning
    ]
    assert len(told) == 1  # not also as a hint
    assert "share a part with 4 values (such as ann, bob, cid); taken for speakers" in told[0]


def test_rows_that_repeat_by_nature_are_dealt_out_by_content_not_by_their_places():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 2, (200, 3)), columns=list("abc")).astype(str)
    table["kind"] = np.where(np.arange(200) % 4, None, np.where(table.a == "1", "x", "y"))
    one, other = (load(each, target="kind") for each in (table, table.sample(frac=1, random_state=1)))
    assert len(np.unique(one.unit)) == 200  # no copies
    np.testing.assert_array_equal(one.unit, other.unit)
    pd.testing.assert_frame_equal(one.frame, other.frame)


def test_rows_without_a_group_are_said():
    kind = ["p", "q", None] * 20
    table = pd.DataFrame({"x": np.arange(60) / 7, "site": ["a", "b", None, "b"] * 15, "kind": kind})
    said = load(table, target="kind", group="site").audit.warnings
    assert "15 rows say nothing in 'site'; they are taken for one group." in said


def test_a_group_that_is_named_goes_before_one_that_is_guessed(sounds):
    problem = loaded(sounds, group="room")
    assert problem.grouped
    assert len(np.unique(problem.unit)) == 3
    assert not any("taken for speakers" in warning for warning in problem.audit.warnings)


def test_two_speakers_with_labels_are_too_few_to_judge_by(sounds):
    def few(table):
        table.loc[~table["file"].str.startswith(("ann", "bob")), "label"] = ""
        return table

    assert not loaded(sounds, few).grouped


def test_columns_may_be_named_by_their_number():
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3))).assign(last=[*"ab" * 10, *[None] * 20])
    table.columns = [1, 2, 3, 0]
    problem = load(table, target=0, drop=[2])
    assert problem.columns.target == "0"
    assert problem.columns.numbers == ("1", "3")
