import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.auto.align import align
from cotrain.auto.audit import audit
from cotrain.auto.columns import Columns, infer
from cotrain.auto.read import read
from cotrain.auto.written import CLOCK, Writing, read_written, recognise


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,234.50", "12", "-1,000"], [1234.5, 12, -1000]),
        (["1.234,50", "12,25"], [1234.5, 12.25]),
        (["1,234", "12"], [1234, 12]),  # a comma before three digits is of groups
        (["1,234", "5,67"], [1.234, 5.67]),  # unless it is one of decimals elsewhere
        (["1.234", "5.678"], [1.234, 5.678]),
        (["1.234", "5.678.901"], [1234, 5678901]),
        (["1 234 567", "1\u00a0000", "12"], [1234567, 1000, 12]),
        (["1'234.5", "12.5"], [1234.5, 12.5]),
        (["12,34,567", "1,234"], [1234567, 1234]),  # lakhs
        (["$1,318.85", "$3", "-$2.50", "$-1"], [1318.85, 3, -2.5, -1]),
        (["US$ 3", "US$ 4.5"], [3, 4.5]),
        (["917,16 €", "1.318,85€"], [917.16, 1318.85]),
        (["EUR 3", "EUR 4"], [3, 4]),
        (["45 %", "3.5%", "7"], [45, 3.5, 7]),
        (["1 year", "20 years"], [1, 20]),
        (["3 km/h", "4.5 km/h"], [3, 4.5]),
        (["1.2k", "3M", "950"], [1200, 3e6, 950]),
        (["$1.2M", "$950K", "$20"], [1.2e6, 950e3, 20]),
        (["(7)", "8"], [-7, 8]),
        (["<0.1", "> 3"], [0.1, 3]),
        (["4/5", "3.5/5"], [4, 3.5]),
        (["10,000+", "500+"], [10000, 500]),
        (["?", "3.5", "-", "unknown"], [np.nan, 3.5, np.nan, np.nan]),
        (["1.5M", "850000", "2M"], [1.5e6, 850e3, 2e6]),
        (["$1.20B", "$850M"], [1.2e9, 850e6]),
        (["3m", "4m"], [3, 4]),  # metres
        (["49.22-", "18.50"], [-49.22, 18.5]),
        (["１９０円", "２０円"], [190, 20]),
        (["١٩٠", "٢٠"], [190, 20]),
        (["3.5", "#DIV/0!", "#NULL!", "N.A."], [3.5, np.nan, np.nan, np.nan]),
        (["12:30", "9:15:36"], [12.5, 9.26]),
        (["12:30 am", "1:00 PM"], [0.5, 13]),
    ],
)
def test_numbers_as_people_write_them(cells, values):
    writing = recognise(cells)
    assert writing is not None
    found, strays = read_written(cells, writing)
    np.testing.assert_allclose(found, values)
    assert not strays


@pytest.mark.parametrize(
    "cells",
    [
        ["1st", "2nd", "3rd"],
        ["Q1", "Q2"],
        ["12A", "13B"],  # units that differ
        ["3 kg", "4 lb"],
        ["$3", "€4"],
        ["300.00 CR", "20.00", "12.00 CR"],  # the sign is in the word
        ["3 EUR", "4 USD"],
        ["007", "012"],
        ["1,2", "3.4"],  # both marks cannot be of decimals
        ["1,234,5", "12"],
        ["192.168.1.1", "10.0.0.1"],
        ["555-1234", "555-9876"],
        ["100% cotton", "50% wool"],
        ["25-34", "35-44"],
        ["3 small green apples"],
        ["", "?", "n/a"],
    ],
)
def test_other_texts_are_no_numbers(cells):
    assert recognise(cells) is None


@given(
    st.lists(st.floats(-1e9, 1e9).map(lambda v: round(v, 2)), min_size=1, max_size=20),
    st.sampled_from([",.", ".,", " ,", " .", "'.", "\u00a0,", ".", ","]),
    st.sampled_from(["", "$", "€"]),
    st.sampled_from(["", " kg", "%", " m/s"]),
)
def test_what_is_written_is_read(values, marks, before, after):
    group, decimal = marks[:-1], marks[-1]
    cells = [f"{value:,.2f}".replace(",", "G").replace(".", decimal).replace("G", group) for value in values]
    cells = [cell.replace("-", "-" + before) if "-" in cell else before + cell for cell in cells]
    cells = [cell + after for cell in cells]
    writing = recognise(cells)
    assert writing is not None
    assert writing.mark == decimal
    found, strays = read_written(cells, writing)
    np.testing.assert_allclose(found, values, atol=1e-9)
    assert not strays


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_text_may_come(cells):
    for writing in (recognise(cells), Writing("."), Writing(",", "kg"), Writing(".", "k"), Writing(CLOCK)):
        if writing is not None:
            values, strays = read_written(cells, writing)
            assert len(values) == len(cells)
            assert np.isnan(values[strays]).all()


def test_cells_of_another_unit_or_mark_are_strays():
    values, strays = read_written(["3 kg", "3 lb", None, "1,5", "many"], Writing(".", "kg"))
    np.testing.assert_array_equal(values, [3, np.nan, np.nan, np.nan, np.nan])
    assert strays == [1, 3, 4]


def test_a_price_is_learnt_from_as_a_number():
    rng = np.random.default_rng(0)
    prices = rng.gamma(2, 500, 60)
    frame = pd.DataFrame({"price": [f"${p:,.2f}" for p in prices], "label": ["a", "b", None] * 20})
    source = read(frame)
    columns = infer(source.frame, target="label")
    assert columns.number == ("price",)
    assert Columns.from_dict(columns.to_dict()) == columns
    np.testing.assert_allclose(align(source.frame, columns)["price"], prices, atol=0.01)
    assert any("'price' is read as numbers: '$" in warning for warning in audit(source, columns).warnings)


def test_codes_with_a_letter_are_identifiers():
    frame = read(pd.DataFrame({"code": [f"{i}x" for i in range(100, 160)], "n": range(60), "label": ["a", "b"] * 30}))
    assert infer(frame.frame.assign(v=np.arange(60) % 7), target="label").dropped.keys() >= {"code"}


def test_a_cell_that_does_not_fit_is_missing_and_told():
    said: list[str] = []
    columns = Columns("label", number=("price",), written={"price": Writing(".")})
    found = align(read(pd.DataFrame({"price": ["$3", "4 apples", None, "?"]})).frame, columns, said)
    np.testing.assert_array_equal(found["price"], [3, np.nan, np.nan, np.nan])
    assert "not numbers count as missing: 1 ('4 apples')" in said[0]
    plain = align(pd.DataFrame({"price": [3.0, 4.0]}), columns)  # another program wrote plain numbers
    np.testing.assert_array_equal(plain["price"], [3, 4])
