"""The state of a run: what a checkpoint holds of it, and what makes it this run and no other."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrain import place
from cotrain.errors import InputError
from cotrain.learner import Follower, Learner
from cotrain.method import Memory, Method
from cotrain.randomness import at, fold
from cotrain.report import Recorder
from cotrain.stacking import plan_of
from cotrain.stream import Stream
from cotrain.tree import ELSEWHERE, Like, PerRank


class RunMemory(Memory):
    """What a method declared, and two things that the engine gives at each step: its number and a generator, which is
    made where it is asked for, because most methods never do."""

    def __init__(self, declared: Mapping[str, Any], seed: int):
        if taken := sorted({"step", "generator"} & set(declared)):
            raise InputError(f"The method's memory() declares {', '.join(taken)}, a name that the run itself gives.")
        super().__init__(declared)
        self.declared = frozenset(declared)
        self._address = fold(seed, "method")
        self._generator = torch.Generator()

    def begin(self, number: int) -> None:
        self.pop("generator", None)
        self["step"] = number

    def __missing__(self, name: str) -> Any:
        if name != "generator":
            raise InputError(f"The method's memory() declares no {name!r}; it declares: {sorted(self.declared)}.")
        self[name] = self._generator.manual_seed(at(self._address, self["step"]))
        return self[name]

    def remembered(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        kept = {name: value for name, value in self.items() if name not in ("step", "generator")}
        if undeclared := sorted(set(kept) - self.declared):
            raise InputError(f"The method remembers {', '.join(undeclared)}, which its memory() does not declare.")
        return kept


@dataclass(frozen=True)
class RunState:
    """Everything that a run must have back to go on bit for bit."""

    method: Method
    seed: int
    learners: Mapping[str, Learner]  # those that live on this rank
    absent: Mapping[str, Learner]  # those that live on others
    streams: Mapping[str, Stream]
    memory: RunMemory
    recorder: Recorder
    device: torch.device
    precision: str

    def state(self, step: int) -> dict[str, Any]:
        """What each rank gives to a checkpoint."""
        return {
            "step": step,
            "run": self._identity(),
            "settings": self._settings(),
            "learners": {name: self._learner(learner) for name, learner in self.learners.items()},
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "memory": self.memory.remembered(),
            "noted": PerRank(self.recorder.state()),
            "stack": plan_of(self.learners),
        }

    def _learner(self, learner: Learner) -> Any:
        return PerRank(learner.state()) if learner.placement == "local" and place.ranks() > 1 else learner.state()

    def pattern(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """Where loaded tensors belong: sharded as the learners are. Learners of other ranks are not needed, nor are
        others than those of these names, if some are given."""
        asked = [name for name in self.learners if names is None or name in names]
        here = {name: self._pattern(self.learners[name]) for name in asked}
        return {"learners": dict.fromkeys([*self.learners, *self.absent], ELSEWHERE) | here}

    def _pattern(self, learner: Learner) -> dict[str, Any]:
        """An optimizer that has not stepped has no moments yet; they are sharded like the parameters."""
        state = learner.state()
        if learner.is_sharded and learner.optimizer is not None:
            state["optimizer"]["state"]["state"] = {i: Like(p) for i, p in enumerate(learner.parameters)}
        return state

    def load(self, saved: dict[str, Any], steps: int, folder: Path) -> int:
        """Go to where the checkpoint stood; returns its step.

        Raises:
            InputError: it is of another run; the message says in what, as a table where the learners differ.
        """
        if wrong := _first_wrong(lambda: self._take(saved, steps)):
            mend = "Choose another folder, or remove it to start anew; `start_from` takes over learners of a run."
            raise InputError(f"The checkpoint in {folder} is of another run: {wrong} {mend}")
        self.memory.update(place.move(saved["memory"], self.device))
        if len(saved["noted"]) == place.processes():
            self.recorder.load(self._own(saved["noted"]))
        return saved["step"]

    def take(self, saved: dict[str, Any], names: Collection[str] | None) -> None:
        """Take over the learners of these names, all if None, from another run; everything else stays as it is.

        Raises:
            InputError: one is missing or differs; the message has a table of all that differ.
        """
        if wrong := _first_wrong(lambda: self._take_some(saved, names)):
            raise InputError(f"The checkpoint to start from does not fit: {wrong}")

    def _take(self, saved: dict[str, Any], steps: int) -> None:
        self._check(saved, steps)
        for name, stream in self.streams.items():
            self._put(stream, saved["streams"][name], f"its stream {name!r}")
        self._put_learners(saved, list(self.learners))

    def _take_some(self, saved: dict[str, Any], asked: Collection[str] | None) -> None:
        names = common(self._nets(saved), self._own_nets(), asked)
        self._put_learners(saved, names)
        for name, one in self.learners.items():
            if isinstance(one, Follower) and one.leader in names and name not in names:
                # It was made as a copy of the leader before that had its weights.
                one.load({**self.learners[one.leader].state(), "optimizer": None})

    def _check(self, saved: Mapping[str, Any], steps: int) -> None:
        if saved["step"] > steps:
            raise InputError(f"it stands at step {saved['step']}, beyond the {steps} asked for.")
        _compare(saved["run"], self._identity())
        for part, now in (("streams", self.streams), ("memory", self.memory.declared)):
            missing, new = sorted(set(saved[part]) - set(now)), sorted(set(now) - set(saved[part]))
            if missing or new:
                raise InputError(f"{part} only in the checkpoint: {missing}, only in this run: {new}.")
        common(self._nets(saved), self._own_nets())
        now = self._settings()
        _compare(saved.get("settings", now), now)  # a checkpoint from before they were saved has any

    def _put_learners(self, saved: Mapping[str, Any], names: Collection[str]) -> None:
        for name, learner in self.learners.items():
            if name in names:
                self._put(learner, self._own(saved["learners"][name]), f"its learner {name!r}")

    def _put(self, one: Any, state: Any, what: str) -> None:
        try:
            one.load(state)
        except InputError as error:
            raise InputError(f"by {what}. {error}") from error

    def _own(self, told: Any) -> Any:
        """What this rank had for itself, or what all had."""
        if not isinstance(told, list):
            return told
        number = place.number()
        if number >= len(told):
            raise InputError(f"it was saved by {len(told)} ranks, and rank {number} had nothing of its own.")
        return told[number]

    def _nets(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._own(one)["net"] for name, one in saved["learners"].items()}

    def _own_nets(self) -> dict[str, Any]:
        nets = {name: learner.net.state_dict() for name, learner in self.learners.items()}
        return nets | dict.fromkeys(self.absent)

    def _identity(self) -> dict[str, Any]:
        """What makes it this run, as far as it can be written down."""
        return {"seed": self.seed, "method": type(self.method).__name__, **plain(self.method)}

    def _settings(self) -> dict[str, Any]:
        """The precision, and what the learners were made with beside their nets and optimizers."""
        found: dict[str, Any] = {"precision": self.precision}
        for name, learner in sorted({**self.learners, **self.absent}.items()):
            found |= _described(f"the rule of {name!r}", learner.rule)
            found[f"the schedule of {name!r}"] = "one" if learner.schedule is not None else "none"
            if isinstance(learner, Follower):
                found |= {f"the decay of {name!r}": learner.decay, f"the warm start of {name!r}": learner.warm}
        return found


def common(
    saved: Mapping[str, Mapping[str, Any]],
    present: Mapping[str, Mapping[str, Any] | None],
    partial: Collection[str] | None = None,
) -> list[str]:
    """Which learners of a checkpoint this run takes over: all, or the `partial` ones whatever the others are.

    Args:
        saved: the nets' states by learner; of what is no tensor, a module's extra state, nothing is compared.
        present: those of this run; None for a learner that lives on other ranks, of which only the name is compared.
        partial: names of learners; None asks for all and allows no others.

    Raises:
        InputError: one that is asked for is missing or has other shapes; the message is a table of all that differ.
    """
    rows: dict[str, str] = {}
    for name in {**saved, **present}:
        was, now = _shapes(saved.get(name)), _shapes(present.get(name))
        if name not in saved:
            rows[name] = f"missing in the checkpoint: {_listed(now)}"
        elif name not in present:
            rows[name] = f"unexpected, not in this run: {_listed(was)}"
        elif present[name] is not None and was != now:
            changed = [key for key in {**was, **now} if was.get(key) != now.get(key)]
            before, after = ({key: one[key] for key in changed if key in one} for one in (was, now))
            rows[name] = f"was {_listed(before)}; is {_listed(after)}"
    asked = list({**saved, **present}) if partial is None else list(partial)
    unknown = [name for name in asked if name not in saved and name not in present]
    if unknown or any(name in rows for name in asked):
        rows |= dict.fromkeys(unknown, "neither in the checkpoint nor in this run")
        width = max(map(len, rows))
        raise InputError("\n  ".join(["The learners differ:", *(f"{name:<{width}}  {rows[name]}" for name in rows)]))
    return asked


def _shapes(net: Mapping[str, Any] | None) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in (net or {}).items() if isinstance(value, Tensor)}


def _listed(shapes: Mapping[str, tuple[int, ...]], most: int = 6) -> str:
    shown = [f"{name} {'x'.join(map(str, shape)) or 'number'}" for name, shape in list(shapes.items())[:most]]
    return ", ".join(shown + [f"and {len(shapes) - most} more"] * (len(shapes) > most)) or "nothing"


def _compare(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, value in now.items():
        if saved.get(name) != value:
            raise InputError(f"{name} was {saved.get(name)!r}, now {value!r}.")


def _first_wrong(work: Callable[[], None]) -> str:
    """What the work raised on the first rank where it raised something, on every rank: ranks with other learners may
    find other things wrong, and all go on from one step. Empty if all is well."""
    wrong = ""
    try:
        work()
    except InputError as error:
        wrong = str(error)
    return next(filter(None, place.everywhere(wrong)), "")


def plain(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are numbers, words, or dataclasses and sequences of such, by dotted name."""
    found: dict[str, Any] = {}
    for entry in fields(settings):
        found |= _described(entry.name, getattr(settings, entry.name))
    return found


def _described(name: str, value: Any) -> dict[str, Any]:
    """The value, or its type and what is inside it by dotted name; of what cannot be written down the type alone."""
    if value is None or isinstance(value, bool | int | float | str):
        return {name: value}
    inside: dict[Any, Any] = {}
    if isinstance(value, list | tuple):
        inside = dict(enumerate(value))
    elif is_dataclass(value):
        inside = {entry.name: getattr(value, entry.name) for entry in fields(value)}
    found = {name: type(value).__name__}
    for inner, each in inside.items():
        found |= _described(f"{name}.{inner}", each)
    return found
