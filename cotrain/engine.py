"""The engine: trains learners as a method says, on one process or on many.

`fit` puts streams, precision, microbatches, judges, checkpoints and the report around the step (`cotrain.ownership`).
"""

import functools
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from cotrain import checkpoint, place
from cotrain.errors import CotrainError, InputError
from cotrain.judge import Judgement, judged
from cotrain.learner import Learner
from cotrain.method import Losses, Memory, Method, Roles
from cotrain.ownership import Pending, backward, clear, label, step
from cotrain.ownership import update as update
from cotrain.precision import Precision, autocast
from cotrain.preparation import (
    check_counts,
    check_judges,
    check_streams,
    check_together,
    deal_learners,
    description,
    keep_homes,
    prepare,
    warn_of_parts,
)
from cotrain.progress import progress
from cotrain.randomness import at, draws_nothing, fold, seed_torch
from cotrain.report import Recorder, Report, listening
from cotrain.run_state import RunMemory, RunState
from cotrain.stacking import How, Plan, stacked, worthwhile
from cotrain.stopping import Stopped, stopping
from cotrain.stream import Stream
from cotrain.tree import take_apart
from cotrain.watch.lookout import Lookout
from cotrain.watch.nonfinite import Guard, check_finite


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
    start_from: Path | str | None = None,
    partial: Collection[str] | None = None,
    log_every: int = 50,
    title: str | None = None,
    stack: How = False,
) -> Report:
    """Train the learners in place: on one process, or on every process that a launcher started (torchrun and all that
    set RANK and WORLD_SIZE), with the same result; but for batch normalization, which sees each process's rows apart,
    and dropout and other noise inside a net, which each process draws for its rows.

    Args:
        method: says the losses.
        learners: by the roles that the method asks for.
        streams: by the names that the method asks for. A stream's batch is the whole run's; each rank takes its rows.
        steps: calls of `method.step` in all, those before a resume included.
        seed: of the noise in the nets and in the method; streams have their own. Rounds of `fit` on the same learners
            take different seeds, or they draw the same noise.
        judges: pairs (judge, test stream), run at the end and every `judge_every` steps.
        precision: "fp32" or "bf16".
        microbatches: cut each batch into so many parts, one backward each, one step of the optimizers for all; batch
            normalization sees each part apart.
        device: "auto", "cpu", "cuda", ...
        groups: deal the learners out to so many groups of ranks, which hear of each other by `post`.
        compile: learners call their nets through `torch.compile`. A resumed run equals the unbroken one bit for bit if
            a net's batches are of one size; else, and with `mfu`, but for rounding and the noise in the nets.
        mfu: report which share of the device's peak each learner uses (model FLOPs utilization).
        out: folder for `log.jsonl` and checkpoints; a checkpoint found there is resumed.
        save_every: steps between checkpoints, which are written while training goes on; None saves at the end only (if
            there is an `out`).
        keep: how many of the last checkpoints stay.
        best: a judge's number, higher is better; every judgement is saved, and the checkpoint with the best one stays.
        start_from: folder of another run, which stays as it is. Learners go on from its last checkpoint, everything
            else starts anew; not read once `out` has a checkpoint of this run.
        partial: the learners that do; None is all, and then the other run has the same ones. A follower goes with its
            leader.
        log_every: steps between the rows of the report; the device is waited for at those only.
        title: of the progress bar; None shows none.
        stack: run learners of one architecture as one (`cotrain.stacking`): True, or "auto", which measures whether it
            is faster; False runs them one by one. What is learned is the same but for rounding. With `mfu`, or on
            several processes, "auto" runs them one by one.

    Raises:
        InputError: a role or stream that the method needs is missing; microbatches or ranks do not divide a batch, or
            the method needs the whole batch; the checkpoint in `out` is of another run, or the ranks are in two;
            `start_from` has no checkpoint, or learners differ from those in it; judges are no pairs; none gives `best`;
            stack=True with `mfu`, on several processes, or of learners that do not run as one.
        CotrainError: a loss is not finite, or weights are not; the message names the learner.
        Stopped: SIGTERM or SIGUSR1 came; the run was saved in `out` and can be resumed.
    """
    check_counts(
        steps=steps,
        microbatches=microbatches,
        log_every=log_every,
        keep=keep,
        judge_every=judge_every,
        save_every=save_every,
    )
    check_together(method, microbatches, mfu, stack, start_from, partial)
    folder = None if out is None else Path(out)
    check_streams(streams, saved=folder is not None)
    check_judges(judges)
    where = place.device_of(device)
    place.start(where)
    settings = {
        "the number of steps": steps,
        "the seed": seed,
        "the number of judges": len(judges),
        "judge_every": judge_every,
        "the precision": precision,
        "the number of microbatches": microbatches,
        "the kind of device": where.type,
        "the number of groups": groups,
        "whether there is an out folder": folder is not None,
        "save_every": save_every,
        "best": best,
        "start_from": str(start_from),
        "partial": None if partial is None else sorted(partial),
        "log_every": log_every,
        "stack": stack,
    }
    place.check_same(description(method, learners, streams) | settings)
    with ExitStack() as scope:
        scope.enter_context(place.standing(place.grid(where, groups)))
        here = place.here()
        if stack is True and here.mesh is not None:
            raise InputError("stack=True runs learners as one on one process; on several, leave it out.")
        if mfu or here.mesh is not None:
            stack = False
        homes = deal_learners(method, learners, here.groups)
        absent = {name for name, home in homes.items() if home != here.group}
        keep_homes(learners, homes)
        prepare(learners, where, absent)
        present = {name: learner for name, learner in learners.items() if name not in absent}
        warn_of_parts(learners, here.ranks, microbatches)
        for learner in present.values():
            learner.hold(False)  # whatever an interrupted run left
        if here.ranks > 1:
            for stream in streams.values():
                if hasattr(stream, "split"):
                    stream.split(here.rank, here.ranks)
        roles = Roles("learner", present)
        memory = RunMemory(place.move(method.memory(roles), where), seed)
        noise = fold(seed, "step")
        # Ranks draw different noise for their rows of a batch; what a method draws itself is the same on all.
        own = fold("rank", here.rank) if here.rank else 0
        drawing = [name for name, learner in present.items() if not draws_nothing(learner.net)]
        own_noise = {name: fold(seed, "learner", name) ^ own for name in drawing}
        recorder = Recorder()
        elsewhere = {name: learners[name] for name in absent}
        run_state = RunState(method, seed, present, elsewhere, streams, memory, recorder, where, precision)
        start, plan = _resume(run_state, steps, folder, start_from, partial)
        # After loading: what a learner goes back to is where the run goes on.
        policies = {name: learner.nonfinite for name, learner in present.items() if learner.nonfinite != "stop"}
        guard = Guard(present, policies, group=here.along("data")) if policies else None
        guarded = {name for name, learner in learners.items() if learner.nonfinite != "stop"}
        report = Report(folder / "log.jsonl" if folder is not None and place.first() else None, upto=start)

        def judge(done: int) -> dict[str, float]:
            if not judges:
                return {}
            with lookout.judging():
                numbers = judged(learners, judges, where)
            report.add({"step": done, **numbers})
            return numbers

        def save(done: int, score: float | None, ends: bool) -> None:
            # Weights that went wrong never replace good ones, and are not what a run ends with.
            _check_losses(_merged(recorder.means()), done, guarded)
            check_finite(present, done)
            if folder is not None:
                checkpoint.save(folder / "checkpoints", done, run_state.state(done), keep, score=score, wait=ends)

        scope.enter_context(_saved_at_the_end())
        scope.enter_context(_own_randomness(learners, where))
        if compile:
            scope.enter_context(_compiled(present))
        scope.enter_context(listening(recorder))
        advance = scope.enter_context(progress(title if place.first() else None, total=steps, done=start))
        told_to_stop = scope.enter_context(stopping(folder is not None))
        nets = {name: learner.net for name, learner in present.items() if learner.optimizer is not None}
        lookout = Lookout(nets, where, mfu, folder)
        scope.enter_context(lookout.watching())

        def trial(batch: Roles, copies: Mapping[str, Learner]) -> None:
            scratch = RunMemory(place.move(method.memory(Roles("learner", copies)), where), seed)
            scratch.begin(start)
            with listening(Recorder()):
                copied = Roles("learner", copies)
                _train(method, copied, batch, scratch, microbatches, precision, where, Recorder(), None, lookout)

        for number in range(start, steps):
            done = number + 1
            # What this step draws is addressed by (seed, step) and, in a learner, by its role and its calls so far.
            address = at(noise, number)
            seed_torch(address ^ own)
            memory.begin(number)
            for name in drawing:
                present[name].noise = address ^ own_noise[name]
            with lookout.step(number):
                batches = {name: _next_of(name, one, done, where, here) for name, one in streams.items()}
                batch = Roles("stream", batches)
                if number == start and stack:
                    if stack == "auto" and plan is None:
                        with torch.random.fork_rng(devices=[where] if where.type == "cuda" else []):
                            stack = worthwhile(present, functools.partial(trial, batch), steps - start)
                    scope.enter_context(stacked(present, stack, plan))
                _train(method, roles, batch, memory, microbatches, precision, where, recorder, guard, lookout)
            if folder is not None and number == start:
                # What cannot be saved is said now, not at the first save.
                told = {"memory": memory.remembered(), "streams": {name: one.state() for name, one in streams.items()}}
                take_apart(told, {})
            last = done == steps
            stop = not last and told_to_stop()
            if here.ranks > 1 and (last or number == start or done % log_every == 0):
                _check_reached(present)
            if last or done % log_every == 0:
                _check_called(present)
                row = _merged(recorder.flush() | lookout.row(done))
                _check_losses(row, done, guarded)
                if "step" in row:
                    raise InputError("note('step') would hide the row's own step; note it by another name.")
                report.add({"step": done, **row})
            judging = last or (judge_every and done % judge_every == 0)
            saving = last or stop or (save_every and done % save_every == 0) or (judging and best is not None)
            if judging or saving:
                with lookout.aside():
                    if here.mesh is not None:
                        _settle(learners, present, homes)
                    try:
                        numbers = judge(done) if judging else {}
                    except Exception:
                        if saving:  # what was learned outlives a judge that fails
                            save(done, None, ends=last or stop)
                        raise
                    if saving:
                        # A score is that of the weights that were judged. A run told to stop says that it is saved.
                        save(done, numbers.get(best) if best is not None else None, ends=last or stop)
            if judging and best is not None and best not in numbers:  # said after what was learned is saved
                there = ", ".join(map(repr, numbers)) or "none"
                raise InputError(f"best is {best!r}, a number that no judge gave at step {done}; they gave: {there}.")
            if stop:
                raise Stopped(done, folder)
            advance()
        if start == steps:  # a run that had ended
            if here.mesh is not None:
                _settle(learners, present, homes)  # each rank loaded its own learners
            # The last step has a row of losses and one of the judges, unless one of these failed.
            if judges and not place.everywhere(sum(row["step"] == steps for row in report.rows) > 1)[0]:
                judge(steps)
        if idle := [name for name, one in present.items() if one.optimizer is not None and not one.updates]:
            names = ", ".join(map(repr, idle))
            said = f"{names} did not learn: not one update in {steps} steps. Does the method give a loss to it?"
            warnings.warn(said, stacklevel=2)
    return report


