"""Files in a folder that no table names: beside its table, rows without a label; without one, all rows."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cotrain.auto.align import named_as
from cotrain.auto.cells import text_series
from cotrain.auto.columns import Columns
from cotrain.auto.folder import SORTS
from cotrain.auto.read import Source
from cotrain.data.files import find_file


def with_unlisted(source: Source, columns: Columns, test: Source | None = None) -> Source:
    """The table of a folder with a row for each file beside those that it names, as if it were there without a label.

    Only where a folder was given and files are all that is learnt from: of other columns nothing would be known. Then,
    and where rows are grouped, a warning says that there are more files.

    Args:
        test: a test table, whose files are not taken.
    """
    media = columns.image + columns.audio
    if not source.is_folder or len(media) != 1 or media[0] not in source.frame:
        return source
    kind = "image" if columns.image else "sound"
    found = _beside(source, media[0], SORTS[kind], None if test is None else named_as(test, columns))
    if not found:
        return source
    told = f"{len(found):,} {kind}s that are not in {source.name}, such as {found[0]},"
    other = columns.text + columns.cells + columns.group
    if other:
        said = (
            f"The folder holds {told} which are left alone: {', '.join(map(repr, other[:3]))} of them are not known. "
        )
        said += "A row with an empty label puts them in."
        return source.changed(source.frame, [said])
    frame = pd.concat([source.frame, pd.DataFrame({media[0]: text_series(found)})], ignore_index=True)
    said = f"The folder holds {told} which are taken as rows without a label. "
    said += f"Give {Path(source.name).name} instead of its folder to leave them alone."
    return replace(source.changed(frame, [said]), unlisted=tuple(found))


def _beside(source: Source, column: str, suffixes: tuple[str, ...], test: Source | None) -> list[str]:
    """The files in the folders of those that the column names, relative to the source's folder, in order."""
    listed = set(_paths(source.frame[column], source.folder))
    tested = _paths(test.frame[column], test.folder) if test is not None and column in test.frame else ()
    known = listed.union(tested)
    found = []
    for folder in {os.path.dirname(path) for path in listed}:
        if not os.path.isdir(folder):
            continue
        for entry in os.scandir(folder):
            path = os.path.join(folder, entry.name)
            if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and path not in known:
                found.append(Path(os.path.relpath(path, source.folder)).as_posix())
    return sorted(found)


def _paths(cells: pd.Series, folder: Path) -> Iterable[str]:
    return (os.path.abspath(find_file(cell, folder)) for cell in cells.dropna().astype(str) if cell.strip())
