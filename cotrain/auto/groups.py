"""Hints at groups: columns, or parts of file names, whose rows may belong together (a speaker, a patient)."""

import re
from collections.abc import Sequence

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
            if _may_group(values, labels) and not _counts_up(values):
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


def _counts_up(values: pd.Series) -> bool:
    """Whether the values are the numbers from 0 or 1 on, as an index is."""
    numbers = {int(value) for value in values.dropna().unique() if str(value).isdigit()}
    return len(numbers) == values.nunique() and min(numbers) <= 1 and max(numbers) <= len(numbers) + 1
