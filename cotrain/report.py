"""What a run shows: numbers said with `note`, collected without stopping the device, written as JSON lines."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from math import isfinite, nan
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrain.data.files import write_whole
from cotrain.errors import InputError

Row = dict[str, Any]


class Recorder:
    """Keeps the noted numbers of the last steps; `flush` averages them, with one wait for the device."""

    def __init__(self) -> None:
        self._noted: dict[str, list[Tensor | float]] = {}

    def note(self, name: str, value: Tensor | float) -> None:
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise InputError(f"note({name!r}) takes one number, not a tensor of shape {tuple(value.shape)}.")
            value = value.detach().clone()  # the method may go on to change it in place
        self.keep(name, value)

    def keep(self, name: str, value: Tensor | float) -> None:
        """As `note`, of a tensor without graph that nobody will change."""
        self._noted.setdefault(name, []).append(value)

    def means(self) -> Row:
        """Means by name since the last flush."""
        return {name: sum(values) / len(values) for name, values in self.state().items()}

    def flush(self) -> Row:
        """The means, and start anew."""
        means = self.means()
        self._noted = {}
        return means

    def state(self) -> dict[str, list[float]]:
        """The numbers noted since the last flush; those on a device come to the host in one copy."""
        tensors = [value for values in self._noted.values() for value in values if isinstance(value, Tensor)]
        copied: Iterator[float] = iter(())
        if tensors:
            where = tensors[0].device
            here = [t if t.device == where and not t.dim() else t.to(where).reshape(()) for t in tensors]
            copied = iter(torch.stack(here).tolist())
        return {
            name: [next(copied) if isinstance(value, Tensor) else float(value) for value in values]
            for name, values in self._noted.items()
        }

    def load(self, state: Mapping[str, list[float]]) -> None:
        self._noted = {name: list(values) for name, values in state.items()}


_listening: ContextVar[Recorder | None] = ContextVar("cotrain_recorder", default=None)


def note(name: str, value: Tensor | float) -> None:
    """Show a number of this step (a scalar tensor or a float) in the run's report; nothing happens outside a run."""
    recorder = _listening.get()
    if recorder is not None:
        recorder.note(name, value)


@contextmanager
def listening(recorder: Recorder | None) -> Iterator[None]:
    token = _listening.set(recorder)
    try:
        yield
    finally:
        _listening.reset(token)


class Report:
    """The rows of a run, one every few steps, in memory and (with a file) on disk as JSON lines.

    Args:
        file: where the rows go; rows found there go on being part of the report.
        upto: the last step that counts; rows of later steps, from a run that was cut off, are dropped.
    """

    def __init__(self, file: Path | None = None, upto: int = 0):
        self.file = file
        self.rows: list[Row] = []
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            self.rows = [row for row in map(_parsed, file.read_text().splitlines()) if row and row["step"] <= upto]
        write_whole(file, "".join(map(_line, self.rows)))  # a kill here loses no row

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.file is not None:
            with self.file.open("a") as out:
                out.write(_line(row))

    @property
    def last(self) -> Row:
        """The newest value of every number."""
        merged: Row = {}
        for row in self.rows:
            merged.update(row)
        return merged

    def column(self, name: str) -> list[tuple[int, float]]:
        """(step, value) of one number over the run, for plots."""
        return [(row["step"], row[name]) for row in self.rows if name in row]


def _line(row: Row) -> str:
    """JSON has no NaN, which a step that a learner skipped may have; null stands for it."""
    shown = {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in row.items()}
    return json.dumps(shown) + "\n"


def _parsed(line: str) -> Row | None:
    """A row; None for a line that was cut off."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(row, dict) or "step" not in row:
        return None
    return {name: nan if value is None else value for name, value in row.items()}
