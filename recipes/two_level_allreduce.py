"""All-reduce in two levels against flat ones: four processes as two nodes of two, links between nodes simulated slow.
About 4 minutes on 2 cores for all rows and three seeds."""

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
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cotrain.allreduce.communication import hook
from cotrain.allreduce.fabric import Fabric, Traffic, flat, two_level
from cotrain.allreduce.hierarchical import Hierarchical
from cotrain.errors import CotrainError
from cotrain.run import Bar, Table

SYSTEMS = (57,)
CLAIM = (
    "On 10,000 PCIe A100 the two-level all-reduce gives a performance near DGX-A100's at half the cost and 40 % less "
    "energy (abstract). Figures of its own bandwidth were not at hand."
)
SEEDS = range(3)

Part = Literal["traffic", "time", "digits", "simulated cluster"]
NODES = [[0, 1], [2, 3]]
LATENCY = 0.02  # seconds a message between nodes is late, simulated: well above what two loaded cores add by themselves
TWO_LEVEL: dict[str, Any] = {}
FLAT: dict[str, Any] = {"local_size": 1, "outer": "ring"}  # one ring over all ranks in good order, by the same code


def rows(full: bool = False) -> dict[str, dict]:
    return {part: {"part": part} for part in ("traffic", "time", "digits", "simulated cluster")}


def recipe(part: Part = "traffic", seed: int = 0, full: bool = False) -> "FourRanks | Cluster":
    """One part of the comparison.

    Args:
        part: bytes and equality; step times; a training by both wires; or a larger cluster, simulated.
        seed: of gradients, weights and the split of the data.
        full: more steps and blocks.
    """
    return Cluster() if part == "simulated cluster" else FourRanks(part, seed, full)


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
    """Simulated: 16 nodes of 8 ranks at 10 microseconds and 25 GB/s, ranks on links of 25 GB/s and 1 microsecond."""

    def measure(self) -> dict[str, float]:
        nodes = [list(range(8 * node, 8 * node + 8)) for node in range(16)]
        fabric = Fabric(nodes, latency=1e-5, bandwidth=25e9, local_latency=1e-6, local_bandwidth=25e9)
        ranks = range(128)
        scattered = [rank for place in range(8) for rank in range(place, 128, 8)]
        numbers = {}
        for name, size in (("64 KiB", 1 << 16), ("64 MiB", 1 << 26)):
            chunks = max(1, size >> 20)
            two = fabric.run(two_level(nodes, size, chunks=chunks)).seconds
            for other, plan in (
                ("ring", flat(ranks, size)),
                ("scattered ring", flat(scattered, size)),
                ("tree", flat(ranks, size, "tree")),
                ("two-level ring", two_level(nodes, size, "ring", chunks)),
            ):
                numbers[f"{name}: {other} / two-level tree"] = fabric.run(plan).seconds / two
        return numbers


def traffic(seed: int, full: bool) -> dict[str, float]:
    """Equality with the flat sum, and bytes between nodes by bytes reduced."""
    generator = torch.Generator().manual_seed(4 * seed + dist.get_rank())
    unequal, off, elements = 0, 0, 4 * 12_345
    ways = {
        "two-level trees": TWO_LEVEL,
        "two-level ring": {"outer": "ring"},
        "two-level bf16": {"wire": "bf16"},
        "flat ring": FLAT,
    }
    plans = {
        "two-level trees": two_level(NODES, 4 * elements),
        "two-level ring": two_level(NODES, 4 * elements, "ring"),
        "two-level bf16": two_level(NODES, 2 * elements),
        "flat ring": flat(range(4), 4 * elements),
    }
    numbers: dict[str, float] = {}
    for name, settings in ways.items():
        with Hierarchical(**settings) as state:
            limit = 32 if "bf16" in name else 1000  # whose sums bf16 holds exactly
            values = torch.randint(-limit, limit, (elements,), generator=generator).float()
            total = values.clone()
            dist.all_reduce(total)
            state.all_reduce(values).wait()
            unequal += int((values != total).sum())
            sent = torch.tensor(float(sum(links.sent_bytes for links in state.links)))
            dist.all_reduce(sent)
            counted = Fabric(NODES).run(plans[name])
            off += abs(int(sent) - between(counted))
            numbers[f"bytes of a node, {name}"] = float(sent) / len(NODES) / (4 * elements)
    flat_numbers = {
        "scattered ring (simulated)": flat([0, 2, 1, 3], 4 * elements),
        "scattered tree (simulated)": flat([0, 2, 1, 3], 4 * elements, "tree"),
    }
    for name, plan in flat_numbers.items():
        numbers[f"bytes of a node, {name}"] = between(Fabric(NODES).run(plan)) / len(NODES) / (4 * elements)
    late = Fabric(NODES, latency=1.0)
    for name in ("two-level trees", "flat ring"):
        played = late.run(plans[name])
        numbers[f"latencies in a row, {name}"] = played.seconds
        numbers[f"bytes out of a rank, {name}"] = played.rank_out[0] / (4 * elements)
    failed = torch.tensor([float(unequal), float(off)])
    dist.all_reduce(failed)
    return {"unequal elements": float(failed[0]), "bytes off": float(failed[1]), **numbers}


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
            numbers[f"{size} buckets, late links: flat ring / two-level"] = seconds["flat"] / seconds["two"]
        here = {name: stack.enter_context(Hierarchical(**way)) for name, way in (("flat", FLAT), ("two", TWO_LEVEL))}
        for size, length in (("32 KiB", 1 << 13), ("8 MiB", 1 << 21)):
            values = torch.randn(length)
            calls: dict[str, Callable[[], object]] = {
                "gloo": lambda values=values: dist.all_reduce(values.mul_(0.1)),
                **{
                    name: lambda state=state, values=values: state.all_reduce(values.mul_(0.1)).wait()
                    for name, state in here.items()
                },
            }
            seconds = take_turns(calls, blocks, 4)
            for other, name in (("gloo", "torch's gloo"), ("flat", "flat ring")):
                numbers[f"{size}, no latency: {name} / two-level"] = seconds[other] / seconds["two"]
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
    for name, settings in (("flat ring", FLAT), ("fp32", TWO_LEVEL), ("bf16", {"wire": "bf16"})):
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
    for name in ("flat ring", "bf16"):
        gap = (curves[name] - curves["fp32"]).abs() / curves["fp32"]
        numbers[f"largest gap of the curve to fp32, {name}"] = float(gap.max())
    return {"last loss, fp32": float(curves["fp32"][-1]), **numbers}


def bars(table: Table) -> list[Bar]:
    unequal = sum(table.values("traffic", "unequal elements"))
    off = sum(table.values("traffic", "bytes off"))
    small = table.mean("time", "small buckets, late links: flat ring / two-level")
    large = table.mean("time", "large buckets, late links: flat ring / two-level")
    gap = max(table.values("digits", "largest gap of the curve to fp32, bf16"))
    gloo = [table.mean("time", f"{size}, no latency: torch's gloo / two-level") for size in ("32 KiB", "8 MiB")]
    in_row = [table.mean("traffic", f"latencies in a row, {way}") for way in ("flat ring", "two-level trees")]
    return [
        Bar("integer gradients equal to the flat sum: elements that differ", value=unequal, held=unequal == 0),
        Bar("bytes between nodes as counted: bytes off", value=off, held=off == 0),
        Bar(
            f"small buckets, {LATENCY * 1000:.0f} ms simulated latency: step >= 1.3 times faster than with a flat ring "
            f"in good order (it waits for {in_row[0]:.0f} latencies in a row, two levels for {in_row[1]:.0f})",
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
