"""The part of the conformance suite that needs several ranks: a run on two is the run on one, however it is placed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cotrain import engine
from cotrain.conformance import STEPS, CheckFailed, close, train
from cotrain.crew import Crew, CrewFailed
from cotrain.learner import Follower
from cotrain.method import Method

RANKS = 2


def check_replicas(method: type[Method], crew: Crew) -> None:
    """Two ranks with half of each batch and averaged gradients equal one rank with the whole."""
    _equal_to_one(method, crew, "two ranks with half of the rows each")


def check_shards(method: type[Method], crew: Crew) -> None:
    """The same with every learner sharded over the ranks, but for those whose rule wants losses apart."""
    _equal_to_one(method, crew, "two ranks with sharded learners", placement="fsdp")


def check_microbatches_on_ranks(method: type[Method], crew: Crew) -> None:
    """Two ranks with two microbatches each equal one rank with the whole batch."""
    if not method.example().method.whole_batch:
        _equal_to_one(method, crew, "two ranks with two microbatches each", microbatches=2)
        _equal_to_one(method, crew, "two ranks, sharded, with two microbatches each", placement="fsdp", microbatches=2)


def check_learners_on_ranks(method: type[Method], crew: Crew) -> None:
    """A method that says `spreads`, with its learners on different ranks, equals one process."""
    if method.spreads:
        _equal_to_one(method, crew, "learners on two ranks", groups=RANKS)


RANK_CHECKS: tuple[Callable[[type[Method], Crew], None], ...] = (
    check_replicas,
    check_shards,
    check_microbatches_on_ranks,
    check_learners_on_ranks,
)


def _equal_to_one(method: type[Method], crew: Crew, what: str, placement: str = "auto", **settings: Any) -> None:
    alone = train(method)
    try:
        together = crew.run(weights_on_rank, method, placement, settings)
    except CrewFailed as failure:
        raise CheckFailed(f"{what}: {failure}") from failure
    for rank, weights in enumerate(together):
        for name in alone:
            if not close({name: alone[name]}, {name: weights[name]}):
                apart = max(float((a - b).abs().max()) for a, b in zip(alone[name], weights[name], strict=True))
                raise CheckFailed(f"{what} differ from one process: {name!r} on rank {rank}, by {apart:.2g}")


def weights_on_rank(method: type[Method], placement: str, settings: dict[str, Any]) -> dict[str, list[Tensor]]:
    """What a rank has after a short run of the method's example; every rank the whole of it."""
    example = method.example()
    for learner in example.learners.values():
        if not isinstance(learner, Follower) and not learner.apart:  # whose rule cannot be with shards
            learner.placement = placement  # type: ignore[assignment]
    engine.fit(example.method, example.learners, example.streams, STEPS, device="cpu", **settings)
    return {name: _whole(learner.net.state_dict()) for name, learner in example.learners.items()}


def _whole(state: dict[str, Tensor]) -> list[Tensor]:
    from cotrain.shard import whole

    return [whole(tensor).detach().to("cpu", copy=True) for tensor in state.values()]
