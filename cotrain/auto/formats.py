"""Reads tables that carry types: JSON lines, Parquet, Arrow, NPZ. Nothing is ever unpickled."""

import json
import math
from collections.abc import Sequence
from decimal import InvalidOperation, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cotrain.auto.cells import text_series, tidy
from cotrain.auto.delimited import Table, unique_names
from cotrain.auto.encoding import find_encoding, open_lines
from cotrain.auto.packed import START, are_packed, holds_bytes, unpack
from cotrain.errors import InputError

STREAM = b"\xff\xff\xff\xff"  # how a stream of Arrow starts
MAX_WIDTH = 100_000  # columns made of one array


def read_json(path: Path) -> Table:
    """JSON lines (one object a line), or one JSON array of objects. A key that a row lacks is missing there.

    Raises InputError, which names the line of a broken record.
    """
    encoding, warnings = find_encoding(path)
    columns: dict[str, list] = {}
    starts: list[int] = []
    with open_lines(path, encoding) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if not starts and line.lstrip().startswith("["):
                records = _parse(path, line + "".join(lines), number)
                starts = [number] * len(records)
                break
            _add(_parse(path, line.strip(), number), columns, len(starts), f"{path.name}, line {number}")
            starts.append(number)
        else:
            records = []
    for index, record in enumerate(records):
        _add(record, columns, index, f"{path.name}, record {index + 1}")
    if not starts:
        raise InputError(f"{path.name} holds no record.")
    for cells in columns.values():
        cells.extend([None] * (len(starts) - len(cells)))
    names, renamed = unique_names(columns)
    frame, said = tidy_frame({name: pd.Series(cells, dtype=object) for name, cells in zip(names, columns.values())})
    return Table(frame, np.array(starts, np.int64), warnings + renamed + said)


def read_arrow(paths: Sequence[Path]) -> Table:
    """Parquet, Feather, or streams of Arrow, the rows of several files below each other. Images and sounds in cells
    become files; other columns of bytes are left out with a warning. Numbers of classes whose names the file holds, as
    those of Hugging Face datasets do, become names; -1 is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = [_arrow_table(path) for path in paths]
    try:
        table = pa.concat_tables(tables)
    except pa.ArrowException as error:
        raise InputError(f"{paths[0].name} and the files beside it are no table: {_first_line(error)}") from error
    warnings = []
    columns = {}
    names, renamed = unique_names(table.column_names)
    classes = _class_names(table.schema.metadata or {})
    for given, name, column in zip(table.column_names, names, table.columns):
        packed = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
        if packed and not are_packed(pc.binary_slice(column, 0, START).to_pandas()):
            warnings.append(f"Column {name!r} holds bytes and is left out.")
            continue
        try:
            columns[name] = _named(column.to_pandas(), classes.get(given, ()))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            warnings.append(f"Column {name!r} is left out: {_first_line(error)}.")
    frame, said = tidy_frame(columns)
    return Table(frame, warnings=renamed + warnings + said)


def saved_dataset(folder: Path) -> list[Path]:
    """The files of a dataset that `save_to_disk` of Hugging Face wrote, in their order; none in any other folder."""
    try:
        state = json.loads((folder / "state.json").read_text())
        return [folder / each["filename"] for each in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _arrow_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.ipc
    import pyarrow.parquet

    with path.open("rb") as file:
        start = file.read(6)
    kind = "Feather" if start == b"ARROW1" else "Arrow" if start.startswith(STREAM) else "Parquet"
    try:
        if kind == "Arrow":
            with pyarrow.ipc.open_stream(path.read_bytes()) as stream:
                table = stream.read_all()
        else:
            table = (pyarrow.feather if kind == "Feather" else pyarrow.parquet).read_table(path)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as {kind}: {_first_line(error)}") from error
    return table


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes of each column that has some, by the metadata of Hugging Face datasets."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        labels = {name: about for name, about in features.items() if about.get("_type") == "ClassLabel"}
        return {name: [str(each) for each in about["names"]] for name, about in labels.items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _named(cells: pd.Series, names: Sequence[str]) -> pd.Series:
    """The name of each cell's class; the cells as they are where one is no number of a class."""
    if not names or not pd.api.types.is_numeric_dtype(cells):
        return cells
    numbers = cells.fillna(-1)
    if not numbers.isin(range(-1, len(names))).all():
        return cells
    return pd.Series([names[number] if number >= 0 else None for number in numbers.astype(int)], dtype=object)


