"""Vectors on disk by what they were made of, so that nothing is computed twice.

A folder holds files of rows, each a hash of the item and its vector. Files are only added, under names that no other
process uses; a broken one is skipped. Where the folder cannot be written, everything still works, once.
"""

import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

LARGEST = 4_000_000_000  # bytes of all caches together; the files longest unused go first


class EmbeddingCache:
    """Vectors float32 [D] by hashes of 16 bytes."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._found: dict[bytes, np.ndarray] = {}
        for path in sorted(folder.glob("*.npy")):
            self._read(path)

    def __getitem__(self, key: bytes) -> np.ndarray:
        return self._found[key]

    def __contains__(self, key: bytes) -> bool:
        return key in self._found

    def put(self, keys: Sequence[bytes], vectors_ND: np.ndarray) -> None:
        """Remembers rows, and writes them if the folder can be written."""
        if not len(keys):
            return
        self._found.update(zip(keys, vectors_ND))
        rows = np.empty(len(keys), [("key", np.uint8, (16,)), ("vector", np.float32, (vectors_ND.shape[1],))])
        rows["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
        rows["vector"] = vectors_ND
        name = uuid.uuid4().hex
        unfinished = self._folder / f"{name}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.save(file, rows, allow_pickle=False)
            unfinished.replace(self._folder / f"{name}.npy")
        except OSError:
            with suppress(OSError):
                unfinished.unlink()

    def _read(self, path: Path) -> None:
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            keys = np.ascontiguousarray(rows["key"])
            if keys.shape != (len(rows), 16) or rows["vector"].ndim != 2:
                return
            with suppress(OSError):  # another's cache
                os.utime(path)  # used now: goes last when room is made
        except (OSError, ValueError, EOFError, IndexError):
            return
        content = keys.tobytes()
        self._found.update((content[16 * row : 16 * row + 16], rows["vector"][row]) for row in range(len(rows)))


def make_room(folder: Path, largest: int = LARGEST) -> None:
    """Deletes the files below a folder that were longest not used, until the rest is no larger than `largest` bytes."""
    files = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        except OSError:
            continue
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files, key=lambda entry: entry[:2]):
        if total <= largest:
            return
        try:
            path.unlink()
            total -= size
        except OSError:
            continue
