"""What the engine costs: mutual learning of two nets by `engine.fit`, by the shortest correct loop written by hand, and by
the same loop on Lightning Fabric and on Accelerate where they are installed (extra `bench`).

    python benchmarks/engine.py [--blocks 15] [--sizes sheet,small,large] [--record]

All programs run in one process on one thread and are timed in turn (`_timing`). Every loop takes its batches from a
`Rows` stream of its own, so that fetching a batch is in all of them. `fit` keeps the losses and writes a row of its report
every 50 steps; the loops keep none. After the timing all nets must have learned the same. --record writes
results/benchmarks/engine.json.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from _timing import interleaved, over
from torch import Tensor, nn, optim

from cotrain import __version__, recipe, show
from cotrain.engine import fit
from cotrain.learner import Learner
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.stream import Rows

Program = Callable[[int], None]
RECORDED = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "engine.json"
LEARNING_RATE = 1e-3
INPUTS, CLASSES = 64, 10


@dataclass(frozen=True)
class Size:
    """Two nets 64-hidden-10 on batches of `batch` rows, `steps` steps a block, and the share that `fit` may add."""

    hidden: int
    batch: int
    steps: int
    bar: float | None  # None: shown, not judged


# The bars are given at steps of about 1.2 ms and 20 ms. "sheet" is the net that took 1.2 ms where the bars were set; it
# is faster on newer machines, where "small" is the net that takes 1.2 ms.
SIZES = {
    "sheet": Size(hidden=128, batch=64, steps=200, bar=None),
    "small": Size(hidden=256, batch=128, steps=200, bar=0.05),
    "large": Size(hidden=2048, batch=512, steps=15, bar=0.01),
}


def nets(size: Size) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            nn.Sequential(nn.Linear(INPUTS, size.hidden), nn.ReLU(), nn.Linear(size.hidden, CLASSES)) for _ in range(2)
        ]


def rows(size: Size) -> Rows:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(4096, INPUTS, generator=rng), torch.randint(CLASSES, (4096,), generator=rng)
    return Rows({"x": x, "y": y}, batch=size.batch)


def learn(net: nn.Module, out: Tensor, other: Tensor, y: Tensor) -> Tensor:
    agreement = F.kl_div(out.log_softmax(-1), other.detach().softmax(-1), reduction="batchmean")
    return F.cross_entropy(out, y) + agreement


def by_hand(size: Size) -> tuple[Program, list[nn.Module]]:
    one, two = pair = nets(size)
    optimizers = [optim.AdamW(net.parameters(), lr=LEARNING_RATE) for net in pair]
    stream = rows(size)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            x, y = batch["x"], batch["y"]
            out_one, out_two = one(x), two(x)
            loss = learn(one, out_one, out_two, y) + learn(two, out_two, out_one, y)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    return run, pair


def by_engine(size: Size) -> tuple[Program, list[nn.Module]]:
    pair = nets(size)
    adamw = partial(optim.AdamW, lr=LEARNING_RATE)
    learners = {name: Learner(net, adamw) for name, net in zip(("one", "two"), pair, strict=True)}
    streams = {"labelled": rows(size)}

    def run(steps: int) -> None:
        fit(MutualLearning(), learners, streams, steps, device="cpu")

    return run, pair


def by_fabric(size: Size) -> tuple[Program, list[nn.Module]]:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    pair = nets(size)
    (one, first), (two, second) = (fabric.setup(net, optim.AdamW(net.parameters(), lr=LEARNING_RATE)) for net in pair)
    stream = rows(size)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            x, y = batch["x"], batch["y"]
            out_one, out_two = one(x), two(x)
            loss = learn(one, out_one, out_two, y) + learn(two, out_two, out_one, y)
            first.zero_grad()
            second.zero_grad()
            fabric.backward(loss)
            first.step()
            second.step()

    return run, pair


def by_accelerate(size: Size) -> tuple[Program, list[nn.Module]]:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    pair = nets(size)
    optimizers = [optim.AdamW(net.parameters(), lr=LEARNING_RATE) for net in pair]
    one, two, first, second = accelerator.prepare(*pair, *optimizers)
    stream = rows(size)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            x, y = batch["x"], batch["y"]
            out_one, out_two = one(x), two(x)
            loss = learn(one, out_one, out_two, y) + learn(two, out_two, out_one, y)
            first.zero_grad()
            second.zero_grad()
            accelerator.backward(loss)
            first.step()
            second.step()

    return run, pair


MAKERS = {"by hand": by_hand, "cotrain": by_engine, "Lightning Fabric": by_fabric, "Accelerate": by_accelerate}


def measure(size: Size, blocks: int) -> dict[str, dict[str, float]]:
    """What each program takes a step and costs beyond the loop by hand."""
    programs: dict[str, Program] = {}
    learned: dict[str, list[nn.Module]] = {}
    for name, make in MAKERS.items():
        try:
            programs[name], learned[name] = make(size)
        except ImportError as missing:
            print(f"{name} is not installed ({missing.name}) and left out.", file=sys.stderr)
    times = interleaved(programs, size.steps, blocks)
    expected = [p for net in learned["by hand"] for p in net.parameters()]
    for name, pair in learned.items():
        for one, two in zip(expected, (p for net in pair for p in net.parameters()), strict=True):
            # Loosely: thousands of steps of AdamW in fp32 carry rounding far; what is asked is whether it is the same work.
            assert (one - two).abs().mean() < 0.1 * one.abs().mean(), f"{name} learned something else"
    found = {}
    for name in programs:
        least, middle = min(times[name]), sorted(times[name])[len(times[name]) // 2]
        found[name] = {"least ms": 1e3 * least, "median ms": 1e3 * middle, **over(times, name, "by hand")}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "version": __version__,
        "commit": recipe.commit(),
        "machine": recipe.machine(),
        "sizes": {},
    }
    for name in given.sizes.split(","):
        size = SIZES[name]
        found = measure(size, given.blocks)
        shown = [
            {
                "program": program,
                "ms a step, least": f"{row['least ms']:.3f}",
                "median": f"{row['median ms']:.3f}",
                "added µs": f"{row['microseconds']:+.0f}",
                "added, by least": f"{row['share by minimum']:+.1%}",
                "by median": f"{row['share by median']:+.1%}",
                "by pairs": f"{row['share by paired differences']:+.1%}",
            }
            for program, row in found.items()
        ]
        show.table(f"{name}: two nets {INPUTS}-{size.hidden}-{CLASSES}, batches of {size.batch}", shown)
        added = min(found["cotrain"]["share by minimum"], found["cotrain"]["share by median"])
        bar = None
        if size.bar is not None:
            bar = {"at most": size.bar, "added": found["cotrain"]["share by minimum"], "held": added <= size.bar}
            show.line(f"At most {size.bar:.0%}: {'held' if bar['held'] else 'did not hold'}")
        result["sizes"][name] = {
            "hidden": size.hidden,
            "batch": size.batch,
            "blocks": given.blocks,
            "bar": bar,
            **found,
        }
    if given.record:
        RECORDED.parent.mkdir(parents=True, exist_ok=True)
        RECORDED.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
# ruff: noqa: E501
