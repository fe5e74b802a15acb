"""How two or more predictions differ. Legend: N examples, C classes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def entropy(probabilities_NC: Tensor) -> Tensor:
    """Entropy of each row in nats, [N]; 0 log 0 is 0."""
    return -torch.xlogy(probabilities_NC, probabilities_NC).sum(-1)


def jensen_shannon(one_NC: Tensor, two_NC: Tensor) -> Tensor:
    """Mean Jensen-Shannon divergence of the rows' probabilities, in nats, 0..log 2."""
    mixture = (one_NC + two_NC) / 2
    return (entropy(mixture) - (entropy(one_NC) + entropy(two_NC)) / 2).mean()


def soft_cross_entropy(logits_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Mean cross-entropy to soft targets (rows sum to 1), in nats per example."""
    return -(target_NC * logits_NC.log_softmax(-1)).sum(-1).mean()


def kl_from(target_NC: Tensor, logits_NC: Tensor) -> Tensor:
    """Mean KL(target || softmax(logits)) in nats per example; the target holds probabilities."""
    return F.kl_div(logits_NC.log_softmax(-1), target_NC, reduction="batchmean")
