"""Numbers in a row that are one curve: a course in time, a spectrum, an outline; told by the shapes along it.

Source: Dempster, Schmidt & Webb, "MiniRocket: a very fast (almost) deterministic transform for time series
classification", KDD 2021.
Legend: N rows, L columns of a curve, D features.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from cotrain.views.families import find_families
from cotrain.views.scale import own_scales
from cotrain.views.view import View

SHORTEST = 20  # columns of a curve
SMOOTH = 0.6  # likeness of neighbours along the rows from which on columns are a curve
TAPS = 9  # of a kernel: three of them weigh 2, the others -1
KERNELS = tuple(combinations(range(TAPS), 3))
FEATURES = 1_500  # of all curves together, roughly
DILATIONS = 8  # at most, of a curve
_LOOKED_AT = 500  # rows, to tell whether columns are curves
_SEEN = 100  # rows that biases are taken from
_CHUNK = 30_000  # numbers that are folded at a time: they stay in the processor's cache
_LARGEST = 1e15  # of a number; the squares of larger ones are none in float32
_GOLDEN = (5**0.5 - 1) / 2


def find_curves(frame: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Those of the number columns that make curves: families of columns (t1, t2, ...) in which neighbours are alike,
    along the rows and from row to row, and others are not. A picture's rows of pixels are none."""
    families = [tuple(columns[place] for place in family) for family in find_families(columns)]
    some = frame.iloc[:: max(1, len(frame) // _LOOKED_AT)]
    return [names for names in families if len(names) >= SHORTEST and _are_curves(_shapes(_curves(some, names)))]


class CurveView(View):
    """For each kernel, how much of the curve lies above a bias; and the curve's mean and size.

    Args:
        lengths: of the curves, whose columns stand one after the other.
    """

    costly = True

    def __init__(self, columns: Sequence[str], lengths: Sequence[int]):
        super().__init__(columns, lengths=list(lengths))

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """float32 [N, all L]; missing numbers lie between their neighbours, NaN before the first and after the last."""
        return np.hstack([_curves(frame, names) for names in self._split(self.columns)])

    def fit(self, raw: np.ndarray) -> "CurveView":
        seen = raw[np.sort(np.random.default_rng(0).permutation(len(raw))[:_SEEN])]
        self.learned = {}
        for number, part in enumerate(self._split(seen.T)):
            curves = _shapes(part.T)
            for dilation in _dilations(curves.shape[1]):
                quantiles = (np.arange(1, self._biases(curves.shape[1]) * len(KERNELS) + 1) * _GOLDEN) % 1
                rows = [
                    np.quantile(answer, own) if answer.size else np.zeros(len(own))
                    for answer, own in zip(_answers(curves, dilation), quantiles.reshape(len(KERNELS), -1))
                ]
                self.learned[f"bias {number} {dilation}"] = np.array(rows, np.float32)
        self.learned |= own_scales(self._features(raw))
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (self._features(raw) - self.learned["mean"]) * self.learned["scale"]

    def _features(self, raw: np.ndarray) -> np.ndarray:
        """float32 [N, D], not scaled."""
        parts = []
        for number, part in enumerate(self._split(raw.T)):
            curves = part.T
            length = curves.shape[1]
            biases = {d: self.learned[f"bias {number} {d}"] for d in _dilations(length)}
            mean, size = _level(curves)
            parts += [mean, np.log(size + 1e-6)]
            step = max(1, _CHUNK // length)
            blocks = [_above(_shapes(curves[start : start + step]), biases) for start in range(0, len(raw), step)]
            parts.append(np.vstack(blocks) if blocks else np.empty((0, sum(bias.size for bias in biases.values()))))
        return np.hstack(parts).astype(np.float32)

    def _split(self, columns):
        ends = np.cumsum(self.settings["lengths"])
        return [columns[end - length : end] for end, length in zip(ends, self.settings["lengths"])]

    def _biases(self, length: int) -> int:
        """Biases for each kernel, as many as the features leave."""
        every = len(self.settings["lengths"]) * len(_dilations(length)) * len(KERNELS)
        return max(1, round(FEATURES / every))


def _curves(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    curves = frame[list(names)].astype(np.float64).replace([np.inf, -np.inf], np.nan).clip(-_LARGEST, _LARGEST)
    return curves.interpolate(axis=1, limit_area="inside").to_numpy(np.float32)


def _level(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each row [N, 1] where it is known."""
    known = ~np.isnan(curves)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    mean = np.where(known, curves, 0).sum(1, keepdims=True) / count
    return mean, np.sqrt((np.where(known, curves - mean, 0) ** 2).sum(1, keepdims=True) / count)


def _shapes(curves: np.ndarray) -> np.ndarray:
    """Each row brought to mean 0 and deviation 1; 0 where it is flat or not known."""
    mean, size = _level(curves)
    smallest = 1e-6 * np.nanmax(np.abs(curves), initial=0)
    return np.nan_to_num(np.divide(curves - mean, size, out=np.zeros_like(curves), where=size > smallest))


def _are_curves(shapes: np.ndarray) -> bool:
    if not len(shapes):
        return False
    length = shapes.shape[1]
    alike = _likeness(shapes, length // 3)
    differing = _likeness(shapes - shapes.mean(0), 1)[0]  # columns of any kind may have means in some order
    if alike[0] < SMOOTH or differing < SMOOTH - 0.1 or alike.min() >= alike[0] / 2:
        return False
    widths = [lag for lag in range(3, len(alike) + 1) if length % lag == 0]  # of a grid, whose rows are alike
    return not any(alike[w - 1] >= 0.9 * alike[0] and alike[:w].min() < alike[0] / 2 for w in widths)


def _likeness(shapes: np.ndarray, most: int) -> np.ndarray:
    """The correlation of each place along the rows with the one so many further on, for 1 to `most`."""
    total = np.square(shapes).sum()
    products = [(shapes[:, lag:] * shapes[:, :-lag]).sum() for lag in range(1, most + 1)]
    return np.array(products) / total if total else np.zeros(most)


def _dilations(length: int) -> tuple[int, ...]:
    most = max(1, (length - 1) // (TAPS - 1))
    return tuple(sorted({round(d) for d in np.geomspace(1, most, DILATIONS)}))


def _answers(shapes: np.ndarray, dilation: int) -> Iterator[np.ndarray]:
    """What each kernel says along each curve, float32 [N, about L]; every other kernel keeps off the ends."""
    length, reach = shapes.shape[1], dilation * (TAPS // 2)
    padded = np.pad(shapes, ((0, 0), (reach, reach)))
    taps = [padded[:, tap * dilation : tap * dilation + length] for tap in range(TAPS)]
    base = -np.sum(taps, axis=0)
    thrice = [3 * tap for tap in taps]
    inner = slice(reach, length - reach) if length > 2 * reach else slice(None)
    before: tuple[int, ...] = ()
    for number, (a, b, c) in enumerate(KERNELS):
        if (a, b) != before:
            two, before = base + thrice[a] + thrice[b], (a, b)
        answer = two + thrice[c]
        yield answer[:, inner] if number % 2 else answer


def _above(shapes: np.ndarray, biases: dict[int, np.ndarray]) -> np.ndarray:
    """The share of each answer above each bias, float32 [N, D]."""
    shares = [
        np.count_nonzero(answer > bias, axis=1) / answer.shape[1]
        for dilation, rows in biases.items()
        for answer, own in zip(_answers(shapes, dilation), rows)
        for bias in own
    ]
    return np.stack(shares, 1).astype(np.float32)
