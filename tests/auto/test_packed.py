import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from cotrain.auto.audit import audit
from cotrain.auto.columns import infer
from cotrain.auto.packed import are_packed, unpack
from cotrain.auto.problem import load
from cotrain.auto.read import read
from cotrain.errors import InputError


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("COTRAIN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(grey, kind="png"):
    Image.fromarray(np.full((6, 6), grey, np.uint8)).save(into := io.BytesIO(), kind)
    return into.getvalue()


def sound(pitch):
    soundfile.write(into := io.BytesIO(), np.sin(np.arange(400) * pitch), 8_000, format="WAV")
    return into.getvalue()


LABELS = [*["dark", "light"] * 5, *[None] * 20]


@pytest.mark.parametrize("how", ["bytes", "structs", "frame"])
def test_a_table_with_pictures_in_its_cells_is_one_of_files(tmp_path, how):
    contents = [picture(8 * row) for row in range(30)]
    cells = contents if how == "bytes" else [{"bytes": content, "path": None} for content in contents]
    data = frame = pd.DataFrame({"image": cells, "label": LABELS})
    if how != "frame":
        frame.to_parquet(data := tmp_path / "train.parquet")
    problem = load(data, target="label")
    assert problem.columns.image == problem.columns.features == ("image",)
    assert any("'image': the files in its cells were written to" in warning for warning in problem.audit.warnings)
    found = read(data).frame["image"]
    assert [Path(path).read_bytes() for path in found] == contents
    assert found[3].endswith("000003.png")
    assert read(data).frame["image"].equals(found)


def test_sounds_keep_the_names_they_had(tmp_path):
    cells = [{"bytes": sound(0.1 + row / 100), "path": f"clips/ann_{row}.wav"} for row in range(30)]
    pd.DataFrame({"audio": cells, "label": LABELS}).to_parquet(tmp_path / "t.parquet")
    source = read(tmp_path / "t.parquet")
    columns = infer(source.frame, target="label")
    assert columns.audio == ("audio",)
    assert [Path(path).name for path in source.frame["audio"]] == [f"ann_{row}.wav" for row in range(30)]
    assert audit(source, columns).usable.all()


def test_names():
    def names(cells):
        return [path and Path(path).name for path in unpack("x", pd.Series(cells, dtype=object))[0]]

    png, jpeg = picture(1), picture(2, "jpeg")
    assert names([png, None, jpeg]) == ["000000.png", None, "000002.jpg"]
    named = [{"bytes": png, "path": "../a b/.c d.PNG"}, {"bytes": jpeg, "path": "e.jpeg"}, {"bytes": jpeg, "path": "f"}]
    assert names(named) == ["c_d.PNG", "e.jpeg", "f.jpg"]
    assert names([{"bytes": png, "path": "a.png"}, {"bytes": jpeg, "path": "A.png"}]) == ["000000.png", "000001.jpg"]
    assert names([{"bytes": None, "path": "a.png"}, {"bytes": png, "path": "b.png"}]) == ["a.png", "b.png"]
    assert names([{"bytes": None, "path": "a"}, {"bytes": png, "path": "b"}, {"bytes": b"no", "path": "c"}]) == [
        None,
        "b.png",
        None,
    ]


def test_opened_pictures_are_taken_too():
    frame = pd.DataFrame({"image": [Image.new("L", (5, 4), row) for row in range(3)]})
    found = read(frame).frame["image"]
    assert [Image.open(path).getpixel((0, 0)) for path in found] == [0, 1, 2]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "F", "I", "I;16", "P", "LA", "1"])
def test_opened_pictures_of_any_mode(mode):
    grey = Image.new("L", (5, 4), 255)
    opened = grey.convert(mode) if mode not in ("HSV", "LAB", "YCbCr") else grey.convert("RGB").convert(mode)
    problem = load(pd.DataFrame({"image": [opened] * 30, "label": LABELS}), target="label")
    assert problem.columns.image == ("image",)
    assert len(problem.labelled) == 10


def test_files_that_only_their_paths_tell(tmp_path):
    """As `datasets` gives a folder of images: no bytes, and the class in the path."""
    paths = [tmp_path / ["dark", "light"][row % 2] / f"{row}.png" for row in range(30)]
    for row, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(8 * row))
    cells = [{"bytes": None, "path": str(path)} for path in paths]
    problem = load(pd.DataFrame({"image": cells, "label": LABELS}), target="label")
    assert problem.columns.features == problem.columns.image == ("image",)
    assert any("'image': the files that its cells name are read" in warning for warning in problem.audit.warnings)
    assert read(pd.DataFrame({"image": cells})).frame["image"].tolist() == list(map(str, paths))


@pytest.mark.parametrize("kind", ["avif", "jpeg2000", "ppm"])
@pytest.mark.parametrize("first", [None, b""])
def test_pictures_of_rarer_sorts_and_a_first_row_without_one(tmp_path, kind, first):
    if kind == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    cells = [{"bytes": first, "path": None}] + [{"bytes": picture(8 * row, kind), "path": None} for row in range(1, 30)]
    pd.DataFrame({"image": cells, "label": LABELS}).to_parquet(tmp_path / "t.parquet")
    problem = load(tmp_path / "t.parquet", target="label")
    assert problem.columns.features == problem.columns.image == ("image",)
    assert (len(problem.frame), len(problem.labelled)) == (29, 9)
    assert any("no image or sound that is known: 1." in warning for warning in problem.audit.warnings)


