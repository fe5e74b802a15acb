"""CycleGAN by hand, its ownership, and against alternation with requires_grad switches."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim

from cotrain.engine import fit, prepare, update
from cotrain.learner import Learner
from cotrain.methods.adversarial.cyclegan import CycleGAN

NAMES = ("a_to_b", "b_to_a", "critic_a", "critic_b")


class Times(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return self.weight * x


def scales(weights, optimizer=None):
    return {name: Learner(Times(weight), optimizer) for name, weight in zip(NAMES, weights, strict=True)}


def test_by_hand():
    batch = {"a": {"x": torch.tensor([[1.0]])}, "b": {"x": torch.tensor([[2.0]])}}
    losses = CycleGAN(cycle=10.0, identity=5.0).step(scales([3.0, 0.5, 0.25, 0.2]), batch, {})
    # made_b = 3, made_a = 1. Critics say: of made_b .6, of made_a .25, of a .25, of b .4.
    adversarial = (0.6 - 1) ** 2 + (0.25 - 1) ** 2
    there_and_back = abs(0.5 * 3 - 1) + abs(3 * 1 - 2)
    own_domain = abs(0.5 * 1 - 1) + abs(3 * 2 - 2)
    assert losses["a_to_b", "b_to_a"].item() == pytest.approx(adversarial + 10 * there_and_back + 5 * own_domain)
    assert losses["critic_a"].item() == pytest.approx(((0.25 - 1) ** 2 + 0.25**2) / 2)
    assert losses["critic_b"].item() == pytest.approx(((0.4 - 1) ** 2 + 0.6**2) / 2)


def nets(seed=0):
    torch.manual_seed(seed)

    def make(out):
        return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, out))

    return {"a_to_b": make(3), "b_to_a": make(3), "critic_a": make(1), "critic_b": make(1)}


def batches(seed=0):
    rng = torch.Generator().manual_seed(seed)
    while True:
        yield {name: {"x": torch.randn(5, 3, generator=rng) + shift} for name, shift in (("a", 0.0), ("b", 1.0))}


ADAM = partial(optim.Adam, lr=1e-2, betas=(0.5, 0.999))


def test_the_generators_loss_flows_through_the_critics_and_leaves_them_alone():
    learners = {name: Learner(net, ADAM) for name, net in nets().items()}
    prepare(learners)
    before = {name: [p.clone() for p in learner.parameters] for name, learner in learners.items()}
    losses = CycleGAN().step(learners, next(batches()), {})
    update(learners, {("a_to_b", "b_to_a"): losses["a_to_b", "b_to_a"]})
    for name, learner in learners.items():
        same = [torch.equal(one, two) for one, two in zip(before[name], learner.parameters, strict=True)]
        assert all(same) if name.startswith("critic") else not any(same)
        assert all((p.grad is None) == name.startswith("critic") for p in learner.parameters)


def test_it_equals_alternation_with_requires_grad_switches():
    learners = {name: Learner(net, ADAM) for name, net in nets().items()}
    prepare(learners)
    stream = batches()
    for _ in range(10):
        update(learners, CycleGAN().step(learners, next(stream), {}))

    g_ab, g_ba, d_a, d_b = nets().values()
    critics = [d_a, d_b]
    generator_optimizer = ADAM([*g_ab.parameters(), *g_ba.parameters()])
    critic_optimizer = ADAM([*d_a.parameters(), *d_b.parameters()])

    def gan(scores, real):
        return ((scores - real) ** 2).mean()

    stream = batches()
    for _ in range(10):
        batch = next(stream)
        a, b = batch["a"]["x"], batch["b"]["x"]
        made_b, made_a = g_ab(a), g_ba(b)
        for critic in critics:
            critic.requires_grad_(False)
        generator_optimizer.zero_grad()
        loss = gan(d_b(made_b), 1) + gan(d_a(made_a), 1)
        loss = loss + 10 * (F.l1_loss(g_ba(made_b), a) + F.l1_loss(g_ab(made_a), b))
        loss = loss + 5 * (F.l1_loss(g_ba(a), a) + F.l1_loss(g_ab(b), b))
        loss.backward()
        generator_optimizer.step()
        for critic in critics:
            critic.requires_grad_(True)
        critic_optimizer.zero_grad()
        for critic, real, made in ((d_a, a, made_a), (d_b, b, made_b)):
            ((gan(critic(real), 1) + gan(critic(made.detach()), 0)) / 2).backward()
        critic_optimizer.step()

    for learner, net in zip(learners.values(), (g_ab, g_ba, d_a, d_b), strict=True):
        for mine, theirs in zip(learner.net.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_without_weights_only_the_game_is_left():
    batch = {"a": {"x": torch.tensor([[1.0]])}, "b": {"x": torch.tensor([[2.0]])}}
    losses = CycleGAN(cycle=0.0, identity=0.0).step(scales([3.0, 0.5, 0.25, 0.2]), batch, {})
    assert losses["a_to_b", "b_to_a"].item() == pytest.approx((0.6 - 1) ** 2 + (0.25 - 1) ** 2)


class Shifted:
    """Batches of numbers around a centre."""

    def __init__(self, centre, seed):
        self.centre, self.rng = centre, torch.Generator().manual_seed(seed)

    def __next__(self):
        return {"x": torch.randn(64, 1, generator=self.rng) * 0.3 + self.centre}


def test_it_learns_to_translate_a_shift():
    """a is around -1 and b around 2; unpaired rows suffice to find x -> x + 3 and back."""
    torch.manual_seed(0)

    def critic():
        return nn.Sequential(nn.Linear(1, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    fast = partial(optim.Adam, lr=5e-3, betas=(0.5, 0.999))
    learners = {
        "a_to_b": Learner(nn.Linear(1, 1), fast),
        "b_to_a": Learner(nn.Linear(1, 1), fast),
        "critic_a": Learner(critic(), fast),
        "critic_b": Learner(critic(), fast),
    }
    fit(CycleGAN(identity=0.0), learners, {"a": Shifted(-1.0, 1), "b": Shifted(2.0, 2)}, 800, device="cpu")
    x = torch.tensor([[-1.3], [-1.0], [-0.7]])
    made = learners["a_to_b"].net(x)
    assert made.mean().item() == pytest.approx(2.0, abs=0.25)
    torch.testing.assert_close(learners["b_to_a"].net(made), x, atol=0.15, rtol=0)
