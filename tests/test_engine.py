"""The engine: ownership, rules, noise, microbatches, precision, resume, and errors by name."""

import json
import math
import signal
from collections import Counter
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from weakref import WeakSet

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils._python_dispatch import TorchDispatchMode

from cotrain import checkpoint, ownership
from cotrain.engine import fit, prepare, update
from cotrain.errors import CotrainError, InputError
from cotrain.gradients.clip import Clip
from cotrain.gradients.pcgrad import PCGrad
from cotrain.gradients.rule import GradientRule, chain
from cotrain.judge import accuracy
from cotrain.learner import Learner, follow
from cotrain.method import Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.report import note
from cotrain.run_state import RunState
from cotrain.stopping import Stopped
from cotrain.stream import Once, Rows
from cotrain.watch.flops import Peak

SGD = partial(optim.SGD, lr=0.1)
ADAMW = partial(optim.AdamW, lr=0.01)


class Weight(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values))

    def forward(self):
        return self.w


def weights(*roles, **options):
    """A learner with two weights (1, 1) for each role."""
    learners = {role: Learner(Weight(1.0, 1.0), SGD, **options) for role in roles}
    prepare(learners)
    return learners


def place(learner):
    return learner.net.w.tolist()


def parameters(learners):
    return {name: [p.detach().clone() for p in learner.net.parameters()] for name, learner in learners.items()}


def same(one, two):
    return all(torch.equal(a, b) for name in one for a, b in zip(one[name], two[name], strict=True))


@dataclass(frozen=True)
class Step(Method):
    """The step that a test writes down."""

    take: object

    def step(self, learners, batch, memory):
        return self.take(learners, batch, memory)


class TestOwnership:
    def test_the_key_says_who_learns_whoever_the_loss_flows_through(self):
        pair = weights("a", "b")
        update(pair, {"a": (pair["a"]() * pair["b"]()).sum()})
        assert place(pair["a"]) == pytest.approx([0.9, 0.9])
        assert place(pair["b"]) == [1.0, 1.0]
        assert pair["b"].net.w.grad is None

    def test_a_tuple_owns_together(self):
        trio = weights("a", "b", "c")
        update(trio, {("a", "b"): (trio["a"]() * trio["b"]() * trio["c"]()).sum()})
        assert place(trio["a"]) == place(trio["b"]) == pytest.approx([0.9, 0.9])
        assert place(trio["c"]) == [1.0, 1.0]

    def test_the_losses_of_one_learner_under_several_keys_are_added_and_it_steps_once(self):
        pair = weights("a", "b")
        both = (pair["a"]() + pair["b"]()).sum()
        update(pair, {"a": 2 * pair["a"]().sum(), ("a", "b"): both})
        assert place(pair["a"]) == pytest.approx([0.7, 0.7])
        assert place(pair["b"]) == pytest.approx([0.9, 0.9])
        assert pair["a"].updates == 1

    def test_all_losses_are_taken_at_the_same_weights_in_any_order(self):
        def losses(pair):
            product = (pair["a"]() * pair["b"]()).sum()
            return {"a": product, "b": product.square()}

        one, two = weights("a", "b"), weights("a", "b")
        update(one, losses(one))
        update(two, dict(reversed(losses(two).items())))
        assert place(one["a"]) == place(two["a"]) == pytest.approx([0.9, 0.9])
        assert place(one["b"]) == place(two["b"]) == pytest.approx([0.6, 0.6])  # product 2: 1 - .1 * 2 * 2 * 1

    def test_who_is_left_out_does_not_move_and_does_not_count(self):
        pair = weights("a", "b")
        update(pair, {"a": pair["a"]().sum()})
        assert pair["b"].updates == 0
        assert place(pair["b"]) == [1.0, 1.0]

    @pytest.mark.parametrize("rule", [None, Clip(1.0)])
    def test_a_learner_that_no_loss_ever_reaches_is_named(self, rule):
        def take(learners, batch, memory):
            other = learners["b"]().sum() if memory["step"] > late else 0.0
            return {"a": learners["a"]().sum(), "b": learners["a"]().square().sum() + other}

        late = 9
        with pytest.raises(InputError, match="No loss of 'b' has reached any of its parameters"):
            fit(Step(take), weights("a", "b", rule=rule), {}, 4)
        late = 2  # some steps without are a method's own affair
        fit(Step(take), weights("a", "b", rule=rule), {}, 4)

    def test_gradients_do_not_pile_up(self):
        pair = weights("a", "b")
        for _ in range(2):
            update(pair, {"a": pair["a"]().sum()})
        assert place(pair["a"]) == pytest.approx([0.8, 0.8])

    def test_no_loss_at_all_is_a_step_without_movement(self):
        pair = weights("a", "b")
        fit(Step(lambda learners, batch, memory: {}), pair, {}, 2)
        assert place(pair["a"]) == [1.0, 1.0]


class TestLists:
    """Two conflicting losses: gradients (1, 0) and (-1, 1)."""

    def losses(self, learner):
        w = learner()
        return [w[0], w[1] - w[0]]

    def test_without_a_rule_a_list_is_a_sum(self):
        learners = weights("a")
        update(learners, {"a": self.losses(learners["a"])})
        assert place(learners["a"]) == pytest.approx([1.0, 0.9])

    def test_with_a_rule_they_arrive_apart(self):
        learners = weights("a", rule=PCGrad())
        update(learners, {"a": self.losses(learners["a"])})
        # projected to (.5, .5) and (0, 1)
        assert place(learners["a"]) == pytest.approx([0.95, 0.85])

    def test_losses_under_two_keys_are_apart_too(self):
        learners = weights("a", rule=PCGrad()) | weights("b")
        one, two = self.losses(learners["a"])
        update(learners, {"a": one, ("a", "b"): two + learners["b"]().sum()})
        assert place(learners["a"]) == pytest.approx([0.95, 0.85])
        assert place(learners["b"]) == pytest.approx([0.9, 0.9])

    def test_an_owner_without_a_rule_beside_one_with_a_rule_gets_the_sum(self):
        learners = weights("a", rule=PCGrad()) | weights("b")
        one, two = self.losses(learners["a"])
        shared = learners["b"]().sum()
        update(learners, {("a", "b"): [one + shared, two + 2 * shared], "b": shared})
        assert place(learners["a"]) == pytest.approx([0.95, 0.85])
        assert place(learners["b"]) == pytest.approx([0.6, 0.6])

    def test_rules_in_a_chain(self):
        learners = weights("a", rule=chain(PCGrad(), Clip(0.1)))
        update(learners, {"a": self.losses(learners["a"])})
        # (.5, 1.5) clipped to norm .1
        scale = 0.1 * 0.1 / math.hypot(0.5, 1.5)
        assert place(learners["a"]) == pytest.approx([1 - 0.5 * scale, 1 - 1.5 * scale], rel=1e-4)

    def test_microbatches_add_up_within_each_loss_before_the_rule(self):
        def run(parts):
            learners = weights("a", rule=PCGrad())

            def take(learners, batch, memory):
                x = batch["rows"]["x"].mean(0)
                w = learners["a"]()
                return {"a": [x[0] * w[0], x[1] * (w[1] - w[0])]}

            rows = Rows({"x": torch.tensor([[1.0, 4.0], [3.0, 0.0], [2.0, 2.0], [6.0, 2.0]])}, 4, shuffle=False)
            fit(Step(take), learners, {"rows": rows}, 3, microbatches=parts)
            return place(learners["a"])

        assert run(2) == pytest.approx(run(1))
        assert run(4) == pytest.approx(run(1))

    def test_the_report_shows_each_loss_of_a_list(self):
        learners = weights("a")
        report = fit(Step(lambda learners, batch, memory: {"a": self.losses(learners["a"])}), learners, {}, 1)
        assert report.last == {"step": 1, "loss a 0": 1.0, "loss a 1": 0.0}


