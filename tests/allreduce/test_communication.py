"""Communication by name: hooks under DDP, and the outer level of hybrid sharding. Four ranks, two nodes of two."""

import copy
import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from cotrain.allreduce.communication import communication, hook, reduce_across_nodes
from cotrain.allreduce.hierarchical import Hierarchical
from cotrain.errors import InputError
from tests.ranks import run_ranks


def net():
    torch.manual_seed(0)
    hidden = [layer for _ in range(3) for layer in (nn.Linear(300, 300), nn.ReLU())]
    return nn.Sequential(nn.Linear(20, 300), nn.ReLU(), *hidden, nn.Linear(300, 5))


def data():
    generator = torch.Generator().manual_seed(dist.get_rank())
    return torch.randn(16, 20, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def train(model, parameters, steps=6):
    """The weights after some steps of SGD with momentum."""
    x, y = data()
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def under_ddp(name, **settings):
    model = DistributedDataParallel(net(), bucket_cap_mb=0.1)  # several buckets
    state, the_hook = communication(name, **settings)
    model.register_comm_hook(state, the_hook)
    train(model, model.parameters())
    if name == "hier":
        state.close()
    return model.module.state_dict()


def goes_on_during_the_reduction():
    """Rank 1 starts its backward when rank 0 is at the last bucket of its own."""
    state = Hierarchical()
    word = dist.new_group()
    backwards, buckets = 0, 0

    def watched(state, bucket):
        nonlocal buckets
        buckets += 1
        if dist.get_rank() == 0 and bucket.is_last() and backwards == 2:
            for other in (1, 2, 3):
                dist.send(torch.ones(1), other, group=word)
        return hook(state, bucket)

    model = DistributedDataParallel(net(), bucket_cap_mb=0.1)
    model.register_comm_hook(state, watched)
    x, y = data()
    for backwards in range(3):
        loss = nn.functional.cross_entropy(model(x), y)
        if backwards == 2 and dist.get_rank() != 0:
            dist.recv(torch.ones(1), 0, group=word)
        buckets = 0
        loss.backward()
    state.close()
    assert buckets > 2


def hybrid():
    """Sharded in the node and averaged across nodes by the tree, against torch's own hybrid sharding."""
    results = []
    with Hierarchical(inner="none") as state:
        mesh = DeviceMesh("cpu", state.nodes, mesh_dim_names=("node", "rank"))
        for ours in (True, False):
            model = net()
            for layer in (model[0], model[4], model):
                fully_shard(layer, mesh=mesh["rank"] if ours else mesh)
            if ours:
                reduce_across_nodes(model, state)
            train(model, model.parameters())
            results.append({name: value.full_tensor() for name, value in model.state_dict().items()})
        with pytest.raises(InputError, match="fully_shard"):
            reduce_across_nodes(net(), state)
    with Hierarchical() as state, pytest.raises(InputError, match="inner='none'"):
        reduce_across_nodes(model, state)
    return results


def all_of_them():
    os.environ["COTRAIN_NODE"] = "east" if dist.get_rank() % 2 else "west"
    plain = DistributedDataParallel(net(), bucket_cap_mb=0.1)
    train(plain, plain.parameters())
    expected = plain.module.state_dict()
    start = copy.deepcopy(net().state_dict())

    def moved(found):
        """How far the weights are from those of plain DDP, over how far those went."""
        off = sum(float((found[name] - expected[name]).norm() ** 2) for name in expected)
        return (off / sum(float((expected[name] - start[name]).norm() ** 2) for name in expected)) ** 0.5

    off = {
        "flat": moved(under_ddp("flat")),
        "bf16": moved(under_ddp("bf16")),
        "hier": moved(under_ddp("hier", chunk=1 << 16)),
        "hier, bf16 wire": moved(under_ddp("hier", wire="bf16", outer="ring")),
        "powersgd": moved(under_ddp("powersgd", matrix_approximation_rank=4, start_powerSGD_iter=2)),
    }
    goes_on_during_the_reduction()
    ours, torchs = hybrid()
    off["hybrid"] = moved(ours)
    off["hybrid, torch"] = moved(torchs)
    return off


@pytest.mark.slow
def test_every_name_trains_like_plain_ddp_and_overlaps_with_backward():
    for off in run_ranks(all_of_them, 4, timeout=180):
        assert off["flat"] < 1e-6
        assert off["hier"] < 1e-6
        assert off["hybrid"] < 1e-6
        assert off["hybrid, torch"] < 1e-6
        assert 1e-6 < off["bf16"] < 0.02
        assert 1e-6 < off["hier, bf16 wire"] < 0.02
        assert 1e-3 < off["powersgd"] < 0.5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("star", {}, "no communication 'star'; there are flat, bf16, powersgd, hier"),
        ("flat", {"rank": 2}, "takes no settings, and was given rank"),
        ("hier", {"rank": 2}, "'hier' does not take"),
        ("powersgd", {"chunk": 2}, "'powersgd' does not take"),
        ("hier", {"wire": "fp4"}, "fp4"),
    ],
)
def test_bad_input(name, settings, message):
    with pytest.raises(InputError, match=message):
        communication(name, **settings)
