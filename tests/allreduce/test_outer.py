"""Trees and rings across nodes, each node a thread, messages through queues."""

import queue
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.allreduce.fabric import Fabric, flat
from cotrain.allreduce.links import Links
from cotrain.allreduce.outer import RingOuter, TreeOuter

NODES = 9


class Post(Links):
    """Links inside this process: each node is a rank of its own."""

    def __init__(self, boxes, rank):
        super().__init__(None, {rank: f"node{rank}" for rank in range(NODES)})
        self.boxes, self.rank, self.here = boxes, rank, f"node{rank}"

    def _start(self, tensor, to, tag):
        self.boxes.setdefault((self.rank, to, tag), queue.Queue()).put(tensor.clone())
        return Arrived()

    def receive(self, tensor, source, tag):
        return Arrived(self.boxes.setdefault((source, self.rank, tag), queue.Queue()), tensor)


class Arrived:
    def __init__(self, box=None, into=None):
        self.box, self.into = box, into

    def wait(self):
        if self.box is not None:
            message = self.box.get(timeout=10)
            assert message.dtype == self.into.dtype
            self.into.copy_(message)


def run(kind, values, divisor=1, wire="fp32", chunks=1):
    """Each node's result, and its links, after `values` [nodes, length] were reduced `chunks` times over."""
    count = len(values)
    up, down = {}, {}

    def node(rank):
        part = values[rank].clone()
        outer = kind(Post(up, rank), Post(down, rank), list(range(count)), rank, wire)
        for number in range(chunks):
            part.copy_(values[rank])
            for message in outer.reduce(number, part, divisor) + outer.spread(number, part):
                message.wait()
        return part, outer

    with ThreadPoolExecutor(count) as pool:
        parts, outers = zip(*pool.map(node, range(count)))
    return torch.stack(parts), outers


@pytest.mark.parametrize("kind", [TreeOuter, RingOuter])
@settings(max_examples=25)
@given(count=st.integers(1, NODES), length=st.integers(0, 40), seed=st.integers(0, 99))
def test_integers_sum_exactly_and_bytes_are_those_of_the_fabric(kind, count, length, seed):
    values = torch.randint(-99, 99, (count, length), generator=torch.Generator().manual_seed(seed)).float()
    parts, outers = run(kind, values, chunks=2)
    assert torch.equal(parts, values.sum(0).expand_as(values))
    plan = flat(range(count), 4 * length, "tree" if kind is TreeOuter else "ring")
    traffic = Fabric([[node] for node in range(count)]).run(plan)
    if length % (2 * count) == 0:  # the plan's halves and segments are then as many elements
        sent = [outer.up.sent_bytes + outer.down.sent_bytes for outer in outers]
        assert sent == [2 * traffic.sent_by(node) for node in range(count)]
        messages = sum(outer.up.sent_messages + outer.down.sent_messages for outer in outers)
        assert messages == 2 * sum(traffic.messages_between.values())
    sent = sum(outer.up.sent_bytes + outer.down.sent_bytes for outer in outers)
    assert sent == 2 * 2 * 4 * length * (count - 1)


@pytest.mark.parametrize("kind", [TreeOuter, RingOuter])
@settings(max_examples=15)
@given(count=st.integers(2, 7), seed=st.integers(0, 99))
def test_bf16_on_the_wire_is_near_and_the_same_on_all_nodes(kind, count, seed):
    values = torch.randn(count, 33, generator=torch.Generator().manual_seed(seed))
    parts, outers = run(kind, values, divisor=count, wire="bf16")
    assert all(torch.equal(part, parts[0]) for part in parts)
    # Each of at most `count` roundings is off by 2^-8 of what is rounded at most.
    assert ((parts[0] - values.mean(0)).abs() <= 2**-8 * count * values.abs().sum(0) / count).all()
    assert sum(outer.up.sent_bytes + outer.down.sent_bytes for outer in outers) == 2 * 2 * 33 * (count - 1)
    assert torch.equal(parts[0], parts[0].bfloat16().float())


@pytest.mark.parametrize("kind", [TreeOuter, RingOuter])
def test_the_mean_is_divided_once_and_fp64_stays(kind):
    values = torch.tensor([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]], dtype=torch.float64) / 3
    parts, _ = run(kind, values, divisor=3)
    assert parts.dtype == torch.float64
    torch.testing.assert_close(parts, (values.sum(0) / 3).expand_as(values), rtol=1e-15, atol=0)


@pytest.mark.parametrize("wire", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [TreeOuter, RingOuter])
def test_nan_and_infinity_go_through(kind, wire):
    values = torch.zeros(4, 8)
    values[2, 3], values[1, 5] = float("nan"), float("inf")
    parts, _ = run(kind, values, wire=wire)
    for part in parts:
        assert part.isnan().nonzero().tolist() == [[3]]
        assert part.isinf().nonzero().tolist() == [[5]]
