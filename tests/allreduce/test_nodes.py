"""Ranks by node, whatever their order."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.allreduce.nodes import group_by_node, node_name
from cotrain.errors import InputError


def test_ranks_need_not_be_neighbours():
    assert group_by_node(["b", "a", "b", "a"]) == [[0, 2], [1, 3]]


def test_a_local_size_cuts_a_node_and_its_groups_stay_neighbours():
    assert group_by_node(["a", "b", "a", "b", "a", "b", "a", "b"], 2) == [[0, 2], [4, 6], [1, 3], [5, 7]]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.randoms())
def test_every_rank_is_in_one_group_of_its_own_node(nodes, groups, local, random):
    names = [f"node{node}" for node in range(nodes) for _ in range(groups * local)]
    random.shuffle(names)
    found = group_by_node(names, local)
    assert sorted(rank for group in found for rank in group) == list(range(len(names)))
    assert all(len(group) == local and group == sorted(group) for group in found)
    assert all(len({names[rank] for rank in group}) == 1 for group in found)


def test_unequal_nodes_are_named():
    with pytest.raises(InputError, match="a has 3, b has 1"):
        group_by_node(["a", "a", "b", "a"])


@pytest.mark.parametrize("local_size", [3, 0, -1, 8])
def test_a_local_size_that_does_not_divide(local_size):
    with pytest.raises(InputError, match=f"local size of {local_size} does not divide"):
        group_by_node(["a"] * 4 + ["b"] * 4, local_size)


def test_the_name_is_the_variable_or_the_host(monkeypatch):
    monkeypatch.delenv("COTRAIN_NODE", raising=False)
    assert node_name() == socket.gethostname()
    monkeypatch.setenv("COTRAIN_NODE", "west")
    assert node_name() == "west"
