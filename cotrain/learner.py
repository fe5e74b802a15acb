"""A learner: a net, the optimizer that trains it, and the rule its gradients pass through."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cotrain.errors import InputError
from cotrain.gradients.rule import GradientRule
from cotrain.randomness import seed_torch


class Learner:
    """One role in a run. Calling it calls the net.

    Args:
        net: any `nn.Module`.
        optimizer: makes the optimizer from the list of trained parameters, as `partial(AdamW, lr=3e-4)` does; None
            freezes the learner. A factory, because moving or sharding a net replaces its parameters.
        rule: what happens to the gradients before the optimizer sees them (`cotrain.gradients`).
        schedule: factor of the learning rate as a function of the learner's own number of updates so far, >= 0.

    Raises:
        InputError: the optimizer is not a factory, or a rule or schedule is given without one.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
        rule: GradientRule | None = None,
        schedule: Callable[[int], float] | None = None,
    ):
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
        self.updates = 0  # how often the optimizer stepped; drives the schedule
        self.optimizer: torch.optim.Optimizer | None = None
        self.parameters: list[nn.Parameter] = []  # what is trained, set by build()
        self.stack: Any = None  # the `cotrain.stack.Stack` that it is run in, if it is, and its place there
        self.seat = 0
        self.noise: int | None = None  # address of the next call's dropout and the like, set at each step by `fit`

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.alone(*args, **kwargs) if self.stack is None else self.stack.call(self, args, kwargs)

    def alone(self, *args: Any, **kwargs: Any) -> Any:
        """Call the net, whether the learner is run in a stack or not."""
        if self.noise is not None:
            seed_torch(self.noise)
            self.noise += 1
        return self.net(*args, **kwargs)

    def build(self) -> "Learner":
        """Make the optimizer from the net's parameters as they are now; `fit` does it, in your own loop you do.

        A net that comes in evaluation mode, as pretrained ones do, goes into training mode; a frozen one the other way.
        """
        if self.factory is None:
            self.net.requires_grad_(False).eval()
            return self
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError("A learner with an optimizer has no parameter that requires a gradient.")
        if not self.net.training:
            self.net.train()
        self.optimizer = self.factory(self.parameters)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return self

    def roots(self) -> list[Tensor]:
        """Where the gradients of the learner's losses are to arrive: its parameters, and its outputs in a stack."""
        return [*self.parameters] if self.stack is None else [*self.parameters, *self.stack.leaves(self)]

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
                group["lr"] = group["initial_lr"] * self.schedule(self.updates)

    def state(self) -> dict[str, Any]:
        """Everything that training changes: weights, buffers, the optimizer's state and the number of updates; and the
        hyperparameters that the optimizer was made with."""
        optimizer = None
        if self.optimizer is not None:
            optimizer = {"state": self.optimizer.state_dict(), "made_with": self._made_with()}
        return {"net": self.net.state_dict(), "optimizer": optimizer, "updates": self.updates}

    def load(self, state: dict[str, Any]) -> None:
        """Go to where another learner of the same net and optimizer stood.

        Raises:
            InputError: the net or the optimizer differs from the saved one.
        """
        saved = state["optimizer"]
        if (saved is None) != (self.optimizer is None):
            raise InputError("One has an optimizer, the other is frozen.")
        if saved is not None:
            # Loading would put the saved learning rate in the place of a changed one without a word.
            was, now = saved["made_with"], self._made_with()
            if was != now:
                changed = [f"{k}={was.get(k)}, now {now.get(k)}" for k in {**was, **now} if was.get(k) != now.get(k)]
                raise InputError(f"Its optimizer was made with {'; '.join(changed)}.")
        try:
            self.net.load_state_dict(state["net"])
            if self.optimizer is not None:
                # A copy: torch would go on to use the saved tensors, which may be another learner's.
                self.optimizer.load_state_dict(copy.deepcopy(saved["state"]))
        except (RuntimeError, ValueError) as error:  # what torch raises for other names, shapes or groups
            raise InputError(str(error)) from error
        self.updates = state["updates"]
        if self.stack is not None:
            self.stack.stale = True

    def _made_with(self) -> dict[str, Any]:
        assert self.optimizer is not None
        plain = {k: v for k, v in self.optimizer.defaults.items() if isinstance(v, bool | int | float | str | tuple)}
        for speed in ("foreach", "fused", "capturable", "differentiable"):  # how, not what
            plain.pop(speed, None)
        return {"optimizer": type(self.optimizer).__name__, **plain}


class Follower(Learner):
    """A frozen copy of another learner that moves towards it after each of its updates; made by `follow`."""

    def __init__(self, leader: str, decay: float, warm: bool):
        if not 0 <= decay <= 1:
            raise InputError(f"decay is a share in 0..1, not {decay}.")
        super().__init__(nn.Identity())
        self.leader = leader
        self.decay = decay
        self.warm = warm
        self.started = False

    def start(self, leader: Learner) -> None:
        """Become a copy of the leader as it is now, once."""
        if not self.started:
            self.net = copy.deepcopy(leader.net).requires_grad_(False)
            self.updates = leader.updates
            self.started = True

    @torch.no_grad()
    def move(self, leader: Learner) -> None:
        """weights <- decay * weights + (1 - decay) * leader's; buffers likewise, whole numbers are copied."""
        decay = min(self.decay, 1 - 1 / (leader.updates + 1)) if self.warm else self.decay
        # Asked for each time, because a net may put a new buffer in the place of an old one.
        pairs = list(zip(_weights(self.net), _weights(leader.net), strict=True))
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
