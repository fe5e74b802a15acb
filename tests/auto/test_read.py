import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zipfile
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from cotrain.auto.cells import read_numbers, whole_numbers
from cotrain.auto.read import read
from cotrain.errors import InputError

odd = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
# NUL cannot be kept (it is removed, see below); half characters cannot be written to a file.
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
nasty = st.sampled_from(
    ['"', '""', ",", ";", "\n", "\r\n", "a\nb,c", "\t", "|", "NA", "007", "1.50", " x ", "'", "é", "😀"]
)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(texts | nasty, min_size=width, max_size=width), min_size=1, max_size=8)
)

PACKED = [b"\x1f\x8b", b"BZh91AY&SY", b"\xfd7zXZ\x00", b"PK\x03\x04"]  # how packed files start


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def said(source, *parts):
    return any(all(part in warning for part in parts) for warning in source.warnings)


def assert_cells(frame, rows):
    """Cells of text columns are those written; a column may only have become numbers if each of its cells is one."""
    assert frame.shape == (len(rows), len(rows[0]))
    for position in range(len(rows[0])):
        written = [row[position] for row in rows]
        column = frame.iloc[:, position]
        if pd.api.types.is_numeric_dtype(column):
            for cell, value in zip(written, column):
                missing = cell.strip().lower() in ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none")
                assert np.isnan(value) if missing else float(cell) == value
                assert missing or not (cell.strip("+- 0") and cell.strip().startswith("0") and cell.strip().isdigit())
        else:
            assert column.tolist() == written


# Round trips


@odd
@given(rows=tables, delimiter=st.sampled_from(",;\t|"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_any_text_survives_a_delimited_file(tmp_path, rows, delimiter, quoting):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)
    writer.writerow([f"column_{i}" for i in range(len(rows[0]))])
    writer.writerows(rows)
    path = write(tmp_path / ("table.tsv" if delimiter == "\t" else "table.csv"), stream.getvalue())
    blank = [row for row in rows if len(row) == 1 and not row[0] and quoting == csv.QUOTE_MINIMAL]
    assert not blank or '""' in stream.getvalue()  # the writer itself tells an empty cell from a blank line
    assert_cells(read(path).frame, rows)


@odd
@given(rows=tables)
def test_any_text_survives_json_lines(tmp_path, rows):
    lines = [json.dumps({f"column_{i}": cell for i, cell in enumerate(row)}, ensure_ascii=False) for row in rows]
    frame = read(write(tmp_path / "table.jsonl", "\n".join(lines))).frame
    assert frame.to_numpy().tolist() == rows


@odd
@given(rows=tables)
def test_any_text_survives_parquet(tmp_path, rows):
    columns = {f"column_{i}": [row[i] for row in rows] for i in range(len(rows[0]))}
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "table.parquet")
    assert read(tmp_path / "table.parquet").frame.to_numpy().tolist() == rows


