import inspect
from typing import get_args

import pytest
import torch.distributed as dist

from cotrain.recipe import load
from cotrain.run import Table
from tests.ranks import run_ranks

two_level = load("two_level_allreduce")


def test_every_row_is_a_recipe():
    assert set(inspect.signature(two_level.recipe).parameters) == {"part", "seed", "full"}
    assert [row["part"] for row in two_level.rows().values()] == list(get_args(two_level.Part))
    assert all(hasattr(two_level.recipe(**row), "measure") for row in two_level.rows().values())


def table(unequal=0.0, off=0.0, small=1.5, large=1.0, gap=0.002) -> Table:
    made = Table()
    for seed in range(3):
        row = {"unequal elements": unequal, "bytes off": off}
        made.add("traffic", seed, row | {f"latencies in a row, {way}": 2.0 for way in ("flat ring", "two-level trees")})
        times = {"small buckets, late links": small, "large buckets, late links": large}
        numbers = {f"{name}: flat ring / two-level": value for name, value in times.items()}
        gloo = {f"{size}, no latency: torch's gloo / two-level": 0.5 for size in ("32 KiB", "8 MiB")}
        made.add("time", seed, numbers | gloo)
        made.add("digits", seed, {"largest gap of the curve to fp32, bf16": gap * (seed + 1) / 3})
    return made


def test_bars_by_hand():
    assert [bar.held for bar in two_level.bars(table())] == [True] * 5
    assert [bar.held for bar in two_level.bars(table(unequal=1.0, small=1.29, gap=0.0101))] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert [bar.held for bar in two_level.bars(table(off=4.0, large=0.95))] == [True, False, True, False, True]
    assert two_level.bars(table(gap=0.003))[-1].value == pytest.approx(0.003)  # the worst seed


def traffic():
    import os

    os.environ["COTRAIN_NODE"] = f"node {dist.get_rank() // 2}"
    return load("two_level_allreduce").traffic(0, False)


@pytest.mark.slow
def test_bytes_of_a_node_are_the_formulas():
    for numbers in run_ranks(traffic, 4, timeout=120):
        assert numbers["unequal elements"] == numbers["bytes off"] == 0
        assert numbers["bytes of a node, two-level trees"] == numbers["bytes of a node, two-level ring"] == 1.0
        assert numbers["bytes of a node, two-level bf16"] == 0.5
        assert numbers["bytes of a node, flat ring"] == 1.5
        assert numbers["latencies in a row, flat ring"] == 3.0
        assert numbers["latencies in a row, two-level trees"] == 2.0


def test_the_simulated_cluster_by_its_small_message():
    numbers = two_level.recipe("simulated cluster").measure()
    assert set(numbers) == {
        f"{size}: {other} / two-level tree"
        for size in ("64 KiB", "64 MiB")
        for other in ("ring", "scattered ring", "tree", "two-level ring")
    }
    assert numbers["64 KiB: scattered ring / two-level tree"] > numbers["64 KiB: ring / two-level tree"] > 1