def read_npz(path: Path) -> Table:
    """NPZ: one-dimensional arrays become columns of their name, those of more dimensions `name_0`, `name_1`, ... or
    `name_0_0`, `name_0_1`, ... and so on.

    Raises InputError for arrays of Python objects (they could run code), or different lengths.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # a broken archive can fail anywhere inside zip, zlib and the header's parser
        reason = "it holds Python objects" if "pickle" in str(error) else _first_line(error)
        raise InputError(f"{path.name} cannot be read as NPZ: {reason}.") from error
    # Single values are no column, and other files in the archive no array.
    arrays = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray) and array.ndim > 0}
    return from_arrays(arrays, path.name)


def from_arrays(arrays: dict[str, np.ndarray], source: str) -> Table:
    """Arrays of equal length as the columns of a table. Raises InputError."""
    if not arrays:
        raise InputError(f"{source} holds no array with rows.")
    for name, array in arrays.items():
        width = math.prod(array.shape[1:])
        if width > MAX_WIDTH:
            raise InputError(f"{source}: array {name!r} has {width:,} columns; at most {MAX_WIDTH:,} are read.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InputError(f"{source}: the arrays differ in their number of rows ({found}).")
    columns: dict[str, pd.Series] = {}
    for name, array in arrays.items():
        if array.dtype.byteorder == ">":  # pandas works on the machine's own byte order
            array = array.astype(array.dtype.newbyteorder("="))
        if array.ndim == 1:
            columns[name] = _series(array)
        else:
            numbered = ((name, *index) for index in np.ndindex(array.shape[1:]))
            flat = array.reshape(len(array), math.prod(array.shape[1:])).T
            columns.update({"_".join(map(str, each)): _series(cells) for each, cells in zip(numbered, flat)})
    frame, warnings = tidy_frame(columns)
    return Table(frame, warnings=warnings)


def tidy_frame(columns: dict[str, pd.Series]) -> tuple[pd.DataFrame, list[str]]:
    """Columns of typed cells as a table of the kinds that `tidy` gives; what it warns of, with the column's name."""
    tidied = {}
    warnings = []
    with localcontext() as decimals:
        decimals.traps[InvalidOperation] = False  # a signalling NaN is missing like any other
        for name, cells in columns.items():
            if cells.dtype == object and are_packed(cells):
                files, where = unpack(name, cells)
                warnings.append(f"Column {name!r}: {where}.")
                tidied[name] = text_series(files)
                continue
            if cells.dtype == object and any(not isinstance(cell, bytes) and holds_bytes(cell) for cell in cells):
                warnings.append(f"Column {name!r} holds bytes and is left out.")
                continue
            tidied[name], said = tidy(cells)
            if said:
                warnings.append(f"Column {name!r}: {said}.")
    return pd.DataFrame(tidied), warnings


def _parse(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            place, what = f"line {line + error.lineno - 1}", f"{error.msg}, at character {error.colno}"
        else:
            place, what = (
                f"line {line}",
                "nested too deep" if isinstance(error, RecursionError) else "a number too long",
            )
        raise InputError(f"{path.name}, {place}: no valid JSON ({what}). JSON lines hold one object a line.") from error


def _add(record: Any, columns: dict[str, list], row: int, place: str) -> None:
    if not isinstance(record, dict):
        raise InputError(f'{place}: an object such as {{"text": ...}} is needed, not {type(record).__name__}.')
    for key, value in record.items():
        cells = columns.setdefault(key, [])
        cells.extend([None] * (row - len(cells)))
        cells.append(value)


def _series(array: np.ndarray) -> pd.Series:
    if array.dtype.kind in "SUV" or array.dtype.hasobject:
        return pd.Series(list(array), dtype=object)
    return pd.Series(array)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
