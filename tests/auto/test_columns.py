import json
import uuid

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from cotrain.auto.align import align
from cotrain.auto.cells import numbers_for_none
from cotrain.auto.codes import read_parts, repeating_parts
from cotrain.auto.columns import Columns, Found, count_words, find_kind, infer
from cotrain.auto.dates import count_as_dates, date_columns, date_numbers, looks_like_dates, orders_shown, read_dates
from cotrain.auto.labels import cell_texts, natural_order, read_labels
from cotrain.auto.read import read
from cotrain.errors import InputError

ROWS = 60
RANDOM = np.random.default_rng(0)
WORDS = [f"{a}{b}" for a in ("ba", "ke", "lo", "mu") for b in ("na", "ri", "to", "se")]


def sentence(words: int) -> str:
    return " ".join(RANDOM.choice(WORDS, words))


def kind(cells, name="c", folder=None):
    return find_kind(read(pd.DataFrame({name: list(cells)})).frame[name], folder)


TARGET = ["yes", "no", None] * (ROWS // 3)


def table(**columns):
    return read(pd.DataFrame({**columns, "label": TARGET})).frame


# Kinds


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([sentence(8) for _ in range(ROWS)], "text"),
        ([f"{a}{b} {c}" for a in WORDS[:4] for b in WORDS[:5] for c in WORDS[:3]], "text"),
        ([f"https://example.org/{word}/page" + "x" * i for i, word in enumerate(WORDS * 4)], "text"),
        ([f"今日はとても良い天気ですね{i}" for i in range(ROWS)], "text"),
        (["red", "green", "blue"] * 20, "category"),
        (["I agree with this one", "I do not agree at all"] * 30, "category"),
        (["007", "012", "113"] * 20, "category"),
        ([True, False] * 30, "category"),
        (["x", None, None] * 20, "category"),
        (RANDOM.normal(size=ROWS), "number"),
        ([1, 2, 3] * 20, "number"),
        (["1.5", "2", "3"] * 20, "number"),
        ([str(i % 7) for i in range(59)] + ["unknown"], "number"),
        ([f"2024-0{1 + i % 9}-1{i % 10} 12:0{i % 10}" for i in range(ROWS)], "date"),
        ([f"{1 + i % 28}.{1 + i % 12}.2023" for i in range(ROWS)], "date"),
        ([f"Mar {1 + i % 28}, 202{i % 5}" for i in range(ROWS)], "date"),
        ([f"{1 + i % 28}th of March" for i in range(ROWS)], "category"),
        ([f"{1 + i % 12}/{1 + i % 28}/2024 {1 + i % 12}:30 PM" for i in range(ROWS)], "date"),
        ([f"2024/03/{1 + i % 28:02d} 0{1 + i % 9}:00:00 PM" for i in range(ROWS)], "date"),
        ([f"{1 + i % 28}-May-2{i % 5}" for i in range(ROWS)], "date"),
        ([f"2024-01-{1 + i % 28:02d}" if i % 8 else "NULL" for i in range(ROWS)], "date"),
        ([f"{1 + i % 12}/{40 + i % 28}/2024" for i in range(ROWS)], "code"),  # no such days
        ([str(i * 37 % 59) if i % 8 else "refused" for i in range(ROWS)], "number"),
        ([str(i * 37 % 59) if i % 8 else f"room {i}" for i in range(ROWS)], "text"),
        ([f"{i % 3}" if i % 8 else "crew" for i in range(ROWS)], "category"),  # few numbers: the word is one of them
        ([f"{i % 2 + 1}.{100 + i}.{200 + i}" if i % 9 else f"{i + 1}.{300 + i}" for i in range(ROWS)], "number"),
        (
            ["这家餐厅的菜很好吃服务也不错", "东西不好吃而且等了很久才来"] * 5 + ["我很喜欢这里的环境和音乐"] * 50,
            "category",
        ),
        ([f"这家餐厅的菜很好吃{'也' * (i % 31)}服务不错" for i in range(ROWS)], "text"),
        (["北京市", "上海市", "内蒙古自治区"] * 20, "category"),
        ([f"${i * 31 % 57},{100 + i}" for i in range(ROWS)], "number"),
        ([f"{i % 9} years" for i in range(ROWS)], "number"),
        ([str(i % 7) if i % 3 else "?" for i in range(ROWS)], "number"),
        ([f"{a}|{b}|{c}" for a in "abcd" for b in "efgh" for c in "ijkl"] * 3, "text"),
        ([f"['{a}', '{b}']" for a in WORDS[:5] for b in WORDS[5:10]] * 4, "text"),
        ([f"{town}, {town[::-1]}" for town in WORDS * 4], "category"),  # each town with its land
        (pd.date_range("2020", periods=ROWS), "date"),
        (1_600_000_000 + RANDOM.integers(0, 10**8, ROWS), "date"),
        ([20_240_101 + 100 * (i % 12) + i % 28 for i in range(ROWS)], "date"),
        ([f"{RANDOM.choice(['AX', 'BZ'])}-{i:04d}-{'QRS'[i % 3]}" for i in range(ROWS)], "code"),
        ([f"{i * 613 % 90_000 + 1_000:05d}" for i in range(ROWS)] * 2, "number"),  # some with a zero first: ZIP codes
        ([f"${n:,}" for n in range(100_000, 100_000 + ROWS)], "number"),  # one after another, but prices
        (["x" * (3 + i % 28) + f"{i}" for i in range(ROWS)], "text"),  # codes are about equally long
        (["one two three four five", "six seven eight nine ten", "a b c d e f g"] * 3, "text"),
        (["one two three four five", "six seven eight nine ten", "a b c d e f g"] * 10, "category"),
    ],
)
def test_kinds(cells, expected):
    assert kind(cells).kind == expected


