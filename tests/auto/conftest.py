"""Small tables and the command line in-process, for the tests of the main job."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from cotrain import cli
from cotrain.auto import student

GOOD = ["fine", "lovely", "great", "delight", "joyful", "happy", "superb", "sunny"]
BAD = ["awful", "dull", "boring", "sad", "poor", "nasty", "grim", "bleak"]
REST = ["the", "film", "was", "on", "a", "day", "with", "some", "people", "and", "music", "in", "town"]


@dataclass(frozen=True)
class Ran:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def hasty(monkeypatch):
    """Nets of students are taught in a moment, for tests that ask little or nothing of them."""
    monkeypatch.setattr(student, "STEPS", (30, 30))


@pytest.fixture
def command(capsys) -> Callable[..., Ran]:
    """Runs the command line as the shell would."""

    def run(*tokens) -> Ran:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(token) for token in tokens])
        said = capsys.readouterr()
        return Ran(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def reviews() -> Callable[..., pd.DataFrame]:
    """A table of texts that two words in eight give away; the first `labelled` rows keep their label."""

    def make(rows: int = 60, labelled: int = 16, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        y = np.arange(rows) % 2
        texts = [
            " ".join(rng.permutation([*rng.choice(REST, 6), *rng.choice(GOOD if label else BAD, 2, replace=False)]))
            for label in y
        ]
        table = pd.DataFrame({"review": texts, "label": np.where(y, "good", "bad")})
        table.loc[labelled:, "label"] = None
        return table

    return make


@pytest.fixture(scope="session")
def measures() -> Callable[..., pd.DataFrame]:
    """A table of three numbers and a category; `size` tells the classes, the first `labelled` rows keep their label."""

    def make(rows: int = 60, labelled: int = 16, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        y = np.arange(rows) % 2
        table = pd.DataFrame(
            {
                "size": rng.normal(3 * y, 1.0),
                "weight": rng.normal(size=rows),
                "age": rng.uniform(20, 60, rows),
                "colour": rng.choice(["red", "green", "blue"], rows),
                "kind": np.where(y, "b", "a").astype(object),
            }
        )
        table.loc[labelled:, "kind"] = None
        return table

    return make
