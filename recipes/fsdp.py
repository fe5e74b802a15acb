"""Two learners that teach each other, on 1 to 4 ranks of this machine: replicated, fully sharded, sharded within pairs.
The losses of one process, and the memory that was planned. Minutes on 2 cores, most of them to start processes."""

import time
import warnings
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn, optim
from torch.distributed.tensor.debug import CommDebugMode

from cotrain.crew import Crew
from cotrain.engine import fit
from cotrain.instruments.memory import state_bytes
from cotrain.instruments.memory_plan import memory_plan
from cotrain.judge import accuracy
from cotrain.learner import Learner
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.recipe import call
from cotrain.report import Report
from cotrain.run import Bar, Table
from cotrain.stream import Once, Rows
from cotrain.units import auto_units, managed

SYSTEMS = (79,)
CLAIM = (
    "A rank of W keeps 1/W of the parameters, gradients and optimizer state and sends 3P(W-1)/W bytes a step for P "
    "bytes of parameters, against 2P(W-1)/W of replicas. The paper reports speeds near those of replicas on GPUs; "
    "speed is not judged here, where ranks are processes on one small machine."
)
SEEDS = range(3)

Placement = Literal["none", "ddp", "fsdp", "hsdp"]
SHARD_GROUP = 2  # ranks that share one copy under hsdp
TEST_ROWS = 357
COLLECTIVES = {
    "all-gathers": "_allgather_base_",
    "reduce-scatters": "_reduce_scatter_base_",
    "all-reduces": "allreduce_",
}


def rows(full: bool = False) -> dict[str, dict]:
    ways = [("ddp", 2), ("fsdp", 2), ("fsdp", 3), ("ddp", 4), ("fsdp", 4), ("hsdp", 4)]
    table = {f"{placement}, {ranks} ranks": {"placement": placement, "ranks": ranks} for placement, ranks in ways}
    return {"one process": {"placement": "none", "ranks": 1}, **table}


def recipe(
    placement: Placement = "fsdp", ranks: int = 2, steps: int | None = None, seed: int = 0, full: bool = False
) -> "Digits":
    """Mutual learning of a large and a small net on scikit-learn's 1797 handwritten digits.

    Args:
        placement: of both learners; "hsdp" shards within pairs of ranks, "none" is one process.
        ranks: processes on this machine; they divide 60, the rows of a batch.
        steps: of training; None: 40, or 200 with `full`.
        full: 10 million parameters instead of 0.7 million.
    """
    steps = (200 if full else 40) if steps is None else steps
    return Digits(placement, ranks, steps, seed, width=1001 if full else 250)


class Digits:
    """A row of the table: one training on some ranks, beside the same training in one process."""

    def __init__(self, placement: Placement, ranks: int, steps: int, seed: int, width: int):
        self.placement, self.ranks = placement, ranks
        self.training = (steps, seed, width)

    def measure(self) -> dict[str, float]:
        alone = in_one_process(*self.training)
        exact_alone = losses_in_one_process(*self.training)
        told, exact, replicas = [alone], exact_alone, alone["losses"]
        if self.placement != "none":
            with Crew(self.ranks, timeout=600) as crew:
                told = crew.run(call, __file__, "train", self.placement, self.ranks, *self.training)
                exact = crew.run(call, __file__, "losses", self.placement, *self.training, True)[0]
                replicas = crew.run(call, __file__, "losses", "ddp", *self.training, False)[0]
        group = {"fsdp": self.ranks, "hsdp": SHARD_GROUP}.get(self.placement, 1)
        return {
            "accuracy": told[0]["accuracy"],
            "apart from ddp": apart(told[0]["losses"], replicas),
            "apart from one process": apart(told[0]["losses"], alone["losses"]),
            "the same in fp64": apart(exact, exact_alone),
            **compare(told, alone, group, padding(group, *self.training[1:])),
        }


@lru_cache
def in_one_process(steps: int, seed: int, width: int) -> dict[str, Any]:
    return train("none", 1, steps, seed, width)


@lru_cache
def losses_in_one_process(steps: int, seed: int, width: int) -> list[float]:
    return losses("none", steps, seed, width, True)


def losses(placement: Placement, steps: int, seed: int, width: int, double: bool) -> list[float]:
    """The learners' losses, a mean over each ten steps; called on every rank."""
    pair = learners(placement, seed, width)
    train_rows, _ = digits()
    if double:
        train_rows = {**train_rows, "x": train_rows["x"].double()}
        for learner in pair.values():
            learner.net.double()
    batches = {"labelled": Rows(train_rows, batch=60, seed=seed)}
    return losses_of(fit(MutualLearning(), pair, batches, steps, seed=seed, device="cpu", log_every=10))


def losses_of(report: Report) -> list[float]:
    return [value for row in report.rows for name, value in row.items() if name.startswith("loss ")]


def apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def train(placement: Placement, ranks: int, steps: int, seed: int, width: int) -> dict[str, Any]:
    """What one rank has to say after its training; called on every rank."""
    pair = learners(placement, seed, width)
    train_rows, test_rows = digits()
    batches = {"labelled": Rows(train_rows, batch=60, seed=seed)}
    rank = torch.distributed.get_rank() if ranks > 1 else 0
    plan = memory_plan(pair, ranks, shard_group=SHARD_GROUP if placement == "hsdp" else None, rank=rank)
    units = {name: auto_units(learner.net) if learner.units else [] for name, learner in pair.items()}
    roots = sum(bool(managed([pair[name].net], found)) for name, found in units.items())
    run = partial(fit, MutualLearning(), pair, batches, seed=seed, device="cpu")
    report = run(steps, log_every=10, judges=[(accuracy("large"), Once(test_rows))])
    planned = {name: ways[placement] for name, ways in plan.learners.items()}
    taken = {name: state_bytes(learner) for name, learner in pair.items()}
    started = time.perf_counter()
    run(20)
    seconds = (time.perf_counter() - started) / 20
    return {
        "losses": losses_of(report),
        "accuracy": report.last["accuracy"],
        "taken": taken,
        "planned": {name: {part: getattr(each, part) for part in taken[name]} for name, each in planned.items()},
        "calls": calls_of(run),
        "units": sum(map(len, units.values())),
        "roots": roots,
        "seconds": seconds,
    }


def learners(placement: Placement, seed: int, width: int) -> dict[str, Learner]:
    """A net of ten blocks, whose last layer is too small for a unit, and one that is a unit as a whole.

    Without kinks: a ReLU whose input is zero but for rounding has its whole gradient or none, so that fp32 runs part by
    chance when the order of a sum changes.
    """
    torch.manual_seed(seed)
    blocks = [nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width), nn.GELU()) for _ in range(10)]
    large = nn.Sequential(nn.Linear(64, width), *blocks, nn.Linear(width, 10))
    small = nn.Sequential(nn.Linear(64, 50), nn.GELU(), nn.Linear(50, 10))
    placed = partial(
        Learner,
        optimizer=partial(optim.AdamW, lr=1e-3),
        placement="auto" if placement == "none" else placement,
        shards=SHARD_GROUP,
    )
    return {"large": placed(large, units="auto"), "small": placed(small)}


def digits() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Rows to train on and to test on; pixels from 0 to 1."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    test, learn = order[:TEST_ROWS], order[TEST_ROWS:]
    return {"x": x[learn], "y": y[learn]}, {"x": x[test], "y": y[test]}


def calls_of(run: Any) -> dict[str, int]:
    """Collectives of one step."""
    with CommDebugMode() as counted, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the counter's own hooks make views of outputs, which torch warns about
        run(1)
    found = {str(call).rsplit(".", 1)[-1]: count for call, count in counted.get_comm_counts().items()}
    return {name: found.get(called, 0) for name, called in COLLECTIVES.items()}


def compare(told: list[dict[str, Any]], alone: dict[str, Any], group: int, padded: float) -> dict[str, float]:
    """Memory and messages of a row; `group` ranks share a copy, `padded` is by how much a rank may exceed its part."""

    def state(one: dict[str, Any], *parts: str) -> int:
        return sum(sum(sizes[part] for part in parts) for sizes in one["taken"].values())

    kept = [state(one, "parameters", "optimizer") for one in told]
    whole = state(alone, "parameters", "optimizer")
    off = [
        abs(one["planned"][name][part] / max(size, 1) - 1)
        for one in told
        for name, sizes in one["taken"].items()
        for part, size in sizes.items()
        if size or one["planned"][name][part]
    ]
    return {
        "state MiB": max(kept) / 2**20,
        "share of a copy": max(kept) / whole,
        "beyond padding": group * max(kept) / whole - 1 - padded,
        "copies off": sum(state(one, "parameters") for one in told) / state(alone, "parameters") - len(told) // group,
        "plan off": max(off),
        **{name: float(count) for name, count in told[0]["calls"].items()},
        "units": told[0]["units"],
        "roots": told[0]["roots"],
        "ms a step": 1000 * max(one["seconds"] for one in told),
    }


def padding(group: int, seed: int, width: int) -> float:
    """How much more than one copy a group keeps if all its ranks keep as many rows as the first, as a share."""
    shapes = [p.shape for one in learners("none", seed, width).values() for p in one.net.parameters()]
    padded = sum(group * -(-shape[0] // group) * shape[1:].numel() for shape in shapes)
    return padded / sum(shape.numel() for shape in shapes) - 1


def bars(table: Table) -> list[Bar]:
    placed = [name for name in rows() if name != "one process"]
    sharded = [name for name in placed if not name.startswith("ddp")]

    def largest(metric: str, names: list[str]) -> float:
        return max(abs(value) for name in names for value in table.values(name, metric))

    from_ddp, exact = largest("apart from ddp", sharded), largest("the same in fp64", placed)
    beyond = largest("beyond padding", sharded)
    off = largest("plan off", ["one process", *placed])
    missing = largest("copies off", placed)
    wrong = 0.0
    for name in sharded:
        units, roots = table.mean(name, "units"), table.mean(name, "roots")
        wrong += abs(table.mean(name, "all-gathers") - 2 * units - roots)
        wrong += abs(table.mean(name, "reduce-scatters") - units - roots)
    return [
        Bar("sharded losses within 1e-6 of those of ddp on as many ranks, fp32", from_ddp, from_ddp <= 1e-6),
        Bar("losses of every placement within 1e-12 of one process, fp64", exact, exact <= 1e-12),
        Bar("of a copy's parameters and optimizer state a rank keeps 1/W +- padding, to 1 %", beyond, beyond <= 0.01),
        Bar("the shards make up whole copies, to the number", missing, missing == 0),
        Bar("planned within 10 % of what each rank keeps, every learner and part", off, off <= 0.1),
        Bar("a unit takes 2 all-gathers and 1 reduce-scatter a step, the net's own 1 and 1", wrong, wrong == 0),
    ]