def test_codes_with_leading_zeros_make_the_numbers_beside_them_codes():
    assert kind(["007", "008", "0123"] * 10 + [f"{n}" for n in range(30)]).kind != "number"


def test_points_between_thousands_are_told_by_numbers_that_have_two():
    cells = [f"{i % 900 + 100}" if i % 3 else f"{1 + i % 9}.{100 + i}.{200 + i}" for i in range(ROWS)]
    table = pd.DataFrame({"n": cells, "label": TARGET})
    aligned = align(read(table).frame, infer(read(table).frame, target="label"))
    assert aligned["n"].tolist() == [float(cell.replace(".", "")) for cell in cells]


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2023/07/09 04:00:00 PM", "2023-07-09 16:00"),
        ("2023-07-09 4:00 p.m.", "2023-07-09 16:00"),
        ("2023-07-09 16:00:00 UTC", "2023-07-09 16:00"),
        ("2023-07-09 16:00:00+00", "2023-07-09 16:00"),
        ("2023-07-09 16:00:00.5+05:30", "2023-07-09 10:30:00.5"),
        ("2023-07-09T13:00-0400", "2023-07-09 17:00"),
        ("7/19/2023 4:00:00 PM GMT+1", "2023-07-19 15:00"),
        ("1/31/2024, 3:30:00 PM", "2024-01-31 15:30"),
        ("26-May-23", "2023-05-26"),
        ("Sun, 09 Jul 2023 16:00:00 GMT", "2023-07-09 16:00"),
    ],
)
def test_dates_as_programs_write_them(text, when):
    order = looks_like_dates([text] * 3)
    assert order
    assert read_dates(pd.Series([text, "soon"]), order).tolist() == [pd.Timestamp(when), pd.NaT]


def test_what_only_looks_like_dates_is_none():
    assert looks_like_dates(["2023-25-40"] * 5) == ""
    assert looks_like_dates(["Jul-24"] * 5) == ""


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([3.0] * ROWS, "constant (3 in every row)"),
        (["same"] * ROWS, "constant ('same' in every row)"),
        ([True] * ROWS, "constant"),
        ([None] * ROWS, "empty"),
        ([np.nan] * ROWS, "empty"),
        (["", " "] * 30, "empty"),
        (range(1000, 1000 + ROWS), "numbers the rows"),
        (RANDOM.permutation(ROWS), "numbers the rows"),
        (RANDOM.choice(900_000, ROWS, replace=False) + 100_000, "another whole number"),
        ([str(uuid.UUID(int=i * 10**30)) for i in range(ROWS)], "UUIDs"),
        ([f"{i * 7919 + 4_000_000_000:x}" for i in range(ROWS)], "hexadecimal"),
        (100_003 + np.arange(ROWS) ** 2, "another whole number"),  # crowded, but in the order of the rows
        ([f"AB-{i:05d}" for i in range(ROWS)], "another code"),
        (["".join(RANDOM.choice(list("VWXYZ12345"), 8)) for _ in range(ROWS)], "another code"),  # not built alike
    ],
)
def test_columns_that_say_nothing_are_dropped_with_the_reason(cells, reason):
    assert kind(cells).kind == "dropped"
    assert reason in kind(cells).why


