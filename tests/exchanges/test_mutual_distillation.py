"""Mutual distillation by hand, its limits, and its gradient."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from cotrain.errors import InputError
from cotrain.exchanges.mutual_distillation import MutualDistillation


def log(*rows):
    return torch.tensor(rows).log()


def test_by_hand():
    exchange = MutualDistillation()
    theirs = exchange.message(log([0.5, 0.5]))
    # KL((.5, .5) || (.25, .75)) = .5 ln 2 + .5 ln(2/3)
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert exchange.loss(log([0.25, 0.75]), {"a": theirs}).item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_over_senders_and_examples():
    exchange = MutualDistillation()
    own = log([0.25, 0.75], [0.5, 0.5])
    mail = {"a": exchange.message(log([0.5, 0.5], [0.5, 0.5])), "b": exchange.message(own)}
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 4  # one of two senders, one of two examples
    assert exchange.loss(own, mail).item() == pytest.approx(expected, rel=1e-5)


def test_the_messages_have_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    assert not MutualDistillation(2.0).message(logits).requires_grad


def test_agreement_costs_nothing_and_pulls_nowhere():
    logits = torch.randn(3, 4, requires_grad=True)
    exchange = MutualDistillation(3.0)
    loss = exchange.loss(logits, {"a": exchange.message(logits)})
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(logits.grad, torch.zeros(3, 4), atol=1e-6, rtol=0)


def test_a_weight_of_zero_costs_nothing():
    exchange = MutualDistillation(weight=0.0)
    assert exchange.loss(log([0.25, 0.75]), {"a": exchange.message(log([0.5, 0.5]))}).item() == 0


def test_the_gradients_size_hardly_depends_on_a_high_temperature():
    own, theirs = torch.randn(2, 5, requires_grad=True), torch.randn(2, 5)
    sizes = []
    for temperature in (50.0, 100.0):
        exchange = MutualDistillation(temperature)
        (gradient,) = torch.autograd.grad(exchange.loss(own, {"a": exchange.message(theirs)}), own)
        sizes.append(gradient.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    # The limit: (own - theirs) / (N * C), both centred.
    difference = (own - own.mean(-1, keepdim=True) - theirs + theirs.mean(-1, keepdim=True)) / 10
    assert sizes[1] == pytest.approx(difference.norm().item(), rel=0.05)


def test_certain_messages_have_finite_costs():
    exchange = MutualDistillation()
    own = torch.tensor([[0.0, 0.0]], requires_grad=True)
    loss = exchange.loss(own, {"a": torch.tensor([[1.0, 0.0]])})
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert own.grad.isfinite().all()


def test_gradient_by_finite_differences():
    mail = {
        "a": torch.rand(3, 4, dtype=torch.float64).softmax(-1),
        "b": torch.rand(3, 4, dtype=torch.float64).softmax(-1),
    }
    own = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda logits: MutualDistillation(2.0, weight=0.7).loss(logits, mail), own)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(InputError, match="temperature"):
        MutualDistillation(temperature)
