import json
import unicodedata
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_iris

from cotrain.auto.align import align, source_warnings
from cotrain.auto.audit import _check_files, audit, overlap
from cotrain.auto.columns import Columns, infer
from cotrain.auto.delimited import LIKE_A_ROW
from cotrain.auto.duplicates import hash_content, plain_texts, repeats_by_nature
from cotrain.auto.leaks import find_leaks
from cotrain.auto.media import check_media
from cotrain.auto.model import usable_rows
from cotrain.auto.read import read
from cotrain.auto.written import Writing
from cotrain.errors import InputError
from cotrain.views.pixels import decode, read_image

RANDOM = np.random.default_rng(0)
TEXTS = [
    "the film was long and dull",
    "a joy from start to end",
    "I would watch it again at once",
    "not worth the price of the ticket",
    "the actors did what they could",
    "music and light were a delight",
]


def look(frame, target="label", unlabelled=None, **named):
    source = read(pd.DataFrame(frame), name="table.csv")
    return audit(source, infer(source.frame, target=target, **named), unlabelled=unlabelled)


def said(result, *parts):
    return any(all(part in warning for part in parts) for warning in result.warnings)


# Labels and counts


def test_labels_counts_and_masks():
    found = look({"text": TEXTS, "label": ["bad", "good", None, "bad", "", "good"]}, text="text")
    assert (found.classes, found.counts) == (["bad", "good"], {"bad": 2, "good": 2})
    assert found.y.tolist() == [0, 1, -1, 0, -1, 1]
    assert found.labelled.sum() == 4
    assert found.unlabelled.tolist() == [False, False, True, False, True, False]
    assert said(found, "fewer unlabelled rows (2) than labelled ones (4)")
    plain = json.loads(json.dumps(found.to_dict()))
    assert (plain["rows"], plain["labelled"], plain["unlabelled"], plain["left_out"]) == (6, 4, 2, 0)


def test_no_labels_and_one_class_are_refused():
    with pytest.raises(InputError, match=r"table.csv: no row has a label in column 'label' \(6 rows\)"):
        look({"text": TEXTS, "label": [None] * 6}, text="text")
    with pytest.raises(InputError, match="all 2 labelled rows are of one class, 'a'"):
        look({"text": TEXTS, "label": ["a", "a", "", None, None, None]}, text="text")
    with pytest.raises(InputError, match="one class, 'a'"):
        look({"text": TEXTS, "label": ["a", "a", "?", "?", "?", "?"]}, text="text", unlabelled="?")


def test_single_labels_and_all_labelled_go_on_with_a_warning():
    found = look({"text": TEXTS, "label": ["a", "b", "b", "b", "a", "c"]}, text="text")
    assert said(found, "single label", "'c' in row 6")
    assert said(found, "Every row has a label")


# Duplicates and conflicts


def test_duplicates_conflicts_and_clusters():
    texts = [*TEXTS, TEXTS[0], "The film, was LONG and dull!!", TEXTS[1]]
    found = look({"text": texts, "label": ["a", "b", "a", "b", None, None, "b", "a", None]}, text="text")
    assert (found.duplicates, found.near_duplicates) == (2, 1)
    assert found.cluster[0] == found.cluster[6] == found.cluster[7]
    assert len(set(found.cluster)) == 6
    assert found.conflicts == [{"rows": [1, 7, 8], "where": ["row 1", "row 7", "row 8"], "labels": ["a", "b", "a"]}]
    assert said(found, "differ in the label: 3", "row 1 'a'", "row 7 'b'")
    assert found.repeated_unlabelled == 1
    assert said(found, "without a label: 1")


def test_the_same_long_text_stays_together_whatever_the_other_columns_say():
    found = look(
        {
            "text": [*TEXTS, TEXTS[0], "ok", "ok"],
            "n": np.arange(9) / 2,
            "label": ["a", "b", "a", "b", None, None, "b", "a", "b"],
        },
        text="text",
    )
    assert found.cluster[0] == found.cluster[6]
    assert found.cluster[7] != found.cluster[8]  # short texts recur by chance
    assert (found.duplicates, found.conflicts) == (0, [])


