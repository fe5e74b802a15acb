"""Batches made ahead of time: by a thread, or by processes where making one takes work (decoding, augmenting)."""

import copy
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping
from multiprocessing.context import BaseContext
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from cotrain.errors import CotrainError, InputError
from cotrain.learner import Learner
from cotrain.stream import Batch, Stream

PATIENCE = 5.0  # seconds between looks at whether the maker of an awaited batch still lives


class Prefetched(Stream):
    """The batches of another stream, the same ones in the same order, made while training goes on.

    Its state is that of the batches taken, not of those made: a run resumes as if nothing had been made ahead. Where a
    batch could not be made, the error is raised in its place, and who asks again gets that batch.

    Args:
        stream: makes the batches. With `workers` its batches are addressed by their position, as those of `Rows` are
            (`position` and `batch`), and it can be pickled, its view included.
        ahead: batches made before they are asked for, >= 1.
        workers: processes that make them in turn; 0 is one thread, enough where making a batch releases the
            interpreter or waits for a disk. Each has one thread, and shares the stream's tensors.
        pin: put batches into pinned memory, from which a GPU copies while it computes; None: where there is a GPU.

    Raises:
        InputError: a number out of range, a stream whose batches have no position, or one that asks learners.
    """

    def __init__(self, stream: Any, ahead: int = 2, workers: int = 0, pin: bool | None = None):
        if ahead < 1 or workers < 0:
            raise InputError(f"ahead is at least 1 and workers at least 0, not {ahead} and {workers}.")
        if workers and not (hasattr(stream, "position") and hasattr(stream, "batch")):
            raise InputError(
                f"Workers make batches out of turn, which {type(stream).__name__} cannot: it has no position. Use "
                "workers=0, a thread."
            )
        if any(isinstance(part, Learner) for part in getattr(stream, "__dict__", {}).values()):
            raise InputError(f"{type(stream).__name__} plays with learners as they are now; nothing can be made ahead.")
        self.stream = stream
        self.ahead = ahead
        self.workers = workers
        self.pin = torch.cuda.is_available() if pin is None else pin
        self._makers: _Thread | _Processes | None = None
        self._state = stream.state()

    @property
    def split(self) -> Callable[[int, int], None]:
        """`split(rank, ranks)` gives this rank's rows only; there is none where the stream itself has none: the engine
        then takes the rank's rows of the whole batch (see `Stream`)."""
        split = self.stream.split

        def own(rank: int, ranks: int) -> None:
            self.close()
            split(rank, ranks)

        return own

    def __next__(self) -> Batch:
        if self._makers is None:
            self.stream.load(self._state)
            self._makers = _Processes(self.stream, self.ahead, self.workers) if self.workers else _Thread(self)
        try:
            batch, self._state = self._makers.take()
        except BaseException:
            self.close()  # with the batches behind the one that failed; the next call tries this one again
            raise
        return _pinned(batch) if self.workers and self.pin else batch

    def state(self) -> dict[str, Any]:
        return self._state

    def load(self, state: dict[str, Any]) -> None:
        self.close()
        self.stream.load(state)
        self._state = self.stream.state()

    def close(self) -> None:
        """End the thread or the processes; the next batch starts them again."""
        if self._makers is not None:
            self._makers.close()
            self._makers = None

    def __del__(self) -> None:
        if getattr(self, "_makers", None) is not None:
            self.close()


def _pinned(batch: Mapping[str, Any]) -> Batch:
    return {name: value.pin_memory() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


class _Thread:
    """Makes batches in turn."""

    def __init__(self, owner: Prefetched):
        self._made: queue.Queue[Any] = queue.Queue(owner.ahead)
        self._ended = threading.Event()
        stream, pin = owner.stream, owner.pin  # not the owner itself, which must be free to go

        def make() -> None:
            try:
                while not self._ended.is_set():
                    batch = next(stream)
                    self._put((_pinned(batch) if pin else batch, copy.deepcopy(stream.state())))
            except BaseException as error:
                self._put(error)

        self._thread = threading.Thread(target=make, name="cotrain-prefetch", daemon=True)
        self._thread.start()

    def _put(self, made: Any) -> None:
        while not self._ended.is_set():
            try:
                return self._made.put(made, timeout=0.1)
            except queue.Full:
                continue

    def take(self) -> tuple[Batch, dict[str, Any]]:
        made = self._made.get()
        if isinstance(made, BaseException):
            raise made
        return made

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


class _Processes:
    """Each makes every so-many-th batch; a batch is asked for by its position."""

    def __init__(self, stream: Any, ahead: int, workers: int):
        context: BaseContext = multiprocessing.get_context("spawn")
        for name, values in getattr(stream, "data", {}).items():
            stream.data[name] = values.share_memory_() if values.device.type == "cpu" else values
        self._state = stream.state()
        self._size = stream.batch
        self._next = stream.position
        self._asked: deque[int] = deque()
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        self._turn = 0
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, stream), daemon=True)  # type: ignore[attr-defined]
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for _ in range(max(ahead, workers)):
            self._ask()

    def _ask(self) -> None:
        self._send(len(self._asked) + self._turn, self._next)
        self._asked.append(self._next)
        self._next += self._size

    def _send(self, number: int, position: int) -> None:
        try:
            self._pipes[number % len(self._pipes)].send(position)
        except OSError as error:
            raise CotrainError("A process that makes batches has died.") from error

    def take(self) -> tuple[Batch, dict[str, Any]]:
        maker = self._turn % len(self._pipes)
        while not self._pipes[maker].poll(PATIENCE):
            if not self._processes[maker].is_alive():
                break
        try:
            fine, made = self._pipes[maker].recv()
        except (EOFError, OSError) as error:
            self._processes[maker].join(2)
            code = self._processes[maker].exitcode
            raise CotrainError(f"A process that makes batches has died with exit code {code}.") from error
        if not fine:
            raise CotrainError(f"A batch could not be made: {made}")
        position = self._asked.popleft()
        self._turn += 1
        self._ask()
        return made, {**self._state, "position": position + self._size}

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(1)
            if process.is_alive():
                process.kill()
                process.join()


def _work(pipe: Any, stream: Any) -> None:
    # A launcher or a scheduler tells the whole group of a run's processes to stop, and the run needs batches for its
    # last steps. SIGTERM stays: multiprocessing ends what is left by it.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        while True:
            stream.position = pipe.recv()
            try:
                made = True, next(stream)
            except Exception as error:
                made = False, f"{type(error).__name__}: {error}"
            pipe.send(made)
    except (EOFError, OSError):  # closed
        pass
