"""Dicts as tables on the terminal, and standard streams that cannot be written."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Texts stand as they are: brackets are no markup and `:x:` is no picture. Off a terminal nothing is wrapped to a
    guessed width: the output may be read by a program."""
    from rich.console import Console

    terminal = on_terminal()
    width = None if terminal else 200
    return Console(highlight=False, markup=False, emoji=False, width=width, soft_wrap=not terminal)


def on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def stuck(text: str = "") -> OSError | None:
    """Why standard output cannot be written, found by writing; None where it can, or is not there."""
    try:
        if sys.stdout is not None:
            sys.stdout.write(text)
            sys.stdout.flush()
    except OSError as error:
        return error
    return None


def give_up() -> None:
    """What is printed from now on goes nowhere."""
    with suppress(OSError):
        sys.stdout.close()  # or Python would try again at its end, and complain
    sys.stdout = None  # as where a program starts without one


def failure(write: Callable[[], object]) -> str:
    """Prints; returns why that could not be done, or nothing. Raises BrokenPipeError: the reader has seen enough."""
    if sys.stdout is None:
        return "it is closed"
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        give_up()
        return error.strerror or str(error)
    return ""


def aside(text: str) -> None:
    """A line on standard error, for people. Where that is closed or cannot be written nobody hears it, and work goes
    on."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        with suppress(OSError):
            sys.stderr.close()  # or Python would try again at its end, and change the exit code
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def line(text: str) -> None:
    """A line as it stands."""
    console().print(text)


def table(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """One row a dict; the columns are the keys in the order in which they appear, numbers to the right."""
    from rich.table import Table

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
