import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cotrain
from cotrain.auto.columns import infer
from cotrain.auto.nested import is_key, unfold, unfold_as
from cotrain.auto.read import read
from cotrain.errors import InputError


def texts(*cells):
    return pd.DataFrame({"label": pd.Series(["a", "b"] * len(cells), dtype=str)[: len(cells)], "item": cells}).astype(
        str
    )


def test_keys_become_columns_in_the_place_of_their_object():
    frame = pd.DataFrame({"first": [1, 2], "item": ['{"colour": "red", "size": 40}', '{"size": 2.5}'], "last": [3, 4]})
    found, said = unfold(frame.astype({"item": str}))
    assert list(found) == ["first", "item.colour", "item.size", "last"]
    assert found["item.colour"].tolist()[0] == "red"
    assert pd.isna(found["item.colour"][1])
    assert found["item.size"].tolist() == [40, 2.5]
    assert said == ["Column 'item' holds objects; their keys are columns: 'item.colour', 'item.size'."]


def test_objects_in_objects_as_python_writes_them_and_lists():
    cells = ["{'box': {'cm': [1, 2], 'kind': 'flat'}, 'new': True}", "{'box': None, 'new': False}"]
    found, _ = unfold(texts(*cells))
    assert list(found) == ["label", "item.box.cm", "item.box.kind", "item.new"]
    assert found["item.box.cm"].tolist()[0] == "[1, 2]"
    assert found["item.new"].tolist() == [True, False]


def test_few_cells_may_be_no_objects():
    cells = ['{"size": 1}'] * 18 + ["", "broken {"]
    found, said = unfold(texts(*cells))
    assert found["item.size"].isna().tolist() == [False] * 18 + [True] * 2
    assert said[1] == "Column 'item': cells that are not objects count as missing: 1 (such as 'broken {')."
    assert list(unfold(texts(*cells[:5], "x", "y"))[0]) == ["label", "item"]


@pytest.mark.parametrize(
    "cells",
    [
        ['{"a": 1', "{a}"],  # no objects
        ["{}", "{}"],  # no keys
        ["[1, 2]", "[3]"],
        ["{'a', 'b'}", "{'c'}"],  # sets
        [json.dumps({f"word {n}": 1 for n in range(row, row + 60)}) for row in (0, 60)],  # counts of words
    ],
)
def test_other_cells_stay_as_they_are(cells):
    frame = texts(*cells)
    found, said = unfold(frame)
    assert found is frame
    assert said == []


def test_missing_cells_however_written_do_not_keep_objects_whole():
    found, said = unfold(texts(*['{"size": 1}'] * 5, "null", "", "N/A", "-", "?"))
    assert found["item.size"].isna().tolist() == [False] * 5 + [True] * 5
    assert len(said) == 1


def test_numbers_as_python_prints_them():
    cells = [
        "{'a': nan, 'b': 'nan', \"c\": np.float64(0.5)}",
        "{'a': 2.0, 'b': \"it's np.int64(3)\", 'c': np.int64(-3)}",
    ]
    found, _ = unfold(texts(*cells))
    assert found["item.a"].isna().tolist() == [True, False]
    assert found["item.b"].tolist() == ["nan", "it's np.int64(3)"]
    assert found["item.c"].tolist() == [0.5, -3]


def test_a_key_with_a_point_and_a_key_inside_another_do_not_meet():
    found, _ = unfold(texts(*['{"a.b": 1, "a": {"b": 2}}'] * 2))
    assert found["item.a.b"].tolist() == [1, 1]
    assert found["item.a"].tolist() == ['{"b": 2}'] * 2


KNOWN = ["item.size", "item.box.cm", "label"]


def test_a_new_table_has_the_keys_that_are_known_whatever_else_is_in_it():
    wide = json.dumps({"size": 3} | {f"word {n}": n for n in range(300)})
    cells = ['{"size": 1, "box": {"cm": 2, "kg": 5}}', wide, "null", "broken {", *["n/a"] * 20]
    found, said = unfold_as(texts(*cells), KNOWN)
    assert list(found) == ["label", "item.size", "item.box.cm"]
    assert found["item.size"].tolist()[:2] == [1, 3]
    assert found["item.box.cm"].dropna().tolist() == [2]
    assert said == ["Column 'item': cells that are not objects count as missing: 1 (such as 'broken {')."]


