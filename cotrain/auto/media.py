"""Checks the image and sound files that a column names, before anything is learnt from them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np

from cotrain.auto.columns import CONVERT, UNREADABLE
from cotrain.auto.wording import SHOWN, listing
from cotrain.data.files import find_file
from cotrain.errors import InputError
from cotrain.progress import progress

_MANY = 200  # files from which a progress bar is shown


@dataclass(frozen=True, eq=False)
class Media:
    """usable: bool [N]. content: uint64 [N], a hash of each file's bytes, 0 where unusable.

    problems: what is wrong with each unusable row's file, by row number. unreadable: rows whose files are of sorts that
    are not read, by the file's suffix.
    """

    usable: np.ndarray
    content: np.ndarray
    problems: dict[int, str]
    unreadable: Counter[str]


def check_media(paths: Sequence[Path | None], kind: Literal["image", "audio"]) -> Media:
    """Opens every file and decodes as much as shows whether it is whole; None stands for a row that names no file."""
    usable = np.ones(len(paths), bool)
    content = np.zeros(len(paths), np.uint64)
    problems: dict[int, str] = {}
    unreadable: Counter[str] = Counter()
    known: dict[Path, tuple[int, str]] = {}
    with progress(f"checking {kind} files" if len(paths) >= _MANY else None, len(paths)) as advance:
        for row, path in enumerate(paths):
            if path is None:
                digest, problem = 0, "no file is named"
            else:
                if path not in known:
                    known[path] = check_file(path, kind)
                digest, problem = known[path]
            if problem:
                if path is not None and (suffix := path.suffix.lower()) in UNREADABLE and path.is_file():
                    unreadable[suffix] += 1
                usable[row] = False
                problems[row] = problem
            content[row] = digest
            advance()
    return Media(usable, content, problems, unreadable)


def media_paths(cells: Sequence[str], folder: Path) -> list[Path | None]:
    """The files that the cells of an aligned column name, relative to a folder."""
    return [find_file(cell, folder) if cell.strip() else None for cell in cells]


def refuse_or_warn(media: Media, name: str, row_label) -> list[str]:
    """A warning that lists some of the unusable files. Raises InputError if more than half are unusable."""
    if not media.problems:
        return []
    listed = "; ".join(f"{row_label(row)}: {what}" for row, what in list(media.problems.items())[:SHOWN])
    more = f"; and {len(media.problems) - SHOWN:,} more" if len(media.problems) > SHOWN else ""
    total = f"{len(media.problems):,} of {len(media.usable):,} files of column {name!r} cannot be used"
    if media.unreadable:
        counts = listing(f"{suffix} {count:,}" for suffix, count in media.unreadable.most_common())
        more += f". Files that cannot be read ({counts}): {CONVERT}"
    if media.usable.mean() < 0.5:
        raise InputError(f"{total}, more than half: {listed}{more}.")
    return [f"{total}; their rows are left out: {listed}{more}."]


def check_file(path: Path, kind: Literal["image", "audio"]) -> tuple[int, str]:
    """A hash of the file's bytes and what is wrong with it ("" if nothing)."""
    try:
        if not path.is_file():
            return 0, f"{path.name} does not exist"
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        return 0, f"{path.name} cannot be opened ({error})"
    if not data:
        return 0, f"{path.name} is empty"
    problem = _broken_image(data) if kind == "image" else _broken_sound(data)
    if problem:
        return 0, f"{path.name} is broken or no {kind} file ({problem})"
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little"), ""


def _broken_image(data: bytes) -> str:
    from PIL import Image

    from cotrain.views.pixels import upright

    try:
        with Image.open(BytesIO(data)) as image:
            image.draft("RGB", (64, 64))  # a JPEG is decoded at an eighth of its size: enough to see that it is whole
            image.load()
            upright(image, 3)
    except Exception as error:  # a broken file can fail anywhere inside the decoder of its format
        return str(error).split("\n")[0].split(" <")[0] or type(error).__name__
    return ""


_LENGTHS = (b"Xing", b"Info", b"VBRI")  # what MP3s begin with that tell their length


def _broken_sound(data: bytes) -> str:
    import soundfile

    try:
        with soundfile.SoundFile(BytesIO(data)) as sound:
            if not sound.frames:
                return "it holds no sound"
            if sound.subtype.startswith(("FLOAT", "DOUBLE", "MPEG")):  # others hold finite numbers alone
                read = 0
                while len(block := sound.read(1 << 18, dtype="float32")):
                    if not np.isfinite(block).all():
                        return "it holds samples that are not finite"
                    read += len(block)
                guessed = sound.subtype.startswith("MPEG") and not any(mark in data[:4_096] for mark in _LENGTHS)
                return "it ends too early" if read < 0.9 * sound.frames and not guessed else ""
            sound.seek(sound.frames - 1)  # not in MP3, whose decoder complains aloud where it lacks what came before
            if not len(sound.read(1)):
                return "it ends too early"
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        return str(error).split(": ")[-1].rstrip(".")
    return ""