class TestRules:
    def test_each_learner_is_clipped_by_its_own_norm(self):
        pair = weights("a", "b", rule=Clip(1.0))
        update(pair, {"a": 30 * pair["a"]().sum(), "b": 0.1 * pair["b"]().sum()})
        assert place(pair["a"]) == pytest.approx([1 - 0.1 / math.sqrt(2)] * 2, rel=1e-5)
        assert place(pair["b"]) == pytest.approx([0.99, 0.99])

    def test_a_rule_that_writes_into_gradients_kept_apart_writes_into_each_once(self):
        class Halve(GradientRule):
            per_loss = True

            def __call__(self, sets):
                for gradient in sets[0]:
                    gradient.mul_(0.5)
                return sets

        class Sum(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two, self.three = (nn.Parameter(torch.zeros(2)) for _ in range(3))

            def forward(self):
                return self.one + self.two + self.three.view(1, 2)

        learners = {"a": Learner(Sum(), SGD, rule=Halve()).build()}
        for loss in (lambda out: (torch.ones(2) * out).sum(), torch.sum):  # a gradient of own memory, an expanded one
            update(learners, {"a": loss(learners["a"]())})
            assert [p.grad.tolist() for p in learners["a"].parameters] == [[0.5, 0.5]] * 3

    def test_a_rule_sees_what_all_microbatches_left(self):
        seen = []

        class Look(GradientRule):
            def __call__(self, sets):
                seen.append([g.tolist() for g in sets[0]])
                return sets

        learners = weights("a", rule=Look())
        rows = Rows({"x": torch.tensor([1.0, 3.0])}, 2)
        take = Step(lambda learners, batch, memory: {"a": batch["rows"]["x"].mean() * learners["a"]().sum()})
        fit(take, learners, {"rows": rows}, 1, microbatches=2)
        assert seen == [[[2.0, 2.0]]]


def dropout_net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))


class TestNoise:
    def train(self, roles, seed=0, steps=4):
        seeds = {"a": 1, "b": 2, "c": 3}
        learners = {role: Learner(dropout_net(seeds[role]), SGD) for role in roles}
        fit(Alone(), learners, {"labelled": labelled_rows()}, steps, seed=seed)
        return parameters(learners)

    def test_adding_a_learner_does_not_change_the_noise_of_another(self):
        assert same(self.train("a"), self.train("cab"))

    def test_the_seed_changes_the_noise(self):
        assert not same(self.train("a"), self.train("a", seed=1))

    def test_learners_of_one_net_have_different_noise(self):
        learners = {role: Learner(dropout_net(0), SGD) for role in "ab"}
        fit(Alone(), learners, {"labelled": labelled_rows()}, 1)
        assert not torch.equal(learners["a"].net[0].weight, learners["b"].net[0].weight)

    def test_calls_in_one_step_have_different_noise(self):
        seen = []

        def take(learners, batch, memory):
            x = batch["labelled"]["x"]
            seen.append(torch.equal(learners["a"](x), learners["a"](x)))
            return {}

        fit(Step(take), {"a": Learner(dropout_net(0), SGD)}, {"labelled": labelled_rows()}, 1)
        assert seen == [False]

    def test_what_the_program_drew_before_does_not_matter(self):
        torch.rand(7)
        one = self.train("a")
        torch.manual_seed(5)
        assert same(one, self.train("a"))

    def test_the_programs_own_random_numbers_are_left_as_they_were(self):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        state = torch.get_rng_state()
        learners = {"a": Learner(dropout_net(0), SGD)}
        torch.set_rng_state(state)
        fit(Alone(), learners, {"labelled": labelled_rows()}, 2)
        assert torch.equal(torch.rand(2), expected)
        assert learners["a"].noise is None

    @pytest.mark.parametrize("net", [two_layer(), nn.Sequential(two_layer(), nn.Dropout(0.5)), Weight(1.0)])
    def test_generators_are_seeded_for_nets_that_may_draw(self, net, monkeypatch):
        seeded = []
        monkeypatch.setattr("cotrain.learner.seed_torch", seeded.append)

        def take(learners, batch, memory):
            learners["a"](batch["labelled"]["x"]) if not isinstance(net, Weight) else learners["a"]()
            return {}

        with pytest.warns(UserWarning, match="did not learn"):
            fit(Step(take), {"a": Learner(net, SGD)}, {"labelled": labelled_rows()}, 2, device="cpu")
        assert len(seeded) == (0 if isinstance(net, nn.Sequential) and len(net) == 3 else 2)

    def test_draws_of_the_method_are_addressed_by_the_step(self):
        def run(steps, extra):
            seen = []

            def take(learners, batch, memory):
                if extra:
                    learners["a"](batch["labelled"]["x"])
                seen.append((torch.rand((), generator=memory["generator"]).item(), memory["step"]))
                return {}

            fit(Step(take), {"a": Learner(dropout_net(0), SGD)}, {"labelled": labelled_rows()}, steps)
            return seen

        assert run(3, extra=False) == run(3, extra=True)
        assert len({number for number, _ in run(3, extra=False)}) == 3
        assert [step for _, step in run(3, extra=False)] == [0, 1, 2]

    def test_even_torchs_own_generator_is_addressed(self):
        def run():
            seen = []

            def take(learners, batch, memory):
                seen.append(torch.rand(()).item())
                return {}

            fit(Step(take), {}, {}, 3)
            return seen

        assert run() == run()


@dataclass(frozen=True)
class Alone(Method):
    """Each learner learns the labels."""

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        return {name: F.cross_entropy(learner(x), y) for name, learner in learners.items()}


class TestMicrobatches:
    @pytest.mark.parametrize("parts", [2, 4, 8])
    def test_they_equal_one_batch(self, parts):
        def run(parts):
            learners = {"a": Learner(two_layer(), SGD), "b": Learner(two_layer(seed=1), SGD, rule=Clip(0.1))}
            fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 5, microbatches=parts)
            return parameters(learners)

        whole, cut = run(1), run(parts)
        for name in whole:
            for one, two in zip(whole[name], cut[name], strict=True):
                torch.testing.assert_close(one, two)

    def test_each_takes_the_backward_passes_of_a_batch(self, monkeypatch):
        passes = []
        plain = ownership._run_backward
        monkeypatch.setattr(ownership, "SMALL", 0)
        monkeypatch.setattr(
            ownership,
            "_run_backward",
            lambda losses, *rest, **how: (passes.append(len(losses)), plain(losses, *rest, **how)),
        )
        learners = {"a": Learner(two_layer(), SGD), "b": Learner(two_layer(seed=1), SGD)}
        fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 1, microbatches=2, device="cpu")
        assert passes == [2, 2]

    def test_the_reported_loss_is_the_batchs(self):
        def report(parts):
            rows = {"labelled": labelled_rows()}
            return fit(Alone(), {"a": Learner(two_layer(), SGD)}, rows, 3, microbatches=parts).last["loss a"]

        assert report(4) == pytest.approx(report(1), rel=1e-6)

    def test_batch_normalization_in_parts_of_a_batch_is_said(self, recwarn):
        def run(parts, norm):
            learners = {name: Learner(nn.Sequential(nn.Linear(4, 3), norm(3)), SGD) for name in "ab"}
            fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 1, microbatches=parts)

        run(1, nn.BatchNorm1d)
        run(2, nn.LayerNorm)
        assert not recwarn.list
        run(2, nn.BatchNorm1d)
        assert "'a', 'b' sees the rows of one of 2 parts" in str(recwarn.pop(UserWarning).message)

    def test_a_learner_that_only_some_microbatches_train_keeps_what_it_got(self):
        def take(learners, batch, memory):
            key = "a" if batch["rows"]["x"][0] == 0 else ("a", "b")
            return {key: sum(learners[name]().sum() for name in key)}

        pair = weights("a", "b")
        fit(Step(take), pair, {"rows": Rows({"x": torch.tensor([0, 1])}, 2, shuffle=False)}, 1, microbatches=2)
        assert place(pair["a"]) == pytest.approx([0.9, 0.9])
        assert place(pair["b"]) == pytest.approx([0.95, 0.95])

    def test_they_must_divide_the_batch(self):
        with pytest.raises(InputError, match="3 microbatches do not divide the 8 rows of 'labelled', field 'x'"):
            fit(Alone(), {"a": Learner(two_layer(), SGD)}, {"labelled": labelled_rows()}, 1, microbatches=3)

    def test_a_method_that_needs_the_whole_batch_refuses_them(self):
        class Whole(Alone):
            whole_batch = True

        with pytest.raises(InputError, match="Whole needs the whole batch"):
            fit(Whole(), {"a": Learner(two_layer(), SGD)}, {"labelled": labelled_rows()}, 1, microbatches=2)