def test_names_in_other_letters_stay_for_the_fit_to_recognise():
    found, _ = unfold_as(texts('{"Size": 1}').rename(columns={"item": "Item"}), KNOWN)
    assert list(found) == ["label", "Item.Size"]


@pytest.mark.parametrize("known", [["item", "item.size"], ["other.size"], ["items.size"]])
def test_what_is_not_known_by_its_keys_stays_as_it_is(known):
    frame = texts('{"size": 1}', "x")
    pd.testing.assert_frame_equal(unfold_as(frame, known)[0], frame)


def test_a_column_that_is_there_is_not_replaced_by_a_key():
    frame = texts('{"size": 1, "box": {"cm": 2}}').assign(**{"item.size": 7})
    found, _ = unfold_as(frame, KNOWN)
    assert sorted(found) == ["item.box.cm", "item.size", "label"]
    assert found["item.size"].tolist() == [7]


def test_a_column_of_the_same_name_keeps_the_object_whole():
    frame = texts('{"size": 1}', '{"size": 2}').assign(**{"item.size": [3, 4]})
    assert unfold(frame)[0] is frame


def test_objects_inside_more_than_five_others_stay_whole():
    cell: object = {"end": 1}
    for _ in range(8):
        cell = {"in": cell}
    found, _ = unfold(texts(json.dumps(cell), json.dumps(cell)))
    assert list(found) == ["label", "item" + ".in" * 5]


@given(st.lists(st.text(alphabet="{}[]\"':,ab1 ", max_size=12).map(lambda inner: "{" + inner + "}"), min_size=1))
def test_anything_in_braces_can_be_read(cells):
    found, _ = unfold(pd.DataFrame({"item": pd.Series(cells, dtype=str)}))
    assert len(found) == len(cells)


def test_is_key():
    assert is_key("item.size", ["item.colour"])
    assert is_key("item.size", ["item"])
    assert not is_key("item.size", ["items.size", "size"])
    assert not is_key("item", ["item.size"])


def test_json_lines_csv_and_frames_give_the_same_columns(tmp_path):
    rows = [{"item": {"colour": "red", "size": n}, "label": "a"} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    frame = pd.DataFrame(rows)
    frame.assign(item=frame["item"].map(json.dumps)).to_csv(tmp_path / "b.csv", index=False)
    frame.to_csv(tmp_path / "c.csv", index=False)
    frame.to_parquet(tmp_path / "d.parquet")
    expected = read(pd.DataFrame({"item.colour": "red", "item.size": np.arange(3), "label": "a"})).frame
    for source in (frame, rows, *sorted(tmp_path.iterdir())):
        pd.testing.assert_frame_equal(unfold(read(source).frame)[0], expected)


def test_options_name_an_object_for_all_its_keys():
    frame = pd.DataFrame({"a.x": ["p q", "r s"] * 4, "a.y": ["t", "u"] * 4, "b": range(8), "label": ["k", "l"] * 4})
    assert infer(frame, target="label", text="a").text == ("a.x", "a.y")
    assert set(infer(frame, target="label", drop=["a"]).dropped) >= {"a.x", "a.y"}
    with pytest.raises(InputError, match="Did you mean 'a"):
        infer(frame, target="a")


def test_a_fit_learns_from_keys_and_predicts_rows_that_lack_one(hasty, tmp_path):
    rng = np.random.default_rng(0)
    size = rng.normal(size=200)
    note = np.array([" ".join(rng.choice(["fine", "good", "soft", "warm", "thin", "dark"], 6)) for _ in size])
    rows = [{"item": {"size": float(s), "note": n}, "label": "large" if s > 0 else "small"} for s, n in zip(size, note)]
    for row in rows[60:]:
        row["label"] = None
    result = cotrain.fit(rows, target="label", budget="8s", seed=0)
    assert result.model.columns.number == ("item.size",)
    assert result.model.columns.text == ("item.note",)
    assert np.mean((size[60:] > 0) == (result.model.predict(rows[60:]) == "large")) > 0.85
    wide = [{"item": row["item"] | {f"extra {n}": n for n in range(200)}} for row in rows[60:]]
    assert result.model.predict([*wide, {"item": "null"}]).tolist()[:-1] == result.model.predict(rows[60:]).tolist()
    lacking = [{"item": {"size": 2.0}}, {"item": {"size": -2.0}}]
    with pytest.warns(UserWarning, match="No row has the key 'item.note'"):
        assert result.model.predict(lacking).tolist() == ["large", "small"]
