"""A learner: a net, the optimizer that trains it, and the rule its gradients pass through."""

import copy
from collections.abc import Callable, Iterator
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
        self.schedule = schedule
        self.updates = 0  # how often the optimizer stepped; drives the schedule
        self.noise: tuple[int | str, ...] | None = (
            None  # address of this step's dropout and the like, set by the engine
        )
        self.calls = 0  # calls so far at that address
        self.optimizer: torch.optim.Optimizer | None = None
        self.parameters: list[nn.Parameter] = []  # what is trained, set by build()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.noise is not None:
            seed_torch(*self.noise, self.calls)
            self.calls += 1
        return self.net(*args, **kwargs)

    def build(self) -> "Learner":
        """Make the optimizer from the net's parameters as they are now; `fit` does it, in your own loop you do."""
        if self.factory is None:
            self.net.requires_grad_(False)
            return self
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        if not self.parameters:
            raise InputError("A learner with an optimizer has no parameter that requires a gradient.")
        self.optimizer = self.factory(self.parameters)
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        return self

    def step(self) -> None:
        """One step of the optimizer, at the learning rate that the schedule says."""
        assert self.optimizer is not None
        if self.schedule is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * self.schedule(self.updates)
        self.optimizer.step()
        self.updates += 1

    def state(self) -> dict[str, Any]:
        """Everything that training changes: weights, buffers, the optimizer's state and the number of updates."""
        optimizer = None if self.optimizer is None else self.optimizer.state_dict()
        return {"net": self.net.state_dict(), "optimizer": optimizer, "updates": self.updates}

    def load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]


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
        own, theirs = list(_floats(self.net)), list(_floats(leader.net))
        torch._foreach_lerp_(own, theirs, 1 - decay)
        for mine, its in zip(self.net.buffers(), leader.net.buffers(), strict=True):
            if not mine.is_floating_point():
                mine.copy_(its)
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


def _floats(net: nn.Module) -> Iterator[Tensor]:
    yield from net.parameters()
    yield from (b for b in net.buffers() if b.is_floating_point())
