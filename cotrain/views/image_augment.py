"""Augmentations of images in 0..1, batched and in plain torch.

An operation takes a batch and uniform numbers in 0..1 for each example (`cotrain.views.random_pool`); the functions
here are operations or make them. The strong pool and its ranges are those of FixMatch (Sohn et al. 2020,
arXiv:2001.07685, appendix on augmentations).
Legend: B images, C channels, H rows, W columns, N numbers.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cotrain.randomness import Draws
from cotrain.views.copies import Augment, chain
from cotrain.views.random_pool import Operation, RandomPool


def weak_image(most: float = 0.125, flip: bool = True) -> Augment:
    """Moved by up to a share `most` of each side, the edges mirrored; with probability 1/2 left and right swapped."""
    moved = RandomPool((crop(most),))
    return chain(moved, RandomPool((lambda x, numbers: x.flip(3),), probability=0.5)) if flip else moved


def strong_image(count: int = 2, most: float = 0.125, flip: bool = True, hole: float = 0.5) -> Augment:
    """Weak, then `count` operations of the pool, then a grey square with sides of up to a share `hole`."""
    pool = (
        _same,
        autocontrast,
        brightness,
        colour,
        contrast,
        equalize,
        posterize,
        sharpness,
        solarize,
        rotate(30.0),
        shear(0.3, along=0),
        shear(0.3, along=1),
        translate(0.3, along=0),
        translate(0.3, along=1),
    )
    return chain(weak_image(most, flip), RandomPool(pool, count), RandomPool((cutout(hole),)))


def crop(most: float) -> Operation:
    """Moved by up to a share `most` of each side, by whole pixels; what comes in mirrors the edge."""

    def operation(x: Tensor, numbers_BN: Tensor) -> Tensor:
        for axis in (2, 3):
            size = x.shape[axis]
            offset_B = ((2 * numbers_BN[:, axis - 2] - 1) * most * size).round().long()
            place = torch.arange(size, device=x.device) + offset_B[:, None]
            place = (size - 1) - ((size - 1) - place.abs()).abs()  # ... 2 1 0 1 2 ... size-2 size-1 size-2 ...
            shape = [len(x), 1, 1, 1]
            shape[axis] = size
            x = x.gather(axis, place.view(shape).expand_as(x))
        return x

    return operation


def quarter_turns(x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Turned by 0, 1, 2 or 3 quarters of a circle; and by how many, int64 [B]. Images must be square."""
    turn_B = draws.integer(0, 4)
    turned = torch.stack([x.rot90(turns, (2, 3)) for turns in range(4)])
    return turned[turn_B, torch.arange(len(x))], turn_B


def cutout(most: float) -> Operation:
    """A square with sides of up to a share `most` of the image's becomes grey; it may reach over the edge.

    Source: DeVries & Taylor 2017, arXiv:1708.04552.
    """

    def operation(x: Tensor, numbers_BN: Tensor) -> Tensor:
        inside = []
        for axis in (2, 3):
            size = x.shape[axis]
            distance = torch.arange(size, device=x.device) + 0.5 - (numbers_BN[:, axis - 1] * size)[:, None]
            inside.append(distance.abs() < (most / 2 * size * numbers_BN[:, 0])[:, None])
        return x.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.5)

    return operation


def autocontrast(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Each channel stretched to 0..1; a flat one stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).clamp(min=1e-6), x)


