"""Some processes on this machine, joined by gloo, that call functions together: ranks without a launcher."""

import faulthandler
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from multiprocessing import connection, get_all_start_methods, get_context
from typing import Any

import torch
import torch.distributed as dist

from cotrain.errors import CotrainError

# Exit codes after signals for which a process writes the stacks of its threads before it dies.
_CRASHES = {-number for number in (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)}


class CrewFailed(CotrainError, AssertionError):
    """A rank raised, died or took too long; the message says which and, where it raised, shows its traceback."""


class Crew:
    """`run(function, *args)` calls the function on every rank and gives what each returned, as often as asked.

    Each rank is a process on one thread, with this one's environment and what launchers set (RANK, WORLD_SIZE, ...).
    Where the system can, it is the fork of one that has loaded torch, which the first crew starts and later ones find
    there. The first failure ends all of them. A context manager: the processes end with it.

    Args:
        ranks: how many.
        timeout: seconds for each call.
        joined: the default process group is there when a function starts; False leaves the joining to the function.
    """

    def __init__(self, ranks: int, timeout: float = 60, joined: bool = True):
        self.timeout = timeout
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # keeps its free port
        context: Any = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
        context.set_forkserver_preload(["cotrain.engine", "torch._dynamo"])  # any first optimizer loads the compiler
        streams = _streams()
        self._pipes: list[connection.Connection] = []
        self._processes = []
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            environment = {**os.environ, **_environment(rank, ranks, self._store.port)}
            process = context.Process(target=_serve, args=(theirs, streams, environment, timeout, joined), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            self._pipes.append(ours)
            self._processes.append(process)
        for stream in streams.values():
            stream.close()

    @property
    def alive(self) -> bool:
        return bool(self._processes) and all(process.is_alive() for process in self._processes)

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What `function(*args)` returns on each rank, in the ranks' order.

        Args:
            function: importable by its name from the top level of a module. Arguments and results can be pickled.

        Raises:
            CrewFailed: a rank failed, or the time was up; the crew is then closed.
        """
        try:
            work = pickle.dumps((function, args))  # plainly: multiprocessing's own way shares tensors' memory
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise CrewFailed(f"{function!r} and its arguments cannot be sent to other processes: {error}") from error
        try:
            for pipe in self._pipes:
                pipe.send_bytes(work)
            return self._answers()
        except (CrewFailed, OSError):
            self.close()
            raise

    def _answers(self) -> list[Any]:
        deadline = time.monotonic() + self.timeout
        waiting = {pipe: rank for rank, pipe in enumerate(self._pipes)}
        results: dict[int, Any] = {}
        while waiting:
            ready = connection.wait(list(waiting), max(0.0, deadline - time.monotonic()))
            if not ready:
                raise CrewFailed(f"No result in time from rank {', '.join(map(str, sorted(waiting.values())))}.")
            for pipe in ready:
                assert isinstance(pipe, connection.Connection)
                rank = waiting.pop(pipe)
                try:
                    fine, result = pickle.loads(pipe.recv_bytes())
                except (EOFError, OSError):
                    self._processes[rank].join(5)
                    code = self._processes[rank].exitcode
                    where = " Standard error says where." if code in _CRASHES else ""
                    raise CrewFailed(f"Rank {rank} died with exit code {code}.{where}") from None
                if not fine:
                    raise CrewFailed(f"Rank {rank} failed:\n{result}")
                results[rank] = result
        return [results[rank] for rank in range(len(self._pipes))]

    def close(self) -> None:
        """End the processes, by asking if they listen and by force if not."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(0.5)
            if process.is_alive():
                process.kill()
            process.join()
        self._pipes, self._processes = [], []


def _streams() -> dict[int, connection.Connection]:
    """What this process's standard output and error are now, in a form that can be sent; a closed one is left out."""
    found = {}
    for number in (1, 2):
        with suppress(OSError):
            found[number] = connection.Connection(os.dup(number), readable=False)
    return found


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is the parent's: rank 0 opens none on the same port
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",  # gloo sums on the host, and there may be fewer GPUs than ranks
    }


def _serve(
    pipe: connection.Connection,
    streams: dict[int, connection.Connection],
    environment: dict[str, str],
    timeout: float,
    joined: bool,
) -> None:
    for number, stream in streams.items():
        os.dup2(stream.fileno(), number)
        stream.close()
    faulthandler.enable()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        if joined:
            dist.init_process_group("gloo", timeout=timedelta(seconds=timeout))
        while True:
            function, args = pickle.loads(pipe.recv_bytes())
            pipe.send_bytes(pickle.dumps((True, function(*args))))
    except EOFError:  # the crew was closed
        if dist.is_initialized():
            dist.destroy_process_group()
    except BaseException:
        with suppress(OSError):  # nobody listens any more: another rank failed first
            pipe.send_bytes(pickle.dumps((False, traceback.format_exc())))
        sys.exit(1)
