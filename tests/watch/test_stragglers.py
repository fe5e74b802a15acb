"""Windows of steps: what is timed, what is said and drawn, and who is named among ranks."""

import time
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from ranks import run_ranks

from cotrain.errors import InputError
from cotrain.watch import stragglers
from cotrain.watch.stragglers import Stragglers, Window, heat, heat_map


def window(compute, whole=None, slow=(), step=50, first=0):
    return Window(step, compute, compute, [0.0] * len(compute), whole or compute, list(slow), first)


def test_the_cost_by_hand_and_the_sentence():
    found = window([0.1, 0.1, 0.1, 0.2], whole=[0.25] * 4, slow=[3])
    assert found.cost == pytest.approx(0.4)
    assert found.text == (
        "Rank 3 is slow: its own work takes 2.00 times the median rank's (200 ms a step). "
        "Waiting for the slowest costs 40% of every step."
    )
    assert window([0.1, 0.1]).text == ""
    assert window([0.1, 0.2], slow=[5], first=4).text.startswith("Rank 5 is slow: its own work takes 2.00 times")


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
