"""What the engine costs: mutual learning of two nets by `engine.fit`, by the shortest correct loop written by hand, and by
the same loop on Lightning Fabric, in a LightningModule with manual optimization and on Accelerate, where they are installed.

    python benchmarks/engine.py [--blocks 15] [--sizes tiny,small,large] [--device cuda] [--record]

The engine lets AdamW step in torch's fused kernels, which torch's own default does not. So there are two loops by hand,
one with each; "over fused" is what the engine adds to the one that steps as it does.

All programs run in one process on one thread and are timed in turn (`_timing`). Every loop takes its batches from a
`Rows` stream of its own, so that fetching a batch is in all of them. `fit` keeps the losses and writes a row of its report
every 50 steps; the loops keep none. A block is one call of `fit` (of `Trainer.fit`), so its start is in it; the column
"start" has a call's cost beyond that of its steps, "no start" what is added without it. "aten" counts the operations of
torch in a step, which no load on the machine changes. Before the timing all nets must have learned the same. --record
writes results/benchmarks/engine.json (engine_gpu.json on a GPU, whose batches lie there already).
"""

import argparse
import logging
import os
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _record
import torch
import torch.nn.functional as F
from _timing import Calls, Program, interleaved, over, waited_for
from torch import Tensor, nn, optim

from cotrain import show
from cotrain.engine import fit
from cotrain.learner import Learner
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.stream import Rows

LEARNING_RATE = 1e-3
device = "cpu"  # --device sets another
INPUTS, CLASSES = 64, 10


@dataclass(frozen=True)
class Size:
    """Two nets 64-hidden-10 on batches of `batch` rows, `steps` steps a block, and the share that `fit` may add."""

    hidden: int
    batch: int
    steps: int
    bar: float
    judged: tuple[str, ...]  # the loops by hand over which


# The bars are given at steps of about 1.2 ms and 20 ms: "tiny" takes 1.2 ms by hand, "small" with fused kernels.
SIZES = {
    "tiny": Size(hidden=128, batch=64, steps=200, bar=0.05, judged=("by hand",)),
    "small": Size(hidden=256, batch=128, steps=200, bar=0.05, judged=("by hand", "by hand, fused")),
    "large": Size(hidden=2048, batch=768, steps=10, bar=0.01, judged=("by hand", "by hand, fused")),
}


def nets(size: Size) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, two = (
            nn.Sequential(nn.Linear(INPUTS, size.hidden), nn.ReLU(), nn.Linear(size.hidden, CLASSES)) for _ in range(2)
        )
    return [one.to(device), two.to(device)]


def rows(size: Size) -> Rows:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(4096, INPUTS, generator=rng), torch.randint(CLASSES, (4096,), generator=rng)
    return Rows({"x": x.to(device), "y": y.to(device)}, batch=size.batch)


def learn(out: Tensor, other: Tensor, y: Tensor) -> Tensor:
    agreement = F.kl_div(out.log_softmax(-1), other.detach().softmax(-1), reduction="batchmean")
    return F.cross_entropy(out, y) + agreement


def by_hand(size: Size, fused: bool | None = None) -> tuple[Program, list[nn.Module]]:
    one, two = pair = nets(size)
    optimizers = [optim.AdamW(net.parameters(), lr=LEARNING_RATE, fused=fused) for net in pair]
    stream = rows(size)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            x, y = batch["x"], batch["y"]
            out_one, out_two = one(x), two(x)
            loss = learn(out_one, out_two, y) + learn(out_two, out_one, y)
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
        fit(MutualLearning(), learners, streams, steps, device=device)

    return run, pair


def by_fabric(size: Size) -> tuple[Program, list[nn.Module]]:
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator=device, devices=1)
    pair = nets(size)
    (one, first), (two, second) = (fabric.setup(net, optim.AdamW(net.parameters(), lr=LEARNING_RATE)) for net in pair)
    stream = rows(size)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            x, y = batch["x"], batch["y"]
            out_one, out_two = one(x), two(x)
            loss = learn(out_one, out_two, y) + learn(out_two, out_one, y)
            first.zero_grad()
            second.zero_grad()
            fabric.backward(loss)
            first.step()
            second.step()

    return run, pair


def by_trainer(size: Size) -> tuple[Program, list[nn.Module]]:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Mutual(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.one, self.two = nets(size)
            # Made once, because every call of Trainer.fit asks for them anew.
            self.made = [optim.AdamW(net.parameters(), lr=LEARNING_RATE) for net in (self.one, self.two)]

        def configure_optimizers(self) -> list[optim.Optimizer]:
            return self.made

        def training_step(self, batch: dict[str, Tensor], index: int) -> None:
            x, y = batch["x"], batch["y"]
            out_one, out_two = self.one(x), self.two(x)
            loss = learn(out_one, out_two, y) + learn(out_two, out_one, y)
            first, second = self.optimizers()
            first.zero_grad()
            second.zero_grad()
            self.manual_backward(loss)
            first.step()
            second.step()

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator=device, devices=1, max_epochs=0, enable_checkpointing=False, **quiet)
    module = Mutual()
    stream = rows(size)

    def run(steps: int) -> None:
        trainer.limit_train_batches = steps
        trainer.fit_loop.max_epochs = trainer.current_epoch + 1
        trainer.fit(module, stream)

    return run, [module.one, module.two]


