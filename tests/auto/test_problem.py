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
