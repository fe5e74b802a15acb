"""ReMixMatch: strong copies learn the label guessed on the weak copy, brought in line with the classes' frequencies.

Source: Berthelot et al. 2020, "ReMixMatch", arXiv:1911.09785, section 3 and Algorithm 1.
Legend: L labelled examples, U unlabelled examples, S strong copies of each, N = L + (S + 1) U, C classes, R turns.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, optim

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.losses import ramps
from cotrain.losses.alignment import align, remember, uniform
from cotrain.losses.consistency import sharpen
from cotrain.losses.mixing import interleaved, mixup_all
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.nets.batch_statistics import statistics_kept
from cotrain.nets.headed import Headed
from cotrain.place import global_mean, over_batch
from cotrain.randomness import Draws
from cotrain.views.copies import Copies, copies, jitter


@dataclass(frozen=True)
class ReMixMatch(Method):
    """A learner and a head for a task without labels, two streams.

    Streams:
        labelled: x [L, ...] float (strongly augmented by the stream's view), y int64 [L] in 0..C-1.
        unlabelled: weak [U, ...]; strong, strong2, ... [U, ...], S strong copies (paper: S = 8); and, unless
            weight_turn is 0, turned [U, ...] with turn int64 [U] in 0..R-1: which of R ways a strong copy was turned.
    Learners:
        model: x -> logits [N, C]; called with features=True, x -> features [N, F].
        turns: features -> logits [N, R]; not needed if weight_turn is 0. Dropped at deployment.

    Raises:
        InputError: a missing field, mixup of inputs that are whole numbers, or a history below 1.
    """

    whole_batch = True

    temperature: float = 0.5  # of the sharpening, 0..1, smaller is sharper; paper: 0.5
    mixup: float = 0.75  # alpha of the mixing, >= 0, 0 mixes nothing; paper: 0.75
    weight: float = 1.5  # of the mixed unlabelled rows, >= 0; paper: 1.5
    weight_strong: float = 0.5  # of the first strong copy, unmixed, >= 0; paper: 0.5
    weight_turn: float = 0.5  # of the task without labels, >= 0, 0 leaves it out; paper: 0.5
    history: int = 128  # batches in the running means of the alignment, > 0; paper: 128
    ramp: int = 16_000  # steps over which the first two weights rise evenly, 0 for none; published code: 16,384

    def __post_init__(self) -> None:
        if self.history < 1:
            raise InputError(f"history is at least 1 batch, not {self.history}.")

    def memory(self, learners: Learners) -> Memory:
        """Means over each of the last batches [history, C], of guesses and of labels; the first step sees C."""
        return {"guessed": torch.empty(self.history, 0), "labelled": torch.empty(self.history, 0)}

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        model, unlabelled = learners["model"], batch["unlabelled"]
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        weak, strong = copies(unlabelled, "weak")[0], copies(unlabelled, "strong")

        with torch.no_grad(), statistics_kept(model.net):
            guess_UC = model(weak).softmax(-1)
        label_LC = F.one_hot(y, guess_UC.shape[-1]).to(guess_UC)
        for name in ("guessed", "labelled"):
            if memory[name].numel() == 0:
                memory[name] = uniform(self.history, guess_UC.shape[-1]).to(guess_UC)
        target_UC = sharpen(align(guess_UC, memory["labelled"].mean(0), memory["guessed"].mean(0)), self.temperature)
        remember(memory["guessed"], global_mean(guess_UC), memory["step"])
        remember(memory["labelled"], global_mean(label_LC), memory["step"])

        anchored = [*strong, weak]
        inputs, targets = [x, *anchored], [label_LC, *[target_UC] * len(anchored)]
        if self.mixup:
            inputs, targets = over_batch(partial(mixup_all, self.mixup, memory["generator"]), inputs, targets)
        inputs_N, target_NC = torch.cat(inputs), torch.cat(targets)
        logits_NC = interleaved(model, inputs_N, batches=len(anchored) + 1)
        supervised = F.cross_entropy(logits_NC[: len(x)], target_NC[: len(x)])
        mixed = F.cross_entropy(logits_NC[len(x) :], target_NC[len(x) :])

        ramp = ramps.linear(memory["step"], self.ramp)
        with statistics_kept(model.net):
            anchor = F.cross_entropy(model(strong[0]), target_UC)
            loss = supervised + ramp * (self.weight * mixed + self.weight_strong * anchor)
            if self.weight_turn == 0:
                return {"model": loss}
            features_UF = model(unlabelled["turned"], features=True)
        turn = F.cross_entropy(learners["turns"](features_UF), unlabelled["turn"])
        return {("model", "turns"): loss + self.weight_turn * turn}

    @classmethod
    def example(cls) -> Example:
        sgd = partial(optim.SGD, lr=0.1)
        body, head, turns = (
            two_layer(seed=seed, features=f, outputs=o) for seed, f, o in ((0, 4, 6), (1, 6, 3), (2, 6, 2))
        )
        learners = {"model": Learner(Headed(body, head), sgd), "turns": Learner(turns, sgd)}
        view = Copies(jitter(0.05), jitter(0.3), strong_copies=2, turn=_reverse)
        streams = {"labelled": labelled_rows(), "unlabelled": unlabelled_rows(view=view)}
        return Example(cls(ramp=2, history=4), learners, streams)


def _reverse(x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    turn = draws.coin(0.5)
    return torch.where(turn[:, None], x.flip(1), x), turn.long()
