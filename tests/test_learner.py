"""Learners: building, schedules, state; and followers by their closed form."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn, optim

from cotrain.engine import prepare, update
from cotrain.errors import InputError
from cotrain.gradients.clip import Clip
from cotrain.learner import Learner, follow

SGD = partial(optim.SGD, lr=0.1)


class Scale(nn.Module):
    """weight * x, with a count of its calls and a running mean of its inputs."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("mean", torch.tensor(0.0))

    def forward(self, x):
        self.calls += 1
        self.mean = 0.5 * self.mean + 0.5 * x.mean()  # a new tensor in the old one's place
        return self.weight * x


def test_calling_a_learner_calls_its_net():
    assert Learner(Scale(3.0))(torch.tensor(2.0)).item() == 6.0


def test_a_built_optimizer_is_refused_with_the_line_to_write():
    net = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"optimizer=partial\(Adam, lr=...\)"):
        Learner(net, optim.Adam(net.parameters()))


def test_an_optimizer_whose_step_asks_for_a_closure_is_refused():
    with pytest.raises(InputError, match="has LBFGS, whose step asks for a closure"):
        Learner(nn.Linear(2, 2), optim.LBFGS).build()


class OwnAdam(optim.Adam):
    """A subclass, which may step in a way of its own."""


@pytest.mark.parametrize(
    ("factory", "fused"),
    [
        (optim.Adam, True),
        (partial(optim.AdamW, amsgrad=True), True),
        (partial(optim.AdamW, fused=False), False),
        (partial(optim.AdamW, foreach=True), None),
        (partial(optim.AdamW, foreach=False), None),
        (partial(optim.AdamW, capturable=True), None),
        (partial(optim.AdamW, lr=torch.tensor(0.1)), None),
        (OwnAdam, None),
        (SGD, None),
    ],
)
def test_adam_is_fused_where_nobody_chose(factory, fused):
    learner = Learner(nn.Linear(2, 2), factory).build()
    assert learner.optimizer.param_groups[0]["fused"] is fused


def test_adam_on_complex_weights_is_left_alone():
    net = nn.Linear(2, 2, dtype=torch.complex64)
    assert Learner(net, optim.Adam).build().optimizer.param_groups[0]["fused"] is None


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"amsgrad": True}, {"maximize": True}])
@pytest.mark.parametrize("optimizer", [optim.Adam, optim.AdamW])
def test_fused_steps_are_the_steps_of_torchs_default(optimizer, settings, kind):
    def weights(fused):
        net = nn.Linear(3, 2, dtype=kind)
        with torch.no_grad():
            net.weight.copy_(torch.arange(6).view(2, 3) / 6 - 0.4)
            net.bias.fill_(0.3)
        learner = Learner(net, partial(optimizer, lr=0.05, fused=fused, **settings), schedule=lambda n: 1 / (n + 1))
        prepare({"a": learner})
        x = torch.linspace(-1, 1, 12, dtype=kind).view(4, 3)
        for _ in range(20):
            update({"a": learner}, {"a": learner(x).square().mean()})
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    torch.testing.assert_close(weights(None), weights(False), rtol=1e-5 if kind == torch.float32 else 1e-12, atol=0)


def test_a_frozen_learner_takes_no_rule_or_schedule():
    for options in ({"rule": Clip(1.0)}, {"schedule": lambda update: 1.0}):
        with pytest.raises(InputError, match="frozen"):
            Learner(nn.Linear(2, 2), **options)


def test_frozen_learners_need_no_gradient_and_are_in_evaluation_mode():
    learner = Learner(nn.Sequential(nn.Linear(2, 2), nn.Dropout())).build()
    assert not any(p.requires_grad for p in learner.net.parameters())
    assert not learner.net.training
    assert learner.optimizer is None


def test_a_net_that_comes_in_evaluation_mode_is_trained_in_training_mode():
    assert Learner(nn.Linear(2, 2).eval(), SGD).build().net.training


def test_parts_that_were_put_into_evaluation_mode_stay_there():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2).eval())
    Learner(net, SGD).build()
    assert net.training
    assert not net[1].training


def test_only_parameters_that_require_a_gradient_are_trained():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    assert Learner(net, SGD).build().parameters == list(net[1].parameters())
    with pytest.raises(InputError, match="no parameter"):
        Learner(net.requires_grad_(False), SGD).build()


def test_the_schedule_counts_the_learners_own_updates():
    learner = Learner(Scale(0.0), SGD, schedule=lambda update: 1 / (update + 1)).build()
    places = []
    for _ in range(3):
        update({"one": learner}, {"one": -learner(torch.tensor(1.0))})  # gradient -1
        places.append(learner.net.weight.item())
    # 0.1, 0.1 + 0.1 / 2, 0.15 + 0.1 / 3
    assert places == pytest.approx([0.1, 0.15, 0.15 + 0.1 / 3])
    assert learner.updates == 3


