"""Supervised training, plain or with mixup: what every method with unlabelled rows has to beat.

Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412, section 2.
Legend: L labelled examples, C classes.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner
from cotrain.losses.mixing import mixup
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer
from cotrain.place import gather, over_batch, share


@dataclass(frozen=True)
class Supervised(Method):
    """One learner, one stream.

    Streams:
        labelled: x [L, ...], y int64 [L] in 0..C-1.
    Learners:
        model: x -> logits [L, C].

    Raises:
        InputError: mixup of inputs that are whole numbers.
    """

    mixup: float = 0.0  # alpha of the mixing of labelled rows, >= 0, 0 mixes nothing; paper: 0.1 to 0.4 on images

    @property
    def whole_batch(self) -> bool:
        return self.mixup > 0

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        if not self.mixup:
            return {"model": F.cross_entropy(learners["model"](x), y)}
        y = gather(y)
        share_LL = share(torch.eye(len(y), device=x.device))  # of each example of the batch in each row
        x, share_LL = over_batch(partial(mixup, self.mixup, memory["generator"]), x, share_LL)
        logits_LC = learners["model"](x)
        return {"model": F.cross_entropy(logits_LC, share_LL @ F.one_hot(y, logits_LC.shape[-1]).to(share_LL))}

    @classmethod
    def example(cls) -> Example:
        learners = {"model": Learner(two_layer(), partial(optim.SGD, lr=0.1))}
        return Example(cls(mixup=0.4), learners, {"labelled": labelled_rows()})
