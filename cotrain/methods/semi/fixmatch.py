"""FixMatch: the strong view of an example learns the label that its weak view is sure of.

Source: Sohn et al. 2020, "FixMatch", arXiv:2001.07685, Eq. 3-4 and Algorithm 1; with mixup: Cances et al. 2022,
"Comparison of semi-supervised deep learning algorithms for audio classification", doi:10.1186/s13636-022-00255-6.
Legend: L labelled examples, U unlabelled examples, C classes.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner
from cotrain.losses.consistency import confident_label
from cotrain.losses.mixing import mixup_across
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.place import over_batch
from cotrain.report import note


@dataclass(frozen=True)
class FixMatch(Method):
    """One learner, two streams.

    Streams:
        labelled: x [L, ...] float (weakly augmented by the stream's view), y int64 [L] in 0..C-1.
        unlabelled: weak [U, ...] and strong [U, ...], two copies of the same examples (`cotrain.views.copies`).
    Learners:
        model: x -> logits [N, C].

    Raises:
        InputError: mixup of inputs that are whole numbers.
    """

    threshold: float = 0.95  # least probability at which a guess is used, 0..1; paper: 0.95
    weight: float = 1.0  # of the unlabelled loss per labelled loss, >= 0; paper: 1
    mixup: float = 0.0  # alpha of the mixing of labelled with strong rows, >= 0, 0 mixes nothing; Cances et al.: 0.75
    mixed_labels: bool = False  # mix the labels as the inputs; else a mixture has its first row's label, as published

    @property
    def whole_batch(self) -> bool:
        return self.mixup > 0

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        model = learners["model"]
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        weak, strong = batch["unlabelled"]["weak"], batch["unlabelled"]["strong"]

        with torch.no_grad():
            logits_UC = model(weak)
            label_U, kept_U = confident_label(logits_UC, self.threshold)
        note("kept", kept_U.mean())
        target_LC, target_UC = (F.one_hot(label, logits_UC.shape[-1]).float() for label in (y, label_U))

        if self.mixup:
            mixing = partial(mixup_across, self.mixup, memory["generator"])
            (x, mixed_LC), (strong, mixed_UC) = over_batch(mixing, (x, target_LC), (strong, target_UC))
            if self.mixed_labels:
                target_LC, target_UC = mixed_LC, mixed_UC

        # One call for both, so that batch normalization sees labelled and unlabelled rows together.
        logits_LC, logits_UC = model(torch.cat([x, strong])).split([len(x), len(strong)])
        supervised = F.cross_entropy(logits_LC, target_LC)
        # Eq. 4 divides by U, not by the number kept: the gradient grows as more is kept.
        consistency = (F.cross_entropy(logits_UC, target_UC, reduction="none") * kept_U).mean()
        return {"model": supervised + self.weight * consistency}

    @classmethod
    def example(cls) -> Example:
        learners = {"model": Learner(two_layer(), partial(optim.SGD, lr=0.1))}
        streams = {"labelled": labelled_rows(), "unlabelled": unlabelled_rows()}
        return Example(cls(threshold=0.4, mixup=0.75), learners, streams)
