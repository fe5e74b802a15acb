"""Losses of a critic that tells real from made, and of the maker that wants to pass."""

import torch
import torch.nn.functional as F
from torch import Tensor


def least_squares(scores: Tensor, real: bool) -> Tensor:
    """Mean squared distance of the critic's scores, any shape, from 1 (real) or 0 (made).

    Source: Mao et al. 2017, "Least squares generative adversarial networks", arXiv:1611.04076, the 0-1 coding, without
    its factor 1/2.
    """
    return F.mse_loss(scores, torch.full_like(scores, float(real)))
