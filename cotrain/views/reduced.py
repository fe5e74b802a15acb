"""A view cut down to the directions in which its rows differ most; for learners that look at many rows at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from cotrain.views.view import Raw, View, view_class

_SEEN = 5_000  # rows that the directions are found from


class ReducedView(View):
    """Principal components of another dense view.

    Args:
        base: the other view's class as "module:name", and `base_settings` its settings.
        dimensions: components kept.
    """

    def __init__(self, columns: Sequence[str], base: str, base_settings: dict[str, Any], dimensions: int = 100):
        super().__init__(columns, base=base, base_settings=base_settings, dimensions=dimensions)
        self.base: View = view_class(base)(columns, **base_settings)
        self.settings["base_settings"] = self.base.settings  # what an extraction pins there (a rate, a shape) stays

    @classmethod
    def of(cls, view: View, dimensions: int = 100) -> "ReducedView":
        made = cls(view.columns, f"{type(view).__module__}:{type(view).__name__}", view.settings, dimensions)
        made.base.settings = made.settings["base_settings"] = view.settings  # what is pinned in one is so in both
        return made

    def read_from(self, folder: str) -> None:
        self.base.read_from(folder)

    @property
    def source(self) -> tuple[Any, ...]:
        return self.base.source

    def extract(self, frame: pd.DataFrame) -> Raw:
        return self.base.extract(frame)

    def is_of(self, view: View) -> bool:
        """Whether this is the other view, reduced."""
        return type(view) is type(self.base) and (view.columns, view.settings) == (self.columns, self.base.settings)

    def fit(self, raw: Raw) -> "ReducedView":
        self.base.fit(raw)
        return self._directions(self.base.transform(raw[_some(len(raw))]))

    def fit_on(self, base: View, features: np.ndarray) -> "ReducedView":
        """As `fit`, on the features [N, D] that the base gives of the rows; it is fitted already."""
        self.base.learned = base.learned
        return self._directions(features[_some(len(features))])

    def _directions(self, features: np.ndarray) -> "ReducedView":
        count = min(self.settings["dimensions"], *features.shape)
        with np.errstate(invalid="ignore"):  # rows that are all alike have no variance to be explained
            found = PCA(count, svd_solver="randomized", random_state=0).fit(features)
        own = {"centre": found.mean_, "direction": found.components_}
        self.learned = {f"base {name}": array for name, array in self.base.learned.items()}
        self.learned |= {name: array.astype(np.float32) for name, array in own.items()}
        return self

    def transform(self, raw: Raw) -> np.ndarray:
        self.base.learned = {
            name.removeprefix("base "): array for name, array in self.learned.items() if name.startswith("base ")
        }
        return self.cut(self.base.transform(raw))

    def cut(self, features: np.ndarray) -> np.ndarray:
        """As `transform`, of the base's features [N, D]."""
        return ((features - self.learned["centre"]) @ self.learned["direction"].T).astype(np.float32)


def _some(count: int) -> np.ndarray:
    return np.sort(np.random.default_rng(0).permutation(count)[:_SEEN])
