"""Addresses, and the numbers that stand at them."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from cotrain.randomness import Draws, at, draws_nothing, fold, generator, seed_torch


def test_fold_is_the_same_in_every_process():
    text = "int:3\x1fstr:labelled\x1fint:0"
    assert (
        fold(3, "labelled", 0) == int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
    )


def test_fold_takes_integers_of_every_kind_for_what_they_are():
    assert fold(np.int64(3), "a") == fold(3, "a") == fold(torch.tensor(3), "a")


def test_fold_tells_names_from_numbers_and_positions_apart():
    assert len({fold(1, 2), fold(2, 1), fold("1", 2), fold(1, "2"), fold(12), fold("12")}) == 6


def test_fold_refuses_what_is_neither():
    with pytest.raises(TypeError):
        fold(1.5)


@given(st.integers(0, 2**63 - 1), st.lists(st.integers(0, 2**40), max_size=3))
def test_addresses_are_seeds(key, counters):
    assert 0 <= at(key, *counters) < 2**64
    torch.Generator().manual_seed(at(key, *counters))


def test_addresses_below_a_key_differ():
    assert len({at(7, step, call) for step in range(200) for call in range(50)}) == 200 * 50


def test_addresses_scatter_in_their_low_bits_which_are_what_the_cpu_generator_reads():
    low = np.array([at(fold(0, "step"), step) % 2**32 for step in range(20_000)]) / 2**32
    assert stats.kstest(low, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(low[:-1], low[1:])[0, 1]) < 0.03


def test_splitmix_by_hand():
    # The first output of splitmix64 from state 0, as published with it, is 0xE220A8397B1DCDAF; `at` drops its last bit.
    assert at(0, 0) == 0xE220A8397B1DCDAF >> 1


def test_generators_at_one_address_agree():
    assert torch.equal(torch.rand(5, generator=generator(1, "a")), torch.rand(5, generator=generator(1, "a")))
    assert not torch.equal(torch.rand(5, generator=generator(1, "a")), torch.rand(5, generator=generator(1, "b")))


def test_seed_torch_is_manual_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        expected = torch.rand(4)
        seed_torch(1234)
        assert torch.equal(torch.rand(4), expected)


class TestDraws:
    def test_an_example_draws_the_same_in_every_batch(self):
        whole = Draws(torch.arange(10), 0, "stream").normal(3)
        part = Draws(torch.tensor([7, 2]), 0, "stream").normal(3)
        assert torch.equal(part, whole[[7, 2]])

    def test_calls_epochs_names_and_seeds_draw_anew(self):
        index, epoch = torch.arange(4), torch.zeros(4, dtype=torch.long)
        draws = Draws(index, epoch, 0, "a")
        numbers = [
            draws.uniform(2),
            draws.uniform(2),
            Draws(index, epoch + 1, 0, "a").uniform(2),
            Draws(index, epoch, 0, "b").uniform(2),
            Draws(index, epoch, 1, "a").uniform(2),
        ]
        flat = torch.cat([n.flatten() for n in numbers])
        assert len(flat.unique()) == len(flat)

    def test_shapes_and_types(self):
        draws = Draws(torch.arange(5), 0)
        assert draws.uniform().shape == (5,)
        assert draws.uniform(2, 3).shape == (5, 2, 3)
        assert draws.normal(2).dtype == torch.float32
        assert draws.integer(0, 4, 2).dtype == torch.int64
        assert draws.coin(0.5).dtype == torch.bool

    def test_uniform_is_uniform(self):
        numbers = Draws(torch.arange(1000), 3).uniform(20, low=-1.0, high=3.0)
        assert numbers.min() >= -1
        assert numbers.max() < 3
        assert stats.kstest(numbers.flatten().numpy(), stats.uniform(-1, 4).cdf).pvalue > 1e-3

    def test_normal_is_normal_and_neighbours_are_independent(self):
        numbers = Draws(torch.arange(2000), 5).normal(10).numpy()
        assert np.isfinite(numbers).all()
        assert stats.kstest(numbers.ravel(), "norm").pvalue > 1e-3
        assert abs(np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]) < 0.08
        assert abs(np.corrcoef(numbers[:, 0], numbers[:, 1])[0, 1]) < 0.08

    def test_integers_fill_their_range_evenly(self):
        numbers = Draws(torch.arange(3000), 1).integer(-2, 4, 2).flatten().numpy()
        counts = np.unique(numbers, return_counts=True)
        assert counts[0].tolist() == [-2, -1, 0, 1, 2, 3]
        assert stats.chisquare(counts[1]).pvalue > 1e-3

    def test_coin(self):
        draws = Draws(torch.arange(4000), 1)
        assert not draws.coin(0.0).any()
        assert draws.coin(1.0).all()
        assert abs(draws.coin(0.3).float().mean() - 0.3) < 0.03


def test_nets_that_surely_draw_nothing():
    class Own(nn.Linear):
        pass

    def net(*more):
        return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), *more)

    hooked, replaced = net(), net()
    hooked[0].register_forward_hook(lambda *_: None)
    replaced[0].forward = torch.rand_like
    assert draws_nothing(net(nn.Sequential(nn.BatchNorm1d(2))))
    for odd in (net(nn.Dropout(0.0)), net(nn.RReLU()), net(Own(2, 2)), hooked, replaced):
        assert not draws_nothing(odd)
