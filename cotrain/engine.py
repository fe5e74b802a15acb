"""The engine: gives each loss's gradient to the learners its key names and to nobody else, and steps their optimizers.

`update` is the whole of it for one step and works in any loop; `fit` adds streams, precision, microbatches, judges,
checkpoints and the report around it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from cotrain import __version__, checkpoint, place
from cotrain.average import GradientMean, average_set, communication
from cotrain.errors import CotrainError, InputError
from cotrain.gradients.rule import GradientSet, total
from cotrain.judge import Judgement, judged
from cotrain.learner import Follower, Learner
from cotrain.method import Losses, Memory, Method, Owners, Roles
from cotrain.precision import Precision, autocast
from cotrain.progress import progress
from cotrain.randomness import at, fold, seed_torch
from cotrain.report import Recorder, Report, listening
from cotrain.stack import How, at_once, stacked, stacks_of, worthwhile
from cotrain.standing import RunMemory, Standing, plain
from cotrain.stopping import Stopped, stopping
from cotrain.stream import Stream
from cotrain.watch.lookout import Lookout
from cotrain.watch.nonfinite import Guard

try:  # what every public way into the autograd engine calls
    from torch.autograd.graph import _engine_run_backward
except ImportError:
    _engine_run_backward = None  # type: ignore[assignment]

NOTHING = nullcontext()


@dataclass
class Pending:
    """What `backward` leaves for `step`."""

    owners: dict[str, Learner] = field(default_factory=dict)
    # Gradients kept apart for the rules that ask for it: learner -> (owners, place in their list) -> gradients.
    apart: dict[str, dict[tuple[Owners, int], GradientSet]] = field(default_factory=dict)
    sent: list[GradientMean] = field(default_factory=list)  # gradients on their way between ranks


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


def backward(learners: Mapping[str, Learner], losses: Losses, pending: Pending, last: bool = True) -> None:
    """Add each loss's gradient to its owners' parameters, or to `pending.apart` where the owner's rule wants that.

    Args:
        last: no other microbatch comes before the step: the gradients go to the other ranks.
    """
    done, losses = at_once(learners, losses)
    pending.owners |= {name: learners[name] for name in done}
    left = len(losses)
    final = {name: owners for owners in losses for name in _names(owners)}  # the last loss of each owner
    for owners, value in losses.items():
        left -= 1
        leaves: list[Tensor] = []
        apart = averaged = False
        for name in _names(owners):
            learner = pending.owners[name] = _owner(learners, name)
            leaves += learner.roots()
            apart = apart or learner.apart
            averaged = averaged or learner.averaged
        if not isinstance(value, Tensor) and not value:
            raise InputError(f"The loss of {_shown(owners)} is {value!r}, not a tensor or a list of some.")
        mean = _mean_of(learners, tuple(n for n in _names(owners) if final[n] == owners)) if averaged and last else None
        try:
            if apart:
                terms = _listed(value)
                for index, loss in enumerate(terms):
                    keep = left > 0 or index < len(terms) - 1
                    gradients = torch.autograd.grad(loss, leaves, retain_graph=keep, allow_unused=True)
                    _deal_out(gradients, owners, index, pending)
                if mean is not None:
                    mean.arm()
            else:
                # Ownership is real: the graph may lead through other learners, but only these get a gradient.
                # A later loss may share this one's graph. A list is summed, which saves backward passes.
                total_loss = value if isinstance(value, Tensor) else sum(value[1:], value[0])
                if mean is not None:
                    mean.arm()
                _run_backward(total_loss, leaves, keep=left > 0)
        except (RuntimeError, AttributeError, TypeError) as error:
            _explain(owners, value, error)
        if mean is not None:
            mean.send()
            pending.sent.append(mean)
    for stack in stacks_of(learners):
        stack.backward()


def _run_backward(loss: Tensor, leaves: Sequence[Tensor], keep: bool) -> None:
    """`loss.backward(inputs=leaves, retain_graph=keep)`, whose wrapper costs as much as the graph of a small net."""
    if _engine_run_backward is None or loss.dim():
        loss.backward(inputs=leaves, retain_graph=keep)
        return
    _engine_run_backward(
        (loss,), (torch.ones_like(loss),), keep, False, tuple(leaves), allow_unreachable=True, accumulate_grad=True
    )


def _mean_of(learners: Mapping[str, Learner], names: tuple[str, ...]) -> GradientMean | None:
    """What averages over the ranks the gradients of these learners, which share their last backward pass."""
    found = [learners[name] for name in names if learners[name].averaged and not learners[name].apart]
    if not found:
        return None
    if names not in found[0].means:
        how = found[0].communication
        if any(learner.communication != how for learner in found):
            raise InputError(f"{', '.join(names)} own a loss together and differ in their communication.")
        parameters = [p for learner in found for p in learner.parameters]
        found[0].means[names] = GradientMean(parameters, communication(how))
    return found[0].means[names]


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


def step(learners: Mapping[str, Learner], pending: Pending, guard: Guard | None = None) -> None:
    """Pass the owners' gradients through their rules and step their optimizers; then followers move.

    Args:
        guard: keeps learners with a gradient that is not finite from stepping.
    """
    for mean in pending.sent:
        mean.wait()
    for learner in learners.values():
        if learner.is_sharded:
            learner.free()  # what a forward pass left gathered would outlive the step and be stale
    stacks = stacks_of(pending.owners)
    for stack in stacks:
        if guard is not None or any(learner.rule is not None for learner in stack.learners):
            stack.spread()
    for name, learner in pending.owners.items():
        if learner.rule is not None:
            apart = pending.apart.get(name)
            sets = list(apart.values()) if apart else [[p.grad for p in learner.parameters]]
            if apart and learner.averaged:
                sets = [average_set(gradients, learner.parameters) for gradients in sets]
            for parameter, gradient in zip(learner.parameters, total(learner.rule(sets)), strict=True):
                parameter.grad = gradient
    refused = guard.refused(pending.owners) if guard is not None else ()
    stepping = {name: learner for name, learner in pending.owners.items() if name not in refused}
    for learner in stepping.values():
        if learner.stack is None:
            learner.step()
    for stack in stacks:
        stack.step([learner for learner in stepping.values() if learner.stack is stack])
    if guard is not None:
        guard.keep()
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


def prepare(learners: Mapping[str, Learner], device: torch.device | str = "cpu", absent: Collection[str] = ()) -> None:
    """Move the nets to the device, make followers' copies, place the nets over the ranks, build the optimizers.

    Args:
        absent: learners that are trained on other ranks; they stay as they are.

    Raises:
        InputError: a parameter stands in two learners; a follower's leader is unknown or itself a follower; a net is
            wrapped or sharded already, or cannot be placed as its learner says.
    """
    holders: dict[int, str] = {}
    for name, learner in learners.items():
        if isinstance(learner, Follower):
            continue
        _check_bare(name, learner)
        for parameter in learner.net.parameters():
            other = holders.setdefault(id(parameter), name)
            if other != name:
                raise InputError(
                    f"Learners {other!r} and {name!r} share a parameter; a shared part is a learner of its own, "
                    "or both are one learner with two heads."
                )
    for name, learner in learners.items():
        if name not in absent and not isinstance(learner, Follower):
            learner.net.to(device)
    for name, follower in learners.items():
        if isinstance(follower, Follower):
            leader = learners.get(follower.leader)
            if leader is None or isinstance(leader, Follower):
                which = "is not among the learners" if leader is None else "is a follower itself"
                raise InputError(f"{name!r} follows {follower.leader!r}, which {which}.")
            follower.start(leader)  # before its leader is sharded: a sharded net cannot be copied
            follower.net.to(device)
    for name, learner in learners.items():
        if name not in absent and learner.optimizer is None:
            try:
                if isinstance(learner, Follower):
                    learner.spread()  # and stays in the mode of its leader
                else:
                    learner.build()
            except InputError as error:
                raise InputError(f"Learner {name!r} {error}" if str(error)[0].islower() else str(error)) from error


def _check_bare(name: str, learner: Learner) -> None:
    if isinstance(learner.net, nn.parallel.DistributedDataParallel):
        raise InputError(
            f"Learner {name!r} is wrapped in DistributedDataParallel; give the bare net, each learner is placed by "
            "itself (placement='ddp'). One wrapper around several learners cannot work: they do not step together."
        )
    if learner.is_sharded and learner.optimizer is not None and not learner.leaves_are_gathered:
        raise InputError(
            f"Learner {name!r} has an optimizer that was built before sharding and would step parameters that are "
            "gone; do not call build(), the engine builds it from the sharded net."
        )


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
    groups: int = 1,
    compile: bool = False,
    mfu: bool = False,
    out: Path | str | None = None,
    save_every: int | None = None,
    keep: int = 2,
    best: str | None = None,
    partial: Collection[str] | None = None,
    log_every: int = 50,
    title: str | None = None,
    stack: How = False,
) -> Report:
    """Train the learners in place: on one process, or on every process that a launcher started (torchrun and all that
    set RANK and WORLD_SIZE), with the same result.

    Args:
        method: says the losses.
        learners: by the roles that the method asks for.
        streams: by the names that the method asks for. A stream's batch is the whole run's; each rank takes its rows.
        steps: calls of `method.step` in all, those before a resume included.
        seed: of the noise in the nets and in the method; streams have their own. Rounds of `fit` on the same learners
            take different seeds, or they draw the same noise.
        judges: pairs (judge, test stream), run at the end and every `judge_every` steps.
        precision: "fp32" or "bf16".
        microbatches: cut each batch into so many parts, one backward each, one step of the optimizers for all.
        device: "auto", "cpu", "cuda", ...
        groups: deal the learners out to so many groups of ranks, which hear of each other by `post`.
        compile: pass the nets through `torch.compile`.
        mfu: report which share of the device's peak each learner uses (model FLOPs utilization).
        out: folder for `log.jsonl` and checkpoints; a checkpoint found there is resumed.
        save_every: steps between checkpoints, which are written while training goes on; None saves at the end only (if
            there is an `out`).
        keep: how many of the last checkpoints stay.
        best: a judge's number, higher is better; the checkpoint with the best one stays too.
        partial: learners to take over from a checkpoint in `out` that is of another run; everything else starts anew.
        log_every: steps between the rows of the report; the device is waited for at those only.
        title: of the progress bar; None shows none.
        stack: run learners of one architecture as one (`cotrain.stack`): True, or "auto", which measures whether it is
            faster; False runs them one by one. What is learned is the same but for rounding.

    Raises:
        InputError: a role or stream that the method needs is missing; microbatches or ranks do not divide a batch, or
            the method needs the whole batch; the checkpoint in `out` is of another run, or the ranks are in two.
        CotrainError: a loss is not finite; the message names the learner.
        Stopped: SIGTERM or SIGUSR1 came; the run was saved in `out` and can be resumed.
    """
    for name, value in (("steps", steps), ("microbatches", microbatches), ("log_every", log_every)):
        if value < 1:
            raise InputError(f"{name} is at least 1, not {value}.")
    if method.whole_batch and microbatches > 1:
        raise InputError(f"{type(method).__name__} needs the whole batch in one piece; microbatches must be 1.")
    folder = None if out is None else Path(out)
    _check_streams(streams, saved=folder is not None)
    where = place.device_of(device)
    place.start(where)
    with ExitStack() as scope:
        scope.enter_context(place.standing(place.grid(where, groups)))
        here = place.here()
        if stack and here.mesh is not None:
            if stack is True:
                raise InputError("stack=True runs learners as one on one process; on several, leave it out.")
            stack = False
        homes = _deal_learners(method, learners, here.groups)
        place.check_same(_description(method, learners, streams, steps, seed, microbatches, precision))
        absent = {name for name, home in homes.items() if home != here.group}
        prepare(learners, where, absent)
        present = {name: learner for name, learner in learners.items() if name not in absent}
        if here.ranks > 1:
            for stream in streams.values():
                if hasattr(stream, "split"):
                    stream.split(here.rank, here.ranks)
        roles = Roles("learner", present)
        memory = RunMemory(place.move(method.memory(roles), where), seed)
        noise = fold(seed, "step")
        # Ranks draw different noise for their rows of a batch; what a method draws itself is the same on all.
        own = fold("rank", here.rank) if here.rank else 0
        own_noise = {name: fold(seed, "learner", name) ^ own for name in present}
        recorder = Recorder()
        elsewhere = {name: learners[name] for name in absent}
        standing = Standing(method, seed, present, elsewhere, streams, memory, recorder, where, partial)
        start, plan = 0, None
        if folder is not None:
            saved = checkpoint.load_last(folder / "checkpoints", standing.pattern() if here.mesh is not None else None)
            if saved is not None:
                start, plan = standing.load(saved, steps, folder), saved.get("stack")
        # After loading: what a learner goes back to is where the run goes on.
        policies = {name: learner.nonfinite for name, learner in present.items() if learner.nonfinite != "stop"}
        guard = Guard(present, policies, group=here.along("data")) if policies else None
        guarded = {name for name, learner in learners.items() if learner.nonfinite != "stop"}
        writes = folder is not None and place.first()
        report = Report(folder / "log.jsonl" if folder is not None and writes else None, upto=start)

        def settle() -> None:
            """What is not averaged over the ranks (batch statistics, learners of other groups) gets the same on all."""
            for name, home in homes.items():
                place.copy_from(list(learners[name].net.state_dict().values()), group=here.along("learners"), rank=home)
            for learner in present.values():
                if learner.averaged:
                    place.copy_from(list(learner.net.buffers()), group=here.along("data"))

        def judge(done: int) -> None:
            if judges:
                report.add({"step": done, **judged(learners, judges, where)})

        def save(done: int) -> None:
            if folder is not None:
                _check_finite(
                    _merged(recorder.means()), done, guarded
                )  # weights that went wrong never replace good ones
                ends = done == steps
                score = report.last.get(best) if best is not None else None
                checkpoint.save(folder / "checkpoints", done, standing.state(done), keep, score=score, wait=ends)

        scope.enter_context(_saved_at_the_end())
        scope.enter_context(_own_randomness(learners, where))
        scope.enter_context(listening(recorder))
        advance = scope.enter_context(progress(title if place.first() else None, total=steps, done=start))
        told_to_stop = scope.enter_context(stopping(folder is not None))
        nets = {name: learner.net for name, learner in present.items() if learner.optimizer is not None}
        lookout = Lookout(nets, where, mfu, folder) if mfu or here.mesh is not None else None
        if lookout is not None:
            scope.enter_context(lookout.watching())

        def trial(copies: Mapping[str, Learner]) -> None:
            scratch = RunMemory(place.move(method.memory(Roles("learner", copies)), where), seed)
            scratch.begin(start)
            with listening(Recorder()):
                copied = Roles("learner", copies)
                _train(method, copied, batch, scratch, microbatches, precision, where, Recorder(), None, None)

        for number in range(start, steps):
            # What this step draws is addressed by (seed, step) and, in a learner, by its role and its calls so far.
            address = at(noise, number)
            seed_torch(address ^ own)
            memory.begin(number)
            for name, learner in present.items():
                learner.noise = address ^ own_noise[name]
            with lookout.step(number) if lookout is not None else NOTHING:
                batch = Roles("stream", {name: _next_of(name, stream, where, here) for name, stream in streams.items()})
                if number == start and stack:
                    if stack == "auto" and plan is None:
                        with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
                            stack = worthwhile(present, trial, steps - start)
                    scope.enter_context(stacked(present, stack, plan))
                _train(method, roles, batch, memory, microbatches, precision, where, recorder, guard, lookout)
            if compile and number == start:  # after the first step, whose operations may have been counted
                for learner in present.values():
                    learner.net.compile()
            done = number + 1
            last = done == steps
            stop = not last and told_to_stop()
            if last or done % log_every == 0:
                row = _merged(recorder.flush() | (lookout.row(done) if lookout is not None else {}))
                _check_finite(row, done, guarded)
                report.add({"step": done, **row})
            judging = last or (judge_every and done % judge_every == 0)
            saving = last or stop or (save_every and done % save_every == 0)
            if (judging or saving) and here.mesh is not None:
                settle()
            if judging:
                judge(done)
            if saving:
                save(done)
            if stop:
                raise Stopped(done, folder)
            advance()
    return report


@contextmanager
def _saved_at_the_end() -> Iterator[None]:
    """However the run ends, the checkpoint that is being written is finished."""
    try:
        yield
    except BaseException:
        with suppress(CotrainError):  # what ended the run is what is said
            checkpoint.wait()
        raise
    checkpoint.wait()


def _deal_learners(method: Method, learners: Mapping[str, Learner], groups: int) -> dict[str, int]:
    """Which group of ranks each learner that learns lives on, and its followers with it; empty: all are everywhere.

    Raises:
        InputError: the method's learners cannot be apart, or there are fewer of them than groups.
    """
    if groups == 1:
        return {}
    if not method.spreads:
        raise InputError(
            f"{type(method).__name__} needs its learners together: what one learns flows through others, or it asks "
            "for them by name. Leave groups at 1; all ranks then share the rows."
        )
    trained = [name for name, learner in learners.items() if learner.factory is not None]
    if cut := [name for name in trained if learners[name].placement in ("fsdp", "hsdp")]:
        raise InputError(f"Learner {cut[0]!r} cannot be sharded where learners are dealt out to groups; use 'ddp'.")
    if len(trained) < groups:
        raise InputError(f"{len(trained)} learners cannot be dealt out to {groups} groups of ranks.")
    homes = {name: number * groups // len(trained) for number, name in enumerate(trained)}
    followers = {name: f.leader for name, f in learners.items() if isinstance(f, Follower)}
    return homes | {name: homes[leader] for name, leader in followers.items() if leader in homes}


def _description(
    method: Method,
    learners: Mapping[str, Learner],
    streams: Mapping[str, Stream],
    steps: int,
    seed: int,
    microbatches: int,
    precision: Precision,
) -> dict[str, Any]:
    """What must be the same on every rank, or they would go different ways."""
    shapes = {
        f"the net of {name!r}": fold(*(f"{k} {tuple(v.shape)} {v.dtype}" for k, v in learner.net.named_parameters()))
        for name, learner in learners.items()
        if not isinstance(learner, Follower)
    }
    return {
        "cotrain's version": __version__,
        "torch's version": torch.__version__,
        "the method": f"{type(method).__name__} {plain(method)}",
        "the list of learners": list(learners),
        "the learners' placements": {name: learner.placement for name, learner in learners.items()},
        "the list of streams": list(streams),
        "the number of steps": steps,
        "the seed": seed,
        "the number of microbatches": microbatches,
        "the precision": precision,
        **shapes,
    }


def _merged(row: Mapping[str, float]) -> dict[str, float]:
    """Means over the ranks of what each noted."""
    told = place.everywhere(dict(row))
    if len(told) == 1:
        return told[0]
    names = dict.fromkeys(name for one in told for name in one)
    return {name: fmean(one[name] for one in told if name in one) for name in names}


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


def _next_of(name: str, stream: Stream, device: torch.device, here: place.Ranks) -> Roles:
    batch = next(stream)
    if not isinstance(batch, Mapping):
        raise InputError(f"Stream {name!r} gave a {type(batch).__name__}; a batch is a dict of tensors.")
    if here.ranks > 1 and not hasattr(stream, "split"):
        for field, values in batch.items():
            if len(values) % here.ranks:
                raise InputError(
                    f"{here.ranks} ranks do not divide the {len(values)} rows of {name!r}, field {field!r}."
                )
        batch = {field: place.share(values) for field, values in batch.items()}
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
    guard: Guard | None,
    lookout: Lookout | None,
) -> None:
    """One step in as many parts as asked."""
    if lookout is not None:
        lookout.done("batch")
        if any(learner.is_sharded for learner in learners.values()):
            lookout.collective()  # the nets are gathered as they compute
    pending = Pending()
    clear(learners)
    parts = [batch] if microbatches == 1 else list(_parts(batch, microbatches))
    for part in parts:
        if microbatches > 1:
            for learner in learners.values():
                learner.hold(part is not parts[-1])
        with autocast(precision, device):
            losses = method.step(learners, part, memory)
        if lookout is not None and part is parts[-1]:
            lookout.done("forward")
            lookout.collective()
        shares = losses if microbatches == 1 else _shares(losses, microbatches)
        backward(learners, shares, pending, last=part is parts[-1])
        for owners, value in losses.items():
            if isinstance(value, Tensor):
                recorder.keep(_label(owners), value.detach())
            else:
                for index, loss in enumerate(value):
                    recorder.keep(f"{_label(owners)} {index}", loss.detach())
        del losses  # and with them the graphs, before the optimizers need memory
    if lookout is not None:
        lookout.done("backward")
    step(learners, pending, guard)
    if lookout is not None:
        lookout.done("update")


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


def _check_finite(row: Mapping[str, Any], step: int, guarded: Set[str] = frozenset()) -> None:
    for name, value in row.items():
        if name.startswith("loss ") and not isfinite(value) and guarded.isdisjoint(name.split()[1].split("+")):
            raise CotrainError(f"The loss of {name.removeprefix('loss ')} is {value} at or shortly before step {step}.")
