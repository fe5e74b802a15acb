"""Attention over a window: by hand, at its limits, and the blocks against a mask written out."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cotrain.nets.attention import causal_attention, pairs_met


def three(length, sequences=2, heads=3, size=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(3, sequences, heads, length, size, generator=rng, dtype=torch.float64)


def written_out(query, key, value, window):
    """Position by position."""
    found = torch.zeros_like(query)
    for t in range(query.shape[2]):
        first = max(0, t - window + 1)
        scores = query[:, :, t : t + 1] @ key[:, :, first : t + 1].mT / query.shape[-1] ** 0.5
        found[:, :, t] = (scores.softmax(-1) @ value[:, :, first : t + 1])[:, :, 0]
    return found


def test_by_hand():
    # The second position sees itself with score 1 / sqrt(1) and the first with 0: weights 1 / (1 + e) and e / (1 + e).
    query = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1)
    key, value = query, torch.tensor([2.0, 6.0]).view(1, 1, 2, 1)
    e = torch.e
    torch.testing.assert_close(causal_attention(query, key, value).flatten().tolist(), [2.0, (2 + 6 * e) / (1 + e)])


@given(length=st.integers(1, 17), window=st.integers(1, 20), seed=st.integers(0, 99))
def test_equals_attention_position_by_position(length, window, seed):
    query, key, value = three(length, seed=seed)
    torch.testing.assert_close(causal_attention(query, key, value, window), written_out(query, key, value, window))


@pytest.mark.parametrize("window", [12, 13, 1000])
def test_a_window_as_long_as_the_sequence_is_full_attention_exactly(window):
    query, key, value = three(12)
    assert torch.equal(causal_attention(query, key, value, window), causal_attention(query, key, value))


def test_a_window_of_one_is_the_value():
    query, key, value = three(9)
    torch.testing.assert_close(causal_attention(query, key, value, 1), value)


@pytest.mark.parametrize("window", [1, 3, 8, None])
def test_gradients_are_those_of_the_mask_written_out(window):
    given = three(10).requires_grad_()
    causal_attention(*given, window).square().sum().backward()
    expected = three(10).requires_grad_()
    distance = torch.arange(10)[:, None] - torch.arange(10)
    seen = (distance >= 0) & (distance < (window or 10))
    F.scaled_dot_product_attention(*expected, attn_mask=seen).square().sum().backward()
    torch.testing.assert_close(given.grad, expected.grad)


@pytest.mark.parametrize(("length", "window"), [(12, None), (12, 12), (12, 6), (12, 5), (13, 3), (12, 1)])
def test_pairs_are_those_that_torch_counts(length, window):
    query, key, value = three(length, sequences=2, heads=3, size=4)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        causal_attention(query, key, value, window)
    assert counter.get_total_flops() == 2 * 3 * 2 * 2 * 4 * pairs_met(length, window)
