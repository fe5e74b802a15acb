"""Confident labels and sharpened guesses by hand and at their limits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.losses.consistency import confident_label, sharpen


def test_confident_label_by_hand():
    logits = torch.tensor([[0.96, 0.04], [0.1, 0.9], [0.5, 0.5]]).log().requires_grad_()
    label, kept = confident_label(logits, 0.95)
    assert label.tolist() == [0, 1, 0]
    assert kept.tolist() == [1.0, 0.0, 0.0]
    assert not kept.requires_grad


def test_thresholds_at_their_ends():
    logits = torch.randn(20, 3)
    assert confident_label(torch.zeros(1, 2), 0.5)[1].tolist() == [1.0]  # one half reaches one half
    assert confident_label(logits, 0.0)[1].all()
    assert not confident_label(logits, 1.01)[1].any()


def test_sharpen_by_hand():
    # (.6, .4) squared and normalized: .36 / .52, .16 / .52
    torch.testing.assert_close(sharpen(torch.tensor([[0.6, 0.4]]), 0.5), torch.tensor([[0.36 / 0.52, 0.16 / 0.52]]))


@given(st.integers(0, 500), st.floats(0.01, 1.0))
def test_sharpening_keeps_order_and_sums_to_one(seed, temperature):
    guess = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)).softmax(-1)
    sharp = sharpen(guess, temperature)
    torch.testing.assert_close(sharp.sum(-1), torch.ones(3))
    assert torch.equal(sharp.argmax(-1), guess.argmax(-1))
    assert (sharp.max(-1).values >= guess.max(-1).values - 1e-6).all()


def test_temperatures_at_their_ends():
    guess = torch.tensor([[0.2, 0.5, 0.3]])
    torch.testing.assert_close(sharpen(guess, 1.0), guess)
    assert sharpen(guess, 0).tolist() == [[0.0, 1.0, 0.0]]
    assert sharpen(guess, 1e-4)[0, 1].item() == pytest.approx(1.0)


def test_a_probability_of_zero_stays_zero():
    assert sharpen(torch.tensor([[0.0, 1.0]]), 0.5).tolist() == [[0.0, 1.0]]
