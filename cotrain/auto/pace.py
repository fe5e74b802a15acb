"""Whether equal pieces of work will all be done in time, as told by those that are; and why one is left out."""

import time
from collections.abc import Callable

NO_TIME = "it takes longer than the time set aside for it (a longer --budget sets aside more)"
TOO_FEW = "the labels are too few to leave some of them out"


class Skipped(Exception):
    """Something that a report can do without is left out; the message says why."""


class Pace:
    """Asked before each piece.

    Args:
        pieces: how many there are. left: seconds that are left for all of them.
        each: what one is thought to take, in seconds, until the first is done.
    """

    def __init__(self, pieces: int, left: Callable[[], float], each: float = 0.0):
        self._pieces, self._left, self._each = pieces, left, each
        self._done = 0
        self._start = time.perf_counter()

    def will_do(self) -> bool:
        """Whether this piece and all after it will be done in the time that is left."""
        if self._done:
            self._each = (time.perf_counter() - self._start) / self._done
        ahead = self._pieces - self._done
        self._done += 1
        return self._each * ahead <= self._left()