class TestPrecision:
    def test_bf16_trains_and_keeps_fp32_weights(self):
        def run(precision):
            learners = {"a": Learner(two_layer(), ADAMW)}
            report = fit(Alone(), learners, {"labelled": labelled_rows()}, 60, precision=precision)
            assert all(p.dtype == torch.float32 for p in learners["a"].net.parameters())
            return report.last["loss a"]

        assert run("bf16") == pytest.approx(run("fp32"), rel=0.05)

    def test_the_step_runs_in_bf16(self):
        seen = []

        def take(learners, batch, memory):
            seen.append(learners["a"](batch["labelled"]["x"]).dtype)
            return {}

        fit(Step(take), {"a": Learner(two_layer(), SGD)}, {"labelled": labelled_rows()}, 1, precision="bf16")
        assert seen == [torch.bfloat16]


class TestReport:
    def test_rows_hold_the_means_since_the_last_row(self):
        def take(learners, batch, memory):
            note("number", memory["step"])
            return {"a": learners["a"]().sum() * 0 + memory["step"]}

        report = fit(Step(take), weights("a"), {}, 5, log_every=2)
        assert report.rows == [
            {"step": 2, "number": 0.5, "loss a": 0.5},
            {"step": 4, "number": 2.5, "loss a": 2.5},
            {"step": 5, "number": 4.0, "loss a": 4.0},
        ]

    def test_owners_of_one_loss_are_joined(self):
        pair = weights("a", "b")
        report = fit(Step(lambda ls, batch, memory: {("a", "b"): (ls["a"]() + ls["b"]()).sum()}), pair, {}, 1)
        assert report.last == {"step": 1, "loss a+b": 4.0}

    def test_judges_run_on_time_and_at_the_end(self):
        test = Once({"x": torch.randn(6, 4), "y": torch.zeros(6, dtype=torch.long)})
        learners = {"a": Learner(two_layer(), SGD)}
        judges = [(accuracy(of="a"), test)]
        report = fit(Alone(), learners, {"labelled": labelled_rows()}, 5, judges=judges, judge_every=2)
        assert [step for step, _ in report.column("accuracy")] == [2, 4, 5]
        assert set(report.rows[-1]) == {"step", "accuracy"}

    def test_judging_does_not_change_training(self):
        def run(**judging):
            learners = {"a": Learner(dropout_net(0), SGD)}
            fit(Alone(), learners, {"labelled": labelled_rows()}, 6, **judging)
            return parameters(learners)

        test = Once({"x": torch.randn(6, 4), "y": torch.zeros(6, dtype=torch.long)})
        assert same(run(), run(judges=[(accuracy(of="a"), test)], judge_every=1))


class Ops(TorchDispatchMode):
    """Counts the aten calls made under it."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


class TestCost:
    """What the engine adds to the plain loop of mutual learning on two nets."""

    def rows(self):
        rng = torch.Generator().manual_seed(0)
        return Rows({"x": torch.randn(256, 64, generator=rng), "y": torch.randint(10, (256,), generator=rng)}, batch=64)

    def nets(self):
        return [two_layer(hidden=128, seed=seed, features=64, outputs=10) for seed in (0, 1)]

    def test_as_many_aten_calls_as_the_plain_loop_but_one_detach_a_loss(self):
        nets, rows = self.nets(), self.rows()
        optimizers = [optim.AdamW(net.parameters(), lr=1e-3, fused=True) for net in nets]

        def plain(steps):
            for _ in range(steps):
                batch = next(rows)
                x, y = batch["x"], batch["y"]
                one, two = (net(x) for net in nets)
                one_loss = F.cross_entropy(one, y) + kl(one, two.detach())
                two_loss = F.cross_entropy(two, y) + kl(two, one.detach())
                for optimizer in optimizers:
                    optimizer.zero_grad()
                (one_loss + two_loss).backward()
                for optimizer in optimizers:
                    optimizer.step()

        def kl(own, other):
            return F.kl_div(own.log_softmax(-1), other.softmax(-1), reduction="batchmean")

        learners = {f"net {i}": Learner(net, partial(optim.AdamW, lr=1e-3)) for i, net in enumerate(self.nets())}
        streams = {"labelled": self.rows()}

        def engine(steps):
            fit(MutualLearning(), learners, streams, steps, log_every=1000, device="cpu")

        def per_step(run):
            """What is done once a run cancels out; the runs begin with an epoch of four batches."""
            run(4)
            few, many = Ops(), Ops()
            with few:
                run(4)
            with many:
                run(12)
            return Counter({name: (many.calls[name] - few.calls[name]) / 8 for name in many.calls})

        loop, ours = per_step(plain), per_step(engine)
        more, less = ours - loop, loop - ours
        # One detach a loss, for the report; it copies nothing and starts no kernel. The plain loop adds its losses up,
        # starts a gradient from the sum and divides by 64 where the exchange multiplies by 1/64.
        assert more == {"aten.detach.default": 2, "aten.mul.Tensor": 4}
        profiled = {
            "profiler._record_function_enter_new.default": 2,
            "profiler._record_function_exit._RecordFunction": 2,
        }
        # zero_grad is not called
        assert less == {"aten.add.Tensor": 1, "aten.ones_like.default": 1, "aten.div.Tensor": 4, **profiled}

    def test_a_gradient_that_is_changed_in_place_changes_no_later_one(self):
        """A loss that is a parameter gets the number at which every backward pass starts as its gradient."""
        learners = {"a": Learner(Weight(), SGD)}
        learners["a"].net.w = nn.Parameter(torch.tensor(2.0))
        prepare(learners)
        for _ in range(2):
            update(learners, {"a": learners["a"].net.w})
            learners["a"].net.w.grad.mul_(5)
        assert learners["a"].net.w.item() == pytest.approx(2.0 - 2 * 0.1)

    def test_nothing_is_read_back_between_rows_of_the_report(self, monkeypatch):
        """`item` and `tolist` are what waits for a device."""
        waits = []
        for name in ("item", "tolist", "__bool__", "__float__"):
            original = getattr(torch.Tensor, name)
            monkeypatch.setattr(
                torch.Tensor, name, lambda self, _original=original, _name=name: waits.append(_name) or _original(self)
            )
        learners = {role: Learner(two_layer(seed=seed), SGD, rule=Clip(1.0)) for seed, role in enumerate("ab")}
        learners["mean"] = follow("a")

        def take(learners, batch, memory):
            x, y = batch["labelled"]["x"], batch["labelled"]["y"]
            note("size", x.abs().mean())
            return {role: F.cross_entropy(learners[role](x), y) for role in "ab"}

        fit(Step(take), learners, {"labelled": labelled_rows()}, 20, log_every=10, device="cpu")
        assert waits == [
            "tolist",
            "tolist",
            "__bool__",
            "__bool__",
            "tolist",
        ]  # two rows; two nets in the end


@dataclass(frozen=True)
class Remembering(Method):
    """A method with all that a checkpoint must keep: memory, noise of its own, a follower's outputs, two streams."""

    weight: float = 0.5

    def memory(self, learners):
        return {"mean_C": torch.full((3,), 1 / 3), "seen": {"rows": torch.tensor(0)}}

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        weak, strong = batch["unlabelled"]["weak"], batch["unlabelled"]["strong"]
        with torch.no_grad():
            target = learners["mean"](weak).softmax(-1) / memory["mean_C"]
            target = target / target.sum(-1, keepdim=True)
        memory["mean_C"].lerp_(target.mean(0), 0.1)
        memory["seen"]["rows"] += len(x)
        noise = torch.randn(strong.shape, generator=memory["generator"])
        agreement = F.mse_loss(learners["a"](strong + 0.1 * noise).softmax(-1), target)
        losses = {"a": F.cross_entropy(learners["a"](x), y) + self.weight * agreement}
        if memory["step"] % 3 == 0:
            losses["b"] = F.cross_entropy(learners["b"](x), y)
        return losses


