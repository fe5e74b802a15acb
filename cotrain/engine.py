"""The engine: gives each loss's gradient to the learners its key names and to nobody else, and steps their optimizers.

`update` is the whole of it for one step and works in any loop; `fit` adds streams, precision, microbatches, judges,
checkpoints and the report around it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from cotrain.randomness import fold
from cotrain.report import Recorder, Report, listening
from cotrain.stream import Stream

Apart = dict[str, list[GradientSet]]  # gradients kept apart for the rules that ask for it, by learner and loss


def update(learners: Mapping[str, Learner], losses: Losses) -> None:
    """One step: every loss's gradient goes to the owners in its key, then every owner's optimizer steps once.

    Raises:
        InputError: an owner is unknown or has no optimizer.
    """
    apart: Apart = {}
    clear(learners, losses)
    backward(learners, losses, apart)
    step(learners, losses, apart)


def clear(learners: Mapping[str, Learner], losses: Iterable[Owners]) -> None:
    """Forget the owners' gradients."""
    for name in _trained(losses):
        optimizer = _owner(learners, name).optimizer
        assert optimizer is not None
        optimizer.zero_grad()


def backward(learners: Mapping[str, Learner], losses: Losses, apart: Apart) -> None:
    """Add each loss's gradient to its owners' parameters, or to `apart` where the owner's rule wants them apart."""
    terms = [(owners, loss) for owners, value in losses.items() for loss in (value if _several(value) else [value])]
    counts: dict[str, int] = {}
    for number, (key, loss) in enumerate(terms):
        names = _names(key)
        parameters = [p for name in names for p in _owner(learners, name).parameters]
        keep = number < len(terms) - 1  # a later loss may share this one's graph
        if not any(_wants_apart(learners[name]) for name in names):
            # Ownership is real: the graph may lead through other learners, but only these get a gradient.
            loss.backward(inputs=parameters, retain_graph=keep)  # type: ignore[union-attr]
            continue
        gradients = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)  # type: ignore[arg-type]
        found = iter(gradients)
        for name in names:
            learner = learners[name]
            own = [next(found) for _ in learner.parameters]
            if _wants_apart(learner):
                _add(apart.setdefault(name, []), counts.get(name, 0), own)
                counts[name] = counts.get(name, 0) + 1
            else:
                for parameter, gradient in zip(learner.parameters, own, strict=True):
                    if gradient is not None:
                        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def step(learners: Mapping[str, Learner], losses: Iterable[Owners], apart: Apart) -> None:
    """Pass the owners' gradients through their rules and step their optimizers."""
    for name in _trained(losses):
        learner = learners[name]
        if learner.rule is not None:
            sets = apart.get(name) or [[p.grad for p in learner.parameters]]
            for parameter, gradient in zip(learner.parameters, total(learner.rule(sets)), strict=True):
                parameter.grad = gradient
        learner.step()
    for follower in learners.values():
        if isinstance(follower, Follower) and follower.updates != learners[follower.leader].updates:
            follower.move(learners[follower.leader])


def _names(key: Owners) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _trained(losses: Iterable[Owners]) -> list[str]:
    return list(dict.fromkeys(name for key in losses for name in _names(key)))


def _owner(learners: Mapping[str, Learner], name: str) -> Learner:
    learner = learners.get(name)
    if learner is None:
        raise InputError(f"The method gave a loss to {name!r}; the learners are {', '.join(map(repr, learners))}.")
    if learner.optimizer is None:
        raise InputError(
            f"The method gave a loss to {name!r}, which has no optimizer (frozen, or build() was not called)."
        )
    return learner


def _several(value: Tensor | Sequence[Tensor]) -> bool:
    return isinstance(value, list | tuple)


def _wants_apart(learner: Learner) -> bool:
    return learner.rule is not None and learner.rule.per_loss


def _add(sets: list[GradientSet], place_: int, own: GradientSet) -> None:
    """The loss at one place of every microbatch adds to the same set."""
    if place_ == len(sets):
        sets.append(own)
    else:
        sets[place_] = total([sets[place_], own])


