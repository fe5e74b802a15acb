"""Entropies and divergences against scipy, by hand and at their limits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import entropy as scipy_entropy

from cotrain.losses.agreement import entropy, entropy_of_logits, jensen_shannon, kl_from, soft_cross_entropy, soften


def probabilities(seed, rows=4, classes=5):
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(classes), rows))


@given(st.integers(0, 1000))
def test_against_scipy(seed):
    one, two = probabilities(seed), probabilities(seed + 1)
    np.testing.assert_allclose(entropy(one), scipy_entropy(one.numpy(), axis=-1))
    np.testing.assert_allclose(jensen_shannon(one, two), np.mean(jensenshannon(one, two, axis=1) ** 2), atol=1e-12)
    np.testing.assert_allclose(kl_from(one, two.log()), rel_entr(one.numpy(), two.numpy()).sum(1).mean())
    np.testing.assert_allclose(soft_cross_entropy(two.log(), one), -(one * two.log()).sum(1).mean())


def test_certain_rows():
    certain = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert entropy(certain).tolist() == [0.0, 0.0]
    assert jensen_shannon(certain, certain.flip(-1)).item() == pytest.approx(math.log(2))
    assert kl_from(certain, torch.zeros(2, 2)).item() == pytest.approx(math.log(2))


def test_hard_targets_give_the_usual_cross_entropy():
    logits, label = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    hard = torch.nn.functional.one_hot(label, 3).float()
    expected = torch.nn.functional.cross_entropy(logits, label)
    torch.testing.assert_close(soft_cross_entropy(logits, hard), expected)
    torch.testing.assert_close(kl_from(hard, logits), expected)


def test_kl_is_a_mean_over_all_rows_times_its_weight():
    target, logits = probabilities(0, rows=6), torch.randn(6, 5, dtype=torch.float64)
    expected = kl_from(target, logits)
    torch.testing.assert_close(kl_from(target.view(2, 3, 5), logits.view(2, 3, 5)), expected)
    torch.testing.assert_close(kl_from(target, logits, weight=2.5), 2.5 * expected)


def test_soften():
    logits = torch.tensor([2.0, 4.0])
    assert soften(logits, 2.0).tolist() == [1.0, 2.0]
    assert soften(logits, 1.0) is logits


@given(st.integers(0, 1000))
def test_entropy_of_logits_is_entropy(seed):
    one = probabilities(seed)
    np.testing.assert_allclose(entropy_of_logits(one.log() + 3.0), entropy(one))


@pytest.mark.parametrize("row", [[0.0, 120.0], [0.0, -math.inf]])
def test_entropy_of_logits_has_a_gradient_where_an_action_is_out_of_the_question(row):
    logits = torch.tensor([row, [0.5, 0.5]], requires_grad=True)
    value = entropy_of_logits(logits)
    value.sum().backward()
    torch.testing.assert_close(value, torch.tensor([0.0, math.log(2)]))
    torch.testing.assert_close(logits.grad, torch.zeros(2, 2))
