"""PCGrad against an independent version in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.gradients.pcgrad import PCGrad
from cotrain.gradients.rule import total


def reference(gradients):
    """Algorithm 1 with the order of the others starting at the next loss; gradients [losses, entries]."""
    projected = []
    for i, gradient in enumerate(gradients):
        own = gradient.copy()
        for other in [*gradients[i + 1 :], *gradients[:i]]:
            if own @ other < 0:
                own = own - (own @ other) / (other @ other) * other
        projected.append(own)
    return np.array(projected)


def split(vector):
    """A vector of 7 as gradients of parameters of shapes [2, 2] and [3]."""
    vector = torch.as_tensor(vector)
    return [vector[:4].view(2, 2), vector[4:]]


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients]).numpy()


@given(seed=st.integers(0, 10_000), losses=st.integers(1, 5))
def test_equals_the_reference(seed, losses):
    gradients = np.random.default_rng(seed).normal(size=(losses, 7))
    out = PCGrad()([split(g) for g in gradients])
    np.testing.assert_allclose([flat(g) for g in out], reference(gradients), atol=1e-10)


def test_by_hand():
    # (1, 0) and (-1, 1) conflict: each loses its part along the other
    one, two = PCGrad()([[torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]])
    torch.testing.assert_close(one[0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(two[0], torch.tensor([0.0, 1.0]))


def test_agreeing_gradients_are_left_alone_bit_for_bit():
    one, two = torch.tensor([1.0, 0.3]), torch.tensor([0.2, 0.7])
    out = PCGrad()([[one], [two]])
    assert torch.equal(out[0][0], one)
    assert torch.equal(out[1][0], two)


@given(seed=st.integers(0, 10_000))
def test_of_two_losses_neither_result_opposes_the_other_gradient(seed):
    one, two = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 7)))
    out = PCGrad()([split(one), split(two)])
    assert flat(out[0]) @ two.numpy() >= -1e-9
    assert flat(out[1]) @ one.numpy() >= -1e-9


def test_a_parameter_that_one_loss_does_not_reach():
    shared, own = torch.tensor([1.0]), torch.tensor([2.0])
    out = PCGrad()([[shared, None, None], [-shared, own, None]])
    summed = total(out)
    # The second loss gives up (1/5) of (1, 0) - conflict -1 with |g2|^2 = 5 - and the first all of it.
    assert summed[0].item() == pytest.approx((1 - 1 / 5) + 0)
    assert summed[1].item() == pytest.approx(2 / 5 + 2)
    assert summed[2] is None


def test_a_zero_gradient_does_no_harm():
    one, two = PCGrad()([[torch.tensor([1.0, 0.0])], [torch.tensor([0.0, 0.0])]])
    assert one[0].tolist() == [1.0, 0.0]
    assert two[0].tolist() == [0.0, 0.0]


def test_losses_that_reach_no_parameter_leave_none():
    assert PCGrad()([[None, None], [None, None]]) == [[None, None]]
