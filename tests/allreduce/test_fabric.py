"""Bytes against the formulas, times by hand: all of it simulated."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.allreduce.fabric import Fabric, Message, Place, flat, two_level
from cotrain.errors import InputError


def cluster(nodes: int, local: int) -> list[list[int]]:
    return [list(range(node * local, (node + 1) * local)) for node in range(nodes)]


shapes = st.tuples(st.integers(2, 9), st.integers(1, 5))


@given(shapes, st.integers(1, 20))
def test_a_ring_in_good_order(shape, scale):
    nodes, local = shape
    world = nodes * local
    size = world * scale
    traffic = Fabric(cluster(nodes, local)).run(flat(range(world), size))
    for node in range(nodes):
        assert traffic.sent_by(node) * world == 2 * size * (world - 1)
    assert all(count * world == 2 * size * (world - 1) for count in traffic.rank_out.values())
    assert set(traffic.messages_between.values()) == {2 * (world - 1)}


@given(shapes, st.integers(1, 20))
def test_a_ring_in_bad_order_sends_local_size_times_as_much(shape, scale):
    nodes, local = shape
    world = nodes * local
    size = world * scale
    bad = [rank for place in range(local) for rank in range(place, world, local)]  # every next rank on another node
    traffic = Fabric(cluster(nodes, local)).run(flat(bad, size))
    for node in range(nodes):
        assert traffic.sent_by(node) * world == local * 2 * size * (world - 1)


@given(shapes, st.integers(1, 20), st.integers(1, 4))
def test_two_levels_with_a_ring(shape, scale, chunks):
    nodes, local = shape
    size = nodes * scale * chunks
    traffic = Fabric(cluster(nodes, local)).run(two_level(cluster(nodes, local), size, "ring", chunks))
    for node in range(nodes):
        assert traffic.sent_by(node) * nodes == 2 * size * (nodes - 1)


@given(shapes, st.integers(0, 300), st.integers(1, 4))
def test_two_levels_with_trees(shape, size, chunks):
    nodes, local = shape
    traffic = Fabric(cluster(nodes, local)).run(two_level(cluster(nodes, local), size, "tree", chunks))
    # The mean over nodes is 2 S (N - 1) / N; no node sends more than 2 S, but for halves that differ by a byte.
    assert sum(traffic.sent_by(node) for node in range(nodes)) == 2 * size * (nodes - 1)
    assert max(traffic.sent_by(node) for node in range(nodes)) <= 2 * size + chunks
    assert all(
        out == size for out in traffic.rank_out.values()
    )  # one copy out and one in, whatever the number of ranks
    assert all(into == size for into in traffic.rank_in.values())


@given(shapes, st.integers(1, 50))
def test_a_tree_over_ranks_sends_at_most_local_size_times_as_much(shape, half):
    nodes, local = shape
    world, size = nodes * local, 2 * half
    scattered = [[rank for rank in range(world) if rank % nodes == node] for node in range(nodes)]
    traffic = Fabric(scattered).run(flat(range(world), size, "tree"))
    between = sum(traffic.sent_by(node) for node in range(nodes))
    assert sum(traffic.rank_out.values()) == 2 * size * (world - 1)
    assert between <= 2 * size * (world - 1)
    good = Fabric(cluster(nodes, local)).run(flat(range(world), size, "tree"))
    assert sum(good.sent_by(node) for node in range(nodes)) <= 2 * size * (world - 1)


def test_times_of_two_nodes_of_two_by_hand():
    nodes = cluster(2, 2)
    slow = Fabric(nodes, latency=1.0)
    # Six steps, in which what a rank sends on has come over a slow link every second time: 1>2, 3>0, 1>2.
    assert slow.run(flat([0, 1, 2, 3], 8)).seconds == 3.0
    # Each half goes up once and down once.
    assert slow.run(two_level(nodes, 8)).seconds == 2.0
    assert slow.run(two_level(nodes, 8, "ring")).seconds == 2.0
    # 4 bytes a second. The ring's slow links carry 6 messages of 2 bytes each, 12 bytes; with two levels, 4 bytes go up
    # and 4 down each way, one half of the 8 in each tree.
    narrow = Fabric(nodes, bandwidth=4.0)
    assert narrow.run(flat([0, 1, 2, 3], 8)).seconds == 3.0
    assert narrow.run(two_level(nodes, 8)).seconds == 2.0


@given(st.integers(2, 40))
def test_latency_alone_is_twice_the_depth_of_the_tree(nodes):
    seconds = Fabric(cluster(nodes, 2), latency=1.0).run(two_level(cluster(nodes, 2), 1000)).seconds
    assert seconds <= 2 * ceil(log2(nodes)) + 2
    ring = two_level(cluster(nodes, 2), 1000, "ring")
    assert Fabric(cluster(nodes, 2), latency=1.0).run(ring).seconds == 2 * (nodes - 1)


def test_chunks_overlap_copies_and_network():
    nodes = cluster(4, 2)
    fabric = Fabric(nodes, bandwidth=100.0, local_bandwidth=100.0)
    whole, cut = (fabric.run(two_level(nodes, 1000, chunks=chunks)).seconds for chunks in (1, 20))
    assert cut < 0.7 * whole


def test_one_node_uses_no_slow_link():
    assert Fabric(cluster(1, 4), latency=1.0).run(two_level(cluster(1, 4), 100)).seconds == 0.0
    assert Fabric(cluster(1, 4)).run(flat(range(4), 100)).bytes_between == {}


def test_bad_input():
    with pytest.raises(InputError, match="Rank 7"):
        Fabric([[0, 1]]).run([Message(Place("rank", 0), Place("rank", 7), 1, ())])
    with pytest.raises(InputError, match="star"):
        flat([0, 1], 8, "star")