def test_hashes_do_not_depend_on_the_order_of_rows():
    order = RANDOM.permutation(6)
    first = look({"text": TEXTS, "n": np.arange(6) / 2, "label": ["a", "b"] * 3}, text="text")
    second = look(
        {"text": np.array(TEXTS)[order], "n": order / 2, "label": np.array(["a", "b"] * 3)[order]}, text="text"
    )
    np.testing.assert_array_equal(first.content[order], second.content)
    np.testing.assert_array_equal(first.cluster[order], second.cluster)


def test_what_makes_texts_the_same():
    plain = plain_texts(pd.Series(["Don't  STOP -- now!", "dont", "ÉTÉ ２０", "?!", " ?! ", ""]))
    composed = [unicodedata.normalize("NFC", text) for text in plain]  # Arrow decomposed before its version 26
    assert composed == ["don t stop now", "dont", "été 20", "?!", "?!", ""]
    assert plain_texts(pd.Series(["e\u0301te\u0301 20"])).item() == plain[2]


def test_copied_rows_of_a_rich_table_are_copies():
    numbers = RANDOM.normal(size=(30, 3)).round(2)
    frame = pd.DataFrame(np.vstack([numbers, numbers[:20]]), columns=list("abc")).assign(label=["x", "y"] * 25)
    found = look(frame)
    assert found.duplicates == 20
    assert len(set(found.cluster)) == 30


def test_equal_rows_of_a_poor_table_are_no_copies():
    frame = pd.DataFrame(RANDOM.integers(0, 3, (200, 2)), columns=list("ab")).assign(
        label=RANDOM.choice(["x", "y"], 200)
    )
    found = look(frame)
    assert len(set(found.cluster)) == 200
    assert found.conflicts == []
    assert said(found, "to be expected")