@odd
@given(numbers=st.lists(st.floats(allow_nan=False, width=64), min_size=1, max_size=10))
def test_any_number_survives_a_delimited_file(tmp_path, numbers):
    path = write(tmp_path / "table.csv", "x\n" + "\n".join(map(repr, numbers)))
    np.testing.assert_array_equal(read(path).frame["x"], np.array(numbers))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    content=st.binary(max_size=300) | st.text(alphabet='a1,;\t"\n\r|{}[]: \0é', max_size=80).map(str.encode),
    start=st.sampled_from(
        [b"", b"a,b\n", b'{"a": 1}\n', b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"\xff\xfe", b"\xef\xbb\xbf", *PACKED]
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".jsonl", ".json", ".parquet", ".arrow", ".npz", ".zip", ".txt", ".bin"]),
)
def test_random_bytes_are_read_or_refused(tmp_path, content, start, suffix):
    path = write(tmp_path / f"table{suffix}", start + content)
    try:
        source = read(path)
    except InputError:
        return
    assert len(source.frame)
    assert source.frame.columns.is_unique


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".feather", ".zip"])
def test_a_table_cut_anywhere_is_refused(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    if suffix == ".npz":
        np.savez(path, X=np.ones((20, 2)), y=np.arange(20))
    elif suffix == ".zip":
        zip_of(path, **{"t.csv": "a,b\n" + "x,1\n" * 50})
    else:
        (pyarrow.feather.write_feather if suffix == ".feather" else pyarrow.parquet.write_table)(
            pa.table({"a": ["x"] * 50}), path
        )
    whole = path.read_bytes()
    for size in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            read(path)


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings_are_found(tmp_path, encoding):
    path = write(tmp_path / "table.csv", "text,label\nnaïve café at noon,good\n日本 and more,bad\n", encoding)
    source = read(path)
    assert source.frame["text"].tolist() == ["naïve café at noon", "日本 and more"]
    assert source.frame.columns.tolist() == ["text", "label"]
    assert not source.warnings


def test_western_encoding_is_read_with_a_warning_that_names_the_line(tmp_path):
    source = read(write(tmp_path / "table.csv", "text,label\nplain,a\ncafé €5,b\n", "cp1252"))
    assert source.frame["text"].tolist() == ["plain", "café €5"]
    assert said(source, "line 3", "0xe9", "cp1252", "UTF-8")
    latin = read(write(tmp_path / "latin.csv", b"text\nabc \x81 \xe9\n"))
    assert said(latin, "line 2", "0x81", "latin-1")


def test_a_late_bad_byte_is_found_with_its_line(tmp_path):
    rows = b"".join(b"a row of text,label\n" for _ in range(200_000))
    source = read(write(tmp_path / "table.csv", b"text,label\n" + rows + b"caf\xe9,x\n"))
    assert said(source, "line 200002")
    assert source.frame["text"].iloc[-1] == "café"


def test_broken_utf16_is_refused(tmp_path):
    with pytest.raises(InputError, match="UTF-16: line 2"):
        read(write(tmp_path / "table.csv", codecs.BOM_UTF16_LE + "a,b\n".encode("utf-16-le") + b"\x00\xd8a\x00\n"))


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x89PNG\r\n", "image"),
        (b"\xd0\xcf\x11\xe0", "Excel"),
        (b"\x80\x04\x95\x00", "pickle"),
        (b"RIFF....", "sound"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, start, what):
    with pytest.raises(InputError, match=what):
        read(write(tmp_path / "table.csv", start + bytes(range(256))))


def test_spreadsheets_and_binary_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "table.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(InputError, match="save the sheet as CSV"):
        read(tmp_path / "table.xlsx")
    with pytest.raises(InputError, match="not a text file"):
        read(write(tmp_path / "table.csv", b"\x01" + bytes(range(255, -1, -1)) * 20))


def test_nul_characters_are_removed_with_a_warning(tmp_path):
    source = read(write(tmp_path / "table.csv", "a,b\nx,y\nx\0x,\0\n"))
    assert source.frame.to_numpy().tolist() == [["x", "y"], ["xx", ""]]
    assert said(source, "NUL", "line 3")


# Delimiters and quotes


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_the_delimiter_is_found_whatever_the_file_is_called(tmp_path, delimiter, suffix):
    rows = [["text", "label"], ["well, this; is | fine", "a"], ["no, really, no", "b"], ["short", "a"]]
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows(rows)
    frame = read(write(tmp_path / f"table{suffix}", stream.getvalue())).frame
    assert [frame.columns.tolist(), *frame.to_numpy().tolist()] == rows


def test_the_delimiter_is_not_what_stands_in_every_cell(tmp_path):
    source = read(write(tmp_path / "t.tsv", "a,x\tb,y,z\n" + "1,2\t3,4,5\n" * 5))
    assert source.frame.columns.tolist() == ["a,x", "b,y,z"]


def test_excel_style_cells(tmp_path):
    source = read(write(tmp_path / "t.csv", 'text,label\r\n"two\r\nlines, ""quoted""",a\r\n\r\nplain,b\r\n'))
    assert source.frame["text"].tolist() == ['two\r\nlines, "quoted"', "plain"]
    assert [source.row_label(0), source.row_label(1)] == ["row 1 (line 2)", "row 2 (line 5)"]
    named = read(write(tmp_path / "u.csv", "sep=;\na;b\n1;2\n"))
    assert named.frame.to_dict("list") == {"a": [1], "b": [2]}
    assert named.row_label(0) == "row 1 (line 3)"


def test_quotes_that_are_not_csv_quotes_stay_in_the_text(tmp_path):
    lines = ['label\ttext\nham\t"Wen u miss someone" he said', "spam\tfree", 'ham\t"and never closed', "ham\tok"]
    source = read(write(tmp_path / "t.tsv", "\n".join(lines)))
    assert source.frame["text"].tolist() == ['"Wen u miss someone" he said', "free", '"and never closed', "ok"]
    assert said(source, "Line 2", "ordinary characters")


def test_one_bad_quote_among_good_ones_is_repaired(tmp_path):
    rows = "".join(f'"text, {i}",a\n' for i in range(20))
    source = read(write(tmp_path / "t.csv", 'text,label\n"first" one,a\n' + rows))
    assert source.frame["text"].tolist()[:2] == ["first one", "text, 0"]
    assert said(source, "Line 2", "closing double quote")


def test_a_quote_that_is_never_closed_is_refused_with_its_line(tmp_path):
    rows = "".join(f'"text, {i}",a\n' for i in range(20))
    with pytest.raises(InputError, match=r"line 22.*never closed"):
        read(write(tmp_path / "t.csv", "text,label\n" + rows + '"open, b\nx,y\n'))


def test_rows_swallowed_by_a_pair_of_quotes_are_warned_of(tmp_path):
    source = read(write(tmp_path / "t.tsv", 'label\ttext\nham\t"hello\nham\tbye"\nham\tok\n'))
    assert len(source) == 2
    assert said(source, "several lines", "1 (line 2)")
    code = 'code,label\n"f(a, b)\ng(c)",x\n"f(a)\ng",x\n"f(a)\ng(a, b)",y\n'
    assert not read(write(tmp_path / "t.csv", code)).warnings


def test_old_mac_line_ends_and_gzip(tmp_path):
    source = read(write(tmp_path / "t.csv.gz", gzip.compress(b"a,b\rx,1\ry,2\r")))
    assert source.frame.to_dict("list") == {"a": ["x", "y"], "b": [1, 2]}


def zip_of(file, **members):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file


@pytest.mark.parametrize(("suffix", "pack"), [("bz2", bz2.compress), ("xz", lzma.compress), ("gz", gzip.compress)])
def test_packed_tables(tmp_path, suffix, pack):
    source = read(write(tmp_path / f"t.csv.{suffix}", pack(b"a,b\nx,1\ny,2\n")))
    assert source.frame.to_dict("list") == {"a": ["x", "y"], "b": [1, 2]}
    with pytest.raises(InputError, match=f"u.csv.{suffix} cannot be read"):
        read(write(tmp_path / f"u.csv.{suffix}", pack(b"a,b\nx,1\n" * 1000)[:-20]))


def test_a_zip_of_one_table_is_that_table(tmp_path):
    mac = {"__MACOSX/._train.tsv": "x", "data/": ""}
    source = read(zip_of(tmp_path / "t.zip", **{"data/train.tsv": "a,c\tb\nx\t1\ny\t2\n", **mac}))
    assert source.frame.to_dict("list") == {"a,c": ["x", "y"], "b": [1, 2]}
    assert source.row_label(1) == "row 2 (line 3)"
    source = read(zip_of(tmp_path / "t.json.zip", **{"t.json": '[{"a": 1}, {"a": 2}]'}))
    assert source.frame.to_dict("list") == {"a": [1, 2]}


def test_other_archives_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"t.zip is an archive of train.csv, test.csv; unpack it"):
        read(zip_of(tmp_path / "t.zip", **{"train.csv": "a\n1\n", "test.csv": "a\n1\n"}))
    with pytest.raises(InputError, match=r"p.zip is an archive of t.parquet; unpack it"):
        read(zip_of(tmp_path / "p.zip", **{"t.parquet": "PAR1"}))
    with pytest.raises(InputError, match=r"n.npz holds no array"):
        read(zip_of(tmp_path / "n.npz", **{"a.csv": "a\n1\n"}))
    whole = zip_of(tmp_path / "w.zip", **{"t.csv": "a,b\nx,1\n" * 1000}).read_bytes()
    with pytest.raises(InputError, match=r"cut.zip cannot be read"):
        read(write(tmp_path / "cut.zip", whole[:-30]))
    middle = bytearray(whole)
    middle[60] ^= 255
    with pytest.raises(InputError, match=r"bad.zip cannot be read"):
        read(write(tmp_path / "bad.zip", bytes(middle)))


