"""Clip against torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cotrain.errors import InputError
from cotrain.gradients.clip import Clip


def gradients(seed, size=1.0):
    rng = torch.Generator().manual_seed(seed)
    return [size * torch.randn(shape, generator=rng) for shape in ((3, 4), (5,), ())]


def test_by_hand():
    ((one, two),) = Clip(1.0)([[torch.tensor([3.0]), torch.tensor([4.0])]])  # norm 5
    assert one.item() == pytest.approx(0.6)
    assert two.item() == pytest.approx(0.8)


@given(seed=st.integers(0, 1000), size=st.floats(1e-3, 1e3), norm=st.floats(1e-2, 1e2))
def test_equals_clip_grad_norm(seed, size, norm):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients(seed)]
    for parameter, gradient in zip(parameters, gradients(seed, size), strict=True):
        parameter.grad = gradient
    torch.nn.utils.clip_grad_norm_(parameters, norm)
    (clipped,) = Clip(norm)([gradients(seed, size)])
    for parameter, gradient in zip(parameters, clipped, strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_a_small_gradient_is_left_alone():
    (same,) = Clip(100.0)([gradients(0)])
    for one, two in zip(same, gradients(0), strict=True):
        assert torch.equal(one, two)


def test_a_sparse_gradient_is_clipped_as_the_dense_one():
    def gradient(sparse):
        table = nn.Embedding(5, 2, sparse=sparse)
        table(torch.tensor([1, 1, 3])).sum().backward()  # row 1 comes twice
        return table.weight.grad

    ((sparse, own),) = Clip(0.5)([[gradient(True), torch.ones(2)]])
    ((dense, its),) = Clip(0.5)([[gradient(False), torch.ones(2)]])
    torch.testing.assert_close(sparse.to_dense(), dense)
    torch.testing.assert_close(own, its)


def test_sets_are_summed_before_they_are_measured():
    (clipped,) = Clip(1.0)([[torch.tensor([2.0])], [torch.tensor([-2.0])]])
    assert clipped[0].item() == 0.0


def test_missing_gradients_stay_missing():
    ((missing, one),) = Clip(1.0)([[None, torch.tensor([5.0])]])
    assert missing is None
    assert one.item() == pytest.approx(1.0)
    assert Clip(1.0)([[None, None]]) == [[None, None]]


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_refused(norm):
    with pytest.raises(InputError, match="positive"):
        Clip(norm)