def test_the_seed_decides_what_a_step_draws():
    def drawn(seed):
        found = []

        def take(learners, batch, memory):
            found.append(torch.rand((), generator=memory["generator"]).item())
            return {"a": learners["a"]().sum()}

        fit(Step(take), weights("a"), {}, 2, seed=seed)
        return found

    assert drawn(0) == drawn(0) != drawn(1)


def remembering(seed=0):
    def halving(updates):
        return 0.5 ** (updates / 10)

    learners = {
        "a": Learner(dropout_net(1), ADAMW, schedule=halving, rule=Clip(1.0)),
        "b": Learner(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), SGD),
        "mean": follow("a", 0.9),
    }
    return learners, {"labelled": labelled_rows(batch=7), "unlabelled": unlabelled_rows(batch=5)}


def everything(learners, streams):
    """All that training changes, as one nested value to compare."""
    return [learner.state() for learner in learners.values()], [stream.state() for stream in streams.values()]


def equal(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def train(steps, out=None, seed=0, **options):
    torch.manual_seed(0)
    learners, streams = remembering()
    report = fit(Remembering(), learners, streams, steps, seed=seed, out=out, log_every=4, device="cpu", **options)
    return learners, streams, report


class TestResume:
    @pytest.mark.parametrize("stop", [1, 6, 13])
    def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(self, stop, tmp_path):
        straight = train(17)
        train(stop, tmp_path)
        resumed = train(17, tmp_path)
        assert equal(everything(*straight[:2]), everything(*resumed[:2]))

    def test_in_many_pieces(self, tmp_path):
        straight = train(12)
        for steps in range(1, 13):
            resumed = train(steps, tmp_path)
        assert equal(everything(*straight[:2]), everything(*resumed[:2]))

    def test_the_report_is_the_unbroken_runs(self, tmp_path):
        class Stop(Exception):
            pass

        def stop_at(step, out):
            torch.manual_seed(0)
            learners, streams = remembering()

            class Stopping(Remembering):
                def step(self, learners, batch, memory):
                    if memory["step"] == step:
                        raise Stop
                    return super().step(learners, batch, memory)

            Stopping.__name__ = "Remembering"
            with pytest.raises(Stop):
                fit(Stopping(), learners, streams, 17, out=out, save_every=3, log_every=4, device="cpu")

        straight = train(17)[2]
        stop_at(10, tmp_path)
        resumed = train(17, tmp_path, save_every=3)[2]
        assert resumed.rows == straight.rows
        assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == straight.rows

    def test_a_finished_run_is_not_run_again(self, tmp_path):
        first = train(5, tmp_path)
        again = train(5, tmp_path)
        assert equal(everything(*first[:2]), everything(*again[:2]))
        assert again[2].rows == first[2].rows

    def test_a_damaged_checkpoint_is_passed_over_to_the_last_good_one(self, tmp_path):
        straight = train(17)
        train(9, tmp_path, save_every=4)
        newest = max((tmp_path / "checkpoints").iterdir())
        (newest / checkpoint.TENSORS).write_bytes(b"broken")
        resumed = train(17, tmp_path)
        assert equal(everything(*straight[:2]), everything(*resumed[:2]))

    def test_a_loss_that_is_not_finite_never_replaces_a_good_checkpoint(self, tmp_path):
        def take(learners, batch, memory):
            bad = math.nan if memory["step"] >= 5 else 1.0
            return {"a": bad * learners["a"]().sum()}

        with pytest.raises(CotrainError, match="loss of a is nan"):
            fit(Step(take), weights("a"), {}, 50, out=tmp_path, save_every=2)
        assert checkpoint.load_last(tmp_path / "checkpoints")["step"] == 4

    def test_the_last_ones_and_the_best_are_kept(self, tmp_path):
        scores = iter([0.1, 0.9, 0.3, 0.2, 0.4])

        def judge(learners, stream):
            return {"score": next(scores)}

        learners, streams = remembering()
        fit(
            Remembering(),
            learners,
            streams,
            10,
            judges=[(judge, [])],
            judge_every=2,
            out=tmp_path,
            save_every=2,
            keep=2,
            best="score",
            device="cpu",
        )
        kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
        assert kept == ["step-000000004", "step-000000008", "step-000000010"]

    def test_a_score_is_that_of_the_weights_that_were_judged(self, tmp_path):
        scores = iter([0.9, 0.1, 0.2, 0.3])

        def judge(learners, stream):
            return {"score": next(scores)}

        options = {"judges": [(judge, [])], "judge_every": 10, "save_every": 2, "best": "score"}
        take = Step(lambda learners, batch, memory: {"a": learners["a"]().sum()})
        fit(take, weights("a"), {}, 40, out=tmp_path, **options)
        assert checkpoint.load_best(tmp_path / "checkpoints")["step"] == 10

    def test_every_judgement_is_saved_where_the_best_is_asked_for(self, tmp_path):
        scores = iter([0.1, 0.9, 0.2])

        def judge(learners, stream):
            return {"score": next(scores)}

        options = {"judges": [(judge, [])], "judge_every": 2, "best": "score"}
        take = Step(lambda learners, batch, memory: {"a": learners["a"]().sum()})
        fit(take, weights("a"), {}, 5, out=tmp_path, **options)
        assert checkpoint.load_best(tmp_path / "checkpoints")["step"] == 4

    def test_a_best_number_that_no_judge_gives(self, tmp_path):
        options = {"judges": [(lambda learners, stream: {"score": 1.0}, [])], "judge_every": 3, "best": "scrore"}
        take = Step(lambda learners, batch, memory: {"a": learners["a"]().sum()})
        with pytest.raises(InputError, match="best is 'scrore', a number that no judge gave at step 3"):
            fit(take, weights("a"), {}, 9, out=tmp_path, **options)
        assert checkpoint.load_last(tmp_path / "checkpoints")["step"] == 3

    @pytest.mark.parametrize("judge", [lambda *_: {"score": 1 / 0}, lambda *_: {"score": "good"}])
    def test_what_was_learned_is_saved_where_a_judge_fails_at_the_end(self, judge, tmp_path):
        take = Step(lambda learners, batch, memory: {"a": learners["a"]().sum()})
        with pytest.raises((InputError, ZeroDivisionError)):
            fit(take, weights("a"), {}, 3, out=tmp_path, judges=[(judge, [])], best="score")
        assert checkpoint.load_last(tmp_path / "checkpoints")["step"] == 3
        asked = []
        for _ in range(2):  # the mended judge is asked once
            report = fit(
                take, weights("a"), {}, 3, out=tmp_path, judges=[(lambda *_: {"score": asked.append(1) or 0.5}, [])]
            )
            assert report.column("score") == [(3, 0.5)]
        assert len(asked) == 1

    def test_running_on_after_the_end_goes_on(self, tmp_path):
        straight = train(9)
        train(5, tmp_path)
        assert equal(everything(*straight[:2]), everything(*train(9, tmp_path)[:2]))


@pytest.mark.parametrize(
    ("how", "passes"),
    [
        ("own leaves only", [(2, False)]),
        ("through another's leaf", [(1, False), (1, False)]),
        ("one graph", [(1, True), (1, False)]),
        ("one graph of an owner of both", [(2, False)]),
        ("a list", [(1, False), (1, False)]),
    ],
)
def test_backward_passes_are_as_few_and_graphs_as_short_lived_as_they_may_be(monkeypatch, how, passes):
    def take(learners, batch, memory):
        one, two = learners["a"](), learners["b"]()
        own = {"a": one.square().sum(), "b": (two * one.detach()).sum()}
        both = (one * two).square().sum()
        if how == "through another's leaf":
            return own | {"b": (two * one).sum()}
        if how == "one graph":
            return {"a": both, "b": both.sqrt()}
        if how == "one graph of an owner of both":
            return {("a", "b"): both, ("b", "a"): both.sqrt()}
        return own | ({"a": [own["a"], one.sum()]} if how == "a list" else {})

    def run():
        learners = weights("a", "b")
        fit(Step(take), learners, {}, 2, device="cpu")
        return parameters(learners)

    small = run()
    kept = []
    plain = ownership._run_backward
    monkeypatch.setattr(ownership, "SMALL", 0)
    monkeypatch.setattr(
        ownership, "_run_backward", lambda a, b, keep=False: (kept.append((len(a), keep)), plain(a, b, keep))
    )
    assert same(small, run())
    assert kept == passes * 2


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("listed", [False, True])
def test_no_graph_outlives_the_losses(microbatches, listed):
    """What was saved for backward is gone before the next forward pass and before the optimizers step."""
    saved = WeakSet()
    alive = []

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # an output itself would hold its graph
            saved.add(self)

    class Watched(optim.SGD):
        def step(self, closure=None):
            alive.append(len(saved))
            super().step(closure)

    def take(learners, batch, memory):
        alive.append(len(saved))
        x = batch["labelled"]["x"]
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda kept: kept.tensor):
            product = learners["a"](x).tanh() * learners["b"](x).tanh()  # each net is in the other's graph
            losses = {"a": product.square().mean(), "b": product.mean()}
        assert saved
        return {owner: [loss] for owner, loss in losses.items()} if listed else losses

    learners = {name: Learner(two_layer(seed=seed), partial(Watched, lr=0.1)) for seed, name in enumerate("ab")}
    fit(Step(take), learners, {"labelled": labelled_rows()}, 2, microbatches=microbatches, device="cpu")
    assert alive == [0] * 2 * (microbatches + 2)


