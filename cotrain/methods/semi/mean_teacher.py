"""Mean Teacher: a learner agrees with the running mean of its own weights on another copy of each example.

Source: Tarvainen & Valpola 2017, "Mean teachers are better role models", arXiv:1703.01780, section 2; with mixup:
Cances et al. 2022, doi:10.1186/s13636-022-00255-6.
Legend: L labelled examples, U unlabelled examples, C classes.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner, follow
from cotrain.losses import ramps
from cotrain.losses.mixing import mixup_across
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.place import over_batch
from cotrain.report import note
from cotrain.views.copies import Copies, jitter


@dataclass(frozen=True)
class MeanTeacher(Method):
    """A learner and its follower, two streams. Judge and deploy the teacher.

    Streams:
        labelled: x [L, ...], y int64 [L] in 0..C-1.
        unlabelled: weak [U, ...] for the learner and weak2 [U, ...] for the teacher, copies of the same examples.
    Learners:
        model: x -> logits [N, C].
        teacher: `follow("model", decay)`; the paper's decay is 0.999.

    Raises:
        InputError: mixup of inputs that are whole numbers.
    """

    weight: float = 1.0  # of the agreement per labelled loss, >= 0; Cances et al.: 1, Tarvainen & Valpola: 100
    ramp: int = 40_000  # steps over which the weight rises as exp(-5 (1 - t)^2), 0 for none; paper: 40,000 on CIFAR-10
    mixup: float = (
        0.0  # alpha of the mixing of labelled with unlabelled rows, >= 0, 0 mixes nothing; Cances et al.: 0.75
    )

    @property
    def whole_batch(self) -> bool:
        return self.mixup > 0

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        weak, weak2 = batch["unlabelled"]["weak"], batch["unlabelled"]["weak2"]

        with torch.no_grad():
            target_UC = learners["teacher"](weak2).softmax(-1)
        target_LC = F.one_hot(y, target_UC.shape[-1]).float()
        if self.mixup:
            mixing = partial(mixup_across, self.mixup, memory["generator"])
            (x, target_LC), (weak, target_UC) = over_batch(mixing, (x, target_LC), (weak, target_UC))

        logits_LC, logits_UC = learners["model"](torch.cat([x, weak])).split([len(x), len(weak)])
        agreement = F.mse_loss(logits_UC.softmax(-1), target_UC)  # mean over examples and classes
        note("agreement", agreement)
        weight = self.weight * ramps.sigmoid(memory["step"], self.ramp)
        return {"model": F.cross_entropy(logits_LC, target_LC) + weight * agreement}

    @classmethod
    def example(cls) -> Example:
        learners = {"model": Learner(two_layer(), partial(optim.SGD, lr=0.1)), "teacher": follow("model", 0.9)}
        streams = {"labelled": labelled_rows(), "unlabelled": unlabelled_rows(view=Copies(jitter(0.1), weak_copies=2))}
        return Example(cls(ramp=2, mixup=0.75), learners, streams)
