"""Numbers and categories of a table as features for linear models and graphs, or for trees.

Legend: N rows, K number columns, D features.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cotrain.views.families import find_families, share_a_unit
from cotrain.views.view import View

MOST_CATEGORIES = 100  # of a column that get a feature of their own; the rest share one
STEPS = 8  # parts of equally many rows into which a number's range is cut
HEAVY = 12  # kurtosis (3 is that of a normal distribution) of numbers of both signs from which their size is drawn in
LARGEST = 1e37  # a number's size; beyond it stands for this: trees read float32, and squares must stay finite


class _Cells(View):
    """Numbers as float64 and categories as text, cell by cell."""

    def __init__(self, columns: Sequence[str], categories: int = 0):
        """`columns` are the number columns, then `categories` category columns."""
        super().__init__(columns, categories=categories)
        self.number = self.columns[: len(self.columns) - categories]
        self.category = self.columns[len(self.columns) - categories :]

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """[N, K + categories]: numbers (NaN and infinities are missing), then str ("" is missing). Of numbers alone an
        array of float64, which takes a quarter of an object array's memory."""
        cells = np.empty((len(frame), len(self.columns)), dtype=object if self.category else np.float64)
        for place, column in enumerate(self.number):
            values = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            cells[:, place] = np.where(np.isfinite(values), values.clip(-LARGEST, LARGEST), np.nan)
        for place, column in enumerate(self.category, start=len(self.number)):
            texts = frame[column].fillna("").astype(str).str.rstrip("\0")  # NumPy drops what is kept here, in `learned`
            cells[:, place] = texts.to_numpy(dtype=object)
        return cells

    def _numbers(self, raw: np.ndarray) -> np.ndarray:
        return raw[:, : len(self.number)].astype(np.float64)

    def _learn(self, raw: np.ndarray) -> None:
        numbers = self._numbers(raw)
        missing = np.isnan(numbers)
        known = np.where(missing.all(0), 0.0, numbers)  # a column without any number has the median 0
        median = np.nanmedian(known, axis=0) if len(known) else np.zeros(known.shape[1])
        self.learned = {"median": median, "gaps": missing.any(0)}
        for place in range(len(self.category)):
            counts = pd.Series(raw[:, len(self.number) + place]).value_counts().sort_index()
            kept = counts.index[np.argsort(-counts.to_numpy(), kind="stable")][:MOST_CATEGORIES]
            self.learned[f"category{place}"] = np.sort(kept.to_numpy(dtype=str))

    def _codes(self, raw: np.ndarray, place: int) -> np.ndarray:
        """The number of each cell's category among the known ones [N], -1 for others. Cells stay Python's texts: in an
        array of NumPy's each would be as long as the longest."""
        known = pd.Index(self.learned[f"category{place}"].tolist(), dtype=object)
        return known.get_indexer(pd.Index(raw[:, len(self.number) + place], dtype=object))

    def _filled(self, numbers: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(numbers), self.learned["median"], numbers)

    def _gaps(self, numbers: np.ndarray) -> np.ndarray:
        """One column for each number column that had missing cells: 1 where the cell is missing."""
        return np.isnan(numbers)[:, self.learned["gaps"]]


class ScaledView(_Cells):
    """Numbers of one size, categories as ones and zeros; for linear models, kernels and neighbour graphs.

    Columns whose names differ only in a number at their end (pixel1, pixel2, ...) are one family, which counts as much
    as ten columns at the most. Where their ranges are alike they share a unit and keep their relative sizes; ranges
    tell, for V1 to V28 may be anything. Other columns are each brought to one size, skewed ones in logarithms; so are
    those of both signs with a few numbers far from the others, to both sides.
    """

    def fit(self, raw: np.ndarray) -> "ScaledView":
        self._learn(raw)
        numbers = self._filled(self._numbers(raw))
        families = find_families(self.number)
        united = [share_a_unit(numbers[:, family]) for family in families]
        skewed = np.zeros(len(self.number), bool)
        usual = np.full(len(self.number), np.inf)  # how far from the median half of the numbers are; inf: left alone
        for place in (place for family, one in zip(families, united, strict=True) if not one for place in family):
            if numbers[:, place].min(initial=0.0) >= 0:
                skewed[place] = _moment(numbers[:, place], 3) > 2
            elif _moment(numbers[:, place], 4) > HEAVY:
                usual[place] = np.median(np.abs(numbers[:, place] - self.learned["median"][place])) or np.inf
        self.learned |= {"skewed": skewed, "usual": usual}
        numbers = self._drawn_in(numbers)
        centre, spread = numbers.mean(0), numbers.std(0)
        scale = np.zeros_like(spread)
        for family, one in zip(families, united, strict=True):
            size = np.sqrt((spread[family] ** 2).mean()) if one else spread[family]
            share = np.sqrt(min(len(family), 10) / len(family))
            scale[family] = np.divide(share, size, out=np.zeros(len(family)), where=size > 0)
        self.learned |= {"centre": centre, "scale": scale}
        return self

    def _drawn_in(self, numbers: np.ndarray) -> np.ndarray:
        """Skewed and heavy-tailed columns in logarithms."""
        numbers = np.where(self.learned["skewed"], np.log1p(np.maximum(numbers, 0)), numbers)
        usual = self.learned.get("usual", np.full(numbers.shape[1], np.inf))  # files of older versions have none
        sized = np.where(np.isfinite(usual), usual, 1.0)
        return np.where(np.isfinite(usual), np.arcsinh((numbers - self.learned["median"]) / sized), numbers)

    def transform(self, raw: np.ndarray) -> np.ndarray:
        numbers = self._numbers(raw)
        drawn = self._drawn_in(self._filled(numbers))
        scaled = np.clip((drawn - self.learned["centre"]) * self.learned["scale"], -10, 10)
        parts = [scaled, self._gaps(numbers)]
        for place in range(len(self.category)):
            codes = self._codes(raw, place)
            parts.append(codes[:, None] == np.arange(len(self.learned[f"category{place}"])))
        return np.hstack([part.astype(np.float32) for part in parts])


class TreeView(_Cells):
    """Numbers as they are, categories as numbers in the order of their names; for trees."""

    def fit(self, raw: np.ndarray) -> "TreeView":
        self._learn(raw)
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        numbers = self._numbers(raw)
        parts = [self._filled(numbers), self._gaps(numbers)]
        for place in range(len(self.category)):
            parts.append(self._codes(raw, place)[:, None])
        return np.hstack([part.astype(np.float32) for part in parts])


class StepView(_Cells):
    """How far a number has come through each eighth of the rows, from 0 to 1; for nets, which see thresholds so.

    Source: Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS 2022
    (piecewise linear encoding).
    """

    def fit(self, raw: np.ndarray) -> "StepView":
        self._learn(raw)
        numbers = self._filled(self._numbers(raw))
        inner = np.linspace(0, 1, STEPS + 1)
        edges = [np.unique(np.quantile(column, inner)) if len(column) else np.zeros(1) for column in numbers.T]
        self.learned |= {f"edges{place}": found for place, found in enumerate(edges)}
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        numbers = self._filled(self._numbers(raw))
        parts = [np.empty((len(raw), 0))]
        for place, column in enumerate(numbers.T):
            edges = self.learned[f"edges{place}"]
            parts.append(((column[:, None] - edges[:-1]) / np.diff(edges)).clip(0, 1))
        return np.hstack(parts).astype(np.float32)


def _moment(values: np.ndarray, power: int) -> float:
    """Skewness (3) or kurtosis (4)."""
    spread = values.std()
    return float((((values - values.mean()) / spread) ** power).mean()) if spread > 0 else 0.0