def test_large_graphs_are_taken_for_joined():
    x = torch.ones((), requires_grad=True)
    long = sum((x * n for n in range(60)), x)
    assert not ownership._graphs({"a": long, "b": x * 1}).joined
    assert ownership._graphs({"a": long, "b": x * 1}, limit=100) == ownership.Graphs(True, [])


def test_a_learner_that_no_step_gives_a_loss_is_named():
    def take(learners, batch, memory):
        return {"a": learners["a"]().square().sum()}

    with pytest.warns(UserWarning, match=r"'b' did not learn: not one update in 3 steps"):
        fit(Step(take), weights("a", "b"), {}, 3)


class TestNotFinite:
    @pytest.mark.parametrize("policy", ["skip", "rollback"])
    def test_right_after_a_resume_a_learner_keeps_what_it_resumed_with(self, tmp_path, policy):
        def run(steps):
            learners = weights("a")
            learners["a"].nonfinite = policy

            def take(learners, batch, memory):
                return {"a": (learners["a"]() - 3).square().sum() * (math.nan if memory["step"] >= 5 else 1.0)}

            fit(Step(take), learners, {}, steps, out=tmp_path)
            return learners["a"]

        saved = run(5)
        resumed = run(7)
        assert resumed.updates == saved.updates == 5
        assert_same(resumed.net.state_dict(), saved.net.state_dict())

    def test_a_gradient_that_goes_wrong_in_the_last_step_ends_the_run_too(self):
        def take(learners, batch, memory):
            w = learners["a"]()
            return {"a": (w * (memory["step"] != 3)).square().sum().sqrt() + w.sum()}  # at 0 its gradient is NaN

        with pytest.raises(CotrainError, match="weights of 'a' are not finite at or shortly before step 4"):
            fit(Step(take), weights("a"), {}, 4)

    def test_stop_is_the_rule(self):
        def take(learners, batch, memory):
            return {"a": learners["a"]().sum() * math.nan}

        with pytest.raises(CotrainError, match="loss of a is nan"):
            fit(Step(take), weights("a"), {}, 3)

    def test_a_loss_is_excused_only_if_all_its_owners_are_guarded(self):
        """And whatever the roles are called."""
        learners = weights("my net", "b")
        learners["my net"].nonfinite = "skip"

        def take(learners, batch, memory):
            bad = math.nan if memory["step"] == 1 else 1.0
            return {owners: [learners["my net"]().sum() * learners["b"]().sum() * bad]}

        owners = "my net"
        fit(Step(take), learners, {}, 3)
        assert learners["my net"].updates == 2
        owners = ("my net", "b")
        with pytest.raises(CotrainError, match=r"loss of my net\+b 0 is nan"):
            fit(Step(take), learners, {}, 3)

    def test_weights_that_went_wrong_behind_a_finite_loss_replace_no_good_ones(self, tmp_path):
        def take(learners, batch, memory):
            w = learners["a"]()
            wrong = (w * (memory["step"] != 3)).square().sum().sqrt()  # at 0 its gradient is not a number
            return {"a": wrong + w.sum()}

        with pytest.raises(CotrainError, match="weights of 'a' are not finite at or shortly before step 4"):
            fit(Step(take), weights("a"), {}, 8, out=tmp_path, save_every=2)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000000002"]


class ExtraState(nn.Linear):
    """Counts its calls in what `state_dict` has besides tensors."""

    def __init__(self):
        super().__init__(4, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)

    def get_extra_state(self):
        return {"calls": self.calls}

    def set_extra_state(self, state):
        self.calls = state["calls"]


