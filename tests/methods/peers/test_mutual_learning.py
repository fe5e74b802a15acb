"""Mutual learning by hand, at its limits, and against the plain loop that it stands for."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim

from cotrain.engine import fit, prepare, update
from cotrain.learner import Learner
from cotrain.methods.examples import labelled_rows, two_layer
from cotrain.methods.peers.mutual_learning import MutualLearning

SGD = partial(optim.SGD, lr=0.1)


def learners(names=("large", "small")):
    return {name: Learner(two_layer(seed=seed), SGD) for seed, name in enumerate(names)}


def test_by_hand():
    batch = {"labelled": {"x": torch.zeros(1, 2), "y": torch.tensor([0])}}
    constants = {"large": [0.5, 0.5], "small": [0.25, 0.75]}
    fixed = {name: Learner(Constant(torch.tensor([row]).log())) for name, row in constants.items()}
    losses = MutualLearning(weight=2.0).step(fixed, batch, {})
    # large: ln 2 + 2 KL(small || large); small: ln 4 + 2 KL(large || small)
    to_large = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    to_small = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert losses["large"].item() == pytest.approx(math.log(2) + 2 * to_large, rel=1e-5)
    assert losses["small"].item() == pytest.approx(math.log(4) + 2 * to_small, rel=1e-5)


class Constant(nn.Module):
    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_without_weight_each_learner_learns_alone():
    together, alone = learners(), learners()
    fit(MutualLearning(weight=0.0), together, rows(), 5, device="cpu")
    for name, learner in alone.items():
        pair = {name: learner, "other": Learner(two_layer(seed=9), SGD)}
        fit(MutualLearning(weight=0.0), pair, rows(), 5, device="cpu")
        for one, two in zip(learner.net.parameters(), together[name].net.parameters(), strict=True):
            assert torch.equal(one, two)


def rows():
    return {"labelled": labelled_rows()}


def test_equals_the_plain_loop():
    peers, plain = learners(), [two_layer(seed=0), two_layer(seed=1)]
    fit(MutualLearning(weight=0.7, temperature=2.0), peers, rows(), 10, device="cpu")
    optimizers = [optim.SGD(net.parameters(), lr=0.1) for net in plain]
    stream = labelled_rows()
    for _ in range(10):
        batch = next(stream)
        one, two = (net(batch["x"]) for net in plain)
        loss = sum(
            F.cross_entropy(own, batch["y"])
            + 0.7 * 4 * F.kl_div((own / 2).log_softmax(-1), (other.detach() / 2).softmax(-1), reduction="batchmean")
            for own, other in ((one, two), (two, one))
        )
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    for learner, net in zip(peers.values(), plain, strict=True):
        for mine, theirs in zip(learner.net.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_teacher_alone_in_the_exchange_gets_no_gradient_from_its_student():
    pair = learners()
    prepare(pair)
    batch = {"labelled": next(labelled_rows())}
    losses = MutualLearning().step(pair, batch, {})
    update(pair, {"small": losses["small"]})
    assert all(p.grad is None for p in pair["large"].parameters)


def test_three_peers():
    trio = learners(("a", "b", "c"))
    before = [p.clone() for learner in trio.values() for p in learner.net.parameters()]
    fit(MutualLearning(), trio, rows(), 1, device="cpu")
    after = [p for learner in trio.values() for p in learner.net.parameters()]
    assert all(not torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_it_pulls_peers_together():
    def distance(weight):
        pair = learners()
        fit(MutualLearning(weight=weight), pair, rows(), 60, device="cpu")
        batch = next(labelled_rows(count=24, batch=24))
        one, two = (learner.net(batch["x"]).softmax(-1) for learner in pair.values())
        return (one - two).abs().mean().item()

    assert distance(3.0) < 0.6 * distance(0.0)