def _resume(
    run_state: RunState,
    steps: int,
    folder: Path | None,
    start_from: Path | str | None,
    partial: Collection[str] | None,
) -> tuple[int, Plan | None]:
    """Go on from the checkpoint in the folder, else from the learners of `start_from`: the step, and how the learners
    were stacked."""
    on_ranks = place.here().mesh is not None
    if folder is not None:
        own = checkpoint.load_last(folder / "checkpoints", run_state.pattern() if on_ranks else None)
        if own is not None:
            return run_state.load(own, steps, folder), own.get("stack")
    if start_from is not None:
        pattern = run_state.pattern(partial) if on_ranks else None
        other = checkpoint.load_last(Path(start_from) / "checkpoints", pattern)
        if other is None:
            raise InputError(f"There is no checkpoint in {start_from} to start from.")
        run_state.take(other, partial)
    return 0, None


def _settle(learners: Mapping[str, Learner], present: Mapping[str, Learner], homes: Mapping[str, int]) -> None:
    """What is not averaged over the ranks (batch statistics, learners of other groups) gets the same on all."""
    here = place.here()
    for learner in present.values():
        if learner.placement != "local":
            place.copy_from(list(learner.net.buffers()), group=here.along("data"))
    for name, home in homes.items():
        tensors = [value for value in learners[name].net.state_dict().values() if isinstance(value, Tensor)]
        place.copy_from(tensors, group=here.along("learners"), rank=home)


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