@pytest.mark.parametrize(
    "cells",
    [
        np.arange(15),  # too few to call them identifiers
        np.arange(ROWS) * 1.5,
        1_000 + np.arange(ROWS) * 7_919 % 9_000,  # of one length, but short
        np.append(np.arange(ROWS) * 37, 37),  # a value that comes twice
        RANDOM.choice(100_000, ROWS, replace=False),  # whole numbers of many sizes, such as prices
        RANDOM.permutation(np.arange(200_000, 200_000 + 500 * ROWS, 500)),  # of one size, and round
        500_000 + np.rint(60_000 * stats.norm.ppf(RANDOM.permutation(np.arange(1, 400)) / 400)),  # and crowded
    ],
)
def test_numbers_that_are_no_identifiers_stay(cells):
    assert kind(cells).kind == "number"


def test_a_column_called_id_is_one_if_its_values_are_unique():
    values = RANDOM.choice(100_000, ROWS, replace=False)
    assert kind(values, "customer_id").kind == "dropped"
    assert kind(values, "idle_time").kind == "number"
    assert kind(np.tile(values[:30], 2), "customer_id").kind == "number"
    assert kind(1_000_004_571 + np.arange(ROWS) * 7, "order_id").kind == "dropped"  # and no seconds since 1970
    assert kind(values, "column 1").kind == "dropped"  # one without a name holds the numbers of rows


def test_names_and_words_stay_text_although_each_is_unique():
    assert kind([a + b for a in WORDS for b in WORDS][:ROWS]).kind == "text"


def test_words_of_scripts_without_blanks_are_counted_too():
    assert count_words("we saw a film today") == 5
    assert 4 <= count_words("今日は映画を見ました") <= 6


