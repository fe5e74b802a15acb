"""The engine: gives each loss's gradient to the learners its key names and to nobody else, and steps their optimizers.

`update` is the whole of it for one step and works in any loop; `fit` adds streams, precision, microbatches, judges,
checkpoints and the report around it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from cotrain import checkpoint, place
from cotrain.errors import CotrainError, InputError
from cotrain.gradients.rule import GradientSet, total
from cotrain.judge import Judgement, judged
from cotrain.learner import Follower, Learner
from cotrain.method import Losses, Memory, Method, Owners, Roles
from cotrain.precision import Precision, autocast
from cotrain.progress import progress
from cotrain.randomness import at, fold, seed_torch
from cotrain.report import Recorder, Report, listening
from cotrain.stack import How, at_once, plan_of, stacked, stacks_of, worthwhile
from cotrain.stream import Stream


@dataclass
class Pending:
    """What `backward` leaves for `step`."""

    owners: dict[str, Learner] = field(default_factory=dict)
    # Gradients kept apart for the rules that ask for it: learner -> (owners, place in their list) -> gradients.
    apart: dict[str, dict[tuple[Owners, int], GradientSet]] = field(default_factory=dict)


def update(learners: Mapping[str, Learner], losses: Losses) -> None:
    """One step: every loss's gradient goes to the owners in its key, then every owner's optimizer steps once.

    Raises:
        InputError: an owner is unknown or has no optimizer, or a loss is no scalar with a gradient.
    """
    pending = Pending()
    clear(learners)
    backward(learners, losses, pending)
    step(learners, pending)


def clear(learners: Mapping[str, Learner]) -> None:
    """Forget all gradients."""
    for learner in learners.values():
        for parameter in learner.parameters:
            parameter.grad = None
    for stack in stacks_of(learners):
        stack.clear()


def backward(learners: Mapping[str, Learner], losses: Losses, pending: Pending) -> None:
    """Add each loss's gradient to its owners' parameters, or to `pending.apart` where the owner's rule wants that."""
    done, losses = at_once(learners, losses)
    pending.owners |= {name: learners[name] for name in done}
    left = len(losses)
    for owners, value in losses.items():
        left -= 1
        parameters: list[Tensor] = []
        apart = False
        for name in _names(owners):
            learner = pending.owners[name] = _owner(learners, name)
            parameters += learner.roots()
            apart = apart or learner.apart
        if not isinstance(value, Tensor) and not value:
            raise InputError(f"The loss of {_shown(owners)} is {value!r}, not a tensor or a list of some.")
        try:
            if apart:
                terms = _listed(value)
                for index, loss in enumerate(terms):
                    keep = left > 0 or index < len(terms) - 1
                    gradients = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)
                    _deal_out(gradients, owners, index, pending)
            else:
                # Ownership is real: the graph may lead through other learners, but only these get a gradient.
                # A later loss may share this one's graph. A list is summed, which saves backward passes.
                total_loss = value if isinstance(value, Tensor) else sum(value[1:], value[0])
                total_loss.backward(inputs=parameters, retain_graph=left > 0)
        except (RuntimeError, AttributeError, TypeError) as error:
            _explain(owners, value, error)
    for stack in stacks_of(learners):
        stack.backward()


def _deal_out(gradients: Sequence[Tensor | None], owners: Owners, index: int, pending: Pending) -> None:
    """One loss's gradients to its owners, apart or added up as each wants it."""
    found = iter(gradients)
    for name in _names(owners):
        learner = pending.owners[name]
        roots = learner.roots()
        own: GradientSet = [next(found) for _ in roots]
        if learner.apart:
            sets = pending.apart.setdefault(name, {})
            sets[owners, index] = total([sets[owners, index], own]) if (owners, index) in sets else own
        else:
            for root, gradient in zip(roots, own, strict=True):
                (root.grad,) = total([[root.grad], [gradient]])