def test_extra_state_and_numbers_of_numpy_are_saved_and_resumed(tmp_path):
    def run(steps, out=None):
        rate = partial(optim.SGD, lr=np.float32(0.1), weight_decay=np.float32(0.5))
        learners = {"a": Learner(ExtraState(), rate, schedule=lambda updates: np.float32(0.9) ** updates)}
        learners["a"].net.load_state_dict(start)
        judges = [(lambda learners, stream: {"loss": np.float32(0.5)}, []), (lambda *_: {"one": torch.ones(1)}, [])]
        report = fit(Alone(), learners, {"labelled": labelled_rows()}, steps, out=out, judges=judges)
        assert (report.last["loss"], report.last["one"]) == (0.5, 1.0)
        return learners["a"].net

    start = ExtraState().state_dict()
    run(2, tmp_path)
    resumed, straight = run(5, tmp_path), run(5)
    assert resumed.calls == straight.calls == 5
    assert torch.equal(resumed.weight, straight.weight)


@pytest.mark.parametrize(("rule", "nonfinite"), [(Clip(0.1), "stop"), (None, "skip"), (None, "rollback")])
def test_embeddings_with_sparse_gradients_train_as_dense_ones_do(rule, nonfinite):
    def run(sparse):
        net = nn.Embedding(6, 2, sparse=sparse)
        nn.init.ones_(net.weight)
        learners = {"a": Learner(net, SGD, rule=rule, nonfinite=nonfinite)}
        take = Step(lambda learners, batch, memory: {"a": learners["a"](torch.tensor([1, 1, 4])).square().sum()})
        fit(take, learners, {}, 3, device="cpu")
        return net.weight

    torch.testing.assert_close(run(True), run(False))


class TestStopped:
    def test_who_says_that_it_is_saved_has_saved(self, tmp_path, monkeypatch):
        def take(learners, batch, memory):
            signal.raise_signal(signal.SIGTERM)
            return {"a": learners["a"]().sum()}

        def full(*_):
            raise OSError("no space left")

        with pytest.raises(Stopped):
            fit(Step(take), weights("a"), {}, 3, out=tmp_path)
        assert checkpoint.load_last(tmp_path / "checkpoints")["step"] == 1
        monkeypatch.setattr("cotrain.checkpoint.save_file", full)
        with pytest.raises(CotrainError, match=r"step 2 could not be written .* no space left"):
            fit(Step(take), weights("a"), {}, 3, out=tmp_path)


def assert_same(one, other):
    for name, value in one.items():
        assert torch.equal(other[name], value)


class TestCheckpointOfAnotherRun:
    @pytest.fixture
    def folder(self, tmp_path):
        train(3, tmp_path)
        return tmp_path

    def run(self, folder, change=lambda learners, streams: None, method=None, steps=6, seed=0):
        learners, streams = remembering()
        change(learners, streams)
        fit(method or Remembering(), learners, streams, steps, seed=seed, out=folder)

    def test_other_learners(self, folder):
        def change(learners, streams):
            learners["c"] = learners.pop("b")

        with pytest.raises(
            InputError, match=r"(?s)another run.*\n  b  unexpected, not in this run: 0.weight.*\n  c  missing in"
        ):
            self.run(folder, change)

    def test_other_streams(self, folder):
        with pytest.raises(InputError, match=r"streams only in the checkpoint: \['unlabelled'\]"):
            self.run(folder, lambda learners, streams: streams.pop("unlabelled"))

    def test_another_net(self, folder):
        def change(learners, streams):
            learners["b"] = Learner(nn.Linear(4, 3), SGD)

        with pytest.raises(InputError, match=r"(?s)another run.*\n  b  was 0.weight 6x4.*; is weight 3x4, bias 3"):
            self.run(folder, change)

    def test_another_learning_rate(self, folder):
        def change(learners, streams):
            learners["b"].factory = partial(optim.SGD, lr=0.5)

        with pytest.raises(InputError, match=r"learner 'b'. Its optimizer was made with lr=0.1, now 0.5"):
            self.run(folder, change)

    def test_other_data(self, folder):
        def change(learners, streams):
            streams["labelled"] = labelled_rows(count=30)

        with pytest.raises(InputError, match=r"stream 'labelled'. The stream was saved with rows=24, now 30"):
            self.run(folder, change)

    def test_another_rule_decay_batch_or_precision(self, folder):
        def other(name, made):
            return lambda learners, streams: (streams if name == "labelled" else learners).update({name: made})

        clipped = Learner(dropout_net(1), ADAMW, schedule=lambda updates: 0.5, rule=Clip(2.0))
        bare = Learner(dropout_net(1), ADAMW, rule=Clip(1.0))
        for change, words in (
            (other("a", clipped), "the rule of 'a'.norm was 1.0, now 2.0"),
            (other("a", bare), "the schedule of 'a' was 'one', now 'none'"),
            (other("mean", follow("a", 0.5)), "the decay of 'mean' was 0.9, now 0.5"),
            (other("labelled", labelled_rows(batch=8)), "stream 'labelled'. The stream was saved with batch=7, now 8"),
        ):
            with pytest.raises(InputError, match=f"another run: .*{words}"):
                self.run(folder, change)
        with pytest.raises(InputError, match="precision was 'fp32', now 'bf16'"):
            train(3, folder, precision="bf16")  # also where nothing is left to do

    def test_one_from_before_the_settings_were_saved_goes_on(self, tmp_path, monkeypatch):
        whole = RunState.state
        with monkeypatch.context() as before:
            before.setattr(
                RunState,
                "state",
                lambda self, step: {name: part for name, part in whole(self, step).items() if name != "settings"},
            )
            train(3, tmp_path)
        train(6, tmp_path)
        assert checkpoint.load_last(tmp_path / "checkpoints")["step"] == 6

    def test_a_setting_inside_a_tuple_of_the_method(self, tmp_path):
        @dataclass(frozen=True)
        class Scaled(Remembering):
            scales: tuple[float, ...] = (1.0, 2.0)

        for _ in range(2):
            fit(Scaled(), *remembering(), 2, out=tmp_path)
        with pytest.raises(InputError, match=r"scales.1 was 2.0, now 3.0"):
            fit(Scaled(scales=(1.0, 3.0)), *remembering(), 2, out=tmp_path)

    def test_another_seed(self, folder):
        with pytest.raises(InputError, match="seed was 0, now 1"):
            self.run(folder, seed=1)

    def test_another_method_or_setting(self, folder):
        with pytest.raises(InputError, match=r"weight was 0.5, now 2.0"):
            self.run(folder, method=Remembering(weight=2.0))
        with pytest.raises(InputError, match="method was 'Remembering', now 'Alone'"):
            self.run(folder, method=Alone())

    def test_one_that_went_further(self, folder):
        with pytest.raises(InputError, match="stands at step 3, beyond the 2 asked for"):
            self.run(folder, steps=2)

    def test_what_is_not_taken_over_starts_anew(self, tmp_path):
        def run(rate, out=None, **options):
            rates = {"a": 0.1, "b": rate}  # `a` and the stream fit, and are loaded before `b` is found to differ
            learners = {n: Learner(two_layer(seed=s), partial(optim.SGD, lr=rates[n])) for s, n in enumerate("ab")}
            fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 4, out=out, **options)
            return parameters(learners)

        run(0.1, tmp_path / "old")
        assert same(run(0.2, tmp_path / "new", start_from=tmp_path / "old", partial=[]), run(0.2))

    def test_some_learners_can_be_taken_over_and_the_other_run_stays_as_it_is(self, folder):
        trained, _, _ = train(3)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        learners, streams = remembering()
        learners["c"] = learners.pop("b")

        @dataclass(frozen=True)
        class Look(Method):
            def step(self, learners, batch, memory):
                if memory["step"] == 0:
                    seen.update({name: one.state()["net"] for name, one in learners.items()})
                return {"c": learners["c"](batch["labelled"]["x"]).square().mean()}

        seen = {}
        for steps in (1, 2):  # the second time from the new run's own checkpoint
            fit(Look(), learners, streams, steps, out=folder / "new", start_from=folder, partial=["a"], device="cpu")
        # What follows a learner that was taken over starts from it.
        for name in ("a", "mean"):
            assert_same(trained["a"].net.state_dict(), seen[name])
        assert learners["mean"].updates == trained["a"].updates
        assert checkpoint.load_last(folder / "new" / "checkpoints")["step"] == 2
        assert before.items() <= {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}.items()

    def test_all_learners_can_be_taken_over(self, folder):
        trained, _, _ = train(3)
        learners, streams = remembering()
        fit(Step(lambda learners, batch, memory: {}), learners, streams, 1, start_from=folder, device="cpu")
        assert same(parameters(learners), parameters(trained))
        learners["c"] = learners.pop("b")
        with pytest.raises(InputError, match=r"(?s)does not fit: The learners differ:.*\n  b  unexpected"):
            fit(Remembering(), learners, streams, 1, start_from=folder)

    def test_where_there_is_nothing_to_start_from(self, tmp_path):
        with pytest.raises(InputError, match=r"no checkpoint in .* to start from"):
            fit(Alone(), weights("a"), {}, 1, start_from=tmp_path)
        with pytest.raises(InputError, match="say its folder, start_from"):
            fit(Alone(), weights("a"), {}, 1, out=tmp_path, partial=["a"])

    def test_one_that_is_asked_for_and_is_not_there(self, folder):
        learners, streams = remembering()
        with pytest.raises(InputError, match=r"(?s)The learners differ:.*\n  z  neither in the checkpoint nor"):
            fit(Remembering(weight=2.0), learners, streams, 6, start_from=folder, partial=["z"])

    def test_every_refusal_says_what_to_do(self, folder):
        with pytest.raises(InputError, match="Choose another folder, or remove it to start anew"):
            self.run(folder, seed=1)