def test_files_are_told_by_their_suffix_and_must_exist(tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(ROWS):
        (tmp_path / "p" / f"{i}.JPG").write_bytes(b"")
    names = [f"p/{i}.JPG" for i in range(ROWS)]
    assert kind(names, folder=tmp_path) == Found("image")
    assert kind([*names[:-1], "p/none.JPG"], folder=tmp_path) == Found("image")
    found = kind([f"gone/{i}.wav" for i in range(ROWS)], folder=tmp_path)
    assert found.kind == "dropped"
    assert "audio files, but none such as 'gone/0.wav'" in found.why


def test_files_of_many_suffixes_are_one_column(tmp_path):
    suffixes = ["jpg", "jfif", "AVIF", "heic"]
    names = [f"{['cat', 'dog'][i % 2]}.{i}.{suffixes[i // 2 % 4]}" for i in range(ROWS)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert kind(names, folder=tmp_path) == Found("image")
    assert kind([f"{i}.{['oga', 'm4a'][i % 2]}" for i in range(ROWS)], folder=tmp_path).kind == "dropped"
    found = kind([f"dog_{i}.{['m4a', 'mp4'][i % 2]}" for i in range(ROWS)], folder=tmp_path)
    assert found == Found("dropped", "its files .m4a, .mp4 cannot be read; convert them to PNG or WAV")


def test_the_first_files_may_be_missing(tmp_path):
    (tmp_path / "59.png").write_bytes(b"")
    assert kind([f"{i}.png" for i in range(ROWS)], folder=tmp_path) == Found("image")


# The whole table


def test_every_column_finds_its_place():
    frame = table(
        id=range(ROWS),
        review=[sentence(9) for _ in range(ROWS)],
        colour=["red", "blue", ""] * 20,
        size=RANDOM.normal(size=ROWS),
        day=[f"2024-01-{1 + i % 28:02d}" for i in range(ROWS)],
        version=["1.0"] * ROWS,
        who=["ann", "bob", "eve", "joe"] * 15,
    )
    columns = infer(frame, target="label", group="who")
    assert (columns.text, columns.category, columns.number) == (("review",), ("colour",), ("size",))
    assert (columns.date, columns.group) == (("day",), ("who",))
    assert set(columns.dropped) == {"id", "version"}
    assert columns.levels == {"colour": ("blue", "red")}
    assert columns.orders == {"day": "year first"}
    assert columns.features == ("review", "size", "colour", "day")
    assert columns.numbers == ("size", "day:day", "day:month", "day:weekday", "day:hour")
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns


def test_what_is_named_is_not_guessed():
    frame = table(a=["1", "2", "3"] * 20, b=["x", "y"] * 30, c=range(ROWS))
    columns = infer(frame, target="label", text=["a", "c"], drop="b")
    assert columns.text == ("a", "c")
    assert columns.dropped == {"b": "dropped on request"}


def test_misspelt_columns_are_suggested():
    frame = table(review=[sentence(5) for _ in range(ROWS)])
    with pytest.raises(InputError, match=r"no column 'Lable'\. Did you mean 'label'"):
        infer(frame, target="Lable")
    with pytest.raises(InputError, match="Did you mean 'review'"):
        infer(frame, target="label", text="reviews")
    with pytest.raises(InputError, match="the columns are review, label"):
        infer(frame, target="zzzzzz")


def test_one_column_for_one_purpose():
    frame = table(a=range(ROWS), b=range(ROWS))
    with pytest.raises(InputError, match="'a' is given as text and as drop"):
        infer(frame, target="label", text="a", drop="a")
    with pytest.raises(InputError, match="'label' is given as target and as group"):
        infer(frame, target="label", group="label")


def test_nothing_left_to_learn_from():
    with pytest.raises(InputError, match=r"No column is left.*id: identifier"):
        infer(table(id=range(ROWS)), target="label")
    with pytest.raises(InputError, match="there is no other column"):
        infer(table(), target="label")


# Targets


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        (RANDOM.normal(size=ROWS), "regression"),
        ([f"{x:.3f}" for x in RANDOM.normal(size=ROWS - 1)] + ["?"], "regression"),
        ([0.5, 1.25, 2.5, 3.75, 9.1, None] * 1, "regression"),
        (np.arange(400), "regression"),
        (np.arange(400) // 3, "regression"),
        ([1.5, 2.25, 3.1, 4.7, 5.2], "regression"),
        (RANDOM.integers(18, 90, 40), "regression"),
        (["a;b", "a", "b", "b;c"] * 15, "'a;b'"),
        (["('a', 'b')", "('a',)", "('c', 'b')"] * 20, "multi-label"),
        (["x|y", "y|x", "z"] * 20, "multi-label"),
        (["a|b", "b|c", "c|a"] * 5, "multi-label"),
        (["python,pandas", "python", "pandas,numpy"] * 20, "multi-label"),
        (["3,10", "3", "10,4,27", "27"] * 15, "multi-label"),
        ([["a", "b"], ["a"], ["c"]] * 20, "multi-label"),
        (["['a', 'b']", "['a']", "[]"] * 20, "multi-label"),
        ([f"free text number {word} {i}" for i, word in enumerate(WORDS * 4)], "no classes"),
        (pd.date_range("2020", periods=ROWS), "dates"),
    ],
)
def test_targets_that_are_no_classes_are_refused(cells, word):
    frame = read(pd.DataFrame({"x": range(len(cells)), "target": list(cells)})).frame
    with pytest.raises(InputError, match=word):
        infer(frame, target="target", text="x")


@pytest.mark.parametrize(
    "cells",
    [
        [0, 1] * 30,
        [1.0, None, 2.0] * 20,
        np.arange(150).repeat(8),  # many classes
        np.arange(0.5, 5.5, 0.5).repeat(6),  # half stars
        ["Sci/Tech", "World", "a|b", "a|c"] * 15,  # paths, not sets
        ["Paris, France", "Paris", "Oslo, Norway"] * 20,
        ["Paris, France", "France", "Rome, Italy", "Italy"] * 3,
        ["3,5", "3", "4,5", "5"] * 15,
        [True, False] * 30,
        ["a", "b", None] * 20,
        [f"class {i}" for i in range(40)] * 2,
        [f"class {i}" for i in range(52)] * 6,
        [None] * ROWS,
    ],
)
def test_targets_that_are_classes_pass(cells):
    frame = read(pd.DataFrame({"x": range(len(cells)), "target": list(cells)})).frame
    assert infer(frame, target="target", text="x").target == "target"


# Labels


def labels(cells, unlabelled=None):
    return read_labels(read(pd.DataFrame({"y": list(cells)})).frame["y"], unlabelled)


def test_labels_are_text_in_natural_order():
    found = labels([10.0, 2.0, np.nan, 1.0])
    assert found.values.tolist() == ["10", "2", None, "1"]
    assert found.classes == ["1", "2", "10"]
    assert found.codes(found.classes).tolist() == [2, 1, -1, 0]
    assert natural_order(["b10", "a", "b9", "-1", "2.5", "B1"]) == ["-1", "2.5", "a", "B1", "b9", "b10"]


def test_spaces_and_empty_cells():
    found = labels([" spam", "spam ", "ham", "", "  ", None, "NaN", "null"])
    assert found.classes == ["ham", "spam"]
    assert found.known.tolist() == [True] * 3 + [False] * 5
    assert any("'NaN'" in warning and "2 cells" in warning for warning in found.warnings)


def test_one_and_one_point_zero_are_one_label():
    assert labels(["1", "1.0", "x"]).classes == ["1", "x"]
    assert labels(["1.0", "1.10", "x"]).classes == ["1.0", "1.10", "x"]
    assert labels(["1.0", "2.0", "x"]).classes == ["1.0", "2.0", "x"]
    assert labels([1, 0.5, 0.5]).classes == ["0.5", "1"]
    assert labels([True, False]).classes == ["False", "True"]


@pytest.mark.parametrize(("cells", "value"), [(["a", "?", "b"], "?"), ([1, -1, 2], "-1"), ([1.0, 9.0, 2.0], "9")])
def test_a_value_for_no_label(cells, value):
    found = labels(cells, value)
    assert found.known.tolist() == [True, False, True]
    assert not found.warnings


def test_a_value_for_no_label_that_never_occurs_is_warned_of():
    assert "'?'" in labels(["a", "b"], "?").warnings[0]
    assert not labels(["1", "NA", "2"], "NA").warnings


@pytest.mark.parametrize("word", ["?", "Unlabelled", "unlabeled", "unsup"])
def test_words_that_no_class_is_called_by_are_no_label(word):
    found = labels(["+", "-", word, "-", word])
    assert found.classes == ["+", "-"]
    assert found.known.tolist() == [True, True, False, True, False]
    assert any(f"2 cells such as {word!r} are taken as no label" in warning for warning in found.warnings)


def test_minus_one_beside_whole_numbers_is_no_label():
    found = labels([0, 1, -1, -1])
    assert found.classes == ["0", "1"]
    assert "2 cells of -1" in found.warnings[0]
    assert labels([-1, 1, -1]).classes == ["1"]
    assert labels([-2, 1, -1]).classes == ["-2", "-1", "1"]
    assert labels([-1, 1, 3], unlabelled="3").classes == ["-1", "1"]
    assert labels(["-1", "a"]).classes == ["-1", "a"]
    assert labels(["-1", "0", "1", "a"]).classes == ["-1", "0", "1", "a"]


def test_doubtful_classes_are_warned_of_and_kept():
    found = labels(["Spam", "spam", "NA", "ham"])
    assert found.classes == ["ham", "NA", "Spam", "spam"]
    assert any("'Spam', 'spam'" in warning for warning in found.warnings)
    assert any("--unlabelled 'NA'" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("others", "code", "found"),
    [
        (np.linspace(60, 180, 40), -999, (-999.0,)),
        (np.linspace(0, 200_000, 40), -9, (-9.0,)),  # nothing else is below zero
        (np.linspace(-20, 30, 40), -9, ()),
        (np.linspace(-20, 30, 40), 999, (999.0,)),
        (np.linspace(-20, 30, 40), -9999, (-9999.0,)),
        (np.linspace(-20, 30, 40), -99, ()),
        (np.arange(1, 41) % 5, 99, (99.0,)),
        (np.arange(1, 41) % 5, 9, ()),
        (np.linspace(0, 400, 40), 999, ()),
        (np.linspace(0, 9.5, 19), -999, ()),  # too few to tell
        (np.repeat([19, 49], 20), 99, ()),  # prices
        (np.repeat([199, 299], 20), 999, ()),
        (np.repeat([*range(149, 1000, 50), 1999, 2499], 2), 9999, ()),
        (np.repeat([*range(149, 1000, 50), 1999, 2499], 2), -999, (-999.0,)),
        (np.zeros(40), -9, ()),
        (np.linspace(5, 20, 40), 99, ()),
        (np.arange(40) % 2, -9, (-9.0,)),
    ],
)
@pytest.mark.parametrize("written", [float, str])
def test_numbers_that_stand_for_a_missing_value(others, code, found, written):
    values = [written(each) for each in [*others, code, code, code]]
    frame = pd.DataFrame({"x": values, "label": ["a", "b", None] * (len(values) // 3) + ["a"] * (len(values) % 3)})
    columns = infer(frame, target="label")
    assert columns.none.get("x", ()) == found
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns
    said: list[str] = []
    aligned = align(frame, columns, said)
    assert aligned["x"].isna().sum() == 3 * len(found)
    assert said == [f"Column 'x': {code} stands for a missing value in 3 rows."] * len(found)


def test_a_number_stands_for_a_missing_value_only_where_it_comes_three_times():
    twice = np.r_[np.arange(30.0), 999, 999]
    assert numbers_for_none(twice) == ()
    assert numbers_for_none(np.r_[twice, 999]) == (999,)


def test_cells_of_number_columns_as_text():
    assert cell_texts(pd.Series([1.0, 2.5, np.nan, np.inf])) == ["1", "2.5", None, "inf"]
    assert cell_texts(pd.Series([3, 4])) == ["3", "4"]


# Dates


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["2024-01-31", "2024/1/5"], "year first"),
        (["2024-01-31T10:20:30Z", "2024-01-31 10:20"], "year first"),
        (["31/01/2024", "01/02/2024"], "day first"),
        (["1/31/2024", "2/1/2024 10:30"], "month first"),
        (["3.4.2024", "5.6.2024"], "day first"),
        (["1.13.2024", "2.3.2024"], "month first"),
        (["2024-01", "2023-12"], "year first"),
        (["24-09-10", "23-10-31", "24-01-05"], "year of two digits first"),
        (["24-09-10", "13-10-10", "14-01-11"], "day first"),  # the last numbers are fewer, as years are
        (["1/31/2024 3:30 PM", "2/1/2024 10:30 am"], "month first"),
        (["Jan 5, 2024", "Sept. 12 2024"], "named"),
        (["5 January 2024", "12th Feb 2024 10:30", "05-Mar-2024"], "named"),
        (["Mon, 05 Jan 2024 10:20:00 +0000", "March 2024"], "named"),
        (["1.5", "2.5"], ""),
        (["2024", "2023"], ""),
        (["2024-13", "2023-45"], ""),
        (["May we meet", "5 march 20"], ""),
        (["hello", "2024-01-31"], ""),
        ([], ""),
    ],
)
def test_dates_are_recognised(texts, order):
    assert looks_like_dates(texts) == order


def test_dates_are_read_and_become_numbers_by_hand():
    day_first = read_dates(pd.Series(["01/02/1970 06:00", "nothing", None]), "day first")
    assert day_first.iloc[0] == pd.Timestamp("1970-02-01 06:00")
    assert day_first.isna().tolist() == [False, True, True]
    assert read_dates(pd.Series(["1/2/1970"]), "month first").iloc[0] == pd.Timestamp("1970-01-02")
    assert read_dates(pd.Series(["1970/1/2", "1970-01-02T01:00+01:00"]), "year first").tolist() == [
        pd.Timestamp("1970-01-02"),
        pd.Timestamp("1970-01-02"),
    ]
    named = ["5 January 2024", "Jan 5, 2024", "5th Jan 2024", "05-Jan-2024", "Fri, 05 Jan 2024 00:00:00 +0000"]
    assert (read_dates(pd.Series(named), "named") == pd.Timestamp("2024-01-05")).all()
    assert read_dates(pd.Series(["March 2024"]), "named").iloc[0] == pd.Timestamp("2024-03-01")
    assert read_dates(pd.Series(["2024-03"]), "year first").iloc[0] == pd.Timestamp("2024-03-01")
    assert read_dates(pd.Series(["13.1.68", "13.1.69", "13.1.45"]), "day first").dt.year.tolist() == [2068, 1969, 2045]
    assert read_dates(pd.Series(["1/2/2024 3:30 PM"]), "month first").iloc[0] == pd.Timestamp("2024-01-02 15:30")
    # 1 February 1970 was a Sunday, 31 days after 1 January.
    parts = [part[0] for part in date_numbers(day_first)]
    assert parts == [31.25, 2, 6, 6]
    assert all(np.isnan(part[1]) for part in date_numbers(day_first))
    assert date_columns("d") == ("d:day", "d:month", "d:weekday", "d:hour")


def test_the_order_is_of_days_and_months_and_of_nothing_else():
    texts = ["2024-03-05", "5 March 2024", "05/03/2024", "5.3.24", "03/25/2024", "10:30", "march", "2024"]
    read = read_dates(pd.Series(texts), "day first")
    assert (read[:4] == pd.Timestamp("2024-03-05")).all()
    assert read[4:].isna().all()
    assert read_dates(pd.Series(texts), "month first")[2:5].tolist() == [
        *[pd.Timestamp("2024-05-03")] * 2,
        pd.Timestamp("2024-03-25"),
    ]
    assert read_dates(pd.Series(["1/2/1970, 10:30", "1/2/70 3:30 p.m."]), "month first").tolist() == [
        pd.Timestamp("1970-01-02 10:30"),
        pd.Timestamp("1970-01-02 15:30"),
    ]
    assert orders_shown(texts) == {"month first"}


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ("%m/%d/%Y", "%d/%m/%Y", "read day first"),
        ("%d.%m.%Y", "%Y-%m-%d", ""),
        ("%Y-%m-%d", "%d.%m.%Y", "read day first"),
        ("%Y-%m-%d", "%d %B %Y", ""),
        ("%d %B %Y", "%m/%d/%Y", "read month first"),
        ("%Y-%m-%d", "%Y%m%d", "read as year, month and day"),
        ("%Y-%m-%d", "%y-%m-%d", "read year of two digits first"),
        ("%y/%m/%d", "%d.%m.%Y", "read day first"),
        ("%s", "%s000", "read as milliseconds since 1970"),
        ("%s000", "%s", "read as seconds since 1970"),
    ],
)
def test_dates_written_otherwise_than_in_training_are_read_and_said(before, now, said):
    days = pd.date_range("2024-01-28", periods=60, freq="3D")
    label = ["a", "b", None] * 20
    columns = infer(pd.DataFrame({"day": days.strftime(before), "label": label}), target="label")
    warnings: list[str] = []
    found = align(pd.DataFrame({"day": days.strftime(now)}), columns, warnings)
    expected = align(pd.DataFrame({"day": days.strftime(before)}), columns)
    pd.testing.assert_frame_equal(found, expected)
    assert (said in warnings[0]) if said else not warnings


