"""Processor times of several programs that do the same, taken in turn, so that a slow moment of the machine hits all; and
their operations."""

import random
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Program = Callable[[int], None]  # runs so many steps
Times = dict[str, list[float]]  # seconds of processor time a step, one number a block


def interleaved(programs: Mapping[str, Program], steps: int, blocks: int) -> Times:
    """Each program runs `steps` steps in each of the blocks, in a new order every time; one block before is not counted."""
    times: Times = {name: [] for name in programs}
    order = list(programs)
    for block in range(-1, blocks):
        random.Random(block).shuffle(order)
        for name in order:
            start = time.process_time()
            programs[name](steps)
            if block >= 0:
                times[name].append((time.process_time() - start) / steps)
    return times


def waited_for(program: Program) -> Program:
    """The same, over when the GPU has done its work; the wait is busy and counts as processor time."""

    def run(steps: int) -> None:
        program(steps)
        torch.cuda.synchronize()

    return run


class Calls(TorchDispatchMode):
    """Counts the operations of torch that are called within it."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def over(times: Times, name: str, base: str) -> dict[str, float]:
    """What `name` costs beyond `base`: by the fastest blocks, by the median blocks, and by the median of the differences
    within each block."""
    one, two = times[name], times[base]
    least, middle = min(two), median(two)
    paired = median(a - b for a, b in zip(one, two, strict=True))
    return {
        "microseconds": 1e6 * (min(one) - least),
        "share by minimum": min(one) / least - 1,
        "share by median": median(one) / middle - 1,
        "share by paired differences": paired / middle,
    }


# ruff: noqa: E501
