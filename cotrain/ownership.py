"""One step: each loss's gradient to the learners that its key names and to nobody else, then their optimizers.

`update` is the whole of it and works in any loop; the engine calls its parts, with ranks and microbatches between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from cotrain.average import GradientMean, average_set, communication
from cotrain.errors import InputError
from cotrain.gradients.rule import GradientSet, total
from cotrain.learner import Follower, Learner
from cotrain.method import Losses, Owners
from cotrain.stack import at_once, stacks_of
from cotrain.watch.nonfinite import Guard

try:  # what every public way into the autograd engine calls
    from torch.autograd.graph import _engine_run_backward
except ImportError:
    _engine_run_backward = None  # type: ignore[assignment]


SMALL = 2**18  # bytes of all trained parameters


@dataclass
class Pending:
    """What `backward` leaves for `step`."""

    owners: dict[str, Learner] = field(default_factory=dict)
    parts: int = 0  # microbatches that came before
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
    stacks = stacks_of(learners)
    if stacks:
        done, losses = at_once(learners, losses)
        pending.owners |= {name: learners[name] for name in done}
    left = len(losses)
    graphs = _graphs(losses) if left > 1 and not _small(learners) else None
    one_pass = graphs is not None and _as_one(learners, losses, graphs, pending)
    keep = left > 1 and (graphs is None or graphs.joined)
    for owners, value in () if one_pass else losses.items():
        left -= 1
        leaves: list[Tensor] = []
        leaves_apart: list[Tensor] = []
        averaged = False
        for name in owners_in(owners):
            learner = pending.owners[name] = _owner(learners, name)
            (leaves_apart if learner.apart else leaves).extend(learner.roots())
            averaged = averaged or learner.averaged
        if not isinstance(value, Tensor) and not value:
            raise InputError(f"The loss of {_shown(owners)} is {value!r}, not a tensor or a list of some.")
        mean = _mean_of(learners, _last_of(owners, losses)) if averaged and last else None
        try:
            if leaves_apart:
                terms = listed(value)
                for index, loss in enumerate(terms):
                    more = left > 0 or bool(leaves) or index < len(terms) - 1
                    gradients = torch.autograd.grad(loss, leaves_apart, retain_graph=more, allow_unused=True)
                    _deal_out(gradients, owners, index, pending)
            if leaves:
                # Ownership is real: the graph may lead through other learners, but only these get a gradient.
                # A later loss may share this one's graph. A list is summed, which saves backward passes.
                # A sharded learner's gradients reach its shards in a backward pass and in no other way.
                total_loss = value if isinstance(value, Tensor) else sum(value[1:], value[0])
                if mean is not None:
                    mean.arm()
                _run_backward([total_loss], leaves, keep=keep and left > 0)
        except (RuntimeError, AttributeError, TypeError) as error:
            if mean is not None:
                mean.armed = False  # what goes on after a step that failed sends nothing by it
            _explain(owners, value, error)
        if mean is not None:
            mean.send()
            pending.sent.append(mean)
    if last and pending.parts:
        _send_left_out(learners, losses, pending)
    pending.parts += 1
    for stack in stacks:
        stack.backward()


def _run_backward(losses: Sequence[Tensor], leaves: Sequence[Tensor], keep: bool = False) -> None:
    """`torch.autograd.backward(losses, inputs=leaves, retain_graph=keep)`, which costs as much as a small net does."""
    if _engine_run_backward is None or any(loss.dim() for loss in losses):
        torch.autograd.backward(losses, inputs=leaves, retain_graph=keep)
        return
    ones = tuple(_one(loss.dtype, loss.device) for loss in losses)
    _engine_run_backward(tuple(losses), ones, keep, False, tuple(leaves), allow_unreachable=True, accumulate_grad=True)


@cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Where every backward pass starts; autograd writes into no gradient that others hold."""
    return torch.ones((), dtype=dtype, device=device)


def _small(learners: Mapping[str, Learner]) -> bool:
    """Whether all nets are so small that to keep their graphs costs less than to look at them. On a GPU none is: a
    backward pass wakes a thread of the device there, and looking may save some."""
    return sum([learner.size for learner in learners.values()]) < SMALL


@dataclass
class Graphs:
    """What the losses' graphs are made of."""

    joined: bool  # two have a node in common, so that one must outlive its backward pass for the other
    reached: list[set[int]]  # ids of the leaves that each loss reaches; fewer than losses if the graphs are too large


def _graphs(losses: Losses, limit: int = 2_000) -> Graphs:
    """A walk through the losses' graphs, up to `limit` nodes; larger ones count as joined.

    A graph that is kept until the last backward pass costs fresh memory for every buffer of the next. Leaves do not
    join graphs: they keep nothing for a backward pass.
    """
    found = Graphs(False, [])
    before: set[Any] = set()
    for value in losses.values():
        seen: set[Any] = set()
        leaves: set[int] = set()
        todo = [loss.grad_fn for loss in listed(value) if isinstance(loss, Tensor) and loss.grad_fn is not None]
        while todo:
            node = todo.pop()
            seen.add(node)
            if len(before) + len(seen) > limit:
                return Graphs(True, [])
            for below, _ in node.next_functions:
                if below is not None and below not in seen:
                    if hasattr(below, "variable"):
                        leaves.add(id(below.variable))
                    else:
                        todo.append(below)
        found.joined = found.joined or not before.isdisjoint(seen)
        found.reached.append(leaves)
        before |= seen
    return found


