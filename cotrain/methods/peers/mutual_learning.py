"""Mutual distillation of a large and a small learner: both learn from the labels and from each other.

Source: Zhang et al. 2018, "Deep Mutual Learning", arXiv:1706.00384, Eq. 5-6 and Algorithm 1.
Legend: L labelled examples, C classes.
"""

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import optim

from cotrain.exchange import post, without
from cotrain.exchanges.mutual_distillation import MutualDistillation
from cotrain.learner import Learner
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer


@dataclass(frozen=True)
class MutualLearning(Method):
    """Any number of learners (two in the usual case, of any sizes), one stream.

    Streams:
        labelled: x [L, ...], y int64 [L] in 0..C-1.
    Learners:
        any roles: x -> logits [L, C]. All learn.

    The paper updates the learners in turn within one batch; here all losses are taken at the same weights.
    """

    spreads = True

    weight: float = 1.0  # of the exchange per cross-entropy, >= 0; paper: 1
    temperature: float = 1.0  # of what they tell each other, > 0; paper: 1

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        exchange = MutualDistillation(self.temperature, self.weight)
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        outputs = {name: learner(x) for name, learner in learners.items()}
        mail = post({name: exchange.message(logits_LC) for name, logits_LC in outputs.items()})
        return {
            name: F.cross_entropy(logits_LC, y) + exchange.loss(logits_LC, without(mail, name))
            for name, logits_LC in outputs.items()
        }

    @classmethod
    def example(cls) -> Example:
        sgd = partial(optim.SGD, lr=0.1)
        learners = {"large": Learner(two_layer(hidden=16, seed=1), sgd), "small": Learner(two_layer(seed=2), sgd)}
        return Example(cls(temperature=2.0), learners, {"labelled": labelled_rows()})
