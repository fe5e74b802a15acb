"""Looks at the machines before a long run, and names the rank that is unlike the others.

Started by a launcher, every rank measures and rank 0 shows. Started alone, it starts two ranks on this machine. What
it needs of torch is imported where it is used.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from cotrain import show
from cotrain.errors import CotrainError, InputError
from cotrain.watch.outliers import SCORE, scores, typical

Facts = Mapping[str, Any]

RANKS = 2  # started here
PATIENCE = 60  # seconds for all ranks to come
GIB = 1 << 30


def run(folder: Path, as_json: bool = False) -> None:
    """Measure, compare and print; under a launcher only rank 0 prints.

    Raises:
        InputError: the folder does not exist.
        CotrainError: not all ranks came, or one failed.
    """
    begun = time.monotonic()
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    if alone and not folder.is_dir():
        raise InputError(f"There is no folder {folder}; --folder is one where the run will write.")
    ranks = _start_here(folder) if alone else _join(folder)
    if ranks is None:
        return
    found = findings(ranks)
    if as_json:
        seconds = time.monotonic() - begun
        print(json.dumps({"started_here": alone, "seconds": seconds, "ranks": ranks, "findings": found}, indent=1))
        return
    if alone:
        show.line(f"Started alone: {RANKS} ranks were started here, joined by loopback.")
    show.table("Ranks", [row(rank) for rank in ranks])
    if len(set(map(str, (rank["versions"] for rank in ranks)))) == 1:
        show.line("All ranks: " + ", ".join(f"{name} {version}" for name, version in ranks[0]["versions"].items()))
    for sentence in found or ["Nothing odd was found."]:
        show.line(sentence)


def _join(folder: Path, store: Any = None) -> list[Facts] | None:
    """The facts of all ranks on rank 0, None elsewhere; joins them first, and leaves them as they were."""
    import torch
    import torch.distributed as dist

    from cotrain.watch.checks import rank_facts

    joined = dist.is_initialized()
    if not joined:
        at = {}
        if store is not None:
            at = {"store": store, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
        enough = torch.cuda.device_count() > int(os.environ.get("LOCAL_RANK", 0))
        backend = "nccl" if enough and store is None else "gloo"
        try:
            dist.init_process_group(backend, timeout=timedelta(seconds=PATIENCE), **at)
        except (RuntimeError, ValueError) as error:  # what torch raises when ranks do not come or variables are missing
            raise CotrainError(f"The ranks could not be joined within {PATIENCE} s: {error}") from error
    try:
        ranks: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
        dist.gather_object(rank_facts(folder), ranks)
    except RuntimeError as error:
        raise CotrainError(f"A rank was lost while measuring: {error}") from error
    finally:
        if not joined:
            dist.destroy_process_group()
    return ranks


def _start_here(folder: Path) -> list[Facts]:
    """The facts of ranks that are started on this machine for the purpose."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // RANKS)), **os.environ, "WORLD_SIZE": str(RANKS)}
    if sys.platform == "linux":
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    with tempfile.TemporaryDirectory() as meeting:
        command = [sys.executable, "-m", "cotrain.doctor", str(folder), str(Path(meeting) / "store")]
        started = [
            subprocess.Popen(
                command,
                env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(RANKS)
        ]
        try:
            said = [process.communicate(timeout=2 * PATIENCE) for process in started]
        except subprocess.TimeoutExpired as error:
            raise CotrainError(f"The {RANKS} ranks started here gave no answer in {2 * PATIENCE} s.") from error
        finally:
            for process in started:
                process.kill()
                process.wait()
    for rank, (process, (_, errors)) in enumerate(zip(started, said)):
        if process.returncode != 0:
            last = (errors.strip().splitlines() or ["no message"])[-1]
            raise CotrainError(f"Rank {rank}, started here, ended with exit code {process.returncode}: {last}")
    return json.loads(said[0][0].splitlines()[-1])


def row(facts: Facts) -> dict[str, Any]:
    """A rank as a line of the table."""
    broken = facts.get("disk_error")
    return {
        "rank": facts["rank"],
        "host": facts["host"],
        "device": facts["device"],
        "products": f"{facts['products_flops'] / 1e9:.1f} GFLOP/s",
        "all-reduce": f"{facts['all_reduce_bytes'] / 1e9:.3g} GB/s",
        "latency": f"{facts['all_reduce_latency_s'] * 1e6:.0f} us",
        "disk write": "none" if broken else f"{facts['disk_write_bytes'] / 1e6:.0f} MB/s",
        "disk read": "none" if broken else f"{facts['disk_read_bytes'] / 1e6:.0f} MB/s",
        "disk free": "" if broken else f"{facts['disk_free_bytes'] / GIB:.3g} GiB",
        "memory free": f"{facts['memory_free_bytes'] / GIB:.3g} GiB" if "memory_free_bytes" in facts else "",
        "clock": f"{facts['wall_moved_s'] * 1e3:+.1f} ms",
    }


def findings(ranks: Sequence[Facts]) -> list[str]:
    """A sentence for everything odd, the rank by name; empty if there is nothing."""
    found = []
    for device in dict.fromkeys(facts["device"] for facts in ranks):
        alike = [facts for facts in ranks if facts["device"] == device]
        found += _slower(alike, "products_flops", "multiplies matrices", 1.15, 1.5)
    for key, what in (("disk_write_bytes", "writes to the folder"), ("disk_read_bytes", "reads from the folder")):
        # Ranks of one host share its disk, in no fair way: the best of each host are compared.
        best: dict[str, Facts] = {}
        for facts in sorted((facts for facts in ranks if key in facts), key=lambda facts: facts[key]):
            best[facts["host"]] = facts
        found += _slower(list(best.values()), key, what, 2.0, 3.0)
    for facts in ranks:
        name = f"Rank {facts['rank']} ({facts['host']})"
        if error := facts.get("disk_error"):
            found.append(f"{name} cannot write to the folder: {error}.")
        elif facts["disk_free_bytes"] < GIB:
            found.append(f"{name} has less than 1 GiB free on the disk of the folder.")
        if facts.get("memory_free_bytes", GIB) < GIB:
            found.append(f"{name} has less than 1 GiB of memory free.")
        if abs(facts["wall_moved_s"]) > 0.05:
            found.append(
                f"{name} has a wall clock that went {facts['wall_moved_s']:+.2f} s against its monotonic clock in "
                f"{facts['between_barriers_s']:.0f} s: it is being set."
            )
    return [*found, *_clocks(ranks), *_versions(ranks)]


def _slower(ranks: Sequence[Facts], key: str, what: str, ratio: float, ratio_of_two: float) -> list[str]:
    """Ranks whose rate stands out below; of two ranks, one that is far below the other."""
    times = [1 / facts[key] for facts in ranks]
    if len(times) < 2:
        return []
    two, middle = len(times) == 2, typical(times)
    return [
        f"Rank {facts['rank']} ({facts['host']}) {what} {time / middle:.1f} times slower than "
        f"{'the other' if two else 'the median rank'}."
        for facts, time, score in zip(ranks, times, scores(times, [0.0] * len(times)))
        if time > (ratio_of_two if two else ratio) * middle and score > SCORE
    ]


def _clocks(ranks: Sequence[Facts]) -> list[str]:
    """Ranks on which another time passed between the same two barriers. Only durations are compared."""
    middle = median(facts["between_barriers_s"] for facts in ranks)
    return [
        f"The clock of rank {facts['rank']} ({facts['host']}) counted {facts['between_barriers_s']:.2f} s where the "
        f"median rank counted {middle:.2f} s."
        for facts in ranks
        if abs(facts["between_barriers_s"] - middle) > 0.1 + 0.01 * middle
    ]


def _versions(ranks: Sequence[Facts]) -> list[str]:
    found = []
    for name in dict.fromkeys(name for facts in ranks for name in facts["versions"]):
        holders: dict[str, list[int]] = {}
        for facts in ranks:
            holders.setdefault(facts["versions"].get(name, "none"), []).append(facts["rank"])
        if len(holders) > 1:
            most_first = sorted(holders.items(), key=lambda entry: -len(entry[1]))
            each = ", ".join(f"{version} on rank {' '.join(map(str, where))}" for version, where in most_first)
            found.append(f"{name} differs: {each}.")
    return found


def _rank_of_two(folder: str, meeting: str) -> None:
    """What a process started by `_start_here` does."""
    import torch.distributed as dist

    store = dist.FileStore(meeting, RANKS)
    ranks = _join(Path(folder), dist.PrefixStore("doctor", store))
    if ranks is not None:
        print(json.dumps(ranks))


if __name__ == "__main__":
    _rank_of_two(*sys.argv[1:])
