import numpy as np
import pandas as pd
import pytest

from cotrain.views.curves import KERNELS, CurveView, _answers, _dilations, find_curves

RANDOM = np.random.default_rng(0)
LENGTH = 40


def walks(rows=200, length=LENGTH, name="t"):
    steps = np.random.default_rng(1).normal(size=(rows, length))
    return pd.DataFrame(steps.cumsum(1), columns=[f"{name}{i}" for i in range(length)])


def view_of(frame):
    return CurveView(frame.columns, [frame.shape[1]])


# Which columns are curves


def test_columns_in_which_neighbours_are_alike_are_a_curve():
    frame = walks()
    assert find_curves(frame, list(frame.columns)) == [tuple(frame.columns)]
    shuffled = frame.sample(frac=1, axis=1, random_state=0)
    assert find_curves(shuffled, list(shuffled.columns)) == [tuple(frame.columns)]
    both = pd.concat([frame, walks(name="x")], axis=1).assign(age=1.0)
    assert find_curves(both, list(both.columns)) == [tuple(frame.columns), tuple(walks(name="x").columns)]


def grid(width, height, rows=100):
    """Pictures of bars: each row of pixels is like the next."""
    row = RANDOM.integers(0, 2, (rows, 1, width // 2)).repeat(2, axis=2)
    return pd.DataFrame((row + 0.1 * RANDOM.random((rows, height, width))).reshape(rows, -1)).add_prefix("p")


@pytest.mark.parametrize(
    "frame",
    [
        walks().sample(frac=1, axis=1, random_state=0).set_axis(walks().columns, axis=1),  # in no order
        walks(length=19),  # short
        walks().rename(columns=lambda name: f"{name} metres"),  # not numbered
        pd.DataFrame(RANDOM.normal(size=(200, LENGTH))).add_prefix("t"),  # noise
        pd.DataFrame(RANDOM.normal(size=(200, LENGTH)) + np.arange(LENGTH)).add_prefix("t"),  # means in an order
        pd.DataFrame(np.ones((200, LENGTH))).add_prefix("t"),
        walks() * np.nan,
        walks().iloc[:0],
        grid(8, 8),
    ],
)
def test_other_columns_are_none(frame):
    assert find_curves(frame, list(frame.columns)) == []


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
    again = view.fresh()
    again.fit(again.extract(frame))
    assert all((again.learned[name] == array).all() for name, array in view.learned.items())
    assert 1_000 < whole.shape[1] < 3_000
