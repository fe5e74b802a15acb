import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier

import cotrain
from cotrain.auto import candidates

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from peers.ablations import ABLATIONS, keeping, predictions

UNLABELLED = ("EM Gaussians", "graph", "kernel machine taught by graph", "self-training")


@pytest.mark.slow
def test_they_choose_anew_from_what_one_fit_trained(monkeypatch):
    monkeypatch.setattr(candidates, "trees", lambda count: ExtraTreesClassifier(10, random_state=0))
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=200)
    x = rng.normal(size=(200, 3)) + 1.5 * y[:, None]
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    known = pd.Series(np.array(["no", "yes"], dtype=object)[y]).where(np.arange(200) < 31)
    with keeping() as kept:
        result = cotrain.fit(frame[:150].assign(label=known[:150]), target="label", encoder="none", jobs=1)
    assert len(kept) == 1
    with mock.patch.dict(ABLATIONS, {"default": (nullcontext, ()), "nothing unlabelled": (nullcontext, UNLABELLED)}):
        said = predictions(kept[0], frame[150:])
    assert list(said) == [*ABLATIONS, "default", "nothing unlabelled"]
    assert said["default"].tolist() == result.model.predict(frame[150:]).tolist()
    # Without the learners on unlabelled rows it is what the supervised ones alone would have given.
    alone = cotrain.fit(
        frame[:150].assign(label=known[:150]), target="label", encoder="none", jobs=1, method="supervised"
    )
    assert said["nothing unlabelled"].tolist() == alone.model.predict(frame[150:]).tolist()
