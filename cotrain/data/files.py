"""Which file the cell of a table names."""

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
