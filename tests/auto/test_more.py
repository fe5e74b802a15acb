"""Rows of other tables below those of the first."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cotrain.auto.align import align
from cotrain.auto.columns import infer
from cotrain.auto.fit import fit
from cotrain.auto.more import with_more
from cotrain.auto.problem import load
from cotrain.auto.read import read
from cotrain.errors import InputError


def texts(count, seed=0):
    """Reviews that some words tell good or bad, and which they are."""
    rng = np.random.default_rng(seed)
    good = rng.random(count) < 0.5
    told = {True: ["great", "lovely", "superb", "nice"], False: ["awful", "boring", "dull", "weak"]}
    said = [" ".join([*rng.choice(told[bool(g)], 3), *rng.choice(["film", "plot", "cast", "scene"], 4)]) for g in good]
    return said, np.where(good, "good", "bad")


@pytest.fixture
def files(tmp_path):
    said, labels = texts(200)
    pd.DataFrame({"review": said[:30], "label": labels[:30]}).to_csv(tmp_path / "few.csv", index=False)
    pd.DataFrame({"review": said[30:], "id": range(170)}).to_csv(tmp_path / "many.csv", index=False)
    return tmp_path


def test_labelled_and_unlabelled_rows_in_two_files_are_as_in_one(files, tmp_path):
    few, many = files / "few.csv", files / "many.csv"
    pd.concat([pd.read_csv(few), pd.read_csv(many)[["review"]]]).to_csv(tmp_path / "one.csv", index=False)
    settings = {"target": "label", "method": "naive-bayes,emnb", "encoder": "none", "jobs": 1}
    apart, together = fit(few, more=many, **settings), fit(tmp_path / "one.csv", **settings)
    for part in ("rows", "chosen", "supervised", "prior"):
        assert apart.report[part] == together.report[part]
    assert apart.report["data"] == "few.csv + many.csv"
    assert "many.csv has columns that few.csv has not, id; they are left out." in apart.report["warnings"]
    for one, other in zip(apart.report["label_next"], together.report["label_next"], strict=True):
        row = other["row"]  # the first line of a file names its columns
        assert one == other | {"file": f"many.csv row {row - 30} (line {row - 29})"}


def test_on_the_command_line(files):
    command = [sys.executable, "-m", "cotrain", "fit", "few.csv", "--target", "label", "--more", "many.csv"]
    command += ["--method", "naive-bayes", "--encoder", "none", "--jobs", "1", "--json"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["rows"] == {"labelled": 30, "unlabelled": 170, "test": 0}


def test_objects_of_other_tables_become_the_columns_that_the_first_ones_became():
    rows = [{"item": {"size": n, "box": {"cm": n}}, "label": "ab"[n % 2]} for n in range(30)]
    more = [{"item": json.dumps({"size": n, "weight": 5}) if n % 3 else "null"} for n in range(30, 60)]
    problem = load(rows, target="label", more=more)  # a list of dicts is one table
    assert list(problem.source.frame) == ["item.size", "item.box.cm", "label"]
    assert problem.source.frame["item.size"].isna().sum() == 10
    assert any("'item' holds objects" in warning for warning in problem.audit.warnings)


def test_each_column_is_of_one_kind():
    first = {"n": [1, 2], "x": [0.5, None], "mixed": [1, 2], "text": ["a", "b"], "yes": [True, False], "only": [1, 2]}
    first |= {"when": pd.to_datetime(["2024-01-01", "2024-02-01"]), "label": ["u", "v"]}
    second = {"n": [3.5], "x": [1], "mixed": ["n/k"], "text": [None], "yes": [True], "when": [pd.NaT], "label": [None]}
    found = with_more(read(first), [second], "label")
    expected = {
        "n": [1, 2, 3.5],
        "x": [0.5, None, 1],
        "mixed": ["1", "2", "n/k"],
        "text": ["a", "b", None],
        "yes": [True, False, True],
        "only": [1, 2, None],
        "when": [*first["when"], None],
        "label": ["u", "v", None],
    }
    for name, cells in expected.items():
        assert [None if pd.isna(cell) else cell for cell in found.frame[name]] == cells, name
    assert found.frame["yes"].dtype == bool
    assert any("has no column only; it is empty in its rows" in warning for warning in found.warnings)
    assert [found.row_label(row) for row in range(3)] == ["row 1", "row 2", "the table row 1"]


def test_other_tables_are_brought_into_the_form_of_the_first():
    days, rng = pd.date_range("2024-01-28", periods=40, freq="3D"), np.random.default_rng(0)
    prices, kinds = rng.normal(50, 10, 40).round(2), np.array(["Gold", "Tin"] * 20)
    comma = [str(price).replace(".", ",") for price in prices]
    plain = {"day": days, "price": prices, "kind": kinds, "code": ["01067", "20095"] * 20, "label": ["a", "b"] * 20}
    expected = None
    for day, price in (
        ("%m/%d/%Y", prices),
        ("%d.%m.%Y", comma),
        ("%Y-%m-%d", prices.astype(str)),
        ("%d %b %Y", comma),
    ):
        first = read(pd.DataFrame(plain | {"day": days.strftime(day), "price": price}))
        other = {"kind": [*np.char.lower(kinds[:-1]), "New"], "code": [1067, 20095] * 20, "label": None}
        others = [
            read(pd.DataFrame(plain | other | {"day": days.strftime(form), "price": numbers}), name=form)
            for form, numbers in (("%d/%m/%Y", comma), ("%Y-%m-%d", prices), ("%Y%m%d", comma), ("%m/%d/%y", prices))
        ]
        found = with_more(first, [*others, pd.DataFrame(plain)], "label")
        columns = infer(found.frame, target="label")
        assert (columns.date, columns.number, columns.category) == (("day",), ("price",), ("kind", "code"))
        said: list[str] = []
        aligned = align(found.frame, columns, said)
        assert not said
        assert (
            aligned[list(columns.numbers)].to_numpy() == np.tile(aligned[list(columns.numbers)][:40].to_numpy(), (6, 1))
        ).all()
        assert set(aligned["kind"]) == {"Gold", "Tin", "New"}
        assert set(aligned["code"]) == {"01067", "20095"}
        expected = aligned if expected is None else expected
        pd.testing.assert_frame_equal(aligned, expected)
    assert any("column 'kind' is not written as in the table; 'gold' is taken as 'Gold'" in w for w in found.warnings)


def test_the_labels_may_be_in_the_second_table():
    said, labels = texts(60)
    first, second = pd.DataFrame({"review": said[:40]}), pd.DataFrame({"review": said[40:], "label": labels[40:]})
    problem = load(first, target="label", more=[second])
    assert (len(problem.labelled), len(problem.unlabelled)) == (20, 40)


def test_files_are_beside_their_own_table(tmp_path):
    for folder, start in (("a", 0), ("b", 20)):
        (tmp_path / folder).mkdir()
        for number in range(start, start + 20):
            Image.new("L", (8, 8), 12 * number % 256).save(tmp_path / folder / f"{number}.png")
        table = pd.DataFrame({"file": [f"{number}.png" for number in range(start, start + 20)]})
        if folder == "a":
            table["label"] = ["dark", "light"] * 10
        table.to_csv(tmp_path / folder / "t.csv", index=False)
    problem = load(tmp_path / "a" / "t.csv", target="label", more=[tmp_path / "b" / "t.csv"])
    assert problem.columns.image == ("file",)
    assert len(problem.rows) == 40


def test_what_cannot_be_joined_is_refused(tmp_path, files):
    (tmp_path / "other.csv").write_text("x,label\n1,2\n")
    with pytest.raises(InputError, match=r"other\.csv has none of the columns of few\.csv \(review, label\); it has x"):
        load(files / "few.csv", target="label", more=[files / "other.csv"])
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("L", (8, 8)).save(folder / "1.png")
    with pytest.raises(InputError, match="cannot be put below another table"):
        load(files / "few.csv", target="label", more=[folder])
    with pytest.raises(InputError, match=r"There is no file .*missing\.csv"):
        load(files / "few.csv", target="label", more=[files / "missing.csv"])


def test_texts_of_a_table_in_another_folder_are_no_names_of_files(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        pd.DataFrame({"review": texts(20)[0], "label": texts(20)[1]}).to_csv(tmp_path / folder / "t.csv", index=False)
    found = with_more(read(tmp_path / "a" / "t.csv"), tmp_path / "b" / "t.csv", "label")
    assert found.frame["review"].tolist() == 2 * texts(20)[0]


def test_labels_are_never_rewritten_and_what_was_odd_about_a_table_is_said(tmp_path):
    (tmp_path / "more.csv").write_text("n,label\n" + "3,good\n" * 150 + "1,2,3\n")
    first = read({"n": [1, 2, 3, 4], "label": ["Good", "Bad"] * 2})
    found = with_more(first, tmp_path / "more.csv", "label")
    assert found.frame["label"].tolist() == ["Good", "Bad"] * 2 + ["good"] * 150
    assert any(warning.startswith("more.csv: ") and "left out" in warning for warning in found.warnings)
    assert with_more(first, {"n": [5]}, "label").warnings == []  # that it has no labels is what it is for


@pytest.mark.parametrize(("first", "second"), [("%d/%m/%Y", "%m-%d-%Y"), ("%m/%d/%Y", "%d/%m/%Y")])
def test_dates_of_which_one_table_leaves_the_order_open_stay(first, second):
    early = pd.date_range("2024-01-01", periods=12, freq="MS")  # days 1: either order
    late = pd.date_range("2024-01-20", periods=12, freq="27D")
    for one, other in ((early, late), (late, early)):
        cells = [one.strftime(first).tolist(), other.strftime(second).tolist()]
        found = with_more(read({"day": cells[0], "label": ["a", "b"] * 6}), {"day": cells[1]}, "label")
        assert found.frame["day"].tolist() == cells[0] + cells[1]


def test_a_folder_of_files_is_refused_as_the_first_too(tmp_path, files):
    for name in "ab":
        (tmp_path / "p" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "p" / name / "1.png")
    with pytest.raises(InputError, match="cannot be put below another table"):
        with_more(read(tmp_path / "p"), files / "few.csv", "label")
