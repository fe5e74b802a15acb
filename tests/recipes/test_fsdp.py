import inspect

import pytest

from cotrain.recipe import call, load
from cotrain.run import Table

fsdp = load("fsdp")


def test_every_row_is_a_recipe():
    known = set(inspect.signature(fsdp.recipe).parameters)
    for row in fsdp.rows().values():
        assert set(row) <= known
        assert fsdp.recipe(**row).ranks == row["ranks"]


def test_padding_by_hand():
    # By rows: 250 of the large net and its blocks, 50 and 10 of the small one and of both last layers. A group of 4
    # keeps 252, 52 and 12 of them.
    of_250, of_50, of_10 = 64 * 250 + 250 + 10 * (250 * 250 + 3 * 250), 64 * 50 + 50, 10 * 250 + 10 + 10 * 50 + 10
    kept = of_250 * 252 / 250 + of_50 * 52 / 50 + of_10 * 12 / 10
    assert fsdp.padding(4, seed=0, width=250) == pytest.approx(kept / (of_250 + of_50 + of_10) - 1)
    assert fsdp.padding(1, seed=0, width=250) == fsdp.padding(2, seed=0, width=250) == 0


def numbers(**changed: float) -> dict[str, float]:
    fine = {
        "apart from ddp": 1e-7,
        "the same in fp64": 1e-15,
        "beyond padding": 0.0,
        "copies off": 0.0,
        "plan off": 0.0,
    }
    return {**fine, "all-gathers": 24, "reduce-scatters": 13, "units": 11, "roots": 2, **changed}


def table(**changed: float) -> Table:
    made = Table()
    for name in fsdp.rows():
        for seed in range(3):
            made.add(name, seed, numbers(**(changed if (name, seed) == ("fsdp, 4 ranks", 1) else {})))
    return made


def test_bars_by_hand():
    assert [bar.held for bar in fsdp.bars(table())] == [True] * 6
    worse = {
        "apart from ddp": 2e-6,
        "the same in fp64": 2e-12,
        "beyond padding": -0.02,
        "copies off": -1e-9,
        "plan off": 0.11,
        "all-gathers": 25,
    }
    for number, (metric, value) in enumerate(worse.items()):
        held = [bar.held for bar in fsdp.bars(table(**{metric: value}))]
        assert held == [index != number for index in range(6)]


def test_one_process_keeps_whole_copies_as_planned():
    found = fsdp.recipe("none", 1, steps=3).measure()
    assert found["share of a copy"] == 1
    assert found["apart from one process"] == found["the same in fp64"] == found["plan off"] == found["copies off"] == 0
    assert found["all-gathers"] == found["reduce-scatters"] == 0
    assert (found["units"], found["roots"]) == (11, 2)


@pytest.mark.slow
def test_sharded_on_two_ranks():
    found = fsdp.recipe("fsdp", 2, steps=10).measure()
    assert found["apart from ddp"] < 1e-6
    assert found["the same in fp64"] < 1e-12
    assert found["share of a copy"] == pytest.approx(0.5, abs=1e-3)
    assert found["plan off"] == found["copies off"] == 0
    assert (found["all-gathers"], found["reduce-scatters"]) == (24, 13)


def test_other_processes_call_a_recipes_functions_by_name():
    assert call(fsdp.__file__, "rows") == fsdp.rows()
