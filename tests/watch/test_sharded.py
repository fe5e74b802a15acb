"""What watches a learner does so too where it is wrapped or sharded."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn, optim
from torch.distributed.fsdp import fully_shard

from cotrain.learner import Learner
from cotrain.watch.flops import count
from cotrain.watch.nonfinite import Guard, check_finite

pytestmark = pytest.mark.slow


def _whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def _watched(kind):
    """FLOPs of a step; then a NaN in this rank's part of one gradient and what a rollback makes of it."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
    if kind == "ddp":
        net = nn.parallel.DistributedDataParallel(net)
    else:
        for part in (net[0], net[2], net):
            fully_shard(part)
    one = Learner(net, partial(optim.AdamW, lr=0.1), placement="local").build()  # placed by hand, above
    with count({"one": one.net}) as counted:
        one(torch.randn(5, 6)).square().mean().backward()
    guard = Guard({"one": one}, {"one": "rollback"}, every=1)
    fine = guard.refused(["one"])
    one.step()
    guard.keep()
    good = [_whole(p) for p in one.parameters]
    one.step()  # somewhere else, to come back from
    moved = [_whole(p) for p in one.parameters]
    if dist.get_rank() == 1:
        gradient = one.parameters[0].grad
        (gradient.to_local() if kind == "fsdp" else gradient)[0, 0] = float("nan")
    bad = guard.refused(["one"])
    back = [_whole(p) for p in one.parameters]
    check_finite({"one": one}, 2)
    returned = all(map(torch.equal, good, back)) and not any(map(torch.equal, good, moved))
    return counted.learners["one"], fine, bad, returned, one.updates


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_flops_and_a_rollback_on_two_ranks(kind):
    # 5 rows: two products for the first layer (its input needs no gradient), three for the second
    flops = 2 * 5 * (2 * 6 * 8 + 3 * 8 * 4)
    assert run_ranks(_watched, 2, kind) == [(flops, set(), {"one"}, True, 1)] * 2
