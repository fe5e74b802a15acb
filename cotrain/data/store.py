"""Finds the files of named datasets: in `$COTRAIN_DATA`, in the user's cache, or at their public origin.

`$COTRAIN_DATA/<name>/<file>` comes first, then `<cache>/<name>/<file>`, where the cache is `$COTRAIN_CACHE` or the
user's cache folder. What is in neither is downloaded into the cache. Every file is checked against a hash before it is
read, wherever it lies; what has no known hash is never downloaded.
"""

import gzip
import hashlib
import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, cast

from cotrain.data import files
from cotrain.errors import CotrainError


class DatasetMissing(CotrainError):
    """A named dataset is not at hand and cannot be fetched; the message says where to put it and its origin."""


def cache_folder() -> Path:
    """Where downloads are kept: `$COTRAIN_CACHE`, or the cache folder of the operating system."""
    import pooch

    return Path(os.environ.get("COTRAIN_CACHE") or pooch.os_cache("cotrain"))


def resolve(name: str, file: str, url: str, sha256: str | None, *, stored_sha256: str | None = None) -> Path:
    """The path of one file of a dataset, downloaded if need be and hash-checked.

    sha256: hash of what `url` gives; None if it is not known, in which case the file is never downloaded.
    stored_sha256: hash of `file` where that is a repacking (a gzip, say) of what `url` gives.

    Raises DatasetMissing.
    """
    accepted = {known for known in (sha256, stored_sha256) if known}
    for path in _places(name, dict.fromkeys((file, url.rsplit("/", 1)[-1]))):
        if files.sha256(path) not in accepted:
            raise _missing(
                name, file, url, f"{path} is another file: its SHA-256 is not {' or '.join(sorted(accepted))}"
            )
        return path
    if sha256 is None:
        raise _missing(name, file, url, "it is not downloaded, because the hash of the origin's file is not known")
    return _download(name, file, url, url.rsplit("/", 1)[-1], f"sha256:{sha256}")


def members(name: str, file: str, url: str, *, pattern: str, sha256: str) -> dict[str, bytes]:
    """Members of a zip, by name and sorted by name, whoever packed it: `sha256` is that of their names and contents.

    pattern: regular expression; what it matches in a member's path is the member's name, other members are left out.

    Raises DatasetMissing.
    """
    found = next(iter(_places(name, [file])), None)
    path = found or _download(name, file, url, file, None)
    chosen: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if match := re.search(pattern, entry):
                    chosen[match.group()] = archive.read(entry)
    except (zipfile.BadZipFile, OSError) as error:
        if found is None:  # what was downloaded is not kept, so that it is asked for again
            path.unlink(missing_ok=True)
        raise _missing(name, file, url, f"{path} cannot be read: {error}") from error
    chosen = dict(sorted(chosen.items()))
    digest = hashlib.sha256()
    for key, content in chosen.items():
        digest.update(key.encode() + b"\0" + len(content).to_bytes(8, "little") + content)
    if digest.hexdigest() != sha256:
        if found is None:
            path.unlink()
        raise _missing(name, file, url, f"{path} holds other contents than those expected (SHA-256 {sha256})")
    return chosen


def open_file(path: Path) -> BinaryIO:
    """Opens a file for reading bytes, through gzip if it is one."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


def _places(name: str, names: Iterable[str]) -> list[Path]:
    roots = [Path(os.environ["COTRAIN_DATA"])] if os.environ.get("COTRAIN_DATA") else []
    candidates = (root / name / file for root in [*roots, cache_folder()] for file in names)
    return [path for path in candidates if path.is_file()]


def _download(name: str, file: str, url: str, into: str, known_hash: str | None) -> Path:
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    try:
        return Path(
            pooch.retrieve(
                url,
                known_hash=known_hash,
                fname=into,
                path=cache_folder() / name,
                downloader=pooch.HTTPDownloader(progressbar=_Bar(f"{name}/{into}"), timeout=30),
            )
        )
    except requests.ConnectionError as error:
        raise _missing(name, file, url, "it cannot be downloaded, because its origin cannot be reached") from error
    except (requests.RequestException, ValueError, OSError) as error:
        raise _missing(name, file, url, f"the download failed: {error}") from error


def _missing(name: str, file: str, url: str, why: str) -> DatasetMissing:
    folder = os.environ.get("COTRAIN_DATA")
    looked = f"COTRAIN_DATA is {folder}" if folder else "COTRAIN_DATA is not set"
    return DatasetMissing(
        f"The dataset {name!r} is not at hand: {why}. Put {file} into $COTRAIN_DATA/{name}/ ({looked}) "
        f"or into {cache_folder() / name}. Origin: {url}"
    )


class _Bar:
    """What pooch asks of a progress bar (`total`, `update`, `reset`, `close`), drawn by rich, on a terminal only."""

    def __init__(self, title: str):
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(title, total=None)
        self.total = 0

    def update(self, size: int) -> None:
        self._progress.start()
        self._progress.update(self._task, advance=size, total=self.total or None)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
