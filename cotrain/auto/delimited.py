"""Reads comma-, semicolon-, tab- and bar-separated text, whatever wrote it.

The file is streamed: what stays in memory is the table itself. Encoding, delimiter and quoting are found by looking;
whatever was guessed, repaired or left out is said in a warning that names lines. Lines count from 1, as in an editor.
"""

import csv
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cotrain.auto.cells import NUMBERS, arrow_texts, look_numeric, read_numbers, whole_numbers
from cotrain.auto.encoding import CHUNK, find_encoding, open_lines
from cotrain.auto.wording import SHOWN, listing
from cotrain.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
# Rows with too many cells that are left out: a share, and a number where they are less than a tenth of the rows. More
# come of a wrong delimiter or of cells that want quotes, and the file is refused.
MAY_DROP, FEW = 0.01, 3
LIKE_A_ROW = "The first line looks like a row but is taken as the header; if it is a row, add a header line."
_ONE_COLUMN = "\x1f"  # stands for a delimiter in a file whose header has none
_CELLS = 20_000  # cells parsed before they are packed: few, so that they stay in the processor's cache


@dataclass
class Table:
    """frame: the cells; lines: int64, the line on which each row starts, empty if there are none; warnings: sentences;
    left_out, short: lines of rows with more cells than the header, which are not in the frame, and of those with fewer.
    """

    frame: pd.DataFrame
    lines: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    warnings: list[str] = field(default_factory=list)
    left_out: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    short: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))


def read_delimited(path: Path, *, tabs: bool = False) -> Table:
    """Reads a table with a header line. Columns in which every cell is a number become numbers, the others stay text.

    tabs: take tabs for the delimiter where the file does not show another.

    Raises InputError: empty, header only, no text, broken encoding or gzip, an open quote, too many ragged rows.
    """
    encoding, warnings = find_encoding(path)
    layout = _find_layout(path, encoding, "\t" if tabs else ",")
    records = _parse(path, encoding, layout)
    warnings += records.warnings
    if records.names is None:
        raise InputError(f"{path.name} is empty: there is no header line and no row.")
    if not len(records.lines):
        raise InputError(f"{path.name} has a header line but no row below it.")
    names, renamed = unique_names(records.names)
    warnings += renamed
    columns = {}
    for name in names:
        texts = pa.chunked_array(records.columns.pop(0), pa.large_string()).to_pandas()  # popped: its memory is freed
        columns[name], said = _column(texts, name, layout.delimiter, records.lines)
        warnings += said
    if _is_row(records.names, columns):
        warnings.append(LIKE_A_ROW)
    lines, left_out, short = (np.array(rows, np.int64) for rows in (records.lines, records.left_out, records.short))
    return Table(pd.DataFrame(columns), lines, warnings, left_out, short)


