"""Lost time on scripted timelines, worked out by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.errors import InputError
from cotrain.watch import effective as module
from cotrain.watch.effective import Effective, Timeline, effective


def test_an_unbroken_run_loses_nothing():
    found = effective([(100, "start"), (110, "ready"), (150, "saved"), (190, "alive"), (200, "end")])
    assert found == Effective(total=100, lost=0, restart=0, failures=0)
    assert found.share == 1


def test_a_failure_costs_the_work_since_the_checkpoint_and_the_way_back():
    found = effective(
        [
            *[(0, "start"), (10, "ready"), (50, "saved"), (70, "alive")],
            *[(90, "start"), (100, "ready"), (140, "saved"), (150, "end")],
        ]
    )
    assert found == Effective(total=150, lost=20, restart=30, failures=1)
    assert found.share == pytest.approx(2 / 3)


def test_without_a_checkpoint_all_of_a_processs_work_is_lost():
    found = effective([(0, "start"), (5, "ready"), (65, "alive"), (70, "start"), (75, "ready"), (100, "end")])
    assert found == Effective(total=100, lost=60, restart=10, failures=1)


def test_a_process_that_dies_before_it_is_ready_is_one_longer_restart():
    found = effective(
        [(0, "start"), (10, "ready"), (20, "saved"), (20, "start"), (40, "start"), (50, "ready"), (60, "end")]
    )
    assert found == Effective(total=60, lost=0, restart=30, failures=2)


def test_two_failures():
    life = lambda t: [(t, "start"), (t + 1, "ready"), (t + 5, "saved"), (t + 7, "alive")]
    found = effective([*life(0), *life(10), *life(20), (28, "end")])
    # each failure: 2 s of work, 3 s down and 1 s to load
    assert found == Effective(total=28, lost=4, restart=8, failures=2)


def test_a_stop_in_good_order_is_a_pause():
    found = effective(
        [(0, "start"), (1, "ready"), (9, "saved"), (10, "end"), (500, "start"), (502, "ready"), (510, "end")]
    )
    assert found == Effective(total=20, lost=0, restart=0, failures=0)


def test_a_run_that_never_came_back_is_down_to_its_last_sign():
    found = effective([(0, "start"), (10, "ready"), (30, "saved"), (30, "start"), (50, "alive")])
    assert found == Effective(total=50, lost=0, restart=20, failures=1)


def test_nothing_at_all():
    assert effective([]).share == 1
    assert effective([(3, "start")]) == Effective(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("timeline", "said"),
    [
        ([(0, "start"), (5, "ready"), (4, "end")], "goes back from 5 s to 4 s"),
        ([(0, "start"), (5, "begin")], "not 'begin'"),
        ([(0, "ready")], "begins with a start"),
    ],
)
def test_bad_timelines(timeline, said):
    with pytest.raises(InputError, match=said):
        effective(timeline)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["start", "ready", "alive", "saved", "end"])), max_size=30)
)
def test_any_order_of_moments_gives_a_share(gaps):
    now, timeline = 0, [(0, "start")]
    for gap, what in gaps:
        now += gap
        timeline.append((now, what))
    found = effective(timeline)
    assert min(found.lost, found.restart, found.total) >= 0
    assert found.lost + found.restart <= found.total <= now


class TestTimeline:
    def test_it_goes_on_in_a_new_process_and_mends_a_cut_line(self, tmp_path):
        file = tmp_path / "run" / "timeline.jsonl"
        first = Timeline(file)
        for what in ("start", "ready", "saved"):
            first.note(what)
        with file.open("a") as out:
            out.write('[17, "al')
        second = Timeline(file)
        second.note("start")
        words = [json.loads(line)[1] for line in file.read_text().splitlines()]
        assert words == ["start", "ready", "saved", "start"] == [what for _, what in second.moments]
        assert effective(second.moments).failures == 1

    def test_a_clock_set_back_lets_no_time_pass(self, monkeypatch):
        times = iter([100.0, 90.0, 120.0])
        monkeypatch.setattr(module.time, "time", lambda: next(times))
        line = Timeline()
        for what in ("start", "ready", "end"):
            line.note(what)
        assert effective(line.moments).total == 20
