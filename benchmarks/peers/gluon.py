"""AutoGluon on one cell: supervised, on the labelled rows alone, with the time that a fit of ours takes.

It needs pandas below 2.4, which this package does not run on, so that it lives in an environment of its own, whose
interpreter COTRAIN_AUTOGLUON names (`pip install "autogluon.tabular[lightgbm,xgboost,catboost]==1.6.3"`).
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from peers.sets import Cell, matrices

PYTHON = "COTRAIN_AUTOGLUON"
SECONDS = 60
PRESETS = "best_quality"
NAME = f"AutoGluon: {PRESETS}, {SECONDS} s"


def attempt(cell: Cell) -> dict[str, Any]:
    """{"scores", "seconds"} or {"skipped": why}; one thread."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write(cell, folder)
        metric = cell.metric.replace(" ", "_")
        program = Path(__file__).with_name("gluon_fit.py")
        start = time.perf_counter()
        done = subprocess.run(
            [os.environ[PYTHON], str(program), str(folder), str(SECONDS), PRESETS, metric],
            capture_output=True,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            return {"skipped": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:200]}
        said = np.array(json.loads((folder / "said.json").read_text()))
    scores = {"test": cell.score(truth, said), "macro_f1": f1_score(truth, said, average="macro"), "cv": None}
    return {"scores": scores, "seconds": round(seconds, 2)}


def write(cell: Cell, folder: Path) -> np.ndarray:
    """train.csv and test.csv with the dense numbers that the other peers get; gives the test rows' classes as text.

    Of texts 100 singular directions of TF-IDF: AutoGluon's own n-grams want 30 rows each, and few labels leave none.
    """
    found = matrices(cell)
    x = pd.DataFrame(found.compact).add_prefix("x")
    x[: len(found.y)].assign(label=found.y).to_csv(folder / "train.csv", index=False)
    x[len(found.y) + found.unlabelled :].to_csv(folder / "test.csv", index=False)
    return found.truth.astype(str)
