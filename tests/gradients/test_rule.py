"""Chains and sums of gradient sets."""

from dataclasses import dataclass

import pytest
import torch

from cotrain.errors import InputError
from cotrain.gradients.clip import Clip
from cotrain.gradients.pcgrad import PCGrad
from cotrain.gradients.rule import GradientRule, chain, total


@dataclass(frozen=True)
class Times(GradientRule):
    factor: float

    def __call__(self, sets):
        return [[None if g is None else self.factor * g for g in gradients] for gradients in sets]


@dataclass(frozen=True)
class Plus(GradientRule):
    amount: float

    def __call__(self, sets):
        return [[None if g is None else self.amount + g for g in gradients] for gradients in sets]


def test_a_chain_goes_first_rule_first():
    (out,) = chain(Plus(1.0), Times(3.0))([[torch.tensor(1.0), None]])
    assert out[0].item() == 6.0
    assert out[1] is None


def test_an_empty_chain_changes_nothing():
    sets = [[torch.tensor(1.0)]]
    assert chain()(sets) == sets


def test_a_chain_wants_losses_apart_if_one_of_its_rules_does():
    assert chain(Times(1.0), PCGrad()).per_loss
    assert not chain(Times(1.0)).per_loss


def test_total_sums_what_is_there():
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    summed = total([[one, None, None], [two, two, None]])
    assert summed[0].tolist() == [11.0, 22.0]
    assert summed[1].tolist() == [10.0, 20.0]
    assert summed[2] is None


def test_total_of_one_set_is_that_set():
    gradients = [torch.ones(2)]
    assert total([gradients]) is gradients


def test_a_rule_that_wants_losses_apart_is_refused_after_one_that_sums_them():
    with pytest.raises(InputError, match="PCGrad needs the losses' gradients apart"):
        chain(Clip(1.0), PCGrad())([[torch.tensor([1.0])], [torch.tensor([-1.0])]])
