"""Rollouts as a stream: play some environments with the actor as it is now, give what happened.

Legend: T steps, E environments, N = T * E.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrain import place
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.losses.returns import discounted_returns
from cotrain.randomness import Draws, fold
from cotrain.stream import Batch, Stream, check_saved


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
        self.make = make
        self.numbers = list(range(environments))  # of the environments that are played here
        self.environments = [make() for _ in self.numbers]
        self.actor = actor
        self.critic = critic
        self.horizon = horizon
        self.discount = discount
        self.seed = seed
        self.batches = 0
        self._finished: list[tuple[int, float]] = []  # (environment, reward) of the last 100 episodes, newest last
        self._all: int | None = None  # environments of all ranks, once they are split
        self._forget()

    @property
    def finished(self) -> list[float]:
        """Rewards of the last (at most 100) episodes that ended here, newest last."""
        return [reward for _, reward in self._finished]

    def split(self, rank: int, ranks: int) -> None:
        """Play the rank's share of the environments only; each goes on as it would on one process.

        Raises:
            InputError: the ranks do not divide the environments.
        """
        count = self._count()
        if self._all is not None and self.numbers == list(range(rank * count // ranks, (rank + 1) * count // ranks)):
            return  # a further round of training
        if count % ranks:
            raise InputError(f"{ranks} ranks do not divide {count} environments.")
        if self._observation is not None:
            raise InputError("Rollouts that have begun to play cannot be split over ranks.")
        self._all = count
        self.numbers = list(range(rank * count // ranks, (rank + 1) * count // ranks))
        self.environments = [self.make() for _ in self.numbers]
        self._forget()

    def _count(self) -> int:
        """Environments of all ranks."""
        return len(self.numbers) if self._all is None else self._all

    def _forget(self) -> None:
        """No environment has played yet."""
        self._episode = [0] * len(self.numbers)
        self._actions: list[list[int]] = [[] for _ in self.numbers]
        self._reward = [0.0] * len(self.numbers)
        self._observation: list[np.ndarray] | None = None

    def _start(self, here: int) -> np.ndarray:
        seed = fold(self.seed, "episode", self.numbers[here], self._episode[here]) % 2**31
        return self.environments[here].reset(seed=seed)[0]

    @torch.no_grad()
    def __next__(self) -> Batch:
        if self._observation is None:
            self._observation = [self._start(number) for number in range(len(self.environments))]
        draws = Draws(torch.tensor(self.numbers), torch.full((len(self.numbers),), self.batches), self.seed, "action")
        observations, actions, rewards, ends = [], [], [], []
        cut: list[tuple[int, int, np.ndarray]] = []  # (step, environment, last observation) of episodes cut off
        for step in range(self.horizon):
            now = self._observe()
            policy = self.actor.net(now).softmax(-1).cpu()
            # An environment's draws are its own, wherever it is played: the first action whose share reaches the draw.
            action_E = (policy.cumsum(-1) < draws.uniform()[:, None] * policy.sum(-1, keepdim=True)).sum(-1)
            action_E = action_E.clamp(max=policy.shape[-1] - 1)
            reward, end = self._play(action_E.tolist(), step, cut)
            observations.append(now)
            actions.append(action_E)
            rewards.append(reward)
            ends.append(end)
        # What would have come after a cut is the critic's guess. It is asked once, on every rank: it may be sharded.
        last = self._tensor([*self._observation, *(observation for *_, observation in cut)])
        value = self.critic.net(last).squeeze(-1).cpu()
        for (step, number, _), guess in zip(cut, value[len(self.numbers) :], strict=True):
            rewards[step][number] += self.discount * guess
        last_value_E = value[: len(self.numbers)]
        returns_TE = discounted_returns(torch.stack(rewards), torch.stack(ends), last_value_E, self.discount)
        self.batches += 1
        return {
            "observation": torch.cat(observations),
            "action": torch.cat(actions),
            "value_to_come": returns_TE.flatten(),
        }

    def _observe(self) -> Tensor:
        assert self._observation is not None
        return self._tensor(self._observation)

    def _tensor(self, observations: list[np.ndarray]) -> Tensor:
        device = next(self.actor.net.parameters()).device
        return torch.from_numpy(np.stack(observations)).float().to(device)

    def _play(self, actions: list[int], step: int, cut: list[tuple[int, int, np.ndarray]]) -> tuple[Tensor, Tensor]:
        """One step of every environment; one that ended starts its next episode, one cut off, not over, is noted."""
        assert self._observation is not None
        rewards, ends = torch.zeros(len(actions)), torch.zeros(len(actions))
        for number, action in enumerate(actions):
            observation, reward, terminated, truncated, _ = self.environments[number].step(action)
            self._actions[number].append(action)
            self._reward[number] += float(reward)
            rewards[number] = float(reward)
            if truncated and not terminated:
                cut.append((step, number, observation))
            if terminated or truncated:
                ends[number] = 1.0
                self._finished = [*self._finished[-99:], (self.numbers[number], self._reward[number])]
                self._episode[number] += 1
                self._actions[number], self._reward[number] = [], 0.0
                observation = self._start(number)
            self._observation[number] = observation
        return rewards, ends

    def state(self) -> dict[str, Any]:
        """Of the environments of all ranks; every rank asks for it at the same time."""
        own: dict[str, list[Any]] = {
            "episode": list(self._episode),
            "actions": [list(actions) for actions in self._actions],
            "finished": [list(ended) for ended in self._finished],
        }
        told = [own] if self._all is None else place.along_data(own)
        return {
            "batches": self.batches,
            "seed": self.seed,
            "started": self._observation is not None,
            **{name: [value for one in told for value in one[name]] for name in own},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Raises InputError if the number of environments or the seed differ: other episodes would be played."""
        played = {**state, "environments": len(state["episode"])}
        check_saved(played, environments=self._count(), seed=self.seed)
        self.batches = state["batches"]
        self._finished = [(number, reward) for number, reward in state["finished"] if number in self.numbers]
        self._forget()
        if not state["started"]:
            return
        self._episode = [state["episode"][number] for number in self.numbers]
        self._observation = [self._start(here) for here in range(len(self.numbers))]
        for here, number in enumerate(self.numbers):
            for action in state["actions"][number]:
                self._observation[here], reward, *_ = self.environments[here].step(action)
                self._reward[here] += float(reward)
            self._actions[here] = list(state["actions"][number])


def mean_episode_reward(stream: Rollouts) -> float:
    """Mean reward of the last (at most 100) finished episodes; nan if none finished."""
    return float(np.mean(stream.finished)) if stream.finished else float("nan")
