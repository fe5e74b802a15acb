"""Guesses brought in line with how often each class occurs. Legend: N examples, C classes, H batches remembered."""

import torch
from torch import Tensor


def align(guess_NC: Tensor, prior_C: Tensor, guessed_C: Tensor, floor: float = 1e-6) -> Tensor:
    """guess * prior / guessed, each row normalized: classes that are guessed too often lose.

    Args:
        prior_C: how often each class occurs.
        guessed_C: how often it was guessed of late.
        floor: added to both, so that a class without labelled examples is held down and not forbidden.

    Source: Berthelot et al. 2020, "ReMixMatch", arXiv:1911.09785, section 3.1; the floor is its published code's.
    """
    aligned = guess_NC * (prior_C + floor) / (guessed_C + floor)
    return aligned / aligned.sum(-1, keepdim=True)


def remember(recent_HC: Tensor, mean_C: Tensor, step: int) -> None:
    """Write a batch's mean over the oldest of the last H, in place; their plain mean is the running mean."""
    recent_HC[step % len(recent_HC)] = mean_C


def uniform(history: int, classes: int) -> Tensor:
    """A memory [H, C] from before the first batch."""
    return torch.full((history, classes), 1 / classes)
