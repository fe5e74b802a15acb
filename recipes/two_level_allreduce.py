"""All-reduce in two levels against flat ones: four processes as two nodes of two, links between nodes simulated slow.
About 5 minutes on 2 cores for all rows and three seeds."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cotrain.allreduce.communication import hook
from cotrain.allreduce.fabric import Fabric, Message, Traffic, flat, two_level
from cotrain.allreduce.hierarchical import Hierarchical
from cotrain.errors import CotrainError
from cotrain.run import Bar, Table

SYSTEMS = (57,)
CLAIM = (
    "On 10,000 PCIe A100 the two-level all-reduce gives a performance near DGX-A100's at half the cost and 40 % less "
    "energy (abstract). Figures of its own bandwidth were not at hand."
)
SEEDS = range(3)

Part = Literal["traffic", "time", "digits", "simulated"]
Way = Literal["two-level trees", "two-level ring", "flat ring", "scattered ring", "one tree"]
NODES = [[0, 1], [2, 3]]
LATENCY = 0.02  # seconds a message between nodes is late, simulated: well above what two loaded cores add by themselves
TWO_LEVEL: dict[str, Any] = {}
FLAT: dict[str, Any] = {"local_size": 1, "outer": "ring"}  # one ring over all ranks in good order, by the same code


def rows(full: bool = False) -> dict[str, dict]:
    table: dict[str, dict] = {part: {"part": part} for part in ("traffic", "time", "digits")}
    return table | {f"simulated, {way}": {"part": "simulated", "way": way} for way in get_args(Way)}


def recipe(part: Part = "traffic", way: Way = "two-level trees", seed: int = 0, full: bool = False):
    """One part of the comparison.

    Args:
        part: equality and bytes, step times, or a training, by four processes; or a larger cluster, simulated.
        way: how the simulated cluster reduces.
        seed: of gradients, weights and the split of the data.
        full: more steps and blocks.
    """
    return Cluster(way) if part == "simulated" else FourRanks(part, seed, full)


@dataclass(frozen=True)
class FourRanks:
    """A part that four processes run."""

    part: str
    seed: int
    full: bool

    def measure(self) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "numbers.json"
            local = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
            launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=4", *local]
            arguments = [__file__, self.part, str(self.seed), str(int(self.full)), str(out)]
            where = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
            ours = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": where}
            done = subprocess.run([*launch, *arguments], env={**os.environ, **ours}, capture_output=True, text=True)
            if done.returncode:
                raise CotrainError(f"The ranks failed:\n{done.stderr[-4000:]}")
            return json.loads(out.read_text())


@dataclass(frozen=True)
class Cluster:
    """Simulated: 16 nodes of 8 ranks at 10 microseconds and 25 GB/s, ranks on links of 1 microsecond and 25 GB/s."""

    way: Way

    def measure(self) -> dict[str, float]:
        nodes = [list(range(8 * node, 8 * node + 8)) for node in range(16)]
        size = 128 * 8192
        counted = Fabric(nodes, latency=1.0).run(plan(self.way, nodes, size, 1))
        fabric = Fabric(nodes, latency=1e-5, bandwidth=25e9, local_latency=1e-6, local_bandwidth=25e9)
        small, large = (
            fabric.run(plan(self.way, nodes, size, max(1, size >> 20))).seconds for size in (1 << 16, 1 << 26)
        )
        return {
            "bytes of a node": between(counted) / len(nodes) / size,
            "bytes out of a rank": max(counted.rank_out.values()) / size,
            "latencies in a row": counted.seconds,
            "ms, 64 KiB": 1e3 * small,
            "ms, 64 MiB": 1e3 * large,
        }


def plan(way: str, nodes: list[list[int]], size: int, chunks: int) -> list[Message]:
    ranks = [rank for node in nodes for rank in node]
    scattered = [rank for place in zip(*nodes) for rank in place]  # the next rank is on the next node
    return {
        "two-level trees": lambda: two_level(nodes, size, "tree", chunks),
        "two-level ring": lambda: two_level(nodes, size, "ring", chunks),
        "flat ring": lambda: flat(ranks, size),
        "scattered ring": lambda: flat(scattered, size),
        "one tree": lambda: flat(ranks, size, "tree"),
    }[way]()


def traffic(seed: int, full: bool) -> dict[str, float]:
    """Equality with the flat sum, and bytes between nodes against the plans."""
    generator = torch.Generator().manual_seed(4 * seed + dist.get_rank())
    wrong, elements = torch.zeros(2), 4 * 12_345
    ways = {
        "two-level trees": [TWO_LEVEL, {"wire": "bf16"}],
        "two-level ring": [{"outer": "ring"}, {"outer": "ring", "wire": "bf16"}],
        "flat ring": [FLAT],
    }
    for way, settings in ((way, settings) for way, several in ways.items() for settings in several):
        with Hierarchical(**settings) as state:
            limit, width = (32, 2) if "wire" in settings else (1000, 4)  # bf16 holds sums of small integers exactly
            values = torch.randint(-limit, limit, (elements,), generator=generator).float()
            total = values.clone()
            dist.all_reduce(total)
            state.all_reduce(values).wait()
            sent = torch.tensor(sum(links.sent_bytes for links in state.links))
            dist.all_reduce(sent)
            counted = between(Fabric(NODES).run(plan(way, NODES, width * elements, 1)))
            wrong += torch.tensor([(values != total).sum(), abs(int(sent) - counted) / 4])
    dist.all_reduce(wrong)
    return {"unequal elements": float(wrong[0]), "bytes off": float(wrong[1])}


def between(played: Traffic) -> int:
    return sum(played.bytes_between.values())


def step_times(seed: int, full: bool) -> dict[str, float]:
    """Medians over blocks that take turns, each the time of a training step or of an all-reduce."""
    torch.manual_seed(seed)
    numbers = {}
    blocks = 15 if full else 7
    with ExitStack() as stack:
        states = {
            name: stack.enter_context(Hierarchical(**settings, simulated_latency=LATENCY))
            for name, settings in (("flat", FLAT), ("two", TWO_LEVEL))
        }
        for size, width in (("small", 64), ("large", 1400)):
            steps = {name: training_step(state, width) for name, state in states.items()}
            seconds = take_turns(steps, blocks, 4)
            numbers[f"ring / two-level, {size}"] = seconds["flat"] / seconds["two"]
        here = stack.enter_context(Hierarchical())
        for size, length in (("32 KiB", 1 << 13), ("8 MiB", 1 << 21)):
            values = torch.randn(length)
            calls: dict[str, Callable[[], object]] = {
                "gloo": lambda values=values: dist.all_reduce(values.mul_(0.1)),
                "two": lambda values=values: here.all_reduce(values.mul_(0.1)).wait(),
            }
            seconds = take_turns(calls, blocks, 4)
            numbers[f"gloo / two-level, {size}"] = seconds["gloo"] / seconds["two"]
    return numbers


def training_step(state: Hierarchical, width: int) -> Callable[[], object]:
    model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    model = DistributedDataParallel(model, bucket_cap_mb=25)
    model.register_comm_hook(state, hook)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(16, 64), torch.randint(0, 10, (16,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    for _ in range(2):  # DDP orders its buckets after the first step
        step()
    return step


def take_turns(calls: dict[str, Callable[[], object]], blocks: int, times: int) -> dict[str, float]:
    """Median over blocks of the seconds a call takes on this rank, all ranks starting a block together."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(blocks):
        for name, call in calls.items():
            dist.barrier()
            began = time.perf_counter()
            for _ in range(times):
                call()
            seconds[name].append((time.perf_counter() - began) / times)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def digits(seed: int, full: bool) -> dict[str, float]:
    """Two layers on handwritten digits by four ranks, 16 rows each a step: the loss on all training rows by epoch."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, test_size=360, random_state=seed, stratify=y)
    x, y = torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train)
    x_test, y_test = torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test)
    curves, numbers = {}, {}
    for name, settings in (("fp32", TWO_LEVEL), ("bf16", {"wire": "bf16"})):
        torch.manual_seed(seed)
        model = DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)))
        with Hierarchical(**settings) as state:
            model.register_comm_hook(state, hook)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
            order = torch.Generator().manual_seed(seed)
            curve = []
            for _ in range(60 if full else 20):
                for batch in torch.randperm(len(x), generator=order)[: len(x) // 64 * 64].split(64):
                    mine = batch[dist.get_rank() :: 4]
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x[mine]), y[mine]).backward()
                    optimizer.step()
                with torch.no_grad():
                    curve.append(float(nn.functional.cross_entropy(model.module(x), y)))
        curves[name] = torch.tensor(curve)
        with torch.no_grad():
            numbers[f"accuracy, {name}"] = float((model.module(x_test).argmax(1) == y_test).float().mean())
    gap = (curves["bf16"] - curves["fp32"]).abs() / curves["fp32"]
    return {**numbers, "gap of the curve": float(gap.max())}


def bars(table: Table) -> list[Bar]:
    unequal = sum(table.values("traffic", "unequal elements"))
    off = sum(table.values("traffic", "bytes off"))
    small, large = (table.mean("time", f"ring / two-level, {size}") for size in ("small", "large"))
    gloo = [table.mean("time", f"gloo / two-level, {size}") for size in ("32 KiB", "8 MiB")]
    gap = max(table.values("digits", "gap of the curve"))
    late = Fabric(NODES, latency=1.0)
    ring, two = (late.run(plan(way, NODES, 4096, 1)) for way in ("flat ring", "two-level trees"))
    share = [between(traffic) / len(NODES) / 4096 for traffic in (ring, two)]
    return [
        Bar("integer gradients equal to the flat sum: elements that differ", value=unequal, held=unequal == 0),
        Bar(
            f"bytes between nodes as counted (a node sends {share[1]:.1f} times the gradient by two levels, "
            f"{share[0]:.1f} times by a flat ring in good order): bytes off",
            value=off,
            held=off == 0,
        ),
        Bar(
            f"small buckets, {LATENCY * 1000:.0f} ms simulated latency: step >= 1.3 times faster than with a flat ring "
            f"in good order (it waits for {ring.seconds:.0f} latencies in a row, two levels for {two.seconds:.0f})",
            value=small,
            held=small >= 1.3,
        ),
        Bar(
            "large buckets, the same latency: step no more than 5 % slower than with the ring "
            f"(without latency torch's own gloo takes {gloo[0]:.2f} of its time for 32 KiB, {gloo[1]:.2f} for 8 MiB)",
            value=large,
            held=large >= 1 / 1.05,
        ),
        Bar("bf16 on the wire: training curve within 1 % of fp32, worst epoch and seed", value=gap, held=gap <= 0.01),
    ]


def main() -> None:
    """What each of the four processes runs."""
    part, seed, full, out = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    os.environ["COTRAIN_NODE"] = f"node {dist.get_rank() // 2}"
    parts = {"traffic": traffic, "time": step_times, "digits": digits}
    numbers = parts[part](int(seed), bool(int(full)))
    if dist.get_rank() == 0:
        Path(out).write_text(json.dumps(numbers))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
