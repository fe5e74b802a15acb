"""What each view of images, sounds and digits is worth to supervised learners with few labels, and what it costs.

    python benchmarks/views.py                          # four sets, three seeds: about ten minutes on one thread
    python benchmarks/views.py --sets digits,fsdd --seeds 0-9
    python benchmarks/views.py --text                   # also the text encoder on this disk, on AG News
    python benchmarks/views.py --record                 # write results/benchmarks/views.json

A view is fitted on the pool (labelled and unlabelled rows, no labels); learners with fixed settings are fitted on the
labelled rows and scored on the test rows. `plain` is the data as they are, in the views' unit: pixels, or nothing for
sounds and texts. Data: COTRAIN_DATA, or downloaded on first use.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy

import _record  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.ensemble import ExtraTreesClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

from cotrain.data import splits  # noqa: E402
from cotrain.data.fsdd import RATE  # noqa: E402
from cotrain.views.audio import LogMelPatchView, MfccView  # noqa: E402
from cotrain.views.image import HogView, ImageView, PatchView, PixelView  # noqa: E402
from cotrain.views.scale import one_scale  # noqa: E402
from cotrain.views.view import View  # noqa: E402

CELLS = {"digits": (40,), "fashion": (100, 250), "cifar10": (1_000,), "fsdd": (100,)}
POOL = 5_000  # of CIFAR-10, whose pool is larger than the others need
COLUMN = "cell"


class Plain(ImageView):
    """Pixels in the unit of the other views."""

    def fit(self, raw: np.ndarray) -> "Plain":
        self.learned = one_scale(self._flat(raw))
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (self._flat(raw) - self.learned["mean"]) * self.learned["scale"]

    @staticmethod
    def _flat(raw: np.ndarray) -> np.ndarray:
        return raw.reshape(len(raw), -1).astype(np.float32) / 255


@dataclass(frozen=True)
class Measured:
    """One view on one set: accuracy of each learner over the seeds, and seconds for all rows."""

    set: str
    labels: int
    view: str
    features: int
    rows: int
    accuracy: dict[str, list[float]]
    extract: float
    fit: float
    transform: float

    def line(self) -> str:
        scores = "  ".join(
            f"{100 * fmean(values):5.1f} ±{100 * stdev(values) if len(values) > 1 else 0:4.1f}"
            for values in self.accuracy.values()
        )
        return (
            f"{self.set:8} {self.labels:5}  {self.view:10} {self.features:5}  {scores}  "
            f"{self.extract:7.1f} {self.fit:6.1f} {self.transform:9.1f}"
        )


def learners() -> dict[str, Any]:
    return {
        "LR": LogisticRegression(C=1.0, max_iter=500),
        "RBF-SVM": SVC(C=10.0),
        "ExtraTrees-500": ExtraTreesClassifier(500, random_state=0),
    }


def table(name: str) -> tuple[pd.DataFrame, np.ndarray, dict[str, View]]:
    """The set as a table with one column, its labels, and the views that read it."""
    x, y, kind = splits.load(name)
    views: dict[str, View]
    if kind == "text":
        from cotrain.views.encoder import EncoderView, find

        encoder = find("text")
        return pd.DataFrame({COLUMN: x}), y, {"encoder": EncoderView((COLUMN,), encoder.place)} if encoder else {}
    if kind == "audio":
        views = {"mfcc": MfccView((COLUMN,), rate=RATE), "patches": LogMelPatchView((COLUMN,), rate=RATE)}
    else:
        if name == "digits":
            x = (x.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        views = {
            "plain": Plain((COLUMN,)),
            "pixels": PixelView((COLUMN,)),
            "edges": HogView((COLUMN,)),
            "patches": PatchView((COLUMN,)),
        }
    return pd.DataFrame({COLUMN: pd.Series(list(x), dtype=object)}), y, views


def measure(name: str, sizes: tuple[int, ...], seeds: list[int]) -> Iterator[Measured]:
    frame, y, views = table(name)
    given = {(size, seed): splits.few_labels(name, size, seed) for size in sizes for seed in seeds}
    if name == "cifar10":
        keep = np.random.default_rng(0).permutation(20_000)[:POOL]
        used = np.unique(
            np.concatenate([keep, *(split.labelled for split in given.values()), np.arange(20_000, 24_000)])
        )
    else:
        used = np.arange(len(y))
    test = next(iter(given.values())).test
    pool = np.setdiff1d(used, test)
    place = np.full(len(y), -1)
    place[used] = np.arange(len(used))
    for kind, view in views.items():
        begun = time.perf_counter()
        raw = view.extract(frame.iloc[used])
        extracted = time.perf_counter()
        view.fit(raw[place[pool]])
        fitted = time.perf_counter()
        features = view.transform(raw)
        done = time.perf_counter()
        for size in sizes:
            accuracy: dict[str, list[float]] = {what: [] for what in learners()}
            for seed in seeds:
                train = given[size, seed].labelled
                for what, learner in learners().items():
                    learner.fit(features[place[train]], y[train])
                    accuracy[what].append(float(learner.score(features[place[test]], y[test])))
            yield Measured(
                name,
                size,
                kind,
                features.shape[1],
                len(used),
                accuracy,
                round(extracted - begun, 2),
                round(fitted - extracted, 2),
                round(done - fitted, 2),
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(CELLS), help="of " + ", ".join(CELLS))
    parser.add_argument("--seeds", default="0-2", help="first-last")
    parser.add_argument("--text", action="store_true", help="also the text encoder on this disk")
    parser.add_argument("--record", action="store_true", help="write results/benchmarks/views.json")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = list(range(int(first), int(last or first) + 1))
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    print(f"{'set':8} labels  view        size  " + "  ".join(f"{what:>11}" for what in learners()), end="")
    print("  extract    fit transform (s)")
    found = []
    cells = {name: CELLS[name] for name in options.sets.split(",")}
    if options.text:
        cells["ag_news"] = (20, 100)
    for name, sizes in cells.items():
        for measured in measure(name, sizes, seeds):
            found.append(measured)
            print(measured.line(), flush=True)
    if options.record:
        _record.write("views", {"seeds": seeds, "measured": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
