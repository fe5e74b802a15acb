"""Returns by hand and against a loop over episodes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.losses.returns import discounted_returns


def test_by_hand():
    reward = torch.tensor([[1.0], [2.0], [3.0]])
    returns = discounted_returns(reward, torch.zeros(3, 1), torch.tensor([10.0]), 0.5)
    # 3 + .5 * 10 = 8; 2 + .5 * 8 = 6; 1 + .5 * 6 = 4
    assert returns[:, 0].tolist() == [4.0, 6.0, 8.0]


def test_an_end_cuts_what_comes_after_it():
    ended = torch.tensor([[0.0], [1.0], [0.0]])
    returns = discounted_returns(torch.ones(3, 1), ended, torch.tensor([100.0]), 0.5)
    assert returns[:, 0].tolist() == [1.5, 1.0, 51.0]


def test_discounts_at_their_ends():
    reward = torch.tensor([[1.0], [2.0]])
    last = torch.tensor([4.0])
    assert discounted_returns(reward, torch.zeros(2, 1), last, 0.0)[:, 0].tolist() == [1.0, 2.0]
    assert discounted_returns(reward, torch.zeros(2, 1), last, 1.0)[:, 0].tolist() == [7.0, 6.0]


@given(seed=st.integers(0, 1000), steps=st.integers(1, 12), discount=st.floats(0, 1))
def test_equals_the_sum_over_what_is_left_of_each_episode(seed, steps, discount):
    rng = np.random.default_rng(seed)
    reward, ended, last = rng.normal(size=(steps, 2)), rng.random((steps, 2)) < 0.3, rng.normal(size=2)
    tensors = (torch.from_numpy(reward), torch.from_numpy(ended).double(), torch.from_numpy(last))
    returns = discounted_returns(*tensors, discount)
    for e in range(2):
        for t in range(steps):
            expected, factor, k = 0.0, 1.0, t
            while True:
                expected += factor * reward[k, e]
                factor *= discount
                if ended[k, e]:
                    break
                k += 1
                if k == steps:
                    expected += factor * last[e]
                    break
            assert returns[t, e].item() == pytest.approx(expected, abs=1e-9)
