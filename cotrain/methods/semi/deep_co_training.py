"""Deep Co-Training: two nets agree on unlabelled examples, and each withstands the attacks that fool the other.

Source: Qiao et al. 2018, "Deep Co-Training for Semi-Supervised Image Recognition", arXiv:1803.05984, Eq. 1-9; for audio
and with mixup: Cances et al. 2022, doi:10.1186/s13636-022-00255-6.
Legend: L labelled examples of each net, U unlabelled examples, N = L + U, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, optim

from cotrain.learner import Learner
from cotrain.losses import ramps
from cotrain.losses.agreement import jensen_shannon_of_logits, soft_cross_entropy
from cotrain.losses.mixing import mixup
from cotrain.losses.perturbation import fast_gradient_sign, watched
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.place import gather, over_batch, share
from cotrain.report import note


@dataclass(frozen=True)
class DeepCoTraining(Method):
    """Two learners of one shape and different first weights, three streams.

    Streams:
        labelled, labelled_two: x [L, ...] float, y int64 [L] in 0..C-1; the same rows in two independent orders, the
            first for `one`, the second for `two`.
        unlabelled: weak [U, ...] float, for both.
    Learners:
        one, two: x -> logits [N, C].

    Raises:
        InputError: inputs that are whole numbers; embed them first.
    """

    weight_agreement: float = 1.0  # >= 0; Cances et al.: 1, Qiao et al.: 10
    weight_difference: float = 0.5  # >= 0; paper: 0.5
    epsilon: float = 0.02  # size of the attack on each entry of x, in the units of x, >= 0; paper: 0.02
    ramp: int = 40_000  # steps over which both weights rise as exp(-5 (1 - t)^2), 0 for none; paper: 80 of 600 epochs
    detach_target: bool = False  # True: what a net must keep to under attack sends it no gradient; published: False
    mixup: float = 0.0  # alpha of the mixing of each stream with itself, >= 0, 0 mixes nothing; Cances et al.: 0.75

    @property
    def whole_batch(self) -> bool:
        return self.mixup > 0

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        unlabelled = batch["unlabelled"]["weak"]
        if self.mixup:
            (unlabelled,) = over_batch(partial(mixup, self.mixup, memory["generator"]), unlabelled)
        one, two = learners["one"], learners["two"]
        loss_one, logits_one_NC, attack_one = self._learn(one, batch["labelled"], unlabelled, memory)
        loss_two, logits_two_NC, attack_two = self._learn(two, batch["labelled_two"], unlabelled, memory)

        agreement = jensen_shannon_of_logits(logits_one_NC[-len(unlabelled) :], logits_two_NC[-len(unlabelled) :])
        # Across: what fools one is shown to two, which is to say what one said of the rows before they were moved.
        difference = self._withstand(two, attack_one, logits_one_NC) + self._withstand(one, attack_two, logits_two_NC)
        note("agreement", agreement)
        note("difference", difference)
        ramp = ramps.sigmoid(memory["step"], self.ramp)
        joint = self.weight_agreement * agreement + self.weight_difference * difference
        return {("one", "two"): loss_one + loss_two + ramp * joint}

    def _learn(
        self, net: Learner, rows: Mapping[str, Tensor], unlabelled: Tensor, memory: Memory
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The net's supervised loss, its logits [N, C] on labelled and unlabelled rows, these rows moved against it."""
        x, y = rows["x"], rows["y"]
        whole = len(gather(y))
        share_LL = share(torch.eye(whole, device=x.device))  # of each labelled example of the batch in each row
        if self.mixup:
            x, share_LL = over_batch(partial(mixup, self.mixup, memory["generator"]), x, share_LL)
        inputs = watched(torch.cat([x, unlabelled]))
        logits_NC = net(inputs)
        logits_LC, logits_UC = logits_NC.split([len(x), len(unlabelled)])
        loss = F.cross_entropy(logits_LC, share_LL @ F.one_hot(gather(y), logits_LC.shape[-1]).to(share_LL))
        attack = fast_gradient_sign(inputs, logits_NC, torch.cat([y, logits_UC.argmax(-1)]), self.epsilon)
        return loss, logits_NC, attack

    def _withstand(self, net: Learner, attack: Tensor, other_NC: Tensor) -> Tensor:
        """Cross-entropy of the net under an attack on the other net, to what the other said before it."""
        target_NC = other_NC.softmax(-1)
        return soft_cross_entropy(net(attack), target_NC.detach() if self.detach_target else target_NC)

    @classmethod
    def example(cls) -> Example:
        sgd = partial(optim.SGD, lr=0.1)
        learners = {name: Learner(two_layer(seed=seed), sgd) for seed, name in enumerate(("one", "two"))}
        streams = {
            "labelled": labelled_rows(),
            "labelled_two": labelled_rows(name="labelled_two"),
            "unlabelled": unlabelled_rows(),
        }
        return Example(cls(epsilon=0.1, ramp=2, mixup=0.75), learners, streams)
