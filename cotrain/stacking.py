"""Which learners run as one, for how long, and whether it pays; how they do is in `stack`."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.nets.stacked import Unstackable, architecture
from cotrain.stack import Stack, stacks_of

How = bool | Literal["auto", "layers"]
Plan = dict[str, list[int]]  # the stacks' roles, joined by "+" -> calls of a step that the members make apart


def groups(learners: Mapping[str, Learner]) -> list[dict[str, Learner]]:
    """The learners by architecture, those that have their like."""
    found: dict[Any, dict[str, Learner]] = {}
    for name, learner in learners.items():
        # Gradients that a rule wants apart for each loss would need a pass through all nets for each.
        if not learner.apart:
            found.setdefault((architecture(learner.net), learner.optimizer is None), {})[name] = learner
    return [group for group in found.values() if len(group) > 1]


@contextmanager
def stacked(learners: Mapping[str, Learner], how: How = True, plan: Plan | None = None) -> Iterator[list[Stack]]:
    """Run learners of one architecture as one within it. The learners are built (`engine.prepare`, `Learner.build`).

    Args:
        learners: by role.
        how: True stacks all that have their like, and refuses what cannot be stacked by name; "auto" leaves such alone;
            "layers" leaves nets alone too that would run through vmap, which gains little; False stacks nothing.
        plan: of an earlier run (`plan_of`), so that a resumed one computes the same bits. "auto" stacks what it did.

    Raises:
        InputError: True, and no two learners are of one architecture, or the nets of some do not run as one.
    """
    alike = groups(learners) if how else []
    if how is True and not alike:
        raise InputError(
            f"No two of the learners {', '.join(map(repr, learners))} are of one architecture to be stacked."
        )
    stacks: list[Stack] = []
    try:
        for group in alike:
            key = "+".join(group)
            if how == "auto" and plan is not None and key not in plan:
                continue
            try:
                stack = Stack(group, (plan or {}).get(key, ()))
            except Unstackable as reason:
                if how is True:
                    raise InputError(f"Learners {', '.join(map(repr, group))} cannot be stacked. {reason}") from reason
                continue
            stacks.append(stack)
            if how == "layers" and stack.nets.form == "vmap":
                stacks.pop().release()
        yield stacks
    finally:
        for stack in stacks:
            stack.release()


def plan_of(learners: Mapping[str, Learner]) -> Plan:
    """What a checkpoint keeps of the stacks."""
    return {"+".join(stack.members): sorted(stack.alone) for stack in stacks_of(learners)}


def worthwhile(learners: Mapping[str, Learner], step: Callable[[Mapping[str, Learner]], None], steps: int) -> How:
    """How `stacked` makes a step fastest, measured on copies of the learners. The learners themselves do not move.

    Args:
        step: one training step of such learners.
        steps: how many the run has. The measurement costs up to about 40 steps of the faster way and 5 % of the run;
            one too short for it stacks what runs by layers, if a step bears it.
    """
    if not groups(learners):
        return False
    timed = min(8, steps // 200)
    if timed < 3:
        return "layers" if _bears(learners, step) else False
    plain, joint = (copy.deepcopy(dict(learners)) for _ in range(2))
    times: dict[str, list[float]] = {"plain": [], "joint": []}
    try:
        with stacked(joint, "auto") as stacks:
            if not stacks:
                return False
            for _ in range(timed + 2):  # the first two make the optimizers' states and find the calls that are shared
                for name, copies in (("plain", plain), ("joint", joint)):
                    start = _clock(copies)
                    step(copies)
                    times[name].append(_clock(copies) - start)
    except (InputError, RuntimeError):  # a method or a net that does not bear it
        return False
    return "auto" if min(times["joint"][2:]) < min(times["plain"][2:]) else False


def _bears(learners: Mapping[str, Learner], step: Callable[[Mapping[str, Learner]], None]) -> bool:
    """Whether the step runs on stacked copies of the learners."""
    copies = copy.deepcopy(dict(learners))
    try:
        with stacked(copies, "layers"):
            step(copies)
    except (InputError, RuntimeError):
        return False
    return True


def _clock(learners: Mapping[str, Learner]) -> float:
    """Seconds: of the processor where one thread does all the work, which other programs do not disturb; else by the
    clock on the wall, when the device has done what it was given."""
    if any(p.is_cuda for learner in learners.values() for p in learner.parameters[:1]):
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()
