"""Gradients that are not finite: how they are found, and what a learner does about them."""

import copy
from functools import partial

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn, optim

from cotrain.errors import CotrainError, InputError
from cotrain.learner import Learner
from cotrain.watch.nonfinite import Guard, check_finite, finite

NAN, INF = float("nan"), float("inf")


class TestFinite:
    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
    def test_one_bad_number_among_many(self, bad, dtype):
        good = torch.ones(3, 5, dtype=dtype)
        worse = good.clone()
        worse[1, 2] = bad
        assert finite([good, good]).item() is True
        assert finite([good, worse, good]).item() is False

    def test_large_numbers_are_finite(self):
        """Their norm would not be."""
        assert finite([torch.full((9,), 3e38)])

    def test_types_mix_and_none_empty_and_integers_do_not_count(self):
        tensors = [None, torch.empty(0), torch.ones(2, dtype=torch.int64), torch.ones(2), torch.ones(2).bfloat16()]
        assert finite(tensors)
        assert not finite([*tensors, torch.tensor(NAN)])
        assert finite([])
        assert finite([]).shape == finite([torch.ones(2)]).shape == ()

    def test_sparse_ones_are_looked_at(self):
        entries = torch.tensor([1.0, NAN])
        assert not finite([torch.sparse_coo_tensor(torch.tensor([[0, 3]]), entries, (5,))])
        # What is summed up where it comes twice is what the optimizer sees.
        twice = torch.sparse_coo_tensor(torch.tensor([[0, 0]]), torch.tensor([3e38, 3e38]), (5,))
        assert not finite([twice])
        assert finite([torch.ones(2), torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (5,))])

    def test_the_device_is_not_waited_for(self):
        """A meta tensor has no value that could be waited for."""
        found = finite([torch.ones(3, device="meta"), torch.ones(2, device="meta", dtype=torch.float64)])
        assert found.device.type == "meta"
        assert found.dtype == torch.bool

    def test_it_keeps_no_graph_and_changes_nothing(self):
        weight = torch.ones(3, requires_grad=True)
        assert not finite([weight]).requires_grad
        assert weight.tolist() == [1.0, 1.0, 1.0]


