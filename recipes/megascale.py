"""What MegaScale changes in the model: the parallel block, and LAMB for a batch four times as large. A small language
model of Tiny Shakespeare, about a minute and a half a seed on one core."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from statistics import median
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn, optim

from cotrain.data import tiny_shakespeare
from cotrain.engine import update
from cotrain.errors import InputError
from cotrain.judge import Judge
from cotrain.learner import Learner
from cotrain.methods.language.next_token import NextToken
from cotrain.nets.transformer import Decoder
from cotrain.optim.lamb import Lamb
from cotrain.run import Bar, Run, Table
from cotrain.stream import Batch, Once, Rows

SYSTEMS = (56,)
CLAIM = (
    "Training a 13 billion parameter model, the parallel block and window attention converge as the usual block does, "
    "and LAMB with four times the batch reaches the same loss as Adam after as many tokens."
)
SEEDS = range(3)

Part = Literal["loss", "step time"]
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
    return {**{name: {"part": "loss", **row} for name, row in table.items()}, "step time": {"part": "step time"}}


def recipe(
    part: Part = "loss",
    block: Block = "parallel",
    optimizer: Optimizer = "adamw",
    growth: int = 1,
    rate: float | None = None,
    text: Literal["validation", "test"] = "test",
    seed: int = 0,
) -> "Run | StepTime":
    """One training, or one measurement of the time of both blocks.

    Args:
        part: loss trains; step time takes no other argument but the seed.
        block: of the decoder.
        optimizer: AdamW or LAMB; both warm up, decay in a cosine, and leave biases and norms alone.
        growth: factor of the batch of 4 sequences; the sequences of the run are as many, its steps fewer.
        rate: learning rate; None is the tuned one.
        text: what the loss is measured on. The learning rates were tuned on the validation text, which no run learns.
        seed: of the weights and of the sequences' order.
    """
    if part == "step time":
        return StepTime(seed)
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
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return {f"parallel per serial, batch x {growth}": self.ratio(growth) for growth in (1, 4)}
        finally:
            torch.set_num_threads(threads)

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


def bars(table: Table) -> list[Bar]:
    base = table.mean("serial, AdamW", "loss")
    block = table.mean("parallel, AdamW", "loss") / base - 1
    large = table.mean("serial, LAMB, batch x 4", "loss") / base - 1
    plain = table.mean("serial, AdamW, batch x 4", "loss") / base - 1
    slower = max(table.mean("step time", f"parallel per serial, batch x {growth}") for growth in (1, 4))
    return [
        Bar("(c) loss of the parallel block at most 2 % above the serial block's, AdamW", block, block <= 0.02),
        Bar(
            f"(c) loss of LAMB with 4 times the batch at most 2 % above AdamW's with as many characters, serial (AdamW "
            f"with that batch: {plain:+.1%})",
            large,
            large <= 0.02,
        ),
        Bar("(c) step time of the parallel block at most the serial block's, both batches", slower, slower <= 1),
    ]
