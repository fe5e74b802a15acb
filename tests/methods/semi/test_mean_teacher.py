import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim

from cotrain import engine
from cotrain.learner import Learner, follow
from cotrain.methods.semi.mean_teacher import MeanTeacher


class Scale(nn.Module):
    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return self.weight * x


BATCH = {
    "labelled": {"x": torch.tensor([[0.5, 0.5]]).log(), "y": torch.tensor([0])},
    "unlabelled": {"weak": torch.tensor([[0.8, 0.2]]).log(), "weak2": torch.tensor([[0.6, 0.4]]).log()},
}


def step(method, batch=BATCH, at=0, teacher=1.0, **memory):
    learners = {"model": Learner(Scale()), "teacher": Learner(Scale(teacher))}
    return method.step(learners, batch, {"step": at, **memory})["model"]


def test_by_hand():
    # ln 2 + 10 * mean over two classes of (0.8 - 0.6)^2 = ln 2 + 0.4
    assert step(MeanTeacher(weight=10.0, ramp=0)).item() == pytest.approx(math.log(2) + 0.4, rel=1e-6)


def test_the_target_is_what_the_teacher_says():
    # a teacher of weight 0 says one half: ln 2 + 10 * (0.8 - 0.5)^2
    found = step(MeanTeacher(weight=10.0, ramp=0), teacher=0.0)
    assert found.item() == pytest.approx(math.log(2) + 0.9, rel=1e-6)


def test_labelled_and_weak_rows_are_seen_in_one_call():
    seen = []
    learners = {"model": Learner(Scale()), "teacher": Learner(Scale())}
    learners["model"].net.register_forward_hook(lambda net, given, said: seen.append(len(said)))
    MeanTeacher().step(learners, BATCH, {"step": 0})
    assert seen == [2]


def test_the_weight_rises():
    early, late = (step(MeanTeacher(weight=10.0, ramp=100), at=at).item() - math.log(2) for at in (0, 100))
    assert early == pytest.approx(0.4 * math.exp(-5), rel=1e-3)
    assert late == pytest.approx(0.4, rel=1e-5)


def test_weight_0_is_supervised_training():
    assert step(MeanTeacher(weight=0.0)).item() == pytest.approx(math.log(2))


def test_the_teacher_gets_no_gradient():
    learners = {"model": Learner(Scale()), "teacher": Learner(Scale())}
    MeanTeacher(ramp=0).step(learners, BATCH, {"step": 0})["model"].backward()
    assert learners["teacher"].net.weight.grad is None
    assert learners["model"].net.weight.grad is not None


def test_the_teacher_is_the_moving_average_in_closed_form():
    """After t updates: decay^t * start + (1 - decay) * sum of decay^(t - s) * weight after update s."""
    decay, weights = 0.7, []
    learners = {
        "model": Learner(Scale(), lambda p: optim.SGD(p, lr=0.5)),
        "teacher": follow("model", decay, warm=False),
    }
    engine.prepare(learners)
    for number in range(6):
        losses = MeanTeacher(ramp=0).step(learners, BATCH, {"step": number})
        engine.update(learners, losses)
        weights.append(learners["model"].net.weight.item())
    powers = [decay ** (len(weights) - 1 - s) for s in range(len(weights))]
    closed = decay**6 * 1.0 + (1 - decay) * sum(p * w for p, w in zip(powers, weights, strict=True))
    assert learners["teacher"].net.weight.item() == pytest.approx(closed, rel=1e-6)
    assert abs(weights[-1] - 1.0) > 0.01


def test_mixup_mixes_the_targets_too():
    """Identical rows everywhere: a mixture of a row with itself is the row, so only the targets change."""
    row = torch.tensor([[0.8, 0.2]]).log()
    batch = {"labelled": {"x": row, "y": torch.tensor([1])}, "unlabelled": {"weak": row, "weak2": row}}
    from cotrain.losses.mixing import mixup_weight

    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    found = step(MeanTeacher(weight=10.0, ramp=0, mixup=0.75), batch, generator=seeds[0])
    labelled, unlabelled = mixup_weight(2, 0.75, seeds[1])
    p, y = torch.tensor([0.8, 0.2]), torch.tensor([0.0, 1.0])
    target = labelled * y + (1 - labelled) * p
    consistency = ((p - (unlabelled * p + (1 - unlabelled) * y)) ** 2).mean()
    torch.testing.assert_close(found, F.cross_entropy(row[0], target) + 10 * consistency)
