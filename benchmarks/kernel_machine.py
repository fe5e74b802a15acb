"""The kernel machine of the main job beside scikit-learn's, which makes its kernels in loops over pairs of rows.

    python benchmarks/kernel_machine.py
    python benchmarks/kernel_machine.py --record      # writes results/benchmarks/kernel_machine.json

Both are given the same rows of ten classes on one thread and say the same; each stage's ratio is of processor times.
"""

import argparse
import os

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy

import _record  # noqa: E402
import numpy as np  # noqa: E402
from _timing import interleaved, over  # noqa: E402
from scipy.special import softmax  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

from cotrain.auto.candidates import Margin  # noqa: E402

CLASSES, ASKED, BLOCKS = 10, 8_000, 3


def compare(rows: int, columns: int, seed: int = 0) -> dict[str, float]:
    """Seconds of ours, the times as long that SVC takes, and how far their answers are apart."""
    rng = np.random.default_rng(seed)
    centres = 0.3 * rng.normal(size=(CLASSES, columns))
    y = rng.integers(CLASSES, size=rows)
    x = (centres[y] + rng.normal(size=(rows, columns))).astype(np.float32)
    new = (centres[rng.integers(CLASSES, size=ASKED)] + rng.normal(size=(ASKED, columns))).astype(np.float32)
    ours, theirs = Margin(10.0), SVC(C=10.0, class_weight="balanced")
    fits = interleaved({"ours": lambda _: ours.fit(x, y), "SVC": lambda _: theirs.fit(x, y)}, 1, BLOCKS)
    asks = {"ours": lambda _: ours.predict_proba(new), "SVC": lambda _: theirs.decision_function(new)}
    answers = interleaved(asks, 1, BLOCKS)
    usual = softmax(2 * theirs.decision_function(new), axis=1)
    return {
        "rows": rows,
        "columns": columns,
        "fit s": min(fits["ours"]),
        "SVC's fit, times as long": 1 + over(fits, "SVC", "ours")["share by median"],
        "answer s": min(answers["ours"]),
        "SVC's answer, times as long": 1 + over(answers, "SVC", "ours")["share by median"],
        "largest difference": float(np.abs(ours.predict_proba(new) - usual).max()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true", help="write results/benchmarks/kernel_machine.json")
    options = parser.parse_args()
    found = [compare(*size) for size in ((200, 500), (1_800, 64), (1_800, 500))]
    for each in found:
        print(", ".join(f"{name} {value:.3g}" for name, value in each.items()))
    if options.record:
        print(_record.write("kernel_machine", {"asked rows": ASKED, "threads": 1, "sizes": found}))


if __name__ == "__main__":
    main()
