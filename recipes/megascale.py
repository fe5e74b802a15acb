"""A run that outlives a killed worker and a damaged checkpoint; the parallel block, and LAMB for a larger batch.

(a) Two workers, of which one is slow and is killed, and a checkpoint that is damaged. (b) What a checkpoint beside the
training costs it. (c) The block and the optimizer in a small language model of Tiny Shakespeare. About two and a half
minutes a seed on one core.
"""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn, optim

from cotrain import checkpoint
from cotrain.data import tiny_shakespeare
from cotrain.engine import update
from cotrain.errors import CotrainError, InputError
from cotrain.judge import Judge
from cotrain.learner import Learner
from cotrain.methods.language.next_token import NextToken
from cotrain.nets.transformer import Decoder
from cotrain.optim.lamb import Lamb
from cotrain.recipe import PACKAGE
from cotrain.run import Bar, Run, Table
from cotrain.stream import Batch, Once, Rows
from cotrain.watch.effective import Timeline, effective

SYSTEMS = (56,)
CLAIM = (
    "Training 175 billion parameters on 12,288 GPUs uses 55.2 % of their peak, 1.34 times what Megatron-LM does, and "
    "goes on by itself after more than 100 failures. "
    "Training a 13 billion parameter model, the parallel block and window attention converge as the usual block does, "
    "and LAMB with four times the batch reaches the same loss as Adam after as many tokens."
)
SEEDS = range(3)

Part = Literal["loss", "step time", "faults", "checkpoint"]
Block = Literal["serial", "parallel"]
Optimizer = Literal["adamw", "lamb"]
LENGTH, BATCH, SEQUENCES = 64, 4, 8_000  # characters of a sequence; sequences of a batch, and of a whole run
# (block, optimizer, factor of the batch) -> learning rate: the best on the validation text of some, each twice the one
# before, with one seed that is none of SEEDS. At 8e-3 the parallel block with AdamW was 7 % worse than the serial one.
RATES: dict[tuple[str, str, int], float] = {
    ("serial", "adamw", 1): 8e-3,
    ("serial", "adamw", 4): 4e-3,
    ("serial", "lamb", 4): 4e-2,
    ("parallel", "adamw", 1): 4e-3,
}


def rows(full: bool = False) -> dict[str, dict]:
    table: dict[str, dict] = {
        "serial, AdamW": {"block": "serial", "optimizer": "adamw", "growth": 1},
        "parallel, AdamW": {"block": "parallel", "optimizer": "adamw", "growth": 1},
        "serial, AdamW, batch x 4": {"block": "serial", "optimizer": "adamw", "growth": 4},
        "serial, LAMB, batch x 4": {"block": "serial", "optimizer": "lamb", "growth": 4},
    }
    parts: tuple[Part, ...] = ("step time", "faults", "checkpoint")
    return {name: {"part": "loss", **row} for name, row in table.items()} | {part: {"part": part} for part in parts}


def recipe(
    part: Part = "loss",
    block: Block = "parallel",
    optimizer: Optimizer = "adamw",
    growth: int = 1,
    rate: float | None = None,
    text: Literal["validation", "test"] = "test",
    seed: int = 0,
) -> "Run | StepTime | Faults | Stall":
    """One training, or one measurement.

    Args:
        part: loss trains; step time is of both blocks, faults befall two workers, checkpoint is the time that a save
            takes from the training. These three take no other argument but the seed.
        block: of the decoder.
        optimizer: AdamW or LAMB; both warm up, decay in a cosine, and leave biases and norms alone.
        growth: factor of the batch of 4 sequences; the sequences of the run are as many, its steps fewer.
        rate: learning rate; None is the tuned one.
        text: what the loss is measured on. The learning rates were tuned on the validation text, which no run learns.
        seed: of weights and orders; for faults also of the step in which the worker is killed.
    """
    if part != "loss":
        return {"step time": StepTime, "faults": Faults, "checkpoint": Stall}[part](seed)
    if rate is None:
        if (block, optimizer, growth) not in RATES:
            raise InputError(f"No rate was tuned for {block}, {optimizer}, batch x {growth}: give rate=.")
        rate = RATES[block, optimizer, growth]
    learn, texts = parts()
    steps = SEQUENCES // (growth * BATCH)
    model = Learner(decoder(block, seed), partial(grouped, optimizer, rate), schedule=partial(warm_then_cosine, steps))
    return Run(
        method=NextToken(),
        learners={"model": model},
        streams={"text": Rows({"ids": tiny_shakespeare.windows(learn, LENGTH)}, batch=growth * BATCH, seed=seed)},
        steps=steps,
        judges=[(nats("model"), Once({"ids": tiny_shakespeare.windows(texts[text], LENGTH, LENGTH)}, batch=128))],
        seed=seed,
    )