def test_state_and_load_restore_everything():
    def make(seed):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        return Learner(net, partial(optim.AdamW, lr=0.01), schedule=lambda update: 0.9**update).build()

    def step(learner, x):
        update({"one": learner}, {"one": learner(x).square().mean()})

    x = torch.randn(8, 3)
    one, two = make(0), make(1)
    for _ in range(3):
        step(one, x)
    two.load(one.state())
    for learner in (one, two):
        step(learner, x)
    assert one.updates == two.updates == 4
    for name, value in one.net.state_dict().items():
        assert torch.equal(value, two.net.state_dict()[name]), name


def test_buffers_that_a_state_dict_leaves_out_are_restored_too():
    one, other = Learner(Scale(), SGD).build(), Learner(Scale(), SGD).build()
    for learner in (one, other):
        learner.net.register_buffer("count", torch.tensor(0.0), persistent=False)
    one.net.count += 3
    state = copy.deepcopy(one.state())
    other.load(state)
    assert other.net.count.item() == 3
    other.net.count.zero_()
    other.load({name: part for name, part in state.items() if name != "buffers"})  # of an older checkpoint
    assert other.net.count.item() == 0


class TestSettings:
    """Of an optimizer: what is compared when a learner goes on from another's state, and what is taken over."""

    def learner(self, rate, schedule=None, momentum=0.0):
        net = nn.Linear(2, 2)
        groups = [{"params": [net.weight], "lr": rate}, {"params": [net.bias], "momentum": momentum}]
        return Learner(net, lambda parameters: optim.SGD(groups, lr=0.1), schedule=schedule).build()

    def rates(self, learner):
        return [group["lr"] for group in learner.optimizer.param_groups]

    def test_a_groups_own(self):
        saved = self.learner(0.1).state()
        self.learner(0.1).load(saved)
        with pytest.raises(InputError, match=r"with lr of group 0=0.1, now 0.3; momentum of group 1=0.0, now 0.9\."):
            self.learner(0.3, momentum=0.9).load(saved)
        del saved["optimizer"]["groups"]  # from before they were saved
        self.learner(0.3).load(saved)

    def test_of_one_group(self):
        def learner(rate):
            net = nn.Linear(2, 2)
            return Learner(net, lambda parameters: optim.SGD([{"params": parameters, "lr": rate}], lr=0.1)).build()

        with pytest.raises(InputError, match=r"made with lr=0.2, now 0.3\."):
            learner(0.3).load(learner(0.2).state())

    def test_the_rate_of_a_schedule_does_not_stay_without_one(self):
        scheduled = self.learner(0.3, schedule=lambda updates: 0.0)
        scheduled.set_rate()
        assert self.rates(scheduled) == [0.0, 0.0]
        plain = self.learner(0.3)
        plain.load(scheduled.state())
        assert self.rates(plain) == [0.3, 0.1]

    def test_a_rate_that_was_set_by_hand_stays(self):
        one, other = self.learner(0.3), self.learner(0.3)
        one.optimizer.param_groups[0]["lr"] = 0.05
        other.load(one.state())
        other.set_rate()
        assert self.rates(other) == [0.05, 0.1]

    def test_numbers_of_numpy_become_pythons(self):
        learner = self.learner(np.float32(0.5), schedule=lambda updates: np.float32(0.5))
        learner.set_rate()
        assert self.rates(learner) == [0.25, 0.05]
        assert all(type(rate) is float for rate in self.rates(learner))


class TestLoadRefuses:
    def test_another_shape(self):
        with pytest.raises(InputError, match="size mismatch"):
            Learner(nn.Linear(3, 2), SGD).build().load(Learner(nn.Linear(2, 2), SGD).build().state())

    def test_a_frozen_one_for_a_trained_one(self):
        with pytest.raises(InputError, match="frozen"):
            Learner(nn.Linear(2, 2)).build().load(Learner(nn.Linear(2, 2), SGD).build().state())

    def test_another_learning_rate(self):
        with pytest.raises(InputError, match=r"lr=0.1, now 0.2"):
            Learner(nn.Linear(2, 2), partial(optim.SGD, lr=0.2)).build().load(
                Learner(nn.Linear(2, 2), SGD).build().state()
            )

    def test_another_optimizer(self):
        with pytest.raises(InputError, match="optimizer=SGD, now Adam"):
            Learner(nn.Linear(2, 2), optim.Adam).build().load(Learner(nn.Linear(2, 2), SGD).build().state())