class TestErrorsByName:
    def test_an_unknown_owner(self):
        pair = weights("a", "b")
        with pytest.raises(InputError, match="gave a loss to 'student'; the learners are 'a', 'b'"):
            update(pair, {"student": pair["a"]().sum()})

    def test_an_owner_without_an_optimizer(self):
        learners = weights("a") | {"frozen": Learner(Weight(1.0)).build()}
        with pytest.raises(InputError, match="'frozen', which has no optimizer"):
            update(learners, {("a", "frozen"): learners["a"]().sum()})

    def test_a_missing_learner(self):
        with pytest.raises(InputError, match="needs a learner named 'a_to_b'; given: 'a'"):
            fit(Step(lambda learners, batch, memory: {"a": learners["a_to_b"]()}), weights("a"), {}, 1)

    def test_a_number_noted_as_the_step(self):
        def take(learners, batch, memory):
            note("step", 1.0)
            return {"a": learners["a"]().sum()}

        with pytest.raises(InputError, match="would hide the row's own step"):
            fit(Step(take), weights("a"), {}, 1)

    def test_a_missing_stream(self):
        with pytest.raises(InputError, match="needs a stream named 'labelled'; given: 'rows'"):
            fit(Alone(), {"a": Learner(two_layer(), SGD)}, {"rows": labelled_rows()}, 1)

    def test_a_missing_field(self):
        take = Step(lambda learners, batch, memory: {"a": batch["labelled"]["weak"]})
        with pytest.raises(InputError, match="needs a field of stream 'labelled' named 'weak'; given: 'x', 'y'"):
            fit(take, weights("a"), {"labelled": labelled_rows()}, 1)

    def test_what_cannot_be_saved_is_said_after_the_first_step(self, tmp_path):
        class Array(Step):
            def memory(self, learners):
                return {"last": np.zeros(2)}

        def take(learners, batch, memory):
            assert memory["step"] == 0
            return {"a": learners["a"]().sum()}

        with pytest.raises(CotrainError, match=r"holds tensors and plain values, not ndarray \(memory/last\)"):
            fit(Array(take), weights("a"), {}, 2, out=tmp_path)

    def test_memory_that_was_not_declared(self, tmp_path):
        with pytest.raises(InputError, match=r"declares no 'queue'; it declares: \[\]"):
            fit(Step(lambda learners, batch, memory: {"a": memory["queue"]}), weights("a"), {}, 1)

        stepped = []

        def hoard(learners, batch, memory):
            stepped.append(memory["step"])
            memory["hoard"] = torch.zeros(1)
            return {}

        with pytest.raises(InputError, match=r"remembers hoard, which its memory\(\) does not declare"):
            fit(Step(hoard), weights("a"), {}, 9, out=tmp_path)
        assert stepped == [0]  # not only where the first checkpoint is due

    @pytest.mark.parametrize("name", ["step", "generator"])
    def test_memory_under_a_name_of_the_runs(self, name):
        @dataclass(frozen=True)
        class Greedy(Alone):
            def memory(self, learners):
                return {name: torch.zeros(())}

        with pytest.raises(InputError, match=rf"memory\(\) declares {name}, a name that the run itself gives"):
            fit(Greedy(), weights("a"), {}, 1)

    @pytest.mark.parametrize(("losses", "kind"), [(None, "NoneType"), (torch.ones(()), "Tensor")])
    @pytest.mark.parametrize("microbatches", [1, 2])
    def test_a_step_that_gives_no_dict(self, losses, kind, microbatches):
        with pytest.raises(InputError, match=f"Step.step returned a {kind}; it returns a dict of losses by learner"):
            fit(Step(lambda *_: losses), weights("a"), {}, 1, microbatches=microbatches)

    def test_a_stream_that_ends(self):
        streams = {"labelled": iter([next(labelled_rows())] * 2)}
        with pytest.raises(InputError, match="'labelled' ended at step 3; a stream gives batches without end"):
            fit(Alone(), {"a": Learner(two_layer(), SGD)}, streams, 5)

    def test_an_optimizer_that_asks_for_a_closure(self):
        with pytest.raises(InputError, match="Learner 'a' has LBFGS, whose step asks for a closure"):
            prepare({"a": Learner(two_layer(), optim.LBFGS)})

    def test_a_learner_with_nothing_to_train(self):
        with pytest.raises(InputError, match="Learner 'a' has an optimizer and no parameter that requires a gradient"):
            prepare({"a": Learner(two_layer().requires_grad_(False), SGD)})

    def test_a_shared_parameter(self):
        net = nn.Linear(4, 3)
        learners = {"one": Learner(net, SGD), "two": Learner(nn.Sequential(net, nn.Linear(3, 3)), SGD)}
        with pytest.raises(InputError, match="'one' and 'two' share a parameter"):
            prepare(learners)

    @pytest.mark.parametrize(
        ("loss", "message"),
        [
            (lambda w: 1.0, "is a float, not a tensor"),
            (lambda w: w, r"has shape \(2,\), not a scalar"),
            (lambda w: w.sum().detach(), "depends on no parameter"),
            (lambda w: [], r"is \[\], not a tensor"),
            (lambda w: [w.sum(), w], r"has shape \(2,\), not a scalar"),
            (lambda w: None, "is None, not a tensor"),
        ],
    )
    @pytest.mark.parametrize("rule", [None, PCGrad()])
    def test_a_loss_that_is_none(self, loss, message, rule):
        learners = weights("a", rule=rule)
        with pytest.raises(InputError, match=f"The loss of a {message}"):
            update(learners, {"a": loss(learners["a"]())})
        take = Step(lambda learners, batch, memory: {"a": loss(learners["a"]())})
        with pytest.raises(InputError, match=f"The loss of a {message}"):
            fit(take, learners, {"rows": Rows({"x": torch.ones(2)}, 2)}, 1, microbatches=2)

    def test_errors_of_the_graph_itself_come_through(self):
        learners = weights("a")
        loss = learners["a"]().exp().sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="second time"):
            update(learners, {"a": loss})

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite_names_its_learner(self, value):
        pair = weights("a", "b")
        take = Step(lambda ls, batch, memory: {"a": ls["a"]().sum(), "b": ls["b"]().sum() * value})
        with pytest.raises(CotrainError, match=r"The loss of b is (nan|inf) at or shortly before step 10"):
            fit(take, pair, {}, 50, log_every=10)

    def test_a_stream_that_is_no_iterator(self):
        with pytest.raises(InputError, match="'labelled' is a list, which has no next batch"):
            fit(Alone(), {}, {"labelled": [1]}, 1)

    def test_a_stream_that_cannot_be_saved(self, tmp_path):
        streams = {"labelled": iter([next(labelled_rows())])}
        fit(Alone(), {"a": Learner(two_layer(), SGD)}, streams, 1)
        with pytest.raises(InputError, match="'labelled', a list_iterator, cannot be saved"):
            fit(Alone(), {"a": Learner(two_layer(), SGD)}, streams, 1, out=tmp_path)

    def test_a_batch_that_is_no_dict(self):
        with pytest.raises(InputError, match="'labelled' gave a tuple; a batch is a dict"):
            fit(Alone(), {}, {"labelled": iter([(1, 2)])}, 1)

    @pytest.mark.parametrize("name", ["steps", "microbatches", "log_every", "judge_every", "save_every", "keep"])
    def test_counts_below_one(self, name):
        with pytest.raises(InputError, match=f"{name} is at least 1, not 0"):
            fit(Alone(), {}, {}, **{"steps": 1, name: 0})