def step(learners: Mapping[str, Learner], pending: Pending) -> None:
    """Pass the owners' gradients through their rules and step their optimizers; then followers move."""
    stacks = stacks_of(pending.owners)
    for stack in stacks:
        if any(learner.rule is not None for learner in stack.learners):
            stack.spread()
    for name, learner in pending.owners.items():
        if learner.rule is not None:
            apart = pending.apart.get(name)
            sets = list(apart.values()) if apart else [[p.grad for p in learner.parameters]]
            for parameter, gradient in zip(learner.parameters, total(learner.rule(sets)), strict=True):
                parameter.grad = gradient
        if learner.stack is None:
            learner.step()
    for stack in stacks:
        stack.step([learner for learner in pending.owners.values() if learner.stack is stack])
    for name, follower in learners.items():
        if isinstance(follower, Follower) and follower.updates != learners[follower.leader].updates:
            if not follower.started:
                raise InputError(f"{name!r} follows {follower.leader!r} from no start: call engine.prepare first.")
            follower.move(learners[follower.leader])


def _listed(value: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value)


def _names(owners: Owners) -> tuple[str, ...]:
    return (owners,) if isinstance(owners, str) else owners


def _owner(learners: Mapping[str, Learner], name: str) -> Learner:
    learner = learners.get(name)
    if learner is None:
        raise InputError(f"The method gave a loss to {name!r}; the learners are {', '.join(map(repr, learners))}.")
    if learner.optimizer is None:
        raise InputError(
            f"The method gave a loss to {name!r}, which has no optimizer (frozen, or build() was not called)."
        )
    return learner


def _explain(owners: Owners, value: Any, error: Exception) -> NoReturn:
    """A loss that cannot be differentiated, by name; any other error as it is."""
    whose = f"The loss of {_shown(owners)}"
    for loss in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(loss, Tensor):
            raise InputError(f"{whose} is a {type(loss).__name__}, not a tensor.") from error
        if loss.numel() != 1:
            shape = tuple(loss.shape)
            raise InputError(f"{whose} has shape {shape}, not a scalar: take its mean or its sum.") from error
        if not loss.requires_grad:
            raise InputError(f"{whose} depends on no parameter: was it detached?") from error
    raise error


def _shown(owners: Owners) -> str:
    return "+".join(_names(owners))


@cache
def _label(owners: Owners) -> str:
    return f"loss {_shown(owners)}"


def prepare(learners: Mapping[str, Learner], device: torch.device | str = "cpu") -> None:
    """Move the nets to the device, build the optimizers, make followers' copies.

    Raises:
        InputError: a parameter stands in two learners, or a follower's leader is unknown or itself a follower.
    """
    holders: dict[int, str] = {}
    for name, learner in learners.items():
        if isinstance(learner, Follower):
            continue
        for parameter in learner.net.parameters():
            other = holders.setdefault(id(parameter), name)
            if other != name:
                raise InputError(
                    f"Learners {other!r} and {name!r} share a parameter; a shared part is a learner of its own, "
                    "or both are one learner with two heads."
                )
        learner.net.to(device)
        if learner.optimizer is None:
            learner.build()
    for name, follower in learners.items():
        if isinstance(follower, Follower):
            leader = learners.get(follower.leader)
            if leader is None or isinstance(leader, Follower):
                which = "is not among the learners" if leader is None else "is a follower itself"
                raise InputError(f"{name!r} follows {follower.leader!r}, which {which}.")
            follower.start(leader)
            follower.net.to(device)