@pytest.mark.parametrize(
    ("levels", "value", "level"),
    [
        (("Basic", "Pro"), "basic", "Basic"),
        (("Basic", "basic"), "BASIC", ""),
        (("false", "true"), "True", "true"),
        (("no", "yes"), "TRUE", "yes"),
        (("no", "yes", "maybe"), "TRUE", ""),
        (("00123", "01067", "20095"), "1067", "01067"),
        (("00000", "01067", "20095"), "0", "00000"),
        (("00123", "1067"), "123", ""),  # of several lengths, so nothing is lost
    ],
)
def test_categories_in_other_letters_are_taken_for_those_of_training(levels, value, level):
    columns = Columns("label", category=("kind",), levels={"kind": levels})
    said: list[str] = []
    found = align(pd.DataFrame({"kind": [value, levels[0], None]}), columns, said)
    assert found["kind"].tolist() == [level or value, levels[0], ""]
    assert ("are spelt differently" in said[0]) if level else ("were not in training" in said[0])


@pytest.mark.parametrize(
    ("numbers", "order"),
    [
        ([20240131, 19991231], "digits"),
        ([20240131, 20240132], ""),  # no such day
        ([20240131, 20240131.5], ""),
        ([1_700_000_000, 1_600_000_000], "seconds"),
        ([1_700_000_000_000, 1_600_000_000_000], "milliseconds"),
        ([1_700_000_000, 5], ""),
        ([2024, 2023], ""),
        ([], ""),
    ],
)
def test_numbers_that_count_as_dates(numbers, order):
    assert count_as_dates(np.array(numbers, np.float64)) == order


