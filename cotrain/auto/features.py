"""The features of all rows under every view, fitted only on rows that may be seen."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from threadpoolctl import threadpool_limits

from cotrain.views.reduced import ReducedView
from cotrain.views.view import Matrix, Raw, View, extract_each

KEPT = 256 << 20  # bytes of matrices made for single folds that are kept for who asks again
SHARED_PER_LABEL = 5  # unlabelled rows per labelled one from which views are fitted on the unlabelled rows alone


class Features:
    """Views and what they extracted, with the matrices made so far.

    Where the unlabelled rows are many, views are fitted on them alone: the labelled rows, in training or held out, are
    then as new to the view as rows yet to come, and one fit serves all folds. Otherwise each fold fits on its own rows.

    Args:
        y: class codes int64 [N], -1 where there is no label. jobs: threads of the extraction.
    """

    def __init__(self, views: Mapping[str, View], frame: pd.DataFrame, y: np.ndarray, jobs: int = 1):
        self.views = dict(views)
        self.extracted: dict[tuple[Any, ...], Raw] = {}  # by source, for others that read the same rows
        with threadpool_limits(jobs):  # the steps of encoders are large enough to be shared out
            self.raw = extract_each(views, frame, self.extracted)
        self.base = {name: base for name, view in views.items() if (base := _base(view, views)) is not None}
        self.y = y
        self.labelled, self.unlabelled = np.flatnonzero(y >= 0), np.flatnonzero(y < 0)
        self.place = np.where(y >= 0, np.cumsum(y >= 0) - 1, -1)  # of a row among the labelled ones
        self.shared = len(self.unlabelled) >= max(SHARED_PER_LABEL * len(self.labelled), 100)
        self._made: dict[str, Matrix] = {}
        self._fitted: dict[str, View] = {}
        self._apart: dict[bytes, tuple[dict[str, Matrix], dict[str, View]]] = {}  # by the rows fitted on

    def of(self, train: np.ndarray, unlabelled: np.ndarray) -> "FoldFeatures":
        """The features as seen by somebody who may learn from these rows only."""
        everything = len(unlabelled) == len(self.unlabelled)
        if self.shared and everything:
            return FoldFeatures(self, self.unlabelled, self._made, self._fitted)
        rows = unlabelled if self.shared else np.sort(np.concatenate([train, unlabelled]))
        while self._apart and sum(map(_bytes, self._apart.values())) > KEPT:
            self._apart.popitem()  # the last one; the first folds are asked for again
        return FoldFeatures(self, rows, *self._apart.setdefault(rows.tobytes(), ({}, {})))


class FoldFeatures(Mapping[str, Matrix]):
    """Matrices of all rows by view, made when first asked for."""

    def __init__(self, features: Features, fitted_on: np.ndarray, made: dict[str, Matrix], fitted: dict[str, View]):
        self._features = features
        self._rows = fitted_on
        self._made = made
        self._fitted = fitted

    def __getitem__(self, name: str) -> Matrix:
        if name not in self._made:
            view, base = self.fitted(name), self._features.base.get(name)
            if base is not None and isinstance(view, ReducedView):
                self._made[name] = view.cut(self[base])
            else:
                self._made[name] = view.transform(self._features.raw[name])
        return self._made[name]

    def fitted(self, name: str) -> View:
        """The view, fitted on these rows."""
        if name not in self._fitted:
            view, base = self._features.views[name].fresh(), self._features.base.get(name)
            if base is not None and isinstance(view, ReducedView):
                self._fitted[name] = view.fit_on(self.fitted(base), self[base][self._rows])
            else:
                self._fitted[name] = view.fit(self._features.raw[name][self._rows])
        return self._fitted[name]

    def make(self, names: Collection[str], pool: Executor) -> None:
        """Make these side by side; what is cut from another one's matrix after that."""
        bases = {self._features.base.get(name, name) for name in names}
        for some in (bases, set(names) - bases):
            list(pool.map(self.__getitem__, sorted(some)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._features.views)

    def __len__(self) -> int:
        return len(self._features.views)


def _bytes(kept: tuple[dict[str, Matrix], dict[str, View]]) -> int:
    """Of the matrices."""
    dense = [m.data if sparse.issparse(m) else m for m in kept[0].values()]
    return sum(numbers.nbytes for numbers in dense)


def _base(view: View, views: Mapping[str, View]) -> str | None:
    """The name of the view that a reduced one is cut from, if it is among these."""
    if not isinstance(view, ReducedView):
        return None
    return next((name for name, other in views.items() if view.is_of(other)), None)
