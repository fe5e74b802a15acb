import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.methods.semi.remixmatch import ReMixMatch


class Scale(nn.Module):
    """logits = features = x."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x, features=False):
        return self.weight * x


def logs(*rows):
    return torch.tensor(rows).log()


LABELLED = {"x": logs([0.5, 0.5]), "y": torch.tensor([0])}
UNLABELLED = {
    "weak": logs([0.6, 0.4]),
    "strong": logs([0.7, 0.3]),
    "strong2": logs([0.2, 0.8]),
    "turned": logs([0.25, 0.75]),
    "turn": torch.tensor([1]),
}


def step(method, labelled=LABELLED, unlabelled=UNLABELLED, at=0, memory=None):
    learners = {"model": Learner(Scale()), "turns": Learner(nn.Identity())}
    memory = method.memory(learners) if memory is None else memory
    memory |= {"step": at, "generator": torch.Generator().manual_seed(0)}
    return method.step(learners, {"labelled": labelled, "unlabelled": unlabelled}, memory), memory


def cross(target, *predicted):
    return -sum(t * math.log(p) for t, p in zip(target, predicted, strict=True))


def test_by_hand():
    losses, _ = step(ReMixMatch(mixup=0.0, ramp=0))
    ((owners, found),) = losses.items()
    assert owners == ("model", "turns")
    # Before the first batch both means are uniform, so aligning changes nothing; sharpened: (0.36, 0.16) / 0.52
    q = (9 / 13, 4 / 13)
    mixed = (cross(q, 0.7, 0.3) + cross(q, 0.2, 0.8) + cross(q, 0.6, 0.4)) / 3
    expected = math.log(2) + 1.5 * mixed + 0.5 * cross(q, 0.7, 0.3) + 0.5 * -math.log(0.75)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_what_is_remembered_aligns_the_guess():
    method = ReMixMatch(mixup=0.0, ramp=0, weight=0.0, weight_strong=1.0, weight_turn=0.0, temperature=1.0, history=1)
    memory = {"labelled": torch.tensor([[0.5, 0.5]]), "guessed": torch.tensor([[0.8, 0.2]])}
    losses, memory = step(method, memory=memory)
    # the odds 0.6 : 0.4 times (0.5 / 0.8) : (0.5 / 0.2) are 3 : 8
    assert losses["model"].item() == pytest.approx(math.log(2) + cross((3 / 11, 8 / 11), 0.7, 0.3), rel=1e-4)
    # then this batch's own means stand in the only place: the guess as it was before aligning, and the labels
    torch.testing.assert_close(memory["guessed"], torch.tensor([[0.6, 0.4]]))
    torch.testing.assert_close(memory["labelled"], torch.tensor([[1.0, 0.0]]))


def test_a_guess_is_aligned_and_then_sharpened():
    method = ReMixMatch(mixup=0.0, ramp=0, weight=0.0, weight_strong=1.0, weight_turn=0.0, history=1)
    memory = {"labelled": torch.tensor([[0.5, 0.5]]), "guessed": torch.tensor([[0.8, 0.2]])}
    losses, _ = step(method, memory=memory)
    # aligned 3 : 8 as above, squared 9 : 64; the other order gives 9 : 16
    assert losses["model"].item() == pytest.approx(math.log(2) + cross((9 / 73, 64 / 73), 0.7, 0.3), rel=1e-4)


def test_the_guess_gets_no_gradient():
    weak = UNLABELLED["weak"].clone().requires_grad_()
    method = ReMixMatch(mixup=0.0, ramp=0, weight=0.0, weight_strong=1.0, weight_turn=0.0)
    losses, _ = step(method, unlabelled=UNLABELLED | {"weak": weak})
    losses["model"].backward()
    assert not weak.grad.any()


def test_no_weights_is_supervised_training():
    method = ReMixMatch(mixup=0.0, weight=0.0, weight_strong=0.0, weight_turn=0.0)
    losses, _ = step(method, unlabelled={"weak": UNLABELLED["weak"], "strong": UNLABELLED["strong"]})
    assert losses.keys() == {"model"}
    torch.testing.assert_close(losses["model"], F.cross_entropy(LABELLED["x"], LABELLED["y"]))


def test_the_first_two_weights_rise_and_the_third_does_not():
    def at(number):
        return next(iter(step(ReMixMatch(mixup=0.0, ramp=10), at=number)[0].values())).item()

    turn = 0.5 * -math.log(0.75)
    assert at(0) == pytest.approx(math.log(2) + turn, rel=1e-5)
    assert at(5) - at(0) == pytest.approx((at(10) - at(0)) / 2, rel=1e-4)


def test_a_class_missing_among_the_labelled_rows_stays_finite():
    memory = None
    for number in range(3):
        losses, memory = step(ReMixMatch(history=2, ramp=0), at=number, memory=memory)
        assert next(iter(losses.values())).isfinite()
    assert memory["labelled"][:, 1].sum() == 0


def test_side_tasks_leave_no_trace_in_batch_normalization():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x, features=False):
            seen.append(self.norm.track_running_stats)
            return self.norm(x)

    seen = []
    two = {name: value.repeat(*[2] + [1] * (value.dim() - 1)) for name, value in UNLABELLED.items()}
    learners = {"model": Learner(Net()), "turns": Learner(nn.Linear(2, 4))}
    method = ReMixMatch()
    memory = {**method.memory(learners), "step": 0, "generator": torch.Generator()}
    rows = {"x": torch.randn(6, 2), "y": torch.arange(6) % 2}
    method.step(learners, {"labelled": rows, "unlabelled": two}, memory)
    # guess | S + 2 interleaved batches | first strong copy, turned copy
    assert seen == [False] + [True] * 4 + [False, False]


def test_errors():
    with pytest.raises(InputError, match="history"):
        ReMixMatch(history=0)
    with pytest.raises(InputError, match="'strong'"):
        step(ReMixMatch(), unlabelled={"weak": UNLABELLED["weak"]})
