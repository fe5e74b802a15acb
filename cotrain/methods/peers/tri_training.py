"""Tri-training by gradient steps: each of three learners is taught the labels on which the two others agree.

Source: Zhou & Li 2005, "Tri-training: exploiting unlabeled data using three classifiers", IEEE TKDE 17(11), the rule of
agreement; with `disagreement`, Soegaard 2010, "Simple semi-supervised training of part-of-speech taggers", ACL.
Legend: L labelled examples, U unlabelled examples, C classes.
"""

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import optim

from cotrain.errors import InputError
from cotrain.exchange import post, without
from cotrain.learner import Learner
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.report import note
from cotrain.stack import each


@dataclass(frozen=True)
class TriTraining(Method):
    """Three learners, a labelled stream each and one unlabelled stream.

    Streams:
        one for each learner, by the learner's role: x [L, ...], y int64 [L]. Give them different rows or seeds: the
            three must differ to teach each other, as the bootstraps of the paper make them.
        unlabelled: weak [U, ...].
    Learners:
        three roles: x -> logits [*, C]. All learn.

    Raises:
        InputError: not three learners.
    """

    spreads = True

    weight: float = 1.0  # of the taught labels per labelled cross-entropy, >= 0
    disagreement: bool = False  # teach only where the learner itself says otherwise

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        x = batch["unlabelled"]["weak"]
        logits = {name: learner(x) for name, learner in learners.items()}
        label = post({name: logits_UC.detach().argmax(-1) for name, logits_UC in logits.items()})
        if len(label) != 3:
            raise InputError(f"Tri-training takes three learners, not {len(label)}: {', '.join(label)}.")
        labelled = each(learners, {name: batch[name]["x"] for name in learners})
        losses = {}
        for name in learners:
            one_U, two_U = without(label, name).values()
            taught_U = (one_U == two_U) & ((one_U != label[name]) | (not self.disagreement))
            note(f"taught {name}", taught_U.float().mean())
            unlabelled = F.cross_entropy(logits[name], one_U, reduction="none") * taught_U
            losses[name] = F.cross_entropy(labelled[name], batch[name]["y"]) + self.weight * unlabelled.mean()
        return losses

    @classmethod
    def example(cls) -> Example:
        sgd = partial(optim.SGD, lr=0.1)
        names = ("one", "two", "three")
        learners = {name: Learner(two_layer(seed=seed), sgd) for seed, name in enumerate(names)}
        streams = {name: labelled_rows(seed=seed, name=name) for seed, name in enumerate(names)}
        return Example(cls(), learners, {**streams, "unlabelled": unlabelled_rows()})