def test_dates_written_as_numbers_are_read():
    digits = read_dates(pd.Series([20240131.0, 20241301, np.nan, 7.5, np.inf]), "digits")
    assert digits.iloc[0] == pd.Timestamp("2024-01-31")
    assert digits.isna().tolist() == [False, True, True, True, True]
    assert read_dates(pd.Series(["20240131", "x"]), "digits").iloc[0] == pd.Timestamp("2024-01-31")
    second = 10_957 * 86_400  # since 1970
    assert read_dates(pd.Series([second * 1.0]), "seconds").iloc[0] == pd.Timestamp("2000-01-01")
    milliseconds = read_dates(pd.Series([second * 1_000 + 500, second]), "milliseconds")
    assert milliseconds.iloc[0] == pd.Timestamp("2000-01-01 00:00:00.500")
    assert milliseconds.isna().tolist() == [False, True]


# Codes


def test_the_parts_of_codes_that_repeat_are_categories():
    codes = [f"{'AX' if i % 2 else 'BZ'}-{i:04d}-{'QRS'[i % 3]}" for i in range(ROWS)]
    assert repeating_parts(codes) == (0, 2)
    assert repeating_parts([f"AX-{i:04d}" for i in range(ROWS)]) == ()  # one part is another everywhere, one the same
    assert repeating_parts(codes[:12]) == (0,)  # three values in twelve codes are too many
    assert repeating_parts([code + "-9" * (i % 2) for i, code in enumerate(codes)]) == ()  # not built alike
    assert repeating_parts([]) == ()
    assert read_parts(["AX-0001-Q", "7", ""], (0, 2)) == [["AX", "7", ""], ["Q", "", ""]]


