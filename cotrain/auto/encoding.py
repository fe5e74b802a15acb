"""Text files as lines: found encodings, byte order marks, packed files, line ends of every system."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from cotrain.auto.wording import SHOWN, listing
from cotrain.errors import InputError

_BOMS = {  # the longest first: that of UTF-32 starts with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ZIP = b"PK\x03\x04"  # how an archive starts
CHUNK = 1 << 20  # bytes read at once
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def find_encoding(path: Path) -> tuple[str, list[str]]:
    """The encoding of a text file, and a warning where it is none of the Unicode ones.

    Raises InputError for an empty file, one that is no text, and broken UTF-16 or UTF-32.
    """
    with open_bytes(path) as file:
        head = file.read(CHUNK // 16)
    if not head:
        raise InputError(f"{path.name} is empty.")
    encoding = next((name for mark, name in _BOMS.items() if head.startswith(mark)), "") or _unmarked(head)
    line, bad = _first_bad(path, encoding)
    if not line:
        return encoding, []
    if encoding.startswith(("utf-16", "utf-32")):
        raise InputError(
            f"{path.name} is no valid {encoding.upper()}: line {line} cannot be decoded. Save it as UTF-8."
        )
    if len(_CONTROL.findall(head)) > 0.02 * len(head):
        raise InputError(
            f"{path.name} is not a text file (control characters all over). "
            "Give CSV, TSV, JSON lines, Parquet or NPZ; a spreadsheet can be saved as CSV."
        )
    if encoding == "utf-8" and (lines := _few_bad(path)):
        return encoding, [
            f"{path.name} is UTF-8 but for single bytes, which are read as \ufffd: "
            f"line {listing(lines[:SHOWN], len(lines))}."
        ]
    western = "cp1252" if not _first_bad(path, "cp1252")[0] else "latin-1"
    return western, [
        f"{path.name} is not UTF-8 (first at line {line}, byte 0x{bad:02x}); it is read as {western}. "
        "If letters look wrong, save it as UTF-8."
    ]


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file, unpacked if it is gzip, bzip2, xz or a zip of one file; whatever is wrong becomes an InputError."""
    try:
        with path.open("rb") as plain:
            start = plain.read(16)
            plain.seek(0)
            unpack = next((unpack for magic, unpack in _PACKED.items() if re.match(magic, start)), None)
            yield cast(IO[bytes], unpack(plain)) if unpack else plain
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error


def zipped(path: Path) -> list[str]:
    """The names of the files in a zip archive. Raises InputError where it is broken."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _files(archive)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error


def _files(archive: zipfile.ZipFile) -> list[str]:
    """Without folders and what macOS adds."""
    names = archive.namelist()
    return [name for name in names if not name.endswith(("/", ".DS_Store")) and not name.startswith("__MACOSX")]


def _only_file(plain: IO[bytes]) -> IO[bytes]:
    archive = zipfile.ZipFile(plain)
    (name,) = _files(archive)
    try:
        return archive.open(name)
    except RuntimeError as error:  # a password is needed, or it is packed in a way that Python does not know
        raise OSError(error) from error


_PACKED: dict[bytes, Callable[[IO[bytes]], object]] = {
    rb"\x1f\x8b": lambda plain: gzip.GzipFile(fileobj=plain),
    rb"BZh\d1AY&SY": bz2.BZ2File,
    rb"\xfd7zXZ\x00": lzma.LZMAFile,
    ZIP: _only_file,
}


@contextmanager
def open_lines(path: Path, encoding: str) -> Iterator[Iterator[str]]:
    """The lines of a file with their ends, which may be those of Unix, Windows or an old Mac. What cannot be decoded
    is replaced: `find_encoding` has looked."""
    with open_bytes(path) as file:
        yield iter(io.TextIOWrapper(file, encoding=encoding, errors="replace", newline=""))


def _unmarked(head: bytes) -> str:
    """UTF-16 without its mark shows as a NUL in every other byte of western text."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) / 2
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.05 * half:
        return "utf-16-be"
    return "utf-8"


def _few_bad(path: Path) -> list[int]:
    """The lines with bytes that are no UTF-8, if they are few beside the letters that are encoded so; else []."""
    bad: list[int] = []
    wrong = letters = 0
    with open_lines(path, "utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.isascii():
                continue
            replaced = line.count("\ufffd")
            wrong += replaced
            letters += sum(sign > "\x7f" for sign in line) - replaced
            if replaced:
                bad.append(number)
    return bad if wrong <= 0.1 * letters else []


def _first_bad(path: Path, encoding: str) -> tuple[int, int]:
    """The line and the byte of the first thing that cannot be decoded; line 0 if there is none."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with open_bytes(path) as file:
        while True:
            chunk = file.read(CHUNK)
            try:
                line += decoder.decode(chunk, final=not chunk).count("\n")
            except UnicodeDecodeError as error:
                before = error.object[: error.start]
                return line + before.decode(encoding, "replace").count("\n"), error.object[error.start]
            if not chunk:
                return 0, 0
