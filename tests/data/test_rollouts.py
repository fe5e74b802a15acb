"""Rollouts on a small deterministic world: what is played, what it is worth, and that it resumes."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn, optim

from cotrain.data.rollouts import Rollouts, mean_episode_reward
from cotrain.engine import fit
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.methods.reinforce.actor_critic import ActorCritic


class Walk:
    """A walk on the line from a seeded start: action 1 goes right, 0 left; ends beyond 2, cut off after `limit` steps.

    The observation is (place, steps); each step pays the place reached.
    """

    def __init__(self, limit=6):
        self.limit = limit

    def reset(self, seed):
        self.place, self.steps = seed % 3 - 1, 0
        return self.observation(), {}

    def observation(self):
        return np.array([self.place, self.steps], dtype=np.float64)

    def step(self, action):
        self.place += 1 if action == 1 else -1
        self.steps += 1
        ended = abs(self.place) > 2
        return self.observation(), float(self.place), ended, not ended and self.steps >= self.limit, {}


class Policy(nn.Module):
    """Always the same logits, with dropout on top when asked: noise that a resumed stream must draw again."""

    def __init__(self, logits, dropout=0.0):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.dropout = nn.Dropout(dropout)

    def forward(self, observation):
        return self.dropout(self.logits.expand(len(observation), -1))


class Place(nn.Module):
    """Values an observation at 10 times its place."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(10.0))

    def forward(self, observation):
        return self.factor * observation[:, :1]


def stream(policy=(0.0, 0.0), dropout=0.0, **options):
    settings = {"environments": 3, "horizon": 5, "discount": 0.5, "seed": 4, **options}
    return Rollouts(Walk, Learner(Policy(list(policy), dropout)), Learner(Place()), **settings)


def test_shapes_and_types():
    batch = next(stream())
    assert batch["observation"].shape == (15, 2)
    assert batch["observation"].dtype == torch.float32
    assert batch["action"].shape == batch["value_to_come"].shape == (15,)
    assert batch["action"].dtype == torch.int64


def test_what_was_played_is_what_the_world_does():
    rollouts = stream(environments=1, horizon=30)
    batch = next(rollouts)
    for t in range(29):
        place, steps = batch["observation"][t].tolist()
        following = place + (1 if batch["action"][t] == 1 else -1)
        over = abs(following) > 2 or steps + 1 >= 6
        assert batch["observation"][t + 1].tolist()[1] == (0 if over else steps + 1)
        if not over:
            assert batch["observation"][t + 1, 0].item() == following


def test_values_by_hand():
    """Always right: from a start s the places are s+1, s+2, ... and the episode ends with 3."""
    batch = next(stream(policy=(-50.0, 50.0), environments=1, horizon=2))
    start = batch["observation"][0, 0].item()
    one, two = start + 1, start + 2
    if two > 2:  # ended: nothing comes after it
        expected = [one + 0.5 * two, two]
    else:  # the critic values the place reached at 10 * two
        expected = [one + 0.5 * (two + 0.5 * 10 * two), two + 0.5 * 10 * two]
    assert batch["value_to_come"].tolist() == expected


def test_an_episode_that_is_cut_off_is_valued_by_the_critic():
    def short():
        return Walk(limit=1)

    rollouts = Rollouts(short, Learner(Policy([-50.0, 50.0])), Learner(Place()), 1, horizon=1, discount=0.5, seed=2)
    for _ in range(3):
        batch = next(rollouts)
        reached = batch["observation"][0, 0].item() + 1
        assert batch["value_to_come"].item() == pytest.approx(reached + 0.5 * 10 * reached)


def test_finished_rewards():
    rollouts = stream(policy=(-50.0, 50.0), environments=1, horizon=40)
    assert np.isnan(mean_episode_reward(rollouts))
    next(rollouts)
    sums = {-1: 0 + 1 + 2 + 3, 0: 1 + 2 + 3, 1: 2 + 3}  # by start
    assert set(rollouts.finished) <= set(sums.values())
    assert mean_episode_reward(rollouts) == np.mean(rollouts.finished)


def test_only_the_last_hundred_episodes_count():
    rollouts = stream(environments=4, horizon=400)
    next(rollouts)
    assert len(rollouts.finished) == 100


@pytest.mark.parametrize("batches", [0, 1, 7])
def test_a_loaded_stream_goes_on_where_it_stood(batches):
    straight, resumed = stream(), stream()
    for _ in range(batches):
        next(straight)
    resumed.load(straight.state())
    for _ in range(6):
        one, two = next(straight), next(resumed)
        assert all(torch.equal(one[field], two[field]) for field in one)
    assert straight.finished == resumed.finished
    assert straight.state() == resumed.state()


@pytest.mark.parametrize("batches", [0, 2])
def test_another_streams_state_is_refused(batches):
    played = stream()
    for _ in range(batches):
        next(played)
    with pytest.raises(InputError, match="environments=3, now 4, seed=4, now 5"):
        stream(environments=4, seed=5).load(played.state())
    older = {name: value for name, value in played.state().items() if name != "seed"}
    stream(seed=5).load(older)  # from before the seed was saved
    with pytest.raises(InputError, match="environments=3, now 2"):
        stream(environments=2).load(older)


def test_seeds_play_different_games():
    assert not torch.equal(next(stream(seed=1))["action"], next(stream(seed=2))["action"])


def test_training_on_rollouts_resumes_bit_for_bit(tmp_path):
    def train(steps, out=None):
        torch.manual_seed(0)
        adamw = partial(optim.AdamW, lr=0.02)
        actor = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 2))
        learners = {"actor": Learner(actor, adamw), "critic": Learner(nn.Linear(2, 1), adamw)}
        rollout = Rollouts(Walk, learners["actor"], learners["critic"], environments=2, horizon=4, seed=1)
        fit(ActorCritic(), learners, {"rollout": rollout}, steps, out=out, save_every=3)
        return [p for learner in learners.values() for p in learner.net.parameters()], rollout.finished

    straight, played = train(11)
    train(7, tmp_path)
    resumed, again = train(11, tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(straight, resumed, strict=True))
    assert played == again


def test_cartpole_resumes():
    gymnasium = pytest.importorskip("gymnasium")

    def make():
        torch.manual_seed(0)
        actor, critic = Learner(nn.Linear(4, 2)), Learner(nn.Linear(4, 1))
        return Rollouts(lambda: gymnasium.make("CartPole-v1"), actor, critic, environments=2, horizon=30)

    straight, resumed = make(), make()
    for _ in range(3):
        next(straight)
    resumed.load(straight.state())
    one, two = next(straight), next(resumed)
    assert all(torch.equal(one[field], two[field]) for field in one)
