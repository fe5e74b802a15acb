"""A learner: a net, the optimizer that trains it, and the rule its gradients pass through."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cotrain import place
from cotrain.errors import InputError
from cotrain.gradients.rule import GradientRule
from cotrain.randomness import seed_torch
from cotrain.units import units_of

Placement = Literal["auto", "ddp", "fsdp", "hsdp", "local"]
PLACEMENTS = ("auto", "ddp", "fsdp", "hsdp", "local")


class Learner:
    """One role in a run. Calling it calls the net.

    Args:
        net: any `nn.Module`.
        optimizer: makes the optimizer from the list of trained parameters, as `partial(AdamW, lr=3e-4)` does; None
            freezes the learner. A factory, because moving or sharding a net replaces its parameters.
        rule: what happens to the gradients before the optimizer sees them (`cotrain.gradients`).
        schedule: factor of the learning rate as a function of the learner's own number of updates so far, >= 0.
        placement: where it lives when a run has several ranks, which share the rows of each batch; on one process it is
            just there. "ddp": whole on every rank, gradients averaged. "fsdp": every rank keeps a part of each
            parameter. "hsdp": the same within groups of `shards` ranks, which are replicas of each other. "local":
            whole on every rank and never averaged, each rank's own. "auto" is "ddp".
        shards: ranks in a group of "hsdp"; the ranks of a machine if not given.
        units: names of the net's modules that "fsdp" and "hsdp" gather and free as one, inner ones first; "auto"
            chooses blocks (`cotrain.units`). The net as a whole if empty.
        nonfinite: what follows a gradient with NaN or infinity. "stop": the run ends, at the next row of its log;
            nothing is looked at before. "skip": this learner does not step. "rollback": it goes back to a copy of
            itself that is at most 100 steps old. The last two wait for the device at each step
            (`cotrain.watch.nonfinite`).
        communication: of "ddp", how gradients go between ranks: "flat", "bf16", "powersgd" or "hier"
            (`cotrain.allreduce.communication`), or a function of your own, bucket -> future of the flat mean. What
            such a function remembers is in no checkpoint: a resumed run begins "powersgd" anew, with its first 1,000
            steps of whole gradients, and ends near the unbroken run and not where it ends.

    Raises:
        InputError: the optimizer is not a factory, or a rule or schedule is given without one; an unknown placement.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
        rule: GradientRule | None = None,
        schedule: Callable[[int], float] | None = None,
        placement: Placement = "auto",
        shards: int | None = None,
        units: Sequence[str] | Literal["auto"] = (),
        nonfinite: Literal["stop", "skip", "rollback"] = "stop",
        communication: str | Callable[[Any], Any] = "flat",
    ):
        if placement not in PLACEMENTS:
            raise InputError(f"A learner's placement is one of {', '.join(PLACEMENTS)}, not {placement!r}.")
        if isinstance(optimizer, torch.optim.Optimizer):
            raise InputError(
                "The optimizer of a Learner is a factory, not an optimizer that was built already: "
                f"write optimizer=partial({type(optimizer).__name__}, lr=...)."
            )
        if optimizer is None and (rule is not None or schedule is not None):
            raise InputError("A learner without an optimizer is frozen; its rule or schedule would never act.")
        self.net = net
        self.factory = optimizer
        self.rule = rule
        self.apart = rule is not None and rule.per_loss  # the rule wants the losses' gradients apart
        self.schedule = schedule
        self.placement = placement
        self.shards = shards
        self.units = units
        self.nonfinite = nonfinite
        self.communication = communication
        self.updates = 0  # how often the optimizer stepped; drives the schedule
        self.reached: bool | None = None  # whether any loss ever reached its parameters; None before the first
        self.optimizer: torch.optim.Optimizer | None = None
        self.groups: dict[str, Any] = {}  # the settings of the optimizer's groups of parameters, as it was built
        self.parameters: list[nn.Parameter] = []  # what is trained, set by build()
        self.leaves: list[nn.Parameter] = []  # where autograd ends: the same, but for sharded nets
        self.size = 0.0  # bytes of what is trained; infinite on a GPU, where no graph is too small to be looked at
        self.placed = False  # over the ranks, once
        self.home: tuple[int, int, int] | None = None  # ranks of its group, groups, which: of the first run on several
        self.averaged = False  # whether the engine averages its gradients over ranks
        self.means: dict[Any, Any] = {}  # by the owners that share a backward pass: their cotrain.average.GradientMean
        self.stack: Any = None  # the `cotrain.stack.Stack` that it is run in, if it is, and its place there
        self.seat = 0
        self.compiled: Callable[..., Any] | None = None  # the net as torch compiles it, in a run that asks for it
        self.noise: int | None = None  # address of the next call's dropout and the like, set at each step by `fit`

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.alone(*args, **kwargs) if self.stack is None else self.stack.call(self, args, kwargs)

    def alone(self, *args: Any, **kwargs: Any) -> Any:
        """Call the net, whether the learner is run in a stack or not."""
        if self.noise is not None:
            seed_torch(self.noise)
            self.noise += 1
        return (self.net if self.compiled is None else self.compiled)(*args, **kwargs)

    def build(self) -> "Learner":
        """Make the optimizer from the net's parameters as they are now; `fit` does it, in your own loop you do.

        A net that comes in evaluation mode, as pretrained ones do, goes into training mode; a frozen one the other way.
        With several ranks the net is first placed as `placement` says, every rank starting from rank 0's weights.

        Raises:
            InputError: nothing is there to be trained, or the optimizer's step asks for a closure, as LBFGS's does.
        """
        self.spread()
        if self.factory is None:
            self.net.requires_grad_(False).eval()
            return self
        if not self.leaves:
            self.leaves = [p for p in self.net.parameters() if p.requires_grad]
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError("has an optimizer and no parameter that requires a gradient.")
        on_host = self.parameters[0].device.type == "cpu"
        self.size = sum(p.numel() * p.element_size() for p in self.parameters) if on_host else math.inf
        if not self.net.training:
            self.net.train()
        optimizer = fused(self.factory(self.parameters))
        closure = signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is Parameter.empty:
            raise InputError(
                f"has {type(optimizer).__name__}, whose step asks for a closure that takes the loss again; a learner's "
                "optimizer steps by the gradients alone."
            )
        for group in optimizer.param_groups:
            # Of numpy's numbers, which no checkpoint holds, Python's.
            group.update({name: value.item() for name, value in group.items() if isinstance(value, np.generic)})
            group.setdefault("initial_lr", group["lr"])
        self.optimizer = optimizer
        self.groups = _groups_of(optimizer)
        return self

    def go_on(self) -> None:
        """To be trained again with the optimizer that it has.

        Raises:
            InputError: what is trained in the net is no longer what the optimizer was made for.
        """
        self.spread()
        trained = [p for p in self.net.parameters() if p.requires_grad]
        if list(map(id, trained)) != list(map(id, self.parameters)):
            raise InputError(
                "has parameters that were frozen, thawed or replaced since its optimizer was made; make a new Learner "
                "of its net."
            )
        if not self.net.training:
            self.net.train()

    @property
    def is_sharded(self) -> bool:
        return self.placement in ("fsdp", "hsdp") and place.ranks() > 1

    def hold(self, held: bool) -> None:
        """Keep a sharded net's gradients on this rank, or let the backward passes to come send them."""
        if self.is_sharded:
            self.net.set_requires_gradient_sync(not held)  # type: ignore[operator]

    def free(self) -> None:
        """Let go of the gathered parameters of a sharded net."""
        from cotrain import shard

        shard.free(self.net)

    @property
    def leaves_are_gathered(self) -> bool:
        """Whether the net was sharded before the optimizer was made."""
        return any(leaf is not parameter for leaf, parameter in zip(self.leaves, self.parameters, strict=True))

    def spread(self) -> None:
        """Place the net over the ranks; on one process there is nothing to do."""
        if place.ranks() == 1 or self.placed:
            return
        self.placed = True
        if self.placement != "local":
            if any(hasattr(parameter, "placements") for parameter in self.net.parameters()):
                raise InputError(
                    "is sharded already: give the net as it was made, or say placement='local' of one that you place "
                    "and train in a loop of your own."
                )
            place.copy_from([*self.net.parameters(), *self.net.buffers()], group=place.here().along("data"))
            if self.factory is not None:
                _check_dense(self.net)
        self.averaged = self.placement in ("auto", "ddp") and self.factory is not None
        if not self.is_sharded:
            return
        from cotrain import shard

        if self.apart:
            raise InputError(
                f"has a rule that wants losses apart, which needs placement 'ddp', not {self.placement!r}."
            )
        device = next(self.net.parameters()).device.type
        hybrid = (self.shards or place.ranks_on_this_machine()) if self.placement == "hsdp" else None
        shard.shard(self.net, device, hybrid, units_of(self.net, self.units))
        if self.factory is not None:
            wanted = [p.requires_grad for p in self.net.parameters()]
            self.leaves = [leaf for leaf, trained in zip(shard.leaves(self.net), wanted, strict=True) if trained]

    def roots(self) -> list[Tensor]:
        """Where the gradients of the learner's losses are to arrive: its leaves, and its outputs in a stack."""
        return [*self.leaves] if self.stack is None else [*self.leaves, *self.stack.leaves(self)]

    def step(self) -> None:
        """One step of the optimizer, at the learning rate that the schedule says."""
        assert self.optimizer is not None
        self.set_rate()
        self.optimizer.step()
        self.updates += 1

    def set_rate(self) -> None:
        """The learning rate that the schedule says for the next step."""
        if self.schedule is not None and self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * float(self.schedule(self.updates))

    def state(self) -> dict[str, Any]:
        """Everything that training changes: weights, buffers, the optimizer's state and the number of updates; and the
        hyperparameters that the optimizer was made with."""
        optimizer = None
        if self.optimizer is not None:
            optimizer = {
                "state": self.optimizer.state_dict(),
                "made_with": self._made_with(),
                "groups": self.groups,
                "scheduled": self.schedule is not None,
            }
        state = {"net": self.net.state_dict(), "optimizer": optimizer, "updates": self.updates}
        return state | {"buffers": self._left_out()}

    def _left_out(self) -> dict[str, Tensor]:
        """The buffers that the net's `state_dict` has not (persistent=False); a method or net may train by them."""
        there = self.net.state_dict()
        return {name: buffer for name, buffer in self.net.named_buffers() if name not in there}

    def load(self, state: dict[str, Any]) -> None:
        """Go to where another learner of the same net and optimizer stood. The learning rate that a schedule had left
        there goes back to what the optimizer was made with if this learner has none; one set by hand stays.

        Raises:
            InputError: the net or the optimizer differs from the saved one.
        """
        saved = state["optimizer"]
        if (saved is None) != (self.optimizer is None):
            raise InputError("One has an optimizer, the other is frozen.")
        if saved is not None:
            # Loading would put the saved learning rate in the place of a changed one without a word.
            was, now = saved["made_with"], self._made_with()
            if "groups" in saved:  # older checkpoints have none
                was, now = was | saved["groups"], now | self.groups
            if was != now:
                changed = [f"{k}={was.get(k)}, now {now.get(k)}" for k in {**was, **now} if was.get(k) != now.get(k)]
                raise InputError(f"Its optimizer was made with {'; '.join(changed)}.")
        net = state["net"]
        # A copy: torch would go on to use the saved tensors, which may be another learner's.
        moments: dict[str, Any] = {} if saved is None else copy.deepcopy(saved["state"])
        if self.is_sharded:
            from cotrain.shard import like

            now = self.net.state_dict()
            net = {name: like(value, now[name]) if name in now else value for name, value in net.items()}
            for number, values in moments.get("state", {}).items():
                moments["state"][number] = {k: like(v, self.parameters[number]) for k, v in values.items()}
        try:
            self.net.load_state_dict(net)
            own = self._left_out()
            for name, value in state.get("buffers", {}).items():  # older checkpoints have none
                if name in own and own[name].shape == value.shape:  # a cache of another size is left as it is
                    own[name].detach().copy_(value)
            if self.optimizer is not None:
                self.optimizer.load_state_dict(moments)
                if saved.get("scheduled") and self.schedule is None:
                    for group in self.optimizer.param_groups:
                        group["lr"] = group["initial_lr"]
        except (RuntimeError, ValueError) as error:  # what torch raises for other names, shapes or groups
            raise InputError(str(error)) from error
        self.updates = state["updates"]
        if self.stack is not None:
            self.stack.stale = True

    def _made_with(self) -> dict[str, Any]:
        return {"optimizer": type(self.optimizer).__name__, **_plain(self.optimizer.defaults)}  # type: ignore[union-attr]


