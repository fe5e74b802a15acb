"""What eight learners of one architecture cost when they run as one (`fit(stack=True)`), against loops by hand.

    python benchmarks/stacked.py [--blocks 9] [--only "mlp, batches of 16"] [--device cuda] [--record]

Independent learners are compared with eight that are trained one after another, each with batches of its own drawing,
and mutual learning with the shortest loop that trains eight together. All programs of a case run in one process on one
thread, in turn. Beside the times stand the calls of aten in a step, which no noise touches, and the memory of tensors
at its highest. "layers" is what `fit` does with these nets, "vmap" what it does with nets whose layers it does not
know. After the timing all nets must have learned the same. --record writes results/benchmarks/stacked.json after
each case (stacked_gpu.json on a GPU), and keeps what is there of other cases from the same commit.
"""

import argparse
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _record
import torch
import torch.nn.functional as F
from _timing import Calls, interleaved, waited_for
from torch import Tensor, nn, optim
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cotrain import recipe, show
from cotrain.engine import fit, prepare, update
from cotrain.learner import Learner
from cotrain.method import Batches, Learners, Losses, Memory, Method
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.nets.wide_resnet import WideResNet
from cotrain.stacking import stacked, worthwhile
from cotrain.stream import Rows

LEARNERS, CLASSES = 8, 10
device = "cpu"  # --device sets another
RUN = 1000  # steps of the run over which the measurement of "auto" is spread
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "AdamW": partial(optim.AdamW, lr=1e-3),
    "AdamW fused": partial(optim.AdamW, lr=1e-3, fused=True),
    "SGD": partial(optim.SGD, lr=0.01),
}


@dataclass(frozen=True)
class Independent(Method):
    """Learners that have nothing to do with each other."""

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        return {name: F.cross_entropy(learner(x), y) for name, learner in learners.items()}


