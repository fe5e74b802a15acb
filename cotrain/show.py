"""Dicts as tables on the terminal."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Texts stand as they are: brackets are no markup and `:x:` is no picture. Off a terminal nothing is wrapped to a
    guessed width: the output may be read by a program."""
    terminal = sys.stdout.isatty()
    width = None if terminal else 200
    return Console(highlight=False, markup=False, emoji=False, width=width, soft_wrap=not terminal)


def line(text: str) -> None:
    """A line as it stands."""
    console().print(text)


def table(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """One row a dict; the columns are the keys in the order in which they appear, numbers to the right."""
    rows = list(rows)
    shown = Table(title=title, title_justify="left", title_style="bold")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(row.get(column)) for column in columns))
    console().print(shown)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
