"""What a checkpoint of 50 MB costs the training: `checkpoint.save` that waits for the disk, against `wait=False`.

    python benchmarks/checkpoints.py [--blocks 15] [--megabytes 50] [--folder DIR] [--record]

Three loops of the same training steps in one process on one thread are timed in turn by the clock: without a save, with
one that waits, and with one that leaves the writing to a thread. The steps go on until well after the thread is done,
and the loop ends with `wait()`. Shown are the time inside the call, and the time that the save adds to the loop, which
has in it what the thread takes from the steps. --record writes results/benchmarks/checkpoints.json.
"""

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
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


def train(learner: Learner, seconds: float) -> int:
    """Steps for so long; how many they were."""
    steps, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        one_step(learner)
        steps += 1
    return steps


def one_step(learner: Learner) -> None:
    learner(torch.ones(16, WIDTH)).square().mean().backward()
    learner.step()
    for parameter in learner.parameters:
        parameter.grad = None


def loop(learner: Learner, steps: int, save: Callable[[], Any] | None) -> tuple[float, float]:
    """Seconds of so many steps with a save before them; and seconds inside the save's call."""
    start = time.perf_counter()
    if save is not None:
        save()
    inside = time.perf_counter() - start
    for _ in range(steps):
        one_step(learner)
    checkpoint.wait()
    return time.perf_counter() - start, inside


def measure(folder: Path, megabytes: float, blocks: int) -> dict[str, Any]:
    learner = learner_of(megabytes)
    train(learner, 0.5)
    begin = time.perf_counter()
    checkpoint.save(folder, 0, learner.state())
    steps = train(learner, max(1.0, 3 * (time.perf_counter() - begin)))
    saves: dict[str, Callable[[], Any] | None] = {
        "none": None,
        "waits": lambda: checkpoint.save(folder, 1, learner.state()),
        "thread": lambda: checkpoint.save(folder, 1, learner.state(), wait=False),
    }
    whole: dict[str, list[float]] = {name: [] for name in saves}
    inside: dict[str, list[float]] = {name: [] for name in saves}
    for block in range(-1, blocks):
        order = list(saves)
        random.Random(block).shuffle(order)
        for name in order:
            seconds, in_call = loop(learner, steps, saves[name])
            if block >= 0:
                whole[name].append(seconds)
                inside[name].append(in_call)
    added = {name: min(whole[name]) - min(whole["none"]) for name in ("waits", "thread")}  # the least disturbed loops
    size = sum(file.stat().st_size for file in (folder / "step-000000001").iterdir())
    return {
        "megabytes": round(size / 1e6, 1),
        "steps a loop": steps,
        "ms in the call": {name: 1e3 * median(inside[name]) for name in added},
        "ms added to the loop": {name: 1e3 * value for name, value in added.items()},
        "ratio of the calls": median(inside["thread"]) / median(inside["waits"]),
        "ratio of the added times": added["thread"] / added["waits"],
    }


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
    rows = [
        {
            "save": words,
            "ms in the call": f"{found['ms in the call'][name]:.0f}",
            "ms added to the loop": f"{found['ms added to the loop'][name]:.0f}",
        }
        for name, words in (("waits", "waits for the disk"), ("thread", "in a thread"))
    ]
    show.table(f"A checkpoint of {found['megabytes']} MB", rows)
    held = found["ratio of the calls"] <= BAR
    verdict = "held" if held else "did not hold"
    show.line(f"The call stalls for {found['ratio of the calls']:.0%}, at most {BAR:.0%}: {verdict}")
    show.line(f"The loop loses {found['ratio of the added times']:.0%}")
    if given.record:
        result = {
            "version": __version__,
            "commit": recipe.commit(),
            "machine": recipe.machine(),
            "blocks": given.blocks,
        }
        RECORDED.parent.mkdir(parents=True, exist_ok=True)
        RECORDED.write_text(json.dumps({**result, **found, "bar": {"at most": BAR, "held": held}}, indent=1) + "\n")


if __name__ == "__main__":
    main()
