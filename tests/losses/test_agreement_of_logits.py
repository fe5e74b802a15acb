"""`jensen_shannon_of_logits` and the exact checks of the two functions that the semi-supervised methods share."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.losses.agreement import entropy, jensen_shannon, jensen_shannon_of_logits
from cotrain.losses.consistency import sharpen


def test_equal_predictions_do_not_diverge():
    logits = torch.randn(5, 4)
    assert jensen_shannon_of_logits(logits, logits).item() == pytest.approx(0, abs=1e-6)
    assert jensen_shannon(logits.softmax(-1), logits.softmax(-1)).item() == pytest.approx(0, abs=1e-6)


def test_disjoint_one_hots_diverge_by_log_2():
    one, two = torch.eye(2)[[0]], torch.eye(2)[[1]]
    assert jensen_shannon(one, two).item() == pytest.approx(math.log(2), rel=1e-6)
    assert jensen_shannon_of_logits(1e4 * one, 1e4 * two).item() == pytest.approx(math.log(2), rel=1e-6)


def test_by_hand():
    # p = (1/2, 1/2), q = (1, 0): H((3/4, 1/4)) - log(2) / 2
    one, two = torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]])
    expected = -0.75 * math.log(0.75) - 0.25 * math.log(0.25) - math.log(2) / 2
    assert jensen_shannon(one, two).item() == pytest.approx(expected, rel=1e-6)
    assert jensen_shannon_of_logits(one.log(), torch.tensor([[0.0, -200.0]])).item() == pytest.approx(
        expected, rel=1e-6
    )


@settings(max_examples=50)
@given(st.lists(st.floats(-300, 300), min_size=12, max_size=12))
def test_is_in_range_equals_the_other_form_and_has_a_gradient(values):
    one, two = (torch.tensor(values[i : i + 6]).view(2, 3).requires_grad_() for i in (0, 6))
    found = jensen_shannon_of_logits(one, two)
    assert -1e-5 <= found.item() <= math.log(2) + 1e-5  # the mean over the batch, never its sum
    torch.testing.assert_close(found, jensen_shannon(one.softmax(-1), two.softmax(-1)), atol=1e-5, rtol=1e-4)
    found.backward()
    assert one.grad.isfinite().all()
    assert two.grad.isfinite().all()


def test_sharpening():
    p = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(sharpen(p, 1.0), p)
    torch.testing.assert_close(sharpen(p, 0.5), p.square() / p.square().sum(1, keepdim=True))
    for cold in (0.0, 1e-4):
        torch.testing.assert_close(sharpen(p, cold), torch.tensor([[1.0, 0, 0], [0, 0, 1]]))


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_sharpening_lowers_the_entropy_steadily(weights):
    p = torch.tensor([weights], dtype=torch.float64)
    p = p / p.sum()
    entropies = torch.stack([entropy(sharpen(p, t)) for t in (1.0, 0.8, 0.5, 0.2, 0.1, 0.0)])
    assert (entropies.diff(dim=0) <= 1e-9).all()
