import numpy as np
import pandas as pd
import pytest

from cotrain.masks import unmasked


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, 2.5], "f"),
        ([1, 2], "f"),
        ([True, False], "O"),
        (["a", "b"], "O"),
        (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "M"),
        (np.array([1, 2], "m8[s]"), "m"),
    ],
    ids=str,
)
def test_what_is_masked_is_missing(values, kind):
    found = unmasked(np.ma.array(values, mask=[False, True]))
    assert found.dtype.kind == kind
    assert found[0] == values[0]
    assert pd.isna(found).tolist() == [False, True]


def test_whole_numbers_stay_whole_where_that_is_asked_for():
    assert unmasked(np.ma.array([1, 2], mask=[0, 1]), object).tolist() == [1, None]


def test_the_array_stays_as_it_is():
    hidden = np.ma.array([[1.0, 2.0]], mask=[[False, True]])
    unmasked(hidden)
    assert hidden.data.tolist() == [[1, 2]]
    for other in (np.ma.array([1, 2]), np.arange(2), "text", None):
        assert unmasked(other) is other
