"""A folder without a table: each image, sound or text file is a row, and the subfolder that it lies in its label."""

import os
from collections import Counter
from pathlib import Path

import pandas as pd

from cotrain.auto.cells import text_series
from cotrain.auto.columns import CONVERT, IMAGES, SOUNDS, UNREADABLE
from cotrain.auto.delimited import Table
from cotrain.auto.encoding import find_encoding
from cotrain.auto.labels import UNLABELLED
from cotrain.auto.wording import listing
from cotrain.errors import InputError

TEXTS = (".txt",)
SORTS = {"image": IMAGES, "sound": SOUNDS, "text": TEXTS}
FILE, TEXT, LABEL = "file", "text", "label"  # the columns that such a folder has
PARTS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
ASIDE = ("readme", "license", "licence")  # text files about the others


def files_as_table(folder: Path) -> tuple[Table, list[str]] | None:
    """Its files as rows with the columns `file` (or `text`, what a text file holds) and `label`, "" for files that lie
    in the folder itself or in one called `unlabelled`; and the files' names, relative to the folder. None where there
    are no such files.

    Raises InputError: files of several sorts; none but such as cannot be read; subfolders that are parts of a dataset,
    each a table of its own.
    """
    by_sort, others = _files(folder)
    unreadable = listing(f"{suffix} {count:,}" for suffix, count in others.most_common() if suffix in UNREADABLE)
    if not by_sort:
        if unreadable:
            raise InputError(f"{folder} holds no table, and its files ({unreadable}) cannot be read; {CONVERT}.")
        return None
    if len(by_sort) > 1:
        found = " and ".join(f"{len(files):,} {sort} files" for sort, files in by_sort.items())
        raise InputError(f"{folder} holds {found} and no table. Put a labels.csv into it that says what is a row.")
    [(sort, files)] = by_sort.items()
    labels = [_label(file) for file in files]
    classes = Counter(label for label in labels if label)
    parts = sorted((label for label in classes if label.lower() in PARTS), key=lambda label: PARTS.index(label.lower()))
    if parts and len(parts) == len(classes):
        raise InputError(
            f"{folder} holds {listing(parts)}, which look like parts of a dataset and not like classes. Give "
            f"{folder / parts[0]}, and another as --test; files without a label go into a folder 'unlabelled' in it."
        )
    warnings: list[str] = []
    if others:
        listed = listing(f"{suffix or 'without a suffix'} {count:,}" for suffix, count in others.most_common())
        warnings.append(f"Files of other sorts, left alone: {others.total():,} ({listed}).")
    if unreadable:
        warnings.append(f"Files that cannot be read ({unreadable}): {CONVERT}.")
    column = TEXT if sort == "text" else FILE
    cells = _contents(folder, files, warnings) if sort == "text" else files
    frame = pd.DataFrame({column: text_series(cells), LABEL: text_series(labels)})
    said = f"{folder.name} holds no table: its {len(files):,} {sort} files are rows of the columns {column!r} and "
    said += f"{LABEL!r}; "
    if classes:
        counts = listing(f"{label} {count:,}" for label, count in classes.most_common())
        said += f"the folder of each is its label ({counts}; {len(files) - classes.total():,} without)."
    else:
        said += "none of them lies in a folder of a class."
    return Table(frame, warnings=[said, *warnings]), files


def _files(folder: Path) -> tuple[dict[str, list[str]], Counter[str]]:
    """By sort, relative to the folder, in order; text files only where there are no others. And how many files there
    are of no such sort, by their suffix."""
    found: dict[str, list[str]] = {sort: [] for sort in SORTS}
    others: Counter[str] = Counter()
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # links may lead in circles
            folders.clear()
            continue
        seen.add(real)
        shown = [name for name in folders if not name.startswith((".", "__"))]
        folders[:] = sorted(shown, key=lambda name: (os.path.islink(os.path.join(place, name)), name))
        for name in sorted(names):
            stem, suffix = os.path.splitext(name.lower())
            if name.startswith(".") or (stem in ASIDE and suffix in (*TEXTS, ".md", "")):
                continue
            sort = next((sort for sort, suffixes in SORTS.items() if suffix in suffixes), None)
            if sort is None:
                others[suffix] += 1
            else:
                found[sort].append(Path(os.path.relpath(os.path.join(place, name), folder)).as_posix())
    found = {sort: files for sort, files in found.items() if files}
    if len(found) > 1:
        others.update(Path(file).suffix for file in found.pop("text", ()))
    return found, others


def _label(file: str) -> str:
    first, _, rest = file.partition("/")
    return first if rest and first.lower() not in UNLABELLED else ""


def _contents(folder: Path, files: list[str], warnings: list[str]) -> list[str]:
    """The texts of files. What cannot be read is an empty text; what was odd is added to `warnings`."""
    texts, foreign, broken = [], [], []
    for file in files:
        text, encoding = _content(folder / file)
        texts.append(text or "")
        if text is None:
            broken.append(file)
        elif not encoding.startswith("utf"):
            foreign.append(file)
    if foreign:
        warnings.append(f"Files that are not UTF-8, read as western text: {len(foreign):,} ({listing(foreign)}).")
    if broken:
        warnings.append(f"Files that cannot be read as text, taken as empty: {len(broken):,} ({listing(broken)}).")
    return texts


def _content(path: Path) -> tuple[str | None, str]:
    """The text of a file and its encoding; None where it cannot be read as text."""
    encoding = "utf-8-sig"
    try:
        raw = path.read_bytes()
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:  # another encoding, or no text
            encoding, _ = find_encoding(path)
            text = raw.decode(encoding)
    except (OSError, UnicodeDecodeError, InputError):
        return None, encoding
    return (None if "\0" in text else text), encoding
