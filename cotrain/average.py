"""Replicas with averaged gradients: each rank has the whole learner and other rows of the batch, and gradients are
averaged in buckets while backward goes on.

What `DistributedDataParallel` does, for steps that it refuses: a learner with several losses, a loss that flows through
another learner, parameters that this step does not reach, nets called more than once or not through `forward`. The
nets stay bare, and whose gradients a backward pass averages is said by the engine, which knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cotrain import place

BUCKET = 25 * 2**20  # bytes sent in one piece; torch's own figure
Hook = Callable[["Bucket"], torch.futures.Future]


@dataclass
class Bucket:
    """Some parameters' gradients as one flat tensor, as torch's communication hooks know it (`GradBucket`).

    The flags are one number for each parameter: whether a gradient came. They lie behind the gradients in the flat
    tensor, but for a hook: it gets the gradients alone, as it may do other things with numbers than take their mean.
    """

    number: int
    last: bool
    members: list[nn.Parameter]
    flat: Tensor
    views: list[Tensor]
    flags: Tensor
    waiting: int = 0
    sent: Any = None  # a work or a future
    told: Any = None  # the same of the flags, where they go apart

    def index(self) -> int:
        return self.number

    def is_last(self) -> bool:
        return self.last

    def buffer(self) -> Tensor:
        return self.flat

    def set_buffer(self, flat: Tensor) -> None:
        self.flat.copy_(flat)

    def gradients(self) -> list[Tensor]:
        return self.views

    def parameters(self) -> list[nn.Parameter]:
        return self.members


class GradientMean:
    """Averages the gradients of some parameters over the ranks that share a batch's rows.

    `arm` before the last backward pass that reaches them in a step, `send` after it, `wait` before they are used.
    Buckets leave as soon as they are full and always in the same order, so that every rank sends the same in turn.

    Args:
        parameters: in the order in which backward reaches them last to first, as modules list them.
        hook: what is sent in place of an all-reduce and a division: bucket -> future of the averaged flat tensor.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], hook: Hook | None = None):
        self.hook = hook
        self.group = place.here().along("data")
        self.ranks = place.here().ranks
        self.buckets = _buckets(parameters, flags_behind=hook is None)
        self.of = {id(p): bucket for bucket in self.buckets for p in bucket.members}
        self.armed = False
        self.next = 0
        self._hooks = [parameter.register_post_accumulate_grad_hook(self._came) for parameter in parameters]

    def release(self) -> None:
        """Let the parameters go."""
        for hook in self._hooks:
            hook.remove()

    def arm(self) -> None:
        """Buckets leave during the backward pass to come. A gradient that came before it counts too."""
        self.armed, self.next = True, 0
        for bucket in self.buckets:
            bucket.waiting, bucket.sent = len(bucket.members), None

    def _came(self, parameter: Tensor) -> None:
        if not self.armed:
            return
        self.of[id(parameter)].waiting -= 1
        while self.next < len(self.buckets) and self.buckets[self.next].waiting <= 0:
            self._send(self.buckets[self.next])

    def send(self) -> None:
        """Whatever has not left yet: buckets with a parameter that this pass did not reach."""
        while self.next < len(self.buckets):
            self._send(self.buckets[self.next])
        self.armed = False

    def _send(self, bucket: Bucket) -> None:
        self.next += 1
        came = [parameter.grad is not None for parameter in bucket.members]
        if all(came):
            bucket.flags.fill_(1.0)
            torch._foreach_copy_(bucket.views, _gradients(bucket))
        else:
            bucket.flat.zero_()
            bucket.flags.zero_()
            for parameter, view, flag in zip(bucket.members, bucket.views, bucket.flags, strict=True):
                if parameter.grad is not None:
                    view.copy_(parameter.grad)
                    flag.fill_(1.0)
        if self.hook is not None:
            if self.ranks > 1:
                bucket.told = dist.all_reduce(bucket.flags, group=self.group, async_op=True)
            bucket.sent = self.hook(bucket)
        else:
            bucket.flat.div_(self.ranks)
            bucket.sent = dist.all_reduce(bucket.flat, group=self.group, async_op=True)

    def wait(self) -> None:
        """The averages are in `.grad`, on every rank the same; None where no rank had a gradient."""
        for bucket in self.buckets:
            found = bucket.sent.wait()
            if bucket.told is not None:
                bucket.told.wait()
            if isinstance(found, Tensor | list):
                flat = found if isinstance(found, Tensor) else found[0]
                if flat.data_ptr() != bucket.flat.data_ptr():
                    bucket.flat.copy_(flat)
            came = [parameter.grad is not None for parameter in bucket.members]
            if all(came):
                torch._foreach_copy_(_gradients(bucket), bucket.views)
                continue
            flags = bucket.flags.tolist()  # another rank may have reached what this one did not
            for parameter, view, flag in zip(bucket.members, bucket.views, flags, strict=True):
                if parameter.grad is not None:
                    parameter.grad.copy_(view)
                elif flag > 0:
                    parameter.grad = view.clone()


def _gradients(bucket: Bucket) -> list[Tensor]:
    return [parameter.grad for parameter in bucket.members if parameter.grad is not None]


def _buckets(parameters: Sequence[nn.Parameter], flags_behind: bool) -> list[Bucket]:
    """Of one dtype and device each, last parameter first: backward comes to the last layers first."""
    parts: list[list[nn.Parameter]] = []
    open_: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    room: dict[tuple[torch.dtype, torch.device], int] = {}
    for parameter in reversed(parameters):
        kind = parameter.dtype, parameter.device
        size = parameter.numel() * parameter.element_size()
        if kind not in open_ or room[kind] < size:
            open_[kind] = []
            parts.append(open_[kind])
            room[kind] = BUCKET
        open_[kind].append(parameter)
        room[kind] -= size
    found = []
    for number, members in enumerate(parts):
        sizes = [parameter.numel() for parameter in members]
        numbers = torch.zeros(sum(sizes) + len(members), dtype=members[0].dtype, device=members[0].device)
        gradients, flags = numbers.split([sum(sizes), len(members)])
        views = [piece.view_as(p) for piece, p in zip(gradients.split(sizes), members, strict=True)]
        flat = numbers if flags_behind else gradients
        found.append(Bucket(number, number == len(parts) - 1, members, flat, views, flags))
    return found


def communication(how: str | Hook) -> Hook | None:
    """What a learner's `communication` means to a `GradientMean`; one for each."""
    if how == "flat":
        return None
    if not isinstance(how, str):
        return how
    from cotrain.allreduce.communication import communication as named

    state, hook = named(how, place.here().along("data"))
    return partial(hook, state)


def average_set(gradients: Sequence[Tensor | None], parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    """One loss's gradients averaged over the ranks, in one piece; None where no rank had one."""
    came = torch.tensor(
        [float(gradient is not None) for gradient in gradients], device=parameters[0].device, dtype=parameters[0].dtype
    )
    dense = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    flat = place.average(torch.cat([came, *(gradient.flatten().to(came.dtype) for gradient in dense)]))
    flags, *pieces = flat.split([len(came), *(parameter.numel() for parameter in parameters)])
    return [
        piece.view_as(parameter).to(parameter.dtype) if flag > 0 else None
        for flag, piece, parameter in zip(flags.tolist(), pieces, parameters, strict=True)
    ]