def _as_one(learners: Mapping[str, Learner], losses: Losses, graphs: Graphs, pending: Pending) -> bool:
    """One backward pass for all losses, if that is the same: each is one tensor, reaches no trained leaf but its
    owners', and nothing wants gradients apart or sends them to other ranks."""
    scalars = [value for value in losses.values() if isinstance(value, Tensor) and not value.dim()]
    if len(graphs.reached) < len(losses) or len(scalars) < len(losses):
        return False
    owners = {name: _owner(learners, name) for key in losses for name in owners_in(key)}
    if any(one.apart or one.averaged or one.is_sharded or one.stack is not None for one in owners.values()):
        return False
    trained = {id(leaf) for learner in owners.values() for leaf in learner.leaves}
    for key, reached in zip(losses, graphs.reached, strict=True):
        own = {id(leaf) for name in owners_in(key) for leaf in owners[name].leaves}
        if not own & reached or reached & trained - own:
            return False
    _run_backward(scalars, [leaf for learner in owners.values() for leaf in learner.leaves])
    pending.owners |= owners
    return True


def _last_of(owners: Owners, losses: Losses) -> tuple[str, ...]:
    """Those of the owners to whom no later loss is given."""
    final = {name: each for each in losses for name in owners_in(each)}
    return tuple(name for name in owners_in(owners) if final[name] == owners)


def _send_left_out(learners: Mapping[str, Learner], losses: Losses, pending: Pending) -> None:
    """The gradients of learners that earlier microbatches gave a loss and the last one none go to the other ranks."""
    final = {name for owners in losses for name in owners_in(owners)}
    for name in [name for name in pending.owners if name not in final]:
        if learners[name].is_sharded:
            raise InputError(
                f"The last microbatch gave {name!r} no loss, where an earlier one did: the gradients of a sharded "
                "learner leave with its last loss. Give it one in each (of weight 0), or place it 'ddp'."
            )
        if (mean := _mean_of(learners, (name,))) is not None:
            mean.arm()
            mean.send()
            pending.sent.append(mean)


def _mean_of(learners: Mapping[str, Learner], names: tuple[str, ...]) -> GradientMean | None:
    """What averages over the ranks the gradients of these learners, which share their last backward pass."""
    found = [learners[name] for name in names if learners[name].averaged and not learners[name].apart]
    if not found:
        return None
    parameters = [p for learner in found for p in learner.parameters]
    mean = found[0].means.get(names)
    if mean is None or mean.of.keys() != set(map(id, parameters)):  # another learner may have come under a name
        how = found[0].communication
        if any(learner.communication != how for learner in found):
            raise InputError(f"{', '.join(names)} own a loss together and differ in their communication.")
        if mean is not None:
            mean.release()
        mean = found[0].means[names] = GradientMean(parameters, communication(how))
    return mean


def _deal_out(gradients: Sequence[Tensor | None], owners: Owners, index: int, pending: Pending) -> None:
    """One loss's gradients to those of its owners that want them apart, each in memory of its own: a rule may write
    into it, and autograd gives one tensor to all parameters that are added."""
    seen: set[int] = set()
    found = (None if gradient is None else _unshared(gradient, seen) for gradient in gradients)
    for name in owners_in(owners):
        learner = pending.owners[name]
        if learner.apart:
            own: GradientSet = [next(found) for _ in learner.roots()]
            sets = pending.apart.setdefault(name, {})
            sets[owners, index] = total([sets[owners, index], own]) if (owners, index) in sets else own


def _unshared(gradient: Tensor, seen: set[int]) -> Tensor:
    """The gradient, or a copy where it is expanded or in memory that was seen before."""
    memory = id(gradient) if gradient.is_sparse else gradient.untyped_storage().data_ptr()
    shared = memory in seen or (not gradient.is_sparse and 0 in gradient.stride())
    seen.add(memory)
    return gradient.clone() if shared else gradient


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
    for name, learner in pending.owners.items():
        if not learner.reached:
            apart = [gradient for own in pending.apart.get(name, {}).values() for gradient in own]
            found = [*apart, *(p.grad for p in learner.parameters)]
            learner.reached = any(gradient is not None for gradient in found)
    stacks = stacks_of(pending.owners)
    for stack in stacks:
        if guard is not None or any(learner.rule is not None for learner in stack.learners):
            stack.spread()
    for name, learner in pending.owners.items():
        if learner.rule is not None:
            kept = pending.apart.get(name)
            sets = list(kept.values()) if kept else [[p.grad for p in learner.parameters]]
            if kept and learner.averaged:
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


def listed(value: Any) -> list[Any]:
    """The losses that stand under one key; what is none stays as it is, to be named by who finds out."""
    return list(value) if isinstance(value, list | tuple) else [value]


def owners_in(key: Owners) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


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
    for loss in listed(value):
        if not isinstance(loss, Tensor):
            kind = "None" if loss is None else f"a {type(loss).__name__}"
            raise InputError(f"{whose} is {kind}, not a tensor.") from error
        if loss.numel() != 1:
            shape = tuple(loss.shape)
            raise InputError(f"{whose} has shape {shape}, not a scalar: take its mean or its sum.") from error
        if not loss.requires_grad:
            raise InputError(f"{whose} depends on no parameter: was it detached?") from error
    raise error


def _shown(owners: Owners) -> str:
    return "+".join(owners_in(owners))


@cache
def label(owners: Owners) -> str:
    return f"loss {_shown(owners)}"
