"""State trees: what ranks' trees make together, and which learners of a checkpoint a run takes over."""

import json

import numpy as np
import pytest
import torch

from cotrain.errors import CotrainError
from cotrain.tree import ELSEWHERE, PerRank, merge, put_together, take_apart, wanted


def merged(*states):
    tensors = {}
    return merge([take_apart(state, tensors, rank) for rank, state in enumerate(states)]), tensors


def test_dicts_are_united_and_own_values_listed():
    tree, tensors = merged({"a": 1, "own": PerRank(5)}, {"b": {0: torch.ones(2)}, "a": 1}, {"own": PerRank([6])})
    loaded = put_together(tree, tensors)
    assert list(loaded) == ["a", "own", "b"]
    assert loaded["a"] == 1
    assert loaded["own"] == [5, None, [6]]
    assert torch.equal(loaded["b"][0], torch.ones(2))


def test_numpys_numbers_become_pythons():
    tree = {"row": np.int64(3), "rate": [np.float32(0.5)], "done": np.bool_(True)}
    assert put_together(json.loads(json.dumps(take_apart(tree, {}))), {}) == {"row": 3, "rate": [0.5], "done": True}


def test_not_a_number_equals_itself():
    tree, _ = merged({"loss": float("nan")}, {"loss": float("nan")})
    assert put_together(tree, {})["loss"] != put_together(tree, {})["loss"]


@pytest.mark.parametrize(
    ("one", "two", "where"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "a/1/b is value 2 on rank 0 and value 3 on rank 1"),
        ({"a": 1}, {"a": True}, "a is value 1 on rank 0 and value True"),
        ({"a": (1,)}, {"a": [1]}, "a is tuple"),
        ({"a": (1,)}, {"a": (1, 2)}, "a is tuple"),
        ({"a": torch.ones(1)}, {"a": 1.0}, "a is tensor"),
        ({"a": PerRank(1)}, {"a": 1}, "a is rank"),
        (1, 2, "the state is value 1"),
    ],
)
def test_what_differs_is_named(one, two, where):
    with pytest.raises(CotrainError, match=where):
        merged(one, two)


def test_keys_that_look_alike_stay_apart():
    state = {"1": torch.zeros(1), 1: torch.ones(1), "a/b": torch.zeros(2), "a": {"b": torch.ones(2)}}
    tree, tensors = merged(state)
    loaded = put_together(tree, tensors)
    assert len(tensors) == 4
    assert loaded["1"] == 0
    assert loaded[1] == 1
    assert torch.equal(loaded["a"]["b"], torch.ones(2))


def test_what_a_pattern_says_of_each_tensor():
    x = torch.zeros(1)
    tree, _ = merged({"a": {"x": x, "y": x}, "b": [x, (x,)], "own": PerRank({"x": x})}, {"own": PerRank({"x": x})})
    pattern = {"a": {"x": "like x"}, "b": ELSEWHERE, "own": PerRank({"x": "like own"})}
    found = [like for _, like in wanted(tree, pattern, rank=1, ranks=2)]
    assert found == ["like x", None, ELSEWHERE, ELSEWHERE, ELSEWHERE, "like own"]
    assert [like for _, like in wanted(tree, pattern, rank=0, ranks=3)][-2:] == ["like own", "like own"]
    assert [like for _, like in wanted(tree, {"b": [1]}, rank=0, ranks=2)] == [None, None, 1, None, None, ELSEWHERE]
