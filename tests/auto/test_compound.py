import numpy as np
import pandas as pd
import pytest

import cotrain
from cotrain.auto.columns import infer
from cotrain.auto.compound import find_splits, split, split_columns, warnings_of


def table(cells):
    return pd.DataFrame({"n": pd.Series(cells, dtype=str)})


def values(write, count=40):
    rng = np.random.default_rng(0)
    return [write(*rng.integers(2, 100, 3).tolist()) for _ in range(count)]


@pytest.mark.parametrize(
    ("write", "found", "first"),
    [
        (lambda a, b, c: f"{100 + a}/{50 + b}", ("/", 2), ["185", "114"]),
        (lambda a, b, c: f"{a}x{b}x{c} cm", ("x", 3), ["85", "64", "52 cm"]),
        (lambda a, b, c: f"{a} × {b}", ("x", 2), ["85", "64"]),
        (lambda a, b, c: f"{a}h {b % 60}m", (" ", 2), ["85h", "4m"]),
        (lambda a, b, c: f"£{a}k - £{a + b}k", ("-", 2), ["£85k", "£149k"]),
        (lambda a, b, c: f"{a}.{b}3, -{b}.{c}", (",", 2), ["85.643", "-64.52"]),
        (lambda a, b, c: f"({a}, {b})", (",", 2), ["85", "64"]),
        (lambda a, b, c: f"{a} h {b % 60} min", ("'", 2), ["85 h", "4 min"]),
        (lambda a, b, c: f"{a}'{b % 12}\"", ("'", 2), ["85'", '4"']),
    ],
)
def test_numbers_of_a_cell_are_told_apart(write, found, first):
    frame = table([*values(write), ""])
    splits = find_splits(frame)
    assert splits == {"n": found}
    columns, said = split(frame, splits)
    assert not said
    assert list(columns) == split_columns("n", found[1])
    assert columns.iloc[0].tolist() == first
    assert repr(frame["n"][0]) in warnings_of(frame, splits)[0]
    assert repr(frame["n"][39]) in warnings_of(frame[::-1], splits)[0]  # not the empty one


@pytest.mark.parametrize(
    "write",
    [
        lambda a, b, c: f"{a}",
        lambda a, b, c: f"{a} kg",
        lambda a, b, c: f"2024-{1 + a % 12:02}-{1 + b % 28:02}",  # a date
        lambda a, b, c: f"AX-{a}-{b}",  # a code
        lambda a, b, c: f"{a:05}-{b}",
        lambda a, b, c: f"room {a} and {b}",
        lambda a, b, c: f"{a} of {b} {'apples' if c % 2 else 'pears'}",
        lambda a, b, c: f"10.{a}.{b}.{c}",  # an address
        lambda a, b, c: f"{1 + a % 3}/{1 + b % 2}",  # few sizes: a category
        lambda a, b, c: ", ".join(map(str, range(a % 7 + 1))),  # lists of any length
    ],
)
def test_what_is_no_cell_of_several_numbers_stays_whole(write):
    assert find_splits(table(values(write, 80))) == {}


def test_a_column_that_is_named_stays_whole():
    frame = table(values(lambda a, b, c: f"{a}/{b}"))
    assert find_splits(frame, {"n"}) == {}


def test_columns_that_are_there_already_are_not_replaced():
    frame = table(values(lambda a, b, c: f"{a}/{b}")).assign(**{"n:2": "x"})
    assert find_splits(frame) == {}


def test_a_cell_that_is_built_otherwise_has_no_numbers():
    frame = table(["120/80", None, "", "unknown", " 130 / 85", "1/2/3", "high"])
    found, said = split(frame, {"n": ("/", 2)})
    assert found["n:1"].tolist()[::4] == ["120", "130"]
    assert found["n:2"].isna().tolist() == [False, True, True, True, False, True, True]
    assert said == ["Column 'n': cells without 2 numbers count as missing: 2 ('1/2/3', 'high')."]


@pytest.mark.parametrize(
    "cells",
    [
        ["122-78", "99 - 60"],
        ["122 over 78", "99 over 60"],
        ["122 / 78", "99/60"],
        ["122:78", "99|60"],
        ["[122, 78]", "[99, 60]"],
        ["122 78", "99 60", "n/a"],
    ],
)
def test_numbers_parted_otherwise_are_read(cells):
    found, said = split(table([*cells, "100/50"]), {"n": ("/", 2)})
    assert found.iloc[[0, 1, -1]].astype(float).values.tolist() == [[122, 78], [99, 60], [100, 50]]
    assert (cells[0] in said[0]) if "/" not in cells[0] else not said