def test_bytes_of_which_nothing_is_known_are_no_texts():
    cells = [{"bytes": bytes([row] * 9), "path": f"{LABELS[row % 2]}.{row}"} for row in range(30)]
    frame = pd.DataFrame({"image": cells, "n": np.arange(30) % 7, "label": LABELS})
    assert load(frame, target="label").columns.features == ("n",)


@pytest.mark.parametrize(
    "pack", [lambda file: {"data": file, "name": "x"}, lambda file: [{"bytes": file}], lambda file: [file]]
)
def test_bytes_deeper_in_cells_are_no_texts(pack):
    frame = pd.DataFrame({"x": [pack(picture(row)) for row in range(6)], "n": range(6)})
    source = read(frame)
    assert source.frame.columns.tolist() == ["n"]
    assert source.warnings == ["Column 'x' holds bytes and is left out."]


def test_arrays_of_pictures_that_differ_in_size():
    cells = [np.full((4 + row % 3, 5, *[3] * (row % 2)), 8 * row, np.uint8) for row in range(30)]
    problem = load(pd.DataFrame({"image": cells, "label": LABELS}), target="label")
    assert problem.columns.features == problem.columns.image == ("image",)


def test_a_cell_that_lost_its_picture_is_a_row_without_one(tmp_path):
    cells = [picture(8 * row) for row in range(29)] + [None]
    problem = load(pd.DataFrame({"image": cells, "label": LABELS}), target="label")
    assert len(problem.frame) == 29
    assert any("row 30: no file is named" in warning for warning in problem.audit.warnings)


@pytest.mark.parametrize(
    "cells", [[b"some text", b"more"], [None, None], ["a", "b"], [{"a": 1}], [b""], [b"BMW"], [], [pd.NA], [np.ones(3)]]
)
def test_other_cells_are_not_packed(cells):
    assert not are_packed(pd.Series(cells, dtype=object))


def test_bytes_that_are_no_files_are_left_out_of_a_parquet(tmp_path):
    pd.DataFrame({"a": [b"12", b"34"], "n": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    source = read(tmp_path / "t.parquet")
    assert source.frame.columns.tolist() == ["n"]
    assert "Column 'a' holds bytes and is left out." in source.warnings


def test_other_pictures_of_the_same_name_and_length_are_other_files():
    first, second = (b"\x89PNG" + bytes([number]) * 20 for number in (1, 2))
    paths = [unpack("i", pd.Series([{"bytes": content, "path": "a.png"}]))[0][0] for content in (first, second)]
    assert [Path(path).read_bytes() for path in paths] == [first, second]


@pytest.mark.parametrize(
    ("files", "others", "packed"),
    [([b"fLaC1234"], [b"BM...." + bytes([n]) for n in range(19)], False), ([b"fLaC1234"] * 3, [b"xxxx"] * 7, True)],
)
def test_files_are_packed_where_more_than_a_few_cells_start_as_files_do(files, others, packed):
    assert are_packed(pd.Series(others + files, dtype=object)) is packed


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("COTRAIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="column 'image' cannot be written"):
        read(pd.DataFrame({"image": [picture(1), picture(2)]}))


@pytest.mark.parametrize(
    ("start", "suffix"),
    [
        (b"GIF89a", ".gif"),
        (b"BM\x10\0\0\0\0\0\0\0", ".bmp"),
        (b"II*\0", ".tif"),
        (b"MM\0*", ".tif"),
        (b"RIFF\x10\0\0\0WEBP", ".webp"),
        (b"RIFF\x10\0\0\0WAVE", ".wav"),
        (b"OggS\0", ".ogg"),
        (b"ID3\x04", ".mp3"),
        (b"\xff\xfb\x90\x64", ".mp3"),
        (b"FORM\0\0\x10\0AIFF", ".aiff"),
        (b".snd\0", ".au"),
        (b"caff\0", ".caf"),
    ],
)
def test_files_are_told_by_how_they_begin(start, suffix):
    (path,), _ = unpack("x", pd.Series([start + bytes(20)], dtype=object))
    assert Path(path).name == f"000000{suffix}"


PAIR, OTHER = {"bytes": b"what", "path": "a"}, {"bytes": b"what"}


@pytest.mark.parametrize(
    ("cells", "packed"),
    [
        ([b"fLaC1234"] * 2 + [b"xxxx"] * 8, True),
        ([PAIR] * 6 + [OTHER] * 4, True),  # most have the form of Hugging Face
        ([PAIR] * 4 + [OTHER] * 6, False),
        ([np.ones((4, 5)), np.ones((3, 5))], False),  # numbers, no pixels
        ([np.ones(4, np.uint8), np.ones(3, np.uint8)], False),
        ([np.ones((4, 5, 4), np.uint8), np.ones((3, 5, 4), np.uint8)], True),
    ],
)
def test_which_cells_are_packed(cells, packed):
    assert are_packed(pd.Series(cells, dtype=object)) is packed


def test_columns_whose_bytes_are_the_same_one_after_another_keep_files_of_their_own():
    png = b"\x89PNG"
    paths = [unpack("i", pd.Series(cells, dtype=object))[0] for cells in ([png * 2, png], [png, png * 2])]
    assert [Path(path).read_bytes() for path in paths[0]] == [png * 2, png]
    assert [Path(path).read_bytes() for path in paths[1]] == [png, png * 2]


def test_a_file_that_was_cut_short_is_written_again():
    cells = pd.Series([picture(1)], dtype=object)
    (path,), _ = unpack("i", cells)
    Path(path).write_bytes(picture(1)[:9])
    unpack("i", cells)
    assert Path(path).read_bytes() == picture(1)
