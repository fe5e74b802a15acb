"""Who is slow, on constructed timings and on ranks with a sleep in one of them."""

import random
import time
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_ranks

from cotrain.errors import InputError
from cotrain.watch import stragglers
from cotrain.watch.stragglers import Stragglers, Window, heat, heat_map, scores, slow_ranks

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


def window(compute, whole=None, slow=(), step=50):
    return Window(step, compute, compute, [0.0] * len(compute), whole or compute, list(slow))


def test_the_cost_by_hand_and_the_sentence():
    found = window([0.1, 0.1, 0.1, 0.2], whole=[0.25] * 4, slow=[3])
    assert found.cost == pytest.approx(0.4)
    assert found.text == (
        "Rank 3 is slow: its own work takes 2.00 times the median rank's (200 ms a step). "
        "Waiting for the slowest costs 40% of every step."
    )
    assert window([0.1, 0.1]).text == ""


def test_the_heat_map():
    windows = [window([1.0, 1.0, 2.0]), window([2.0, 2.0, 2.0], step=100)]
    assert heat(windows) == {"steps": [50, 100], "ranks": [[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]]}
    figure = heat_map(windows)
    assert figure.axes[0].get_xlabel() == "step"
    assert figure.axes[0].images[0].get_array().shape == (3, 2)
    with pytest.raises(InputError, match="no window"):
        heat_map([])


class TestMonitor:
    def test_only_what_comes_before_the_first_collective_is_own_work(self):
        monitor = Stragglers(window=2)
        for last in (False, True):
            monitor.begin()
            monitor.collective()
            time.sleep(0.02)
            monitor.collective()
            assert (monitor.end() is not None) is last
        found = monitor.windows[0]
        assert found.whole[0] - found.compute[0] >= 0.02
        assert found.slow == []
        assert found.step == 2

    def test_without_a_collective_the_whole_step_is_own_work(self):
        monitor = Stragglers(window=1)
        monitor.begin()
        found = monitor.end()
        assert found.compute == found.whole == found.smooth

    def test_an_empty_window_is_refused(self):
        with pytest.raises(InputError, match="at least one step"):
            Stragglers(window=0)


def _steps(slow_rank, windows):
    """Each rank's clock is moved by hand: the slow one's own work takes 5 times as long, and all wait for it."""
    clock = [0.0]
    stragglers.time = SimpleNamespace(perf_counter=lambda: clock[0])
    monitor = Stragglers(window=4)
    for step in range(4 * windows):
        monitor.begin()
        start = clock[0]
        clock[0] += (5.0 if dist.get_rank() == slow_rank else 1.0) + 0.01 * (step % 4)
        monitor.collective()
        clock[0] = start + 6.0
        monitor.end()
    return [(w.step, w.slow, w.text, w.cost) for w in monitor.windows]


def test_a_slow_rank_is_named_on_all_ranks_in_the_third_window():
    first, second = run_ranks(_steps, 2, 1, 3)
    assert first == second
    assert [(step, slow) for step, slow, _, _ in first] == [(4, []), (8, []), (12, [1])]
    # medians 1.015 and 5.015 of steps of 6 s
    assert first[2][2].startswith("Rank 1 is slow: its own work takes 4.94 times the median rank's")
    assert first[2][3] == pytest.approx(4 / 6)
