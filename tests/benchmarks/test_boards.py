import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from cotrain.auto import candidates
from cotrain.auto.fit import fit

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import boards
from peers.sets import Cell, Table

CELL = Cell("wine", 15, 20)


@pytest.fixture
def has(monkeypatch):
    """A table of two clouds instead of the cell's own, and small forests."""
    monkeypatch.setattr(candidates, "trees", lambda count: ExtraTreesClassifier(10, random_state=0))
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    frame = pd.DataFrame(rng.normal(size=(300, 3)) + 1.5 * y[:, None], columns=["a", "b", "c"])
    names = np.array(["no", "yes"], dtype=object)[y]
    train = frame[:150].assign(label=pd.Series(names).where(np.arange(300) < 31)[:150])
    made = Table(train, frame[150:].assign(label=names[150:]), frame[150:], names[150:])
    monkeypatch.setattr(boards, "table", lambda cell, files: made)
    return made


@pytest.mark.slow
def test_a_kept_board_has_the_score_that_a_whole_fit_would_have(has, tmp_path):
    board = pickle.loads(pickle.dumps(boards.make(CELL, tmp_path)))
    found = boards.score(board)
    whole = fit(has.train, target="label", test=has.test, encoder="none", jobs=1, seed=CELL.seed)
    assert found["result"] == pytest.approx(100 * whole.report["test"]["chosen"])
    assert found["supervised"] == pytest.approx(100 * whole.report["test"]["supervised"])
    assert found["members"] == whole.report["chosen"]["members"]
    # Without the learners on unlabelled rows the supervised committee is the result.
    alone = boards.score(board, ("EM Gaussians", "graph", "kernel machine taught", "self-training"))
    assert alone["result"] == alone["supervised"]
    assert not any(name.startswith(("EM Gaussians", "graph", "self-training")) for name in alone["members"])


def test_the_summary_compares_the_draws_that_both_have():
    def score(seed, result, supervised=80.0, name="wine", labels=15):
        own = {"set": name, "labels": labels, "seed": seed, "result": result, "supervised": supervised}
        return {**own, "best learner": 95.0, "members": []}

    before = [score(20, 90.0), score(21, 92.0), score(20, 70.0, name="mr", labels=20)]
    after = [score(20, 91.0), score(21, 90.0, supervised=91.0), score(22, 10.0), score(20, 74.0, name="mr", labels=20)]
    wine, mr, last = boards.summary(after, before)
    assert (wine["cell"], wine["draws"], wine["result"], wine["least gain"]) == ("wine 15", 2, 90.5, -1.0)
    assert (wine["change"], wine["worst change"], mr["change"]) == (-0.5, -2.0, 4.0)
    assert (last["cell"], last["draws"], last["result"], last["change"]) == ("all", 3, 82.25, 1.75)
    assert (last["least gain"], last["worst change"]) == (-6.0, -2.0)
    assert "change" not in boards.summary(after)[0]
    assert boards.summary(after, [score(29, 90.0)]) == []


def test_development_draws_are_not_those_of_the_main_job():
    from main_job import SEEDS

    assert set(boards.SEEDS).isdisjoint(SEEDS)