def _merged(row: Mapping[str, float]) -> dict[str, float]:
    """Means over the ranks of what each noted."""
    told = place.everywhere(dict(row))
    if len(told) == 1:
        return told[0]
    names = dict.fromkeys(name for one in told for name in one)
    return {name: fmean(one[name] for one in told if name in one) for name in names}


@contextmanager
def _own_randomness(learners: Mapping[str, Learner], device: torch.device) -> Iterator[None]:
    """Torch's generators are as before after the run, and the learners draw from them as any net does."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for learner in learners.values():
                learner.noise = None


@contextmanager
def _compiled(learners: Mapping[str, Learner]) -> Iterator[None]:
    """Within it learners call their nets as torch compiles them. Not `net.compile()`, which leaves a net of a class of
    torch's own as it is and outlives the run."""
    import torch._functorch.config as functorch

    # Torch would let compiled backward passes write into what the next one through a kept graph reads.
    with functorch.patch(donated_buffer=False):
        try:
            for learner in learners.values():
                learner.compiled = torch.compile(learner.net)
            yield
        finally:
            for learner in learners.values():
                learner.compiled = None


def _next_of(name: str, stream: Stream, step: int, device: torch.device, here: place.Ranks) -> Roles:
    try:
        batch = next(stream)
    except StopIteration:
        raise InputError(f"Stream {name!r} ended at step {step}; a stream gives batches without end.") from None
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
    lookout: Lookout,
) -> None:
    """One step in as many parts as asked."""
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
        if not isinstance(losses, Mapping):
            kind = type(losses).__name__
            raise InputError(f"{type(method).__name__}.step returned a {kind}; it returns a dict of losses by learner.")
        if part is parts[-1]:
            lookout.done("forward")
            lookout.collective()
        # No other name may hold a loss here: its graph goes with `losses`, before the optimizers need memory.
        backward(
            learners,
            losses if microbatches == 1 else _shares(losses, microbatches),
            pending,
            last=part is parts[-1],
        )
        _record(losses, recorder)
        del losses
    lookout.done("backward")
    step(learners, pending, guard)
    lookout.done("update")


