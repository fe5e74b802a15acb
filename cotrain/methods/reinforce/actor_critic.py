"""Advantage actor-critic: the actor learns what went better than the critic thought, the critic learns what came.

Source: Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", arXiv:1602.01783, section 4 and
Algorithm S3, with environments stepped together instead of asynchronously.
Legend: N steps of all environments together, A actions.
"""

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner
from cotrain.losses.agreement import entropy_of_logits
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import FEATURES, labelled_rows, two_layer
from cotrain.report import note


@dataclass(frozen=True)
class ActorCritic(Method):
    """Two learners, one stream that plays.

    Streams:
        rollout: observation [N, ...], action int64 [N], value_to_come [N] (`cotrain.data.rollouts`).
    Learners:
        actor: observation -> logits [N, A]; critic: observation -> value [N, 1].
    """

    entropy: float = 0.01  # weight of the actor's entropy in nats, >= 0; paper: 0.01

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        rollout = batch["rollout"]
        value_N = learners["critic"](rollout["observation"]).squeeze(-1)
        logits_NA = learners["actor"](rollout["observation"])
        advantage_N = rollout["value_to_come"] - value_N.detach()
        taken_N = logits_NA.log_softmax(-1).gather(-1, rollout["action"][:, None]).squeeze(-1)
        unsure = entropy_of_logits(logits_NA).mean()
        note("entropy", unsure)
        return {
            "actor": -(taken_N * advantage_N).mean() - self.entropy * unsure,
            "critic": F.mse_loss(value_N, rollout["value_to_come"]),
        }

    @classmethod
    def example(cls) -> Example:
        def as_rollout(batch, draws):
            return {"observation": batch["x"], "action": batch["y"] % 2, "value_to_come": batch["y"].float()}

        adam = partial(optim.Adam, lr=1e-2)
        learners = {
            "actor": Learner(two_layer(outputs=2, features=FEATURES, seed=1), adam),
            "critic": Learner(two_layer(outputs=1, features=FEATURES, seed=2), adam),
        }
        return Example(cls(), learners, {"rollout": labelled_rows(view=as_rollout)})
