import math

import pytest

from cotrain.losses import ramps


def test_by_hand():
    assert [ramps.linear(step, 4) for step in (0, 1, 4, 9)] == [0, 0.25, 1, 1]
    assert ramps.sigmoid(0, 10) == pytest.approx(math.exp(-5))
    assert ramps.sigmoid(5, 10) == pytest.approx(math.exp(-1.25))
    assert ramps.sigmoid(10, 10) == ramps.sigmoid(99, 10) == 1
    assert [round(ramps.cosine_down(step, 4), 6) for step in (0, 2, 4, 8)] == [1, 0.5, 0, 0]


@pytest.mark.parametrize("ramp", [ramps.linear, ramps.sigmoid])
def test_no_length_is_full_from_the_start(ramp):
    assert ramp(0, 0) == 1


@pytest.mark.parametrize("ramp", [ramps.linear, ramps.sigmoid])
def test_rises(ramp):
    values = [ramp(step, 20) for step in range(25)]
    assert values == sorted(values)
    assert 0 <= values[0] < values[19] < values[20] == 1
