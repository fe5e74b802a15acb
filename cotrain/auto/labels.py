"""The target column: labels as text, which rows have one, and targets that are no classes at all."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cotrain.auto.cells import SPREADSHEET_ERRORS, look_numeric, read_numbers
from cotrain.errors import InputError

_EMPTY = {"nan", "<na>", "nat", "null"}  # how programs write a cell without a value
UNLABELLED = ("unlabelled", "unlabeled", "unsup")  # what rows and subfolders without a label are called
_NO_LABEL = {*_EMPTY, "?", *UNLABELLED}  # words for a missing label that no class is called by
_DOUBTFUL = {"na", "n/a", "n.a.", "none", "unknown", "-", "."}  # words that may be a class
_SEPARATORS = (";", "|", ",")


@dataclass(frozen=True, eq=False)
class Labels:
    """values: object array [N] of the labels as text, None where there is none. classes: those that occur, in natural
    order (2 before 10). warnings: sentences.
    """

    values: np.ndarray
    classes: list[str]
    warnings: list[str] = field(default_factory=list)

    @property
    def known(self) -> np.ndarray:
        """bool [N]: which rows have a label."""
        return self.codes(self.classes) >= 0

    def codes(self, classes: Sequence[str]) -> np.ndarray:
        """int64 [N]: the place of each label in `classes`; -1 without a label, or with one that is not among them."""
        places = {name: place for place, name in enumerate(classes)}
        return np.array([places.get(value, -1) for value in self.values], np.int64)


def read_labels(column: pd.Series, unlabelled: str | None = None) -> Labels:
    """Labels as text: spaces around them go, 1.0 and 1 are one label. Empty and NaN cells have none, nor have those
    that equal `unlabelled`, nor -1 where every other label is a whole number from 0 on (with a warning).
    """
    values = pd.Series(cell_texts(column), dtype=object)
    warnings: list[str] = []
    name = column.name
    given = None if unlabelled is None else str(unlabelled).strip()
    empty = values.isna() | (values == "")
    if given:
        marked = values == given
        if not marked.any() and given.lower() not in _EMPTY | {"na", "n/a", "none"}:
            warnings.append(f"No cell of column {name!r} is {given!r}, the value given for rows without a label.")
        empty |= marked
    words = values[~empty]
    missing = words.str.lower().isin(_NO_LABEL) | words.str.fullmatch(SPREADSHEET_ERRORS, case=False)
    if missing.any():
        example = words[missing].iloc[0]
        warnings.append(f"Column {name!r}: {int(missing.sum()):,} cells such as {example!r} are taken as no label.")
        empty[missing[missing].index] = True
    distinct = set(values[~empty])
    if given is None and "-1" in distinct and len(distinct) > 1 and all(re.fullmatch(r"\d+|-1", x) for x in distinct):
        marked = values == "-1"
        warnings.append(f"Column {name!r}: {int(marked.sum()):,} cells of -1 are taken as no label.")
        empty |= marked
    labels = values.where(~empty, None).to_numpy(dtype=object)
    classes = natural_order({label for label in labels if label is not None})
    warnings += _doubts(classes, str(name))
    return Labels(labels, classes, warnings)


def cell_texts(column: pd.Series) -> list[str | None]:
    """The cells of a label or category column as text, one form for one value: `1.0` of a number column is `1`."""
    if pd.api.types.is_float_dtype(column.dtype):
        return [
            None if np.isnan(x) else str(int(x)) if np.isfinite(x) and x == int(x) else repr(x) for x in column.tolist()
        ]
    texts = [None if gone else str(cell).strip() for cell, gone in zip(column.tolist(), column.isna())]
    distinct = set(texts)
    whole = {text for text in distinct if text and re.fullmatch(r"-?(0|[1-9]\d*)\.0+", text)}
    shortened = {text: text.split(".")[0] for text in whole if text.split(".")[0] in distinct}
    return [shortened.get(text, text) if text else text for text in texts] if shortened else texts


def natural_order(names: Iterable[str]) -> list[str]:
    """Sorted as people sort: numbers by size, also inside of names."""

    def key(name: str) -> tuple:
        if re.fullmatch(r"[+-]?\d+(\.\d+)?", name):
            return (0, [(float(name), "")], name)
        parts = re.split(r"(\d+)", name)
        return (1, [(float(part), "") if part.isdecimal() else (np.inf, part.casefold()) for part in parts], name)

    return sorted(names, key=key)


def check_classes(column: pd.Series) -> None:
    """Refuses a target that is no class: numbers to be predicted, several labels a cell, dates, free text.

    Raises InputError.
    """
    name = column.name
    filled = column.dropna()
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        raise InputError(f"Column {name!r} holds dates; the target must be a column of classes.")
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        _refuse_regression(filled.to_numpy(np.float64), str(name))
        return
    texts = filled.astype(str).str.strip()
    texts = texts[texts != ""]
    if not len(texts):
        return
    if look_numeric(texts) > 0.9 and (numbers := read_numbers(texts)).share > 0.95:
        _refuse_regression(numbers.values[numbers.number], str(name))
        return
    distinct = texts.drop_duplicates()
    several = _several_labels(distinct.tolist())
    if several:
        raise InputError(
            f"Column {name!r} holds several labels in a cell, such as {several[:60]!r}: multi-label targets are not "
            "supported yet. Keep one label a row, or fit one column for each label."
        )
    if len(distinct) > 50 and len(distinct) > len(texts) / 2:
        raise InputError(
            f"Column {name!r} holds {len(distinct):,} different texts in {len(texts):,} rows, such as "
            f"{distinct.iloc[0][:60]!r}: these are no classes. Give the column with the labels as the target."
        )


def _refuse_regression(values: np.ndarray, name: str) -> None:
    values = values[np.isfinite(values)]
    distinct = len(np.unique(values))
    fractions = values[values % 1 != 0]
    if len(fractions):
        refused = distinct > 20 or (len(values) >= 5 and distinct > len(values) / 2)
    else:
        refused = distinct > 20 and distinct > len(values) / (5 if distinct > 100 else 2)
    if refused:
        example = fractions[0] if len(fractions) else values[0]
        raise InputError(
            f"Column {name!r} looks like a number to predict, not a class ({distinct:,} different values in "
            f"{len(values):,} rows, such as {example:g}): regression is not supported yet. Give a column of classes, "
            "or make classes of the numbers."
        )


def _several_labels(distinct: list[str]) -> str:
    """A cell that holds several labels, or "" if cells hold one each."""
    listed = [text for text in distinct if text[0] in "[{(" and text[-1] in "]})" and _is_list(text)]
    if len(listed) > len(distinct) / 2:
        return next((text for text in listed if "," in text), listed[0])
    for separator in _SEPARATORS:
        cells = [[part.strip() for part in text.split(separator)] for text in distinct]
        joined = [parts for parts in cells if len(parts) > 1 and all(parts)]
        if separator == "," and not _is_comma_list(distinct, joined):
            continue
        alone = {parts[0] for parts in cells if len(parts) == 1}
        places: dict[str, set[int]] = {}
        for parts in joined:
            for place, part in enumerate(parts):
                places.setdefault(part, set()).add(place)
        # A part that is also a whole cell, or stands at different places: cells are sets, not paths such as a|b.
        if any(part in alone or len(at) > 1 for part, at in places.items()):
            return separator.join(joined[0])
    return ""


def _is_comma_list(distinct: list[str], joined: list[list[str]]) -> bool:
    """Whether commas join labels: not those of `Paris, France` or of the number `3,5`."""
    if any(", " in text for text in distinct):
        return False
    return any(len(parts) > 2 or not "".join(parts).isdigit() for parts in joined)


def _is_list(text: str) -> bool:
    """Whether it is JSON, or a tuple as Python writes it; (0, 10] is an interval and (1) a number."""
    if text[0] == "(":
        if text[-1] != ")" or "," not in text:
            return False
        text = f"[{text[1:-1]}]"
    try:
        return isinstance(json.loads(text.replace("'", '"')), (list, dict))
    except ValueError:
        return False


def _doubts(classes: list[str], name: str) -> list[str]:
    warnings = []
    folded: dict[str, list[str]] = {}
    for label in classes:
        folded.setdefault(label.casefold(), []).append(label)
    for group in folded.values():
        if len(group) > 1:
            written = ", ".join(map(repr, group))
            warnings.append(
                f"Column {name!r}: {written} differ in upper and lower case only; they are kept as classes apart."
            )
    warnings += [
        f"Column {name!r}: the class {label!r} may mean that there is no label; if so, give --unlabelled {label!r}."
        for label in classes
        if label.lower() in _DOUBTFUL and len(classes) > 1
    ]
    return warnings
