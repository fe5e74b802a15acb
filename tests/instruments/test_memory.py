from functools import partial

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_ranks
from torch import nn, optim

from cotrain import engine, place
from cotrain.errors import InputError
from cotrain.instruments.memory import activation_bytes, shard_shape, sharded, state_bytes, whole
from cotrain.learner import Learner
from cotrain.units import auto_units


def test_a_copy_by_hand():
    # 15 numbers of 4 bytes; AdamW keeps two more of each and a count for each of the two parameters.
    each = whole("model", nn.Linear(4, 3), optim.AdamW, ranks=2)
    assert (each.parameters, each.gradients, each.optimizer) == (60, 60, 2 * 60 + 2 * 4)
    assert (each.held, each.passing, each.sent) == (60, 0, 60)
    assert each.state == 60 + 60 + 128
    alone = whole("model", nn.Linear(4, 3), optim.AdamW, ranks=1)
    assert (alone.held, alone.sent) == (0, 0)


def test_shards_by_hand():
    # Of 3 rows the first of two ranks has 2: 2 * 4 weights, 2 biases. A gather moves 4 rows: 80 bytes, half of them
    # from the other rank; the gradient goes the same way back.
    net = nn.Linear(4, 3)
    first, second = (sharded("model", net, optim.SGD, [], group=2, rank=rank) for rank in (0, 1))
    assert (first.parameters, first.gradients, first.optimizer) == (40, 40, 0)
    assert (second.parameters, second.gradients, second.optimizer) == (20, 20, 0)
    assert (first.held, first.passing, first.sent) == (80, 80, 40 + 40)
    # Two copies more: the shard of 40 bytes is reduced over two ranks.
    assert sharded("model", net, optim.SGD, [], group=2, copies=2).sent == 80 + 2 * 40 // 2


def test_units_by_hand():
    # Units of 80 and 40 bytes, nothing left to the net. Each is gathered twice and its gradient is sent once.
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    each = sharded("model", net, optim.SGD, auto_units(net), group=2)
    assert (each.held, each.passing, each.sent) == (0, 3 * 80, 3 * 120 // 2)
    frozen = sharded("teacher", net, None, auto_units(net), group=2)
    assert (frozen.gradients, frozen.optimizer, frozen.passing, frozen.sent) == (0, 0, 2 * 80, 120 // 2)


def test_buffers_are_never_sharded_and_frozen_parts_have_no_gradient():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    net[0].weight.requires_grad_(False)
    buffers = 4 * 4 + 4 * 4 + 8
    assert whole("model", net, optim.SGD, ranks=1).parameters == 4 * (16 + 4 + 8) + buffers
    each = sharded("model", net, partial(optim.SGD, momentum=0.9, lr=1), [], group=4, rank=3)
    assert (each.parameters, each.gradients, each.optimizer) == (4 * (4 + 1 + 2) + buffers, 4 * 3, 4 * 3)


@given(st.integers(1, 40), st.integers(1, 9))
def test_shards_make_up_the_whole(rows, ranks):
    shards = [shard_shape((rows, 3), ranks, rank) for rank in range(ranks)]
    assert sum(shard[0] for shard in shards) == rows
    assert [len(part) for part in torch.zeros(rows).chunk(ranks)] == [shard[0] for shard in shards if shard[0]]
    assert sorted(shards, reverse=True) == shards


def test_an_optimizer_that_needs_storage_and_one_that_fails():
    assert whole("model", nn.Linear(4, 3), partial(optim.AdamW, fused=True), ranks=1).optimizer == 128

    class Broken(optim.SGD):
        def step(self, closure=None):
            raise RuntimeError("no closure")

    with pytest.raises(InputError, match=r"optimizer of 'model' took no step on zeros.*no closure"):
        whole("model", nn.Linear(4, 3), Broken, ranks=1)


def test_activations_by_hand():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    learners = {"model": Learner(net)}
    x = torch.randn(5, 4)
    # The batch for the first weight, tanh's result once though two operations keep it, nothing for the last output.
    assert activation_bytes(lambda: net(x), learners) == 4 * (5 * 4 + 5 * 8)
    assert activation_bytes(lambda: net(x).square().sum(), learners) == 4 * (5 * 4 + 5 * 8 + 5 * 2)
    with torch.no_grad():
        assert activation_bytes(lambda: net(x), learners) == 0


OPTIMIZERS = {
    "adamw": partial(optim.AdamW, lr=1e-3),
    "momentum": partial(optim.SGD, lr=1e-3, momentum=0.9),
    "adagrad": partial(optim.Adagrad, lr=1e-3),
}


def deep() -> nn.Module:
    """Rows that no number of ranks divides, one row, a buffer, a frozen weight."""
    layers = [nn.Sequential(nn.Linear(13, 13), nn.Tanh()) for _ in range(12)]
    net = nn.Sequential(nn.Linear(7, 13), nn.BatchNorm1d(13), *layers, nn.Linear(13, 1))
    net[2][0].weight.requires_grad_(False)
    return net


def measured(placement: str) -> list[tuple[dict[str, int], tuple[int, int, int]]]:
    """After one step: what the learner takes, and what was planned for this rank before."""
    ranks, rank, found = dist.get_world_size(), dist.get_rank(), []
    group = 2 if placement == "hsdp" else ranks
    for factory in OPTIMIZERS.values():
        net = deep()
        planned = (
            whole("model", net, factory, ranks)
            if placement == "ddp"
            else sharded("model", net, factory, auto_units(net), group, ranks // group, rank % group)
        )
        learner = Learner(net, factory, placement=placement, shards=2, units="auto")
        with place.standing(place.grid(torch.device("cpu"))):
            engine.prepare({"model": learner})
            engine.update({"model": learner}, {"model": learner(torch.randn(4, 7)).square().mean()})
        learner(torch.randn(4, 7))  # leaves units gathered, which is not what the learner takes
        found.append((state_bytes(learner), (planned.parameters, planned.gradients, planned.optimizer)))
    return found


def three_ranks() -> list:
    return measured("ddp") + measured("fsdp")


@pytest.mark.slow
def test_the_plan_is_what_each_rank_takes():
    for rank in run_ranks(three_ranks, 3, timeout=120):
        for taken, planned in rank:
            assert tuple(taken.values()) == planned


@pytest.mark.slow
def test_the_plan_is_what_each_rank_takes_in_two_groups():
    for rank in run_ranks(measured, 4, "hsdp", timeout=120):
        for taken, planned in rank:
            assert tuple(taken.values()) == planned