def by_accelerate(size: Size) -> tuple[Program, list[nn.Module]]:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device == "cpu")
    pair = nets(size)
    optimizers = [optim.AdamW(net.parameters(), lr=LEARNING_RATE) for net in pair]
    one, two, first, second = accelerator.prepare(*pair, *optimizers)
    stream = rows(size)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            x, y = batch["x"], batch["y"]
            out_one, out_two = one(x), two(x)
            loss = learn(out_one, out_two, y) + learn(out_two, out_one, y)
            first.zero_grad()
            second.zero_grad()
            accelerator.backward(loss)
            first.step()
            second.step()

    return run, pair


MAKERS = {
    "by hand": by_hand,
    "by hand, fused": partial(by_hand, fused=True),
    "cotrain": by_engine,
    "Lightning Fabric": by_fabric,
    "Lightning Trainer": by_trainer,
    "Accelerate": by_accelerate,
}


def operations(program: Program, steps: int = 50) -> float:
    """Operations of torch a step, without those of a call's start and end."""
    counts = []
    for times in (1, 2):
        with Calls() as calls:
            program(times * steps)
        counts.append(calls.number)
    return (counts[1] - counts[0]) / steps


def measure(size: Size, blocks: int) -> dict[str, dict[str, Any]]:
    """What each program takes a step and costs beyond the loop by hand."""
    programs: dict[str, Program] = {}
    learned: dict[str, list[nn.Module]] = {}
    for name, make in MAKERS.items():
        try:
            programs[name], learned[name] = make(size)
        except ImportError as missing:
            print(f"{name} is not installed ({missing.name}) and left out.", file=sys.stderr)
    if device == "cuda":
        programs = {name: waited_for(program) for name, program in programs.items()}
    for program in programs.values():
        program(20)
    expected = [p.detach().cpu().clone() for net in learned["by hand"] for p in net.parameters()]
    for name, pair in learned.items():
        for one, two in zip(expected, (p.cpu() for net in pair for p in net.parameters()), strict=True):
            # Before rounding in fp32 has been carried far by thousands of steps of AdamW.
            assert (one - two).abs().mean() < 1e-3 * one.abs().mean(), f"{name} learned something else"
    starts = interleaved(programs, 1, blocks)
    times = interleaved(programs, size.steps, blocks)
    # A call's start: one step's call without a step, both of them the median.
    start = {
        name: (size.steps * median(starts[name]) - size.steps * median(times[name])) / (size.steps - 1)
        for name in times
    }
    bare = {name: [t - start[name] / size.steps for t in times[name]] for name in times}
    found = {}
    for name in programs:
        found[name] = {
            "least ms": 1e3 * min(times[name]),
            "median ms": 1e3 * median(times[name]),
            **over(times, name, "by hand"),
            "over fused": over(times, name, "by hand, fused"),
            "start ms": 1e3 * start[name],
            "share without start": over(bare, name, "by hand")["share by median"],
            "operations": operations(programs[name]),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    global device
    device = given.device
    sizes: dict[str, Any] = {}
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
                "over fused µs": f"{row['over fused']['microseconds']:+.0f}",
                "over fused": f"{row['over fused']['share by minimum']:+.1%}",
                "no start": f"{row['share without start']:+.1%}",
                "start ms": f"{row['start ms']:.2f}",
                "aten": f"{row['operations']:.1f}",
            }
            for program, row in found.items()
        ]
        show.table(f"{name}: two nets {INPUTS}-{size.hidden}-{CLASSES}, batches of {size.batch}", shown)
        bars = {}
        for loop in size.judged:
            shares = found["cotrain"] if loop == "by hand" else found["cotrain"]["over fused"]
            added = [shares[f"share by {which}"] for which in ("minimum", "median", "paired differences")]
            below = [share <= size.bar for share in added]
            held = all(below) if all(below) or not any(below) else None
            bars[loop] = {"at most": size.bar, "added": added, "held": held}
            said = {True: "held", False: "did not hold", None: "not decided: the blocks scatter by more than that"}
            show.line(f"At most {size.bar:.0%} over the loop {loop}: {said[held]}")
        sizes[name] = {
            "hidden": size.hidden,
            "batch": size.batch,
            "blocks": given.blocks,
            "bars": bars,
            **found,
        }
    if given.record:
        _record.write("engine", {"sizes": sizes}, gpu=device == "cuda")


if __name__ == "__main__":
    main()
# ruff: noqa: E501
