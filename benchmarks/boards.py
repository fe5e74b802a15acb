"""Rules of choice on development draws: what learners said is kept, so that a rule is tried on all sets in a minute.

    python benchmarks/boards.py make --out out/boards --seeds 20-22 --processes 2     # goes on where it was stopped
    python benchmarks/boards.py score --out out/boards --save before.json             # the rule of the working tree
    python benchmarks/boards.py score --out out/boards --save after.json --against before.json
    python benchmarks/boards.py score --out out/boards --without "co-EM,graph"        # as if these were not there

A board holds, for one draw of labels, what every learner of `cotrain.fit` says of the labelled rows out of fold, of the
unlabelled rows and of the test rows. `score` weighs, chooses and predicts from that as a fit would. A change of
learners or views needs new boards, a change of how is chosen does not. Seeds 0-9 are those of `main_job.py`, on which
nothing is chosen; take others. `make --more` adds co-training and tri-training to the learners.
"""

import argparse
import json
import os
import pickle
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest import mock

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")  # before numpy

import numpy as np  # noqa: E402
from main_job import as_it_is, more, numbers, short  # noqa: E402
from peers.ablations import Kept, keeping  # noqa: E402
from peers.sets import CELLS, TARGET, Cell, table, write_files  # noqa: E402

from cotrain.auto import evidence, fit  # noqa: E402
from cotrain.auto.calibrate import with_prior  # noqa: E402
from cotrain.auto.trial import Trial, even, joined  # noqa: E402

# Sets beside those of the main job, on which rules were not measured in the end: sentences of few words.
SENTENCES = [("mr", 20), ("mr", 60), ("subj", 20), ("cr", 60), ("mpqa", 60), ("trec", 60)]
PLACES = [*CELLS, *SENTENCES]
SEEDS = range(20, 23)


class _Enough(Exception):
    """Ends a fit once its committee is chosen."""


@dataclass
class Board:
    """What was known when a fit chose, and what its learners say of the test rows.

    trials: as in `Evidence`, with neither estimators nor how they are made. problem: rows without their features.
    rest: further arguments of `evidence.weigh`. test: by trial, probabilities for equal shares [N, C]. truth: class
    codes of the test rows [N].
    """

    cell: Cell
    trials: list[Trial]
    problem: Any
    rest: tuple[Any, ...]
    test: list[np.ndarray]
    truth: np.ndarray


def make(cell: Cell, files: Path) -> Board:
    """Fit as far as the choice."""
    has = table(cell, files)
    with keeping() as kept, mock.patch.object(fit, "teach", side_effect=_Enough), suppress(_Enough):
        fit.fit(has.train, target=TARGET, encoder="none", jobs=1, seed=cell.seed)
    return _board(cell, kept[0], has.unseen, has.truth)


def _board(cell: Cell, kept: Kept, unseen: Any, truth: np.ndarray) -> Board:
    ran = [trial for trial in kept.trials if trial.estimator is not None]
    seen = evidence.weigh(ran, kept.problem, *kept.rest)
    model = fit.committee(seen.board, range(len(ran)), kept.matrices, kept.problem, seen.prior.shares, seen.metric)
    frame, source, _ = model.aligned(unseen)
    features, rows = model.features(frame, source.folder), np.arange(len(frame))
    classes = kept.problem.audit.classes
    test = [even(t.estimator, joined(features, t.candidate, rows), len(classes)).astype(np.float32) for t in ran]
    codes = {name: code for code, name in enumerate(classes)}
    bare: Any = None  # neither an estimator nor its recipe is asked for again
    trials = [replace(t, estimator=True, candidate=replace(t.candidate, make=bare)) for t in ran]
    problem = replace(kept.problem, source=bare, columns=bare, frame=bare)
    return Board(cell, trials, problem, kept.rest, test, np.array([codes[str(name)] for name in truth]))


def score(board: Board, without: Sequence[str] = ()) -> dict[str, Any]:
    """In points: the result, its supervised committee, and the best single learner in hindsight."""
    kept = [m for m, trial in enumerate(board.trials) if not trial.candidate.name.startswith(tuple(without))]
    seen = evidence.weigh([board.trials[m] for m in kept], board.problem, *board.rest)
    shares = seen.prior.shares if seen.metric == "accuracy" else np.ones_like(seen.prior.shares)

    def points(members: Sequence[int]) -> float:
        said = seen.board.voice(members, [board.test[kept[m]].astype(np.float64) for m in members])
        return 100 * float(board.cell.score(board.truth, with_prior(said, shares).argmax(1)))

    choice = evidence.decide(seen.board, board.rest[0])
    return {
        "set": board.cell.name,
        "labels": board.cell.labels,
        "seed": board.cell.seed,
        "result": points(choice.members),
        "supervised": points(choice.supervised),
        "best learner": max(points([m]) for m in range(len(kept))),
        "members": [seen.board.trials[m].candidate.name for m in choice.members],
    }


