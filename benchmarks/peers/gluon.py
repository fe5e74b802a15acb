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

from peers.sets import GRAPHS, TARGET, TEXTS, Cell, matrices, table

PYTHON = "COTRAIN_AUTOGLUON"
SECONDS = 60
PRESETS = "best_quality"
NAME = f"AutoGluon: {PRESETS}, {SECONDS} s"


def attempt(cell: Cell, files: Path) -> dict[str, Any]:
    """{"scores", "seconds"} or {"skipped": why}; one thread."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write(cell, files, folder)
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
        said = np.array(json.loads((folder / "said.json").read_text()), dtype=object)
    scores = {"test": cell.score(truth, said), "macro_f1": f1_score(truth, said, average="macro"), "cv": None}
    return {"scores": scores, "seconds": round(seconds, 2)}


def write(cell: Cell, files: Path, folder: Path) -> np.ndarray:
    """train.csv and test.csv: texts as they are, everything else as the numbers that the other peers get; gives the
    test rows' labels."""
    has = table(cell, files)
    train = _read(has.train).dropna(subset=[TARGET])
    labels = train[TARGET].to_numpy()
    if cell.name in (*TEXTS, *GRAPHS):
        train, test = train.drop(columns=TARGET), _read(has.unseen)
    else:
        found = matrices(cell)
        x = pd.DataFrame(np.asarray(found.x)).add_prefix("x")
        train, test = x.iloc[: len(found.y)], x.iloc[len(found.y) + found.unlabelled :]
        labels = _named(has.truth, found.truth)[found.y]
    train.assign(label=labels).to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)
    return has.truth


def _read(rows: pd.DataFrame | Path) -> pd.DataFrame:
    return rows if isinstance(rows, pd.DataFrame) else pd.read_csv(rows)


def _named(names: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The name of each class code, of the test rows."""
    found = np.empty(codes.max() + 1, dtype=object)
    found[codes] = names
    return found
