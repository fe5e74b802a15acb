"""Histograms of a picture: of its oriented gradients, and of its colours.

Legend: N images, H height, W width, C channels.
"""

import math

import numpy as np


def gradient_histograms(images: np.ndarray, grid: tuple[int, ...], orientations: int = 9) -> np.ndarray:
    """HOG of uint8 [N, H, W, C] as float32 [N, (rows - 1) (columns - 1) 4 orientations], by blocks of 2 x 2 cells.

    A pixel's gradient (of the channel where it is largest) is shared out linearly among the two nearest orientations
    and the four nearest cells.
    """
    x_NCHW = np.sqrt(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    padded = np.pad(x_NCHW, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    across, down = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2], padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    power = across**2 + down**2
    channel = power.argmax(1)[:, None]
    across, down, power = (np.take_along_axis(each, channel, axis=1) for each in (across, down, power))
    strength = np.sqrt(power)
    place = np.arctan2(down, across) / np.float32(np.pi) % 1 * orientations
    low = np.floor(place)
    share = place - low
    low = low.astype(np.int64) % orientations
    maps = np.zeros((len(images), orientations, *images.shape[1:3]), np.float32)
    np.put_along_axis(maps, low, strength * (1 - share), axis=1)
    np.put_along_axis(maps, (low + 1) % orientations, strength * share, axis=1)
    rows, columns = (tents(side, cells) for side, cells in zip(images.shape[1:3], grid))
    cells = rows @ maps @ columns.T  # [N, orientations, rows, columns]
    blocks = np.concatenate([cells[:, :, y : y - 1 or None, x : x - 1 or None] for y in (0, 1) for x in (0, 1)], axis=1)
    blocks = _unit(_unit(blocks).clip(max=0.2))
    return _flat(blocks.transpose(0, 2, 3, 1))


def colour_histograms(images: np.ndarray, levels: int = 4, grid: int = 4) -> np.ndarray:
    """uint8 [N, H, W, 3] -> float32 [N, levels^3 + 3 grid^2]: root of the shares of each colour, and mean colours."""
    step = 256 // levels
    index = (images // step).astype(np.int64) @ np.array([levels * levels, levels, 1])
    index = _flat(index) + np.arange(len(images))[:, None] * levels**3
    shares = np.bincount(index.ravel(), minlength=len(images) * levels**3).reshape(len(images), levels**3)
    rows, columns = (_boxes(side, grid) for side in images.shape[1:3])
    means = rows @ (images.transpose(0, 3, 1, 2).astype(np.float32) / 255) @ columns.T
    return np.concatenate([np.sqrt(shares / index.shape[1]), _flat(means)], axis=1).astype(np.float32)


def tents(side: int, cells: int) -> np.ndarray:
    """Weights [cells, side] that fall linearly from each cell's centre to the next one's."""
    position = (np.arange(side) + 0.5) * cells / side
    return (1 - abs(position - (np.arange(cells)[:, None] + 0.5))).clip(0).astype(np.float32)


def _boxes(side: int, cells: int) -> np.ndarray:
    """Weights [cells, side] of each cell's mean; a pixel on the border of two cells is in both."""
    cell, pixel = np.arange(cells)[:, None], np.arange(side)
    inside = (pixel >= cell * side // cells) & (pixel * cells < (cell + 1) * side)
    return (inside / inside.sum(1, keepdims=True)).astype(np.float32)


def _unit(blocks: np.ndarray) -> np.ndarray:
    """Each block, along axis 1, at length 1; a faint one stays shorter."""
    return blocks / np.maximum(np.sqrt((blocks**2).sum(1, keepdims=True)), np.float32(1e-2))


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), math.prod(x.shape[1:]))  # -1 would not do for no rows