def summary(scores: Sequence[dict[str, Any]], against: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """A row for each set, number of labels; the last row is the mean over these."""
    before = {_key(each): each["result"] for each in against}
    by_place: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for each in scores:
        if not before or _key(each) in before:
            by_place[each["set"], each["labels"]].append(each)
    found = []
    for (name, labels), own in by_place.items():
        row = {"cell": f"{name} {labels}", "draws": len(own)}
        row |= {what: fmean(each[what] for each in own) for what in ("supervised", "best learner", "result")}
        row["least gain"] = min(each["result"] - each["supervised"] for each in own)
        if before:
            changes = [each["result"] - before[_key(each)] for each in own]
            row |= {"change": fmean(changes), "worst change": min(changes)}
        found.append(row)
    if not found:
        return []
    means = [name for name in ("supervised", "best learner", "result", "change") if name in found[0]]
    last = {name: fmean(row[name] for row in found) for name in means}
    worst = {name: min(row[name] for row in found) for name in ("least gain", "worst change") if name in found[0]}
    return [*found, {"cell": "all", "draws": sum(row["draws"] for row in found), **last, **worst}]


def _key(score: dict[str, Any]) -> tuple[str, int, int]:
    return score["set"], score["labels"], score["seed"]


def _file(out: Path, cell: Cell) -> Path:
    return out / f"{cell.name}-{cell.labels}-{cell.seed}.pickle"


def _make_one(cell: Cell, out: Path, add: bool) -> str:
    """In a process of its own; a line for the terminal."""
    with more("cotraining") if add else as_it_is(), more("tri-training") if add else as_it_is():
        made = make(cell, out / "files")
    _file(out, cell).write_bytes(pickle.dumps(made))
    return f"{cell.name} {cell.labels} seed {cell.seed}: {len(made.trials)} learners"


def _score_one(file: Path, without: Sequence[str]) -> dict[str, Any]:
    return score(pickle.loads(file.read_bytes()), without)  # written by `make` on this machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "score"])
    parser.add_argument("--out", type=Path, default=Path("out/boards"), help="where boards are kept")
    parser.add_argument("--sets", help="such as wine,mr; all")
    parser.add_argument("--seeds", type=numbers, default=list(SEEDS), help="of new boards, such as 20-22")
    parser.add_argument("--more", action="store_true", help="of new boards: co-training and tri-training too")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--without", default="", help="learners to leave out, by the beginning of their names")
    parser.add_argument("--save", type=Path, help="write the scores here")
    parser.add_argument("--against", type=Path, help="scores saved before")
    given = parser.parse_args()
    names = given.sets.split(",") if given.sets else list(dict.fromkeys(name for name, _ in PLACES))
    context = get_context("spawn")
    with ProcessPoolExecutor(given.processes, mp_context=context) as pool:
        if given.what == "make":
            given.out.mkdir(parents=True, exist_ok=True)
            for name in names:
                write_files(name, given.out / "files")
            cells = [Cell(*place, seed) for seed in given.seeds for place in PLACES if place[0] in names]
            missing = [cell for cell in cells if not _file(given.out, cell).exists()]
            running = [pool.submit(_make_one, cell, given.out, given.more) for cell in missing]
            for number, done in enumerate(as_completed(running), 1):
                print(f"[{number}/{len(running)}] {done.result()}", flush=True)
            return
        files = sorted(file for name in names for file in given.out.glob(f"{name}-*.pickle"))
        if not files:
            sys.exit(f"There are no boards in {given.out}; make some first.")
        without = [name.strip() for name in given.without.split(",") if name.strip()]
        scores = list(pool.map(_score_one, files, [without] * len(files)))
    from cotrain.show import table as printed

    rows = summary(scores, json.loads(given.against.read_text()) if given.against else ())
    if not rows:
        sys.exit(f"None of these draws has a score in {given.against}.")
    printed("Test score in points, mean over draws", short(rows))
    if given.save:
        given.save.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
