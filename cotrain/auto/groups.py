"""Hints at groups: columns, or parts of file names, whose rows may belong together (a speaker, a patient)."""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from cotrain.auto.labels import cell_texts

_GROUP_NAME = re.compile(
    r"(^|[_\W])(speaker|patient|subject|user|customer|client|author|session|participant|person|group|family|household|"
    r"site|hospital|doctor|school|device|camera|recording|source)s?($|[_\W]|id)",
    re.IGNORECASE,
)


def group_hints(frame: pd.DataFrame, target: str, columns: Sequence[str], files: Sequence[str]) -> list[str]:
    """A sentence for each column, and each part of the names in a column of files, that may name groups.

    columns: the category and number columns. Nothing is grouped by this; the user decides.
    """
    labels = pd.Series(cell_texts(frame[target]), dtype=object)
    hints = []
    for name in filter(_GROUP_NAME.search, columns):
        values = pd.Series(cell_texts(frame[name]), dtype=object).replace("", None)
        if _may_group(values, labels):
            hints.append(
                f"Column {name!r} may name groups whose rows belong together ({values.nunique():,} different); if so, "
                f"give --group {name!r}, so that no group is both learnt from and judged on."
            )
    for name in files:
        stems = frame[name].dropna().astype(str).str.replace(r"\.\w+$", "", regex=True)
        parts = stems.str.split(r"[_\-./\\ ]+", regex=True)
        widths = parts.map(len)
        if not len(stems) or (widths == widths.mode()[0]).mean() < 0.95:
            continue
        for place in range(int(widths.mode()[0])):
            values = parts.str[place].reindex(frame.index)
            if _may_group(values, labels) and not _counts_up(values.dropna().unique()):
                shown = ", ".join(values.dropna().drop_duplicates().iloc[:3])
                hints.append(
                    f"The file names in {name!r} share their part {place + 1} ({values.nunique():,} different, such as "
                    f"{shown}); if that is a speaker, a patient or a session, make it a column and give it as --group."
                )
    return hints


def _may_group(values: pd.Series, labels: pd.Series) -> bool:
    """Between 2 values and one for every other row, and not the label by another name."""
    distinct = values.nunique()
    if not 2 <= distinct <= values.notna().sum() / 2:
        return False
    known = pd.DataFrame({"value": values.to_numpy(), "label": labels.to_numpy()}).dropna()
    known = known[known["label"] != ""]
    if known.empty:
        return True
    by_value = known.groupby("value")["label"].nunique().max()
    by_label = known.groupby("label")["value"].nunique().max()
    return not (by_value == 1 and by_label == 1)


def shared_prefix_groups(paths: Sequence[str], labels: Sequence[Any] | None = None) -> list[str] | None:
    """A hint at which files belong together (a speaker, a session), read off their names; None if the names show none.

    Names such as `3_theo_12.wav` are split at folders and at _ - . into fields. A field is a hint if nearly all names
    have it, it takes at least 3 values, each stands for 4 files or more on average and none for more than half of them.
    The label is no group: with `labels` (None or "" where unknown), a field that is the label by another name is left
    out. Without labels, the first field is taken for the label if there is another hint. A last field that counts from
    0 or 1 on is the number of a take. Of several hints, one with letters goes before numbers, then the first in the
    name. It is a guess: show it, do not trust it.
    """
    names = [re.split(r"[/\\_\-.]+", re.sub(r"\.\w+$", "", str(path)).strip("/\\")) for path in paths]
    if not names:
        return None
    width = Counter(map(len, names)).most_common(1)[0][0]
    if sum(len(name) == width for name in names) < 0.95 * len(names):
        return None
    hints = []
    for place in range(width):
        values = [name[place] if len(name) == width else "" for name in names]
        counts = Counter(value for value in values if value)
        common = counts.most_common(1)[0][1] if counts else 0
        if len(counts) < 3 or len(paths) < 4 * len(counts) or common > len(paths) / 2:
            continue
        if (labels is not None and _is_label(values, labels)) or (place == width - 1 and _counts_up(counts)):
            continue
        lettered = any(re.search(r"[^\W\d]", value) for value in counts)
        hints.append((labels is None and place == 0, not lettered, place, values))
    return min(hints)[3] if hints else None


def _is_label(values: Sequence[str], labels: Sequence[Any]) -> bool:
    """Whether each value goes with one label and each label with one value."""
    pairs = {(value, str(label)) for value, label in zip(values, labels) if label is not None and str(label)}
    return bool(pairs) and len({value for value, _ in pairs}) == len(pairs) == len({label for _, label in pairs})


def _counts_up(values: Collection[str]) -> bool:
    """Whether the values are nearly all the numbers from 0 or 1 on."""
    numbers = {int(value) for value in values if value.isdecimal()}
    return len(numbers) == len(values) and min(numbers) <= 1 and max(numbers) <= 1.2 * len(numbers) + 1
