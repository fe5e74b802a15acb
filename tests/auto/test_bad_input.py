"""Every bad input goes through the command: what cannot go on ends with exit code 2 and a sentence that says where and
what; what can go on does, with a warning in the report."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.preprocessing import FunctionTransformer

from cotrain.auto import student
from cotrain.auto.fit import fit
from cotrain.auto.model import Model
from cotrain.auto.report import plain
from cotrain.auto.result import FitReport, Result, check_folder
from cotrain.errors import InputError

FAST = ["--encoder", "none", "--jobs", "1"]
TEXT = [*FAST, "--method", "naive-bayes"]
NUMBERS = [*FAST, "--method", "logistic"]

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
def refused(command, tmp_path):
    """Runs `fit`, which must refuse: exit code 2, one sentence on standard error, no traceback, nothing written."""

    def run(data, *words, options=(*TEXT, "--target", "label")):
        out = tmp_path / "refused"
        ran = command("fit", data, *options, "--out", out)
        assert ran.code == 2, ran
        assert ran.out == ""
        assert ran.err.startswith("cotrain: ")
        assert ran.err.count("\n") == 1
        assert "Traceback" not in ran.err
        for word in words:
            assert word in ran.err
        assert not out.exists()

    return run


@pytest.fixture
def goes_on(command, tmp_path):
    """Runs `fit`, which must give a result; returns its report."""

    def run(data, *words, options=(*TEXT, "--target", "label")):
        out = tmp_path / "goes on"
        ran = command("fit", data, *options, "--out", out)
        assert ran.code == 0, ran
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        told = "\n".join(report["warnings"])
        for word in words:
            assert word in told
        assert (out / "model" / "model.json").exists()
        assert (out / "student" / "student.json").exists()
        assert "report.html" in ran.out
        return report

    return run


def written(table: pd.DataFrame, folder: Path, name: str = "table.csv", **settings) -> Path:
    table.to_csv(folder / name, index=False, **settings)
    return folder / name


# Labels


def test_no_labels(refused, reviews, tmp_path):
    path = written(reviews().assign(label=""), tmp_path)
    refused(path, "table.csv: no row has a label in column 'label' (60 rows)", "Label some rows of every class")


def test_one_class(refused, reviews, tmp_path):
    table = reviews()
    path = written(table.assign(label=np.where(table["label"].isna(), "", "good")), tmp_path)
    refused(path, "table.csv: all 16 labelled rows are of one class, 'good' (column 'label')")


def test_a_class_with_one_label(goes_on, reviews, tmp_path):
    table = reviews()
    table.loc[5, "label"] = "odd"
    report = goes_on(written(table, tmp_path), "single label can be learnt but not judged: 'odd' in row 6 (line 7)")
    assert report["classes"] == ["bad", "good", "odd"]


def test_nothing_but_single_labels(refused, reviews, tmp_path):
    refused(written(reviews(labelled=2), tmp_path), "nothing can be held out; label more rows")


def test_all_labelled(goes_on, reviews, tmp_path):
    report = goes_on(written(reviews(labelled=60), tmp_path), "Every row has a label")
    assert report["rows"]["unlabelled"] == 0
    assert not report["used_unlabelled"]


def test_fewer_unlabelled_rows_than_labelled_ones(goes_on, reviews, tmp_path):
    goes_on(written(reviews(labelled=40), tmp_path), "fewer unlabelled rows (20) than labelled ones (40)")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("lable", "There is no column 'lable'. Did you mean 'label'?"),
        ("Label", "Did you mean 'label'?"),
        ("zzz", "There is no column 'zzz'; the columns are review, label."),
    ],
)
def test_a_target_that_is_not_there(refused, reviews, tmp_path, target, words):
    refused(written(reviews(), tmp_path), words, options=[*TEXT, "--target", target])


def test_no_target_at_all(refused, reviews, tmp_path):
    refused(written(reviews(), tmp_path), "Name the column of the labels: --target COL", options=TEXT)


def test_a_misspelt_column(refused, reviews, tmp_path):
    path = written(reviews(), tmp_path)
    for option in ("--text", "--drop", "--group", "--image", "--audio"):
        refused(path, "Did you mean 'review'?", options=[*TEXT, "--target", "label", option, "reviw"])


def test_a_number_to_predict_and_several_labels_a_cell(refused, reviews, tmp_path):
    table = reviews(labelled=60)
    price = table.assign(label=np.random.default_rng(0).normal(size=60))
    refused(written(price, tmp_path), "Column 'label' looks like a number to predict, not a class")
    lists = table.assign(label=[["a;b", "b", "a;c"][row % 3] for row in range(60)])
    refused(written(lists, tmp_path), "Column 'label' holds several labels in a cell", "multi-label")


def test_a_value_for_no_label_that_nobody_has(goes_on, reviews, tmp_path):
    path = written(reviews(), tmp_path)
    goes_on(path, "No cell of column 'label' is '?'", options=[*TEXT, "--target", "label", "--unlabelled", "?"])


def test_a_value_for_no_label_that_looks_like_an_option(goes_on, reviews, tmp_path):
    table = reviews()
    path = written(table.assign(label=table["label"].fillna("-1")), tmp_path)
    report = goes_on(path, options=[*TEXT, "--target", "label", "--unlabelled", "-1"])
    assert report["rows"] == {"labelled": 16, "unlabelled": 44, "test": 0}


# Rows


def test_rows_that_hold_the_same_and_differ_in_their_label(goes_on, reviews, tmp_path):
    table = reviews()
    table.loc[[2, 3], "review"] = "the very same words in both of these rows"
    goes_on(written(table, tmp_path), "but differ in the label: 2 (row 3 (line 4) 'bad', row 4 (line 5) 'good')")


def test_rows_of_the_test_table_that_are_in_training(goes_on, reviews, tmp_path):
    table = reviews()
    test = table[:16].copy()
    options = [*TEXT, "--target", "label", "--test", written(test, tmp_path, "test.csv")]
    report = goes_on(written(table, tmp_path), "16 of 16 test rows hold the same as a training row", options=options)
    assert report["rows"]["test"] == 16


def test_a_test_table_with_other_columns(refused, reviews, tmp_path):
    path, test = written(reviews(), tmp_path), tmp_path / "test.csv"
    options = [*TEXT, "--target", "label", "--test", test]
    refused(path, "There is no file", "test.csv", options=options)
    written(reviews(labelled=60).drop(columns="label"), tmp_path, "test.csv")
    refused(path, "test.csv has no column 'label'", options=options)
    written(reviews(labelled=60).assign(label="odd"), tmp_path, "test.csv")
    refused(path, "test.csv: column 'label' has only classes that no training row has: odd", options=options)


# Columns


def test_columns_that_identify_rows_are_constant_or_empty(goes_on, measures, tmp_path):
    table = measures().assign(id=range(1_000, 1_060), unit="cm", nothing="", kind=measures()["kind"])
    report = goes_on(
        written(table, tmp_path),
        "Column 'id' is left out: identifier",
        "Column 'unit' is left out: constant ('cm' in every row)",
        "Column 'nothing' is left out: empty",
        options=[*NUMBERS, "--target", "kind"],
    )
    assert set(report["columns"]["dropped"]) == {"id", "unit", "nothing"}


def test_a_column_that_gives_the_label_away(goes_on, measures, tmp_path):
    table = measures(rows=200, labelled=60)
    table["paid"] = np.where(table["kind"] == "b", "yes", np.where(table["kind"] == "a", "no", "unknown"))
    goes_on(
        written(table, tmp_path),
        "Column 'paid' alone predicts the label in 100.0% of the labelled rows",
        "leave it out with --drop 'paid'",
        options=[*NUMBERS, "--target", "kind"],
    )


def test_nothing_is_left_to_learn_from(refused, reviews, tmp_path):
    path = written(reviews()[["label"]].assign(unit="cm"), tmp_path)
    refused(path, "No column is left to learn 'label' from (unit: constant")


def test_empty_texts(goes_on, reviews, tmp_path):
    table = reviews()
    table.loc[[4, 30, 31], "review"] = ["", "  ", ""]
    goes_on(written(table, tmp_path), "Column 'review': empty texts: 3 (row 5 (line 6), row 31 (line 32), row 32")


def test_several_types_in_a_column(goes_on, reviews, tmp_path):
    rows = [{"review": text, "odd": [1, "two", [3], None, {"four": 4}][n % 5], "label": label if n < 16 else None}
            for n, (text, label) in enumerate(reviews(labelled=60).itertuples(index=False))]  # fmt: skip
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    goes_on(path, "Column 'odd': cells of several types", "are read as text")


def test_numbers_with_gaps_infinities_and_words(goes_on, measures, tmp_path):
    table = measures().astype({"weight": object, "age": object})
    table.loc[[3, 40], "size"] = [np.nan, -np.inf]
    table.loc[7, "weight"] = "heavy"
    table.loc[0:39, "age"] = ""
    goes_on(
        written(table, tmp_path),
        "Column 'size': infinite cells count as missing: 1",
        "Column 'weight': cells that are not numbers",
        "'heavy' in row 8 (line 9)",
        "More than half of the cells are missing in 'age' 67%",
        options=[*NUMBERS, "--target", "kind"],
    )


def test_ten_thousand_categories(goes_on, tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"shop": [f"shop {n % 10_000}" for n in range(20_000)], "size": rng.normal(size=20_000)})
    table["kind"] = np.where(np.arange(20_000) < 30, np.where(table["size"] > 0, "a", "b"), "")
    goes_on(
        written(table, tmp_path),
        "Column 'shop' has 10,000 categories",
        "the rare ones count as one",
        options=[*NUMBERS, "--target", "kind"],
    )


def test_very_long_texts(goes_on, reviews, tmp_path):
    table = reviews()
    table.loc[9, "review"] = "lovely " * 30_000
    goes_on(written(table, tmp_path), "only the first 20,000 characters are read: 1 (row 10 (line 11))")


# Files


def test_files_that_are_not_there_or_no_tables(refused, tmp_path):
    refused(tmp_path / "nothing.csv", "There is no file", "nothing.csv")
    (tmp_path / "table.csv").write_text("")
    refused(tmp_path / "table.csv", "table.csv is empty")
    (tmp_path / "table.csv").write_text("review,label\n")
    refused(tmp_path / "table.csv", "table.csv has a header line but no row below it")
    (tmp_path / "table.xlsx").write_bytes(b"PK\x03\x04 and so on")
    refused(tmp_path / "table.xlsx", "table.xlsx is a spreadsheet; save the sheet as CSV")
    (tmp_path / "table.csv").write_bytes(pickle.dumps({"review": ["a"]}, protocol=4))
    refused(tmp_path / "table.csv", "a pickle, which could run code and is never opened")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "folder holds no table and no images, sounds or texts. Put a labels.csv into it")
    refused(tmp_path / "tabel.csv", "Did you mean", "table.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    refused(tmp_path / "pipe.csv", "pipe.csv is a pipe or a device; save what comes out of it to a file")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_files_in_other_encodings(goes_on, reviews, tmp_path, encoding):
    table = reviews()
    table["review"] += " café"
    path = written(table, tmp_path, encoding=encoding)
    words = ["table.csv is not UTF-8", "it is read as cp1252"] if encoding == "cp1252" else []
    report = goes_on(path, *words)
    assert report["target"] == "label"
    assert report["rows"] == {"labelled": 16, "unlabelled": 44, "test": 0}


def test_a_few_ragged_lines_go_on_and_many_are_refused(goes_on, refused, reviews, tmp_path):
    path = written(reviews(rows=200), tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:50], "one,two,three", *lines[50:120], "lonely", *lines[120:]]))
    goes_on(path, "more cells than the 2 of the header, left out: 1 (line 51)", "fewer cells than the 2", "(line 122)")
    path.write_text("\n".join([*lines[:50], *["one,two,three"] * 20, *lines[50:]]))
    refused(path, "table.csv: 20 of 220 rows have more cells than the 2 of the header: line 51 (3 cells)")


def test_other_delimiters_and_the_quotes_of_spreadsheets(goes_on, reviews, tmp_path):
    table = reviews()
    table.loc[0, "review"] += ', "quoted", with; all\nof it'
    expected = goes_on(written(table, tmp_path, "a.csv"))
    for name, separator in (("b.csv", ";"), ("c.csv", "\t"), ("d.tsv", ","), ("e.csv", "|")):
        report = goes_on(written(table, tmp_path, name, sep=separator))
        assert report["chosen"] == expected["chosen"], name
    written(table, tmp_path, "f.csv", sep=";", quoting=1)
    path = tmp_path / "f.csv"
    path.write_bytes(b"\xef\xbb\xbfsep=;\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert goes_on(path)["chosen"]["estimate"] == pytest.approx(expected["chosen"]["estimate"], abs=0.1)


def test_a_quote_that_is_never_closed(goes_on, refused, reviews, tmp_path):
    path = written(reviews(), tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:20], f'"{lines[20]}', *lines[21:]]))
    ran = goes_on(path, "Line 21: a double quote", "read as ordinary characters")
    assert ran["rows"]["labelled"] == 16
    path.write_text("\n".join(['"review","label"', *lines[1:20], f'"{lines[20]}', *lines[21:]]))
    refused(path, "table.csv, line 21: a double quote", "is never closed")


def media(folder: Path, kind: str, rows: int = 30) -> Path:
    """A folder of images or sounds in two classes with its labels.csv."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    names = [f"{row}.{'png' if kind == 'image' else 'wav'}" for row in range(rows)]
    for row, name in enumerate(names):
        if kind == "image":
            pixels = rng.integers(0, 80, (12, 12)) + 150 * (row % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        else:
            tone = np.sin(2 * np.pi * (400 + 1_200 * (row % 2)) * np.arange(1_600) / 8_000)
            soundfile.write(folder / name, 0.4 * tone + 0.05 * rng.normal(size=1_600), 8_000)
    labels = [["low", "high"][row % 2] if row < 14 else "" for row in range(rows)]
    written(pd.DataFrame({"file": names, "label": labels}), folder, "labels.csv")
    return folder


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_missing_and_broken_files_are_listed_and_their_rows_left_out(goes_on, refused, command, tmp_path, kind):
    folder = media(tmp_path / kind, kind)
    suffix = "png" if kind == "image" else "wav"
    (folder / f"3.{suffix}").write_bytes(b"")
    (folder / f"20.{suffix}").write_bytes(b"nonsense")
    (folder / f"21.{suffix}").unlink()
    options = [*NUMBERS, "--target", "label"]
    report = goes_on(
        folder,
        "3 of 30 files of column 'file' cannot be used; their rows are left out",
        f"row 4 (line 5): 3.{suffix} is empty",
        f"row 21 (line 22): 20.{suffix} is broken or no {kind} file",
        f"row 22 (line 23): 21.{suffix} does not exist",
        options=options,
    )
    assert report["rows"] == {"labelled": 13, "unlabelled": 14, "test": 0}
    for student_too in ([], ["--student"]):
        ran = command("predict", tmp_path / "goes on", folder, *student_too)
        assert ran.code == 0
        lines = ran.out.splitlines()
        assert len(lines) == 31
        assert [n for n, line in enumerate(lines) if line == ",,"] == [4, 21, 22]
        assert "3 of 30 files of column 'file' cannot be used" in ran.err
    for row in range(16):
        (folder / f"{row}.{suffix}").unlink(missing_ok=True)
    refused(folder, "18 of 30 files of column 'file' cannot be used, more than half", options=options)


# Between fit and predict


@pytest.fixture
def model(command, measures, tmp_path) -> Path:
    """A folder with the fit of a table of numbers."""
    path = written(measures(), tmp_path)
    assert command("fit", path, *NUMBERS, "--target", "kind", "--out", tmp_path / "out").code == 0
    return tmp_path / "out"


def test_a_table_that_changed_since_the_fit(command, model, measures, tmp_path):
    table = measures(seed=3)
    usual = command("predict", model, written(table, tmp_path))
    assert usual.code == 0
    assert usual.err == ""
    assert len(usual.out.splitlines()) == 61
    assert usual.out.startswith("prediction,p:a,p:b\n")
    changed = command("predict", model, written(table[table.columns[::-1]].assign(more=1), tmp_path))
    assert changed.out == usual.out
    assert "did not know are ignored: more" in changed.err
    without = command("predict", model, written(table.drop(columns=["kind", "colour"]), tmp_path))
    assert without.code == 0
    assert "Column 'colour' is not there; all its cells count as missing" in without.err
    unseen = command("predict", model, written(table.assign(colour="violet"), tmp_path), "--student")
    assert unseen.code == 0
    assert "Column 'colour': 60 rows have categories that were not in training: 'violet'" in unseen.err


def test_a_text_column_that_is_gone(command, reviews, tmp_path):
    path = written(reviews(), tmp_path)
    assert command("fit", path, *TEXT, "--target", "label", "--out", tmp_path / "out").code == 0
    other = written(reviews().rename(columns={"review": "Review text"}), tmp_path)
    for option in ([], ["--student"]):
        ran = command("predict", tmp_path / "out", other, *option, "--out", tmp_path / "p.csv")
        assert ran.code == 2
        assert "There is no column 'review'. Did you mean 'Review text'?" in ran.err
    assert not (tmp_path / "p.csv").exists()


def test_folders_that_hold_no_model(command, reviews, tmp_path):
    path = written(reviews(), tmp_path)
    for words in (
        ["predict", tmp_path, path],
        ["predict", tmp_path, path, "--student"],
        ["label-next", tmp_path, path],
    ):
        ran = command(*words)
        assert ran.code == 2
        assert "give the folder that `cotrain fit --out` wrote" in ran.err
    ran = command("report", tmp_path)
    assert ran.code == 2
    assert "There is no report.json in" in ran.err


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_model_folder_from_a_stranger_runs_no_code(command, model, measures, tmp_path):
    path, marker = written(measures(), tmp_path), tmp_path / "marker"
    whole = (model / "model" / "member0.skops").read_bytes()

    def check(*options):
        for words in (["predict", model, path, *options], ["label-next", model, path]):
            ran = command(*words)
            if words[0] == "predict" or not options:
                assert ran.code == 2, ran
                assert "Traceback" not in ran.err
            assert not marker.exists()

    (model / "model" / "member0.skops").write_bytes(pickle.dumps(Marker(marker)))
    check()
    skops.io.dump(FunctionTransformer(shutil.rmtree, kw_args={"path": marker}), model / "model" / "member0.skops")
    check()
    (model / "model" / "member0.skops").write_bytes(whole)
    np.savez(model / "model" / "view0.npz", median=np.array([Marker(marker)], dtype=object))
    check()
    np.savez(model / "student" / "weights.npz", bias=np.array([Marker(marker)], dtype=object))
    check("--student")


# Folders and files to write to


def test_an_output_folder_that_cannot_be_written(command, reviews, tmp_path):
    path = written(reviews(), tmp_path)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "out", "/proc/out"):
        ran = command("fit", path, *TEXT, "--target", "label", "--out", out)
        assert ran.code == 2
        assert f"--out {out}: nothing can be written there" in ran.err
    assert (tmp_path / "file").read_text() == "mine"