def test_expected_repeats_by_hand():
    # Two columns of two equally common values: a quarter of all pairs is expected, and found, equal.
    frame = pd.DataFrame({"a": [0.0, 0, 1, 1] * 5, "b": [0.0, 1, 0, 1] * 5})
    columns = Columns("y", number=("a", "b"))
    assert repeats_by_nature(frame, columns, hash_content(frame, columns).near)
    rich = pd.DataFrame({"a": np.arange(20.0) // 2, "b": np.arange(20.0) // 2})  # ten rows, each twice
    # 10 equal pairs; expected (1/10)^2 * 190 = 1.9, of which a tenth of the pairs is less: natural.
    assert repeats_by_nature(rich, columns, hash_content(rich, columns).near)
    richer = pd.DataFrame({"a": np.arange(60.0) // 2, "b": np.arange(60.0) // 2})
    # 30 equal pairs; expected (1/30)^2 * 1770 = 1.97 < 3: copies.
    assert not repeats_by_nature(richer, columns, hash_content(richer, columns).near)


def test_empty_rows_are_no_conflict():
    found = look(
        {"text": ["", " ", "", *TEXTS], "label": ["a", "b", "a", "b", None, None, "a", None, None]}, text="text"
    )
    assert (found.duplicates, found.conflicts) == (0, [])
    assert said(found, "every column is empty: 3", "row 1, row 2, row 3")
    assert found.empty_texts == {"text": 3}


# Cells


def test_missing_infinite_and_stray_cells():
    ages = [str(20 + i % 30) for i in range(40)]
    ages[3] = "old"
    frame = {
        "age": ages,
        "n": [1.0, np.inf, -np.inf, np.nan] * 10,
        "kind": ["a", "b", ""] * 13 + ["a"],
        "label": ["x", "y"] * 20,
    }
    found = look(frame)
    assert found.missing == {"age": 1, "n": 30, "kind": 13}
    assert found.infinite == {"n": 20}
    assert said(found, "'n'", "infinite", "20")
    assert said(found, "'age'", "not numbers", "'old'")
    assert said(found, "More than half", "'n' 75%")


def test_very_long_texts_and_many_categories():
    long = look({"text": [*TEXTS, "word " * 10_000, "end"], "label": ["a", "b"] * 4}, text="text")
    assert long.long_texts == {"text": 1}
    assert said(long, "20,000 characters", "row 7")
    many = look({"zip": [*[f"Z{i}" for i in range(10_000)] * 2, "Z1", "once"], "label": ["a", "b"] * 10_001})
    assert many.categories == {"zip": 10_001}
    assert said(many, "10,001 categories, 1 of them in one row only")


def test_dropped_columns_and_hints_are_told():
    frame = {
        "id": range(100, 160),
        "text": [f"{t} {i}" for i in range(10) for t in TEXTS],
        "speaker": ["a", "b", "c"] * 20,
    }
    found = look({**frame, "label": ["x", "y"] * 30})
    assert said(found, "'id' is left out", "numbers the rows")
    assert said(found, "--group 'speaker'")
    assert not said(look({**frame, "label": ["x", "y"] * 30}, drop="id"), "'id'")


def test_many_columns_that_are_left_out_for_one_reason_are_one_sentence():
    frame = {"text": [f"{t} {i}" for i in range(10) for t in TEXTS], "label": ["x", "y"] * 30}
    found = look(frame | {f"p{i}": [0] * 60 for i in range(9)} | {"unit": ["cm"] * 60})
    assert said(found, "Left out: 'p0', 'p1', 'p2', 'p3', 'p4' and 4 more: constant (0 in every row).")
    assert said(found, "Column 'unit' is left out: constant ('cm' in every row).")
    assert not said(found, "Column 'p0'")


# Leaks


def test_columns_that_give_the_label_away_are_named():
    y = RANDOM.integers(0, 2, 60)
    frame = {
        "copy": np.where(y == 1, "yes", "no"),
        "code": y * 5 + 1.0,
        "score": y * 3 + RANDOM.random(60),
        "honest": y + RANDOM.normal(size=60),
        "noise": RANDOM.choice(["p", "q"], 60),
        "label": np.where(y == 1, "good", "bad"),
    }
    found = look(frame)
    assert set(found.leaks) == {"copy", "code", "score"}
    assert said(found, "'copy' alone predicts the label in 100.0%", "--drop 'copy'")


def test_what_is_made_of_a_column_leaks_and_misses_by_the_name_of_the_column():
    y = RANDOM.integers(0, 2, 60)
    frame = {
        "when": [f"2024-0{1 + 6 * label}-{1 + i % 28:02d}" if i % 5 > 2 else "" for i, label in enumerate(y)],
        "sku": [f"{'AX' if label else 'BZ'}-{i:04d}" for i, label in enumerate(y)],
        "label": np.where(y == 1, "good", "bad"),
    }
    found = look(frame)
    assert found.leaks == {"sku": 1.0}
    assert set(found.missing) == {"when"}
    assert said(found, "missing in 'when' 60%.")


def test_honest_tables_have_no_leaks():
    for load in (load_iris, load_breast_cancer):
        frame = load(as_frame=True).frame
        assert look(frame, target="target").leaks == {}
        for seed in range(10):
            few = frame.sample(30, random_state=seed)
            assert look(few, target="target").leaks == {}


def test_leave_one_out_by_hand():
    frame = pd.DataFrame({"c": ["u"] * 6 + ["v"] * 6})
    columns = Columns("y", category=("c",))
    y = np.repeat([0, 1], 6)
    assert find_leaks(frame, columns, y) == {"c": 1.0}
    y_wrong = y.copy()
    y_wrong[0] = 1  # one of twelve rows now contradicts its value: 11 of 12 is below 0.99
    assert find_leaks(frame, columns, y_wrong) == {}
    assert find_leaks(frame.iloc[:9], columns, y[:9]) == {}  # fewer than ten labelled rows
    unique = pd.DataFrame({"c": [f"v{i}" for i in range(12)]})  # every value is new: nothing is known from it
    assert find_leaks(unique, columns, y) == {}


# Images and sounds


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def picture_source(folder, names, labels):
    pd.DataFrame({"file": names, "label": labels}).to_csv(folder / "labels.csv", index=False)
    return read(folder)


def test_broken_images_are_listed_and_left_out(pictures):
    (pictures / "1.png").write_bytes((pictures / "0.png").read_bytes()[:-60])
    (pictures / "2.png").write_bytes(b"not an image")
    names = [f"{i}.png" for i in range(8)] + ["gone.png", ""]
    source = picture_source(pictures, names, ["a", "b"] * 5)
    columns = infer(source.frame, target="label", image="file", folder=source.folder)
    found = audit(source, columns)
    assert found.usable.tolist() == [True, False, False] + [True] * 5 + [False, False]
    assert found.y.tolist() == [0, -1, -1, 1, 0, 1, 0, 1, -1, -1]
    assert not found.unlabelled.any()
    assert said(found, "4 of 10 files of column 'file'", "row 2 (line 3): 1.png is broken", "gone.png does not exist")
    assert said(found, "row 10 (line 11): no file is named")


def test_mostly_broken_images_are_refused(pictures):
    names = [f"{i}.png" for i in range(4)] + [f"gone{i}.png" for i in range(20)]
    source = picture_source(pictures, names, ["a", "b"] * 12)
    with pytest.raises(InputError, match=r"20 of 24 files of column 'file'.*more than half.*gone0.png.*and 15 more"):
        audit(source, infer(source.frame, target="label", folder=source.folder, image="file"))


def test_copies_of_a_file_under_another_name_are_one(pictures):
    (pictures / "copy.png").write_bytes((pictures / "3.png").read_bytes())
    source = picture_source(pictures, [f"{i}.png" for i in range(8)] + ["copy.png"], ["a", "b"] * 4 + ["a"])
    found = audit(source, infer(source.frame, target="label", folder=source.folder))
    assert found.cluster[3] == found.cluster[8]
    assert found.duplicates == 1
    assert found.conflicts == [{"rows": [4, 9], "where": ["row 4 (line 5)", "row 9 (line 10)"], "labels": ["b", "a"]}]


def test_sounds(tmp_path):
    soundfile.write(tmp_path / "good.wav", RANDOM.normal(size=800) / 9, 8000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), 8000)
    (tmp_path / "short.flac").write_bytes(b"fLaC")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    names = ["good.wav", "silent.wav", "short.flac", "empty.wav", "folder.wav", "good.wav"]
    media = check_media([tmp_path / name for name in names], "audio")
    assert media.usable.tolist() == [True, False, False, False, False, True]
    assert media.content[0] == media.content[5] != 0
    assert "holds no sound" in media.problems[1]
    assert "is empty" in media.problems[3]


def test_a_row_needs_its_image_and_its_sound(pictures):
    for n in range(5):
        soundfile.write(pictures / f"{n}.wav", np.zeros(800), 8_000)
    (pictures / "0.png").write_bytes(b"no image")
    (pictures / "1.wav").write_bytes(b"no sound")
    table = pd.DataFrame({"seen": [f"{n}.png" for n in range(5)], "heard": [f"{n}.wav" for n in range(5)]})
    table.assign(label=["a", "b", "a", "b", ""]).to_csv(pictures / "labels.csv", index=False)
    source = read(pictures / "labels.csv")
    columns = infer(source.frame, target="label", folder=source.folder)
    assert (columns.image, columns.audio) == (("seen",), ("heard",))
    assert audit(source, columns).usable.tolist() == [False, False, True, True, True]
    assert usable_rows(source, align(source.frame, columns), columns, []).tolist() == [False, False, True, True, True]


def test_what_is_known_of_files_stands_at_their_rows_where_others_are_left_out(pictures):
    frame = pd.DataFrame({"file": ["0.png", "1.png", "2.png"]})
    source = SimpleNamespace(folder=pictures, row_label=str)
    usable, files = _check_files(source, frame, Columns("label", image=("file",)), None, np.array([False, True, True]))
    assert usable.tolist() == (files["file"] != 0).tolist() == [False, True, True]


def test_a_cut_jpeg_is_broken(tmp_path):
    Image.fromarray(RANDOM.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", quality=95)
    whole = (tmp_path / "a.jpg").read_bytes()
    assert check_media([tmp_path / "a.jpg"], "image").usable.all()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    assert not check_media([tmp_path / "a.jpg"], "image").usable.any()


# The same rows in training and test


def test_sorts_that_are_not_read_are_counted(pictures):
    for i in range(4):
        (pictures / f"{i}.heic").write_bytes(b"not read")
    (pictures / "7.png").rename(pictures / "7.heic")  # by its bytes it is one that is read
    source = picture_source(pictures, [f"{i}.{'heic' if i < 4 or i == 7 else 'png'}" for i in range(8)], ["a", "b"] * 4)
    found = audit(source, infer(source.frame, target="label", image="file"))
    assert found.usable.sum() == 4
    assert said(found, "4 of 8 files", "Files that cannot be read (.heic 4): convert them to PNG or WAV.")


def test_what_passes_is_read_by_the_views(tmp_path):
    """Damage, or a sort of colours, that only the views' way of reading met."""
    grey = Image.new("L", (8, 4), 200)
    turned = b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x0e\0\x05\0\0\0\x01\0\0\0\x26\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
    grey.save(tmp_path / "rational.jpg", exif=turned + b"\0\0\0\0\0\0\0\x01\0\0\0\x02")  # where a text belongs
    grey.save(tmp_path / "damaged.webp", exif=b"Exif\0\0no such thing", lossless=True)
    grey.convert("RGB").convert("LAB").save(tmp_path / "lab.tif")
    names = ["rational.jpg", "damaged.webp", "lab.tif"]
    assert check_media([tmp_path / name for name in names], "image").problems == {}
    assert read_image("rational.jpg", str(tmp_path), "", 1, 8).size == (4, 8)
    assert decode(names, str(tmp_path), (4, 4, 1)) == pytest.approx(200, abs=3)


def test_sounds_with_samples_that_are_no_numbers(tmp_path):
    wave = np.zeros(400)
    for name, sample, subtype in (("good", 0.5, "FLOAT"), ("nan", np.nan, "FLOAT"), ("large", 1e300, "DOUBLE")):
        wave[7] = sample
        soundfile.write(tmp_path / f"{name}.wav", wave, 8_000, subtype)
    found = check_media([tmp_path / f"{name}.wav" for name in ("good", "nan", "large")], "audio")
    assert found.usable.tolist() == [True, False, False]
    assert found.problems[1].endswith("(it holds samples that are not finite)")


def test_a_sound_in_mp3_is_read_to_its_end_without_complaints(tmp_path, capfd):
    time = np.arange(44_100) / 44_100
    wave = 0.3 * np.sin(2 * np.pi * 300 * time) + RANDOM.normal(0, 0.05, len(time))
    for rate in (8_000, 16_000, 44_100):
        soundfile.write(tmp_path / f"{rate}.mp3", wave[: rate // 2], rate)
    whole = [tmp_path / f"{rate}.mp3" for rate in (8_000, 16_000, 44_100)]
    assert check_media(whole, "audio").problems == {}
    assert "error" not in capfd.readouterr().err
    (tmp_path / "cut.mp3").write_bytes(whole[2].read_bytes()[:2_000])
    assert check_media([tmp_path / "cut.mp3"], "audio").problems[0].endswith("(it ends too early)")


def test_texts_that_differ_in_an_emoji_are_no_copies():
    texts = [f"the film was long and {word} {sign}" for word in ("new", "old") for sign in ("😀", "😡", "❤", "❤\ufe0f")]
    found = look({"text": texts, "label": ["a", "b", "a", "a"] * 2}, text="text")
    assert (found.duplicates, found.near_duplicates, found.conflicts) == (0, 2, [])


def test_overlap_of_training_and_test(pictures):
    train = read(pd.DataFrame({"text": TEXTS[:4], "label": ["a", "b", "a", "b"]}))
    columns = infer(train.frame, target="label", text="text")
    test = read(pd.DataFrame({"extra": [1, 2, 3, 4], "text": [TEXTS[4], TEXTS[1].upper() + "!", "", TEXTS[0]]}))
    assert overlap(train, test, columns).tolist() == [1, 3]
    images = picture_source(pictures, ["0.png", "1.png"], ["a", "b"])
    seen = infer(images.frame, target="label", image="file", folder=images.folder)
    other = pictures / "other"
    other.mkdir()
    (other / "new.png").write_bytes((pictures / "1.png").read_bytes())
    assert overlap(images, picture_source(other, ["new.png"], ["a"]), seen).tolist() == [0]


# Tables at prediction


@pytest.fixture
def fitted():
    frame = pd.DataFrame(
        {
            "text": [f"{t} {i}" for i in range(5) for t in TEXTS],
            "n": RANDOM.normal(size=30),
            "colour": ["red", "blue", "green"] * 10,
            "day": [f"2024-01-{i + 1:02d}" for i in range(30)],
            "id": range(30),
            "label": ["x", "y"] * 15,
        }
    )
    return infer(read(frame).frame, target="label")


def test_a_table_for_prediction_may_be_reordered_and_have_more(fitted):
    frame = pd.DataFrame(
        {
            "new": [1, 2],
            "colour": ["red", "pink"],
            "n": ["1.5", "x"],
            "day": ["2024-03-01 12:00", "soon"],
            "text": ["hi", None],
        }
    )
    warnings: list[str] = []
    aligned = align(read(frame).frame, fitted, warnings)
    assert aligned.columns.tolist() == ["text", "n", "colour", "day:day", "day:month", "day:weekday", "day:hour"]
    assert aligned["text"].tolist() == ["hi", ""]
    np.testing.assert_array_equal(aligned["n"], [1.5, np.nan])
    assert aligned["colour"].tolist() == ["red", "pink"]
    np.testing.assert_array_equal(aligned["day:month"], [3, np.nan])
    np.testing.assert_array_equal(aligned["day:hour"], [12, np.nan])
    for part in (
        "not in training: 'pink'",
        "'n': cells that are not numbers",
        "'day': cells that are not dates",
        "ignored: new",
    ):
        assert any(part in warning for warning in warnings)


def test_missing_columns_count_as_missing_but_text_is_needed(fitted):
    warnings: list[str] = []
    aligned = align(read(pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"], "id": [1, 2]})).frame, fitted, warnings)
    assert aligned["n"].isna().all()
    assert aligned["colour"].tolist() == ["", ""]
    assert aligned["day:day"].isna().all()
    assert len(warnings) == 3
    with pytest.raises(InputError, match=r"no column 'text'. Did you mean 'texts'.*cannot do without"):
        align(read(pd.DataFrame({"texts": ["a"], "n": [1]})).frame, fitted)


def test_names_in_other_letters_are_taken_and_none_at_all_is_refused(fitted):
    warnings: list[str] = []
    aligned = align(
        read(pd.DataFrame({"TEXT": ["a", "b"], "N": [1, 2], "colours": ["red", "red"]})).frame, fitted, warnings
    )
    assert aligned["text"].tolist() == ["a", "b"]
    assert aligned["n"].tolist() == [1, 2]
    assert "Column 'N' is taken for 'n', which the model was fitted on." in warnings
    assert any("'colour' is not there" in warning and "'colours' is meant" in warning for warning in warnings)
    plain = infer(read(pd.DataFrame({"n": RANDOM.normal(size=30), "label": ["x", "y"] * 15})).frame, target="label")
    with pytest.raises(InputError, match=r"no column 'n'.*None of the columns.*header line"):
        align(read(pd.DataFrame({"0.5": [1.0], "x": ["y"]})).frame, plain)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,407.91", "950.00", "3"], [1407.91, 950, 3]),
        (["$168.30", "-$2", "n/a"], [168.3, -2, np.nan]),
        (["55,76", "1.234,50", "8", "k.A."], [55.76, 1234.5, 8, np.nan]),
        (["1.234", "0,5", "12,75", "1.234,50"], [1234, 0.5, 12.75, 1234.5]),
        (["50.7139", "1.234", "4,5"], [50.7139, 1.234, 4.5]),  # one cell says nothing of the others
        (["1,250", "-0,732", "2"], [1.25, -0.732, 2]),
        (["1,250", "2,525"], [1.25, 2.525]),  # as large as in training
        (["9,250", "8,525"], [9250, 8525]),  # large either way
        (["12 %", "3 %", "4"], [np.nan, np.nan, 4]),  # 0.12 or 12?
        (["1 kg", "2 kg", "3 kg"], [np.nan, np.nan, np.nan]),
        (["2:30", "4:00", "4"], [np.nan, np.nan, 4]),
    ],
)
def test_numbers_written_otherwise_than_in_training(cells, values):
    plain = infer(read(pd.DataFrame({"n": np.linspace(-3, 3.5, 30), "label": ["x", "y"] * 15})).frame, target="label")
    warnings: list[str] = []
    aligned = align(read(pd.DataFrame({"n": cells})).frame, plain, warnings)
    np.testing.assert_array_equal(aligned["n"], values)
    assert warnings
    told = [said for said in warnings if "decimal point" in said]
    shown = next((place for place, cell in enumerate(cells) if "," in cell), 0)
    assert [said.rpartition("such as ")[2] for said in told] == (
        [] if np.isnan(values[0]) else [f"{cells[shown]!r} as {values[shown]:.15g}."]
    )


@pytest.mark.parametrize(
    ("span", "values"), [((0.5, 9.0), [1.234, 2.345, 1.567]), ((500.0, 9_000.0), [1234, 2345, 1567])]
)
def test_a_comma_before_three_digits_is_what_brings_more_numbers_into_the_range_of_training(span, values):
    columns = Columns("label", number=("n",), spans={"n": span})
    assert align(read(pd.DataFrame({"n": ["1,234", "2,345", "1,567"]})).frame, columns)["n"].tolist() == values


@pytest.mark.parametrize(("unit", "values"), [("g", [np.nan] * 3), ("kg", [1.5, 2.5, 3.5])])
def test_another_mark_of_decimals_is_read_but_not_another_unit(unit, values):
    columns = Columns("label", number=("n",), written={"n": Writing(".", "kg")})
    cells = [f"{value},5 {unit}" for value in (1, 2, 3)]
    np.testing.assert_array_equal(align(read(pd.DataFrame({"n": cells})).frame, columns)["n"], values)


def test_infinite_numbers_count_as_missing_and_are_said():
    warnings: list[str] = []
    aligned = align(pd.DataFrame({"n": [1.0, np.inf]}), Columns("label", number=("n",)), warnings)
    np.testing.assert_array_equal(aligned["n"], [1, np.nan])
    assert warnings == ["Column 'n': infinite cells count as missing: 1."]


def test_texts_are_cut_as_in_training():
    columns = Columns("label", text=("t",), longest=3)
    assert align(pd.DataFrame({"t": ["abcdef", "a"]}), columns)["t"].tolist() == ["abc", "a"]


def test_of_two_names_in_other_letters_none_is_taken():
    columns = Columns("label", number=("age", "x"))
    aligned = align(pd.DataFrame({"AGE": [1.0], "Age": [2.0], "x": [1.0]}), columns)
    np.testing.assert_array_equal(aligned, [[np.nan, 1]])


@pytest.mark.parametrize(("names", "doubted"), [("a", False), ("ab", True)])
def test_a_header_is_doubted_only_where_it_lacks_a_column_of_training(names, doubted):
    source = SimpleNamespace(frame=pd.DataFrame({"a": [1]}), warnings=[LIKE_A_ROW, "something else"])
    said = source_warnings(source, Columns("label", number=tuple(names)))
    assert said == [*[LIKE_A_ROW] * doubted, "something else"]


def test_true_and_false_are_one_and_zero_where_training_had_these():
    frame = pd.DataFrame({"flag": [0, 1, 1] * 10, "share": np.linspace(0, 2, 30), "label": ["x", "y"] * 15})
    beside = align(
        read(pd.DataFrame({"share": ["1", "0", "yes", "no"]})).frame,
        Columns("label", number=("share",), spans={"share": (0, 2)}),
    )
    np.testing.assert_array_equal(beside["share"], [1, 0, np.nan, np.nan])
    columns = infer(read(frame).frame, target="label")
    said: list[str] = []
    new = read([{"flag": True, "share": True}, {"flag": None, "share": None}, {"flag": False, "share": False}])
    aligned = align(new.frame, columns, said)
    np.testing.assert_array_equal(aligned["flag"], [1, np.nan, 0])
    assert aligned["share"].isna().all()
    assert "Column 'flag': 'True' is taken as 1, and so on." in said


def test_types_that_changed_between_fit_and_prediction(fitted):
    frame = pd.DataFrame(
        {"text": [1, 2], "n": [True, False], "colour": [1.0, np.nan], "day": pd.to_datetime(["2024-01-02"] * 2)}
    )
    aligned = align(read(frame).frame, fitted)
    assert aligned["text"].tolist() == ["1", "2"]
    assert aligned["n"].tolist() == [1.0, 0.0]
    assert aligned["colour"].tolist() == ["1", ""]
    assert aligned["day:month"].tolist() == [1, 1]


# Whatever the table, it is looked at or refused

cells = st.one_of(
    st.none(), st.integers(-5, 5), st.floats(width=16), st.sampled_from(["", "red", "blue", "NaN", "2024-01-01", "7"])
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100)
@given(
    rows=st.lists(
        st.tuples(st.text(max_size=6), cells, cells, st.sampled_from(["a", "b", "", None])), min_size=1, max_size=30
    ),
    test=st.lists(st.tuples(st.text(max_size=6), cells, cells), min_size=1, max_size=5),
)
def test_any_table_is_audited_or_refused_and_any_other_is_aligned(rows, test):
    source = read(pd.DataFrame(rows, columns=["t", "p", "q", "y"], dtype=object))
    columns = infer(source.frame, target="y", text="t")
    other = read(pd.DataFrame(test, columns=["t", "p", "q"], dtype=object))
    aligned = align(other.frame, columns)
    assert len(aligned) == len(test)
    assert not any(np.isinf(aligned[name]).any() for name in columns.numbers)
    overlap(source, other, columns)
    try:
        found = audit(source, columns)
    except InputError:
        assert len({row[3] for row in rows if row[3]}) < 2
        return
    json.dumps(found.to_dict())
    assert set(found.y) <= {-1, *range(len(found.classes))}
    frame = align(source.frame, columns)
    plain = [plain_texts(frame[name]) for name in columns.text]
    plain += [(frame[name] + 0.0).map(str) for name in columns.numbers]  # -0.0 is 0.0
    plain += [frame[name].map(str).str.lower() for name in columns.category]
    keys = pd.Series(list(zip(*plain)), dtype=object)
    assert len(set(zip(keys, found.cluster))) == keys.nunique() == len(set(found.cluster))


@pytest.mark.parametrize(
    ("span", "cells", "values"),
    [
        ((500.0, 2_000.0), ["1,234", "2,345", "1,567"], [1234, 2345, 1567]),
        ((0, 1), ["yes", "no", "2"], [np.nan, np.nan, 2]),
    ],
)
def test_what_the_span_of_training_tells(span, cells, values):
    columns = Columns("label", number=("n",), spans={"n": span})
    np.testing.assert_array_equal(align(read(pd.DataFrame({"n": cells})).frame, columns)["n"], values)


def test_names_of_files_are_not_cut_where_texts_are():
    columns = Columns("label", text=("t",), image=("f",), longest=3)
    aligned = align(pd.DataFrame({"t": ["abcdef"], "f": ["pictures/1.png"]}), columns)
    assert aligned.loc[0].tolist() == ["abc", "pictures/1.png"]


def test_blank_dates_are_missing_without_a_word_and_no_odd_name_is_suggested():
    said: list[str] = []
    columns = Columns("label", number=("age",), date=("day",), orders={"day": "year first"})
    align(pd.DataFrame({"day": ["2024-01-02", "  "], "shop": [1, 2]}), columns, said)
    assert said == [
        "Column 'age' is not there; all its cells count as missing.",
        "Columns that the fit did not know are ignored: shop.",
    ]
