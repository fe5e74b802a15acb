"""Folders without a table."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cotrain.auto.commands import label_next, predict
from cotrain.auto.fit import fit
from cotrain.auto.folder import files_as_table
from cotrain.auto.problem import load
from cotrain.auto.read import read
from cotrain.auto.report import lines
from cotrain.errors import InputError

RNG = np.random.default_rng(0)


def picture(path, dark):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 60, (8, 8), np.uint8) + (0 if dark else 180)).convert("L").save(path)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def photos(tmp_path):
    """Six dark pictures, six light ones and forty unsorted ones."""
    folder = tmp_path / "photos"
    for number in range(6):
        picture(folder / "dark" / f"{number}.png", True)
        picture(folder / "light" / "of may" / f"{number}.png", False)
    for number in range(40):
        picture(folder / "unlabelled" / f"{number:02}.png", number % 2)
    return folder


def test_the_folder_of_a_file_is_its_label(photos):
    for aside in (".DS_Store", ".thumbnail.png", "__MACOSX/dark/0.png", ".cache/1.png", "README.txt", "dark/notes.txt"):
        text(photos / aside, "nothing")
    picture(photos / "new.png", True)
    source = read(photos)
    assert source.name == "photos"
    assert source.is_folder
    assert source.of_files
    label = dict(zip(source.frame["file"], source.frame["label"], strict=True))
    assert len(label) == 53
    assert label["dark/3.png"] == "dark"
    assert label["light/of may/3.png"] == "light"
    assert label["unlabelled/07.png"] == label["new.png"] == ""
    assert source.row_label(1) == "dark/0.png"
    assert source.warnings == [
        "photos holds no table: its 53 image files are rows of the columns 'file' and 'label'; "
        "the folder of each is its label (dark 6, light 6; 41 without).",
        "Files of other sorts, left alone: 1 (.txt 1).",
    ]
    problem = load(photos)  # the column of the labels need not be named
    assert (problem.columns.target, problem.columns.image) == ("label", ("file",))
    assert (len(problem.labelled), len(problem.unlabelled)) == (12, 41)


def test_another_folder_may_hold_what_has_no_label(photos):
    (photos / "unlabelled").rename(photos / "inbox")
    problem = load(photos, unlabelled="inbox")
    assert (problem.audit.classes, len(problem.unlabelled)) == (["dark", "light"], 40)


def test_a_table_goes_before_the_folders(photos):
    pd.DataFrame({"photo": ["dark/1.png"], "is": ["dark"]}).to_csv(photos / "labels.csv", index=False)
    source = read(photos)
    assert (source.name, len(source), source.of_files) == ("photos/labels.csv", 1, False)


def test_texts_are_read_whatever_their_encoding(tmp_path):
    text(tmp_path / "good" / "a.txt", "\ufeffcafé, twice\r\na week")
    text(tmp_path / "good" / "b.txt", "café".encode("cp1252"))
    text(tmp_path / "bad" / "c.txt", "naïve".encode("utf-16"))
    text(tmp_path / "bad" / "d.txt", b"")
    text(tmp_path / "unsup" / "e.txt", bytes(range(32)) * 20)
    text(tmp_path / "LICENSE.txt", "as you like")
    (tmp_path / "bad" / "b.txt").symlink_to(tmp_path / "gone.txt")
    source = read(tmp_path)
    assert source.frame["text"].tolist() == ["", "naïve", "", "café, twice\r\na week", "café", ""]
    assert source.frame["label"].tolist() == ["bad", "bad", "bad", "good", "good", ""]
    assert source.unlisted == ("bad/b.txt", "bad/c.txt", "bad/d.txt", "good/a.txt", "good/b.txt", "unsup/e.txt")
    assert source.warnings[1:] == [
        "Files that are not UTF-8, read as western text: 1 (good/b.txt).",
        "Files that cannot be read as text, taken as empty: 2 (bad/b.txt, unsup/e.txt).",
    ]


def test_parts_of_a_dataset_are_no_classes(photos, tmp_path):
    photos.rename(tmp_path / "train")
    picture(tmp_path / "test" / "dark" / "0.png", True)
    picture(tmp_path / "unlabelled" / "0.png", True)
    with pytest.raises(
        InputError, match=r"holds train, test, which look like parts .* Give .*train, and another as --t"
    ):
        read(tmp_path)
    (tmp_path / "a class").mkdir()
    picture(tmp_path / "a class" / "0.png", True)
    assert len(read(tmp_path)) == 55  # a class may be called "train"


def test_several_sorts_need_a_table(photos):
    text(photos / "dark" / "0.wav", "no sound")
    with pytest.raises(InputError, match=r"holds 52 image files and 1 sound files and no table"):
        read(photos)


def test_a_folder_without_such_files_is_none(tmp_path):
    text(tmp_path / "a" / "b.docx", "nothing")
    assert files_as_table(tmp_path) is None
    with pytest.raises(InputError, match=r"no table and no images, sounds or texts\. Put a labels.csv into it"):
        read(tmp_path)


def test_fit_score_predict_and_label_next(photos, tmp_path, capsys):
    for number in range(8):
        picture(tmp_path / "held" / ("dark" if number % 2 else "light") / f"{number}.png", number % 2)
        picture(tmp_path / "new" / f"{number}.png", number % 2)
    picture(photos / "dark" / "wrong.png", False)
    report = fit(photos, test=tmp_path / "held", encoder="none", method="logistic", jobs=1, out=tmp_path / "out").report
    assert report["rows"] == {"labelled": 13, "unlabelled": 40, "test": 8}
    assert report["test"]["chosen"] == 1.0
    assert [(item["file"], item["rather"]) for item in report["suspicious"]] == [("dark/wrong.png", "light")]
    assert "suspicious   labels in dark/wrong.png" in lines(report.values)
    assert {item["file"] for item in report["label_next"]} <= {f"unlabelled/{number:02}.png" for number in range(40)}
    for student in (False, True):
        predict(tmp_path / "out", tmp_path / "new", student, tmp_path / "new.csv")
        said = pd.read_csv(tmp_path / "new.csv")
        assert said.columns.tolist() == ["file", "prediction", "p:dark", "p:light"]
        assert said["file"].tolist() == [f"{number}.png" for number in range(8)]
        assert said["prediction"].isin(["dark", "light"]).all()
    assert "none of them lies in a folder of a class" in capsys.readouterr().err
    label_next(tmp_path / "out", photos, 3, True)
    assert capsys.readouterr().out.count('"where": "unlabelled/') == 3


def test_a_model_of_a_table_knows_the_files_of_a_folder_by_its_own_names(hasty, photos, tmp_path):
    source = read(photos)
    frame = source.frame.rename(columns={"file": "photo", "label": "is"})
    frame["photo"] = [str(photos / file) for file in frame["photo"]]
    for number in range(8):
        picture(tmp_path / "held" / ("dark" if number % 2 else "light") / f"{number}.png", number % 2)
    result = fit(frame, target="is", test=tmp_path / "held", encoder="none", method="logistic", jobs=1)
    assert result.report["test"]["chosen"] == 1.0
    for knows in (result.model, result.student):
        assert knows.predict(tmp_path / "held").tolist() == ["dark"] * 4 + ["light"] * 4


def test_files_of_rarer_sorts_are_taken_and_the_others_counted(photos):
    text(photos / "dark" / "notes.docx", "nothing")
    text(photos / "dark" / "notes", "nothing")
    text(photos / "README.md", "nothing")
    for suffix in (".jfif", ".JPE", ".avif", ".heic", ".HEIC", ".mov"):
        text(photos / "light" / f"6{suffix}", "not looked at here")
    source = read(photos)
    assert len(source) == 55
    assert source.warnings[1:] == [
        "Files of other sorts, left alone: 5 (.heic 2, without a suffix 1, .docx 1, .mov 1).",
        "Files that cannot be read (.heic 2, .mov 1): convert them to PNG or WAV.",
    ]


def test_a_folder_of_files_that_cannot_be_read(tmp_path):
    text(tmp_path / "a" / "1.m4a", "nothing")
    with pytest.raises(
        InputError, match=r"holds no table, and its files \(\.m4a 1\) cannot be read; convert them to PNG"
    ):
        read(tmp_path)


def test_links_to_folders_are_followed_once(photos, tmp_path):
    (photos / "light").rename(tmp_path / "light")
    (photos / "light").symlink_to(tmp_path / "light")
    (photos / "all of dark").symlink_to(photos / "dark")  # beside it
    (photos / "dark" / "up").symlink_to(photos)
    assert read(photos).frame["label"].value_counts().to_dict() == {"": 40, "dark": 6, "light": 6}


def test_a_stray_table_is_named(photos):
    text(photos / "class_indices.json", '{"dark": 0, "light": 1}')
    with pytest.raises(InputError, match=r"Name the column.* The table is photos/class_indices\.json; move it away if"):
        load(photos)
