"""Two levels over real processes: four ranks as two nodes of two whose ranks are not neighbours."""

import os
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from cotrain.allreduce.communication import hook
from cotrain.allreduce.hierarchical import Hierarchical
from cotrain.allreduce.links import PeerLost
from cotrain.errors import InputError
from tests.ranks import run_ranks

WAYS = {
    "as it comes": {},
    "chunks that do not divide": {"chunk": 192, "slots": 2},
    "gloo inside": {"inner": "gloo", "chunk": 448},
    "ring across": {"outer": "ring", "chunk": 64 * 7},
    "every rank a node, ring": {"local_size": 1, "outer": "ring"},
    "every rank a node, trees": {"local_size": 1, "chunk": 1024},
    "late messages": {"simulated_latency": 0.002, "chunk": 1024},
    "bf16 on the wire": {"wire": "bf16", "chunk": 1024},
}
LENGTH = 1001


def on_two_nodes():
    os.environ["COTRAIN_NODE"] = "east" if dist.get_rank() % 2 else "west"


def refused(message, **settings):
    with pytest.raises(InputError, match=message):
        Hierarchical(**settings)


def integers(length, limit=1000):
    generator = torch.Generator().manual_seed(dist.get_rank())
    return torch.randint(-limit, limit, (length,), generator=generator).float()


def summed(values):
    values = values.clone()
    dist.all_reduce(values)
    return values


def equal_to_flat():
    on_two_nodes()
    rank = dist.get_rank()
    sent = {}
    for name, settings in WAYS.items():
        with Hierarchical(**settings) as state:
            limit = 32 if "bf16" in name else 1000  # sums of four are exact in bf16 as well
            jobs = [integers(length, limit) for length in (LENGTH, 1, 3, 260)]
            totals = [summed(job) for job in jobs]
            futures = [state.all_reduce(job) for job in jobs]  # several under way at once
            beside = summed(torch.ones(5))  # and the caller's own collectives between them
            assert all(torch.equal(future.wait(), total) for future, total in zip(futures, totals)), name
            assert all(torch.equal(job, total) for job, total in zip(jobs, totals)), name  # in place
            assert beside.tolist() == [4.0] * 5
            sent[name] = sum(links.sent_bytes for links in state.links)

            mean = state.all_reduce(totals[0].double() / 4, average=True).wait()
            assert mean.dtype == torch.float64
            if "bf16" not in name:
                torch.testing.assert_close(mean, totals[0].double() / 4, rtol=1e-15, atol=0)
            real = torch.randn(3, 7, 11, generator=torch.Generator().manual_seed(rank))
            flat, two = summed(real), state.all_reduce(real).wait()
            torch.testing.assert_close(
                two, flat, rtol=2**-6 if "bf16" in name else 1e-5, atol=0.05 if "bf16" in name else 1e-6
            )
            everywhere = [torch.empty_like(two) for _ in range(4)]
            dist.all_gather(everywhere, two)
            assert all(torch.equal(other, two) for other in everywhere), f"{name}: replicas drift apart"

            holes = torch.zeros(300)
            if rank == 3:
                holes[250] = float("nan")
            assert state.all_reduce(holes).wait().isnan().nonzero().tolist() == [[250]], name
            assert state.all_reduce(torch.empty(0)).wait().numel() == 0
            for wrong in (torch.ones(4, 4).t(), torch.ones(3, dtype=torch.int64)):
                with pytest.raises(InputError, match="contiguous floating-point"):
                    state.all_reduce(wrong)
            assert state.nodes == ([[0], [2], [1], [3]] if "every rank" in name else [[0, 2], [1, 3]])
        with pytest.raises(InputError, match="closed"):
            state.all_reduce(torch.ones(3))

    refused("local size of 3 does not divide", local_size=3)
    refused("one .*inner, outer", chunk=1024 * (1 + rank))
    refused("chunk=100", chunk=100)
    refused("inner='pcie'", inner="pcie")
    os.environ["COTRAIN_NODE"] = "west" if rank < 3 else "east"
    refused("west has 3, east has 1")
    on_two_nodes()
    if rank in (1, 2):  # a group of some ranks, on two nodes
        group = dist.new_group([1, 2], use_local_synchronization=True)
        with Hierarchical(group) as state:
            assert state.all_reduce(torch.full((5,), float(rank))).wait().tolist() == [3.0] * 5
    return sent


