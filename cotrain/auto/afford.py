"""How much of a table there is time to read: how many images and sounds, how many characters of each text."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cotrain.auto.columns import Columns
from cotrain.auto.media import check_file, media_paths
from cotrain.errors import InputError
from cotrain.views.text import LONGEST

MOST_ROWS = 20_000  # rows without a label that are learnt from; more cost time and change little
MOST_NUMBERS = 40_000_000  # in their columns of numbers; wide tables, such as pictures, are learnt from in part
SHARE = 0.3  # of the time, for reading files
FREE = 500  # unlabelled rows that are read in any case
_TRIED = 20  # files whose reading tells the pace
CHARACTERS = 200_000  # of texts, for a second of the budget: they cost time for each learner
FREE_CHARACTERS = 5_000_000  # in all, that are read in any case
MOST_CHARACTERS = 80_000_000  # in all; they cost 70 bytes each
LEAST_CHARACTERS = 500  # of a text


def beyond(
    frame: pd.DataFrame, columns: Columns, folder: Path, known: np.ndarray, seconds: float
) -> tuple[np.ndarray, str]:
    """Rows without a label whose files will not be read, bool [N], and a sentence about them.

    Which rows stay hangs on the names of their files and not on their places in the table.

    Args:
        frame: an aligned table. known: which rows have a label, bool [N]. seconds: for everything; infinity reads all.
    """
    out = np.zeros(len(frame), bool)
    names = [*columns.image, *columns.audio]
    if not names or np.isinf(seconds):
        return out, ""
    order = np.argsort(pd.util.hash_pandas_object(frame[names].astype(str), index=False).to_numpy(), kind="stable")
    order = order[~known[order]]
    if len(order) <= FREE:
        return out, ""
    tried = frame.iloc[order[: 1 + _TRIED]]
    pace = sum(_pace(media_paths(tried[name].tolist(), folder), "image") for name in columns.image)
    pace += sum(_pace(media_paths(tried[name].tolist(), folder), "audio") for name in columns.audio)
    fits = SHARE * seconds / pace
    if len(order) <= min(MOST_ROWS, fits):
        return out, ""
    # In steps of half an octave, so that one machine comes to one number again.
    most = max(FREE, min(MOST_ROWS, int(2 ** (np.floor(2 * np.log2(max(fits, 1))) / 2))))
    out[order[most:]] = True
    needed = f"about {max(1, round(len(order) * pace / 60)):,} min"
    return out, (
        f"Of {len(order):,} rows without a label {most:,} were read: reading all of their files would "
        f"take {needed}, and learning from so many as long again. A longer --budget reads more, up to {MOST_ROWS:,}."
    )


def set_aside(rows: np.ndarray, known: np.ndarray, content: np.ndarray, numbers: int) -> np.ndarray:
    """The rows to learn from, in their order: all with a label and, of very many others, those that their content
    chooses, as good as at random.

    Args:
        rows: numbers of rows. known, content: whether each row of the table has a label, and a hash of its cells.
        numbers: columns of numbers.
    """
    others = rows[~known[rows]]
    most = int(np.clip(MOST_NUMBERS // max(1, numbers), FREE, MOST_ROWS))
    if len(others) <= most:
        return rows
    chosen = others[np.argsort(content[others], kind="stable")[:most]]
    return rows[known[rows] | np.isin(rows, chosen)]


def longest_read(frame: pd.DataFrame, columns: Columns, seconds: float) -> int | None:
    """Characters of each text that are read, where all texts together are too long for the time; None where not."""
    learnt = frame.iloc[:: max(1, len(frame) // MOST_ROWS)]  # as good as those that will not be set aside
    texts = [learnt[name].dropna().astype(str).str.len().to_numpy(np.int64) for name in columns.text]
    lengths = np.sort(np.concatenate([np.empty(0, np.int64), *texts]).clip(max=LONGEST))
    most = min(max(seconds * CHARACTERS, FREE_CHARACTERS), MOST_CHARACTERS)
    if lengths.sum() <= most:
        return None
    # The texts up to each one in full, and all longer ones cut to its length.
    cut = np.cumsum(lengths) - lengths + lengths * np.arange(len(lengths), 0, -1)
    fits = lengths[cut <= most].max(initial=0)
    full = lengths[lengths <= fits].sum()
    cut_at = int((most - full) // max(1, (lengths > fits).sum()))
    return max(LEAST_CHARACTERS, cut_at // 100 * 100)


def _pace(paths: Sequence[Path | None], kind: Literal["image", "audio"]) -> float:
    """Seconds that one file takes, to check it and to read it; the first one is not counted, for it loads libraries."""
    start = time.perf_counter()
    for number, path in enumerate(paths):
        if path is not None:
            check_file(path, kind)
            with suppress(InputError, OSError, ValueError):  # what cannot be read is said by the check of all files
                _read(path, kind)
        if number == 0:
            start = time.perf_counter()
    return (time.perf_counter() - start) / (len(paths) - 1)


def _read(path: Path, kind: Literal["image", "audio"]) -> None:
    if kind == "image":
        from cotrain.views.pixels import LARGEST, read_image

        read_image(str(path), None, str(path), 3, 2 * LARGEST)
    else:
        from cotrain.data.audio import read_wave
        from cotrain.views import audio

        audio.features(read_wave(path, audio.HIGHEST_RATE, quiet=True), audio.HIGHEST_RATE)
