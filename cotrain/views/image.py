"""Images as features: pixels, oriented gradients with colours, or k-means over patches.

All three share one extraction, the pixels of `pixels.decode`: extract once and hand the result to each of them.
Legend: N images, H height, W width, C channels, D features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cotrain.errors import InputError
from cotrain.views.histograms import colour_histograms, gradient_histograms, tents
from cotrain.views.pixels import common_levels, common_shape, decode
from cotrain.views.sample import sample_rows
from cotrain.views.scale import LENGTH, one_scale, own_scales
from cotrain.views.view import View

_BATCH = 256  # images worked on at once


class ImageView(View):
    """One column of images, as paths or as arrays uint8 [H, W] or [H, W, 3]; or columns of numbers that are pixels.

    Args:
        columns: the name of one column, or of those that are pixels.
        folder: what paths are relative to; None is the working folder.
        shape: H, W, C of the decoded images. None takes what suits the first frame that is extracted, and keeps it in
            `settings`: new frames, and views made from the settings, have the same shape.
        pixels: of columns of numbers, what is black, what is white, what is where there is no column, and then the
            places of the columns in the picture, row by row; None for a column of images.
        levels: what is black and what is white in images of more than 8 bits. None, with `shape`, takes 0 and 65,535
            (of fractions 255); without it, what suits the first frame, which is kept as the shape is.
    """

    def __init__(
        self,
        columns: Sequence[str],
        folder: str | None = None,
        shape: Sequence[int] | None = None,
        pixels: Sequence[float] | None = None,
        levels: Sequence[float] | None = None,
        **settings: Any,
    ):
        super().__init__(columns, folder=folder, shape=shape, pixels=pixels, levels=levels, **settings)
        if pixels is None and len(self.columns) != 1:
            raise InputError(f"An image view reads one column, not {len(self.columns)}: {', '.join(self.columns)}.")

    @property
    def source(self) -> tuple[Any, ...]:
        chosen = (self.settings[name] for name in ("shape", "pixels", "levels"))
        return "pixels", self.columns, self.settings["folder"], *(each and tuple(each) for each in chosen)

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """uint8 [N, H, W, C]. Raises InputError for an image that cannot be read."""
        if self.settings["pixels"] is not None:
            return self._pixels(frame)
        column = self.columns[0]
        cells, folder = frame[column].tolist(), self.settings["folder"]
        if self.settings["shape"] is None:
            self.settings["shape"] = common_shape(cells, folder, column)
            self.settings["levels"] = self.settings["levels"] or common_levels(cells, folder, column)
        height, width, channels = self.settings["shape"]
        return decode(cells, folder, (height, width, channels), column, self.settings["levels"])

    def _pixels(self, frame: pd.DataFrame) -> np.ndarray:
        black, white, other, *places = self.settings["pixels"]
        pictures = np.full((len(frame), int(np.prod(self.settings["shape"]))), other, np.float32)
        pictures[:, np.array(places, int)] = frame[list(self.columns)].to_numpy(np.float32, na_value=other)
        shares = ((pictures - black) / (white - black)).clip(0, 1)
        return (255 * shares).round().astype(np.uint8).reshape(len(frame), *self.settings["shape"])


class PixelView(ImageView):
    """Principal components of the pixels, whitened so far that the small ones are not blown up.

    Args:
        most: principal components kept.
        ridge: added to each variance, as a share of the largest one, before it is divided by.
    """

    def __init__(
        self,
        columns: Sequence[str],
        folder: str | None = None,
        shape: Sequence[int] | None = None,
        pixels: Sequence[float] | None = None,
        most: int = 120,
        ridge: float = 1.0,
        levels: Sequence[float] | None = None,
    ):
        super().__init__(columns, folder, shape, pixels, levels, most=most, ridge=ridge)

    def fit(self, raw: np.ndarray) -> "PixelView":
        x_NP = _small(raw[sample_rows(raw, 10_000)])
        mean_P = x_NP.mean(0)
        x_NP -= mean_P
        variance, axes = np.linalg.eigh((x_NP.T @ x_NP / len(x_NP)).astype(np.float64))
        kept = np.argsort(-variance)[: min(self.settings["most"], len(x_NP))]
        varied = int((variance[kept] > 1e-7 * variance.max(initial=0.0)).sum())
        kept = kept[: max(1, varied)]  # where all pictures are alike, one that says nothing
        scale = (variance[kept] + self.settings["ridge"] * variance.max(initial=1e-12)) ** -0.5
        scale *= LENGTH / max(float((variance[kept] * scale**2).sum()), 1e-12) ** 0.5
        self.learned = {"mean": mean_P, "axes": (axes[:, kept] * scale).astype(np.float32)}
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return np.concatenate([(_small(part) - self.learned["mean"]) @ self.learned["axes"] for part in _parts(raw)])


class HogView(ImageView):
    """Histograms of oriented gradients, and of colours where there are any; suits linear models and kernels.

    Source: Dalal & Triggs, "Histograms of oriented gradients for human detection" (CVPR 2005): 9 unsigned orientations,
    2 x 2 cells a block, L2 normalisation clipped at 0.2. The number of cells is fixed here instead of their size.

    Args:
        cells: on the longer side; those of small images overlap the more.
        orientations: of half a turn.
    """

    def __init__(
        self,
        columns: Sequence[str],
        folder: str | None = None,
        shape: Sequence[int] | None = None,
        pixels: Sequence[float] | None = None,
        cells: int = 7,
        orientations: int = 9,
        levels: Sequence[float] | None = None,
    ):
        super().__init__(columns, folder, shape, pixels, levels, cells=cells, orientations=orientations)

    def fit(self, raw: np.ndarray) -> "HogView":
        self.learned = one_scale(self._histograms(raw[sample_rows(raw, 2_000)]))
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (self._histograms(raw) - self.learned["mean"]) * self.learned["scale"]

    def _histograms(self, raw: np.ndarray) -> np.ndarray:
        longest = max(raw.shape[1:3])
        grid = tuple(max(2, round(self.settings["cells"] * side / longest)) for side in raw.shape[1:3])
        parts = []
        for part in _parts(raw):
            found = [gradient_histograms(part, grid, self.settings["orientations"])]
            if raw.shape[3] == 3:
                found.append(colour_histograms(part))
            parts.append(np.concatenate(found, axis=1))
        return np.concatenate(parts)


class PatchView(ImageView):
    """k-means over whitened patches, summed over quadrants (Coates, Ng & Lee 2011); the strongest view of photographs.

    Args:
        centres: of k-means. The paper's figures grow up to 4,000, on many labels; on few, 200 are as good as 800.
        patch: pixels on a side; None takes 6 (the paper's), or a third of a smaller image.
    """

    def __init__(
        self,
        columns: Sequence[str],
        folder: str | None = None,
        shape: Sequence[int] | None = None,
        pixels: Sequence[float] | None = None,
        centres: int = 200,
        patch: int | None = None,
        levels: Sequence[float] | None = None,
    ):
        super().__init__(columns, folder, shape, pixels, levels, centres=centres, patch=patch)

    def fit(self, raw: np.ndarray) -> "PatchView":
        from cotrain.views.patches import learn_patches

        shortest = min(raw.shape[1:3])
        side = min(self.settings["patch"] or min(6, max(3, shortest // 3)), shortest)
        pictures = raw[sample_rows(raw, 5_000)]
        self.learned = learn_patches(pictures, (side, side), self.settings["centres"], flat=10.0, noise=0.5)
        self.learned |= own_scales(self._features(pictures[:1_000]))
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (self._features(raw) - self.learned["mean"]) * self.learned["scale"]

    def _features(self, raw: np.ndarray) -> np.ndarray:
        from cotrain.views.patches import patch_features

        return patch_features(raw, self.learned, stride=2 if max(raw.shape[1:3]) > 40 else 1)


def _small(raw: np.ndarray) -> np.ndarray:
    """Pixels in 0..1, float32 [N, P], of pictures made so small that P <= 2,048."""
    factor, pixels = 1, int(np.prod(raw.shape[1:]))
    while pixels / factor**2 > 2_048:
        factor += 1
    x_NCHW = raw.transpose(0, 3, 1, 2).astype(np.float32) / 255
    if factor > 1:
        rows, columns = (tents(side, max(1, side // factor)) for side in raw.shape[1:3])
        x_NCHW = rows / rows.sum(1, keepdims=True) @ x_NCHW @ (columns / columns.sum(1, keepdims=True)).T
    return x_NCHW.reshape(len(raw), int(np.prod(x_NCHW.shape[1:])))


def _parts(raw: np.ndarray) -> list[np.ndarray]:
    return [raw[start : start + _BATCH] for start in range(0, max(1, len(raw)), _BATCH)]