def test_an_archive_with_a_password_is_refused(tmp_path):
    whole = bytearray(zip_of(tmp_path / "w.zip", **{"t.csv": "a,b\nx,1\n"}).read_bytes())
    for at in (6, whole.index(b"PK\x01\x02") + 8):  # the flag of encryption, before the file and in the directory
        whole[at] |= 1
    with pytest.raises(InputError, match="password"):
        read(write(tmp_path / "secret.zip", bytes(whole)))


def test_huge_cells_and_one_column(tmp_path):
    huge = "x" * 2_000_000
    source = read(write(tmp_path / "t.csv", f"text\n{huge}\nwith, commas? no\n"))
    assert source.frame["text"].tolist() == [huge, "with, commas? no"]
    assert csv.field_size_limit() == 131_072
    source = read(
        write(tmp_path / "t.csv", "\ntext\n\ngood\n\n\nbad\n\n")
    )  # a blank line is an empty cell but at the end
    assert source.frame["text"].fillna("").tolist() == ["", "good", "", "", "bad"]
    assert source.row_label(4) == "row 5 (line 7)"
    assert len(read(write(tmp_path / "t.csv", "text,label\n\ngood,1\n\n"))) == 1


# Ragged rows


def test_short_rows_are_filled_and_trailing_delimiters_dropped(tmp_path):
    source = read(write(tmp_path / "t.csv", "a,b,c\nx,y,z\nx\nx,y,z,,\n"))
    assert source.frame.to_numpy().tolist() == [["x", "y", "z"], ["x", "", ""], ["x", "y", "z"]]
    assert said(source, "fewer cells than the 3", "1 (line 3)")
    assert said(source, "empty cells beyond", "1 (line 4)")


def test_many_long_rows_are_refused_with_their_lines(tmp_path):
    with pytest.raises(
        InputError, match=r"2 of 4 rows.*line 3 \(3 cells\), line 5 \(4 cells\).*comma in double quotes"
    ):
        read(write(tmp_path / "t.csv", "a,b\nx,y\nx,y,z\nx,y\nx,y,z,w\n"))