def fit(
    method: Method,
    learners: Mapping[str, Learner],
    streams: Mapping[str, Stream],
    steps: int,
    *,
    seed: int = 0,
    judges: Sequence[Judgement] = (),
    judge_every: int | None = None,
    precision: Precision = "fp32",
    microbatches: int = 1,
    device: str = "auto",
    out: Path | str | None = None,
    save_every: int | None = None,
    log_every: int = 50,
    title: str | None = None,
    stack: How = False,
) -> Report:
    """Train the learners in place.

    Args:
        method: says the losses.
        learners: by the roles that the method asks for.
        streams: by the names that the method asks for.
        steps: calls of `method.step` in all, those before a resume included.
        seed: of the noise in the nets and in the method; streams have their own. Rounds of `fit` on the same learners
            take different seeds, or they draw the same noise.
        judges: pairs (judge, test stream), run at the end and every `judge_every` steps.
        precision: "fp32" or "bf16".
        microbatches: cut each batch into so many parts, one backward each, one step of the optimizers for all.
        device: "auto", "cpu", "cuda", ...
        out: folder for `log.jsonl` and checkpoints; a checkpoint found there is resumed.
        save_every: steps between checkpoints; None saves at the end only (if there is an `out`).
        log_every: steps between the rows of the report; the device is waited for at those only.
        title: of the progress bar; None shows none.
        stack: run learners of one architecture as one (`cotrain.stack`): True, or "auto", which measures whether it is
            faster; False runs them one by one. What is learned is the same but for rounding.

    Raises:
        InputError: a role or stream that the method needs is missing; microbatches do not divide a batch, or the method
            needs the whole batch; the checkpoint in `out` is of another run.
        CotrainError: a loss is not finite; the message names the learner.
    """
    for name, value in (("steps", steps), ("microbatches", microbatches), ("log_every", log_every)):
        if value < 1:
            raise InputError(f"{name} is at least 1, not {value}.")
    if method.whole_batch and microbatches > 1:
        raise InputError(f"{type(method).__name__} needs the whole batch in one piece; microbatches must be 1.")
    folder = None if out is None else Path(out)
    _check_streams(streams, saved=folder is not None)
    where = place.device_of(device)
    prepare(learners, where)
    roles = Roles("learner", learners)
    memory = _Memory(place.move(method.memory(roles), where), seed)
    noise = fold(seed, "step")
    own_noise = {name: fold(seed, "learner", name) for name in learners}
    recorder = Recorder()
    standing = _Standing(method, seed, learners, streams, memory, recorder, where)
    start, plan = 0, None
    if folder is not None and (saved := checkpoint.load_last(folder / "checkpoints")) is not None:
        start, plan = standing.load(saved, steps, folder), saved.get("stack")
    report = Report(None if folder is None else folder / "log.jsonl", upto=start)

    def judge(done: int) -> None:
        if judges:
            report.add({"step": done, **judged(learners, judges, where)})

    def save(done: int) -> None:
        if folder is not None:
            _check_finite(recorder.means(), done)  # weights that went wrong never replace good ones
            checkpoint.save(folder / "checkpoints", done, standing.state(done))

    def trial(copies: Mapping[str, Learner]) -> None:
        scratch = _Memory(place.move(method.memory(Roles("learner", copies)), where), seed)
        scratch.begin(start)
        with listening(Recorder()):
            _train(method, Roles("learner", copies), batch, scratch, microbatches, precision, where, Recorder())

    with (
        ExitStack() as stacking,
        _own_randomness(learners, where),
        listening(recorder),
        progress(title, total=steps, done=start) as advance,
    ):
        for number in range(start, steps):
            # What this step draws is addressed by (seed, step) and, in a learner, by its role and its calls so far.
            address = at(noise, number)
            seed_torch(address)
            memory.begin(number)
            for name, learner in learners.items():
                learner.noise = address ^ own_noise[name]
            batch = Roles("stream", {name: _next_of(name, stream, where) for name, stream in streams.items()})
            if number == start and stack:
                if stack == "auto" and plan is None:
                    with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
                        stack = worthwhile(learners, trial, steps - start)
                stacking.enter_context(stacked(learners, stack, plan))
            _train(method, roles, batch, memory, microbatches, precision, where, recorder)
            done = number + 1
            last = done == steps
            if last or done % log_every == 0:
                row = recorder.flush()
                _check_finite(row, done)
                report.add({"step": done, **row})
            if last or (judge_every and done % judge_every == 0):
                judge(done)
            if last or (save_every and done % save_every == 0):
                save(done)
            advance()
    return report


