"""Finds the rank that is slower than the others, window by window.

What is compared is each rank's own work: the time from the start of a step to its first collective. The wait inside
collectives is as long on every healthy rank as the slow one makes it, and says nothing about who is slow. ::

    monitor = Stragglers()
    for batch in batches:
        monitor.begin()
        loss.backward()
        monitor.collective()      # right before the gradients are reduced, at the first reduction of the step
        ...
        if (window := monitor.end()) is not None and window.slow:
            print(window.text)
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.distributed as dist

from cotrain import place
from cotrain.errors import InputError
from cotrain.watch.outliers import WINDOWS, slow_ranks, typical


@dataclass(frozen=True)
class Window:
    """One window of steps, the same on every rank. All times in seconds, a rank each."""

    step: int
    "Steps of this run until the window's end."
    compute: list[float]
    "Median time of a rank's own work in a step."
    smooth: list[float]
    "The same as a running mean over all windows (decay 0.98 a step)."
    spread: list[float]
    "Median distance of a step's own work from the rank's median."
    whole: list[float]
    "Median time of a step."
    slow: list[int]
    "Ranks that have been slow in three windows running, by their numbers in the run."
    first: int = 0
    "The number in the run of the first rank compared; the others follow it."

    @property
    def cost(self) -> float:
        """Share of each step that the others wait for the slowest: (max - median) / step."""
        return (max(self.compute) - typical(self.compute)) / max(median(self.whole), 1e-12)

    @property
    def text(self) -> str:
        """A sentence for each slow rank; empty if there is none."""
        if not self.slow:
            return ""
        middle = max(typical(self.compute), 1e-12)
        named = [
            f"Rank {rank} is slow: its own work takes {own / middle:.2f} times the median rank's "
            f"({own * 1e3:.3g} ms a step)."
            for rank in self.slow
            for own in [self.compute[rank - self.first]]
        ]
        return " ".join([*named, f"Waiting for the slowest costs {self.cost:.0%} of every step."])


class Stragglers:
    """Times the steps of this rank and compares with the others every `window` steps.

    Every rank calls `end` equally often, because the comparison is a collective: four numbers from each rank. Nothing
    else is sent, and a GPU is not waited for between windows.

    Args:
        device: a GPU's time is taken on the GPU, by events on the current stream.
        window: steps between comparisons.
        group: ranks that are compared; all of them if not given. One process without a group has nobody to compare
            with, and its windows name nobody.
        first: the number in the run of the group's first rank; the others follow it.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        window: int = 50,
        group: dist.ProcessGroup | None = None,
        first: int = 0,
    ):
        if window < 1:
            raise InputError(f"A window has at least one step, not {window}.")
        self.device = torch.device(device)
        self.window = window
        self.group = group
        self.first = first
        self.windows: list[Window] = []
        self._steps = 0
        self._smooth: float | None = None
        self._marks: list[tuple[Any, Any, Any]] = []  # start, first collective, end
        self._begun: Any = None
        self._first: Any = None

    def begin(self) -> None:
        """A step starts, its batch included."""
        self._begun, self._first = self._now(), None

    def collective(self) -> None:
        """A collective is about to start; the first of a step counts. Without any, the whole step is own work."""
        if self._first is None:
            self._first = self._now()

    def end(self) -> Window | None:
        """The step is over; the window if it was the window's last."""
        now = self._now()
        self._marks.append((self._begun, now if self._first is None else self._first, now))
        self._steps += 1
        if len(self._marks) < self.window:
            return None
        own = self._measure()
        numbers = _gather(own, self.device, self.group)
        compute, smooth, spread, whole = (list(column) for column in zip(*numbers))
        earlier = self.windows[-(WINDOWS - 1) :]
        slow = slow_ranks([*(w.compute for w in earlier), compute], [*(w.spread for w in earlier), spread])
        named = [self.first + rank for rank in slow]
        self.windows.append(Window(self._steps, compute, smooth, spread, whole, named, self.first))
        return self.windows[-1]

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _measure(self) -> list[float]:
        """Median and smoothed own work, its spread, and the median step."""
        if self.device.type == "cuda":
            self._marks[-1][2].synchronize()
            seconds = [(a.elapsed_time(b) / 1e3, a.elapsed_time(c) / 1e3) for a, b, c in self._marks]
        else:
            seconds = [(b - a, c - a) for a, b, c in self._marks]
        self._marks = []
        own = [first for first, _ in seconds]
        for value in own:
            self._smooth = value if self._smooth is None else 0.98 * self._smooth + 0.02 * value
        middle = median(own)
        return [
            middle,
            self._smooth or 0.0,
            median(abs(v - middle) for v in own),
            median(whole for _, whole in seconds),
        ]


def _gather(own: list[float], device: torch.device, group: dist.ProcessGroup | None) -> list[list[float]]:
    """The numbers of every rank, in the ranks' order."""
    if not place.joined() or dist.get_world_size(group) == 1:
        return [own]
    where = device if "nccl" in dist.get_backend(group) else torch.device("cpu")
    mine = torch.tensor(own, dtype=torch.float32, device=where)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    return torch.stack(everyone).tolist()


def heat(windows: Sequence[Window]) -> dict[str, Any]:
    """Each rank's own work by window, relative to the window's median: `{"steps": [...], "ranks": R x W}`, for a report
    or a plot."""
    relative = [[time / max(typical(w.compute), 1e-12) for time in w.compute] for w in windows]
    return {"steps": [w.step for w in windows], "ranks": [list(row) for row in zip(*relative)]}


def heat_map(windows: Sequence[Window]) -> Any:
    """The same as a matplotlib figure; a rank a row, a window a column, slow cells dark."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not windows:
        raise InputError("There is no window to draw yet.")
    data = heat(windows)
    figure = Figure(figsize=(8, max(2.0, 1.2 + 0.25 * len(data["ranks"]))), layout="constrained")
    axes = figure.subplots()
    top = max(2.0, *(value for row in data["ranks"] for value in row))
    first, last = windows[0].first - 0.5, windows[0].first + len(data["ranks"]) - 0.5
    extent = (-0.5, len(windows) - 0.5, last, first)
    shown = axes.imshow(
        data["ranks"], aspect="auto", cmap="magma_r", vmin=1.0, vmax=top, interpolation="nearest", extent=extent
    )
    marks = range(0, len(windows), max(1, len(windows) // 8))
    axes.set_xticks(list(marks), [str(data["steps"][i]) for i in marks])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="step", ylabel="rank", title="Own work of a step, relative to the median rank")
    figure.colorbar(shown, ax=axes)
    return figure
