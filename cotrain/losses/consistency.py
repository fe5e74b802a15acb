"""Targets that a learner makes for itself. Legend: N examples, C classes."""

import torch
from torch import Tensor


@torch.no_grad()
def confident_label(logits_NC: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The most probable label of each row, int64 [N], and whether its probability reaches the threshold, float [N]."""
    confidence_N, label_N = logits_NC.softmax(-1).max(-1)
    return label_N, (confidence_N >= threshold).to(logits_NC.dtype)


def sharpen(probabilities_NC: Tensor, temperature: float) -> Tensor:
    """p^(1/temperature), normalized: 1 changes nothing, 0 gives the one-hot of the largest.

    Source: Berthelot et al. 2019, "MixMatch", arXiv:1905.02249, Eq. 7.
    """
    if temperature == 0:
        return torch.nn.functional.one_hot(probabilities_NC.argmax(-1), probabilities_NC.shape[-1]).to(probabilities_NC)
    # In logarithms, so that small temperatures do not underflow every entry.
    return (probabilities_NC.log() / temperature).softmax(-1)