def _record(losses: Losses, recorder: Recorder) -> None:
    for owners, value in losses.items():
        if isinstance(value, Tensor):
            recorder.keep(label(owners), value.detach())
        else:
            for index, loss in enumerate(value):
                recorder.keep(f"{label(owners)} {index}", loss.detach())


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
    """Each loss's share in the whole batch's; what is no loss stays as it is, and `backward` names it."""

    def share(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [share(loss) for loss in value]
        return value / parts if isinstance(value, Tensor) else value

    return {owners: share(value) for owners, value in losses.items()}


def _check_called(learners: Mapping[str, Learner]) -> None:
    if idle := [repr(name) for name, learner in learners.items() if learner.reached is False]:
        raise InputError(
            f"No loss of {', '.join(idle)} has reached any of its parameters: the method never calls it, detaches what "
            "it says, or gives the loss to the wrong name."
        )


def _check_reached(learners: Mapping[str, Learner]) -> None:
    """The parameters of a sharded learner get gradients on all ranks or on none: torch adds up what comes in turn, and
    where a rank leaves one out, the gradient of another takes its place without a word."""
    reached = {
        name: [parameter.grad is not None for parameter in learner.parameters]
        for name, learner in learners.items()
        if learner.is_sharded
    }
    told = place.along_data(reached) if reached else []
    for name, own in reached.items():
        if odd := [rank for rank, theirs in enumerate(told) if theirs[name] != own]:
            raise CotrainError(
                f"Not all ranks reach the same parameters of {name!r} (rank {odd[0]} others than rank "
                f"{place.here().rank}), which a sharded learner cannot bear: place it 'ddp', or let every step use all."
            )


def _check_losses(row: Mapping[str, Any], step: int, guarded: Set[str] = frozenset()) -> None:
    for name, value in row.items():
        if name.startswith("loss ") and not isfinite(value):
            named = name.removeprefix("loss ")
            # The owners, or the owners and a number in their list of losses.
            if not any(set(owners.split("+")) <= guarded for owners in (named, named.rpartition(" ")[0])):
                raise CotrainError(f"The loss of {named} is {value} at or shortly before step {step}.")
