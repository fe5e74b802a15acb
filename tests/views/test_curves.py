import numpy as np
import pandas as pd
import pytest

from cotrain.views.curves import KERNELS, CurveView, _answers, _dilations

RANDOM = np.random.default_rng(0)
LENGTH = 40


def walks(rows=200, length=LENGTH, name="t"):
    steps = np.random.default_rng(1).normal(size=(rows, length))
    return pd.DataFrame(steps.cumsum(1), columns=[f"{name}{i}" for i in range(length)])


def view_of(frame):
    return CurveView(frame.columns, [frame.shape[1]])


# Features


@pytest.mark.parametrize("dilation", [1, 4])
def test_kernels_answer_as_numpy_convolves(dilation):
    curve = RANDOM.normal(size=(1, LENGTH)).astype(np.float32)
    reach = 4 * dilation
    for number, (places, answer) in enumerate(zip(KERNELS, _answers(curve, dilation), strict=True)):
        kernel = np.full(9, -1.0)
        kernel[list(places)] = 2
        spread = np.zeros(8 * dilation + 1)
        spread[::dilation] = kernel
        full = np.correlate(np.pad(curve[0], reach), spread, "valid")
        expected = full[reach : LENGTH - reach] if number % 2 else full
        np.testing.assert_allclose(answer[0], expected, atol=1e-4)


def test_dilations_reach_along_the_whole_curve():
    assert _dilations(20) == (1, 2)
    assert _dilations(9) == _dilations(2) == (1,)
    assert max(_dilations(400)) * 8 < 400


def test_features_tell_shape_apart_from_level_and_size():
    frame = walks()
    view = view_of(frame)
    view.fit(view.extract(frame))
    same = view.transform(view.extract(frame))
    moved = view.transform(view.extract(3 * frame + 7))
    np.testing.assert_allclose(same[:, 2:], moved[:, 2:], atol=1e-4)
    assert (np.abs(same - moved)[:, :2] > 0.01).any(0).all()  # mean and size
    assert same.dtype == np.float32
    shares = view._features(view.extract(frame))[:, 2:]
    assert 0 <= shares.min() < shares.max() <= 1
    assert shares.mean() == pytest.approx(0.5, abs=0.05)  # biases are quantiles, spread evenly


def test_missing_numbers_lie_between_their_neighbours():
    frame = walks(rows=5)
    view = view_of(frame)
    straight = frame.copy()
    straight.loc[0, "t7"] = (straight.loc[0, "t6"] + straight.loc[0, "t8"]) / 2
    holed = straight.copy()
    holed.loc[0, "t7"] = np.nan
    holed.loc[1, "t7"] = np.inf
    raw = view.extract(holed)
    np.testing.assert_allclose(raw[0], view.extract(straight)[0], rtol=1e-6)
    assert np.isfinite(raw).all()
    short = frame.copy()
    short.loc[0, "t30":] = np.nan  # a curve that ends before the others
    assert np.isnan(view.extract(short)[0, 30:]).all()
    assert np.isfinite(view.fit(view.extract(short)).transform(view.extract(short))).all()


def test_odd_rows_have_features_too():
    frame = walks(rows=5)
    frame.iloc[0], frame.iloc[1], frame.iloc[2] = np.nan, 3.0, 1e30
    view = view_of(frame)
    assert np.isfinite(view.fit(view.extract(frame)).transform(view.extract(frame))).all()
    assert view.transform(view.extract(frame.iloc[:0])).shape[0] == 0


def test_rows_do_not_depend_on_each_other_and_a_fresh_view_learns_the_same():
    frame = pd.concat([walks(rows=300), walks(rows=300, length=25, name="x")], axis=1)
    view = CurveView(frame.columns, [LENGTH, 25])
    whole = view.fit(view.extract(frame)).transform(view.extract(frame))
    np.testing.assert_allclose(view.transform(view.extract(frame.iloc[7:9])), whole[7:9], atol=1e-6)
    huge = frame.copy()
    huge.iloc[3] *= 1e12  # beside which the others look flat
    np.testing.assert_allclose(view.transform(view.extract(huge))[7:9], whole[7:9], atol=1e-6)
    again = view.fresh()
    again.fit(again.extract(frame))
    assert all((again.learned[name] == array).all() for name, array in view.learned.items())
    assert 1_000 < whole.shape[1] < 3_000
