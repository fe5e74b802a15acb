"""The main job against its peers: few labels, many unlabelled rows, a test set, ten seeds.

    python benchmarks/main_job.py --out out/main_job                     # goes on where it was stopped
    python benchmarks/main_job.py --out out/main_job --sets wine,sms:20 --seeds 0-2 --only cotrain
    python benchmarks/main_job.py --out out/main_job --summary           # only the table, from what is there
    python benchmarks/main_job.py --out out/main_job --record            # write results/benchmarks/main_job.json

`cotrain.fit` gets tables as a user has them and no option but `encoder="none"`; it runs in a process of its own on one
thread. The peers get features as their documentation makes them, every setting is fitted on the same rows, and all of
it is kept: a line for each set, number of labels, seed and method in OUT/*.jsonl. Delete a file to repeat its part.
sslearn takes part where it is installed (extra `bench`), AutoGluon (`--only autogluon`) where COTRAIN_AUTOGLUON names
the interpreter of an environment that has it. Data: COTRAIN_DATA, or downloaded on first use.
"""

import argparse
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy: one thread a process, also for the peers

import _record  # noqa: E402
from peers import gluon, summary  # noqa: E402
from peers.sets import CELLS, FULL, TARGET, Cell, matrices, table, write_files  # noqa: E402

SEEDS = range(10)
Job = tuple[Cell, str]  # what runs in one process: our fit, an ablation, or a group of peers


@dataclass(frozen=True)
class Limits:
    """Of the peers: processor seconds for a fit, and for one that is cross-validated; a pattern for their names."""

    fit: float
    cv: float
    match: str = ""


class Store:
    """Finished cells as JSON lines, one file for each part, so that a run that was stopped goes on where it was."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, part: str, record: dict[str, Any]) -> None:
        """One write of one line, so that several processes may write to one file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{part}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def records(self, part: str = "*") -> list[dict[str, Any]]:
        """All that is there, the last of equal keys; a line that was cut off by a stop is left out."""
        found = {}
        for file in sorted(self.folder.glob(f"{part}.jsonl")):
            for line in file.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                found[key(record)] = record
        return list(found.values())


def key(record: dict[str, Any]) -> tuple[str, int, int, str]:
    return record["set"], record["labels"], record["seed"], record["method"]


# One cell


