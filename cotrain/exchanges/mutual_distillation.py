"""Mutual distillation: every learner matches what the others predict on the same batch.

Source: Zhang et al. 2018, "Deep Mutual Learning", arXiv:1706.00384, section 3.2, where the temperature is 1.
Legend: N examples (or tokens), C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cotrain.errors import InputError
from cotrain.exchange import Exchange
from cotrain.losses.agreement import kl_from, soften


@dataclass(frozen=True)
class MutualDistillation(Exchange):
    """Sends softened probabilities; costs the receiver a KL divergence to each of them.

    The message has no gradient, so it means the same wherever its sender lives; N * C * 4 bytes per step and sender.
    """

    temperature: float = 1.0  # divides logits before the softmax, > 0; paper: 1
    weight: float = 1.0  # of the divergence, >= 0; paper: 1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature is a positive number, not {self.temperature}.")

    def message(self, output: Tensor) -> Tensor:
        """Probabilities [N, C] of logits [N, C]."""
        return soften(output.detach(), self.temperature).softmax(-1)

    def loss(self, output: Tensor, mail: Mapping[str, Tensor]) -> Tensor:
        """Mean over senders of KL(sender || receiver), nats per example, times weight * temperature^2.

        The square keeps the gradient's size independent of the temperature (Hinton et al. 2015, arXiv:1503.02531).
        """
        own_NC, weight = soften(output, self.temperature), self.weight * self.temperature**2
        if len(mail) == 1:
            (theirs_NC,) = mail.values()
            return kl_from(theirs_NC, own_NC, weight)
        # All senders S at once; the log-probabilities of the reader are the same against each.
        theirs_SNC = torch.stack(list(mail.values()))
        return F.kl_div(own_NC.log_softmax(-1), theirs_SNC, reduction="sum") * (
            weight * own_NC.shape[-1] / theirs_SNC.numel()
        )
