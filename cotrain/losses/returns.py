"""Returns of rollouts. Legend: T steps, E environments."""

import torch
from torch import Tensor


def discounted_returns(reward_TE: Tensor, ended_TE: Tensor, last_value_E: Tensor, discount: float) -> Tensor:
    """Reward to come at each step, [T, E]: r_t + discount * (1 - ended_t) * R_{t+1}; the critic values what follows.

    Source: Mnih et al. 2016, arXiv:1602.01783, Algorithm S3 (n-step returns).
    """
    returns_TE = torch.empty_like(reward_TE)
    following_E = last_value_E
    for t in reversed(range(len(reward_TE))):
        following_E = reward_TE[t] + discount * following_E * (1 - ended_TE[t])
        returns_TE[t] = following_E
    return returns_TE
