"""Numbers in a row that are one curve: a course in time, a spectrum, an outline; told by the shapes along it.

Source: Dempster, Schmidt & Webb, "MiniRocket: a very fast (almost) deterministic transform for time series
classification", KDD 2021.
Legend: N rows, L columns of a curve, D features.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from cotrain.views.families import cells, level, shapes
from cotrain.views.scale import own_scales
from cotrain.views.view import View

TAPS = 9  # of a kernel: three of them weigh 2, the others -1
KERNELS = tuple(combinations(range(TAPS), 3))
FEATURES = 1_500  # of all curves together, roughly
DILATIONS = 8  # at most, of a curve
_SEEN = 100  # rows that biases are taken from
_CHUNK = 30_000  # numbers that are folded at a time: they stay in the processor's cache
_GOLDEN = (5**0.5 - 1) / 2


class CurveView(View):
    """For each kernel, how much of the curve lies above a bias; and the curve's mean and size.

    Args:
        lengths: of the curves, whose columns stand one after the other.
    """

    def __init__(self, columns: Sequence[str], lengths: Sequence[int]):
        super().__init__(columns, lengths=list(lengths))

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """float32 [N, all L]; missing numbers lie between their neighbours, NaN before the first and after the last."""
        return np.hstack([cells(frame, names) for names in self._split(self.columns)])

    def fit(self, raw: np.ndarray) -> "CurveView":
        seen = raw[np.sort(np.random.default_rng(0).permutation(len(raw))[:_SEEN])]
        self.learned = {}
        for number, part in enumerate(self._split(seen.T)):
            curves = shapes(part.T)
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
            curves, length = part.T, len(part)
            biases = {d: self.learned[f"bias {number} {d}"] for d in _dilations(length)}
            mean, size = level(curves)
            parts += [mean, np.log(size + 1e-12)]
            step = max(1, _CHUNK // length)
            blocks = [_above(shapes(curves[start : start + step]), biases) for start in range(0, len(raw), step)]
            parts.append(np.vstack(blocks) if blocks else np.empty((0, sum(bias.size for bias in biases.values()))))
        return np.hstack(parts).astype(np.float32)

    def _split(self, columns):
        ends = np.cumsum(self.settings["lengths"])
        return [columns[end - length : end] for end, length in zip(ends, self.settings["lengths"])]

    def _biases(self, length: int) -> int:
        """Biases for each kernel, as many as the features leave."""
        every = len(self.settings["lengths"]) * len(_dilations(length)) * len(KERNELS)
        return max(1, round(FEATURES / every))


def _dilations(length: int) -> tuple[int, ...]:
    most = max(1, (length - 1) // (TAPS - 1))
    return tuple(sorted({round(d) for d in np.geomspace(1, most, DILATIONS)}))


def _answers(seen: np.ndarray, dilation: int) -> Iterator[np.ndarray]:
    """What each kernel says along each curve, float32 [N, about L]; every other kernel keeps off the ends."""
    length, reach = seen.shape[1], dilation * (TAPS // 2)
    padded = np.pad(seen, ((0, 0), (reach, reach)))
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


def _above(seen: np.ndarray, biases: dict[int, np.ndarray]) -> np.ndarray:
    """The share of each answer above each bias, float32 [N, D]."""
    shares = [
        np.count_nonzero(answer > bias, axis=1) / answer.shape[1]
        for dilation, rows in biases.items()
        for answer, own in zip(_answers(seen, dilation), rows)
        for bias in own
    ]
    return np.stack(shares, 1).astype(np.float32)
