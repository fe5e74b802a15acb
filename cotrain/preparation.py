"""Before the first step: nets on their devices and ranks, optimizers built, what cannot go well said by name."""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cotrain import __version__, place
from cotrain.errors import InputError
from cotrain.learner import Follower, Learner
from cotrain.method import Method
from cotrain.randomness import fold
from cotrain.run_state import plain
from cotrain.stacking import How
from cotrain.stream import Stream


def prepare(learners: Mapping[str, Learner], device: torch.device | str = "cpu", absent: Collection[str] = ()) -> None:
    """Move the nets to the device, make followers' copies, place the nets over the ranks, build the optimizers.

    Args:
        absent: learners that are trained on other ranks; only their nets are moved, to be judged.

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
    for learner in learners.values():
        if not isinstance(learner, Follower):
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
        if name not in absent:
            try:
                if isinstance(learner, Follower):
                    learner.spread()
                elif learner.optimizer is None:
                    learner.build()
                else:
                    learner.go_on()
            except InputError as error:
                raise InputError(f"Learner {name!r} {error}" if str(error)[0].islower() else str(error)) from error
    for learner in learners.values():
        if isinstance(learner, Follower):
            for own, its in zip(learner.net.modules(), learners[learner.leader].net.modules(), strict=True):
                own.training = its.training


def warn_of_parts(learners: Mapping[str, Learner], ranks: int, microbatches: int) -> None:
    """Say which nets see in the parts of a batch what they do not see in the whole: those with batch normalization."""

    def by_part(layer: nn.Module) -> bool:
        whole = isinstance(layer, nn.SyncBatchNorm) and microbatches == 1
        return isinstance(layer, _BatchNorm) and layer.training and not whole

    trained = {name: learner.net for name, learner in learners.items() if learner.factory is not None}
    found = [repr(name) for name, net in trained.items() if any(map(by_part, net.modules()))]
    if found and ranks * microbatches > 1 and place.first():
        warnings.warn(
            f"Batch normalization in {', '.join(found)} sees the rows of one of {ranks * microbatches} parts of the "
            "batch at a time (ranks, microbatches): the weights will not be those of the batch in one piece.",
            stacklevel=3,
        )


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


def deal_learners(method: Method, learners: Mapping[str, Learner], groups: int) -> dict[str, int]:
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


def keep_homes(learners: Mapping[str, Learner], homes: Mapping[str, int]) -> None:
    """Learners stay where the first run on several ranks put them: their optimizers' states are there and nowhere else.

    Raises:
        InputError: on every rank, for one that this run deals out in another way.
    """
    if place.processes() == 1:
        return
    here = place.here()
    found = {name: (here.ranks, here.groups, homes.get(name, 0)) for name in learners}
    for name, learner in learners.items():
        if learner.home not in (None, found[name]):
            raise InputError(
                f"Learner {name!r} was trained in group {learner.home[2]} of {learner.home[1]}, and would be in group "
                f"{found[name][2]} of {found[name][1]} now, where its optimizer is not. Deal the learners out as "
                "before, or put its weights into a new Learner."
            )
    for name, learner in learners.items():
        learner.home = found[name]


def description(method: Method, learners: Mapping[str, Learner], streams: Mapping[str, Stream]) -> dict[str, Any]:
    """What must be the same on every rank, or they would go different ways."""
    shapes = {
        f"the net of {name!r}": fold(*(f"{k} {tuple(v.shape)} {v.dtype}" for k, v in learner.net.named_parameters()))
        for name, learner in learners.items()
        if not isinstance(learner, Follower)
    }
    ways = {
        f"the way of {name!r}": {
            "frozen": learner.factory is None,
            "rule": type(learner.rule).__name__,
            "shards": learner.shards,
            "units": list(learner.units),
            "nonfinite": learner.nonfinite,
            "communication": str(getattr(learner.communication, "__name__", learner.communication)),
        }
        for name, learner in learners.items()
    }
    return {
        "cotrain's version": __version__,
        "torch's version": torch.__version__,
        "the method": f"{type(method).__name__} {plain(method)}",
        "the list of learners": list(learners),
        "the learners' placements": {name: learner.placement for name, learner in learners.items()},
        "the list of streams": list(streams),
        **shapes,
        **ways,
    }


def check_streams(streams: Mapping[str, Any], saved: bool) -> None:
    for name, stream in streams.items():
        kind = type(stream).__name__
        if not hasattr(stream, "__next__"):
            raise InputError(f"Stream {name!r} is a {kind}, which has no next batch; wrap it (cotrain.stream).")
        if saved and not (hasattr(stream, "state") and hasattr(stream, "load")):
            raise InputError(f"Stream {name!r}, a {kind}, cannot be saved: it has no state() and load(state).")


def check_judges(judges: Any) -> None:
    pairs = judges if isinstance(judges, list | tuple) else [judges]
    odd = [one for one in pairs if not (isinstance(one, list | tuple) and len(one) == 2 and callable(one[0]))]
    if odd:
        form = "[(accuracy(of='model'), Once(rows))]"
        raise InputError(f"judges takes pairs of a judge and the stream that it reads, as {form}, not {odd[0]!r:.60}.")


def check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is at least 1, not {value}.")


def check_together(
    method: Method,
    microbatches: int,
    mfu: bool,
    stack: How,
    start_from: Path | str | None,
    partial: Collection[str] | None,
) -> None:
    """Settings that cannot be, or not together."""
    if stack not in (False, True, "auto", "layers"):
        raise InputError(f"stack is True, False or 'auto', not {stack!r}.")
    if method.whole_batch and microbatches > 1:
        raise InputError(f"{type(method).__name__} needs the whole batch in one piece; microbatches must be 1.")
    if mfu and stack is True:
        raise InputError("mfu counts the operations of learners one by one; leave it or stack=True out.")
    if partial is not None and start_from is None:
        raise InputError("partial names learners that go on from another run: say its folder, start_from.")
