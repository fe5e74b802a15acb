"""Columns of numbers that belong together, such as t0, t1, ...; and those among them that are a curve or a picture.

Legend: N rows, L columns.
"""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import fft

SHARED = 0.3  # range of a family's middle column, of its widest, from which on its columns have one unit
SHORTEST = 20  # columns of a curve
SMOOTH = 0.6  # likeness of neighbours along the rows from which on columns are a curve
COLOURS = 0.4  # likeness of the colours of one pixel, at the least
SIDE = 5  # rows and columns of pixels that a picture has at least
_LOOKED_AT = 500  # rows, to tell curves and pictures
_AT_ONCE = 50  # of them
_LARGEST = 1e15  # of a number; the squares of larger ones are none in float32
_UNIT = r"(?:nm|[uµμ]m|mm|cm(?:-1)?|m|ms|s|sec|min|h|hours?|days?|[kMG]?Hz|k?eV)"  # of wavelengths and times
_NUMBERED = re.compile(rf"^(.*?)[\s_.\-]*(\d+(?:[_x.\-]\d+)*)(?:\s?{_UNIT})?$", re.DOTALL)


class Picture(NamedTuple):
    """Columns that are pixels, and their places in a picture [height, width, channels], row by row; the other pixels
    have no column."""

    columns: tuple[str, ...]
    places: tuple[int, ...]
    shape: tuple[int, int, int]


def find_families(names: Sequence[str]) -> list[list[int]]:
    """Places of the columns by family, in the order of their numbers; a column without three sisters is a family of its
    own."""
    stems: dict[str, list[int]] = {}
    numbers: dict[int, list[tuple[int, str]]] = {}  # the longer, the larger
    for place, name in enumerate(map(str, names)):
        numbered = _NUMBERED.match(name)
        digits = [digits.lstrip("0") for digits in re.findall(r"\d+", numbered[2])] if numbered else []
        numbers[place] = [(len(each), each) for each in digits]
        stems.setdefault(numbered[1] if numbered else f"{name}\x00", []).append(place)
    families = [sorted(places, key=numbers.__getitem__) for places in stems.values()]
    return [found for family in families for found in ([family] if len(family) >= 4 else [[p] for p in family])]


def share_a_unit(numbers: np.ndarray) -> bool:
    """Whether the columns of a family [N, K] have ranges alike, but for the few that are constant or nearly so, such as
    the corners of a picture."""
    ranges = np.ptp(numbers, axis=0) if len(numbers) else np.zeros(numbers.shape[1])
    varied = ranges[ranges > 0]
    return numbers.shape[1] > 1 and len(varied) > 0 and bool(np.median(varied) >= SHARED * varied.max())


def find_shapes(
    frame: pd.DataFrame, columns: Sequence[str], constant: Sequence[str] = ()
) -> tuple[list[tuple[str, ...]], list[Picture]]:
    """Those of the number columns that make curves: families in which neighbours are alike, along the rows and from row
    to row, and others are not. And those that are the pixels of pictures, in grey or in red, green and blue: each
    column is also like the one that stands a row below.

    Args:
        constant: columns that the frame has not; corners of pictures, often.
    """
    curves, pictures, absent = [], [], set(constant)
    every = [*columns, *constant]
    some = frame.iloc[:: max(1, len(frame) // _LOOKED_AT)]
    for family in find_families(every) if len(some) else ():
        names = tuple(every[place] for place in family)
        known = [place for place, name in enumerate(names) if name not in absent]
        if len(known) < SHORTEST:
            continue
        own, seen = tuple(names[place] for place in known), shapes(cells(some, names))
        if found := _picture(seen):
            shape, places = found
            pictures.append(Picture(own, tuple(places[known].tolist()), shape))
        elif _is_curve(seen):
            curves.append(own)
    return curves, pictures


def cells(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """float32 [N, L]; missing numbers lie between their neighbours, NaN before the first and after the last."""
    known = frame.reindex(columns=list(names)).astype(np.float64).replace([np.inf, -np.inf], np.nan)
    return known.clip(-_LARGEST, _LARGEST).interpolate(axis=1, limit_area="inside").to_numpy(np.float32)


def level(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each row [N, 1] where it is known."""
    known = ~np.isnan(curves)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    mean = np.where(known, curves, 0).sum(1, keepdims=True) / count
    return mean, np.sqrt((np.where(known, curves - mean, 0) ** 2).sum(1, keepdims=True) / count)


def shapes(curves: np.ndarray) -> np.ndarray:
    """Each row brought to mean 0 and deviation 1; 0 where it is flat or not known."""
    mean, size = level(curves)
    smallest = 1e-6 * np.abs(np.nan_to_num(curves)).max(1, keepdims=True, initial=0)
    return np.nan_to_num(np.divide(curves - mean, size, out=np.zeros_like(curves), where=size > smallest))


def _is_curve(seen: np.ndarray) -> bool:
    differing = _likeness(seen - seen.mean(0), 1)[0]  # columns of any kind may have means in some order
    if _likeness(seen, 1)[0] < SMOOTH or differing < SMOOTH - 0.1:
        return False
    alike = _likeness(seen, seen.shape[1] // 3)
    return bool(alike.min() < alike[0] / 2)


def _picture(seen: np.ndarray) -> tuple[tuple[int, int, int], np.ndarray] | None:
    """The shape of pictures whose pixels the columns are, and each column's place in them; None if they are none."""
    length = seen.shape[1]
    places = np.arange(length)
    for planes in (places.reshape(3, -1), places.reshape(-1, 3).T) if length % 3 == 0 else ():
        colours = [seen[:, plane] for plane in planes]
        if _same_pixels(colours) and (width := _width(np.mean(colours, axis=0))):
            return (length // 3 // width, width, 3), planes.T.argsort(axis=None)
    width = _width(seen)
    return ((length // width, width, 1), places) if width else None


def _same_pixels(colours: list[np.ndarray]) -> bool:
    """Whether three sets of columns are the colours of the same pixels: each is most like the others of its own."""
    for one, other in combinations([colour - colour.mean(0) for colour in colours], 2):
        size = np.sqrt(np.square(one).sum() * np.square(other).sum()) or 1.0
        alike, before, after = (
            (one * other).sum(),
            (one[:, 1:] * other[:, :-1]).sum(),
            (one[:, :-1] * other[:, 1:]).sum(),
        )
        if alike < COLOURS * size or alike <= max(before, after):
            return False
    return True


def _width(seen: np.ndarray) -> int:
    """Columns in a row of pixels, 0 if they are none."""
    apart, length = seen - seen.mean(0), seen.shape[1]
    if _likeness(apart, 1)[0] < 0.2:
        return 0
    alike = _likeness(apart, length // SIDE + 1)
    for width in range(SIDE, length // SIDE + 1):
        below = alike[width - 1]
        peak = below >= 0.25 and below > max(alike[width - 2], alike[width])
        if peak and length % width == 0 and alike[:width].min() < below / 2:
            return width
    return 0


def _likeness(seen: np.ndarray, most: int) -> np.ndarray:
    """The correlation of each place along the rows with the one so many further on, from 1 to `most`."""
    length = fft.next_fast_len(2 * seen.shape[1], real=True)
    power = np.zeros(length // 2 + 1)
    for start in range(0, len(seen), _AT_ONCE):
        power += np.square(np.abs(fft.rfft(seen[start : start + _AT_ONCE], length))).sum(0)
    found = fft.irfft(power, length)
    return found[1 : most + 1] / (found[0] if power.any() else 1)
