"""What a run shows: numbers said with `note`, collected without stopping the device, written as JSON lines."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Row = dict[str, Any]


class Recorder:
    """Keeps the noted tensors of the last steps; `flush` averages them, with one wait for the device."""

    def __init__(self) -> None:
        self._noted: dict[str, list[Tensor | float]] = {}

    def note(self, name: str, value: Tensor | float) -> None:
        self._noted.setdefault(name, []).append(value.detach() if isinstance(value, Tensor) else value)

    def flush(self) -> Row:
        """Means by name since the last flush."""
        waiting = {
            name: torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in values]).mean()
            for name, values in self._noted.items()
        }
        self._noted = {}
        if not waiting:
            return {}
        # One copy to the host for all numbers that live on the device.
        means = torch.stack(list(waiting.values())).tolist()
        return dict(zip(waiting, means, strict=True))


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
    """The rows of a run, one every few steps, in memory and (with a file) on disk as JSON lines."""

    def __init__(self, file: Path | None = None, upto: int = 0):
        self.file = file
        self.rows: list[Row] = []
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            lines = [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]
            self.rows = [row for row in lines if row["step"] <= upto]
        file.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: Row) -> None:
        self.rows.append(row)
        if self.file is not None:
            with self.file.open("a") as out:
                out.write(json.dumps(row) + "\n")

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
