"""Both trees span, share no inner rank and stay low."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotrain.allreduce.trees import Tree, double_binary_tree, segments
from cotrain.errors import InputError


def test_two_ranks_by_hand():
    first, second = double_binary_tree(2)
    assert first.parents == (1, None)
    assert second.parents == (None, 0)


def test_five_and_six_ranks_by_hand():
    # 1 and 3 under 2, 2 under 4, 5 under 4, counted from 1; the second tree is one place further on.
    first, second = double_binary_tree(5)
    assert first.parents == (1, 3, 1, None, 3)
    assert second.parents == (2, 0, None, 2, 0)
    # 5 under 6, 6 under 4; the second tree is the mirror image.
    first, second = double_binary_tree(6)
    assert first.parents == (1, 3, 1, None, 5, 3)
    assert second.parents == (2, 0, None, 4, 2, 4)


def test_one_rank_is_its_own_root():
    first, second = double_binary_tree(1)
    assert first.root == second.root == 0
    assert first.depth == second.depth == 0


@given(st.integers(1, 200))
def test_spanning_disjoint_inside_and_low(n):
    trees = double_binary_tree(n)
    for tree in trees:
        assert sum(parent is None for parent in tree.parents) == 1
        assert all((tree.path(rank) or [tree.root])[-1] == tree.root for rank in range(n))  # raises on a circle
        assert sorted(child for rank in range(n) for child in tree.children(rank)) == sorted(
            set(range(n)) - {tree.root}
        )
        assert all(len(tree.children(rank)) <= 2 for rank in range(n))
        assert tree.depth <= ceil(log2(n)) + 1
        assert tree.depth <= log2(n)  # what the construction gives is lower still
    assert not any(trees[0].children(rank) and trees[1].children(rank) for rank in range(n))


def test_a_circle_is_named():
    with pytest.raises(InputError, match="circle"):
        Tree((1, 0, None)).path(0)


@pytest.mark.parametrize("n", [0, -3])
def test_no_ranks(n):
    with pytest.raises(InputError, match="at least one"):
        double_binary_tree(n)


@given(st.integers(0, 10_000), st.integers(1, 64))
def test_segments_cover_in_order_and_evenly(size, parts):
    found = segments(size, parts)
    assert len(found) == parts
    assert [x for start, end in found for x in range(start, end)] == list(range(size))
    lengths = [end - start for start, end in found]
    assert max(lengths) - min(lengths) <= 1
