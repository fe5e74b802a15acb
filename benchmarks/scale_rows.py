"""`cotrain fit` on many rows of text: wall time and peak memory, each size in a process of its own.

    python benchmarks/scale_rows.py                    # 7,600 rows (1 minute at most) and 100,000 (within 10 minutes)
    python benchmarks/scale_rows.py --rows 20000 --budget 5m

7,600 rows are AG News as it is, 100 of them labelled. More rows are drawn from it with replacement; in each drawn row
some words give way to words of other rows and a word that no other row has is put in, so that few rows are equal.
With --record the figures go to results/benchmarks/scale_rows.json.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import _record
import numpy as np
import pandas as pd

LABELS = 100


@dataclass(frozen=True)
class Size:
    """Rows to fit on, with what it may take: seconds and bytes."""

    rows: int
    budget: str | None
    seconds: float
    memory: float


@dataclass(frozen=True)
class Measured:
    rows: int
    budget: str | None
    jobs: int
    seconds: float
    processor_seconds: float
    peak_memory: int
    accuracy: float  # on the unlabelled rows, whose labels were hidden
    student: float  # the student's
    held: bool


SIZES = [Size(7_600, None, 60, 2e9), Size(100_000, "10m", 600, 8e9)]


def write(file: Path, rows: int, seed: int = 0) -> pd.DataFrame:
    """The table as CSV, with the labels of all rows but LABELS empty; gives it with all labels."""
    from cotrain.data import ag_news

    texts, y, names = ag_news.load()
    rng = np.random.default_rng(seed)
    if rows <= len(texts):
        drawn = rng.permutation(len(texts))[:rows]
        made = [texts[row] for row in drawn]
    else:
        drawn = rng.integers(len(texts), size=rows)
        made = [noisy(texts, row, rng, number) for number, row in enumerate(drawn)]
    full = pd.DataFrame({"text": made, "label": np.array(names, dtype=object)[y[drawn]]})
    known = np.isin(np.arange(len(full)), rng.choice(len(full), LABELS, replace=False))
    full.assign(label=full["label"].where(known)).to_csv(file, index=False)
    return full


def noisy(texts: list[str], row: int, rng: np.random.Generator, number: int) -> str:
    """The row's text with about one word in five from another row, and a word of its own."""
    words, others = texts[row].split(), texts[rng.integers(len(texts))].split()
    swapped = [others[rng.integers(len(others))] if rng.random() < 0.2 else word for word in words]
    swapped.insert(int(rng.integers(len(swapped) + 1)), f"item{number}")
    return " ".join(swapped)


def measure(size: Size, jobs: int) -> Measured:
    """Runs this file with --worker on a table in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        full = write(file, size.rows)
        command = [sys.executable, __file__, "--worker", str(file), "--jobs", str(jobs), "--out", folder]
        command += ["--budget", size.budget] if size.budget else []
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        found = json.loads((Path(folder) / "measured.json").read_text())
        said = pd.read_csv(Path(folder) / "said.csv", dtype=str)
    hidden = pd.Series(found.pop("known")).to_numpy() == 0
    right = said[hidden].eq(full.loc[hidden, "label"].to_numpy(), axis=0).mean()
    held = found["seconds"] <= size.seconds and found["peak_memory"] < size.memory
    return Measured(size.rows, size.budget, jobs, **found, accuracy=right["model"], student=right["student"], held=held)


def worker(file: Path, budget: str | None, jobs: int, out: Path) -> None:
    """One fit as the command line does it, results written included; its time and memory."""
    from cotrain.auto.fit import fit

    wall, processor = time.perf_counter(), time.process_time()
    result = fit(
        file, target="label", encoder="none", jobs=jobs, out=out / "fitted", **({"budget": budget} if budget else {})
    )
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kilobytes
    table = pd.read_csv(file)
    said = {"model": result.model.predict(table[["text"]]), "student": result.student.predict(table[["text"]])}
    pd.DataFrame(said).to_csv(out / "said.csv", index=False)
    found = {
        "seconds": round(wall, 1),
        "processor_seconds": round(processor, 1),
        "peak_memory": peak,
        "known": table["label"].notna().astype(int).tolist(),
    }
    (out / "measured.json").write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="this size instead of the two")
    parser.add_argument("--budget", help="with --rows; 10m")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="write results/benchmarks/scale_rows.json")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.worker, given.budget, given.jobs, given.out)
        return
    sizes = SIZES
    if given.rows:
        known = {size.rows: size for size in SIZES}
        sizes = [known.get(given.rows, Size(given.rows, given.budget or "10m", 600, 8e9))]
    found = []
    for size in sizes:
        measured = measure(size, given.jobs)
        found.append(measured)
        verdict = "held" if measured.held else "did not hold"
        took = f"{measured.seconds:.0f} s of {size.seconds:.0f} (processor {measured.processor_seconds:.0f} s)"
        memory = f"peak {measured.peak_memory / 1e9:.2f} GB of {size.memory / 1e9:.0f}"
        accuracy = f"accuracy {100 * measured.accuracy:.1f} (student {100 * measured.student:.1f})"
        print(f"{size.rows:,} rows: {took}, {memory}, {accuracy}: {verdict}", flush=True)
    if given.record:
        if given.rows:
            sys.exit("--record takes both sizes.")
        _record.write("scale_rows", {"sizes": [asdict(each) for each in found]})


if __name__ == "__main__":
    main()
