"""A view: one way to turn some columns of a table into features.

A view works in two halves. `extract` looks at each row alone, learns nothing and is done once for all rows. `fit`
learns from the extracted rows without labels, `transform` makes features. So cross-validation repeats only the
second half, and rows that are held out never reach a `fit`.
Legend: N rows, D features.
"""

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from cotrain.errors import InputError

Raw = Any  # what extract gives: an array or CSR matrix with one row for each row of the table
Matrix: TypeAlias = np.ndarray | sparse.csr_matrix


class View(ABC):
    """Base of all views. What `fit` learns are arrays in `self.learned`, so that a view is saved without pickle.

    Attributes:
        columns: names of the table's columns that it reads.
        settings: keyword arguments that make an equal, unfitted view (plain values).
        learned: arrays by name; empty before `fit`.
    """

    def __init__(self, columns: Sequence[str], **settings: Any):
        self.columns = tuple(columns)
        self.settings = settings
        self.learned: dict[str, np.ndarray] = {}

    def fresh(self) -> "View":
        """An equal view that has learnt nothing."""
        return type(self)(self.columns, **self.settings)

    def read_from(self, folder: str) -> None:
        """Where paths in the cells start, for views that read files."""
        if "folder" in self.settings:
            self.settings["folder"] = folder

    @property
    def source(self) -> tuple[Any, ...]:
        """Views with equal sources extract the same; the work is done once for them."""
        return type(self).extract.__qualname__, self.columns

    @abstractmethod
    def extract(self, frame: pd.DataFrame) -> Raw:
        """Row by row, no learning."""

    @abstractmethod
    def fit(self, raw: Raw) -> "View":
        """Learn from rows, without labels; fills `learned`, returns self."""

    @abstractmethod
    def transform(self, raw: Raw) -> Matrix:
        """Features float32 [N, D], dense or CSR."""


def view_class(place: object) -> type[View]:
    """The class of a view by its place, "module:name", which a file may have said: only modules of cotrain's views are
    imported for it, others must be there already.

    Raises:
        InputError: it is no view.
    """
    module, _, name = str(place).partition(":")
    own = re.fullmatch(r"cotrain\.views\.\w+", module)
    found = getattr(import_module(module) if own else sys.modules.get(module), name, None)
    if not (isinstance(found, type) and issubclass(found, View) and found.__module__ == module):
        raise InputError(f"{place} is no view of cotrain's; it is not loaded.")
    return found


Known: TypeAlias = dict[tuple[Any, ...], Raw] | None  # what views of some sources extracted from the rows at hand


def extract_each(views: Mapping[str, View], frame: pd.DataFrame, known: Known = None) -> dict[str, Raw]:
    """What each view extracts from the rows, by name; once for views of one source.

    Args:
        known: what was extracted from the same rows before, by source; what is new is added to it.
    """
    known = {} if known is None else known
    found = {}
    for name, view in views.items():
        if view.source not in known:
            known[view.source] = view.extract(frame)
        found[name] = known[view.source]
    return found


class Reader(Protocol):
    """What reads features: a candidate, or a member of a model."""

    @property
    def views(self) -> tuple[str, ...]: ...
    @property
    def apart(self) -> bool: ...


def joined(matrices: Mapping[str, Matrix], reader: Reader, rows: np.ndarray) -> Any:
    """A learner's input: its views' features of these rows, side by side (or apart, where it wants views)."""
    parts = tuple(matrices[name][rows] for name in reader.views)
    if reader.apart:
        return parts
    if len(parts) == 1:
        return parts[0]
    if any(sparse.issparse(part) for part in parts):
        return sparse.hstack(parts, format="csr")
    return np.hstack(parts)
