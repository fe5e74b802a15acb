"""CycleGAN: two generators translate between two domains without pairs, held by two critics and by the way back.

Source: Zhu, Park, Isola & Efros 2017, arXiv:1703.10593, Eq. 1-3, section 4 (least squares, halved critic loss) and
section 5.2 (identity loss). The critics see what the generators make now, not the paper's buffer of 50 earlier images.
Legend: A examples of domain a, B examples of domain b.
"""

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import optim

from cotrain.learner import Learner
from cotrain.losses.adversarial import least_squares
from cotrain.method import Batches, Example, Learners, Losses, Memory, Method
from cotrain.methods.examples import FEATURES, labelled_rows, two_layer


@dataclass(frozen=True)
class CycleGAN(Method):
    """Four learners, two streams.

    Streams:
        a: x [A, ...]; b: x [B, ...]; unpaired.
    Learners:
        a_to_b, b_to_a: x -> an example of the other domain, same shape.
        critic_a, critic_b: x -> scores of any shape (one a patch in the paper).
    """

    cycle: float = 10.0  # weight of the way there and back, per adversarial loss; paper: 10
    identity: float = 5.0  # weight of leaving the own domain alone; paper: 0.5 * cycle where it is used

    def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
        a_to_b, b_to_a = learners["a_to_b"], learners["b_to_a"]
        critic_a, critic_b = learners["critic_a"], learners["critic_b"]
        a, b = batch["a"]["x"], batch["b"]["x"]
        made_b, made_a = a_to_b(a), b_to_a(b)
        generators = (
            least_squares(critic_b(made_b), True)
            + least_squares(critic_a(made_a), True)
            + self.cycle * (F.l1_loss(b_to_a(made_b), a) + F.l1_loss(a_to_b(made_a), b))
            + self.identity * (F.l1_loss(b_to_a(a), a) + F.l1_loss(a_to_b(b), b))
        )
        return {
            ("a_to_b", "b_to_a"): generators,  # flows through the critics and changes neither
            "critic_a": (least_squares(critic_a(a), True) + least_squares(critic_a(made_a.detach()), False)) / 2,
            "critic_b": (least_squares(critic_b(b), True) + least_squares(critic_b(made_b.detach()), False)) / 2,
        }

    @classmethod
    def example(cls) -> Example:
        adam = partial(optim.Adam, lr=1e-2, betas=(0.5, 0.999))
        learners = {
            "a_to_b": Learner(two_layer(outputs=FEATURES, seed=1), adam),
            "b_to_a": Learner(two_layer(outputs=FEATURES, seed=2), adam),
            "critic_a": Learner(two_layer(outputs=1, seed=3), adam),
            "critic_b": Learner(two_layer(outputs=1, seed=4), adam),
        }
        return Example(cls(), learners, {"a": labelled_rows(seed=1, name="a"), "b": labelled_rows(seed=2, name="b")})
