"""The arithmetic of the encoder benchmark's table and bars on made-up rows, and the rows that methods get."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import encoders
from encoders import BALANCED, OURS, SETFIT
from peers.sets import Cell

from cotrain.data.splits import few_labels

stored = pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")


def made(name, labels, seed, method, score):
    about = {"set": name, "labels": labels, "seed": seed, "method": method}
    return {**about, "score": score, "seconds": 2.0, "processor_seconds": 1.0}


def test_table_compares_the_seeds_that_both_have():
    records = [made("subj", 20, seed, OURS, score) for seed, score in enumerate([0.9, 0.8, 0.1])]
    records += [made("subj", 20, seed, SETFIT, score) for seed, score in enumerate([0.8, 0.8])]
    ours, theirs = encoders.table(records)
    assert (ours["seeds"], ours["mean"], ours["worst"]) == (3, pytest.approx(60), pytest.approx(10))
    assert ours["cotrain has over it"] is None
    assert theirs["cotrain has over it"] == pytest.approx(5)


@pytest.mark.parametrize(("theirs", "held"), [(0.854, True), (0.86, False)])
def test_bars(theirs, held):
    records = [made("ag_news", 20, 0, OURS, 0.85), made("ag_news", 20, 0, SETFIT, theirs)]
    records += [made("sms", 20, 0, OURS, 0.9), made("sms", 20, 0, SETFIT, 0.5), made("sms", 20, 0, BALANCED, 0.95)]
    first, level, sms, balanced = encoders.bars(encoders.table(records))
    assert first.held
    assert level.held == held
    assert sms.held
    assert (balanced.held, balanced.value) == (False, pytest.approx(-5))


def test_common_seeds_have_every_cell_and_method():
    methods = [method for method, _ in encoders.METHODS.values()]
    records = [made(*place, seed, method, 0.5) for place in encoders.CELLS for seed in (0, 1) for method in methods]
    assert encoders.common(records) == [0, 1]
    assert encoders.common(records[:-1]) == [0]


@stored
def test_rows_keep_labels_and_test_and_cut_the_unlabelled():
    first, second = (encoders.rows(Cell("ag_news", 20, seed)) for seed in (0, 1))
    whole = few_labels("ag_news", 20, 0)
    np.testing.assert_array_equal(first.labelled, whole.labelled)
    np.testing.assert_array_equal(first.test, whole.test)
    assert encoders.UNLABELLED - 20 <= len(first.unlabelled) <= encoders.UNLABELLED
    assert not np.intersect1d(first.unlabelled, np.concatenate([first.labelled, first.test])).size
    different = np.setxor1d(first.unlabelled, second.unlabelled)
    assert np.isin(different, np.concatenate([first.labelled, second.labelled])).all()