def test_cells_of_which_few_hold_several_numbers_are_not_read_otherwise():
    found, said = split(table(["122-78", "high", "low", "100/50"]), {"n": ("/", 2)})
    assert found["n:1"].isna().tolist() == [True, True, True, False]
    assert "count as missing: 3 ('122-78', 'high', 'low')" in said[0]


@pytest.mark.parametrize("word", ["-", "n/a", "?", "unknown", "refused"])
def test_words_for_none_do_not_keep_a_column_from_being_split(word):
    frame = table([*values(lambda a, b, c: f"{100 + a}/{50 + b}"), *[word] * 12])
    splits = find_splits(frame)
    assert splits == {"n": ("/", 2)}
    assert split(frame[::-1], splits)[0]["n:1"].isna().sum() == 12
    assert f"{frame['n'][39]!r}" in warnings_of(frame[::-1], splits)[0]  # not the word


def test_a_fit_learns_from_each_number():
    rng = np.random.default_rng(1)
    high, low = rng.integers(95, 180, 240), rng.integers(50, 110, 240)
    frame = pd.DataFrame({"bp": [f"{h}/{x}" for h, x in zip(high, low)], "ill": np.where(high > 137, "yes", "no")})
    truth = frame["ill"].to_numpy().copy()
    frame.loc[60:, "ill"] = None
    result = cotrain.fit(frame, target="ill", budget="6s", seed=0)
    assert result.model.columns.number == ("bp:1", "bp:2")
    assert any("'bp' holds 2 numbers in a cell" in warning for warning in result.report["warnings"])
    assert (result.model.predict(frame[["bp"]])[60:] == truth[60:]).mean() > 0.9
    assert result.student.predict(pd.DataFrame({"bp": ["170/60", "99/60"]})).tolist() == ["yes", "no"]
    with pytest.warns(UserWarning, match="'BP' is taken for 'bp'"), pytest.warns(UserWarning, match="'170-60'"):
        assert result.model.predict(pd.DataFrame({"BP": ["170-60", "99-60"]})).tolist() == ["yes", "no"]


@pytest.mark.parametrize(("different", "kind"), [(12, "category"), (60, "number"), (300, "number"), (590, "number")])
def test_postal_codes_are_numbers_however_often_they_repeat(different, kind):
    rng = np.random.default_rng(0)
    known = rng.choice(90_000, different, replace=False) + 1_000
    codes = [f"{number:05}" for number in [*known, *rng.choice(known, 600 - different)]]
    columns = infer(pd.DataFrame({"zip": codes, "label": ["a", "b"] * 300}), target="label")
    assert getattr(columns, kind) == ("zip",)


@pytest.mark.parametrize("odd", ["NA", "84624-1234", "unknown", "n. a.", "A-1010"])
@pytest.mark.parametrize("highest", [99_000, 12_000])  # of which ever more begin with zero
def test_one_odd_cell_does_not_make_postal_codes_anything_else(odd, highest):
    codes = [f"{number:05}" for number in np.random.default_rng(0).integers(1_000, highest, 299)]
    columns = infer(pd.DataFrame({"zip": [*codes, odd, *codes], "label": ["a", "b"] * 299 + ["a"]}), target="label")
    assert columns.number == ("zip",)


def test_whole_numbers_of_different_lengths_with_zeros_are_no_postal_codes():
    codes = [f"{'0' * (n % 3)}{n}" for n in range(40)] * 5
    assert not infer(pd.DataFrame({"code": codes, "label": ["a", "b"] * 100}), target="label").number


def test_postal_codes_are_numbers_where_some_repeat():
    rng = np.random.default_rng(2)
    codes = [f"{number:05}" for number in rng.integers(1_000, 99_000, 300)]
    frame = pd.DataFrame({"zip": [*codes, *codes[:5]], "n": rng.normal(size=305), "label": ["a", "b"] * 152 + ["a"]})
    columns = infer(frame.astype({"zip": str}), target="label")
    assert columns.number == ("zip", "n")
    serial = frame.assign(zip=[f"{number:05}" for number in rng.permutation(305)])
    assert "identifier" in infer(serial.astype({"zip": str}), target="label").dropped["zip"]
