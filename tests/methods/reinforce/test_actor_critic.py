"""Actor-critic by hand, its gradients in closed form, and a bandit that it solves."""

import math
from functools import partial

import pytest
import torch
from torch import nn, optim

from cotrain.engine import fit, prepare, update
from cotrain.learner import Learner
from cotrain.methods.reinforce.actor_critic import ActorCritic


class Fixed(nn.Module):
    """The same output for every observation."""

    def __init__(self, output):
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, observation):
        return self.output.expand(len(observation), -1)


def learners(policy=(0.25, 0.75), value=1.0, optimizer=None):
    return {
        "actor": Learner(Fixed([math.log(p) for p in policy]), optimizer),
        "critic": Learner(Fixed([value]), optimizer),
    }


def rollout(actions, values_to_come):
    n = len(actions)
    return {
        "rollout": {
            "observation": torch.zeros(n, 3),
            "action": torch.tensor(actions),
            "value_to_come": torch.tensor(values_to_come),
        }
    }


def test_by_hand():
    losses = ActorCritic(entropy=0.5).step(learners(), rollout([0, 1], [3.0, 0.0]), {})
    unsure = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    # advantages 2 and -1
    assert losses["actor"].item() == pytest.approx(-(2 * math.log(0.25) - math.log(0.75)) / 2 - 0.5 * unsure, rel=1e-5)
    assert losses["critic"].item() == pytest.approx((4 + 1) / 2)


def test_the_actors_gradient_is_advantage_times_score():
    pair = learners(optimizer=partial(optim.SGD, lr=1.0))
    prepare(pair)
    update(pair, ActorCritic(entropy=0.0).step(pair, rollout([1], [3.0]), {}))
    # d/dlogits of -2 log p(1) = -2 (onehot - p); the critic's: 2 (1 - 3)
    torch.testing.assert_close(
        pair["actor"].net.output.grad, -2 * (torch.tensor([0.0, 1.0]) - torch.tensor([0.25, 0.75]))
    )
    assert pair["critic"].net.output.grad.item() == pytest.approx(-4.0)


def test_the_actors_loss_does_not_move_the_critic():
    pair = learners(optimizer=partial(optim.SGD, lr=1.0))
    prepare(pair)
    losses = ActorCritic().step(pair, rollout([1], [3.0]), {})
    update(pair, {"actor": losses["actor"]})
    assert pair["critic"].net.output.grad is None


def test_a_right_critic_leaves_only_the_entropy():
    losses = ActorCritic(entropy=1.0).step(learners(value=2.0), rollout([0, 1], [2.0, 2.0]), {})
    assert losses["actor"].item() == pytest.approx(-(-0.25 * math.log(0.25) - 0.75 * math.log(0.75)), rel=1e-5)
    assert losses["critic"].item() == 0.0


class Bandit:
    """Two arms; the second pays 1, the first nothing."""

    def __init__(self, actor):
        self.actor, self.rng = actor, torch.Generator().manual_seed(0)

    def __next__(self):
        observation = torch.zeros(32, 3)
        with torch.no_grad():
            policy = self.actor.net(observation).softmax(-1)
        action = torch.multinomial(policy, 1, generator=self.rng).squeeze(-1)
        return {"observation": observation, "action": action, "value_to_come": action.float()}


def test_it_learns_which_arm_pays():
    pair = learners(policy=(0.9, 0.1), value=0.0, optimizer=partial(optim.Adam, lr=0.05))
    fit(ActorCritic(), pair, {"rollout": Bandit(pair["actor"])}, 150, device="cpu")
    assert pair["actor"].net.output.softmax(-1)[1].item() > 0.95
    assert pair["critic"].net.output.item() == pytest.approx(1.0, abs=0.2)
