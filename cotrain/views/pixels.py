"""Image files and arrays as one array of pixels: decoded once, one size, one number of channels.

Legend: N images, H height, W width, C channels (1 grey, 3 red, green, blue).
"""

import hashlib
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from cotrain.data.files import cell_place, find_file
from cotrain.errors import InputError
from cotrain.progress import progress

Levels = Sequence[float]  # the values that are black and white
LARGEST = 64  # pixels on the longer side: enough for the views, and small enough to learn in a minute
MEMORY = 400_000_000  # bytes of all pixels together; more images than fit at LARGEST get a smaller size
_LOOKED_AT = 200  # images from which size and channels are chosen
_WHITES = (1, 255, 1_023, 4_095, 16_383, 65_535)  # fractions, and whole numbers of 8 to 16 bits
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_TURNS = {  # what makes an image upright, by the orientation that its EXIF data say
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    cells: Sequence[Any],
    folder: str | None,
    shape: tuple[int, int, int],
    column: str = "image",
    levels: Levels | None = None,
) -> np.ndarray:
    """Images as uint8 [N, H, W, C].

    Args:
        cells: paths (relative to `folder` if given), or arrays uint8 or bool [H, W] or [H, W, 1, 3 or 4], N of them.
        shape: H, W, C of the result.
        column: its name, for errors.
        levels: as of `common_levels`.

    Raises:
        InputError: an image cannot be read; the message names column and file, or the row of an array.
    """
    pixels = np.empty((len(cells), *shape), np.uint8)

    def fill(row: int) -> None:
        pixels[row] = _read(cells[row], folder, shape, levels, cell_place(cells[row], row, column))
        step()

    with (
        progress("Reading images" if len(cells) >= 200 else None, len(cells)) as step,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for _ in pool.map(fill, range(len(cells)), chunksize=64):
            pass
    return pixels


def common_shape(cells: Sequence[Any], folder: str | None, column: str = "image") -> tuple[int, int, int]:
    """H, W, C that suit the images: their usual size or a smaller one of the same aspect, and grey where all are grey.

    Looks at 200 images, chosen by name or content and not by their place in the table.

    Raises:
        InputError: an image cannot be read, or there is none.
    """
    if not len(cells):
        raise InputError(f"Column {column!r} holds no image.")
    looks = [_look(cells[row], folder, cell_place(cells[row], row, column)) for row in _some(cells)]
    height, width = (float(np.median([look[side] for look in looks])) for side in (0, 1))
    channels = 1 if all(look[2] for look in looks) else 3
    height, width = np.clip(height, width / 3, width * 3), np.clip(width, height / 3, height * 3)
    area = min(MEMORY / len(cells) / channels, height * width)
    scale = min(1.0, LARGEST / max(height, width), (area / (height * width)) ** 0.5)
    return max(4, round(height * scale)), max(4, round(width * scale)), channels


def common_levels(cells: Sequence[Any], folder: str | None, column: str = "image") -> Levels | None:
    """What is black and what is white in images of more than 8 bits; None where there are none.

    Files do not tell how many of their bits are used, or whether fractions go up to 1: of the usual ranges it is the
    least that holds all values, and if they fill little of it, or none does, their own. Looks at the 200 images that
    `common_shape` looks at.

    Raises:
        InputError: an image cannot be read.
    """
    found = [_extremes(cells[row], folder, cell_place(cells[row], row, column)) for row in _some(cells)]
    deep = [pair for pair in found if pair is not None]
    if not deep:
        return None
    low, high = min(low for low, _ in deep), max(high for _, high in deep)
    usual = next((white for white in _WHITES if low >= 0 and high <= white), 0)
    if usual and high > usual / 4 and high - low > usual / 16:
        return 0.0, float(usual)
    return low, high if high > low else low + 1


def _some(cells: Sequence[Any]) -> list[int]:
    """Rows that are looked at, chosen by name or content and not by their place in the table."""
    return sorted(range(len(cells)), key=lambda row: _cell_key(cells[row]))[:_LOOKED_AT]


def _extremes(cell: Any, folder: str | None, where: str) -> Levels | None:
    """The least and the largest value of an image of more than 8 bits."""
    image = _open(cell, folder, where)
    try:
        with image:
            if not _is_deep(image):
                return None
            values = np.asarray(image, np.float64)
    except _UNREADABLE as error:
        raise _unreadable(cell, folder, where, error) from error
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else None


def _is_deep(image: Image.Image) -> bool:
    """Whether its values are not of 8 bits: whole numbers of 16 or 32, or fractions."""
    return image.mode == "F" or image.mode.startswith("I")


def _look(cell: Any, folder: str | None, where: str) -> tuple[int, int, bool]:
    """Height, width and whether it is grey."""
    image = _open(cell, folder, where)
    try:
        with image:
            if image.format == "TIFF":
                image.load()  # turns it and forgets that it was; not every Pillow tells the turned size before
            turned = _orientation(image) in (5, 6, 7, 8)  # by a quarter
            width, height = image.size[::-1] if turned else image.size
            image.draft("RGB", (32, 32))
            small = np.asarray(upright(image, 3).resize((16, 16), Image.Resampling.BOX), np.int16)
    except _UNREADABLE as error:
        raise _unreadable(cell, folder, where, error) from error
    return height, width, bool(np.ptp(small, axis=2).max() <= 8)


def read_image(
    cell: Any, folder: str | None, where: str, channels: int, least: int, levels: Levels | None = None
) -> Image.Image:
    """One image, upright, in 8 bits; a large JPEG is decoded at a smaller scale, its sides no shorter than `least`.
    `levels` as of `common_levels`.

    Raises:
        InputError: it cannot be read; the message begins with `where`.
    """
    image = _open(cell, folder, where)
    try:
        with image:
            image.draft("L" if channels == 1 else "RGB", (least, least))
            return upright(image, channels, levels)
    except _UNREADABLE as error:
        raise _unreadable(cell, folder, where, error) from error


def _read(cell: Any, folder: str | None, shape: tuple[int, int, int], levels: Levels | None, where: str) -> np.ndarray:
    height, width, channels = shape
    if isinstance(cell, np.ndarray) and cell.dtype == np.uint8 and (*cell.shape, 1)[:3] == shape:
        return cell.reshape(shape)
    image = read_image(cell, folder, where, channels, 2 * max(height, width), levels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(image, np.uint8).reshape(shape)


def _open(cell: Any, folder: str | None, where: str) -> Image.Image:
    """The image, not decoded yet."""
    if isinstance(cell, np.ndarray):
        if cell.dtype == bool:
            cell = cell.astype(np.uint8) * 255
        if cell.dtype != np.uint8 or (*cell.shape, 1)[2:3] not in ((1,), (3,), (4,)) or not 2 <= cell.ndim <= 3:
            raise InputError(f"{where} is an array {cell.dtype} {list(cell.shape)}; give uint8 [H, W] or [H, W, 3].")
        return Image.fromarray(cell[:, :, 0] if cell.shape[2:] == (1,) else cell)
    if not isinstance(cell, (str, os.PathLike)):
        raise InputError(f"{where} is {cell!r}, neither the path of an image nor an array.")
    try:
        return Image.open(find_file(cell, folder))
    except _UNREADABLE as error:
        raise _unreadable(cell, folder, where, error) from error


def upright(image: Image.Image, channels: int, levels: Levels | None = None) -> Image.Image:
    """Turned as its EXIF data say, on white where it is transparent, 8 bits a channel."""
    image.load()  # TIFF files are turned here
    if (turn := _TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if _is_deep(image):
        # Without levels, as models had it that were saved before there were any.
        black, white = levels or ((0.0, 255.0) if image.mode == "F" else (0.0, 65_535.0))
        values = np.nan_to_num(np.asarray(image, np.float64), nan=black).clip(black, white)
        image = Image.fromarray(((values - black) * 255 / (white - black)).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "LAB":  # of which Pillow makes no grey
        image = image.convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _orientation(image: Image.Image) -> int:
    """By its EXIF data; 1, upright, where they are damaged."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damage can fail anywhere inside the parser; it says nothing about the pixels
        return 1


def _unreadable(cell: Any, folder: str | None, where: str, error: Exception) -> InputError:
    name = "an array" if isinstance(cell, np.ndarray) else find_file(cell, folder)
    return InputError(f"{where}: {name} cannot be read as an image: {error}")


def _cell_key(cell: Any) -> bytes:
    content = cell.tobytes() if isinstance(cell, np.ndarray) else str(cell).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=8).digest()