def _check_streams(streams: Mapping[str, Any], saved: bool) -> None:
    for name, stream in streams.items():
        kind = type(stream).__name__
        if not hasattr(stream, "__next__"):
            raise InputError(f"Stream {name!r} is a {kind}, which has no next batch; wrap it (cotrain.stream).")
        if saved and not (hasattr(stream, "state") and hasattr(stream, "load")):
            raise InputError(f"Stream {name!r}, a {kind}, cannot be saved: it has no state() and load(state).")


@contextmanager
def _own_randomness(learners: Mapping[str, Learner], device: torch.device) -> Iterator[None]:
    """Torch's generators are as before after the run, and the learners draw from them as any net does."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for learner in learners.values():
                learner.noise = None


class _Memory(Memory):
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


def _next_of(name: str, stream: Stream, device: torch.device) -> Roles:
    batch = next(stream)
    if not isinstance(batch, Mapping):
        raise InputError(f"Stream {name!r} gave a {type(batch).__name__}; a batch is a dict of tensors.")
    return Roles(f"field of stream {name!r}", place.move(batch, device))


def _train(
    method: Method,
    learners: Roles,
    batch: Roles,
    memory: Memory,
    microbatches: int,
    precision: Precision,
    device: torch.device,
    recorder: Recorder,
) -> None:
    """One step in as many parts as asked."""
    pending = Pending()
    clear(learners)
    for part in [batch] if microbatches == 1 else _parts(batch, microbatches):
        with autocast(precision, device):
            losses = method.step(learners, part, memory)
        backward(learners, losses if microbatches == 1 else _shares(losses, microbatches), pending)
        for owners, value in losses.items():
            if isinstance(value, Tensor):
                recorder.keep(_label(owners), value.detach())
            else:
                for index, loss in enumerate(value):
                    recorder.keep(f"{_label(owners)} {index}", loss.detach())
        del losses  # and with them the graphs, before the optimizers need memory
    step(learners, pending)


def _parts(batch: Roles, parts: int) -> Iterator[Roles]:
    for stream, entries in batch.items():
        for name, values in entries.items():
            if len(values) % parts:
                raise InputError(
                    f"{parts} microbatches do not divide the {len(values)} rows of {stream!r}, field {name!r}."
                )
    for number in range(parts):
        cut = {
            stream: Roles(entries.what, {name: values.chunk(parts)[number] for name, values in entries.items()})
            for stream, entries in batch.items()
        }
        yield Roles(batch.what, cut)


def _shares(losses: Losses, parts: int) -> Losses:
    return {owners: [loss / parts for loss in _listed(value)] for owners, value in losses.items()}


def _check_finite(row: Mapping[str, Any], step: int) -> None:
    for name, value in row.items():
        if name.startswith("loss ") and not isfinite(value):
            raise CotrainError(f"The loss of {name.removeprefix('loss ')} is {value} at or shortly before step {step}.")


@dataclass(frozen=True)
class _Standing:
    """Where a run stands: what a checkpoint holds."""

    method: Method
    seed: int
    learners: Mapping[str, Learner]
    streams: Mapping[str, Stream]
    memory: _Memory
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
            "stack": plan_of(self.learners),
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
        return {"seed": self.seed, "method": type(self.method).__name__, **_plain(self.method)}


def _plain(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that are numbers, words or dataclasses of such, by dotted name."""
    found: dict[str, Any] = {}
    for name in (entry.name for entry in fields(settings)):
        value = getattr(settings, name)
        if value is None or isinstance(value, bool | int | float | str):
            found[name] = value
        elif is_dataclass(value):
            found |= {f"{name}.{inner}": setting for inner, setting in _plain(value).items()}
    return found