def test_a_column_of_codes_becomes_its_parts():
    codes = [f"{'AX' if i % 2 else 'BZ'}-{i:04d}-{'QRS'[i % 3]}" for i in range(ROWS)]
    frame = table(sku=codes)
    columns = infer(frame, target="label")
    assert columns.code == columns.features == ("sku",)
    assert columns.categories == ("sku:part 1", "sku:part 3")
    assert columns.levels == {"sku:part 1": ("AX", "BZ"), "sku:part 3": ("Q", "R", "S")}
    assert Columns.from_dict(json.loads(json.dumps(columns.to_dict()))) == columns
    warnings: list[str] = []
    new = align(pd.DataFrame({"sku": ["CC-1-Q", None, "AX-77-S"]}), columns, warnings)
    assert new["sku:part 1"].tolist() == ["CC", "", "AX"]
    assert new["sku:part 3"].tolist() == ["Q", "", "S"]
    assert warnings == ["Column 'sku:part 1': 1 rows have categories that were not in training: 'CC'."]


# Hints at groups


def test_columns_that_sound_like_groups_are_hinted_at_and_not_applied():
    frame = table(speaker=["ann", "bob", "eve", "joe"] * 15, text=[sentence(6) for _ in range(ROWS)])
    columns = infer(frame, target="label")
    assert columns.group == ()
    assert len(columns.hints) == 1
    assert "--group 'speaker'" in columns.hints[0]
    assert infer(frame, target="label", group="speaker").hints == ()


