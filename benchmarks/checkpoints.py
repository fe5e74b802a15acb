"""What a checkpoint of 50 MB costs the training: `checkpoint.save` that waits for the disk, against `wait=False`.

    python benchmarks/checkpoints.py [--blocks 15] [--megabytes 50] [--folder DIR] [--record]

In one process on one thread, in turn: a save of one or the other kind, some training steps, `wait()`. The stall is the
time inside the call by the clock, since much of it is the disk's. What the writing thread takes from the steps on a
machine without a free core is not in it. --record writes results/benchmarks/checkpoints.json.
"""

import argparse
import json
import os
import random
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn, optim

from cotrain import __version__, checkpoint, recipe, show
from cotrain.learner import Learner

RECORDED = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "checkpoints.json"
BAR = 0.30  # of the stall of a save that waits
WIDTH = 512


def learner_of(megabytes: float) -> Learner:
    """Weights and the optimizer's state are so many megabytes together."""
    layers = max(1, round(megabytes * 1e6 / (4 * 3 * WIDTH * WIDTH)))
    net = nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(layers)])
    return Learner(net, partial(optim.AdamW, lr=1e-4)).build()


def train(learner: Learner, steps: int) -> None:
    for _ in range(steps):
        learner(torch.ones(16, WIDTH)).square().mean().backward()
        learner.step()
        for parameter in learner.parameters:
            parameter.grad = None


def measure(folder: Path, megabytes: float, blocks: int) -> dict[str, Any]:
    learner = learner_of(megabytes)
    train(learner, 5)
    stalls: dict[bool, list[float]] = {True: [], False: []}
    for block in range(-1, blocks):  # the first is not counted
        kinds = [True, False]
        random.Random(block).shuffle(kinds)
        for waits in kinds:
            start = time.perf_counter()
            checkpoint.save(folder, 1, learner.state(), wait=waits)
            if block >= 0:
                stalls[waits].append(time.perf_counter() - start)
            train(learner, 5)
            checkpoint.wait()
    size = sum(file.stat().st_size for file in (folder / "step-000000001").iterdir())
    return {
        "megabytes": round(size / 1e6, 1),
        "stall in ms by median": {words: 1e3 * median(stalls[waits]) for waits, words in KINDS.items()},
        "stall in ms, least": {words: 1e3 * min(stalls[waits]) for waits, words in KINDS.items()},
        "ratio by median": median(stalls[False]) / median(stalls[True]),
        "ratio of the least": min(stalls[False]) / min(stalls[True]),
    }


KINDS = {True: "waits for the disk", False: "leaves it to a thread"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one by default")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        found = measure(Path(folder), given.megabytes, given.blocks)
    shown = ("stall in ms by median", "stall in ms, least")
    rows = [{"save": words, **{name: f"{found[name][words]:.0f}" for name in shown}} for words in KINDS.values()]
    show.table(f"A checkpoint of {found['megabytes']} MB", rows)
    held = found["ratio by median"] <= BAR
    ratios = f"{found['ratio by median']:.0%} by median, {found['ratio of the least']:.0%} of the least"
    show.line(f"Stall: {ratios}; at most {BAR:.0%} by median: {'held' if held else 'did not hold'}")
    if given.record:
        kept = {"version": __version__, "commit": recipe.commit(), "machine": recipe.machine(), "blocks": given.blocks}
        RECORDED.parent.mkdir(parents=True, exist_ok=True)
        RECORDED.write_text(json.dumps({**kept, **found, "bar": {"at most": BAR, "held": held}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
