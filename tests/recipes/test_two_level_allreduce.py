import inspect
from typing import get_args

import pytest
import torch.distributed as dist

from cotrain.recipe import load
from cotrain.run import Table
from tests.ranks import run_ranks

two_level = load("two_level_allreduce")


def test_every_row_is_a_recipe():
    assert set(inspect.signature(two_level.recipe).parameters) == {"part", "way", "seed", "full"}
    rows = two_level.rows().values()
    assert {row["part"] for row in rows} == set(get_args(two_level.Part))
    assert [row["way"] for row in rows if "way" in row] == list(get_args(two_level.Way))
    assert all(hasattr(two_level.recipe(**row), "measure") for row in rows)


def table(unequal=0.0, off=0.0, small=1.5, large=1.0, gap=0.002) -> Table:
    made = Table()
    for seed in range(3):
        made.add("traffic", seed, {"unequal elements": unequal, "bytes off": off})
        times = {"ring / two-level, small": small, "ring / two-level, large": large}
        made.add("time", seed, times | {"gloo / two-level, 32 KiB": 0.5, "gloo / two-level, 8 MiB": 0.5})
        made.add("digits", seed, {"gap of the curve": gap * (seed + 1) / 3})
    return made


def test_bars_by_hand():
    assert [bar.held for bar in two_level.bars(table())] == [True] * 5
    assert [bar.held for bar in two_level.bars(table(unequal=1.0, small=1.29, gap=0.0101))] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert [bar.held for bar in two_level.bars(table(off=4.0, large=0.95))] == [True, False, True, False, True]
    assert "1.0 times" in two_level.bars(table())[1].text
    assert "1.5 times by a flat ring" in two_level.bars(table())[1].text
    assert "3 latencies in a row, two levels for 2" in two_level.bars(table())[2].text
    assert two_level.bars(table(gap=0.003))[-1].value == pytest.approx(0.003)  # the worst seed


def traffic():
    import os

    os.environ["COTRAIN_NODE"] = f"node {dist.get_rank() // 2}"
    return load("two_level_allreduce").traffic(0, False)


@pytest.mark.slow
def test_nothing_is_unequal_and_no_byte_off():
    assert run_ranks(traffic, 4, timeout=120) == [{"unequal elements": 0.0, "bytes off": 0.0}] * 4


def test_the_simulated_cluster_by_its_formulas():
    numbers = {way: two_level.recipe("simulated", way).measure() for way in get_args(two_level.Way)}
    assert numbers["two-level trees"]["bytes of a node"] == numbers["two-level ring"]["bytes of a node"] == 2 * 15 / 16
    assert numbers["flat ring"]["bytes of a node"] == 2 * 127 / 128
    assert numbers["scattered ring"]["bytes of a node"] == 8 * 2 * 127 / 128
    assert numbers["two-level trees"]["bytes out of a rank"] == 1.0
    assert numbers["two-level trees"]["latencies in a row"] == 8  # up and down trees of depth 4
    assert numbers["two-level ring"]["latencies in a row"] == 30
    assert numbers["scattered ring"]["latencies in a row"] == 254
    assert min(numbers, key=lambda way: numbers[way]["ms, 64 KiB"]) == "two-level trees"
