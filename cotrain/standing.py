"""Where a run stands: what a checkpoint holds of it, and what makes it this run and no other."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from cotrain import place
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.method import Memory, Method
from cotrain.randomness import at, fold
from cotrain.report import Recorder
from cotrain.stream import Stream


class RunMemory(Memory):
    """What a method declared, and two things that the engine gives at each step: its number and a generator, which is
    made where it is asked for, because most methods never do."""

    def __init__(self, declared: Mapping[str, Any], seed: int):
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
class Standing:
    """Everything that a run must have back to go on bit for bit."""

    method: Method
    seed: int
    learners: Mapping[str, Learner]
    streams: Mapping[str, Stream]
    memory: RunMemory
    recorder: Recorder
    device: torch.device

    def state(self, step: int) -> dict[str, Any]:
        return {
            "step": step,
            "run": self._identity(),
            "learners": {name: learner.state() for name, learner in self.learners.items()},
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "memory": self.memory.remembered(),
            "noted": self.recorder.state(),
        }

    def load(self, saved: dict[str, Any], steps: int, folder: Path) -> int:
        """Go to where the checkpoint stood; returns its step."""
        other = f"The checkpoint in {folder} is of another run"
        mend = "Choose another folder, or remove it to start anew."
        if saved["step"] > steps:
            raise InputError(f"{other}: it stands at step {saved['step']}, beyond the {steps} asked for. {mend}")
        for name, value in self._identity().items():
            if saved["run"].get(name) != value:
                raise InputError(f"{other}: {name} was {saved['run'].get(name)!r}, now {value!r}. {mend}")
        for part, now in (("learners", self.learners), ("streams", self.streams), ("memory", self.memory.declared)):
            missing, new = set(saved[part]) - set(now), set(now) - set(saved[part])
            if missing or new:
                lists = f"only in the checkpoint: {sorted(missing)}, only in this run: {sorted(new)}"
                raise InputError(f"{other}: {part} {lists}. {mend}")
        for part, loaded in (("learners", self.learners), ("streams", self.streams)):
            for name, one in loaded.items():
                try:
                    one.load(saved[part][name])
                except InputError as error:
                    raise InputError(f"{other}, by its {part.rstrip('s')} {name!r}. {error} {mend}") from error
        self.memory.update(place.move(saved["memory"], self.device))
        self.recorder.load(saved["noted"])
        return saved["step"]

    def _identity(self) -> dict[str, Any]:
        """What makes it this run, as far as it can be written down."""
        return {"seed": self.seed, "method": type(self.method).__name__, **plain(self.method)}


def plain(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are numbers, words or dataclasses of such, by dotted name."""
    found: dict[str, Any] = {}
    for name in (entry.name for entry in fields(settings)):
        value = getattr(settings, name)
        if value is None or isinstance(value, bool | int | float | str):
            found[name] = value
        elif is_dataclass(value):
            found |= {f"{name}.{inner}": setting for inner, setting in plain(value).items()}
    return found
