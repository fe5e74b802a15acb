"""Images and sounds inside the cells of a table, as in Parquet files of datasets: they become files in the cache.

A cell is bytes, a dictionary of `bytes` and, if known, the `path` that the file once had, an image of Pillow, or an
array that is a picture, where the column's pictures differ in size.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cotrain.auto.columns import IMAGES, SOUNDS, UNREADABLE
from cotrain.data.files import write_whole
from cotrain.data.store import cache_folder
from cotrain.errors import InputError
from cotrain.progress import progress

_STARTS = (  # how files begin, and what they are called
    (rb"\x89PNG", ".png"),
    (rb"\xff\xd8\xff", ".jpg"),
    (rb"GIF8", ".gif"),
    (rb"BM....\0\0\0\0", ".bmp"),
    (rb"(II\*\0|MM\0\*)", ".tif"),
    (rb"RIFF....WEBP", ".webp"),
    (rb"....ftypavi[fs]", ".avif"),
    (rb"....ftyp(hei[cfxs]|hevc|mif1)", ".heic"),
    (rb"(\0\0\0\x0cjP  |\xff\x4f\xff\x51)", ".jp2"),
    (rb"P[1-6]\s+[0-9#]", ".ppm"),
    (rb"RIFF....WAVE", ".wav"),
    (rb"fLaC", ".flac"),
    (rb"OggS", ".ogg"),
    (rb"(ID3|\xff[\xfb\xf3\xf2])", ".mp3"),
    (rb"FORM....AIF", ".aiff"),
    (rb"\.snd", ".au"),
    (rb"caff", ".caf"),
    (rb"....ftypM4A", ".m4a"),
    (rb"....ftyp", ".mp4"),
    (rb"\xff[\xf1\xf9]", ".aac"),
)
_ANY = re.compile(b"|".join(start for start, _ in _STARTS), re.DOTALL)
START = 12  # bytes that these tell it by
_KNOWN = IMAGES + SOUNDS + UNREADABLE
_SHARE = 0.1  # of the cells that must begin as files do; other bytes begin so by chance


def are_packed(cells: pd.Series) -> bool:
    """Whether cells hold images or sounds: some of them do, or most have the form that Hugging Face gives to files."""
    filled = cells[cells.notna()].tolist()
    if set(map(type, filled)) <= {str, int, float, bool}:
        return False
    pairs = sum(isinstance(cell, dict) and cell.keys() == {"bytes", "path"} for cell in filled)
    files = sum(_is_image(cell) or bool(_ANY.match((_bytes(cell) or b"")[:START])) for cell in filled)
    return pairs > len(filled) / 2 or files > _SHARE * len(filled) or _differ_in_size(filled)


def holds_bytes(cell: Any) -> bool:
    """Whether there are bytes somewhere inside a dictionary or at the start of a list."""
    if isinstance(cell, dict):
        return any(map(holds_bytes, cell.values()))
    if isinstance(cell, list | tuple) or (isinstance(cell, np.ndarray) and cell.ndim):
        return len(cell) > 0 and holds_bytes(cell[0])
    return isinstance(cell, bytes | bytearray | memoryview)


def unpack(name: str, cells: pd.Series) -> tuple[list[str | None], str]:
    """The paths of the files, None where there is none, and a sentence about where they are.

    A file keeps the name it had where no other of the column has it. Equal columns share their files. A cell without
    bytes stands for the file at its path.

    Raises InputError: the cache cannot be written.
    """
    contents = [_content(cell) for cell in cells]
    names = _names(cells, contents)
    digest = hashlib.blake2b(digest_size=10)
    for own, content in zip(names, contents):
        digest.update(f"\0{own}\0{len(content or b'')}\0".encode() + (content or b""))
    folder = cache_folder() / "files" / digest.hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with progress(f"unpacking {name}" if len(names) >= 200 else None, len(names)) as advance:
            for own, content in zip(names, contents):
                if own is not None and content is not None and not _is_there(folder / own, content):
                    write_whole(folder / own, content)  # whoever else writes it
                advance()
    except OSError as error:
        raise InputError(
            f"The files in column {name!r} cannot be written to {folder}: {error}. COTRAIN_CACHE names another folder."
        ) from error
    found = [str(folder / own) if own else _path(cell) for own, cell in zip(names, cells)]
    said = (
        f"the files in its cells were written to {folder}" if any(names) else "the files that its cells name are read"
    )
    if lost := sum(path is None for path, held in zip(found, cells.notna()) if held):
        said += f"; cells that hold no image or sound that is known: {lost:,}"
    return found, said


def _content(cell: Any) -> bytes | None:
    if isinstance(cell, np.ndarray):
        from PIL import Image

        cell = Image.fromarray(cell)
    return _saved(cell) if _is_image(cell) else _bytes(cell)


def _bytes(cell: Any) -> bytes | None:
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return bytes(found) if isinstance(found, bytes | bytearray | memoryview) and len(found) else None


def _path(cell: Any) -> str | None:
    """The file that a cell without bytes stands for, if it is one of images or sounds."""
    path = str(cell.get("path") or "") if isinstance(cell, dict) and _bytes(cell) is None else ""
    return path if path.lower().endswith(_KNOWN) else None


def _is_image(cell: Any) -> bool:
    return type(cell).__module__.startswith("PIL.")


def _saved(image: Any) -> bytes | None:
    """An image of Pillow as a file; None where it cannot be read."""
    try:
        if image.mode in ("CMYK", "YCbCr", "HSV", "LAB"):  # which PNG does not have
            image = image.convert("RGB")
        image.save(file := io.BytesIO(), "TIFF" if image.mode in ("F", "I") else "PNG")
    except (OSError, ValueError, SyntaxError):
        return None
    return file.getvalue()


def _differ_in_size(cells: list[Any]) -> bool:
    """Whether cells are arrays of pictures that differ in size; those of one size are numbers of the table."""
    shapes = {cell.shape for cell in cells if isinstance(cell, np.ndarray) and cell.dtype == np.uint8}
    pictures = all(len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4)) for shape in shapes)
    return len(shapes) > 1 and pictures and all(isinstance(cell, np.ndarray) for cell in cells)


def _suffix(content: bytes) -> str:
    return next((suffix for start, suffix in _STARTS if re.match(start, content[:START], re.DOTALL)), "")


def _names(cells: pd.Series, contents: Sequence[bytes | None]) -> list[str | None]:
    """A file's own name, where all of them have one and no two the same; else the number of its row."""
    own = [Path(str(cell.get("path") or "")).name if isinstance(cell, dict) else "" for cell in cells]
    own = [re.sub(r"[^\w.\-]", "_", each).lstrip(".") for each in own]
    held = [row for row, content in enumerate(contents) if content is not None]
    if not all(own[row] for row in held) or len({own[row].casefold() for row in held}) < len(held):
        own = [f"{row:06d}" for row in range(len(own))]
    named: list[str | None] = [None] * len(own)
    for row in held:  # what is neither called a file of media nor begins as one is none
        if own[row].lower().endswith(_KNOWN):
            named[row] = own[row]
        elif suffix := _suffix(contents[row] or b""):
            named[row] = own[row] + suffix
    return named


def _is_there(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content)