def learner(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    return Learner(net, partial(optim.AdamW, lr=0.05), schedule=lambda updates: 0.9**updates).build()


def batches(count, bad=()):
    generator = torch.Generator().manual_seed(1)
    for number in range(count):
        x = torch.randn(8, 3, generator=generator)
        if number in bad:
            x[2, 1] = NAN
        yield x


def train(one, xs, guard):
    """The states after each step."""
    states = []
    for x in xs:
        for parameter in one.parameters:
            parameter.grad = None
        (one(x) - x.sum(1, keepdim=True).nan_to_num()).square().mean().backward()
        refused = guard.refused(["one"])
        if "one" not in refused:
            one.step()
        guard.keep()
        states.append(copy.deepcopy(one.state()))
    return states


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_skipped_step_never_was():
    """Bit for bit as if the bad batches had not come: weights, batch statistics, moments, schedule."""
    skipping, without = learner(), learner()
    guard = Guard({"one": skipping}, {"one": "skip"})
    with_bad = train(skipping, batches(8, bad=(2, 3, 6)), guard)
    clean = [x for number, x in enumerate(batches(8)) if number not in (2, 3, 6)]
    straight = train(without, clean, Guard({"one": without}, {}))
    assert guard.counts == {"one": 3}
    assert same(with_bad[3], with_bad[1])
    assert same(with_bad[-1], straight[-1])
    assert skipping.updates == 5


def test_a_rollback_goes_to_the_last_copy_and_on_from_there():
    one, guard = (made := learner()), Guard({"one": made}, {"one": "rollback"}, every=3)
    states = train(one, batches(9, bad=(4, 8)), guard)
    assert same(states[4], states[2])  # after step 2 the third step was done and a copy taken
    assert not same(states[3], states[2])
    assert same(states[8], states[5])  # the copy after 6 steps, of which one was refused
    assert one.updates == states[5]["updates"] == 4
    assert guard.counts == {"one": 2}


def test_before_the_first_copy_a_rollback_goes_to_the_start():
    one = learner()
    start = copy.deepcopy(one.state())
    states = train(one, batches(2, bad=(1,)), Guard({"one": one}, {"one": "rollback"}, every=100))
    assert same(states[1], start)


def test_weights_that_went_wrong_are_never_the_copy():
    one = learner()
    guard = Guard({"one": one}, {"one": "rollback"}, every=1)
    start = copy.deepcopy(one.state())
    with torch.no_grad():
        one.net[0].weight[0, 0] = INF  # an update that overflowed, after a finite gradient
    guard.keep()
    guard.refused([])
    (state,) = train(one, batches(1), guard)
    assert same(state, start)


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_what_never_comes_right_ends_the_run(policy):
    one = learner()
    guard = Guard({"one": one}, {"one": policy}, limit=3)
    with pytest.raises(CotrainError, match="gradient of 'one' was not finite in 3 steps"):
        train(one, batches(9, bad=range(9)), guard)


def test_bad_steps_that_are_not_in_a_row_do_not_end_it():
    one = learner()
    guard = Guard({"one": one}, {"one": "skip"}, limit=2)
    train(one, batches(9, bad=(0, 2, 4, 6)), guard)
    assert guard.counts == {"one": 4}


def test_others_are_left_alone():
    learners = {"one": learner(), "two": learner(1)}
    guard = Guard(learners, {"one": "skip", "two": "stop"})
    for one in learners.values():
        for parameter in one.parameters:
            parameter.grad = torch.full_like(parameter, NAN)
    assert guard.refused(learners) == {"one"}
    assert guard.refused(["two"]) == set()  # no gradient of `one` in this step


def test_stop_names_whose_weights_went_wrong():
    learners = {"one": learner(), "two": learner(1), "frozen": Learner(nn.Linear(2, 2)).build()}
    check_finite(learners, 50)
    check_finite({}, 50)
    with torch.no_grad():
        learners["two"].net[0].bias[1] = NAN
    with pytest.raises(CotrainError, match="weights of 'two' are not finite at or shortly before step 50"):
        check_finite(learners, 50)


@pytest.mark.parametrize(
    ("policies", "more", "said"),
    [
        ({"one": "ignore"}, {}, "policy of 'one' is one of stop, skip, rollback, not 'ignore'"),
        ({"three": "skip"}, {}, "names 'three'; the learners are 'one'"),
        ({"one": "rollback"}, {"every": 0}, "at least 1"),
    ],
)
def test_bad_input(policies, more, said):
    with pytest.raises(InputError, match=said):
        Guard({"one": learner()}, policies, **more)


def test_weights_bad_from_the_start_are_refused():
    one = learner()
    with torch.no_grad():
        one.net[0].bias[1] = NAN
    with pytest.raises(CotrainError, match="not finite at the start"):
        Guard({"one": one}, {"one": "rollback"})


def _bad_on_one_rank():
    """Three learners: bad on rank 1, good everywhere, bad on rank 0 where rank 1 has no gradient for it."""
    learners = {name: learner(seed) for seed, name in enumerate(("a", "b", "c"))}
    guard = Guard(learners, {"c": "rollback", "b": "skip", "a": "skip"})
    rank = dist.get_rank()
    for name, one in learners.items():
        bad = (name, rank) in (("a", 1), ("c", 0))
        for parameter in one.parameters:
            parameter.grad = torch.full_like(parameter, NAN if bad else 1.0)
    return sorted(guard.refused(["a", "b"] if rank else ["a", "b", "c"]))


def test_what_is_bad_on_one_rank_is_refused_on_all():
    assert run_ranks(_bad_on_one_rank, 2) == [["a", "c"], ["a", "c"]]
