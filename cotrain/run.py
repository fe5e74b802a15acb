"""A run: one training (or one fit of an estimator) with what it is judged by; and the table that many runs make."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from cotrain import engine
from cotrain.errors import CotrainError, InputError
from cotrain.judge import Judgement
from cotrain.learner import Learner
from cotrain.method import Method
from cotrain.precision import Precision
from cotrain.report import Report
from cotrain.stream import Stream


@dataclass(frozen=True)
class Run:
    """The training of a step method. The arguments are those of `engine.fit`."""

    method: Method
    learners: dict[str, Learner]
    streams: dict[str, Stream]
    steps: int
    judges: Sequence[Judgement] = ()
    judge_every: int | None = None
    seed: int = 0
    precision: Precision = "fp32"
    microbatches: int = 1
    device: str = "auto"
    log_every: int = 50

    def fit(self, out: Path | str | None = None, title: str | None = None, save_every: int | None = None) -> Report:
        """Train; with `out` the log and checkpoints go there, and a run that was cut off goes on from its last one."""
        return engine.fit(
            self.method,
            self.learners,
            self.streams,
            self.steps,
            seed=self.seed,
            judges=self.judges,
            judge_every=self.judge_every,
            precision=self.precision,
            microbatches=self.microbatches,
            device=self.device,
            out=out,
            save_every=save_every,
            log_every=self.log_every,
            title=title,
        )

    def measure(self, out: Path | None = None) -> dict[str, float]:
        """Train, then what the judges say at the end; with `out`, a tenth of the training at most is lost to a kill.

        Raises:
            InputError: there are no judges.
        """
        if not self.judges:
            raise InputError("A Run is measured by its judges, and this one has none.")
        last = self.fit(out, save_every=max(1, self.steps // 10)).rows[-1]
        return {name: value for name, value in last.items() if name != "step"}


@dataclass(frozen=True)
class Fit:
    """One fit of an estimator, judged on held-out rows; `y` marks unlabelled rows as the estimator wants them."""

    estimator: Any
    x: Any
    y: Any
    x_test: Any
    y_test: Any
    metrics: Mapping[str, Callable[[Any, Any], float]]  # metric(truth, prediction)

    def measure(self) -> dict[str, float]:
        predicted = self.estimator.fit(self.x, self.y).predict(self.x_test)
        return {name: float(metric(self.y_test, predicted)) for name, metric in self.metrics.items()}


@dataclass(frozen=True)
class Bar:
    """One thing that must hold: in words, the measured value, whether it held."""

    text: str
    value: float
    held: bool


class MissingRow(CotrainError, LookupError):
    """A bar asks for a row or metric that was not run."""


@dataclass
class Table:
    """Numbers by row, seed and metric."""

    cells: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)

    def add(self, row: str, seed: int, numbers: Mapping[str, float]) -> None:
        self.cells.setdefault(row, {})[seed] = dict(numbers)

    def values(self, row: str, metric: str) -> list[float]:
        """One number a seed, in the seeds' order."""
        seeds = self.cells.get(row, {})
        if not seeds or any(metric not in numbers for numbers in seeds.values()):
            raise MissingRow(f"row {row!r}, metric {metric!r}")
        return [seeds[seed][metric] for seed in sorted(seeds)]

    def mean(self, row: str, metric: str) -> float:
        return fmean(self.values(row, metric))

    def columns(self, row: str) -> dict[str, list[float | None]]:
        """One number a seed for each metric of the row, in the seeds' order; None where a seed has none."""
        seeds = [self.cells[row][seed] for seed in sorted(self.cells[row])]
        metrics = dict.fromkeys(metric for numbers in seeds for metric in numbers)
        return {metric: [numbers.get(metric) for numbers in seeds] for metric in metrics}

    def summary(self) -> list[dict[str, Any]]:
        """One dict a row, to be shown: each metric as "mean ± standard deviation over seeds"."""
        rows = []
        for row, seeds in self.cells.items():
            shown = {m: _spread([v for v in values if v is not None]) for m, values in self.columns(row).items()}
            rows.append({"row": row, "seeds": len(seeds), **shown})
        return rows


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4g}"
    return f"{np.mean(values):.4g} ± {np.std(values, ddof=1):.2g}"
