"""Says where a run hangs: which rank finished what last. It never stops anything.

In a loop of your own::

    with Watchdog(timeout=60) as watchdog:
        for step, batch in enumerate(batches):
            loss = forward(batch)
            watchdog.done(step, "forward")
            loss.backward()
            watchdog.done(step, "backward")
"""

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch.distributed as dist

from cotrain import place, show
from cotrain.errors import InputError


@dataclass(frozen=True)
class Mark:
    """What a rank tells of itself."""

    count: int
    "How many things it has finished."
    step: int
    phase: str
    "The last of them; empty before the first."
    idle: float
    "Seconds since then."
    where: str
    "The line it is in now, outside torch; empty while it goes on."


class Watchdog:
    """Watches this rank from a thread and, half way to the timeout without progress, says where every rank stands.

    The ranks tell each other through the store of the process group, about once a second and from the thread: a step
    pays for a few assignments. Of the ranks that notice, one speaks. Without a process group it watches one process.

    Args:
        timeout: seconds without progress after which a collective gives up, or you would; the message comes at half.
        say: gets the message, from the thread; standard error if not given.
        store: where ranks meet, with `rank` and `world_size`; the default process group's if not given.

    Raises:
        InputError: the timeout is not positive, or a store comes without rank and world size.
    """

    def __init__(
        self,
        timeout: float,
        say: Callable[[str], None] | None = None,
        *,
        store: Any = None,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        if not timeout > 0:
            raise InputError(f"The timeout of a watchdog is a positive number of seconds, not {timeout}.")
        if store is not None and (rank is None or world_size is None):
            raise InputError("A watchdog with a store of your own needs rank and world_size.")
        if store is None:
            store, rank, world_size = _meeting_place()
        self.timeout = timeout
        self.rank = rank or 0
        self.world_size = world_size or 1
        self._say = say or show.aside
        self._store = store
        self._pause = min(1.0, timeout / 10)
        self._state = (0, 0, "", time.monotonic())  # replaced as one, so the thread never sees half of it
        self._paused = False
        self._watched = threading.get_ident()
        self._beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cotrain-watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._watched = threading.get_ident()
        self._state = (0, 0, "", time.monotonic())
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join(self._pause + 1)  # it may itself hang in a store whose host is gone

    def done(self, step: int, phase: str) -> None:
        """This rank has finished a phase of a step. All ranks name the same ones in the same order."""
        self._state = (self._state[0] + 1, step, phase, time.monotonic())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within it nothing is expected to be finished; the time counts from its end."""
        self._paused = True
        try:
            yield
        finally:
            self._state = (*self._state[:3], time.monotonic())
            self._paused = False

    def mark(self) -> Mark:
        count, step, phase, since = self._state
        idle = 0.0 if self._paused else time.monotonic() - since
        return Mark(count, step, phase, idle, _line(self._watched) if idle >= self.timeout / 2 else "")

    def _watch(self) -> None:
        said: int | None = None
        while not self._stop.wait(self._pause):
            mark = self.mark()
            told = self._tell(mark)
            if mark.idle < self.timeout / 2 or said == mark.count:
                continue
            said = mark.count
            text = self._hear() if told else f"{alone(mark)} The other ranks cannot be asked: no store answers."
            if text:
                self._say(text)

    def _tell(self, mark: Mark) -> bool:
        self._beats += 1
        if self._store is None:
            return True
        try:
            self._store.set(str(self.rank), json.dumps({"beats": self._beats, **asdict(mark)}))
        except RuntimeError:  # the rank that hosts the store is gone
            return False
        return True

    def _hear(self) -> str | None:
        """What to say of all ranks; None if another rank says it."""
        if self._store is None or self.world_size == 1:
            return alone(self.mark())
        try:
            before = self._read()
            # Ranks reach half their timeout a little apart, and a sign of life takes a few beats to show.
            for _ in range(3):
                if self._stop.wait(self._pause):
                    return None
                self._tell(self.mark())
            after = self._read()
            key = "said " + " ".join(str(m["count"]) if m else "-" for m in after)
            if self._store.add(key, 1) > 1:
                return None
        except RuntimeError:
            return f"{alone(self.mark())} The other ranks cannot be asked: no store answers."
        marks = [Mark(**{k: v for k, v in m.items() if k != "beats"}) if m else None for m in after]
        alive = [bool(b and a and b["beats"] != a["beats"]) for b, a in zip(before, after)]
        return together(marks, alive)

    def _read(self) -> list[dict[str, Any] | None]:
        keys = [str(rank) for rank in range(self.world_size)]
        return [json.loads(self._store.get(key)) if self._store.check([key]) else None for key in keys]


def _meeting_place() -> tuple[Any, int | None, int | None]:
    """A connection of its own to the store of the default process group: the run's own may be what hangs."""
    if not place.joined():
        return None, None, None
    store = dist.distributed_c10d._get_default_store()
    own = store.clone() if hasattr(store, "clone") else store
    return dist.PrefixStore("cotrain/watchdog", own), place.number(), place.processes()


def alone(mark: Mark) -> str:
    """What to say of one process."""
    if not mark.phase:
        return f"No progress for {mark.idle:.0f} s: nothing was finished yet{_in(mark)}."
    return f"No progress for {mark.idle:.0f} s: stuck in step {mark.step} after phase {mark.phase}{_in(mark)}."


def together(marks: Sequence[Mark | None], alive: Sequence[bool]) -> str:
    """What to say of all ranks: a line each, and who is behind, silent, or never came.

    Args:
        marks: each rank's, None from one that never reported.
        alive: whether a rank's thread still reports.
    """
    known = [mark for mark in marks if mark is not None]
    most = max((mark.count for mark in known), default=0)
    lines = [f"No progress for {max((mark.idle for mark in known), default=0):.0f} s."]
    behind, silent, absent = [], [], []
    for rank, (mark, lives) in enumerate(zip(marks, alive, strict=True)):
        if mark is None:
            absent.append(rank)
            lines.append(f"  rank {rank}: never reported")
            continue
        last = f"finished {mark.phase} of step {mark.step}" if mark.phase else "finished nothing yet"
        notes = []
        if not lives:
            silent.append(rank)
            notes.append("gives no sign of life")
        if mark.count < most:
            behind.append(rank)
            notes.append("behind")
        lines.append(f"  rank {rank}: {'; '.join([f'{last}, {mark.idle:.0f} s ago{_in(mark)}', *notes])}")
    for what, ranks in (("Behind", behind), ("No sign of life", silent), ("Never reported", absent)):
        if ranks:
            lines.append(f"{what}: rank {', '.join(map(str, ranks))}.")
    if not (behind or silent or absent):
        lines.append("All ranks stand at the same place: look at what comes after it.")
    return "\n".join(lines)


def _in(mark: Mark) -> str:
    return f", now in {mark.where}" if mark.where else ""


def _line(thread: int) -> str:
    """The innermost line of a thread that is not torch's: `function (file.py:12)`."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    torchs = os.path.dirname(os.path.dirname(dist.__file__))
    for entry in reversed(traceback.extract_stack(frame, limit=64)):
        if not entry.filename.startswith((torchs, "<")):
            return f"{entry.name} ({os.path.basename(entry.filename)}:{entry.lineno})"
    return ""