def test_few_long_rows_are_left_out_with_their_lines(tmp_path):
    rows = ["x,y"] * 150
    rows[70] = "x,y,z"
    source = read(write(tmp_path / "t.csv", "a,b\n" + "\n".join(rows)))
    assert len(source) == 149
    assert said(source, "left out", "1 (line 72)")
    assert source.row_label(70) == "row 71 (line 73)"


@pytest.mark.parametrize(("long", "rows"), [(1, 11), (3, 31), (3, 40), (10, 1_000)])
def test_a_few_long_rows_of_a_small_table_are_left_out(tmp_path, long, rows):
    source = read(write(tmp_path / "t.csv", "a,b\n" + "x,y\n" * (rows - long) + "x,y,z\n" * long))
    assert len(source) == rows - long
    assert said(source, "left out", f"{long} (line {rows - long + 2}")


@pytest.mark.parametrize(("long", "rows"), [(1, 10), (3, 30), (4, 100), (11, 1_000)])
def test_as_many_as_a_tenth_or_more_than_three_and_a_hundredth_are_refused(tmp_path, long, rows):
    with pytest.raises(InputError, match=f"{long} of {rows:,} rows have more cells"):
        read(write(tmp_path / "t.csv", "a,b\n" + "x,y\n" * (rows - long) + "x,y,z\n" * long))


# Headers


def test_column_names_are_made_unique(tmp_path):
    source = read(write(tmp_path / "t.csv", "a, a ,,a (2),a\nq,r,s,t,u\n"))
    assert source.frame.columns.tolist() == ["a", "a (3)", "column 3", "a (2)", "a (4)"]
    assert said(source, "Column 2", "'a (3)'")
    assert said(source, "Column 3", "no name")


def test_a_header_of_numbers_is_warned_of(tmp_path):
    assert said(read(write(tmp_path / "t.csv", "1,2.5\n3,4\n")), "first line", "header")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "no row below"),
        ("a,b\n\n  \n", "no row below"),
        ("\0\0", "empty"),
    ],
)
def test_nothing_to_read(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "t.csv", content))


# Numbers


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", "2"], [1, 2]),
        (["1", "", "3"], [1, np.nan, 3]),
        (["1.5", "NA", "-2e3", ".5", "+1."], [1.5, np.nan, -2000, 0.5, 1]),
        ([" 1 ", "inf", "-Infinity", "nan"], [1, np.inf, -np.inf, np.nan]),
        (["0", "-0", "10"], [0, 0, 10]),
        (["007", "010"], None),
        (["007", "12", "13"], None),
        (["1", "x"], None),
        (["1,5", "2,5"], None),
        (["", "NA"], None),
        (["12345678901234567890123", "1"], None),
        (["9007199254740993", ""], None),
        (["0x10", "1"], None),
        (["1_000"], None),
        (["１", "２"], None),
    ],
)
def test_which_columns_are_numbers(cells, values):
    read_values = whole_numbers(pd.Series(cells))
    if values is None:
        assert read_values is None
    else:
        np.testing.assert_array_equal(read_values, values)


def test_whole_numbers_keep_every_digit():
    np.testing.assert_array_equal(whole_numbers(pd.Series(["9007199254740993", "1"])), [9007199254740993, 1])
    assert whole_numbers(pd.Series(["1", "2"])).dtype == np.int64


def test_strays_among_numbers_are_counted():
    numbers = read_numbers(pd.Series(["1", "two", "", "3", "inf"]))
    assert numbers.strays.tolist() == [1]
    assert numbers.share == 3 / 4
    assert read_numbers(pd.Series(["007", "8"])).share == 0


def test_mixed_columns_stay_text_and_are_warned_of(tmp_path):
    rows = [str(i) for i in range(40)]
    rows[20] = "unknown"
    source = read(write(tmp_path / "t.csv", "age,b\n" + "\n".join(f"{cell},x" for cell in rows)))
    assert source.frame["age"].tolist() == rows
    assert said(source, "'age'", "numbers: 1, first 'unknown'", "row 21 (line 22)")


def test_decimal_commas_in_a_semicolon_file(tmp_path):
    source = read(write(tmp_path / "t.csv", "a;b\n1,5;x\n-2;y\n;z\n"))
    np.testing.assert_array_equal(source.frame["a"], [1.5, -2, np.nan])
    assert said(source, "'a'", "decimal point")


@pytest.mark.parametrize(
    ("delimiter", "cells"),
    [("\t", [f"{row},123" for row in range(1, 30)]), (";", [*[f"{row},5" for row in range(20)], "3.5"])],
    ids=["another delimiter", "points too"],
)
def test_commas_that_may_be_no_decimal_points_stay(tmp_path, delimiter, cells):
    lines = "\n".join(f"{cell}{delimiter}x" for cell in cells)
    source = read(write(tmp_path / "t.tsv", f"a{delimiter}b\n{lines}\n"))
    assert source.frame["a"].tolist() == cells


# JSON lines, Parquet, NPZ