def prepare(learners: Mapping[str, Learner], device: torch.device) -> None:
    """Move the nets to the device, build the optimizers, make followers' copies.

    Raises:
        InputError: a parameter stands in two learners, or a follower's leader is unknown.
    """
    owners: dict[int, str] = {}
    for name, learner in learners.items():
        if isinstance(learner, Follower):
            continue
        for parameter in learner.net.parameters():
            other = owners.setdefault(id(parameter), name)
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
            if follower.leader not in learners:
                raise InputError(f"{name!r} follows {follower.leader!r}, which is not among the learners.")
            follower.start(learners[follower.leader])


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
) -> Report:
    """Train the learners in place.

    Args:
        method: says the losses.
        learners: by the roles that the method asks for.
        streams: by the names that the method asks for.
        steps: calls of `method.step` in all, those before a resume included.
        seed: of the noise in the nets and in the method; streams have their own.
        judges: pairs (judge, test stream), run at the end and every `judge_every` steps.
        precision: "fp32" or "bf16".
        microbatches: cut each batch into so many parts, one backward each, one step of the optimizers for all.
        device: "auto", "cpu", "cuda", ...
        out: folder for `log.jsonl` and checkpoints; a checkpoint found there is resumed.
        save_every: steps between checkpoints; None saves at the end only (if there is an `out`).
        log_every: steps between the rows of the report; the device is waited for at those only.
        title: of the progress bar; None shows none.

    Raises:
        InputError: a role or stream that the method needs is missing; microbatches do not divide a batch, or the method
            needs the whole batch.
        CotrainError: a loss is not finite; the message names the learner.
    """
    if method.whole_batch and microbatches > 1:
        raise InputError(f"{type(method).__name__} needs the whole batch in one piece; microbatches must be 1.")
    where = place.device_of(device)
    prepare(learners, where)
    roles = Roles("learner", learners)
    memory = place.move(method.memory(roles), where)
    noise = torch.Generator()
    folder = None if out is None else Path(out)
    start = 0
    if folder is not None and (saved := checkpoint.load_last(folder / "checkpoints")) is not None:
        start = _restore(saved, learners, streams, memory, folder)
    report = Report(None if folder is None else folder / "log.jsonl", upto=start)
    recorder = Recorder()

    def judge_now(done: int) -> None:
        if judges:
            report.add({"step": done, **judged(learners, judges, where)})

    with listening(recorder), _noise_ends(learners), progress(title, total=steps, done=start) as advance:
        for number in range(start, steps):
            memory["step"], memory["generator"] = number, noise.manual_seed(fold(seed, number))
            for name, learner in learners.items():
                learner.noise, learner.calls = (seed, number, name), 0
            batch = place.move({name: next(stream) for name, stream in streams.items()}, where)
            losses = _train(method, roles, batch, memory, microbatches, precision, where)
            for owners, loss in losses.items():
                recorder.note(f"loss {'+'.join(_names(owners))}", loss)
            done = number + 1
            if done % log_every == 0 or done == steps:
                row = recorder.flush()
                _check_finite(row, done)
                report.add({"step": done, **row})
            if judge_every and done % judge_every == 0 and done != steps:
                judge_now(done)
            if folder is not None and save_every and done % save_every == 0 and done != steps:
                checkpoint.save(folder / "checkpoints", done, _state(learners, streams, memory, done))
            advance()
    if start < steps:
        judge_now(steps)
        if folder is not None:
            checkpoint.save(folder / "checkpoints", steps, _state(learners, streams, memory, steps))
    return report


@contextmanager
def _noise_ends(learners: Mapping[str, Learner]) -> Iterator[None]:
    """After the run the learners draw from torch's generators as any net does."""
    try:
        yield
    finally:
        for learner in learners.values():
            learner.noise = None


def _train(
    method: Method,
    learners: Roles,
    batch: Mapping[str, Mapping[str, Tensor]],
    memory: Memory,
    microbatches: int,
    precision: Precision,
    device: torch.device,
) -> dict[Owners, Tensor]:
    """One step in as many parts as asked; returns the losses, detached."""
    apart: Apart = {}
    seen: dict[Owners, Tensor] = {}
    for part in _parts(batch, microbatches):
        with autocast(precision, device):
            losses = method.step(learners, part, memory)
        if microbatches > 1:
            losses = {key: _shares(value, microbatches) for key, value in losses.items()}
        clear(learners, [key for key in losses if key not in seen])
        for key, value in losses.items():
            value_now = sum(v.detach() for v in value) if _several(value) else value.detach()  # type: ignore[union-attr]
            seen[key] = value_now if key not in seen else seen[key] + value_now  # type: ignore[assignment]
        backward(learners, losses, apart)
    step(learners, seen, apart)
    return seen


def _parts(batch: Mapping[str, Mapping[str, Tensor]], parts: int) -> Iterator[Roles]:
    if parts == 1:
        yield Roles("stream", batch)
        return
    for name, fields in batch.items():
        for field, values in fields.items():
            if len(values) % parts:
                raise InputError(
                    f"{parts} microbatches do not divide the {len(values)} rows of {name!r}, field {field!r}."
                )
    for number in range(parts):
        cut = {name: {f: v.chunk(parts)[number] for f, v in fields.items()} for name, fields in batch.items()}
        yield Roles("stream", cut)


def _shares(value: Tensor | Sequence[Tensor], parts: int) -> Tensor | list[Tensor]:
    return [v / parts for v in value] if isinstance(value, list | tuple) else value / parts  # type: ignore[operator]


def _check_finite(row: Mapping[str, Any], step: int) -> None:
    for name, value in row.items():
        if name.startswith("loss ") and not abs(value) < float("inf"):
            raise CotrainError(f"The loss of {name.removeprefix('loss ')} is {value} at or shortly before step {step}.")


def _state(learners: Mapping[str, Learner], streams: Mapping[str, Stream], memory: Memory, step: int) -> dict[str, Any]:
    return {
        "step": step,
        "learners": {name: learner.state() for name, learner in learners.items()},
        "streams": {name: stream.state() for name, stream in streams.items()},
        "memory": {key: value for key, value in memory.items() if key not in ("step", "generator")},
    }


def _restore(
    saved: dict[str, Any],
    learners: Mapping[str, Learner],
    streams: Mapping[str, Stream],
    memory: Memory,
    folder: Path,
) -> int:
    for part, given in (("learners", learners), ("streams", streams)):
        missing, new = set(saved[part]) - set(given), set(given) - set(saved[part])
        if missing or new:
            raise InputError(
                f"The checkpoint in {folder} is of another run: {part} only in the checkpoint: {sorted(missing)}, "
                f"only in this run: {sorted(new)}. Choose another folder, or remove it to start anew."
            )
    for name, learner in learners.items():
        learner.load(saved["learners"][name])
    for name, stream in streams.items():
        stream.load(saved["streams"][name])
    for key, value in saved["memory"].items():
        memory[key] = value.to(memory[key].device) if isinstance(value, Tensor) else value
    return saved["step"]