def test_equal_to_flat_whatever_the_way_and_bytes_as_counted():
    sent = run_ranks(equal_to_flat, 4, timeout=180)
    elements = LENGTH + 1 + 3 + 260
    for name in WAYS:
        total = sum(rank[name] for rank in sent)
        if name == "bf16 on the wire":
            assert total == 2 * 2 * elements
        elif name == "every rank a node, ring":  # 2 S (W - 1) / W each on the two links between nodes, in segments
            assert abs(total - 2 * 2 * 4 * elements * 3 / 4) <= 2 * 4 * 4 * 4
        elif name == "every rank a node, trees":
            assert total > 2 * 4 * elements
        elif name == "gloo inside":  # parts of equal size
            assert 2 * 4 * elements <= total <= 2 * 4 * (elements + len(WAYS))
        else:
            assert total == 2 * 4 * elements, name  # 2 S (N - 1), in all, for N = 2


def test_one_process_is_left_as_it_is():
    values = torch.tensor([1.0, float("nan"), 3.0])
    with Hierarchical() as state:
        result = state.all_reduce(values, average=True).wait()
    assert result is values
    assert values.nan_to_num(2).tolist() == [1.0, 2.0, 3.0]
    assert not dist.is_initialized()


def one_leaves(leaver):
    on_two_nodes()
    rank = dist.get_rank()
    state = Hierarchical(timeout=timedelta(seconds=4), chunk=256)
    model = nn.parallel.DistributedDataParallel(nn.Linear(40, 7))
    model.register_comm_hook(state, hook)
    for _ in range(3):  # torch's own collectives, which order the buckets, are over then
        model(torch.ones(3, 40)).sum().backward()
    if rank == leaver:
        dist.destroy_process_group()
        return None
    began = time.monotonic()
    said = []
    try:
        model(torch.ones(3, 40)).sum().backward()
    except RuntimeError as error:
        said.append(str(error))
    for _ in range(6):  # more than there are slots
        with pytest.raises(PeerLost) as failure:
            state.all_reduce(torch.ones(1000)).wait()
    said.append(str(failure.value))
    assert len(said) == 2
    assert time.monotonic() - began < 40  # no hang; a peer is waited for 4 s
    return said


@pytest.mark.slow
def test_the_death_of_a_peer_is_an_error_that_names_its_node():
    said = run_ranks(one_leaves, 4, 3, timeout=90)
    for errors in said[:3]:
        assert all("node 'east'" in error.lower() for error in errors), errors


def one_sleeps():
    on_two_nodes()
    rank = dist.get_rank()
    with Hierarchical(timeout=timedelta(seconds=2)) as state:
        state.all_reduce(torch.ones(10)).wait()
        if rank == 2:
            dist.barrier()
            return "asleep"
        with pytest.raises(PeerLost) as failure:
            state.all_reduce(torch.ones(10)).wait()
        dist.barrier()
        return str(failure.value)


@pytest.mark.slow
def test_a_silent_peer_is_an_error_that_names_its_node():
    said = run_ranks(one_sleeps, 4, timeout=90)
    assert "Node 'west': rank 2 did not come within 2 s" in said[0]
    assert "node 'west'" in said[3].lower()  # waits for rank 2 across nodes
    assert said[2] == "asleep"


def wrong_order():
    other = torch.ones(10 + 3 * dist.get_rank())
    with Hierarchical(timeout=timedelta(seconds=5)) as state, pytest.raises(InputError, match="same order"):
        state.all_reduce(other.clone()).wait()
    alone = Hierarchical(timeout=timedelta(seconds=2), local_size=1)
    with alone as state, pytest.raises(PeerLost, match="Lost node"):
        state.all_reduce(other.clone()).wait()


def test_tensors_in_another_order_are_an_error():
    run_ranks(wrong_order, 2)
