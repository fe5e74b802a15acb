import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.auto.shape import Maybe, fault

SHAPE = {"name": str, "rows": {"labelled": int, "test?": int}, "points": [{"x": (int, float)}], "low": Maybe(float)}
GOOD = {"name": "a", "rows": {"labelled": 3}, "points": [{"x": 1}, {"x": 0.5, "more": None}], "low": None}


def test_what_has_its_shape():
    assert fault(GOOD, SHAPE) == ""
    assert fault(GOOD | {"low": 0.5, "points": [], "else": 1}, SHAPE) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "name is 3"),
        ({"rows": {}}, "rows.labelled is missing"),
        ({"rows": {"labelled": True}}, "rows.labelled is True"),
        ({"rows": {"labelled": 1, "test": "2"}}, "rows.test is '2'"),
        ({"rows": []}, "rows does not hold names with values"),
        ({"points": {}}, "points is not a list"),
        ({"points": [{"x": 1}, {"y": 1}]}, "points[1].x is missing"),
        ({"low": "0.5"}, "low is '0.5'"),
    ],
)
def test_the_first_fault_is_named(change, said):
    assert fault(GOOD | change, SHAPE) == said


def test_a_missing_name_and_a_wrong_whole():
    assert fault({key: GOOD[key] for key in GOOD if key != "low"}, SHAPE) == "low is missing"
    assert fault([], SHAPE) == "it does not hold names with values"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_judged(value):
    assert isinstance(fault(value, SHAPE), str)
    assert fault(value, SHAPE) != ""
