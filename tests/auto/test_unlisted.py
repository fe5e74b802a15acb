"""Files of a folder that its table does not name."""

from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cotrain.auto.columns import infer
from cotrain.auto.fit import fit
from cotrain.auto.problem import load
from cotrain.auto.read import read
from cotrain.auto.report import lines
from cotrain.auto.unlisted import with_unlisted
from cotrain.auto.views import make_views

RNG = np.random.default_rng(0)


def picture(path, dark):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(RNG.integers(0, 60, (8, 8), np.uint8) + (0 if dark else 180)).convert("L").save(path)


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures, of which the table names twelve; others lie in folders that it does not name."""
    for number in range(20):
        picture(tmp_path / "img" / f"{number:02}.png", number % 2)
    picture(tmp_path / "old" / "20.png", True)
    for name in (".hidden.png", "notes.txt"):
        (tmp_path / "img" / name).write_bytes(b"nothing")
    labels = ["dark" if number % 2 else "light" for number in range(12)]
    table = pd.DataFrame({"file": [f"./img/{number:02}.png" for number in range(12)], "label": labels})
    table.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def test_they_are_rows_without_a_label(folder):
    problem = load(folder, target="label")
    assert (len(problem.labelled), len(problem.unlabelled)) == (12, 8)
    source = problem.source
    assert source.unlisted == tuple(f"img/{number}.png" for number in range(12, 20))
    assert source.frame["file"].iloc[12:].tolist() == list(source.unlisted)
    assert source.row_label(11) == "row 12 (line 13)"
    assert source.row_label(12) == "img/12.png"
    told = [warning for warning in problem.audit.warnings if "8 images that are not in" in warning]
    assert len(told) == 1
    assert "Give labels.csv instead of its folder" in told[0]


def test_a_table_that_is_given_by_itself_is_all_there_is(folder):
    assert len(load(folder / "labels.csv", target="label").unlabelled) == 0


def test_files_of_a_test_table_are_left_alone(folder):
    held = pd.DataFrame({"file": ["img/18.png", "img/19.png"], "label": ["light", "dark"]})
    held.to_csv(folder / "held.csv", index=False)
    problem = load(folder, target="label", test=read(folder / "held.csv"))
    assert problem.source.unlisted == tuple(f"img/{number}.png" for number in range(12, 18))


@pytest.mark.parametrize("given", [{}, {"group": "room"}])
def test_they_are_left_alone_where_other_columns_of_theirs_would_be_missing(folder, given):
    table = pd.read_csv(folder / "labels.csv")
    table.assign(room=["a", "b", "c"] * 4).to_csv(folder / "labels.csv", index=False)
    problem = load(folder, target="label", **given)
    assert len(problem.unlabelled) == 0
    assert any("left alone: 'room' of them" in warning for warning in problem.audit.warnings)
    # A column that is dropped is not missed, whatever it holds.
    assert len(load(folder, target="label", drop="room").unlabelled) == 8


def test_nothing_changes_where_every_file_is_named(folder):
    for number in range(12, 20):
        (folder / "img" / f"{number}.png").unlink()
    source = read(folder)
    assert with_unlisted(source, infer(source.frame, target="label", folder=folder)) is source


def test_a_table_without_the_column_is_left_to_those_who_refuse_it(folder):
    columns = infer(read(folder).frame, target="label", folder=folder)
    table = pd.read_csv(folder / "labels.csv").rename(columns={"file": "picture"})
    table.to_csv(folder / "labels.csv", index=False)
    source = read(folder)
    assert with_unlisted(source, columns) is source


def test_they_are_learnt_from_and_offered_for_labelling_by_name(hasty, folder):
    for number in range(20, 80):
        picture(folder / "img" / f"{number}.png", number % 2)
    report = fit(folder, target="label", encoder="none", budget="5s", jobs=1).report
    assert report["rows"] == {"labelled": 12, "unlabelled": 68, "test": 0}
    named = [item["file"] for item in report["label_next"]]
    assert len(named) == 20
    assert set(named) <= {f"img/{number}.png" for number in range(12, 80)}
    assert any(line.startswith(f"label next   {named[0]}") for line in lines(report.values))


def test_names_written_in_other_ways_name_the_files_that_are_there(tmp_path):
    """As a table from Windows beside a zip from a Mac."""
    names = [f"é {number:02}.png" for number in range(12)]
    for number, name in enumerate(names):
        picture(tmp_path / "img" / normalize("NFD", name), number % 2)
    labels = ["dark" if number % 2 else "light" for number in range(12)]
    pd.DataFrame({"file": [f" img\\{name}" for name in names], "label": labels}).to_csv(tmp_path / "labels.csv")
    problem = load(tmp_path, target="label")
    assert (problem.source.unlisted, len(problem.labelled)) == ((), 12)
    assert (
        make_views(problem.frame, problem.columns, problem.source.folder).views["pixels"].extract(problem.frame).any()
    )
