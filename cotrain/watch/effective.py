"""How much of a run's time went into work that counts: what a failure throws away and what a restart takes is lost."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from cotrain.errors import InputError

What = Literal["start", "ready", "alive", "saved", "end"]
Moment = tuple[float, What]


@dataclass(frozen=True)
class Effective:
    """All in seconds."""

    total: float
    "From the first start to the end or the last sign of life, without pauses."
    lost: float
    "Work after the last checkpoint before a failure, done again afterwards."
    restart: float
    "From the last sign of life before a failure until the next process is ready to train."
    failures: int = 0

    @property
    def share(self) -> float:
        """1 - (lost + restart) / total; 1 of no time at all."""
        return 1 - (self.lost + self.restart) / self.total if self.total > 0 else 1.0


def effective(timeline: Sequence[Moment]) -> Effective:
    """The account of a timeline.

    A process says `start`, then `ready` when it has loaded where to go on and trains, `alive` now and then, `saved`
    when a checkpoint is complete, and `end` when it leaves in good order. A `start` without `end` before it tells of a
    failure after the last moment that was noted: nobody notes their own death. Time between an `end` and the next
    `start` is a pause and counts nowhere.

    Args:
        timeline: seconds on one clock, and what happened.

    Raises:
        InputError: time goes backwards, a word is unknown, or the first is no start.
    """
    _check(timeline)
    total = lost = restart = 0.0
    failures = 0
    kept = failed = None  # the work of this process is safe up to `kept`; the run is down since `failed`
    last, ended = 0.0, True  # before the first start is a pause too
    for now, what in timeline:
        if what == "start":
            if ended:
                last = now
            else:
                failures += 1
                lost += last - kept if kept is not None else 0.0
                failed = last if failed is None else failed  # a process that was never ready ends no failure
            kept = None
        elif what in ("ready", "end"):
            restart += now - failed if failed is not None else 0.0
            failed, kept = None, now
        elif what == "saved" and kept is not None:
            kept = now
        ended = what == "end"
        total += now - last
        last = now
    if failed is not None:  # it never came back
        restart += last - failed
    return Effective(total, lost, restart, failures)


def _check(timeline: Sequence[Moment]) -> None:
    for (before, _), (now, _) in pairwise(timeline):
        if now < before:
            raise InputError(f"The timeline goes back from {before} s to {now} s.")
    for _, what in timeline:
        if what not in get_args(What):
            raise InputError(f"A moment is one of {', '.join(get_args(What))}, not {what!r}.")
    if timeline and timeline[0][1] != "start":
        raise InputError(f"A timeline begins with a start, not with {timeline[0][1]!r}.")


class Timeline:
    """Notes moments, with a file over the lives of many processes, a JSON line each.

    The clock is the machine's, because no other outlives a process. Where it was set back between two moments, no time
    passes.
    """

    def __init__(self, file: Path | None = None):
        self.file = file
        self.moments: list[Moment] = [] if file is None or not file.exists() else _read(file)
        if self.moments:  # whole lines only: the next one must not go on where a kill cut one off
            self._write("w", self.moments)

    def note(self, what: What) -> None:
        now = max(time.time(), self.moments[-1][0] if self.moments else 0.0)
        self.moments.append((now, what))
        self._write("a", self.moments[-1:])

    def _write(self, mode: Literal["a", "w"], moments: Sequence[Moment]) -> None:
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open(mode) as out:
                out.writelines(json.dumps([round(now, 3), what]) + "\n" for now, what in moments)


def _read(file: Path) -> list[Moment]:
    moments: list[Moment] = []
    for line in file.read_text().splitlines():
        try:
            now, what = json.loads(line)
        except (ValueError, TypeError):  # a line that was cut off
            continue
        moments.append((max(float(now), moments[-1][0] if moments else 0.0), what))
    return moments
