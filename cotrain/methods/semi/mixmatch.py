"""MixMatch: guess one sharp label for several copies of an example, then mix all labelled and unlabelled rows.

Source: Berthelot et al. 2019, "MixMatch", arXiv:1905.02249, Eq. 2-11 and Algorithm 1.
Legend: L labelled examples, U unlabelled examples, K copies of each, N = L + K U, C classes.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner
from cotrain.losses import ramps
from cotrain.losses.consistency import sharpen
from cotrain.losses.mixing import interleaved, mixup_all
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.nets.batch_statistics import statistics_kept
from cotrain.place import over_batch
from cotrain.report import note
from cotrain.views.copies import Copies, copies, jitter


@dataclass(frozen=True)
class MixMatch(Method):
    """One learner, two streams.

    Streams:
        labelled: x [L, ...] float (weakly augmented by the stream's view), y int64 [L] in 0..C-1.
        unlabelled: weak, weak2, ... [U, ...], K copies of the same examples (`cotrain.views.copies`); paper: K = 2.
    Learners:
        model: x -> logits [N, C].

    Raises:
        InputError: no field `weak`, or mixup of inputs that are whole numbers.
    """

    whole_batch = True

    temperature: float = 0.5  # of the sharpening, 0..1, smaller is sharper; paper: 0.5
    mixup: float = 0.75  # alpha of the mixing, >= 0, 0 mixes nothing; paper: 0.75
    weight: float = 75.0  # of the unlabelled loss per labelled loss, >= 0; paper: 75 on CIFAR-10, 250 on SVHN
    ramp: int = 16_000  # steps over which the weight rises evenly, 0 for none; paper: 16,000
    divergence: Literal["squared error", "cross-entropy"] = (
        "squared error"  # of the unlabelled rows; paper: squared error
    )

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        model = learners["model"]
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        weak = copies(batch["unlabelled"], "weak")

        with torch.no_grad(), statistics_kept(model.net):
            guess_UC = torch.stack([model(copy).softmax(-1) for copy in weak]).mean(0)
            target_UC = sharpen(guess_UC, self.temperature)
        note("confidence", target_UC.amax(-1).mean())

        inputs, targets = [x, *weak], [F.one_hot(y, guess_UC.shape[-1]).to(target_UC), *[target_UC] * len(weak)]
        if self.mixup:
            inputs, targets = over_batch(partial(mixup_all, self.mixup, memory["generator"]), inputs, targets)
        inputs_N, target_NC = torch.cat(inputs), torch.cat(targets)

        logits_NC = interleaved(model, inputs_N, batches=len(weak) + 1)
        supervised = F.cross_entropy(logits_NC[: len(x)], target_NC[: len(x)])
        logits_VC, target_VC = logits_NC[len(x) :], target_NC[len(x) :]
        if self.divergence == "squared error":  # bounded, and blind to a constant added to all logits
            unlabelled = (logits_VC.softmax(-1) - target_VC).square().mean(-1).sum()
        else:
            unlabelled = F.cross_entropy(logits_VC, target_VC, reduction="sum")
        weight = self.weight * ramps.linear(memory["step"], self.ramp)
        return {"model": supervised + weight * unlabelled / max(1, len(logits_VC))}

    @classmethod
    def example(cls) -> Example:
        learners = {"model": Learner(two_layer(), partial(optim.SGD, lr=0.1))}
        streams = {"labelled": labelled_rows(), "unlabelled": unlabelled_rows(view=Copies(jitter(0.1), weak_copies=2))}
        return Example(cls(weight=5.0, ramp=2), learners, streams)