def test_json_lines_with_lacking_keys_and_types(tmp_path):
    lines = [
        '{"a": 1, "b": "x", "c": true}',
        "",
        '{"b": null, "d": [1, "é"], "a": 2.5}',
        '{"a": 3, "b": 7, "c": false}',
    ]
    source = read(write(tmp_path / "t.jsonl", "\n".join(lines)))
    assert source.frame["a"].tolist() == [1, 2.5, 3]
    assert source.frame["b"].isna().tolist() == [False, True, False]
    assert source.frame["b"].iloc[2] == "7"
    assert said(source, "'b'", "int, str")
    assert source.frame["c"].iloc[0] == "True"
    assert source.frame["d"].iloc[1] == '[1, "é"]'
    assert source.row_label(1) == "row 2 (line 3)"


@pytest.mark.parametrize(
    ("lines", "lacking"),
    [
        (['{"a": 1, "b": 2}', '{"a": 2}'], [False, True]),
        (['{"a": 1}', '{"a": 2, "b": 2}', '{"a": 3}'], [True, False, True]),
    ],
)
def test_keys_that_the_first_or_the_last_record_lacks(tmp_path, lines, lacking):
    found = read(write(tmp_path / "t.jsonl", "\n".join(lines))).frame["b"]
    assert found.isna().tolist() == lacking
    assert found.dropna().tolist() == [2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": 2\n', "line 2: no valid JSON"),
        ('{"a": 1}\n[1]\n', "line 2: an object"),
        ("[1, 2]", "record 1: an object"),
        ("\n \n", "no record"),
        ("[" * 100_000, "line 1"),
        ('{"a": ' + "1" * 10_000 + "}", "line 1: no valid JSON"),
        ("[]", "no record"),
        ("{}", "no column"),
    ],
)
def test_broken_json_is_refused_with_its_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "t.jsonl", content))


def test_json_array_half_characters_and_long_integers(tmp_path):
    source = read(write(tmp_path / "t.json", '[{"a": "x\\ud800y", "n": 123456789012345678901}, {"a": "z", "n": 1}]'))
    assert source.frame["a"].tolist() == ["x?y", "z"]
    assert source.frame["n"].tolist() == ["123456789012345678901", "1"]


def write_stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)


@pytest.mark.parametrize(
    "write", [pyarrow.parquet.write_table, pyarrow.feather.write_feather, write_stream], ids=lambda each: each.__name__
)
def test_types_of_arrow(tmp_path, write):
    table = pa.table(
        {
            "n": pa.array([1, None, 3]),
            "kind": pa.array(["a", "b", None]).dictionary_encode(),
            "day": pa.array([0, 1, None], pa.date32()),
            "when": pa.array([0, 1, 2], pa.timestamp("us", tz="Europe/Paris")),
            "raw": pa.array([b"x", b"y", b"z"]),
            "list": pa.array([["a"], ["b", "c"], None]),
            "price": pa.array([1, 2, None], pa.decimal128(5, 2)),
            "yes": pa.array([True, False, None]),
        }
    )
    write(table, tmp_path / "t.arrow")
    source = read(tmp_path / "t.arrow")
    frame = source.frame
    np.testing.assert_array_equal(frame["n"], [1, np.nan, 3])
    assert frame["kind"].tolist()[:2] == ["a", "b"]
    assert frame["day"].iloc[1] == pd.Timestamp("1970-01-02")
    assert pd.api.types.is_datetime64_dtype(frame["when"])
    assert frame["list"].iloc[1] == '["b", "c"]'
    np.testing.assert_array_equal(frame["price"], [1, 2, np.nan])
    assert frame["yes"].iloc[0] == "True"
    assert "raw" not in frame
    assert said(source, "'raw'", "bytes")


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        ({"names": ["ham", "spam"], "_type": "ClassLabel"}, ["ham", "spam", None, "spam"]),
        ({"names": ["ham"], "_type": "ClassLabel"}, [0, 1, -1, 1]),  # a number without a name
        ({"names": 7, "_type": "ClassLabel"}, [0, 1, -1, 1]),
        ({"dtype": "int64", "_type": "Value"}, [0, 1, -1, 1]),
    ],
)
def test_class_numbers_of_a_hugging_face_dataset_get_their_names(tmp_path, about, wanted):
    described = json.dumps({"info": {"features": {"text": {"dtype": "string", "_type": "Value"}, "label": about}}})
    table = pa.table({"text": ["a", "b", "c", "d"], "label": [0, 1, -1, 1]})
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": described}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet").frame["label"]
    assert [None if cell is None or cell != cell else cell for cell in found] == wanted
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": "{broken"}), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").frame["label"].tolist() == [0, 1, -1, 1]


def test_tables_in_memory_of_other_kinds():
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    wanted = read(pd.DataFrame(rows)).frame
    columns = {"a": [1, 2], "b": ["x", "y"]}
    for table in (rows, columns, pa.table(columns)):
        pd.testing.assert_frame_equal(read(table).frame, wanted)
        pd.testing.assert_frame_equal(read((table, ["n", "m"])).frame, wanted.assign(target=["n", "m"]))
    with pytest.raises(InputError, match="The dict is no table: All arrays must be of the same length"):
        read({"a": [1], "b": [1, 2]})
    for wrong in ([], ["a text"], [rows[0], 3], 7):
        with pytest.raises(InputError, match=f"Cannot read a {type(wrong).__name__}"):
            read(wrong)


