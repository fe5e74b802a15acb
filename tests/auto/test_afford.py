import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cotrain.auto import afford
from cotrain.auto.afford import CHARACTERS, FREE, LEAST_CHARACTERS, MOST_ROWS, beyond, longest_read
from cotrain.auto.align import align
from cotrain.auto.audit import audit
from cotrain.auto.columns import infer
from cotrain.auto.problem import load
from cotrain.auto.read import read


def table(rows):
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(rows)], "label": [""] * rows})
    frame.loc[:9, "label"] = ["a", "b"] * 5
    return frame, infer(frame, target="label", image="file")


def left_out(frame, columns, seconds):
    return beyond(frame, columns, Path(), (frame["label"] != "").to_numpy(), seconds)


@pytest.fixture
def pace(monkeypatch):
    def at(seconds):
        monkeypatch.setattr(afford, "_pace", lambda paths, kind: seconds)

    return at


@pytest.mark.parametrize(
    ("rows", "seconds", "kept"),
    [
        (FREE + 10, 0.001, FREE),  # so many are read in any case
        (2_010, 1.0, FREE),
        (2_010, 0.03 * 1_500 / 0.3, 1_448),  # 2 ** 10.5
        (2_010, 0.03 * 2_020 / 0.3, 2_000),  # there is time for all
        (MOST_ROWS + 1_010, 1e9, MOST_ROWS),
        (MOST_ROWS + 1_010, math.inf, MOST_ROWS + 1_000),
    ],
)
def test_as_many_rows_as_there_is_time_for(pace, rows, seconds, kept):
    pace(0.03)
    frame, columns = table(rows)
    out, said = left_out(frame, columns, seconds)
    assert not out[:10].any()  # those with a label are always read
    assert (~out[10:]).sum() == kept
    assert said.startswith(f"Of {rows - 10:,} rows without a label {kept:,} were read") == (kept < rows - 10)


def test_which_rows_hangs_on_the_names_of_their_files(pace):
    pace(0.03)
    frame, columns = table(2_010)
    shuffled = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    one, two = left_out(frame, columns, 90.0)[0], left_out(shuffled, columns, 90.0)[0]
    assert 0 < one.sum() == two.sum()
    assert set(frame["file"][one]) == set(shuffled["file"][two])


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_of_very_many_rows_some_are_learnt_from_whatever_their_order(monkeypatch, order):
    monkeypatch.setattr(afford, "MOST_ROWS", 30)
    frame = pd.DataFrame({"a": np.arange(100) / 7, "b": ["x", "y"] * 50, "label": ["p", "n"] * 5 + [""] * 90})
    problem = load(frame.iloc[order].reset_index(drop=True), target="label")
    assert len(problem.labelled) == 10
    assert len(problem.unlabelled) == 30
    assert problem.spare == 60
    assert problem.frame["a"].tolist() == load(frame, target="label").frame["a"].tolist()
    assert problem.source.frame["a"].iloc[problem.rows].tolist() == problem.frame["a"].tolist()
    assert any("Of 90 rows without a label 30 are learnt" in warning for warning in problem.audit.warnings)
    assert load(frame[:40], target="label").spare == 0


def test_few_rows_or_no_files_cost_no_trial(monkeypatch):
    monkeypatch.setattr(afford, "_pace", None)
    assert not left_out(*table(FREE + 10), 0.001)[0].any()
    frame = pd.DataFrame({"text": [f"some words and number {row}" for row in range(2_000)], "label": ""})
    assert not left_out(frame, infer(frame, target="label", text="text"), 0.001)[0].any()


@pytest.mark.parametrize("good", [True, False])
def test_the_pace_of_files_that_can_and_cannot_be_read(tmp_path, good):
    for number in range(5):
        if good:
            Image.new("RGB", (300, 300)).save(tmp_path / f"{number}.png")
        else:
            (tmp_path / f"{number}.png").write_bytes(b"no image")
    assert 0 < afford._pace([None, *(tmp_path / f"{number}.png" for number in range(6))], "image") < 1


def test_files_that_are_left_out_are_not_opened(monkeypatch, pace, tmp_path):
    pace(0.03)
    monkeypatch.setattr(afford, "FREE", 20)
    for number in range(100):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
    frame, _ = table(100)
    frame.to_csv(tmp_path / "labels.csv", index=False)
    source = read(tmp_path)
    columns = infer(source.frame, target="label", folder=source.folder)
    whole = audit(source, columns)
    assert whole.usable.all()
    part = audit(source, columns, seconds=0.03 * 35 / 0.3)
    assert part.usable.sum() == 10 + 32
    assert any("32 were read" in warning for warning in part.warnings)
    for number in np.flatnonzero(~part.usable):
        (tmp_path / f"{number}.png").unlink()
    again = audit(source, columns, seconds=0.03 * 35 / 0.3)
    assert again.warnings == part.warnings
    assert (again.usable == part.usable).all()
    assert (again.content == part.content).all()
    (tmp_path / f"{np.flatnonzero(part.usable)[-1]}.png").write_bytes(b"no image")
    told = audit(source, columns, seconds=0.03 * 35 / 0.3)
    assert any(f"row {np.flatnonzero(part.usable)[-1] + 1} " in warning for warning in told.warnings)


@pytest.fixture
def nothing_free(monkeypatch):
    monkeypatch.setattr(afford, "FREE_CHARACTERS", 0)


def texts(lengths):
    frame = pd.DataFrame({"text": ["w" * length for length in lengths], "label": ""})
    return frame, infer(frame, target="label", text="text")


@pytest.mark.parametrize(
    ("lengths", "characters", "longest"),
    [
        ([100] * 50, 5_000, None),  # all fit
        ([100] * 10 + [10_000] * 10, 21_000, 2_000),  # ten short ones in full, ten of 2,000
        ([100] * 10 + [10_000] * 10, 1_000, LEAST_CHARACTERS),
        ([10_000] * 10, 55_555, 5_500),
        ([50_000, 90_000], 40_000, None),  # of which no more than that is read anyway
        ([], 10, None),
    ],
)
def test_texts_are_cut_where_all_together_are_too_long(nothing_free, lengths, characters, longest):
    assert longest_read(*texts(lengths), characters / CHARACTERS) == longest
    assert longest_read(*texts(lengths), math.inf) is None


def test_five_million_characters_are_read_whatever_the_time():
    assert longest_read(*texts([10_000] * 400), 0.001) is None


@pytest.mark.parametrize("seed", range(5))
def test_no_more_characters_than_there_is_time_for_and_not_far_fewer(nothing_free, seed):
    lengths = np.random.default_rng(seed).integers(600, 20_000, 80)
    most = int(0.4 * lengths.sum())
    longest = longest_read(*texts(lengths), most / CHARACTERS)
    assert np.minimum(lengths, longest).sum() <= most < np.minimum(lengths, longest + 100).sum()


def test_what_is_cut_in_training_is_cut_in_new_tables(nothing_free):
    frame = pd.DataFrame({"text": [f"{'word ' * 400}{row}" for row in range(40)], "label": ""})
    frame.loc[:9, "label"] = ["a", "b"] * 5
    problem = load(frame, target="label", text="text", seconds=40 * 1_000 / CHARACTERS)
    assert problem.columns.longest == 1_000
    assert (problem.frame["text"].str.len() == 1_000).all()
    assert len(np.unique(problem.unit)) == 40  # they differ in what is not read
    assert any("first 1,000 characters are read because" in warning for warning in problem.audit.warnings)
    known = type(problem.columns).from_dict(problem.columns.to_dict())
    assert (align(frame, known)["text"].str.len() == 1_000).all()