def _check_dense(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.sparse and module.weight.requires_grad:
            raise InputError(
                f"has a layer with sparse gradients, {name or type(module).__name__!r}, which ranks do not average: "
                "make it with sparse=False, or say placement='local'."
            )


def _groups_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The settings of each group of parameters; those of the only one are the optimizer's."""
    groups = [_plain({name: group[name] for name in optimizer.defaults}) for group in optimizer.param_groups]
    if len(groups) == 1:
        return groups[0]
    return {f"{name} of group {number}": value for number, own in enumerate(groups) for name, value in own.items()}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that can be written down, and say what an optimizer does rather than how."""
    how = ("foreach", "fused", "capturable", "differentiable")
    return {k: v for k, v in settings.items() if k not in how and isinstance(v, bool | int | float | str | tuple)}


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let Adam and AdamW step in torch's fused kernels, where the factory did not choose between torch's ways.

    The same steps but for rounding, in a third of the time on a CPU. Subclasses, and what these kernels do not do
    (complex weights, a learning rate that is a tensor, other devices), stay as they are.
    """
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW):
        for group in optimizer.param_groups:
            left_open = group["fused"] is None and group["foreach"] is None
            special = group["capturable"] or group["differentiable"] or isinstance(group["lr"], Tensor)
            usual = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in group["params"])
            if left_open and usual and not special:
                group["fused"] = True
    return optimizer