class Whole(nn.Module):
    """A net of a kind that is not known; N of it run through vmap."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def small_convolutions() -> nn.Module:
    # Without biases before the batch normalization: they have no gradient but rounding, which AdamW makes steps of.
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 7 * 7, CLASSES)),
    )


def large_convolutions() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(64 * 8 * 8, CLASSES)),
    )


@dataclass(frozen=True)
class Case:
    net: Callable[[], nn.Module]
    shape: tuple[int, ...]  # of one example
    batch: int
    method: Method
    optimizer: str
    steps: int  # in a block
    bar: float | None = None  # most that it may cost, as a share of the loop by hand; None: shown, not judged

    @property
    def name(self) -> str:
        net = self.net.__name__.replace("_", " ")
        return f"{net}, batches of {self.batch}, {self.optimizer}, {type(self.method).__name__}"


def wide_resnet() -> nn.Module:
    return WideResNet(10, 1, 1, CLASSES, stem_stride=2)


CASES = [
    *(Case(mlp, (64,), b, Independent(), "AdamW", 100, bar=0.4) for b in (16, 32, 64)),
    *(Case(mlp, (64,), b, Independent(), o, 100) for o in ("AdamW fused", "SGD") for b in (16, 64)),
    *(Case(mlp, (64,), b, MutualLearning(), "AdamW", 50) for b in (16, 32, 64)),
    *(Case(small_convolutions, (1, 28, 28), b, Independent(), "AdamW", 5) for b in (16, 64)),
    Case(large_convolutions, (3, 32, 32), 32, Independent(), "AdamW", 4),
    Case(wide_resnet, (1, 28, 28), 16, Independent(), "AdamW", 4),
]


@dataclass
class Program:
    run: Callable[[int], None]
    nets: list[nn.Module]
    optimizers: Callable[[], list[optim.Optimizer]]
    step: Callable[[], None]  # one step, within `inside`
    inside: Callable[[], AbstractContextManager[Any]] = nullcontext


def nets(case: Case) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [case.net().to(device) for _ in range(LEARNERS)]


def rows(case: Case) -> Rows:
    rng = torch.Generator().manual_seed(0)
    x, y = torch.randn(1024, *case.shape, generator=rng), torch.randint(CLASSES, (1024,), generator=rng)
    return Rows({"x": x.to(device), "y": y.to(device)}, batch=case.batch)


def one_after_another(case: Case) -> Program:
    made = nets(case)
    optimizers = [OPTIMIZERS[case.optimizer](net.parameters()) for net in made]
    streams = [rows(case) for _ in made]

    def run(steps: int) -> None:
        for net, optimizer, stream in zip(made, optimizers, streams, strict=True):
            for _ in range(steps):
                batch = next(stream)
                optimizer.zero_grad()
                F.cross_entropy(net(batch["x"]), batch["y"]).backward()
                optimizer.step()

    return Program(run, made, lambda: optimizers, lambda: run(1))


def mutual_by_hand(case: Case) -> Program:
    made = nets(case)
    optimizers = [OPTIMIZERS[case.optimizer](net.parameters()) for net in made]
    stream = rows(case)

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = next(stream)
            outs = [net(batch["x"]) for net in made]
            said = [out.detach().softmax(-1) for out in outs]
            losses = []
            for n, out in enumerate(outs):
                others = torch.stack(said[:n] + said[n + 1 :])
                agreement = F.kl_div(out.log_softmax(-1), others, reduction="sum") / (len(others) * len(out))
                losses.append(F.cross_entropy(out, batch["y"]) + agreement)
            for optimizer in optimizers:
                optimizer.zero_grad()
            sum(losses[1:], losses[0]).backward()
            for optimizer in optimizers:
                optimizer.step()

    return Program(run, made, lambda: optimizers, lambda: run(1))


def by_engine(case: Case, stack: bool, wrapped: bool = False) -> Program:
    made = nets(case)
    learners = learners_of(case, [Whole(net) for net in made] if wrapped else made)
    streams = {"labelled": rows(case)}

    def run(steps: int) -> None:
        fit(case.method, learners, streams, steps, device=device, stack=stack)

    def step() -> None:
        batch = {"labelled": next(streams["labelled"])}
        update(learners, case.method.step(learners, batch, {"step": 0}))

    optimizers = lambda: [lr.optimizer for lr in learners.values() if lr.optimizer is not None]
    return Program(run, made, optimizers, step, lambda: stacked(learners, stack))


def learners_of(case: Case, made: list[nn.Module]) -> dict[str, Learner]:
    return {f"learner {n}": Learner(net, OPTIMIZERS[case.optimizer]) for n, net in enumerate(made)}


MAKERS: dict[str, Callable[[Case], Program]] = {
    "by hand": lambda case: (one_after_another if isinstance(case.method, Independent) else mutual_by_hand)(case),
    "fit": lambda case: by_engine(case, stack=False),
    "stacked, layers": lambda case: by_engine(case, stack=True),
    "stacked, vmap": lambda case: by_engine(case, stack=True, wrapped=True),
}


def calls_a_step(program: Program) -> int:
    """Calls of aten in one step: what three steps take more than two."""
    numbers = []
    for steps in (2, 3):
        with Calls() as calls:
            program.run(steps)
        numbers.append(calls.number)
    return numbers[1] - numbers[0]


class Live(TorchDispatchMode):
    """Bytes of the tensors that were made within it and still live, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage())._cdata not in self.seen | given:
                self.seen.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return out

    def _gone(self, storage: int, size: int) -> None:
        self.seen.discard(storage)
        self.now -= size


def memory(program: Program) -> dict[str, int]:
    """Bytes of tensors: what is held between steps, and the most that a step holds."""
    with program.inside():
        program.step()
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _kept(program)}
        between = sum(held.values())
        with Live() as live:
            program.step()
    return {"between steps": between, "in a step": between + live.most}


def _kept(program: Program) -> Iterator[Tensor]:
    for net in program.nets:
        yield from net.buffers()
        for parameter in net.parameters():
            yield parameter.detach()
            if parameter.grad is not None:
                yield parameter.grad
    for optimizer in program.optimizers():
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


