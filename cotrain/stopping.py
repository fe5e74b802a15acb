"""A run that is told to end, by SIGTERM or SIGUSR1 as schedulers do, finishes its step, saves, and ends resumable."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from cotrain import place, show

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Stopped(SystemExit):
    """The run ended early and can be resumed; the process ends with code 0 unless somebody catches this."""

    def __init__(self, step: int, folder: Any):
        super().__init__(0)
        self.step = step
        if place.first():
            show.aside(f"cotrain: told to stop; saved at step {step} in {folder}, resumable.")


@contextmanager
def stopping(active: bool) -> Iterator[Callable[[], bool]]:
    """Gives a function to ask after each step whether to stop; all ranks get the same answer at the same step.

    The answer is that of the step before: what ranks tell each other is on its way while the next step runs.
    """
    asked = False

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True

    if not active or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in SIGNALS}
    group = place.control()
    under_way: list[tuple[torch.Tensor, Any]] = []

    def ask() -> bool:
        if group is None:
            return asked
        stop = False
        if under_way:
            flag, work = under_way.pop()
            work.wait()
            stop = flag.item() > 0
        if not stop:
            flag = torch.tensor(int(asked))
            under_way.append((flag, dist.all_reduce(flag, group=group, async_op=True)))
        return stop

    try:
        yield ask
    finally:
        for _, work in under_way:
            work.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