def test_a_dataset_that_hugging_face_saved(tmp_path):
    described = json.dumps({"info": {"features": {"y": {"names": ["no", "yes"], "_type": "ClassLabel"}}}})
    table = pa.table({"text": ["a", "b", "c"], "y": [1, -1, 0]}).replace_schema_metadata({"huggingface": described})
    folder = tmp_path / "train"
    folder.mkdir()
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    write_stream(table[:2], folder / names[0])
    write_stream(table[2:], folder / names[1])
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    source = read(folder)
    assert source.frame["text"].tolist() == ["a", "b", "c"]
    assert source.frame["y"].fillna("").tolist() == ["yes", "", "no"]
    (tmp_path / "test").mkdir()
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(InputError, match=r"several datasets \(test, train\); give one of these folders"):
        read(tmp_path)
    write_stream(table.select(["text"]), folder / names[1])
    with pytest.raises(InputError, match=r"data-00000-of-00002.arrow and the files beside it are no table"):
        read(folder)
    (folder / names[1]).unlink()
    with pytest.raises(InputError, match=r"data-00001-of-00002.arrow"):
        read(folder)


def test_parquet_under_a_wrong_name(tmp_path):
    pyarrow.parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "t.csv")
    assert read(tmp_path / "t.csv").frame["a"].tolist() == ["x"]


def test_npz_with_a_matrix_and_labels(tmp_path):
    np.savez(
        tmp_path / "t.npz", X=np.arange(6.0).reshape(3, 2), y=np.array([0, 1, -1]), s=np.array(["a", "b", "é"]), k=5
    )
    frame = read(tmp_path / "t.npz").frame
    assert frame.columns.tolist() == ["X_0", "X_1", "y", "s"]
    assert frame["X_1"].tolist() == [1, 3, 5]
    assert frame["s"].tolist() == ["a", "b", "é"]


def test_npz_that_would_run_code_or_does_not_fit(tmp_path):
    np.savez(tmp_path / "objects.npz", a=np.array([{"x": 1}], dtype=object))
    np.savez(tmp_path / "wide.npz", images=np.zeros((2, 400, 400)))
    np.savez(tmp_path / "uneven.npz", a=np.zeros(2), b=np.zeros(3))
    np.savez(tmp_path / "single.npz", a=1)
    with pytest.raises(InputError, match="Python objects"):
        read(tmp_path / "objects.npz")
    with pytest.raises(InputError, match="'images' has 160,000 columns"):
        read(tmp_path / "wide.npz")
    with pytest.raises(InputError, match="a 2, b 3"):
        read(tmp_path / "uneven.npz")
    with pytest.raises(InputError, match="no array"):
        read(tmp_path / "single.npz")


# Folders, paths, frames, arrays


def test_folder_with_a_labels_file(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with pytest.raises(InputError, match="no table"):
        read(folder)
    write(folder / "some.csv", "file,label\na.png,x\n")
    source = read(folder)
    assert (source.name, source.folder) == ("pictures/some.csv", folder)
    write(folder / "other.csv", "file,label\nb.png,x\n")
    with pytest.raises(InputError, match=r"several tables \(other.csv, some.csv\)"):
        read(folder)
    write(folder / "Labels.csv", "file,label\nc.png,x\n")
    assert read(folder).frame["file"].tolist() == ["c.png"]


def test_paths_that_do_not_exist(tmp_path):
    write(tmp_path / "reviews.csv", "a\nx\n")
    with pytest.raises(InputError, match=r"Did you mean .*reviews\.csv"):
        read(tmp_path / "review.csv")
    with pytest.raises(InputError, match=r"Did you mean .*reviews\.csv"):
        read(tmp_path / "reviews")
    with pytest.raises(InputError, match=r"folder .* does not exist"):
        read(tmp_path / "nowhere" / "t.csv")
    with pytest.raises(InputError, match="download"):
        read("https://example.org/t.csv")
    for source in ("a\0b", 3, None, [1]):
        with pytest.raises(InputError):
            read(source)


def test_data_frame():
    frame = pd.DataFrame(
        {"a": [1, None, 3], "b": ["x", None, "y"], "c": [1, "x", None], "d": pd.Categorical(["p", "q", "p"])},
        index=["r1", "r2", "r3"],
    )
    source = read(frame, name="mine")
    assert source.frame["a"].dtype == np.float64
    assert source.frame["b"].isna().tolist() == [False, True, False]
    assert source.frame["c"].tolist()[:2] == ["1", "x"]
    assert source.frame["d"].tolist() == ["p", "q", "p"]
    assert said(source, "'c'", "int, str")
    assert (source.name, source.row_label(1)) == ("mine", "row 2 (index r2)")
    frame.columns = ["a", "a", "c", 4]
    assert read(frame).frame.columns.tolist() == ["a", "a (2)", "c", "4"]
    with pytest.raises(InputError, match="no row"):
        read(frame.iloc[:0])
    with pytest.raises(InputError, match="no column"):
        read(pd.DataFrame(index=[0, 1]))


def test_arrays():
    source = read((np.eye(3), [0, 1, -1]))
    assert source.frame.columns.tolist() == ["x_0", "x_1", "x_2", "target"]
    assert source.row_label(2) == "row 3"
    assert read((csr_matrix(np.eye(2)), None)).frame.to_numpy().tolist() == [[1, 0], [0, 1]]
    texts = read((["good", "bad"], np.array(["a", None], dtype=object))).frame
    assert texts["text"].tolist() == ["good", "bad"]
    assert texts["target"].isna().tolist() == [False, True]
    with pytest.raises(InputError, match="one label a row"):
        read((np.eye(3), [0, 1]))
    cubes = read((np.arange(8).reshape(2, 2, 2), [0, 1])).frame
    assert cubes.columns.tolist() == ["x_0_0", "x_0_1", "x_1_0", "x_1_1", "target"]
    assert cubes.to_numpy()[:, :4].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(InputError, match="200,000 columns"):
        read((np.zeros((2, 2, 100_000)), [0, 1]))


def test_what_masks_hide_is_missing():
    x, y = np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]]), np.ma.array(["a", "b"], mask=[1, 0])
    frame = read((x, y)).frame
    np.testing.assert_array_equal(frame[["x_0", "x_1"]], [[1, np.nan], [3, 4]])
    assert frame["target"].fillna("").tolist() == ["", "b"]
    assert read((y, None)).frame["text"].fillna("").tolist() == ["", "b"]
    assert read({"y": y}).frame["y"].fillna("").tolist() == ["", "b"]


