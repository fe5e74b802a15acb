"""Least squares by hand."""

import torch

from cotrain.losses.adversarial import least_squares


def test_by_hand():
    scores = torch.tensor([[1.0, 0.0], [0.5, 3.0]])
    assert least_squares(scores, True).item() == (0 + 1 + 0.25 + 4) / 4
    assert least_squares(scores, False).item() == (1 + 0 + 0.25 + 9) / 4


def test_right_answers_cost_nothing():
    assert least_squares(torch.ones(3), True).item() == 0
    assert least_squares(torch.zeros(3), False).item() == 0
