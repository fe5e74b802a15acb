"""Inputs moved so that a net errs."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cotrain.errors import InputError


def watched(x: Tensor) -> Tensor:
    """x as a leaf that gets a gradient of its own.

    Raises:
        InputError: whole numbers (token ids), which cannot be moved a little.
    """
    if not x.is_floating_point():
        raise InputError(f"Inputs of type {x.dtype} cannot be perturbed; give vectors (embedded tokens).")
    return x.detach().requires_grad_()


def fast_gradient_sign(x: Tensor, logits_NC: Tensor, label_N: Tensor, epsilon: float) -> Tensor:
    """x + epsilon * sign(d cross-entropy / dx), without gradient and not clipped to any range.

    Args:
        x: what `watched` gave, and what the logits were computed from; their graph is kept.
        label_N: the class to move away from, int64.
        epsilon: step in the units of x.

    Source: Goodfellow et al. 2015, arXiv:1412.6572, section 4.
    """
    # The sum: each row's perturbation is its own, whatever the size of the batch.
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits_NC, label_N, reduction="sum"), x, retain_graph=True)
    return (x + epsilon * gradient.sign()).detach()