class Follower(Learner):
    """A frozen copy of another learner that moves towards it after each of its updates; made by `follow`."""

    def __init__(self, leader: str, decay: float, warm: bool):
        if not 0 <= decay <= 1:
            raise InputError(f"decay is a share in 0..1, not {decay}.")
        super().__init__(nn.Identity())
        self.leader = leader
        self.decay = decay
        self.warm = warm
        self.of: nn.Module | None = None  # the leader's net that it started from

    @property
    def started(self) -> bool:
        return self.of is not None

    def start(self, leader: Learner) -> None:
        """Become a copy of the leader as it is now, once for each net that it follows; the engine does it before the
        leader is sharded, and then shards the copy alike."""
        if self.of is not leader.net:
            self.net = copy.deepcopy(leader.net).requires_grad_(False)
            self.updates = leader.updates
            self.placement, self.shards, self.units = leader.placement, leader.shards, leader.units
            self.of, self.placed = leader.net, False

    @torch.no_grad()
    def move(self, leader: Learner) -> None:
        """weights <- decay * weights + (1 - decay) * leader's; buffers likewise, whole numbers are copied."""
        decay = min(self.decay, 1 - 1 / (leader.updates + 1)) if self.warm else self.decay
        # Asked for each time, because a net may put a new buffer in the place of an old one.
        weights = _weights
        if self.is_sharded:
            from cotrain.shard import parts as weights
        pairs = list(zip(weights(self.net), weights(leader.net), strict=True))
        floats = [(own, its) for own, its in pairs if own.is_floating_point()]
        torch._foreach_lerp_([own for own, _ in floats], [its for _, its in floats], 1 - decay)
        for own, its in pairs:
            if not own.is_floating_point():
                own.copy_(its)
        self.updates = leader.updates


def follow(leader: str, decay: float = 0.999, warm: bool = True) -> Follower:
    """An exponential moving average of another learner's weights, as a learner of its own.

    Args:
        leader: the role of the learner that is followed.
        decay: share of the old average kept at each update, 0..1.
        warm: use min(decay, 1 - 1/(t+1)) at update t, so that the first weights are soon forgotten.

    Source: Tarvainen & Valpola 2017, arXiv:1703.01780, section 2.
    """
    return Follower(leader, decay, warm)


def _weights(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