class TestFollower:
    def run(self, decay, warm, steps):
        """The leader's weight and the follower's after each step; the leader's grows by 0.1 a step from 1."""
        learners = {"leader": Learner(Scale(1.0), SGD), "mean": follow("leader", decay, warm)}
        prepare(learners)
        path = []
        for _ in range(steps):
            update(learners, {"leader": -learners["leader"](torch.tensor(1.0))})
            path.append((learners["leader"].net.weight.item(), learners["mean"].net.weight.item()))
        return learners, path

    def test_closed_form(self):
        decay, steps = 0.7, 12
        _, path = self.run(decay, warm=False, steps=steps)
        # decay^t * w_0 + (1 - decay) * sum of decay^(t - i) * w_i with w_i = 1 + 0.1 i
        expected = decay**steps + (1 - decay) * sum(decay ** (steps - i) * (1 + 0.1 * i) for i in range(1, steps + 1))
        assert path[-1][1] == pytest.approx(expected, rel=1e-5)

    def test_warm_start_is_the_plain_mean_until_the_decay_is_reached(self):
        _, path = self.run(0.999, warm=True, steps=5)
        # With decay 1 - 1/(t+1) the average of w_0 .. w_t
        for t, (_, mean) in enumerate(path, start=1):
            assert mean == pytest.approx(sum(1 + 0.1 * i for i in range(t + 1)) / (t + 1), rel=1e-5)

    def test_limits(self):
        assert self.run(0.0, warm=False, steps=3)[1][-1][1] == pytest.approx(1.3)
        assert self.run(1.0, warm=False, steps=3)[1][-1][1] == 1.0

    def test_buffers_follow_too_and_whole_numbers_are_copied(self):
        learners, _ = self.run(0.5, warm=False, steps=2)
        assert learners["mean"].net.calls.item() == learners["leader"].net.calls.item() == 2
        # leader's mean: 0.5, 0.75; the follower's: 0.25, 0.5
        assert learners["mean"].net.mean.item() == pytest.approx(0.5)

    def test_it_moves_only_when_its_leader_was_updated(self):
        learners = {"a": Learner(Scale(), SGD), "b": Learner(Scale(), SGD), "mean": follow("a", 0.5, warm=False)}
        prepare(learners)
        update(learners, {"b": learners["b"](torch.tensor(1.0))})
        assert learners["mean"].net.weight.item() == 1.0

    def test_it_starts_anew_for_another_leader_and_goes_on_with_the_same(self):
        mean = follow("leader", 1.0, warm=False)
        for weight in (1.0, 2.0):
            leader = Learner(Scale(weight), SGD)
            prepare({"leader": leader, "mean": mean})
            update({"leader": leader, "mean": mean}, {"leader": leader.net.weight.sum()})
            prepare({"leader": leader, "mean": mean})
            assert mean.net.weight.item() == weight

    def test_it_owns_its_weights_and_needs_no_gradient(self):
        learners, _ = self.run(0.5, warm=False, steps=1)
        assert learners["mean"].net is not learners["leader"].net
        assert not learners["mean"].net.weight.requires_grad

    def test_bad_input(self):
        with pytest.raises(InputError, match=r"share in 0..1, not 1.5"):
            follow("leader", 1.5)
        with pytest.raises(InputError, match="'mean' follows 'nobody', which is not among the learners"):
            prepare({"a": Learner(Scale(), SGD), "mean": follow("nobody")})
        with pytest.raises(InputError, match="which is a follower itself"):
            prepare({"a": Learner(Scale(), SGD), "mean": follow("a"), "second": follow("mean")})
        learners = {"a": Learner(Scale(), SGD).build(), "mean": follow("a")}
        with pytest.raises(InputError, match=r"call engine.prepare first"):
            update(learners, {"a": learners["a"](torch.tensor(1.0))})

    def test_it_is_in_the_mode_of_its_leader(self):
        for net in (nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval(), nn.Sequential(nn.BatchNorm1d(2).eval())):
            learners = {"a": Learner(net, SGD), "mean": follow("a")}
            prepare(learners)
            modes = [[module.training for module in learner.net.modules()] for learner in learners.values()]
            assert modes[0] == modes[1]
            assert modes[0][0]


class TestTrainedAgain:
    def test_a_net_that_was_looked_at_in_between_goes_back_into_training_mode(self):
        learner = Learner(nn.Linear(2, 2), SGD)
        prepare({"a": learner})
        learner.net.eval()
        prepare({"a": learner})
        assert learner.net.training

    def test_parts_that_were_frozen_in_between_are_refused(self):
        learner = Learner(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), SGD)
        prepare({"a": learner})
        learner.net[0].requires_grad_(False)
        with pytest.raises(InputError, match="Learner 'a' has parameters that were frozen"):
            prepare({"a": learner})