def test_paths_that_none_can_be(command, reviews, monkeypatch, tmp_path):
    path, long = written(reviews(), tmp_path), "x" * 300
    for out, word in ((tmp_path / long, "File name too long"), ("x\0y", "NUL")):
        ran = command("fit", path, *TEXT, "--target", "label", "--out", out)
        assert (ran.code, ran.out) == (2, "")
        assert "nothing can be written there" in ran.err
        assert word in ran.err
    for words in (["predict", long, path], ["predict", long, path, "--student"], ["label-next", long, path]):
        ran = command(*words)
        assert ran.code == 2
        assert "cannot be read: File name too long" in ran.err

    def shut(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", shut)  # root may enter all folders
    with pytest.raises(InputError, match=r"nothing can be written there \(Permission denied\)"):
        check_folder(tmp_path / "out")
    with pytest.raises(InputError, match=r"model.json cannot be read: Permission denied"):
        Model.load(tmp_path / "out")


def test_a_disk_that_is_full_at_the_end(command, monkeypatch, reviews, tmp_path):
    """The finished result is said, and saved elsewhere."""
    save = student.Student.save

    def full(self, folder):
        if tmp_path / "out" in Path(folder).parents:
            raise OSError(28, "No space left on device")
        save(self, folder)

    monkeypatch.setattr(student.Student, "save", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = written(reviews(), tmp_path)
    ran = command("fit", path, *TEXT, "--target", "label", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "naive Bayes, words" in ran.out  # the result
    assert "could not be saved" in ran.err
    assert "No space left on device" in ran.err
    elsewhere = Path(re.search(r"it is in (\S+) instead", ran.err).group(1))
    assert command("predict", elsewhere, path).code == 0
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_full_and_no_temporary_folder(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Result, "save", full)
    monkeypatch.setattr("cotrain.auto.result.mkdtemp", full)
    finished = Result(None, None, FitReport({"warnings": ["what was odd"]}))
    finished.rescue("out")
    said, odd = finished.report["warnings"]
    assert "No space left on device), nor among the temporary files" in said
    assert odd == "what was odd"


def test_a_prediction_that_cannot_be_written_is_not_lost(command, model, measures, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = written(measures(), tmp_path)
    expected = command("predict", model, path).out
    ran = command("predict", model, path, "--out", tmp_path / "no such folder" / "p.csv")
    assert ran.code == 2
    elsewhere = Path(re.search(r"it is in (\S+) instead", ran.err).group(1))
    assert elsewhere.read_text() == expected


def test_a_standard_output_that_cannot_be_written_loses_nothing(command, model, measures, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = written(measures(), tmp_path)
    expected = command("predict", model, path).out
    saved = [*NUMBERS, "--target", "kind", "--out", tmp_path / "saved"]
    full = "standard output cannot be written (No space left on device)"
    for closed in (False, True):

        def into_nothing(*words, closed=closed):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", None if closed else open("/dev/full", "w"))  # noqa: SIM115
                ran = command(*words)
            assert ran.out == ""
            return ran

        what = "standard output cannot be written (it is closed)" if closed else full
        ran = into_nothing("fit", path, *NUMBERS, "--target", "kind")
        assert ran.code == 2
        assert what in ran.err
        elsewhere = Path(re.search(r"the result is in (\S+) instead", ran.err).group(1))
        assert command("predict", elsewhere, path).code == 0
        ran = into_nothing("predict", model, path)
        assert ran.code == 2
        assert what in ran.err
        assert Path(re.search(r"it is in (\S+) instead", ran.err).group(1)).read_text() == expected
        ran = into_nothing("fit", path, *saved)
        assert ran.code == (0 if closed else 2)
        assert closed or f"{full}; the result is in {tmp_path / 'saved'}." in ran.err
        assert (tmp_path / "saved" / "report.html").exists()
        for words in (["report", model], ["report", model, "--json"], ["systems"], ["systems", "--json"], ["--help"]):
            ran = into_nothing(*words)
            assert ran.code == (0 if closed else 2)
            assert closed or ran.err.endswith(f"cotrain: {full}.\n"), words


def test_a_standard_error_that_cannot_be_written_loses_nothing(command, model, measures, monkeypatch, tmp_path):
    path = written(measures().assign(more=1, age="old"), tmp_path)
    heard = command("predict", model, path)
    assert heard.err.count("\n") == 2
    for closed in (False, True):

        def unheard(*words, closed=closed):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stderr", None if closed else open("/dev/full", "w"))  # noqa: SIM115
                return command(*words)

        ran = unheard("predict", model, path)
        assert (ran.code, ran.out) == (0, heard.out)
        ran = unheard("fit", path, *NUMBERS, "--target", "kind")
        assert ran.code == 0
        assert "accuracy" in ran.out
        assert unheard("predict", tmp_path / "no model", path).code == 2


@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full"])
def test_a_program_without_a_standard_error_says_only_results(to):
    ran = subprocess.run(["sh", "-c", f"exec {sys.executable} -m cotrain systems 999 {to}"], capture_output=True)
    assert (ran.returncode, ran.stdout) == (2, b"")


def test_a_row_that_cannot_be_read_keeps_its_place_among_the_predictions(command, model, measures, tmp_path):
    table = pd.concat([measures(), measures(seed=1)])
    path = written(table, tmp_path)
    expected = command("predict", model, path).out.splitlines()
    lines = path.read_text().splitlines()
    lines.insert(30, lines[5] + ",1,2,3")
    path.write_text("\n".join([*lines, ""]) + "\n" * 3)
    found = command("predict", model, path).out.splitlines()
    assert len(found) == len(table) + 2
    assert set(found[30]) == {","}
    assert [*found[:30], *found[31:]] == expected


def test_texts_that_run_over_lines_without_quotes(refused, reviews, tmp_path):
    table = reviews()[["label", "review"]].fillna("")
    lines = [f"{label},{text.replace(',', ' ')}" for label, text in table.itertuples(index=False)]
    for row in (3, 6, 9, 12):
        lines[row] += f"\nand then {row} more"
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["label,review", *lines, ""]))
    refused(
        path, "table.csv: 4 rows have fewer cells than the header and labels that no other row has", "double quotes"
    )


def test_predictions_go_through_links_and_into_pipes(command, model, measures, tmp_path):
    path = written(measures(), tmp_path)
    expected = command("predict", model, path).out
    (tmp_path / "real.csv").write_text("")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert command("predict", model, path, "--out", tmp_path / "link.csv").code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == expected
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        assert command("predict", model, path, "--out", tmp_path / "pipe").code == 0
        assert read.result(timeout=20) == expected


def test_predictions_do_not_take_the_place_of_their_table(command, model, measures, tmp_path):
    path = written(measures(), tmp_path)
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to(path)
    folder = tmp_path / "folder"
    folder.mkdir()
    labels = written(measures(), folder, "labels.csv")
    pairs = ((path, path), (path, tmp_path / "link.csv"), (tmp_path / "link.csv", path), (folder, labels))
    for data, out in pairs:
        ran = command("predict", model, data, "--out", out)
        assert ran.code == 2
        assert "is the table itself" in ran.err
    assert path.read_bytes() == labels.read_bytes() == before
    os.link(path, tmp_path / "second name.csv")  # a file of its own from then on
    assert command("predict", model, path, "--out", tmp_path / "second name.csv").code == 0
    assert path.read_bytes() == before


def test_predictions_do_not_take_the_place_of_the_fit(command, model, measures, tmp_path):
    path = written(measures(), tmp_path)
    (tmp_path / "link").symlink_to(model)
    for name in ("model/model.json", "model/new.csv", "student/weights.npz", "report.json", "report.html"):
        for folder in (model, tmp_path / "link"):
            ran = command("predict", model, path, "--out", folder / name)
            assert ran.code == 2
            assert "is a file of the fit" in ran.err
    (tmp_path / "1.PNG").write_bytes(b"a picture")
    for name in ("1.PNG", "new.wav"):
        ran = command("predict", model, path, "--out", tmp_path / name)
        assert ran.code == 2
        assert "has the name of an image or a sound" in ran.err
    assert (tmp_path / "1.PNG").read_bytes() == b"a picture"
    ran = command("predict", model, path, "--out", "x\0y")
    assert ran.code == 2
    assert "NUL" in ran.err
    assert command("predict", model, path, "--out", model / "predictions.csv").code == 0


def test_folders_that_no_fit_has_written_are_not_replaced(command, reviews, tmp_path):
    (tmp_path / "with report").mkdir()
    (tmp_path / "with report" / "report.html").write_text("precious")
    ran = command("fit", written(reviews(), tmp_path), *TEXT, "--target", "label", "--out", tmp_path / "with report")
    assert ran.code == 2
    assert "there is a report.html in it already that no fit has written" in ran.err
    reports = {name: f"a {name} in it already that no fit has written" for name in ("report.html", "report.json")}
    folders = {name: f"a folder '{name}' in it already" for name in ("model", "student")}
    for name, words in (reports | folders).items():
        out = tmp_path / f"with {name}"
        (out / name).mkdir(parents=True)
        (out / name / "mine.txt").write_text("precious")
        ran = command("fit", written(reviews(), tmp_path), *TEXT, "--target", "label", "--out", out)
        assert ran.code == 2
        assert f"there is {words}" in ran.err
        assert ran.out == ""
        assert (out / name / "mine.txt").read_text() == "precious"


def test_links_in_the_place_of_a_result_are_replaced_and_what_they_lead_to_stays(model, tmp_path):
    out, elsewhere = tmp_path / "linked", tmp_path / "elsewhere"
    shutil.copytree(model, elsewhere)
    out.mkdir()
    for name in ("model", "student", "report.html"):
        (out / name).symlink_to(elsewhere / name)
    (elsewhere / "student" / "mine.txt").write_text("precious")
    report = FitReport(json.loads((model / "report.json").read_text()))
    Result(Model.load(model / "model"), student.Student.load(model / "student"), report).save(out)
    assert {path.name for path in out.iterdir()} == {"model", "student", "report.html", "report.json"}
    assert not any(path.is_symlink() for path in out.iterdir())
    assert (elsewhere / "student" / "mine.txt").read_text() == "precious"
    assert (elsewhere / "model" / "model.json").is_file()


def test_what_users_write_is_no_markup(command, reviews, tmp_path):
    table = reviews().replace({"label": {"good": "[/i]good :x:"}})
    table.loc[40, "review"] = "[urgent] " + table["review"][40]
    path = written(table, tmp_path)
    ran = command("fit", path, *TEXT, "--target", "label", "--out", tmp_path / "out")
    assert "[/i]good :x:" in ran.out
    shown = command("label-next", tmp_path / "out", path, "-n", "44")
    assert shown.code == 0
    assert "[urgent]" in shown.out


def test_a_method_that_needs_unlabelled_rows_says_where_there_are_none(goes_on, reviews, tmp_path):
    options = [*FAST, "--method", "emnb", "--target", "label"]
    report = goes_on(written(reviews(labelled=60), tmp_path), "--method emnb needs unlabelled rows", options=options)
    assert not report["used_unlabelled"]
    few = goes_on(written(reviews(labelled=40), tmp_path), options=options)
    assert few["used_unlabelled"]  # asked for, though they are fewer than the labelled ones


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "soon"], "--budget takes a time such as 90s, 3m or 1h; not 'soon'"),
        (["--coverage", "1.5"], "--coverage is a share between 0 and 1"),
        (["--coverage", "much"], "coverage"),
        (["--prior", "good:0.5"], "the classes are bad, good"),
        (["--prior", "much"], "--prior takes auto, label, uniform or shares"),
        (["--metric", "f1"], "--metric is auto, accuracy or balanced accuracy"),
        (["--seed", "one"], "seed"),
        (["--taget", "label"], "--taget"),
        (["--encoder", "/nowhere/encoder"], "/nowhere/encoder"),
    ],
)
def test_options_that_cannot_be(refused, reviews, tmp_path, options, words):
    path = written(reviews(), tmp_path)
    usual = [] if "--encoder" in options else ["--encoder", "none"]
    refused(path, words, options=["--jobs", 1, "--method", "naive-bayes", "--target", "label", *usual, *options])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1.5}, "--seed is a whole number, 0 or more; not 1.5"),
        ({"seed": None}, "--seed is a whole number, 0 or more; not None"),
        ({"jobs": 1.5}, "--jobs is a number of threads, 1 or more; not 1.5"),
        ({"budget": None}, "--budget takes a time such as 90s, 3m or 1h; not None"),
        ({"coverage": "0.9"}, "--coverage is a share between 0 and 1, such as 0.9; not '0.9'"),
        ({"method": ["emnb"]}, r"--method takes names with commas between, such as 'supervised,emnb'; not \['emnb'\]"),
        ({"prior": {"a": 0.5}}, "--prior names a; the classes are 0, 1"),
        ({"prior": {"0": "much"}}, "--prior takes auto, label, uniform or shares"),
        ({"prior": {"0": np.nan, "1": 0.5}}, "--prior shares are positive"),
        ({"prior": 0.5}, "--prior takes auto, label, uniform or shares"),
        ({"out": 5}, "--out takes a folder; not 5"),
        ({"drop": 3.5}, "a list of names, is needed where 3.5 is given"),
        ({"group": [None]}, r"a list of names, is needed where \[None\] is given"),
        ({"encoder": 5.0}, "a list of names, is needed where 5.0 is given"),
        ({"encoder": Path("nowhere")}, "nowhere"),
        ({"out": "x\0y"}, "NUL"),
        ({"x": None}, "x is None"),
        ({"x": 5}, "x is 5"),
        ({"x": np.zeros((20, 0))}, "x has no column"),
        ({"x": np.ones((20, 2)) * 1j}, "x holds complex numbers"),
        ({"test": (np.arange(40).reshape(20, 2), np.full(20, -1))}, "no row has a label in column 'target'"),
    ],
)
def test_arguments_that_cannot_be(options, words):
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    options = {"x": x, "encoder": "none"} | options
    with pytest.raises(InputError, match=words):
        fit(options.pop("x"), y, **options)


