"""Learners of one architecture run as one: one forward, one backward and one optimizer step for N of them.

Nothing that a method or a user sees changes. `with stacked(learners):` (of `stacking`), or `fit(stack=...)`, makes the
nets' parameters views of one tensor each, [N, ...]. The first learner that a step calls on an input computes all N
outputs, and the others take theirs; `each` does the same for inputs of their own. Every learner gets its output cut
off the net's graph, so that each loss's gradient goes to its owners' outputs alone; what arrived there goes back
through the N nets at once. Outputs, gradients and optimizer states equal those of learners one by one but for the
order of sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, optim
from torch.utils._pytree import tree_flatten, tree_unflatten

from cotrain.learner import Learner
from cotrain.nets.stacked import Nets
from cotrain.randomness import seed_torch

# Optimizers that treat every entry of a parameter by itself: stepping N parameters as one is stepping each.
_ELEMENTWISE = (
    *(optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RAdam),
    *(optim.Adamax, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.Rprop),
)
_FUSED = (optim.SGD, optim.Adam, optim.AdamW, optim.Adagrad)  # where torch has one kernel for the step on a CPU
_COUNTS = ("step", "mu_product")  # entries of an optimizer's state that are one number a parameter
_WALK = 64  # nodes of a loss's graph that are looked at; more is a long way


@dataclass
class _Call:
    """One call of all members: who asked what, and what each gets."""

    question: tuple[Any, ...]
    asked: Any  # its arguments, kept so that nobody else gets their addresses
    wholes: list[Tensor]  # outputs [N, ...] with a graph
    leaves: list[list[Tensor]]  # member -> its parts of them, cut off the graph
    outputs: list[Any]  # member -> what its net returned
    generators: list[torch.Generator] | None
    before: list[Tensor]  # the buffers as they were, if the call may have changed them
    taken: set[int] = field(default_factory=set)


class Stack:
    """Some learners of one architecture, run as one until `release`.

    Raises:
        Unstackable: their nets do not run as one.
    """

    def __init__(self, members: Mapping[str, Learner], alone: Sequence[int] = ()):
        self.members = dict(members)
        self.learners = list(members.values())
        self.alone = set(alone)  # calls of a step that were not made by all members on one input
        self.nets = Nets([learner.net for learner in self.learners])
        self.trained = [p for p in self.nets.parameters if p.requires_grad]
        self.optimizer: optim.Optimizer | None = None
        self.stale = True  # the members' optimizers are to be taken in at the next step
        self._linked = False
        self._changes = bool(self.nets.buffers) and (self.nets.form == "vmap" or any(self.nets._modes))
        self._forget()
        for seat, learner in enumerate(self.learners):
            learner.stack, learner.seat = self, seat

    def _forget(self) -> None:
        self._calls: dict[int, _Call] = {}  # by their number in the step
        self._made = [0] * len(self.learners)  # calls of each member in this step
        self._strays: set[int] = set()  # members that did not call as foreseen; they run alone until the step ends

    # Forward

    def call(self, learner: Learner, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The member's output."""
        seat, number = learner.seat, self._made[learner.seat]
        if not self.nets.usual(seat):  # evaluation, between steps too, which is no call of the step
            self._stray(seat)
            return learner.alone(*args, **kwargs)
        question = _question(args, kwargs)
        call = self._calls.get(number)
        if call is None and number not in self.alone and self._foreseen(number, args, kwargs):
            noise = [_ahead(other, number - made) for other, made in zip(self.learners, self._made, strict=True)]
            call = self._calls[number] = self._run(args, kwargs, question, noise, shared=True)
        if call is None or seat in self._strays or call.question != question:
            self._stray(seat)
            self._made[seat] += 1
            return learner.alone(*args, **kwargs)
        return self._take(call, learner)

    def each(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Every member's output on its own input."""
        xs = [inputs[name] for name in self.members]
        number = self._made[0]
        alike = all(x.shape == xs[0].shape and x.dtype == xs[0].dtype for x in xs) and any(x is not xs[0] for x in xs)
        together = all(made == number for made in self._made) and number not in self._calls
        if not (alike and together and all(self._foreseen(number, (x,), {}) for x in xs)):
            return {name: learner(inputs[name]) for name, learner in self.members.items()}
        args = (torch.stack(xs),)
        noise = [learner.noise for learner in self.learners]
        call = self._calls[number] = self._run(args, {}, _question(args, {}), noise, shared=False)
        return {name: self._take(call, learner) for name, learner in self.members.items()}

    def _foreseen(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether all members can be computed now for their call of this number."""
        return (
            not self._strays
            and max(self._made) <= number
            and all(earlier in self._calls for earlier in range(min(self._made), number))
            and not (torch.is_grad_enabled() and _watched(args, kwargs))
            and (not self.nets.random or all(learner.noise is not None for learner in self.learners))
            and self.nets.takes(args, kwargs)
            and all(map(self.nets.usual, range(len(self.learners))))
        )

    def _run(self, args: Any, kwargs: Any, question: tuple[Any, ...], noise: list[int | None], shared: bool) -> _Call:
        before = [buffer.clone() for buffer in self.nets.buffers] if self._changes else []
        generators = None
        if self.nets.random:
            generators = [torch.Generator().manual_seed(address) for address in noise if address is not None]
        flat, form = tree_flatten(self.nets(args, kwargs, shared, generators))
        call = _Call(question, (args, kwargs), [], [[] for _ in self.learners], [], generators, before)
        columns: list[Sequence[Any]] = []
        for value in flat:
            if isinstance(value, Tensor) and value.requires_grad:
                parts = [part.requires_grad_() for part in value.detach().unbind(0)]
                call.wholes.append(value)
                for own, part in zip(call.leaves, parts, strict=True):
                    own.append(part)
                columns.append(parts)
            else:
                columns.append(value.unbind(0) if isinstance(value, Tensor) else [value] * len(self.learners))
        call.outputs = [tree_unflatten(list(own), form) for own in zip(*columns, strict=True)]
        return call

    def _take(self, call: _Call, learner: Learner) -> Any:
        call.taken.add(learner.seat)
        self._made[learner.seat] += 1
        if learner.noise is not None:  # as after a call of the learner alone
            seed_torch(learner.noise)
            if call.generators is not None:
                torch.default_generator.set_state(call.generators[learner.seat].get_state())
            learner.noise += 1
        return call.outputs[learner.seat]

    def _stray(self, seat: int) -> None:
        """The member goes its own way: what was computed ahead for it never happened."""
        ahead = [number for number, call in self._calls.items() if seat not in call.taken]
        if ahead and seat not in self._strays:
            self._strays.add(seat)
            self.alone.update(ahead)
            if self._changes:
                for buffer, before in zip(self.nets.buffers, self._calls[min(ahead)].before, strict=True):
                    # Through `data`: a graph that holds the buffers never reads them again, as they are of training.
                    buffer.data[seat].copy_(before[seat])

    # Backward

    def leaves(self, learner: Learner) -> list[Tensor]:
        """Where the gradients of a member's losses arrive in this step, besides its parameters."""
        return [leaf for call in self._calls.values() for leaf in call.leaves[learner.seat]]

    def backward(self) -> None:
        """Take what arrived at the members' outputs back through the nets; ends the step's calls."""
        if any(len(call.taken) < len(self.learners) for call in self._calls.values()):
            for seat in range(len(self.learners)):
                self._stray(seat)
        wholes = [whole for call in self._calls.values() for whole in call.wholes]
        grads = [[leaf.grad for leaf in self.leaves(learner)] for learner in self.learners]
        self._forget()
        for learner, own in zip(self.learners, grads, strict=True):
            if any(grad is not None for grad in own):
                learner.reached = True
        # Members whose losses reached other outputs have no gradient where these have a zero one.
        patterns: dict[tuple[bool, ...], list[int]] = {}
        for seat, own in enumerate(grads):
            patterns.setdefault(tuple(grad is not None for grad in own), []).append(seat)
        reached = {pattern: seats for pattern, seats in patterns.items() if any(pattern)}
        for left, (pattern, seats) in enumerate(reached.items(), 1 - len(reached)):
            at = [place for place, there in enumerate(pattern) if there]
            whole = [wholes[place] for place in at]
            given = [_gathered([own[place] for own in grads], seats) for place in at]
            if len(seats) == len(grads):
                torch.autograd.backward(whole, given, inputs=self.trained)
                return
            found = torch.autograd.grad(whole, self.trained, given, retain_graph=left < 0, allow_unused=True)
            for seat in seats:
                for parameter, gradient in zip(self.learners[seat].parameters, found, strict=True):
                    if gradient is not None:
                        own_part = gradient[seat]
                        parameter.grad = own_part if parameter.grad is None else parameter.grad + own_part

    def clear(self) -> None:
        """Forget all gradients; the members' own are the engine's to forget."""
        for parameter in self.trained:
            parameter.grad = None

    def spread(self) -> None:
        """Each member's gradients to its own parameters, where a rule or a check reads them."""
        for place, parameter in enumerate(self.trained):
            if parameter.grad is not None:
                for learner, part in zip(self.learners, parameter.grad.unbind(0), strict=True):
                    own = learner.parameters[place]
                    own.grad = part if own.grad is None else own.grad + part
                parameter.grad = None

    # The optimizers

    def step(self, owners: Sequence[Learner]) -> None:
        """Step the owners' optimizers, as one if that is the same."""
        if self.stale:
            self._adopt()
        apart = any(p.grad is not None for learner in self.learners for p in learner.parameters)
        if apart:
            self.spread()
        for learner in owners:
            learner.set_rate()
        joint = self.optimizer is not None and len(owners) == len(self.learners) and self._even()
        if joint and (not apart or self._collect()):
            assert self.optimizer is not None
            self.optimizer.step()
            if not self._linked:
                self._link()
            for learner in owners:
                learner.updates += 1
            return
        self.spread()
        self._part()
        for learner in owners:
            learner.step()

    def _even(self) -> bool:
        """Whether the members' optimizers have the same settings now; takes them over."""
        assert self.optimizer is not None
        first, *others = (learner.optimizer.param_groups for learner in self.learners)  # type: ignore[union-attr]
        for place, (group, joint) in enumerate(zip(first, self.optimizer.param_groups, strict=True)):
            settings = [(k, v) for k, v in group.items() if k not in ("params", "foreach", "fused")]
            if any(other[place][k] != v for other in others for k, v in settings):
                return False
            joint.update(settings)
        return True

    def _collect(self) -> bool:
        """The members' gradients as those of the stacked parameters; False where some lack what others have."""
        columns = list(zip(*([p.grad for p in learner.parameters] for learner in self.learners), strict=True))
        lacks = [[grad is None for grad in own] for own in columns]
        if any(any(own) and not all(own) for own in lacks):
            return False
        for parameter, own, lacking in zip(self.trained, columns, lacks, strict=True):
            if not lacking[0]:
                parameter.grad = torch.stack(own)
        return True

    def _adopt(self) -> None:
        """One optimizer for all, in the state in which the members' own are, if theirs allow it."""
        self._part()
        self.stale, self._linked = False, False
        optimizers = [learner.optimizer for learner in self.learners]
        first = optimizers[0]
        if first is None or any(type(one) is not type(first) for one in optimizers):
            return
        if type(first) not in _ELEMENTWISE or any(hooked(one) for one in optimizers):  # type: ignore[arg-type]
            return
        places = [_places(learner) for learner in self.learners]
        if any(own != places[0] for own in places[1:]):
            return
        groups = [
            {**group, "params": [self.trained[place] for place in own]}
            for group, own in zip(first.param_groups, places[0], strict=True)
        ]
        simple = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in self.trained)
        if type(first) in _FUSED and simple and all(g["foreach"] is g["fused"] is None for g in groups):
            groups = [{**group, "fused": True} for group in groups]
        states = [self._joined(place) for place in range(len(self.trained))]
        if any(state is None for state in states):
            return
        self.optimizer = type(first)(groups)  # type: ignore[call-arg]
        if not self._even():
            self.optimizer = None
            return
        for parameter, state in zip(self.trained, states, strict=True):
            if state:
                self.optimizer.state[parameter] = state
        self._link()

    def _joined(self, place: int) -> dict[str, Any] | None:
        """The members' optimizer states of one parameter as one; None where they differ in more than its entries."""
        states = [dict(lr.optimizer.state.get(lr.parameters[place], {})) for lr in self.learners]  # type: ignore[union-attr]
        if any(set(state) != set(states[0]) for state in states):
            return None
        joined: dict[str, Any] = {}
        for name, value in states[0].items():
            values = [state[name] for state in states]
            if isinstance(value, Tensor) and name not in _COUNTS:
                if not all(
                    isinstance(v, Tensor) and v.shape == self.learners[0].parameters[place].shape for v in values
                ):
                    return None
                joined[name] = torch.stack(values)
            elif any(v != value for v in values):
                return None
            else:
                joined[name] = value.clone() if isinstance(value, Tensor) else value
        return joined

    def _link(self) -> None:
        """The members' optimizer states become views of the one, so that they save what they would save alone."""
        assert self.optimizer is not None
        for place, parameter in enumerate(self.trained):
            if state := self.optimizer.state.get(parameter):
                self._linked = True
                for seat, learner in enumerate(self.learners):
                    own = {k: v[seat] if isinstance(v, Tensor) and k not in _COUNTS else v for k, v in state.items()}
                    learner.optimizer.state[learner.parameters[place]] = own  # type: ignore[union-attr]

    def _part(self) -> None:
        """From here on every member steps by itself."""
        if self.optimizer is not None:
            self.optimizer = None
            for learner in self.learners:
                _own_state(learner, only=_COUNTS)

    def release(self) -> None:
        """Make the members learners like any others again."""
        for learner in self.learners:
            learner.stack = None
            for parameter in learner.parameters:
                parameter.grad = None
            _own_state(learner)
        self.nets.release()


def each(learners: Mapping[str, Learner], inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """`learners[name](inputs[name])` for every name in `inputs`, at once for learners that run as one."""
    stacks = {id(s): s for name in inputs if (s := learners[name].stack) is not None}
    outputs: dict[str, Any] = {}
    for stack in stacks.values():
        if all(name in inputs and learners[name] is member for name, member in stack.members.items()):
            outputs |= stack.each(inputs)
    return {name: outputs[name] if name in outputs else learners[name](x) for name, x in inputs.items()}


def at_once(learners: Mapping[str, Learner], losses: Mapping[Any, Any]) -> tuple[list[str], Mapping[Any, Any]]:
    """One backward for the losses that reach nothing but what their owners computed in a stack: each one's gradient
    then arrives at its owner alone, whoever is beside it. Returns the owners and the losses that are left."""
    found: dict[str, tuple[Tensor, list[Tensor]]] = {}
    for owner, loss in losses.items():
        learner = learners.get(owner) if isinstance(owner, str) else None
        if learner is not None and learner.stack is not None and learner.optimizer is not None:
            tensors = _reached(loss, learner.stack.leaves(learner)) if isinstance(loss, Tensor) else None
            if tensors:
                found[owner] = loss, tensors
    if len(found) < 2:
        return [], losses
    left = {owner: loss for owner, loss in losses.items() if owner not in found}
    total = torch.stack([loss if loss.dim() == 0 else loss.reshape(()) for loss, _ in found.values()]).sum()
    total.backward(retain_graph=bool(left), inputs=[tensor for _, tensors in found.values() for tensor in tensors])
    return list(found), left


def _reached(loss: Tensor, own: Sequence[Tensor]) -> list[Tensor] | None:
    """The tensors among `own` that the loss's gradient reaches; None if it reaches others, or by a long way only."""
    if loss.grad_fn is None or loss.numel() != 1:
        return None
    ids = {id(tensor) for tensor in own}
    found: list[Tensor] = []
    seen = {loss.grad_fn}
    todo: list[Any] = [loss.grad_fn]
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is None or node in seen:
                continue
            seen.add(node)
            tensor = getattr(node, "variable", None)
            if tensor is None:
                todo.append(node)
            elif id(tensor) in ids:
                found.append(tensor)
            else:
                return None
        if len(seen) > _WALK:
            return None
    return found


def stacks_of(learners: Mapping[str, Learner]) -> list[Stack]:
    """The stacks that some of the learners are in."""
    found = [learner.stack for learner in learners.values() if learner.stack is not None]
    return list({id(stack): stack for stack in found}.values()) if found else found


def _question(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the answer to a call depends on besides the net: which tensors, in which state, and the modes of torch."""
    modes = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda"))
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
        return (id(args[0]), args[0]._version, modes)
    leaves, form = tree_flatten((args, dict(kwargs)))
    marks = [(id(leaf), leaf._version) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves]
    return (*marks, form, modes)


def _watched(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a gradient is asked for of an argument; a graph through the net itself has to be there for it."""
    if kwargs or not all(isinstance(a, Tensor) for a in args):
        args = tuple(tree_flatten((args, dict(kwargs)))[0])
    return any(isinstance(a, Tensor) and a.requires_grad for a in args)


def _ahead(learner: Learner, calls: int) -> int | None:
    """The address of the learner's noise some calls from now."""
    return None if learner.noise is None else learner.noise + calls


def _gathered(grads: Sequence[Tensor | None], seats: Sequence[int]) -> Tensor:
    """Gradients as one [N, ...], zero outside the seats."""
    some = grads[seats[0]]
    assert some is not None
    return torch.stack(
        [g if g is not None and seat in seats else torch.zeros_like(some) for seat, g in enumerate(grads)]
    )


def _places(learner: Learner) -> list[list[int]]:
    """Where each parameter of the optimizer's groups stands in the learner's list."""
    place = {id(parameter): number for number, parameter in enumerate(learner.parameters)}
    assert learner.optimizer is not None
    return [[place[id(parameter)] for parameter in group["params"]] for group in learner.optimizer.param_groups]


def _own_state(learner: Learner, only: Sequence[str] | None = None) -> None:
    """Give the entries of the learner's optimizer state memory of their own."""
    if learner.optimizer is not None:
        for state in learner.optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor) and (only is None or name in only):
                    state[name] = value.clone()


def hooked(optimizer: optim.Optimizer) -> bool:
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)
