"""How two or more predictions differ. Legend: N examples, C classes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def entropy(probabilities_NC: Tensor) -> Tensor:
    """Entropy of each row in nats, [N]; 0 log 0 is 0."""
    return -torch.xlogy(probabilities_NC, probabilities_NC).sum(-1)


def entropy_of_logits(logits_NC: Tensor) -> Tensor:
    """`entropy` of softmax(logits), with a finite gradient where a probability underflows or a logit is -inf."""
    log_NC = logits_NC.log_softmax(-1)
    probability_NC = log_NC.exp()
    return -(probability_NC * torch.where(probability_NC > 0, log_NC, 0.0)).sum(-1)


def jensen_shannon(one_NC: Tensor, two_NC: Tensor) -> Tensor:
    """Mean Jensen-Shannon divergence of the rows' probabilities, in nats, 0..log 2."""
    mixture = (one_NC + two_NC) / 2
    return (entropy(mixture) - (entropy(one_NC) + entropy(two_NC)) / 2).mean()


def soft_cross_entropy(logits_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Mean cross-entropy to soft targets (rows sum to 1), in nats per example."""
    return -(target_NC * logits_NC.log_softmax(-1)).sum(-1).mean()


def kl_from(target_NC: Tensor, logits_NC: Tensor, weight: float = 1.0) -> Tensor:
    """weight times the mean KL(target || softmax(logits)) in nats per example; the target holds probabilities."""
    rows = target_NC.numel() // target_NC.shape[-1]
    return F.kl_div(logits_NC.log_softmax(-1), target_NC, reduction="sum") * (weight / rows)


def soften(logits: Tensor, temperature: float) -> Tensor:
    """logits / temperature; at 1 the logits themselves, which saves two passes over [N, C]."""
    return logits if temperature == 1 else logits / temperature


def jensen_shannon_of_logits(one_NC: Tensor, two_NC: Tensor) -> Tensor:
    """`jensen_shannon` of softmax(one) and softmax(two), with a finite gradient however sure the learners are."""
    one_log, two_log = one_NC.log_softmax(-1), two_NC.log_softmax(-1)
    # log((p + q) / 2), kept in logarithms: a probability that underflows to 0 has no finite log.
    mixture_log = torch.logaddexp(one_log, two_log) - math.log(2)
    sides = [(side.exp() * (side - mixture_log)).sum(-1) for side in (one_log, two_log)]
    return ((sides[0] + sides[1]) / 2).mean()
