"""Columns of numbers that belong together: pixel1, pixel2, ... or t0, t1, ..."""

import re
from collections.abc import Sequence

import numpy as np

SHARED = 0.3  # range of a family's middle column, of its widest, from which on its columns have one unit


_NUMBERED = re.compile(r"^(.*?)[\s_.\-]*(\d+(?:[_x.\-]\d+)*)$", re.DOTALL)


def find_families(names: Sequence[str]) -> list[list[int]]:
    """Places of the columns by family, in the order of their numbers; a column without three sisters is a family of its
    own."""
    stems: dict[str, list[int]] = {}
    numbers: dict[int, tuple[int, ...]] = {}
    for place, name in enumerate(map(str, names)):
        numbered = _NUMBERED.match(name)
        numbers[place] = tuple(map(int, re.findall(r"\d+", numbered[2]))) if numbered else ()
        stems.setdefault(numbered[1] if numbered else f"{name}\x00", []).append(place)
    families = [sorted(places, key=numbers.__getitem__) for places in stems.values()]
    return [found for family in families for found in ([family] if len(family) >= 4 else [[p] for p in family])]


def share_a_unit(numbers: np.ndarray) -> bool:
    """Whether the columns of a family [N, K] have ranges alike, but for the few that are constant or nearly so, such as
    the corners of a picture."""
    ranges = np.ptp(numbers, axis=0) if len(numbers) else np.zeros(numbers.shape[1])
    varied = ranges[ranges > 0]
    return numbers.shape[1] > 1 and len(varied) > 0 and bool(np.median(varied) >= SHARED * varied.max())
