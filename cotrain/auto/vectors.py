"""Columns of vectors, such as embeddings: each cell is a list of numbers, or of such lists, of one shape.

Legend: N cells, D numbers of a cell.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

_NAMES = 10  # whole numbers in shorter lists are rather names of something, such as tags
_WIDEST = 100_000  # numbers of a cell
_BLANK = str.maketrans("[](),", "     ")


def vector_shape(cells: Sequence[str]) -> tuple[int, ...]:
    """The shape that all cells have, () if they are no vectors or differ in it.

    A cell is what JSON, Python or NumPy write: `[0.5, 1]`, `(0.5, 1)`, `[0.5 1.]`, `[[1, 2], [3, 4]]`.
    """
    shapes: set[tuple[int, ...]] = set()
    whole = True
    for cell in cells:
        numbers = _numbers(cell)
        if numbers is None or len(shapes) > 1:
            return ()
        shapes.add(_sides(cell, len(numbers)))
        whole = whole and not np.any(numbers % 1)
    if len(shapes) != 1:
        return ()
    (shape,) = shapes
    size = math.prod(shape)
    return shape if size <= _WIDEST and not (whole and size < _NAMES) else ()


def vector_columns(name: str, shape: Sequence[int]) -> tuple[str, ...]:
    """The names of the number columns that a column of vectors becomes."""
    return tuple(f"{name}:{'_'.join(map(str, index))}" for index in np.ndindex(*shape))


def read_vectors(cells: Sequence[str | None], shape: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """float64 [N, D], NaN where a cell is missing; and which cells are no vectors of this shape, NaN as well."""
    values, strays = np.full((len(cells), math.prod(shape)), np.nan), []
    for row, cell in enumerate(cells):
        if cell is None or not cell.strip():
            continue
        found = _numbers(cell)
        if found is None or len(found) != values.shape[1]:
            strays.append(row)
        else:
            values[row] = found
    return values, strays


def _numbers(cell: str) -> np.ndarray | None:
    """The numbers in the brackets; None if something else is in them, or there are no brackets."""
    cell = cell.strip()
    if cell[:1] + cell[-1:] not in ("[]", "()"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # text that is no number
            found = np.fromstring(cell.translate(_BLANK).replace("null", "nan"), sep=" ")
    except (DeprecationWarning, ValueError):
        return None
    return found if len(found) else None


def _sides(cell: str, count: int) -> tuple[int, ...]:
    """The shape of nested brackets around so many numbers; () if they do not make one."""
    opened: Counter[int] = Counter()
    depth = 0
    for mark in re.findall(r"[\[\]()]", cell):
        depth += 1 if mark in "[(" else -1
        opened[depth] += mark in "[("
    counts = [opened[level] for level in sorted(opened) if level > 0] + [count]
    if depth or counts[0] != 1 or any(more % fewer for fewer, more in pairwise(counts)):
        return ()
    return tuple(more // fewer for fewer, more in pairwise(counts))