def auto(case: Case, times: dict[str, list[float]]) -> dict[str, Any]:
    """What "auto" picks, and what picking and running it costs against the better way, over a run of RUN steps."""
    learners = learners_of(case, nets(case))
    prepare(learners, device)
    batch = {"labelled": next(rows(case))}

    def step(copies: Learners) -> None:
        update(copies, case.method.step(copies, batch, {"step": 0}))

    start = time.process_time()
    pick = worthwhile(learners, step, RUN)
    spent = time.process_time() - start
    least = {True: min(times["stacked, layers"]), False: min(times["fit"])}
    return {"pick": pick, "seconds to pick": spent, "cost": (spent / RUN + least[bool(pick)]) / min(least.values())}


def measure(case: Case, blocks: int) -> dict[str, Any]:
    programs = {name: make(case) for name, make in MAKERS.items()}
    timed = {name: program.run if device == "cpu" else waited_for(program.run) for name, program in programs.items()}
    # On a GPU a step of a wide net takes milliseconds, and the start of a run must not count for much.
    times = interleaved(timed, case.steps if device == "cpu" else max(15, case.steps), blocks)
    expected = [p for net in programs["by hand"].nets for p in net.parameters()]
    for name, program in programs.items():
        for one, two in zip(expected, (p for net in program.nets for p in net.parameters()), strict=True):
            # Loosely: hundreds of steps of AdamW in fp32 carry rounding far. The tests hold them to 1e-5.
            assert (one - two).abs().mean() < 0.1 * one.abs().mean() + 1e-3, f"{name} learned something else"
    hand, unstacked = times["by hand"], times["fit"]
    found: dict[str, Any] = {}
    for name, program in programs.items():
        found[name] = {
            "least ms": 1e3 * min(times[name]),
            "median ms": 1e3 * median(times[name]),
            "of by hand, least": min(times[name]) / min(hand),
            "of by hand, median": median(times[name]) / median(hand),
            "of fit, least": min(times[name]) / min(unstacked),
            "of fit, median": median(times[name]) / median(unstacked),
            "aten calls": calls_a_step(program),
            "bytes": memory(program),
        }
    found["auto"] = auto(case, times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    global device
    device = given.device
    torch.backends.cudnn.allow_tf32 = False  # so that all programs can be held to the same weights
    gpu = device == "cuda"
    result: dict[str, Any] = {"commit": recipe.commit(), "learners": LEARNERS, "cases": {}}
    before = _record.read("stacked", gpu)
    if before.get("commit") == result["commit"]:
        result["cases"] = before["cases"]
    for case in CASES:
        if not case.name.startswith(given.only):
            continue
        found = measure(case, given.blocks)
        shown = [
            {
                "program": name,
                "ms a step, least": f"{row['least ms']:.2f}",
                "of by hand, least": f"{row['of by hand, least']:.2f}",
                "median": f"{row['of by hand, median']:.2f}",
                "of fit, least": f"{row['of fit, least']:.2f}",
                "aten calls": row["aten calls"],
                "MB in a step": f"{row['bytes']['in a step'] / 1e6:.2f}",
            }
            for name, row in found.items()
            if name != "auto"
        ]
        show.table(case.name, shown)
        chosen = found["auto"]
        found["auto"]["held"] = chosen["cost"] <= 1.05
        show.line(f'"auto" picks {chosen["pick"]!r} and costs {chosen["cost"]:.3f} of the better way over {RUN} steps.')
        if case.bar is not None:
            share = found["stacked, layers"]["of by hand, least"], found["stacked, layers"]["of by hand, median"]
            found["bar"] = {"at most": case.bar, "least": share[0], "median": share[1], "held": max(share) <= case.bar}
            show.line(f"At most {case.bar}: {'held' if found['bar']['held'] else 'did not hold'}")
        result["cases"][case.name] = {"blocks": given.blocks, **found}
        if given.record:
            _record.write("stacked", result, gpu)


if __name__ == "__main__":
    main()