def test_numbers_of_numpy_and_shares_by_class_are_arguments():
    x, y = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    options = {"seed": np.int64(3), "budget": np.int64(20), "coverage": np.float32(0.75), "prior": {0: 0.25, 1: 0.75}}
    options |= {"text": None, "group": None}
    result = fit(x + y[:, None], y, encoder="none", method="logistic", jobs=1, **options)
    assert result.report["prior"]["shares"] == {"0": 0.25, "1": 0.75}
    assert json.loads(json.dumps(plain(result.report.values)))["prior"]["asked"] == {"0": 0.25, "1": 0.75}


def test_a_method_that_does_not_exist_here(refused, reviews, tmp_path):
    options = [*FAST, "--target", "label", "--method", "kernel"]
    refused(written(reviews(), tmp_path), "There is no method 'kernel' for this table; there are", options=options)


def test_a_budget_too_small_for_anything(goes_on, reviews, tmp_path):
    options = [*FAST, "--target", "label", "--budget", "0.01s"]
    report = goes_on(written(reviews(rows=100), tmp_path), "The time budget ended after", options=options)
    assert not report["used_unlabelled"]
    assert report["supervised"]["estimate"] > 0
    assert report["chosen"]["members"]


# Odd tables of every kind

cells = st.one_of(
    st.none(),
    st.sampled_from(
        ["", " ", "nan", "NULL", "a", "b", "1", "1.0", "-1", "inf", "é", "0x1f", "2020-01-01", "a,b", "\x00"]
    ),
    st.integers(-5, 5),
    st.floats(allow_nan=True, allow_infinity=True),
    st.booleans(),
    st.text(max_size=8),
)


@st.composite
def odd_tables(draw):
    rows = draw(st.integers(2, 24))
    names = draw(st.lists(st.text(max_size=6), min_size=1, max_size=4))
    table = {}
    for name in names:
        pool = draw(st.lists(cells, min_size=1, max_size=6))
        table[name] = [pool[draw(st.integers(0, len(pool) - 1))] for _ in range(rows)]
    labels = draw(st.lists(st.sampled_from(["yes", "no", "perhaps", None, ""]), min_size=rows, max_size=rows))
    return pd.DataFrame(table | {"the label": labels}, dtype=object)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(odd_tables())
def test_odd_tables_are_fitted_or_refused(table):
    try:
        result = fit(table, target="the label", encoder="none", method="logistic", budget="3s", jobs=1)
    except InputError as error:
        assert len(str(error)) > 20  # noqa: PT017
        return
    found = result.model.predict_proba(table)
    assert found.shape == (len(table), len(result.report["classes"]))
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    assert np.isfinite(result.student.predict_proba(table)).all()
    json.dumps(result.report.values, default=str)