def test_records_are_tables():
    fields = [("age", ">i4"), ("name", "U3"), ("at", "f8", (2,))]
    records = np.array([(1, "x", (0.5, 1.5)), (3, "y", (2.5, 3.5))], fields)
    wanted = {"age": [1, 3], "name": ["x", "y"], "at_0": [0.5, 2.5], "at_1": [1.5, 3.5]}
    assert read(records).frame.to_dict("list") == wanted
    assert read((records.view(np.recarray), [0, 1])).frame.to_dict("list") == wanted | {"target": [0, 1]}
    hidden = np.ma.array(records, mask=[(0, 1, (0, 0)), (0, 0, (0, 0))])
    assert read((hidden, None)).frame["name"].isna().tolist() == [True, False]
    with pytest.raises(InputError, match="field 'a' of x holds records"):
        read(np.zeros(2, [("a", [("b", "f4")])]))


@pytest.mark.parametrize("lengths", [[timedelta(seconds=5), None], [np.timedelta64(5, "s"), pd.NaT]], ids=str)
def test_lengths_of_time_are_seconds(lengths):
    for cells in (pd.Series(lengths, dtype=object), pd.Series(lengths), pd.array(lengths, "duration[s][pyarrow]")):
        source = read({"a": cells})
        np.testing.assert_array_equal(source.frame["a"], [5, np.nan])
        assert said(source, "read as seconds")
    assert read({"a": [timedelta.max, timedelta(1)]}).frame["a"].tolist()[1] == "1 day, 0:00:00"


def test_signalling_nans_are_missing():
    source = read({"n": [Decimal("1.5"), Decimal("sNaN")], "t": ["a", Decimal("sNaN")]})
    np.testing.assert_array_equal(source.frame["n"], [1.5, np.nan])
    assert source.frame["t"].isna().tolist() == [False, True]


@pytest.mark.slow
def test_a_hundred_thousand_rows_of_text_in_little_memory(tmp_path):
    import tracemalloc

    words = np.random.default_rng(0).choice([f"word{i}" for i in range(5_000)], (1_000, 40))
    lines = [f'{i},"{" ".join(words[i % 1_000])}, and more",{"ab"[i % 2]}\n' for i in range(100_000)]
    path = write(tmp_path / "t.csv", "id,text,label\n" + "".join(lines))
    tracemalloc.start()
    assert len(read(path)) == 100_000
    peak = tracemalloc.get_traced_memory()[1] + pa.default_memory_pool().max_memory()
    tracemalloc.stop()
    assert peak < 4 * path.stat().st_size


def test_decimal_commas_beside_a_cell_that_is_none(tmp_path):
    source = read(write(tmp_path / "t.csv", "a;b\n1,5;x, y\nk.A.;z\n" + "2,25;z\n" * 20))
    assert source.frame["a"].tolist() == ["1.5", "k.A.", *["2.25"] * 20]
    assert source.frame["b"].iloc[0] == "x, y"
    assert any("'a': the comma is read" in warning for warning in source.warnings)
    assert any("first 'k.A.' in row 2 (line 3)" in warning for warning in source.warnings)