def test_fit_again_goes_on_with_the_same_optimizer():
    once, twice = ({"a": Learner(two_layer(), ADAMW)} for _ in range(2))
    fit(Alone(), once, {"labelled": labelled_rows()}, 6)
    rows = labelled_rows()
    for _ in range(2):
        fit(Alone(), twice, {"labelled": rows}, 3)
    assert same(parameters(once), parameters(twice))
    assert twice["a"].updates == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestGPU:
    def test_training_moves_there_and_never_waits_between_rows(self):
        learners = {"a": Learner(two_layer(), ADAMW, rule=Clip(1.0)), "b": Learner(two_layer(seed=1), SGD)}
        x, y = torch.randn(64, 4, device="cuda"), torch.zeros(64, dtype=torch.long, device="cuda")

        class Resident:
            def __next__(self):
                return {"x": x, "y": y}

        fit(MutualLearning(), learners, {"labelled": Resident()}, 2, device="cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            with pytest.raises(RuntimeError, match="synchroniz"):
                fit(MutualLearning(), learners, {"labelled": Resident()}, 9, device="cuda", log_every=9)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert learners["a"].updates == 11  # all nine steps were taken; only the row of the report waited


class TestCompiled:
    @pytest.fixture
    def ran(self, monkeypatch):
        """Nets are compiled to themselves; what they ran on."""
        inputs = []

        def compiled(graph, _):
            return lambda *args: (inputs.append(args), graph(*args))[1]

        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiled))
        return inputs

    def test_nets_of_torchs_own_classes_too_from_the_first_step_to_the_end_of_the_run(self, ran):
        def take(learners, batch, memory):
            x = batch["labelled"]["x"]
            return {"a": (learners["a"](x) - learners["mean"](x)).square().mean(), "b": learners["b"](x).mean()}

        learners = {"a": Learner(two_layer(), SGD), "b": Learner(nn.Linear(4, 3), SGD), "mean": follow("a")}
        fit(Step(take), learners, {"labelled": labelled_rows()}, 5, device="cpu", compile=True)
        assert len(ran) == 15
        learners["a"](torch.ones(2, 4))
        assert len(ran) == 15

    def test_after_the_step_whose_operations_are_counted(self, ran):
        report = fit(
            Alone(),
            {"a": Learner(two_layer(), SGD)},
            {"labelled": labelled_rows()},
            5,
            compile=True,
            mfu=True,
            device="cpu",
        )
        assert len(ran) == 4
        assert report.last["mfu"] > 0

    def test_a_graph_is_kept_for_another_loss_after_a_step_that_kept_none(self, monkeypatch):
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))

        def take(learners, batch, memory):
            out = learners["a"](batch["labelled"]["x"])
            losses = {"a": out.square().mean(), ("a", "b"): out.mean() * learners["b"]().sum()}
            return losses if memory["step"] else {"a": losses["a"]}

        def run(**settings):
            learners = {"a": Learner(two_layer(), SGD), **weights("b")}
            fit(Step(take), learners, {"labelled": labelled_rows()}, 3, device="cpu", **settings)
            return parameters(learners)["a"]

        for one, two in zip(run(), run(compile=True), strict=True):
            torch.testing.assert_close(one, two)

    @pytest.mark.slow
    def test_they_learn_the_same_and_resume_bit_for_bit(self, tmp_path):
        def run(steps, **settings):
            torch._dynamo.reset()  # as in a new process
            learners = {"large": Learner(two_layer(16, seed=1), SGD), "small": Learner(two_layer(seed=2), SGD)}
            fit(MutualLearning(), learners, {"labelled": labelled_rows()}, steps, device="cpu", **settings)
            return parameters(learners)

        plain, compiled = run(8), run(8, compile=True)
        run(3, compile=True, out=tmp_path)
        assert same(compiled, run(8, compile=True, out=tmp_path))
        for name, own in plain.items():
            for one, two in zip(own, compiled[name], strict=True):
                torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


class TestSpeed:
    def test_the_share_of_the_peak_is_reported_by_learner(self):
        learners = {"large": Learner(two_layer(64, seed=1), SGD), "small": Learner(two_layer(seed=2), SGD)}
        report = fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 12, device="cpu", log_every=4, mfu=True)
        last = report.last
        assert 0 < last["mfu small"] < last["mfu large"] < last["mfu"] < 1

    def test_the_share_of_the_peak_is_that_of_steps_and_not_of_judges(self, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr("cotrain.watch.lookout.time", SimpleNamespace(perf_counter=lambda: clock[0]))
        monkeypatch.setattr("cotrain.watch.flops.peak_of", lambda device: Peak(1e6, "by hand"))

        def take(learners, batch, memory):
            clock[0] += 1.0
            return {"a": learners["a"](batch["labelled"]["x"]).mean()}

        def judge(learners, stream):
            clock[0] += 100.0
            return {"score": 1.0}

        learners = {"a": Learner(two_layer(), SGD)}
        settings = {"mfu": True, "log_every": 4, "judges": [(judge, [])], "judge_every": 3}
        report = fit(Step(take), learners, {"labelled": labelled_rows()}, 12, device="cpu", **settings)
        shares = [row["mfu"] for row in report.rows if "mfu" in row]
        assert len(shares) == 3
        assert shares == pytest.approx([shares[0]] * 3)
