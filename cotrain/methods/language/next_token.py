"""Next-token prediction: a language model trained on text alone; what methods for language models start from.

Source: Bengio et al. 2003, "A neural probabilistic language model", JMLR 3, section 2.
Legend: N sequences, T positions, V ids in the vocabulary.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.nets.transformer import Decoder
from cotrain.stream import Rows


@dataclass(frozen=True)
class NextToken(Method):
    """One learner, one stream.

    Streams:
        text: ids int64 [N, T + 1]: each id but the last is an input, each but the first a target.
    Learners:
        model: ids [N, T] -> logits [N, T, V].

    The loss is the mean over all targets, in nats.
    """

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        ids = batch["text"]["ids"]
        logits_NTV = learners["model"](ids[:, :-1])
        return {"model": F.cross_entropy(logits_NTV.flatten(0, 1), ids[:, 1:].flatten())}

    @classmethod
    def example(cls) -> Example:
        vocabulary, length = 5, 6
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            net = Decoder(vocabulary, width=8, layers=1, heads=2, context=length)
        # Every sequence counts upwards in steps of its own.
        start_N, step_N = torch.arange(40) % vocabulary, torch.arange(40) // vocabulary % vocabulary
        ids = (start_N[:, None] + step_N[:, None] * torch.arange(length + 1)) % vocabulary
        return Example(
            cls(), {"model": Learner(net, partial(optim.SGD, lr=0.1))}, {"text": Rows({"ids": ids}, batch=8)}
        )
