"""Ranks for tests: a function called by several processes that are joined by gloo on this machine."""

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
import torch.distributed as dist


class RanksFailed(AssertionError):
    """A rank raised, died or took too long; the message shows which and, where it raised, its traceback."""


def run_ranks(
    function: Callable[..., Any], world_size: int, *args: Any, timeout: float = 60, joined: bool = True
) -> list[Any]:
    """What `function(*args)` returns on each rank, in the ranks' order; all processes have ended by then.

    Each rank is a new process on one thread, with the environment that launchers set (RANK, WORLD_SIZE, ...). The first
    rank that fails ends the others.

    Args:
        function: importable by its name, a function on the top level of a test file.
        args: as given to every rank; what can be pickled. Results likewise.
        timeout: seconds in all.
        joined: the default process group is there when the function starts; False leaves the joining to the function.

    Raises:
        RanksFailed: also if a process does not exit after its result.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # takes a free port and keeps it
    context = get_context("spawn")
    work = pickle.dumps(
        (function, args)
    )  # plainly: multiprocessing's own way shares tensors' memory, which ends with it
    ranks: list[tuple[SpawnProcess, connection.Connection]] = []
    deadline = time.monotonic() + timeout
    try:
        for rank in range(world_size):
            ours, theirs = context.Pipe(duplex=False)
            environment = _environment(rank, world_size, store.port)
            process = context.Process(target=_rank, args=(theirs, environment, work, joined), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            ranks.append((process, ours))
        return _gather(ranks, deadline)
    finally:
        for process, ours in ranks:
            if process.is_alive():
                process.kill()
            process.join()
            ours.close()


def _environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is the parent's: rank 0 opens none on the same port
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }


def _rank(answer: connection.Connection, environment: dict[str, str], work: bytes, joined: bool) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        function, args = pickle.loads(work)
        if joined:
            dist.init_process_group("gloo")
        result = pickle.dumps((True, function(*args)))
    except BaseException:
        answer.send_bytes(pickle.dumps((False, traceback.format_exc())))
        sys.exit(1)
    answer.send_bytes(result)
    if dist.is_initialized():
        dist.destroy_process_group()


def _gather(ranks: list[tuple[SpawnProcess, connection.Connection]], deadline: float) -> list[Any]:
    results: dict[int, Any] = {}
    waiting = {ours: rank for rank, (_, ours) in enumerate(ranks)}
    while waiting:
        ready = connection.wait(list(waiting), max(0.0, deadline - time.monotonic()))
        if not ready:
            raise RanksFailed(f"No result in time from rank {', '.join(map(str, sorted(waiting.values())))}.")
        for ours in ready:
            rank = waiting.pop(ours)  # type: ignore[call-overload]
            try:
                fine, result = pickle.loads(ours.recv_bytes())  # type: ignore[union-attr]
            except EOFError:
                ranks[rank][0].join(5)
                raise RanksFailed(f"Rank {rank} died with exit code {ranks[rank][0].exitcode}.") from None
            if not fine:
                raise RanksFailed(f"Rank {rank} failed:\n{result}")
            results[rank] = result
    for rank, (process, _) in enumerate(ranks):
        process.join(max(0.0, deadline - time.monotonic()))
        if process.exitcode != 0:
            raise RanksFailed(f"Rank {rank} gave its result, then ended with exit code {process.exitcode}.")
    return [results[rank] for rank in range(len(ranks))]