def parts() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The text to learn, 80 %, and the two that no run learns: one to tune on, one to test on, 10 % each."""
    train = tiny_shakespeare.load("train")
    cut = len(train) * 8 // 9
    return train[:cut], {"validation": train[cut:], "test": tiny_shakespeare.load("validation")}


def decoder(block: Block, seed: int) -> Decoder:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        characters = len(tiny_shakespeare.CHARACTERS)
        return Decoder(characters, width=64, layers=3, heads=4, context=LENGTH, parallel=block == "parallel")


def grouped(name: Optimizer, rate: float, parameters: list[nn.Parameter]) -> optim.Optimizer:
    """The optimizer, with biases and norms in a group that neither decays nor adapts."""
    matrices, vectors = ([p for p in parameters if (p.dim() > 1) == many] for many in (True, False))
    settings = {"lr": rate, "betas": (0.9, 0.99)}  # 0.99, because the runs are short
    if name == "adamw":
        return optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}], **settings)
    return Lamb([{"params": matrices}, {"params": vectors, "weight_decay": 0.0, "adapt": False}], **settings)


def warm_then_cosine(steps: int, done: int) -> float:
    """The share of the learning rate: up over a tenth of the steps, then down to nothing."""
    warm = steps / 10
    if done < warm:
        return (done + 1) / (warm + 1)
    return (1 + cos(pi * (done - warm) / (steps - warm))) / 2


def nats(of: str) -> Judge:
    """Mean loss of the next character, in nats."""

    def judge(learners: Mapping[str, Learner], stream: Iterable[Batch]) -> dict[str, float]:
        total, count = 0.0, 0
        for batch in stream:
            ids = batch["ids"]
            logits = learners[of](ids[:, :-1]).flatten(0, 1)
            total += F.cross_entropy(logits, ids[:, 1:].flatten(), reduction="sum").item()
            count += ids[:, 1:].numel()
        return {"loss": total / count}

    return judge


@dataclass(frozen=True)
class StepTime:
    """Processor time of a training step with the parallel block over that with the serial one, on one thread."""

    seed: int
    blocks: int = 15
    steps: int = 8

    def measure(self) -> dict[str, float]:
        with one_thread():
            return {f"parallel per serial, batch x {growth}": self.ratio(growth) for growth in (1, 4)}

    def ratio(self, growth: int) -> float:
        """The median over blocks, in which the two are timed one after the other, in turn first."""
        programs = [self.program(block, growth) for block in ("serial", "parallel")]
        found = []
        for number in range(-1, self.blocks):
            taken = [0.0, 0.0]
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                programs[which]()
                taken[which] = time.process_time() - start
            if number >= 0:  # the first block warms up
                found.append(taken[1] / taken[0])
        return median(found)

    def program(self, block: Block, growth: int) -> Callable[[], None]:
        learners = {"model": Learner(decoder(block, self.seed), partial(grouped, "adamw", 1e-3)).build()}
        ids = tiny_shakespeare.windows(parts()[0], LENGTH)
        stream = Rows({"ids": ids}, batch=growth * BATCH, seed=self.seed)

        def run() -> None:
            for _ in range(self.steps):
                update(learners, NextToken().step(learners, {"text": next(stream)}, {}))

        return run


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Faults:
    """Two workers train without trouble; again, one of them slow and killed; then the first run's last checkpoint is
    damaged and it is started once more. The workers run `_megascale_faults.py`."""

    seed: int

    def measure(self) -> dict[str, float]:
        dies = random.Random(self.seed).randrange(151, 200)  # three windows of the stragglers are over
        with tempfile.TemporaryDirectory() as folder:
            whole, struck = Path(folder) / "whole", Path(folder) / "struck"
            clean, killed = self.launched(whole), self.launched(struck, dies)
            damage(whole / "checkpoints" / "step-000000200")
            skipped = self.launched(whole)
            time_used = effective(Timeline(struck / "timeline.jsonl").moments)
        named = re.search(r"step (\d+): Rank 1 is slow", killed.errors)
        return {
            "weights as in the clean run": float(killed.weights == clean.weights),
            "restarts": len(killed.starts) - 1.0,
            "steps of lost work": float(dies - killed.starts[-1]),
            "steps until the slow rank is named": float(named[1]) if named else float("nan"),
            "healthy runs in which a rank is named": float("is slow" in clean.errors),
            "damaged checkpoint skipped": float(skipped.starts == [180] and skipped.weights == clean.weights),
            "effective time share": time_used.share,
        }

    def launched(self, out: Path, dies: int | None = None) -> "Launched":
        words = ["--nproc", 2, "--max-restarts", 1, Path(__file__).with_name("_megascale_faults.py"), out, self.seed]
        words += [] if dies is None else [dies]
        found = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
        ours = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": found}
        command = [sys.executable, "-m", "cotrain", "launch", *map(str, words)]
        done = subprocess.run(command, env=os.environ | ours, capture_output=True, text=True)
        if done.returncode:
            raise CotrainError(f"The workers failed:\n{done.stderr[-4000:]}")
        return Launched([json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")], done.stderr)


@dataclass(frozen=True)
class Launched:
    """What the workers of a run said."""

    said: list[dict[str, Any]]
    errors: str

    @property
    def starts(self) -> list[int]:
        """The steps from which rank 0 trained, one a life."""
        return [line["starts"] for line in self.said if line["rank"] == 0 and "starts" in line]

    @property
    def weights(self) -> set[str]:
        """Hashes of the weights at the end; one, if all ranks end the same."""
        return {line["weights"] for line in self.said if "weights" in line}


def damage(saved: Path) -> None:
    """One bit in the middle of a checkpoint's tensors is another."""
    file = max(saved.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@dataclass(frozen=True)
class Stall:
    """How long training stands still for a checkpoint: left to a thread, over one that waits for the disk.

    In one process on one thread, in turn: a save of one or the other kind, some training steps, `wait()`. The stall is
    the time inside the call by the clock, since much of it is the disk's. What the writing thread takes from the steps
    on a machine without a free core is not in it.
    """

    seed: int = 0
    megabytes: float = 50  # weights and the optimizer's state together
    blocks: int = 7
    folder: Path | None = None  # on the disk to be measured; a temporary one if not given
    width: int = 512

    def measure(self) -> dict[str, float]:
        with one_thread(), tempfile.TemporaryDirectory(dir=self.folder) as folder:
            waits, leaves, size = self.stalls(Path(folder))
        return {
            "megabytes": round(size / 1e6, 1),
            "ms, waits for the disk": 1e3 * median(waits),
            "ms, left to a thread": 1e3 * median(leaves),
            "ratio": median(leaves) / median(waits),
            "ratio of the least": min(leaves) / min(waits),
        }

    def stalls(self, folder: Path) -> tuple[list[float], list[float], int]:
        """Seconds of both kinds, and the bytes of a checkpoint."""
        learner = self.learner()
        self.train(learner)
        stalls: dict[bool, list[float]] = {True: [], False: []}
        for block in range(-1, self.blocks):  # the first is not counted
            kinds = [True, False]
            random.Random(f"{self.seed} {block}").shuffle(kinds)
            for waits in kinds:
                start = time.perf_counter()
                path = checkpoint.save(folder, 1, learner.state(), wait=waits)
                if block >= 0:
                    stalls[waits].append(time.perf_counter() - start)
                self.train(learner)
                checkpoint.wait()
        return stalls[True], stalls[False], sum(file.stat().st_size for file in path.iterdir())

    def learner(self) -> Learner:
        layers = max(1, round(self.megabytes * 1e6 / (4 * 3 * self.width**2)))
        net = nn.Sequential(*[nn.Linear(self.width, self.width, bias=False) for _ in range(layers)])
        return Learner(net, partial(optim.AdamW, lr=1e-4)).build()

    def train(self, learner: Learner) -> None:
        for _ in range(5):
            learner(torch.ones(16, self.width)).square().mean().backward()
            learner.step()
            for parameter in learner.parameters:
                parameter.grad = None


def bars(table: Table) -> list[Bar]:
    base = table.mean("serial, AdamW", "loss")
    block = table.mean("parallel, AdamW", "loss") / base - 1
    large = table.mean("serial, LAMB, batch x 4", "loss") / base - 1
    plain = table.mean("serial, AdamW, batch x 4", "loss") / base - 1
    slower = max(table.mean("step time", f"parallel per serial, batch x {growth}") for growth in (1, 4))
    equal = min(table.values("faults", "weights as in the clean run"))
    lost = max(table.values("faults", "steps of lost work"))
    named = table.values("faults", "steps until the slow rank is named")
    skipped = min(table.values("faults", "damaged checkpoint skipped"))
    stall = table.mean("checkpoint", "ratio")
    return [
        Bar("(a) a worker killed: the weights end bit-equal to the clean run's (1), every seed", equal, equal == 1),
        Bar("(a) steps of lost work at most the 20 between checkpoints, every seed", lost, lost <= 20),
        Bar(
            "(a) a rank 5 times slower named within 3 windows of 50 steps, every seed",
            max(named),
            all(steps <= 150 for steps in named),
        ),
        Bar("(a) a damaged checkpoint passed over for the one before (1), every seed", skipped, skipped == 1),
        Bar("(b) stall of a save of 50 MB left to a thread at most 30 % of one that waits", stall, stall <= 0.3),
        Bar("(c) loss of the parallel block at most 2 % above the serial block's, AdamW", block, block <= 0.02),
        Bar(
            f"(c) loss of LAMB with 4 times the batch at most 2 % above AdamW's with as many characters, serial (AdamW "
            f"with that batch: {plain:+.1%})",
            large,
            large <= 0.02,
        ),
        Bar("(c) step time of the parallel block at most the serial block's, both batches", slower, slower <= 1),
    ]
