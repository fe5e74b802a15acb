import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.losses.mixing import mixup_weight
from cotrain.methods.semi.mixmatch import MixMatch


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight * x


def logs(*rows):
    return torch.tensor(rows).log()


def loss(method, labelled, unlabelled, at=0, seed=0):
    memory = {"step": at, "generator": torch.Generator().manual_seed(seed)}
    return method.step({"model": Learner(Scale())}, {"labelled": labelled, "unlabelled": unlabelled}, memory)["model"]


def random_batch(labelled=4, unlabelled=6, copies=2, classes=3):
    rng = torch.Generator().manual_seed(0)
    names = ["weak", "weak2", "weak3"][:copies]
    rows = {"x": torch.randn(labelled, classes, generator=rng), "y": torch.arange(labelled) % classes}
    return rows, {name: 2 * torch.randn(unlabelled, classes, generator=rng) for name in names}


def test_by_hand():
    labelled = {"x": logs([0.5, 0.5]), "y": torch.tensor([0])}
    unlabelled = {"weak": logs([0.5, 0.5]), "weak2": logs([0.7, 0.3])}
    # The guess is the mean (0.6, 0.4), sharpened at 1/2: (0.36, 0.16) / 0.52 = (9, 4) / 13.
    p = 9 / 13
    squared = ((0.5 - p) ** 2 + (0.7 - p) ** 2) / 2  # both classes of a row differ by the same
    found = loss(MixMatch(mixup=0.0, weight=10.0, ramp=0), labelled, unlabelled)
    assert found.item() == pytest.approx(math.log(2) + 10 * squared, rel=1e-5)
    cross = -(p * math.log(0.5) + (1 - p) * math.log(0.5) + p * math.log(0.7) + (1 - p) * math.log(0.3)) / 2
    method = MixMatch(mixup=0.0, weight=1.0, ramp=0, divergence="cross-entropy")
    assert loss(method, labelled, unlabelled).item() == pytest.approx(math.log(2) + cross, rel=1e-5)


def test_equals_a_plain_derivation():
    """In numpy, from Eq. 2-5 and 6-10; only the random numbers are shared."""
    rows, views = random_batch()
    found = loss(MixMatch(weight=7.0, ramp=0), rows, views, seed=5)

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    x, y = rows["x"].double().numpy(), rows["y"].numpy()
    u = [view.double().numpy() for view in views.values()]
    q = np.mean([softmax(copy) for copy in u], axis=0) ** 2
    q /= q.sum(1, keepdims=True)
    inputs, targets = np.concatenate([x, *u]), np.concatenate([np.eye(3)[y], q, q])
    rng = torch.Generator().manual_seed(5)
    lam = mixup_weight(len(inputs), 0.75, rng).double().numpy()[:, None]
    order = torch.randperm(len(inputs), generator=rng).numpy()
    assert (lam >= 0.5).all()
    inputs = lam * inputs + (1 - lam) * inputs[order]
    targets = lam * targets + (1 - lam) * targets[order]
    p = softmax(inputs)
    labelled = -(targets[:4] * np.log(p[:4])).sum(1).mean()
    unlabelled = ((p[4:] - targets[4:]) ** 2).sum() / (3 * 12)  # over C classes and |U'| = K U mixtures
    assert found.item() == pytest.approx(labelled + 7 * unlabelled, rel=1e-4)


def test_no_unlabelled_rows_and_no_mixing_is_cross_entropy():
    rows, _ = random_batch()
    for alpha in (0.0, 1e-7):
        found = loss(MixMatch(mixup=alpha, ramp=0), rows, {"weak": torch.empty(0, 3), "weak2": torch.empty(0, 3)})
        torch.testing.assert_close(found, F.cross_entropy(rows["x"], rows["y"]))


def test_the_weight_rises_evenly():
    rows, views = random_batch()
    at = [loss(MixMatch(mixup=0.0, weight=4.0, ramp=8), rows, views, at=step) for step in (0, 2, 8, 99)]
    rise = [(value - at[0]).item() for value in at]
    assert rise[1] == pytest.approx(rise[2] / 4, rel=1e-4)
    assert rise[2] == rise[3] > 0


def test_the_guess_gets_no_gradient_and_leaves_no_trace():
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    seen = []
    net[0].register_forward_hook(lambda module, *_: seen.append((module.track_running_stats, torch.is_grad_enabled())))
    rows, views = random_batch(copies=3)
    memory = {"step": 0, "generator": torch.Generator().manual_seed(0)}
    MixMatch().step({"model": Learner(net)}, {"labelled": rows, "unlabelled": views}, memory)
    # three guesses without gradient and without running means, then K + 1 interleaved batches with both
    assert seen == [(False, False)] * 3 + [(True, True)] * 4


def test_a_stream_without_copies_is_an_error():
    rows, _ = random_batch()
    with pytest.raises(InputError, match=r"'weak'.*'x'"):
        loss(MixMatch(), rows, {"x": torch.zeros(2, 3)})
