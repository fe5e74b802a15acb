"""Files: which one the cell of a table names, writing one whole, and its hash."""

import hashlib
import os
from pathlib import Path
from unicodedata import normalize


def find_file(cell: str | os.PathLike, folder: str | os.PathLike | None = None) -> Path:
    r"""The file that a cell names, relative to a folder: without blanks at the name's ends or with them, with \ as
    Windows has it for /, and with letters and their accents in one sign or in two, as zips of Macs have them. The path
    of the plain name where there is no such file."""
    base, name = Path(folder or ""), os.fspath(cell)
    plain = name.strip()
    for form in dict.fromkeys((plain, name, plain.replace("\\", "/"))):
        for spelling in dict.fromkeys((form, normalize("NFC", form), normalize("NFD", form))):
            if form and is_file(base / spelling):
                return base / spelling
    return base / plain


def is_file(path: Path) -> bool:
    """False also for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def cell_place(cell: object, row: int, column: str) -> str:
    """Where a cell is, for errors that name its file: not by the row's number, for rows are often some of a table's."""
    return f"Column {column!r}" if isinstance(cell, (str, os.PathLike)) else f"Row {row}, column {column!r}"


def write_whole(path: Path, content: str | bytes) -> None:
    """The file has all of the content (a text as UTF-8), or what it had before where that fails; its mode stays, and a
    link stays one.

    Raises OSError.
    """
    path = path.resolve()
    fresh = path.with_name(f".{os.urandom(8).hex()}.part")
    try:
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)
        if path.exists():
            fresh.chmod(path.stat().st_mode)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Of the file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