def run_job(job: Job, out: Path, limits: Limits) -> str:
    """In a process of its own: what is missing of the job, added to the store; gives a line for the terminal."""
    cell, part = job
    store = Store(out)
    about = {"set": cell.name, "labels": cell.labels, "seed": cell.seed}
    start = time.perf_counter()
    if part in PATCHES:
        method = method_of(part)
        try:
            found, ablated = ours(cell, out / "files", PATCHES[part])
        except Exception as error:  # the other cells go on; the failure is part of the result
            import traceback

            where = traceback.extract_tb(error.__traceback__)[-1]
            ablated = {}
            found = {"skipped": f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"}
        if part == summary.OURS:
            for name, score in ablated.items():
                store.add("ablations", {**about, "method": f"{summary.OURS}, {name}", "scores": {"test": score}})
        store.add(part, {**about, "method": method, **found})
        said = found.get("skipped") or ", ".join(f"{k} {100 * v:.1f}" for k, v in found["scores"].items())
    elif part == "autogluon":
        found = gluon.attempt(cell)
        store.add(part, {**about, "method": gluon.NAME, **found})
        said = found.get("skipped") or f"{100 * found['scores']['test']:.1f}"
    else:
        count = peers(cell, part, store, about, limits)
        said = f"{count} settings"
    return f"{cell.name} {cell.labels} seed {cell.seed} {part}: {said} ({time.perf_counter() - start:.0f} s)"


def ours(cell: Cell, files: Path, patch: Callable[[], Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """One fit of `cotrain.fit` and what came out; and the scores of its ablations."""
    from peers.ablations import keeping, predictions
    from sklearn.metrics import accuracy_score, f1_score

    from cotrain.auto.fit import fit
    from cotrain.recipe import commit

    has = table(cell, files)
    wall, processor = time.perf_counter(), time.process_time()
    with patch(), keeping() as kept:
        result = fit(has.train, target=TARGET, test=has.test, encoder="none", jobs=1, seed=cell.seed)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kilobytes
    said, student = result.model.predict(has.unseen), result.student.predict(has.unseen)
    report = result.report
    ablated = {name: cell.score(has.truth, each) for name, each in predictions(kept[0], has.unseen).items()}
    found = {
        "scores": {
            "test": cell.score(has.truth, said),
            "student": cell.score(has.truth, student),
            "accuracy": accuracy_score(has.truth, said),
            "macro_f1": f1_score(has.truth, said, average="macro"),
        },
        "seconds": round(wall, 2),
        "processor_seconds": round(processor, 2),
        "peak_memory": peak,
        "report": {
            name: report[name]
            for name in ("metric", "supervised", "chosen", "used_unlabelled", "p_helped", "test", "prior", "warnings")
        },
        "candidates": [
            {name: row[name] for name in ("name", "estimate", "accepted", "member", "seconds")}
            for row in report["candidates"]
        ],
        "settings": {"encoder": "none", "jobs": 1, "budget": report["settings"]["budget"], "commit": commit()},
    }
    return found, ablated


def peers(cell: Cell, part: str, store: Store, about: dict[str, Any], limits: Limits) -> int:
    """Every setting of a group that has not run on the cell. One that was too slow on another seed is not tried."""
    from peers.settings import GROUPS
    from peers.trial import attempt

    records = [r for r in store.records(part) if finished(r, limits)]
    done = {key(r)[3] for r in records if all(r[name] == value for name, value in about.items())}
    same = [r for r in records if (r["set"], r["labels"]) == (cell.name, cell.labels)]
    slow = {r["method"]: r["skipped"] for r in same if "more than" in r.get("skipped", "")}
    wanted = [s for s in GROUPS[part]() if s.name not in done and re.search(limits.match, s.name)]
    if not wanted:
        return 0
    data = matrices(cell)
    for setting in wanted:
        if setting.name in slow:
            found: dict[str, Any] = {"skipped": slow[setting.name]}
        else:
            found = attempt(setting, cell, data, limits.fit, limits.cv)
        store.add(
            part, {**about, "method": setting.name, **found, "settings": {"limit": limits.fit, "cv_limit": limits.cv}}
        )
    return len(wanted)


def finished(record: dict[str, Any], limits: Limits) -> bool:
    """Whether a peer's record would come out the same under these limits."""
    if "skipped" in record:
        return "more than" not in record["skipped"] or record["settings"]["limit"] >= limits.fit
    return record["scores"]["cv"] is not None or "cv_skipped" in record or record["seconds"] >= limits.cv


# The default with parts more, which take a fit of their own


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


@contextmanager
def more(method: str) -> Iterator[None]:
    from cotrain.auto import evidence
    from cotrain.auto.candidates import named

    default = evidence.candidates
    with mock.patch.object(evidence, "candidates", lambda views: default(views) + named(views).get(method, [])):
        yield


PATCHES: dict[str, Callable[[], Any]] = {
    summary.OURS: as_it_is,
    "with co-training": lambda: more("cotraining"),
    "with tri-training": lambda: more("tri-training"),
}


# All cells


def wanted_jobs(cells: Sequence[Cell], parts: Sequence[str], store: Store) -> list[Job]:
    """Part by part, seed by seed; what is there is left out (groups of peers look for themselves)."""
    done = {key(r) for part in parts if method_of(part) for r in store.records(part) if "scores" in r}
    return [
        (cell, part)
        for part in parts
        for cell in cells
        if (cell.name, cell.labels, cell.seed, method_of(part)) not in done
    ]


def method_of(part: str) -> str | None:
    """What a part fits once a cell; None for a group of peers."""
    if part == "autogluon":
        return gluon.NAME
    if part in PATCHES:
        return part if part == summary.OURS else f"{summary.OURS}, {part}"
    return None


def run(jobs: Sequence[Job], out: Path, processes: int, limits: Limits) -> None:
    """Each job in a fresh process, so that its peak memory is its own."""
    for name in dict.fromkeys(cell.name for cell, part in jobs if part in PATCHES):
        write_files(name, out / "files")
    with ThreadPoolExecutor(processes) as threads:
        running = [threads.submit(_apart, job, out, limits) for job in jobs]
        for number, done in enumerate(as_completed(running), 1):
            print(f"[{number}/{len(jobs)}] {done.result()}", flush=True)


def _apart(job: Job, out: Path, limits: Limits) -> str:
    """A pool for each job: one that replaces its processes can wait for ever in Python 3.11."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_job, job, out, limits).result()


def show(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print the table, the peers one by one, the lost cells and the bars; the same as plain values."""
    from cotrain.show import line
    from cotrain.show import table as printed

    documented = _documented()
    rows = summary.rows(records, documented)
    if not rows:
        line("Nothing has been measured yet.")
        return {}
    found: dict[str, Any] = {
        "cells": [summary.shown(row) for row in rows],
        "peers": {f"{row.place[0]} {row.place[1]}": row.families for row in rows if row.families},
        "configurations": summary.single_configurations([row for row in rows if row.peers]),
        "lost": summary.losing(rows),
        "coverage": {which: summary.coverage(rows, which) for which in ("chosen", "supervised")},
        "in part": summary.in_part(records, rows),
        "ablations": summary.ablations(records),
        "skipped": _skipped(records),
    }
    printed("Test score in points (accuracy; sms: balanced accuracy), mean and worst over seeds", short(found["cells"]))
    printed("Peers: best documented setting / chosen by cross-validation / best by test score", _by_family(rows))
    single = list(found["configurations"].items())[:8]
    printed(
        "Single peer configurations, average over the cells (logistic regression where one cannot run)",
        [{"configuration": name, "average": mean, "ran on": ran} for name, (mean, ran) in single],
    )
    printed("Where a peer setting does better, in hindsight", short(found["lost"]))
    if found["in part"]:
        printed("Peers that ran on some draws only: points that ours is ahead on these", short(found["in part"]))
    if found["ablations"]:
        printed("Ablations: points over the default", found["ablations"])
    bars = summary.bars(rows)
    found["bars"] = [asdict(bar) for bar in bars]
    for bar in bars:
        verdict = {True: "held", False: "did not hold", None: "not evaluated"}[bar.held]
        line(f"{verdict:14} {bar.text}: {'-' if bar.value is None else f'{bar.value:.2f}'}")
    failed = [r for r in records if r["method"].startswith(summary.OURS) and "skipped" in r]
    for r in failed:
        line(f"failed: {r['set']} {r['labels']} seed {r['seed']} {r['method']}: {r['skipped']}")
    return found


def _documented() -> list[str]:
    from peers.settings import GROUPS

    found = []
    for settings in GROUPS.values():
        try:
            found += [setting.name for setting in settings() if setting.documented]
        except ImportError:
            continue
    return found


def _skipped(records: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {
        f"{r['set']} {r['labels']}: {r['method']}": r["skipped"]
        for r in records
        if "skipped" in r and not r["method"].startswith(summary.OURS)
    }


def short(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a table to be shown, with one decimal."""
    return [{k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def _by_family(rows: Sequence[summary.Row]) -> list[dict[str, Any]]:
    found = []
    for family in dict.fromkeys(family for row in rows for family in row.families):
        line: dict[str, Any] = {"peer": family}
        for row in rows:
            if family in row.families:
                three = (row.families[family][which] for which in ("documented", "cv", "oracle"))
                cell = " ".join("-" if score is None else f"{score:.1f}" for score in three)
                line[f"{row.place[0]} {row.place[1]}"] = cell
        found.append(line)
    return found


def record(found: dict[str, Any], cells: Sequence[dict[str, Any]]) -> Path:
    """Write the table of the seeds that every set has, with the list of these; refuses a table without any."""
    seeds = whole_seeds(cells)
    if not seeds:
        sys.exit("Not recorded: there is no seed of which every set has our result and the supervised baselines.")
    runs = [r for r in cells if r["method"] == summary.OURS and "scores" in r]
    commits = sorted({r["settings"]["commit"] for r in runs})
    values = {"commit": " ".join(commits), "seeds": seeds, "complete": seeds == list(SEEDS)} | found
    values["seconds"] = {"mean": fmean(r["seconds"] for r in runs), "most": max(r["seconds"] for r in runs)}
    limits = {(r["settings"]["limit"], r["settings"]["cv_limit"]) for r in cells if "cv_limit" in r.get("settings", {})}
    values["limits"] = [{"fit s": fit, "fit s, cross-validated": cv} for fit, cv in sorted(limits)]
    before = _record.read("main_job")
    values |= {name: before[name] for name in ("slow", "again") if name in before}  # measured apart
    return _record.write("main_job", values)


def whole_seeds(cells: Sequence[dict[str, Any]]) -> list[int]:
    """Seeds of which every set has our result and the two supervised baselines."""
    done = {key(r) for r in cells if "scores" in r}
    needed = (summary.OURS, summary.LOGISTIC, summary.FORESTS)
    return [s for s in SEEDS if all((*place, s, method) in done for place in CELLS for method in needed)]


def numbers(text: str) -> list[int]:
    """ "0-2,5" as [0, 1, 2, 5]."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def places(text: str | None, full: bool) -> list[tuple[str, int]]:
    """ "wine,sms:20" as the cells of these sets."""
    known = [*CELLS, *FULL] if full else CELLS
    if not text:
        return known
    asked = [part.partition(":") for part in text.split(",")]
    found = [
        place
        for place in dict.fromkeys([*CELLS, *FULL])
        if any(place[0] == name and labels in ("", str(place[1])) for name, _, labels in asked)
    ]
    if not found:
        sys.exit(f"There is no set {text!r}; there are {', '.join(f'{name}:{labels}' for name, labels in known)}.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/main_job"), help="where cells are kept")
    parser.add_argument("--sets", help="such as wine,sms:20; all")
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="such as 0-2,5; 0-9")
    parser.add_argument("--only", default="cotrain,scikit-learn,sslearn", help="parts, in this order")
    parser.add_argument("--more", action="store_true", help="run the default with parts more instead")
    parser.add_argument("--full", action="store_true", help="CIFAR-10 too")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--limit", type=float, default=60, help="processor seconds for one fit of a peer")
    parser.add_argument(
        "--cv-limit", type=float, default=2, help="seconds a fit up to which a setting is cross-validated"
    )
    parser.add_argument("--match", default="", help="only settings of peers whose name this finds")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    parser.add_argument("--record", action="store_true", help="write results/benchmarks/main_job.json")
    given = parser.parse_args()
    store = Store(given.out)
    if not given.summary:
        parts = [part for part in PATCHES if part != summary.OURS] if given.more else given.only.split(",")
        if "autogluon" in parts and gluon.PYTHON not in os.environ:
            sys.exit(f"{gluon.PYTHON} names no interpreter of an environment with AutoGluon.")
        if "sslearn" in parts:
            try:
                import sslearn  # noqa: F401
            except ImportError:
                print("sslearn is not installed: left out.")
                parts.remove("sslearn")
        cells = [Cell(*place, seed) for seed in given.seeds for place in places(given.sets, given.full)]
        run(
            wanted_jobs(cells, parts, store),
            given.out,
            given.processes,
            Limits(given.limit, given.cv_limit, given.match),
        )
    records = store.records()
    if given.record:  # what is recorded is judged on the seeds that every set has
        seeds = whole_seeds(records)
        records = [r for r in records if r["seed"] in seeds]
    found = show(records)
    if given.record:
        print(f"Recorded in {record(found, records)}.")


if __name__ == "__main__":
    main()