def test_blanks_before_quotes(tmp_path):
    source = read(write(tmp_path / "t.csv", 'n, text, label\n1.5, "one, two", "spam"\n2, "three", ""\n'))
    assert source.frame.to_dict("list") == {"n": [1.5, 2.0], "text": ["one, two", "three"], "label": ["spam", ""]}
    kept = read(write(tmp_path / "u.csv", 'a,b\n"x","y"\nz, "w"\n'))  # elsewhere blanks belong to the cells
    assert kept.frame["b"].tolist() == ["y", ' "w"']


def test_quotes_behind_a_backslash(tmp_path):
    rows = 'text,label\n"He said \\"great\\", and left",good\n"a \\\\ b",bad\n"plain",good\n'
    source = read(write(tmp_path / "t.csv", rows))
    assert source.frame["text"].tolist() == ['He said "great", and left', "a \\ b", "plain"]
    assert not source.warnings


def test_single_bytes_that_are_no_utf8_spoil_one_line(tmp_path):
    good = "réussi,très bien\n".encode()
    source = read(write(tmp_path / "t.csv", b"label,text\n" + good * 20 + b"\xe9chou\xe9,mal\n" + good * 5))
    assert source.frame["label"].tolist() == ["réussi"] * 20 + ["\ufffdchou\ufffd"] + ["réussi"] * 5
    assert any("UTF-8 but for single bytes" in warning and "line 22" in warning for warning in source.warnings)
    western = read(write(tmp_path / "w.csv", "label,text\nréussi,très bien\n" * 3, "cp1252"))
    assert western.frame["label"].iloc[0] == "réussi"


def test_lines_of_rows_left_out_and_of_short_ones(tmp_path):
    source = read(write(tmp_path / "t.csv", "a,b\n" + "1,2\n" * 150 + "1,2,3\n4\n"))
    assert source.left_out.tolist() == [152]
    assert source.short.tolist() == [153]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_marks_of_unicode_are_read(tmp_path, encoding):
    source = read(write(tmp_path / "t.csv", "\ufeffa,b\n日本語の文,1\nそして次,2\n", encoding))
    assert source.frame.to_dict("list") == {"a": ["日本語の文", "そして次"], "b": [1, 2]}


def test_bytes_that_are_many_beside_the_letters_of_utf8(tmp_path):
    source = read(write(tmp_path / "t.csv", "a,b\nréussi,très\nété,b\n".encode() + b"\xe9chou,mal\n"))
    assert said(source, "it is read as cp1252")


def test_a_stray_control_character_in_western_text(tmp_path):
    source = read(write(tmp_path / "t.csv", b"a,b\n" + b"caf\xe9 and more of it,1\n" * 9 + b"one \x01 stray,2\n"))
    assert source.frame["a"].tolist() == ["café and more of it"] * 9 + ["one \x01 stray"]


def test_a_zip_from_a_mac(tmp_path):
    source = read(zip_of(tmp_path / "t.zip", **{"data/t.csv": "a\n1\n", "data/.DS_Store": "x"}))
    assert source.frame["a"].tolist() == [1]


def test_a_missing_class_number_of_a_dataset_is_no_label(tmp_path):
    about = json.dumps({"info": {"features": {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}}})
    table = pa.table({"text": ["a", "b", "c"], "label": [1, None, 0]}).replace_schema_metadata({"huggingface": about})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet").frame["label"].fillna("").tolist() == ["spam", "", "ham"]


def test_numbers_in_the_other_order_of_bytes_and_texts_as_bytes(tmp_path):
    np.savez(tmp_path / "t.npz", n=np.array([1.5, 2], ">f8"), m=np.array([[1, 2], [3, 4]], ">i4"), s=[b"a", b"b"])
    frame = read(tmp_path / "t.npz").frame
    assert frame.to_dict("list") == {"n": [1.5, 2], "m_0": [1, 3], "m_1": [2, 4], "s": ["a", "b"]}
    assert all(frame[name].dtype.isnative for name in ("n", "m_0", "m_1"))


def test_columns_of_arrow_that_python_has_no_values_for_are_left_out(tmp_path):
    far, fine = pa.array([2**31 - 1, 0], pa.date32()), pa.array([1, 2], pa.time64("ns"))
    table = pa.table({"a": ["x", "y"], "raw": pa.array([b"1", b"2"], pa.large_binary()), "day": far, "time": fine})
    write_stream(table, tmp_path / "t.arrow")
    source = read(tmp_path / "t.arrow")
    assert source.frame.columns.tolist() == ["a"]
    assert said(source, "'raw'", "bytes")
    assert said(source, "'day' is left out")
    assert said(source, "'time' is left out")


def test_texts_of_arrow_that_are_no_utf8_are_refused(tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe"))
    write_stream(pa.table({"a": broken}), tmp_path / "b.arrow")
    with pytest.raises(InputError, match=r"b\.arrow cannot be read as Arrow"):
        read(tmp_path / "b.arrow")


def test_a_fault_inside_an_array_of_json_has_its_own_line(tmp_path):
    with pytest.raises(InputError, match="line 4: no valid JSON"):
        read(write(tmp_path / "t.json", '\n[\n{"a": 1},\n{"a": }\n]\n'))
