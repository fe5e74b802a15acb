"""State trees: what ranks' trees make together, and which learners of a checkpoint a run takes over."""

import json

import numpy as np
import pytest
import torch

from cotrain.errors import CotrainError, InputError
from cotrain.tree import ELSEWHERE, PerRank, common, merge, put_together, take_apart, wanted


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


SAVED = {
    "one": {"weight": torch.zeros(2, 3)},
    "two": {"weight": torch.zeros(4), "bias": torch.zeros(4)},
    "old": {"scale": torch.tensor(1.0)},
}


class TestCommon:
    def test_all_fit(self):
        assert common(SAVED, {**SAVED, "two": None}) == ["one", "two", "old"]

    def test_of_extra_state_nothing_is_compared(self):
        saved = {"one": {"weight": torch.zeros(2), "_extra_state": {"calls": 3}}}
        assert common(saved, {"one": {"weight": torch.ones(2), "_extra_state": None}}) == ["one"]

    def test_the_table(self):
        present = {
            "one": SAVED["one"],
            "two": {"weight": torch.zeros(5), "bias": torch.zeros(4)},
            "new": {str(i): torch.zeros(i) for i in range(1, 9)},
        }
        with pytest.raises(InputError) as caught:
            common(SAVED, present)
        assert str(caught.value).splitlines() == [
            "The learners differ:",
            "  two  was weight 4; is weight 5",
            "  old  unexpected, not in this run: scale number",
            "  new  missing in the checkpoint: 1 1, 2 2, 3 3, 4 4, 5 5, 6 6, and 2 more",
        ]
        assert common(SAVED, present, partial=("one",)) == ["one"]
        assert common(SAVED, present, partial=()) == []
        for name in ("two", "old", "new"):
            with pytest.raises(InputError, match=name):
                common(SAVED, present, partial=("one", name))
        with pytest.raises(InputError, match="tow  neither in the checkpoint nor in this run"):
            common(SAVED, present, partial=("tow",))