def unique_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Column names without spaces around them, each once: an empty one becomes `column 3`, a second `a` `a (2)`."""
    given = [name.strip() for name in names]
    taken = set(given)
    unique: dict[str, None] = {}
    warnings = []
    for position, name in enumerate(given, start=1):
        new = name or f"column {position}"
        number = 2
        while new in unique or (new != name and new in taken):
            new = f"{name or f'column {position}'} ({number})"
            number += 1
        if new != name:
            called = f"is called {name!r} like one before it" if name else "has no name"
            warnings.append(f"Column {position} {called}; it is named {new!r}.")
        unique[new] = None
    if len(warnings) > SHOWN:
        warnings = [*warnings[:SHOWN], f"{len(warnings) - SHOWN} more columns were renamed in this way."]
    return list(unique), warnings


@dataclass(frozen=True)
class _Layout:
    """How a file is written. skipped: lines before the header. spaced: blanks stand between a delimiter and a cell."""

    delimiter: str
    skipped: int = 0
    spaced: bool = False


def _find_layout(path: Path, encoding: str, default: str) -> _Layout:
    """The delimiter is the one that gives most rows as many cells as the header has."""
    with open_lines(path, encoding) as lines:
        sample = []
        size = 0
        for line in islice(lines, 1_000):
            sample.append(line.replace("\0", ""))
            size += len(line)
            if size > CHUNK // 4:
                break
    if sample and (named := re.fullmatch(r"sep=(.)\s*", sample[0])) and named.group(1) in DELIMITERS:
        return _Layout(named.group(1), 1)  # a spreadsheet's way to say it
    text = "".join(sample)
    best, best_score = _Layout(_ONE_COLUMN), (0.0, False, 0)
    for delimiter in DELIMITERS:
        spaced = f'{delimiter} "' in text and f'{delimiter}"' not in text
        with _unlimited_cells():
            reader = csv.reader(sample, delimiter=delimiter, skipinitialspace=spaced)
            counts = [len(record) for record in reader if record]
        if not counts or counts[0] < 2:
            continue
        share = counts.count(counts[0]) / len(counts)
        score = (round(share, 2), delimiter == default, counts[0])
        if score > best_score and (share >= 0.5 or delimiter == default):
            best, best_score = _Layout(delimiter, spaced=spaced), score
    return best


@dataclass
class _Records:
    names: list[str] | None = None
    columns: list[list[pa.Array]] = field(default_factory=list)
    lines: array = field(default_factory=lambda: array("q"))
    left_out: list[int] = field(default_factory=list)
    short: array = field(default_factory=lambda: array("q"))
    warnings: list[str] = field(default_factory=list)


class _BrokenQuote(Exception):
    """The quotes of a file are not those of CSV; `line` is where that shows, `text` what stands there."""

    def __init__(self, line: int, text: str):
        super().__init__(line)
        self.line = line
        self.text = text


def _parse(path: Path, encoding: str, layout: _Layout) -> _Records:
    try:
        return _records(path, encoding, layout, quotes="strict")
    except _BrokenQuote as error:
        broken = error
    # A backslash stands before quotes, quotes are ordinary characters in this file, or a few of them are wrong.
    if '\\"' in broken.text:
        with suppress(_BrokenQuote, InputError):
            records = _records(path, encoding, layout, quotes="escaped")
            if not records.left_out:
                return records
    if _quotes_are_ordinary(path, encoding, layout):
        records = _records(path, encoding, layout, quotes="none")
        records.warnings.append(
            f'Line {broken.line}: a double quote (") is neither closed nor doubled, as CSV asks; '
            "in this file double quotes are read as ordinary characters."
        )
        return records
    records = _records(path, encoding, layout, quotes="lenient")
    records.warnings.append(
        f'Line {broken.line}: something follows a closing double quote ("); it is kept in the cell.'
    )
    return records


def _records(path: Path, encoding: str, layout: _Layout, *, quotes: str) -> _Records:
    """quotes: "strict" or "escaped", by a backslash (both raise _BrokenQuote), "lenient" or "none"."""
    delimiter = layout.delimiter
    out = _Records()
    source = _Lines(layout.skipped)
    waiting: list[list[str]] = []
    ragged = _Ragged()
    blank: list[int] = []  # lines that are empty cells of a table of one column, unless no row follows
    previous: tuple[int, list[str]] = (0, [])  # where the record before starts, and its lines
    with open_lines(path, encoding) as lines, _unlimited_cells():
        reader = csv.reader(
            source.of(lines),
            delimiter=delimiter,
            strict=quotes in ("strict", "escaped"),
            quoting=csv.QUOTE_NONE if quotes == "none" else csv.QUOTE_MINIMAL,
            escapechar="\\" if quotes == "escaped" else None,
            doublequote=quotes != "escaped",
            skipinitialspace=layout.spaced,
        )
        while True:
            start, source.record = source.line + 1, []
            try:
                record = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                if quotes in ("strict", "escaped"):
                    raise _BrokenQuote(start, "".join(source.record)) from error
                raise InputError(f"{path.name}, line {start}: {error}.") from error
            previous = start, source.record
            if not record or (len(record) == 1 and ragged.width > 1 and not record[0].strip()):
                if ragged.width == 1:
                    blank.append(start)
                continue  # a blank line
            if delimiter == _ONE_COLUMN:
                record = [delimiter.join(record)]
            if out.names is None:
                out.names = record
                ragged.width = len(record)
                out.columns = [[] for _ in record]
                continue
            if len(source.record) > 1:
                ragged.several += 1
                if all(line.count(delimiter) == ragged.width - 1 > 0 for line in source.record):
                    ragged.swallowed.append(start)
            if blank:
                waiting += [[""] for _ in blank]
                out.lines.extend(blank)
                blank.clear()
            if ragged.fit(record, start):
                waiting.append(record)
                out.lines.append(start)
            if len(waiting) >= 100 and len(waiting) * ragged.width >= _CELLS:
                _pack(waiting, out.columns)
    if quotes == "lenient" and _is_open(previous[1], delimiter):
        raise InputError(
            f'{path.name}, line {previous[0]}: a double quote (") opens a cell and is never closed. '
            "Close it, or double it if it belongs to the text."
        )
    _pack(waiting, out.columns)
    ragged.refuse(path.name, len(out.lines), delimiter)
    out.warnings, out.short = ragged.warnings(), ragged.short
    out.left_out = [line for line, _ in ragged.long]
    if source.zeros:
        out.warnings.append(f"NUL characters are removed, first from line {source.zeros}.")
    return out


class _Ragged:
    """Rows that are not as wide as the header: the lines on which they start."""

    def __init__(self) -> None:
        self.width = 0  # cells of the header
        self.long: list[tuple[int, int]] = []  # line and number of cells
        self.short, self.trimmed, self.swallowed = array("q"), array("q"), array("q")
        self.several = 0  # rows that run over several lines

    def fit(self, record: list[str], line: int) -> bool:
        """Makes a record as wide as the header, in place; False if it has too many cells to be kept."""
        if len(record) > self.width:
            if any(record[self.width :]):
                self.long.append((line, len(record)))
                return False
            self.trimmed.append(line)
            del record[self.width :]
        elif len(record) < self.width:
            self.short.append(line)
            record += [""] * (self.width - len(record))
        return True

    def refuse(self, name: str, kept: int, delimiter: str) -> None:
        rows = kept + len(self.long)
        few = len(self.long) <= FEW and 10 * len(self.long) < rows
        if len(self.long) > MAY_DROP * rows and not few:
            lines = listing((f"line {line} ({cells} cells)" for line, cells in self.long[:SHOWN]), len(self.long))
            raise InputError(
                f"{name}: {len(self.long):,} of {rows:,} rows have more cells than the {self.width} of the header: "
                f"{lines}. Put cells that hold a {DELIMITERS[delimiter]} in double quotes."
            )

    def warnings(self) -> list[str]:
        # Where cells of several lines are usual, such as code, some have as many delimiters a line by chance.
        swallowed = self.swallowed if 2 * len(self.swallowed) > self.several else array("q")
        found = (
            ([line for line, _ in self.long], f"more cells than the {self.width} of the header, left out"),
            (self.short, f"fewer cells than the {self.width} of the header, the missing ones taken as empty"),
            (self.trimmed, "empty cells beyond those of the header, which are dropped"),
            (swallowed, "a cell in double quotes that runs over several lines, each of which looks like a row"),
        )
        return [
            f"Rows with {said}: {len(lines):,} (line {listing(lines[:SHOWN], len(lines))})."
            for lines, said in found
            if lines
        ]


class _Lines:
    """Counts the lines that go to the parser, takes NUL characters out, and keeps those of the present record."""

    def __init__(self, skipped: int):
        self.skipped = skipped
        self.line = skipped
        self.zeros = 0  # the first line with a NUL character
        self.record: list[str] = []

    def of(self, lines: Iterator[str]) -> Iterator[str]:
        for line in islice(lines, self.skipped, None):
            self.line += 1
            if "\0" in line:
                self.zeros = self.zeros or self.line
                line = line.replace("\0", "")
            self.record.append(line)
            yield line


def _pack(waiting: list[list[str]], columns: list[list[pa.Array]]) -> None:
    for column, cells in zip(columns, zip(*waiting)):
        column.append(pa.array(cells, pa.large_string()))
    waiting.clear()


def _is_open(record: list[str], delimiter: str) -> bool:
    """Whether a record ends inside quotes."""
    reader = csv.reader(record, delimiter=delimiter, strict=True)
    try:
        for _ in reader:
            pass
    except csv.Error as error:
        return "end of data" in str(error)
    return False


def _quotes_are_ordinary(path: Path, encoding: str, layout: _Layout) -> bool:
    """Whether the lines make a table without any quoting: as many cells as the header, few of them in quotes."""
    delimiter = layout.delimiter
    rows = wrong = quoted = width = 0
    with open_lines(path, encoding) as lines:
        for line in islice(lines, layout.skipped, None):
            line = line.rstrip("\r\n")
            if not line.strip():
                continue
            if not width:
                width = line.count(delimiter) + 1
                if width < 2 or '"' in line:
                    return False
                continue
            rows += 1
            wrong += line.count(delimiter) + 1 != width
            quoted += bool(re.search(f'(^|{re.escape(delimiter)})"[^"]*"({re.escape(delimiter)}|$)', line))
    return rows > 0 and wrong <= MAY_DROP * rows and quoted <= 0.1 * rows


def _column(texts: pd.Series, name: str, delimiter: str, lines: array) -> tuple[pd.Series, list[str]]:
    said: list[str] = []
    if (numbers := whole_numbers(texts)) is not None:
        return pd.Series(numbers), said
    if delimiter == ";" and look_numeric(_dotted(texts.iloc[:1_000])) > 0.5 and texts.str.contains(",").any():
        dotted = _dotted(texts)
        if read_numbers(dotted).share >= NUMBERS and not texts.str.contains(r"\d\.\d").any():
            texts, said = dotted, [f"Column {name!r}: the comma is read as the decimal point."]
            if (numbers := whole_numbers(texts)) is not None:
                return pd.Series(numbers), said
    if look_numeric(texts) > 0.5:
        read = read_numbers(texts)
        if NUMBERS <= read.share < 1:
            stray = read.strays[0]
            said.append(
                f"Column {name!r}: cells that are not numbers among numbers: {len(read.strays):,}, first "
                f"{texts.iloc[stray][:40]!r} in row {stray + 1} (line {lines[stray]}). They are kept as they are."
            )
    return texts, said


def _dotted(texts: pd.Series) -> pd.Series:
    """With a point in numbers that have a comma; other cells stay as they are."""
    number = r"^(\s*[+-]?[0-9]*),([0-9]+([eE][+-]?[0-9]+)?\s*)$"
    return pc.replace_substring_regex(arrow_texts(texts), number, r"\1.\2").to_pandas()


def _is_row(header: list[str], columns: dict[str, pd.Series]) -> bool:
    """Whether the header is rather a row: only numbers, a long text, or a value that its column holds too."""
    if all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", name.strip()) for name in header):
        return True
    if any(len(name) > 80 or len(name.split()) > 10 for name in header):
        return True
    texts = [(name, cells) for name, cells in zip(header, columns.values()) if isinstance(cells.dtype, pd.StringDtype)]
    return any(bool(name.strip()) and bool((cells.iloc[:10_000] == name).any()) for name, cells in texts)


@contextmanager
def _unlimited_cells() -> Iterator[None]:
    """Lets a cell be longer than the csv module's 131,072 characters, a limit of the process."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)
