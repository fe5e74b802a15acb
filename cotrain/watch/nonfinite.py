"""What happens to a learner whose gradient is not finite: it stops the run, skips the step, or goes back.

`stop`, the default, costs nothing and is looked at now and then: `check_finite`. The other two look at every gradient
before the optimizer sees it, which waits for the device once a step::

    guard = Guard(learners, {"generator": "skip", "discriminator": "rollback"}, every=100)
    ...
    losses_backward()
    refused = guard.refused(learners)            # on every rank, at every step
    for name, learner in learners.items():
        if name not in refused:
            learner.step()
    guard.keep()
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotrain import place
from cotrain.errors import CotrainError, InputError

Policy = Literal["stop", "skip", "rollback"]


class Trained(Protocol):
    """The part of a learner that is looked at."""

    net: nn.Module
    parameters: list[nn.Parameter]

    def state(self) -> dict[str, Any]: ...

    def load(self, state: dict[str, Any]) -> None: ...


def finite(tensors: Iterable[Tensor | None]) -> Tensor:
    """Whether all numbers are finite: a bool of shape () on their device, which is not waited for.

    Of sharded tensors this rank's part is looked at. Nothing at all is finite.
    """
    kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in tensors:
        if tensor is None or not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if local.is_sparse:
            local = local.coalesce().values()
        if local.numel():
            kinds.setdefault((local.device, local.dtype), []).append(local.detach())
    found = [_below_infinity(same) for same in kinds.values()]
    if not found:
        return torch.tensor(True)
    return torch.stack([one.to(found[0].device) for one in found]).all()


def _below_infinity(tensors: list[Tensor]) -> Tensor:
    """Of tensors of one kind; NaN is not below infinity."""
    # A CPU has a fast 2-norm. It may overflow where every number is finite, so that only its yes is trusted.
    if tensors[0].device.type == "cpu" and (sure := torch.stack(torch._foreach_norm(tensors, 2)).amax() < torch.inf):
        return sure
    return torch.stack(torch._foreach_norm(tensors, torch.inf)).amax() < torch.inf


def check_finite(learners: Mapping[str, Trained], step: int) -> None:
    """The policy `stop`: all weights are finite, or the run ends. Waits for the device; for the moments when one does
    anyway, and before a checkpoint takes the place of a good one. All processes call it together.

    Raises:
        CotrainError: on every process, names every learner whose weights are not finite on any.
    """
    flags = [finite(learner.parameters) for learner in learners.values()]
    sound = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist() if flags else []
    told = place.everywhere([repr(name) for name, good in zip(learners, sound) if not good])
    if bad := list(dict.fromkeys(name for names in told for name in names)):
        raise CotrainError(
            f"The weights of {', '.join(bad)} are not finite at or shortly before step {step}: a gradient went wrong. "
            "Lower the learning rate, clip the gradient, or let the learner skip such steps."
        )


class Guard:
    """Keeps steps with a gradient that is not finite from the learners that say so.

    `skip`: the optimizer does not step this time; weights, buffers, the optimizer's state and the number of updates
    stay as they are. `rollback`: the learner goes back to the last copy of all these, taken every `every` steps on its
    own device, and goes on from there with the batches to come. A gradient that is bad on one rank is bad on all, so
    that all do the same.

    What a method keeps in its memory was made before the gradient was known and is the method's own care.

    Args:
        learners: all of the run, with optimizers built.
        policies: by learner; those not named are left alone, as those with `stop`, which `check_finite` is for.
        every: steps between copies for a rollback. If it divides the steps between checkpoints, a resumed run rolls
            back to where the unbroken one would.
        limit: so many refused steps of a learner one after another end the run; a rollback counts until a new copy
            was taken.
        group: ranks that agree; all of them if not given.

    Raises:
        InputError: a policy names no learner or no known policy, or a number is below 1.
        CotrainError: the weights of a learner that is to roll back are not finite from the start.
    """

    def __init__(
        self,
        learners: Mapping[str, Trained],
        policies: Mapping[str, Policy],
        every: int = 100,
        limit: int = 20,
        group: dist.ProcessGroup | None = None,
    ):
        for name, policy in policies.items():
            if policy not in get_args(Policy):
                raise InputError(f"The policy of {name!r} is one of {', '.join(get_args(Policy))}, not {policy!r}.")
            if name not in learners:
                raise InputError(f"A policy names {name!r}; the learners are {', '.join(map(repr, learners))}.")
        if every < 1 or limit < 1:
            raise InputError(f"every and limit are at least 1, not {every} and {limit}.")
        self.policies = {name: policy for name, policy in sorted(policies.items()) if policy != "stop"}
        self.every = every
        self.limit = limit
        self.counts = dict.fromkeys(self.policies, 0)  # refused steps in all
        self._group = group
        self._learners = {name: learners[name] for name in self.policies}
        self._in_a_row = dict.fromkeys(self.policies, 0)
        self._steps = 0
        self._refused: frozenset[str] = frozenset()
        self._copies: dict[str, dict[str, Any]] = {}
        self._buffers: dict[str, list[Tensor]] = {}
        self._copy(self.policies)
        if bad := [name for name, policy in self.policies.items() if policy == "rollback" and name not in self._copies]:
            raise CotrainError(f"The weights of {', '.join(map(repr, bad))} are not finite at the start.")

    def refused(self, owners: Iterable[str]) -> frozenset[str]:
        """The learners whose optimizers must not step now; those that roll back have done so.

        Args:
            owners: who got a gradient in this step.

        Raises:
            CotrainError: a learner was refused `limit` times in a row.
        """
        if not self.policies:
            return self._refused
        owners = set(owners)
        flags = [
            finite(p.grad for p in learner.parameters) if name in owners else torch.tensor(True)
            for name, learner in self._learners.items()
        ]
        good = dict(zip(self.policies, self._agreed(flags)))
        self._refused = frozenset(name for name, fine in good.items() if not fine)
        for name in self._refused:
            self._refuse(name)
        return self._refused

    def keep(self) -> None:
        """After the optimizers: remember what a later step may have to go back to."""
        self._steps += 1
        stepped = [name for name in self.policies if name not in self._refused]
        for name in stepped:
            if self.policies[name] == "skip":
                self._in_a_row[name] = 0
        self._copy(name for name in stepped if self.policies[name] == "skip" or self._steps % self.every == 0)

    def _refuse(self, name: str) -> None:
        self.counts[name] += 1
        self._in_a_row[name] += 1
        if self._in_a_row[name] >= self.limit:
            raise CotrainError(
                f"The gradient of {name!r} was not finite in {self.limit} steps "
                f"({self.policies[name]} does not help): lower its learning rate or clip its gradient."
            )
        learner = self._learners[name]
        if self.policies[name] == "rollback":
            learner.load(self._copies[name])
        else:
            with torch.no_grad():
                for buffer, kept in zip(learner.net.buffers(), self._buffers[name], strict=True):
                    buffer.copy_(kept)

    def _copy(self, names: Iterable[str]) -> None:
        for name in names:
            learner = self._learners[name]
            if self.policies[name] == "skip":
                # The forward has moved them (batch statistics) before its gradient turns out bad.
                self._buffers[name] = [buffer.clone() for buffer in learner.net.buffers()]
            elif self._agreed([finite([*learner.parameters, *learner.net.buffers()])])[0]:
                self._copies[name] = copy.deepcopy(learner.state())
                self._in_a_row[name] = 0

    def _agreed(self, flags: list[Tensor]) -> list[bool]:
        """The flags, true where they are on every rank. Waits for the device."""
        where = next((flag.device for flag in flags if flag.device.type != "cpu"), torch.device("cpu"))
        joint = torch.stack([flag.to(where) for flag in flags]).float()
        if place.joined():
            if "nccl" in dist.get_backend(self._group):
                joint = joint.to(torch.device("cuda", torch.cuda.current_device()))
            dist.all_reduce(joint, dist.ReduceOp.MIN, group=self._group)
        return [value > 0 for value in joint.tolist()]
