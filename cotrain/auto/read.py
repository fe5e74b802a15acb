"""Reads what a user gives into one table: files of six formats, a folder with a labels file, a DataFrame, arrays."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cotrain.auto.delimited import Table, read_delimited, unique_names
from cotrain.auto.encoding import ZIP, open_bytes, zipped
from cotrain.auto.folder import files_as_table
from cotrain.auto.formats import STREAM, from_arrays, read_arrow, read_json, read_npz, saved_dataset, tidy_frame
from cotrain.auto.wording import listing
from cotrain.errors import InputError
from cotrain.masks import unmasked

FORMATS = (
    "CSV, TSV, Parquet, Feather, JSON lines, NPZ, or a folder with a labels.csv or with a subfolder for each class"
)
ARROW = (".parquet", ".pq", ".feather", ".arrow")
TABLES = (".csv", ".tsv", ".tab", ".txt", *ARROW, ".jsonl", ".ndjson", ".json", ".npz")
PACKED = (".gz", ".bz2", ".xz", ".zip")  # of a text file
_FOREIGN = {  # how files start that people give by mistake
    b"\xd0\xcf\x11\xe0": "an old Excel or Word file; save the sheet as CSV",
    b"\x80\x04\x95": "a pickle, which could run code and is never opened; save the table as CSV or Parquet",
    b"\x89PNG": "an image; give a folder with a labels.csv that names the images",
    b"\xff\xd8\xff": "an image; give a folder with a labels.csv that names the images",
    b"RIFF": "a sound; give a folder with a labels.csv that names the sounds",
    b"%PDF": "a PDF; give a table",
    b"\x93NUMPY": "a single NumPy array; save X and y together with numpy.savez",
    b"SQLite format 3": "a database; export the table as CSV",
}


@dataclass(frozen=True, eq=False)
class Source:
    """A table as it was read.

    frame: int64, float64, bool, datetime64 or text columns; rows count from 0. Cells of text files are kept as they
        are, empty ones included, except in columns where every cell is a number or missing.
    name: what messages call it. folder: where relative paths in its cells start; is_folder: that is what was given.
    warnings: what was guessed, repaired or left out. lines: the line on which each row starts, empty if there are none.
    unlisted: files that no table names; they are the last rows.
    left_out, short: lines of a text file whose rows have more cells than the header, which are not in the frame, and
        those of rows that have fewer.
    below: other tables whose rows stand below, each with the row on which it starts.
    """

    frame: pd.DataFrame
    name: str
    folder: Path
    warnings: list[str] = field(default_factory=list)
    lines: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    index: pd.Index | None = None
    is_folder: bool = False
    unlisted: tuple[str, ...] = ()
    left_out: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    short: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    below: tuple[tuple[int, "Source"], ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def of_files(self) -> bool:
        """Whether the rows are the files of a folder without a table."""
        return bool(self.unlisted) and len(self.unlisted) == len(self)

    def changed(self, frame: pd.DataFrame, said: list[str]) -> "Source":
        """The same rows with other columns, and what is to be said of that."""
        return replace(self, frame=frame, warnings=self.warnings + said)

    def row_label(self, row: int) -> str:
        """Where a row is, for people: `row 17 (line 19)`; `row` counts from 0, what is shown from 1."""
        if place := self.place(row):
            return place
        if len(self.lines):
            return f"row {row + 1} (line {self.lines[row]})"
        if self.index is not None:
            return f"row {row + 1} (index {self.index[row]})"
        return f"row {row + 1}"

    def place(self, row: int) -> str | None:
        """Where a row is that is none of the first table's: its file, or its table and where it is in that."""
        beyond = row - len(self) + len(self.unlisted)
        if beyond >= 0:
            return self.unlisted[beyond]
        for start, table in reversed(self.below):
            if row >= start:
                return f"{table.name} {table.row_label(row - start)}"
        return None