def test_only_columns_that_sound_like_groups_are_looked_through_for_them(monkeypatch):
    looked = []

    def noted(column):
        looked.append(column.name)
        return cell_texts(column)

    monkeypatch.setattr("cotrain.auto.groups.cell_texts", noted)
    frame = table(speaker=["ann", "bob", "eve", "joe"] * 15, height=np.linspace(0, 1, ROWS))
    infer(frame, target="label")
    assert looked == ["label", "speaker"]  # texts of 100,000 numbers take long


def test_parts_of_file_names_are_hinted_at_but_neither_label_nor_index(tmp_path):
    digits, speakers, index = (
        np.arange(ROWS) % 3,
        np.array(["ann", "bob", "eve", "joe"])[np.arange(ROWS) // 15],
        np.arange(15),
    )
    names = [f"{d}_{s}_{i}.wav" for d, s, i in zip(digits, speakers, np.tile(index, 4))]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    frame = read(pd.DataFrame({"file": names, "digit": digits})).frame
    columns = infer(frame, target="digit", folder=tmp_path)
    assert columns.audio == ("file",)
    assert len(columns.hints) == 1
    assert "part 2 (4 different, such as ann, bob, eve)" in columns.hints[0]


# Whatever the table, the answer is columns or a refusal

cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.lists(st.text(max_size=2), max_size=2),
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=80)
@given(rows=st.lists(st.tuples(cells, cells, st.sampled_from(["a", "b", "", None, 1, -1])), min_size=1, max_size=25))
def test_any_table_has_columns_or_is_refused(rows):
    frame = read(pd.DataFrame(rows, columns=["p", "q", "y"], dtype=object)).frame
    try:
        columns = infer(frame, target="y")
    except InputError:
        return
    assert {*columns.features, *columns.dropped} == {"p", "q"}


@pytest.mark.parametrize("cells", [["(0, 10]", "(10, 20]"], ["[0, 18)", "[18, 99)"], ["(1)", "(2)"], ["①", "②"]])
def test_intervals_and_numbers_of_other_scripts_are_classes(cells):
    frame = read(pd.DataFrame({"n": RANDOM.normal(size=ROWS), "label": cells * (ROWS // 2)})).frame
    assert infer(frame, target="label").number == ("n",)
    assert read_labels(frame["label"]).classes == cells


def test_errors_of_spreadsheets_are_no_class():
    labels = read_labels(pd.Series(["spam", "#N/A", "ham", "#REF!", "n.a."], name="label"))
    assert labels.classes == ["ham", "n.a.", "spam"]
    assert any("'#N/A' are taken as no label" in warning for warning in labels.warnings)
    assert any("'n.a.' may mean" in warning for warning in labels.warnings)


def test_letters_for_true_and_false_and_groups_in_other_letters():
    columns = Columns("label", category=("kind",), levels={"kind": ("no", "yes")})
    assert align(pd.DataFrame({"kind": ["Y", "f"]}), columns)["kind"].tolist() == ["yes", "no"]
    grouped = Columns("label", number=("n",), group=("who",))
    assert align(pd.DataFrame({"n": [1.0], "Who": ["ann"]}), grouped)["who"].tolist() == ["ann"]
