"""Images and sounds inside the cells of a table, as in Parquet files of datasets: they become files in the cache.

A cell is bytes, a dictionary of `bytes` and, if known, the `path` that the file once had, or an image of Pillow.
"""

import hashlib
import io
import os
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cotrain.auto.columns import IMAGES, SOUNDS
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
    (rb"RIFF....WAVE", ".wav"),
    (rb"fLaC", ".flac"),
    (rb"OggS", ".ogg"),
    (rb"(ID3|\xff[\xfb\xf3\xf2])", ".mp3"),
    (rb"FORM....AIF", ".aiff"),
)


def are_packed(cells: pd.Series) -> bool:
    """Whether cells hold images or sounds, as told by the first that is not missing."""
    content = _content(next(iter(cells[cells.notna()]), None))
    return content is not None and bool(_suffix(content))


def unpack(name: str, cells: pd.Series) -> tuple[list[str | None], str]:
    """The paths of the files, None where there is none, and a sentence about where they are.

    A file keeps the name it had where no other of the column has it. Equal columns share their files.

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
                if own is not None and content is not None:
                    _write(folder / own, content)
                advance()
    except OSError as error:
        raise InputError(
            f"The files in column {name!r} cannot be written to {folder}: {error}. COTRAIN_CACHE names another folder."
        ) from error
    found = [str(folder / own) if own is not None else None for own in names]
    return found, f"the files in its cells were written to {folder}"


def _content(cell: Any) -> bytes | None:
    if type(cell).__module__.startswith("PIL."):
        cell.save(png := io.BytesIO(), "PNG")
        return png.getvalue()
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return bytes(found) if isinstance(found, bytes | bytearray | memoryview) and len(found) else None


def _suffix(content: bytes) -> str:
    return next((suffix for start, suffix in _STARTS if re.match(start, content[:12], re.DOTALL)), "")


def _names(cells: pd.Series, contents: Sequence[bytes | None]) -> list[str | None]:
    """A file's own name, where all of them have one and no two the same; else the number of its row."""
    own = [Path(str(cell.get("path") or "")).name if isinstance(cell, dict) else "" for cell in cells]
    own = [re.sub(r"[^\w.\-]", "_", each).lstrip(".") for each in own]
    held = [row for row, content in enumerate(contents) if content is not None]
    if not all(own[row] for row in held) or len({own[row].casefold() for row in held}) < len(held):
        own = [f"{row:06d}" for row in range(len(own))]
    named: list[str | None] = [None] * len(own)
    for row in held:
        known = own[row].lower().endswith(IMAGES + SOUNDS)
        named[row] = own[row] if known else own[row] + _suffix(contents[row] or b"")
    return named


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes it."""
    if path.is_file() and path.stat().st_size == len(content):
        return
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    part.write_bytes(content)
    os.replace(part, path)
