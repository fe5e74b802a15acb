"""What the engine looks at while a run goes on: where its ranks hang, which is slow, and what share of the machine's
peak its learners use."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cotrain import place, show
from cotrain.watch import flops
from cotrain.watch.stragglers import Stragglers, Window, heat, heat_map
from cotrain.watch.watchdog import Watchdog


class Lookout:
    """One for each run; alone and without `mfu` it does nothing.

    Args:
        nets: the learners' nets by role.
        mfu: count floating-point operations in the first step here, and report what share of the peak each step uses.
        folder: where the ranks' times are written at the end, as `ranks.json` and `ranks.png`; None writes nothing.
            Ranks that have other learners have other work and are not compared: each group has its own files, the
            second `ranks_1.json` and `ranks_1.png`.
    """

    def __init__(self, nets: Mapping[str, nn.Module], device: torch.device, mfu: bool, folder: Path | None):
        self.nets = dict(nets)
        self.device = device
        self.mfu = mfu
        self.folder = folder
        self.counted: flops.Flops | None = None
        self.peak: flops.Peak | None = None
        self.several = place.processes() > 1
        here = place.here()
        self.group = here.group
        self.speaks = here.rank == 0  # for its group
        first = here.group * here.ranks
        self.stragglers = Stragglers(device, group=here.along("data"), first=first) if self.several else None
        self.watchdog = Watchdog(place.timeout()) if self.several else None
        self._step = 0
        self._since = (0, time.perf_counter())

    @contextmanager
    def watching(self) -> Iterator["Lookout"]:
        """Watch until the run ends, however it does."""
        if self.watchdog is None:
            yield self
            return
        try:
            with self.watchdog:
                yield self
        finally:
            self._write()

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """One step of the run."""
        self._step = number
        if self.stragglers is not None:
            self.stragglers.begin()
        if self.mfu and self.counted is None:
            with flops.count(self.nets) as self.counted:
                yield
            self._since = (number + 1, time.perf_counter())  # counting is slow
        else:
            yield
        if self.stragglers is not None and (window := self.stragglers.end()) is not None and window.slow:
            self._say(window)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is no part of the steps' time: judging and saving."""
        if self.mfu and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # what the steps have begun is theirs
        start = time.perf_counter()
        yield
        step, since = self._since
        self._since = step, since + time.perf_counter() - start

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Judges take as long as they do, and nobody hangs."""
        if self.watchdog is None:
            yield
            return
        with self.watchdog.paused():
            yield

    def done(self, phase: str) -> None:
        """This rank has finished a phase of the step."""
        if self.watchdog is not None:
            self.watchdog.done(self._step, phase)

    def collective(self) -> None:
        """From here on the step waits for other ranks."""
        if self.stragglers is not None:
            self.stragglers.collective()

    def row(self, done: int) -> dict[str, float]:
        """Numbers for the report: the seconds of a step since the last row, and the share of the peak by learner."""
        began, since = self._since
        self._since = (done, time.perf_counter())
        if not self.mfu or self.counted is None or done <= began:
            return {}
        seconds = (time.perf_counter() - since) / (done - began)
        if self.peak is None:
            self.peak = flops.peak_of(self.device)
            self._since = (done, time.perf_counter())  # measuring it takes a second
        used = {"mfu": self.counted.total, **{f"mfu {name}": n for name, n in self.counted.learners.items()}}
        return {name: flops.utilization(number, seconds, self.peak) for name, number in used.items()}

    def _say(self, window: Window) -> None:
        if self.speaks:
            show.aside(f"cotrain: step {self._step + 1}: {window.text}")

    def _write(self) -> None:
        if self.stragglers is None or self.folder is None or not self.stragglers.windows or not self.speaks:
            return
        windows: list[Any] = self.stragglers.windows
        slow = [{"step": window.step, "slow": window.slow, "cost": window.cost} for window in windows]
        name = f"ranks_{self.group}" if self.group else "ranks"
        found = {**heat(windows), "first": self.stragglers.first, "windows": slow}
        (self.folder / f"{name}.json").write_text(json.dumps(found) + "\n")
        heat_map(windows).savefig(self.folder / f"{name}.png", dpi=120)
