"""Rollouts as a stream: play some environments with the actor as it is now, give what happened.

Legend: T steps, E environments, N = T * E.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrain.learner import Learner
from cotrain.losses.returns import discounted_returns
from cotrain.randomness import fold, generator
from cotrain.stream import Batch, Stream


class Rollouts(Stream):
    """Each batch plays `horizon` steps in every environment.

    The stream holds the learners that it plays with: the one way back from learners to data. Episodes start from a
    seed addressed by (seed, environment, episode) and actions are drawn by counter, so an environment is put back to
    where it was by playing the present episode's actions again, whatever it is made of; it must be deterministic given
    its seed.

    Args:
        make: makes one environment with gymnasium's `reset(seed=)` and `step(action)`; actions are discrete, an
            observation is one array.
        actor: observation [E, ...] -> logits [E, A].
        critic: observation [E, ...] -> value [E, 1]; values what comes after the last step of a batch.
        environments, horizon: E and T of a batch.
        discount: of the reward, a step, 0..1.
        seed: of the episodes and the actions.

    Batches:
        observation [N, ...] float32, action int64 [N], value_to_come float32 [N].
    """

    def __init__(
        self,
        make: Callable[[], Any],
        actor: Learner,
        critic: Learner,
        environments: int = 8,
        horizon: int = 16,
        discount: float = 0.99,
        seed: int = 0,
    ):
        self.environments = [make() for _ in range(environments)]
        self.actor = actor
        self.critic = critic
        self.horizon = horizon
        self.discount = discount
        self.seed = seed
        self.batches = 0
        self.finished: list[float] = []  # rewards of the last 100 episodes, newest last
        self._episode = [0] * environments
        self._actions: list[list[int]] = [[] for _ in range(environments)]
        self._reward = [0.0] * environments
        self._observation: list[np.ndarray] | None = None

    def _start(self, number: int) -> np.ndarray:
        seed = fold(self.seed, "episode", number, self._episode[number]) % 2**31
        return self.environments[number].reset(seed=seed)[0]

    @torch.no_grad()
    def __next__(self) -> Batch:
        if self._observation is None:
            self._observation = [self._start(number) for number in range(len(self.environments))]
        rng = generator(self.seed, "action", self.batches)
        observations, actions, rewards, ends = [], [], [], []
        for _ in range(self.horizon):
            now = self._observe()
            policy = self.actor.net(now).softmax(-1).cpu()
            action_E = torch.multinomial(policy, 1, generator=rng).squeeze(-1)
            reward, end = self._play(action_E.tolist())
            observations.append(now)
            actions.append(action_E)
            rewards.append(reward)
            ends.append(end)
        last_value_E = self.critic.net(self._observe()).squeeze(-1).cpu()
        returns_TE = discounted_returns(torch.stack(rewards), torch.stack(ends), last_value_E, self.discount)
        self.batches += 1
        return {
            "observation": torch.cat(observations),
            "action": torch.cat(actions),
            "value_to_come": returns_TE.flatten(),
        }

    def _observe(self) -> Tensor:
        assert self._observation is not None
        device = next(self.actor.net.parameters()).device
        return torch.from_numpy(np.stack(self._observation)).float().to(device)

    def _value(self, observation: np.ndarray) -> float:
        device = next(self.critic.net.parameters()).device
        return self.critic.net(torch.from_numpy(observation).float().to(device)[None]).item()

    def _play(self, actions: list[int]) -> tuple[Tensor, Tensor]:
        """One step of every environment; one that ended starts its next episode."""
        assert self._observation is not None
        rewards, ends = torch.zeros(len(actions)), torch.zeros(len(actions))
        for number, action in enumerate(actions):
            observation, reward, terminated, truncated, _ = self.environments[number].step(action)
            self._actions[number].append(action)
            self._reward[number] += float(reward)
            rewards[number] = float(reward)
            if truncated and not terminated:  # cut off, not over: what would have come is the critic's guess
                rewards[number] += self.discount * self._value(observation)
            if terminated or truncated:
                ends[number] = 1.0
                self.finished = [*self.finished[-99:], self._reward[number]]
                self._episode[number] += 1
                self._actions[number], self._reward[number] = [], 0.0
                observation = self._start(number)
            self._observation[number] = observation
        return rewards, ends

    def state(self) -> dict[str, Any]:
        return {
            "batches": self.batches,
            "started": self._observation is not None,
            "episode": list(self._episode),
            "actions": [list(actions) for actions in self._actions],
            "finished": list(self.finished),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.batches = state["batches"]
        self.finished = list(state["finished"])
        self._episode = list(state["episode"])
        self._actions = [[] for _ in self.environments]
        self._reward = [0.0] * len(self.environments)
        self._observation = None
        if not state["started"]:
            return
        self._observation = [self._start(number) for number in range(len(self.environments))]
        for number, actions in enumerate(state["actions"]):
            for action in actions:
                self._observation[number], reward, *_ = self.environments[number].step(action)
                self._reward[number] += float(reward)
            self._actions[number] = list(actions)


def mean_episode_reward(stream: Rollouts) -> float:
    """Mean reward of the last (at most 100) finished episodes; nan if none finished."""
    return float(np.mean(stream.finished)) if stream.finished else float("nan")
