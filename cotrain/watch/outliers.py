"""Which ranks are slower than the others: a pure statistic on their times."""

import math
from collections.abc import Sequence
from statistics import median

RATIO = 1.15  # a slow rank takes more than this times the median rank's time
SCORE = 3.5  # and stands more than so many robust standard deviations out
WINDOWS = 3  # in so many windows one after another


def slow_ranks(times: Sequence[Sequence[float]], spreads: Sequence[Sequence[float]]) -> list[int]:
    """The ranks that were slow in each of the last WINDOWS windows.

    A rank is slow in a window when its time is more than RATIO times the median over ranks and its robust score,
    0.6745 (time - median) / MAD over ranks, is more than SCORE. Among two ranks the median and the MAD say nothing;
    the slower is compared with the faster, and measured by the faster's spread within the window.

    Args:
        times: a rank's median time of own work, by window and rank, seconds.
        spreads: MAD of the rank's steps within the window, seconds; used for two ranks only.
    """
    recent = list(zip(times, spreads, strict=True))[-WINDOWS:]
    if len(recent) < WINDOWS:
        return []
    found = [{rank for rank, slow in enumerate(_slow(t, s)) if slow} for t, s in recent]
    return sorted(set.intersection(*found))


def scores(times: Sequence[float], spreads: Sequence[float]) -> list[float]:
    """How far each rank stands above the typical one, in robust standard deviations."""
    middle = typical(times)
    deviation = spreads[times.index(middle)] if len(times) == 2 else median(abs(t - middle) for t in times)
    return [_score(t - middle, deviation) for t in times]


def _slow(times: Sequence[float], spreads: Sequence[float]) -> list[bool]:
    middle = typical(times)
    return [t > RATIO * middle and s > SCORE for t, s in zip(times, scores(times, spreads))]


def typical(times: Sequence[float]) -> float:
    """The median rank's time; of two ranks the faster's."""
    return min(times) if len(times) == 2 else median(times)


def _score(distance: float, deviation: float) -> float:
    # Source of the factor and of 3.5: Iglewicz & Hoaglin 1993, "How to detect and handle outliers".
    if deviation > 0:
        return 0.6745 * distance / deviation
    return math.copysign(math.inf, distance) if distance else 0.0
