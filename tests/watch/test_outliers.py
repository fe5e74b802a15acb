"""Who is slow, on constructed timings."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.watch.outliers import scores, slow_ranks

TIGHT = [0.01] * 4


def test_the_score_by_hand():
    # median 2.5, distances 1.5 .5 .5 7.5: their median is 1
    assert scores([1.0, 2.0, 3.0, 10.0], TIGHT) == pytest.approx([-1.01175, -0.33725, 0.33725, 5.05875])


def test_slow_in_three_windows_running_is_named():
    clean, slow = [1.0, 1.01, 0.99, 1.0], [1.0, 1.01, 5.0, 1.0]
    assert slow_ranks([slow, slow], [TIGHT] * 2) == []
    assert slow_ranks([slow, slow, slow], [TIGHT] * 3) == [2]
    assert slow_ranks([slow, clean, slow], [TIGHT] * 3) == []
    assert slow_ranks([clean, slow, slow, slow], [TIGHT] * 4) == [2]
    assert slow_ranks([slow, slow, slow, clean], [TIGHT] * 4) == []


def test_far_out_and_yet_near_is_not_slow():
    """A rank 10 % slower, the others alike: a high score, a small ratio."""
    near = [1.0, 1.0, 1.1, 1.001]
    assert scores(near, TIGHT)[2] > 100
    assert slow_ranks([near] * 3, [TIGHT] * 3) == []


def test_a_wide_field_has_no_outlier():
    """1.5 times the median, among ranks that all differ."""
    wide = [0.5, 0.8, 1.2, 1.5]
    assert slow_ranks([wide] * 3, [TIGHT] * 3) == []


def test_of_two_ranks_the_slower_is_measured_by_the_fasters_steps():
    times = [1.0, 5.0]
    assert slow_ranks([times] * 3, [[0.1, 0.1]] * 3) == [1]
    assert slow_ranks([times] * 3, [[2.0, 0.1]] * 3) == []  # the faster one's own steps differ as much
    assert slow_ranks([[1.0, 1.1]] * 3, [[0.001, 0.001]] * 3) == []


def test_alone_nobody_is_slow():
    assert slow_ranks([[1.0]] * 5, [[0.0]] * 5) == []


def timings(chance, ranks, noise, slow=None, factor=5.0):
    """Medians of 50 noisy steps, and their MADs."""
    compute, spread = [], []
    for rank in range(ranks):
        steps = sorted(chance.lognormvariate(0, noise) * (factor if rank == slow else 1) for _ in range(50))
        middle = (steps[24] + steps[25]) / 2
        compute.append(middle)
        spread.append(sorted(abs(s - middle) for s in steps)[25])
    return compute, spread


@pytest.mark.parametrize("ranks", [2, 3, 4, 16])
def test_twenty_clean_windows_name_nobody_and_a_slow_rank_is_named_within_three(ranks):
    for seed in range(30):
        chance = random.Random(seed)
        windows = [timings(chance, ranks, 0.2) for _ in range(20)]
        for upto in range(1, 21):
            assert slow_ranks([c for c, _ in windows[:upto]], [s for _, s in windows[:upto]]) == []
        windows += [timings(chance, ranks, 0.2, slow=1) for _ in range(3)]
        assert slow_ranks([c for c, _ in windows], [s for _, s in windows]) == [1]


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=9), st.integers(-20, 20))
def test_the_unit_of_time_does_not_matter(times, exponent):
    spreads = [1.0] * len(times)
    unit = 2.0**exponent
    assert scores(times, spreads) == scores([t * unit for t in times], [s * unit for s in spreads])