def equalize(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Each channel's 256 levels spread so that they are about equally frequent."""
    levels = (x * 255).round().long().clamp(0, 255).flatten(2)
    counts = torch.zeros(*x.shape[:2], 256, dtype=x.dtype, device=x.device)
    counts.scatter_add_(2, levels, torch.ones_like(levels, dtype=x.dtype))
    below = counts.cumsum(2) - counts
    highest = torch.where(counts > 0, torch.arange(256, device=x.device), -1).amax(2, keepdim=True)
    last = counts.gather(2, highest)  # pixels at the highest level, below which all others are
    spread = below / (levels.shape[2] - last).clamp(min=1)
    flat = last == levels.shape[2]
    return torch.where(flat, x.flatten(2), spread.gather(2, levels)).view_as(x)


def brightness(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Towards black, keeping 5 to 95 % of the light."""
    return x * _share(numbers_BN)


def contrast(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Towards the image's mean grey, keeping 5 to 95 % of the difference."""
    return _towards(_grey(x).mean((2, 3), keepdim=True), x, numbers_BN)


def colour(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Towards its grey version, keeping 5 to 95 % of the colour; images of one channel stay."""
    return _towards(_grey(x), x, numbers_BN)


def sharpness(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Towards a version smoothed over 3 x 3 pixels, keeping 5 to 95 % of the difference; the edge stays."""
    kernel = torch.tensor([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]], device=x.device) / 13
    smooth = x.clone()
    channels = x.shape[1]
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel.expand(channels, 1, 3, 3), groups=channels)
    return _towards(smooth, x, numbers_BN)


def posterize(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Only the highest 4 to 8 bits of each value stay."""
    step = 2.0 ** (8 - (4 + (numbers_BN[:, 0] * 5).floor().clamp(max=4)))[:, None, None, None]
    return ((x * 255).round() / step).floor() * step / 255


def solarize(x: Tensor, numbers_BN: Tensor) -> Tensor:
    """Values at or above a threshold in 0..1 are inverted."""
    return torch.where(x >= numbers_BN[:, 0, None, None, None], 1 - x, x)


def rotate(most: float) -> Operation:
    """Turned about the middle by up to `most` degrees, either way; grey comes in."""

    def operation(x: Tensor, numbers_BN: Tensor) -> Tensor:
        angle_B = _signed(numbers_BN) * math.radians(most)
        cos, sin = angle_B.cos(), angle_B.sin()
        return _moved(x, [[cos, -sin, 0 * cos], [sin, cos, 0 * cos]])

    return operation


def shear(most: float, along: int) -> Operation:
    """Slanted by up to `most` (width per height) along the rows (0) or columns (1); grey comes in."""

    def operation(x: Tensor, numbers_BN: Tensor) -> Tensor:
        slant_B = _signed(numbers_BN) * most
        one, none = torch.ones_like(slant_B), torch.zeros_like(slant_B)
        return _moved(x, [[one, none if along else slant_B, none], [slant_B if along else none, one, none]])

    return operation


def translate(most: float, along: int) -> Operation:
    """Moved by up to a share `most` of the width (0) or height (1); grey comes in."""

    def operation(x: Tensor, numbers_BN: Tensor) -> Tensor:
        offset_B = _signed(numbers_BN) * most * 2  # the sampling grid goes from -1 to 1
        one, none = torch.ones_like(offset_B), torch.zeros_like(offset_B)
        return _moved(x, [[one, none, none if along else offset_B], [none, one, offset_B if along else none]])

    return operation


def _same(x: Tensor, numbers_BN: Tensor) -> Tensor:
    return x


def _signed(numbers_BN: Tensor) -> Tensor:
    return 2 * numbers_BN[:, 0] - 1


def _share(numbers_BN: Tensor) -> Tensor:
    return (0.05 + 0.9 * numbers_BN[:, 0])[:, None, None, None]


def _towards(other: Tensor, x: Tensor, numbers_BN: Tensor) -> Tensor:
    return torch.lerp(other.expand_as(x), x, _share(numbers_BN))


def _grey(x: Tensor) -> Tensor:
    """Luma of ITU-R 601; the mean for other numbers of channels than three."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * torch.tensor([0.299, 0.587, 0.114], device=x.device).view(3, 1, 1)).sum(1, keepdim=True)


def _moved(x: Tensor, rows: list[list[Tensor]]) -> Tensor:
    """Sampled at an affine map of each pixel's place, grey outside; slants in pixels, offsets in halves of a side."""
    height, width = x.shape[-2:]
    (a, b, right), (c, d, down) = rows
    rows = [[a, b * (height / width), right], [c * (width / height), d, down]]  # the grid goes from -1 to 1
    matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x - 0.5, grid, align_corners=False) + 0.5