def read(source: Any, *, name: str | None = None) -> Source:
    """Reads a path (file or folder), a table in memory, or arrays `(x, y)`.

    A table is a DataFrame, what other libraries turn into one (`to_pandas`: Arrow, Polars, Hugging Face datasets), a
    dict of columns, a list of dicts, one a row, or an array of records, whose fields are the columns. x is such a
    table, [N, D] of numbers (columns `x_0`, `x_1`, ...; of more dimensions, such as pictures, `x_0_0`, ...) or N texts
    (column `text`); y is [N] (column `target`) or None. What a masked array hides is missing.

    Raises InputError: says what is wrong with the source, on which line, and what to do.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, (str, Path)):
        return _read_path(Path(source), name)
    if (frame := _as_frame(source)) is not None:
        return _read_frame(frame, name or "the table")
    if isinstance(source, np.ndarray) and source.dtype.names:
        return _read_arrays(source, None, name or "the array")
    if isinstance(source, tuple) and len(source) == 2:
        return _read_arrays(*source, name or "the arrays")
    raise InputError(f"Cannot read a {type(source).__name__}; give a path ({FORMATS}), a DataFrame, or (x, y).")


def _as_frame(source: Any) -> pd.DataFrame | None:
    """The DataFrame that a table in memory is or makes; None of anything else."""
    if isinstance(source, list):
        if not source or not all(isinstance(row, Mapping) for row in source):
            return None
    elif callable(getattr(source, "to_pandas", None)):
        source = source.to_pandas()
    elif not isinstance(source, Mapping | pd.DataFrame):
        return None
    try:
        return source if isinstance(source, pd.DataFrame) else pd.DataFrame(source)
    except ValueError as error:
        raise InputError(f"The {type(source).__name__} is no table: {error}.") from error


def _read_path(path: Path, name: str | None) -> Source:
    try:
        if not path.exists():
            raise InputError(_not_found(path))
        if not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is a pipe or a device; save what comes out of it to a file and give that.")
        if path.is_dir():
            return replace(_read_folder(path, name), is_folder=True)
        return _source(_read_file(path), name or path.name, path.parent)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error


def _read_folder(folder: Path, name: str | None) -> Source:
    if (folder / "dataset_dict.json").exists():
        parts = sorted(each.name for each in folder.iterdir() if each.is_dir())
        raise InputError(
            f"{folder} holds several datasets ({listing(parts)}); give one of these folders, and the rows of another "
            "one with --more or --test."
        )
    if shards := saved_dataset(folder):
        return _source(read_arrow(shards), name or folder.name, folder)
    labels = _labels_file(folder)
    if labels is None:
        table, files = files_as_table(folder) or (None, [])
        if table is None:
            raise InputError(
                f"{folder} holds no table and no images, sounds or texts. Put a labels.csv into it with one row a "
                "file: a column of file names, relative to the folder, and one of labels (empty where there is none)."
            )
        return replace(_source(table, name or folder.name, folder), unlisted=tuple(files))
    return _source(_read_file(labels), name or f"{folder.name}/{labels.name}", folder)


def _read_file(path: Path) -> Table:
    with path.open("rb") as plain:
        magic = plain.read(16)
    for start, what in _FOREIGN.items():
        if magic.startswith(start):
            raise InputError(f"{path.name} is {what}.")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in PACKED]
    suffix = suffixes[-1] if suffixes else ""
    if magic.startswith(ZIP) and suffix != ".npz":
        suffix = _zipped_suffix(path, suffix)
    if magic.startswith((b"PAR1", b"ARROW1", STREAM)) or suffix in ARROW:
        return read_arrow([path])
    if suffix == ".npz":
        return read_npz(path)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return read_json(path)
    if suffix not in (".csv", ".tsv", ".tab", ".txt") and _starts_with_brace(path):
        return read_json(path)
    return read_delimited(path, tabs=suffix in (".tsv", ".tab"))


def _zipped_suffix(path: Path, suffix: str) -> str:
    """The suffix of the only file in an archive, which is a text; `.npz` where all files are arrays."""
    if suffix in (".xlsx", ".xlsm", ".ods"):
        raise InputError(f"{path.name} is a spreadsheet; save the sheet as CSV.")
    files = zipped(path)
    if all(name.endswith(".npy") for name in files):
        return ".npz"
    inner = Path(files[0]).suffix.lower()
    if len(files) > 1 or inner in (*ARROW, ".npz"):
        raise InputError(
            f"{path.name} is an archive of {listing(files)}; unpack it, then give the table or the folder."
        )
    return inner


def _starts_with_brace(path: Path) -> bool:
    with open_bytes(path) as file:
        return file.read(100).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _labels_file(folder: Path) -> Path | None:
    """The table in a folder: `labels.csv` (or another format), else the only CSV or TSV, else the only table."""
    tables = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in TABLES)
    if (folder / "report.html").exists():  # beside it, report.json is that of a fit
        tables = [path for path in tables if path.name != "report.json"]
    named = [path for path in tables if path.stem.lower() == "labels"]
    delimited = [path for path in tables if path.suffix.lower() in (".csv", ".tsv")]
    others = [path for path in tables if path.suffix.lower() != ".txt"]  # a text file is a text beside other texts
    for candidates in (named, delimited, others):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            found = ", ".join(path.name for path in candidates[:5])
            raise InputError(f"{folder} holds several tables ({found}); call the one with the labels labels.csv.")
    return None


def _not_found(path: Path) -> str:
    if "://" in str(path) or str(path).startswith(("http:/", "https:/", "s3:/")):
        return f"{path} is an address; download the file first and give its path."
    if not path.parent.is_dir():
        return f"There is no file {path}: the folder {path.parent} does not exist."
    names = [entry.name for entry in path.parent.iterdir()]
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(path.name.lower(), lower, n=1) or [
        name for name in lower if Path(name).stem == path.name.lower()
    ]
    return f"There is no file {path}." + (f" Did you mean {path.parent / lower[near[0]]}?" if near else "")


def _read_frame(frame: pd.DataFrame, name: str) -> Source:
    given = ["_".join(map(str, label)) if isinstance(label, tuple) else str(label) for label in frame.columns]
    names, renamed = unique_names(given)
    index = None if isinstance(frame.index, pd.RangeIndex) and frame.index.start == 0 else frame.index
    columns = {new: frame.iloc[:, position] for position, new in enumerate(names)}
    table, warnings = tidy_frame(columns)
    return _source(Table(table, warnings=renamed + warnings), name, Path(), index)


def _read_arrays(x: Any, y: Any, name: str) -> Source:
    if hasattr(x, "toarray"):
        x = x.toarray()
    if (frame := _as_frame(x)) is not None:
        source = _read_frame(frame, name)
        columns = dict(source.frame.items())
        warnings = source.warnings
    else:
        arrays = _by_name(x)
        for key, values in arrays.items():
            if not values.ndim:
                raise InputError(f"{name}: x is {x!r:.40}; a table or an array with a row for each label is needed.")
            if values.dtype.kind == "c":
                raise InputError(f"{name}: x holds complex numbers; give their parts as two columns.")
            if values.dtype.names:
                raise InputError(f"{name}: field {key!r} of x holds records; make each of their fields one of x.")
        table = from_arrays(arrays, name)
        columns, warnings = dict(table.frame.items()), table.warnings
    if not columns:
        raise InputError(f"{name}: x has no column.")
    if y is not None:
        labels = np.asarray(unmasked(y))
        rows = len(next(iter(columns.values())))
        if labels.ndim != 1 or len(labels) != rows:
            raise InputError(
                f"{name}: x has {rows:,} rows, but y has the shape {labels.shape}; one label a row is needed."
            )
        target, said = tidy_frame(
            {"target": pd.Series(list(labels)) if labels.dtype.kind in "OU" else pd.Series(labels)}
        )
        if "target" in columns:
            raise InputError(f"{name}: x has a column called 'target', the name that y gets; rename it.")
        columns["target"], warnings = target["target"], warnings + said
    return _source(Table(pd.DataFrame(columns), warnings=warnings), name, Path())


def _by_name(x: Any) -> dict[str, np.ndarray]:
    """The fields of records; one array by the name that its columns get otherwise."""
    if isinstance(x, np.ndarray) and x.dtype.names:
        return {field: np.asarray(unmasked(x[field])) for field in x.dtype.names}
    values = np.asarray(unmasked(x))
    return {"text" if values.dtype.kind in "OU" and values.ndim == 1 else "x": values}


def _source(table: Table, name: str, folder: Path, index: pd.Index | None = None) -> Source:
    if not len(table.frame.columns):
        raise InputError(f"{name} has no column.")
    if not len(table.frame):
        raise InputError(f"{name} has no row.")
    return Source(
        table.frame, name, folder, table.warnings, table.lines, index, left_out=table.left_out, short=table.short
    )
