"""The conformance suite catches what it says it catches: methods that each break one promise."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F
from cards import check_card
from torch import nn, optim

import cotrain
from cotrain import conformance
from cotrain.conformance import CHECKS, CheckFailed, check
from cotrain.conformance_ranks import check_replicas, check_shards
from cotrain.crew import Crew
from cotrain.exchanges.mutual_distillation import MutualDistillation
from cotrain.gradients.pcgrad import PCGrad
from cotrain.learner import Learner, follow
from cotrain.method import Example, Method
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.place import global_mean, masked_mean

SGD = partial(optim.SGD, lr=0.1)
PEERS = MutualDistillation()


@dataclass(frozen=True)
class Good(Method):
    """Supervised training of two learners, with a frozen third and a follower beside them."""

    weight: float = 1.0

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        return {name: self.weight * F.cross_entropy(learners[name](x), y) for name in ("a", "b")}

    @classmethod
    def example(cls):
        learners = {
            "a": Learner(two_layer(seed=1), SGD),
            "b": Learner(two_layer(seed=2), SGD),
            "frozen": Learner(two_layer(seed=3)),
            "mean": follow("a", 0.9),
        }
        return Example(cls(), learners, {"labelled": labelled_rows(), "unlabelled": unlabelled_rows()})


@dataclass(frozen=True)
class ByLocalCount(Good):
    """Divides by the number of rows that this rank happens to select."""

    whole_batch = True

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        chosen = (x[:, 0] > 0.3).float()
        losses = {name: F.cross_entropy(learners[name](x), y, reduction="none") * chosen for name in ("a", "b")}
        return {name: self.weight * loss.sum() / chosen.sum().clamp(min=1) for name, loss in losses.items()}


@dataclass(frozen=True)
class ByGlobalCount(ByLocalCount):
    """The same, divided by the number that all ranks select."""

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        losses = {name: F.cross_entropy(learners[name](x), y, reduction="none") for name in ("a", "b")}
        return {name: self.weight * masked_mean(loss, x[:, 0] > 0.3) for name, loss in losses.items()}


class LossesApart(Good):
    """One learner's rule wants its losses apart, which no sharded learner can have."""

    @classmethod
    def example(cls):
        example = super().example()
        example.learners["a"] = Learner(two_layer(seed=1), SGD, rule=PCGrad())
        return example


def test_ranks_catch_a_count_of_the_own_rows_and_pass_what_is_fine():
    with Crew(2) as crew:
        with pytest.raises(CheckFailed, match="two ranks with half of the rows each differ from one process: 'a'"):
            check_replicas(ByLocalCount, crew)
        check_replicas(ByGlobalCount, crew)
        check_shards(LossesApart, crew)


def test_a_class_that_other_processes_cannot_import_says_so():
    class Local(Good):
        pass

    with pytest.raises(CheckFailed, match=r"replicas: .*cannot be sent to other processes"):
        check(Local)


def caught(method):
    """The names of the checks that a method fails."""
    failed = []
    for one in CHECKS:
        try:
            one(method)
        except Exception:
            failed.append(one.__name__.removeprefix("check_"))
    return failed


def test_an_example_that_is_not_there_or_has_other_weights_each_time_is_said_once():
    class Unseeded(Good):
        @classmethod
        def example(cls):
            streams = {"labelled": labelled_rows()}
            return Example(cls(), {"a": Learner(nn.Linear(4, 3), SGD), "b": Learner(two_layer(), SGD)}, streams)

    class Absent(Method):
        step = Good.step

    for method, reason in ((Unseeded, "gives 'a' other weights each time"), (Absent, r"Absent has no example\(\)")):
        with pytest.raises(CheckFailed, match=reason) as failed:
            check(method, ranks=False)
        assert len(str(failed.value).splitlines()) == 2


def test_a_good_method_passes():
    check(Good)
    assert caught(Good) == []


def test_it_is_public():
    assert cotrain.check is conformance.check


def test_every_check_that_fails_is_listed_with_its_reason():
    class Bad(Good):
        def step(self, learners, batch, memory):
            return {"a": learners["a"](batch["labelled"]["x"]).square().sum(-1)}

    with pytest.raises(CheckFailed) as failure:
        check(Bad)
    message = str(failure.value)
    assert message.startswith("Bad fails ")
    assert "losses: the loss of 'a' has shape (8,), not a scalar" in message
    assert "same_seed: InputError: The loss of a has shape (8,)" in message


class TestLosses:
    def test_a_vector(self):
        class Vector(Good):
            def step(self, learners, batch, memory):
                x, y = batch["labelled"]["x"], batch["labelled"]["y"]
                return {"a": self.weight * F.cross_entropy(learners["a"](x), y, reduction="none")}

        assert "losses" in caught(Vector)

    def test_nan_even_if_it_comes_late(self):
        class Nan(Good):
            def step(self, learners, batch, memory):
                losses = super().step(learners, batch, memory)
                return {name: loss * (float("nan") if memory["step"] == 3 else 1) for name, loss in losses.items()}

        failed = caught(Nan)
        assert "losses" in failed
        assert "bfloat16" in failed

    def test_an_unknown_owner(self):
        class Unknown(Good):
            def step(self, learners, batch, memory):
                return {"nobody": super().step(learners, batch, memory)["a"]}

        with pytest.raises(CheckFailed, match="owner 'nobody' is no learner"):
            conformance.check_losses(Unknown)

    def test_a_frozen_owner(self):
        class Frozen(Good):
            def step(self, learners, batch, memory):
                return {("a", "frozen"): super().step(learners, batch, memory)["a"]}

        with pytest.raises(CheckFailed, match="owner 'frozen' has no optimizer"):
            conformance.check_losses(Frozen)

    def test_no_tensor(self):
        class Number(Good):
            def step(self, learners, batch, memory):
                return {"a": 1.0}

        with pytest.raises(CheckFailed, match="is a float, not a tensor"):
            conformance.check_losses(Number)

    def test_no_loss_at_all(self):
        class Silent(Good):
            def step(self, learners, batch, memory):
                return {}

        with pytest.raises(CheckFailed, match="no loss"):
            conformance.check_losses(Silent)


class TestOwnership:
    def test_a_step_that_moves_a_frozen_learner(self):
        class Mover(Good):
            def step(self, learners, batch, memory):
                with torch.no_grad():
                    learners["frozen"].net[0].weight.add_(0.1)
                return super().step(learners, batch, memory)

        with pytest.raises(CheckFailed, match="the step itself moved the weights of 'frozen'"):
            conformance.check_ownership(Mover)

    def test_a_step_that_trains_by_itself(self):
        class Impatient(Good):
            def step(self, learners, batch, memory):
                losses = super().step(learners, batch, memory)
                if memory["step"] == 2:
                    losses["a"].backward(retain_graph=True)
                    learners["a"].optimizer.step()
                return losses

        with pytest.raises(CheckFailed, match="the step itself moved the weights of 'a'"):
            conformance.check_ownership(Impatient)

    def test_an_owner_whose_loss_does_not_reach_it(self):
        class Detached(Good):
            def step(self, learners, batch, memory):
                losses = super().step(learners, batch, memory)
                return {"a": losses["a"], "b": losses["a"] * 2}

        with pytest.raises(CheckFailed, match="'b' owns a loss and did not move"):
            conformance.check_ownership(Detached)


class TestHiddenState:
    def test_on_the_method_itself(self):
        @dataclass(frozen=True)
        class Counting(Good):
            def step(self, learners, batch, memory):
                seen = getattr(self, "seen", 0) + 1
                object.__setattr__(self, "seen", seen)
                return {name: loss / seen for name, loss in super().step(learners, batch, memory).items()}

        failed = caught(Counting)
        assert "resume" in failed
        assert "same_seed" not in failed

    def test_in_a_global(self):
        seen = []

        class Counting(Good):
            def step(self, learners, batch, memory):
                seen.append(None)
                return {name: loss / len(seen) for name, loss in super().step(learners, batch, memory).items()}

        assert {"same_seed", "resume"} <= set(caught(Counting))

    def test_in_memory_that_was_not_declared(self):
        class Hoarding(Good):
            def step(self, learners, batch, memory):
                memory["seen"] = dict.get(memory, "seen", 0) + 1
                return {n: loss / memory["seen"] for n, loss in super().step(learners, batch, memory).items()}

        with pytest.raises(cotrain.InputError, match="remembers seen"):
            conformance.check_resume(Hoarding)

    def test_a_generator_of_its_own(self):
        generator = torch.Generator().manual_seed(0)

        class Drawing(Good):
            def step(self, learners, batch, memory):
                noise = 1 + torch.rand((), generator=generator)
                return {name: loss * noise for name, loss in super().step(learners, batch, memory).items()}

        assert "same_seed" in caught(Drawing)

    def test_declared_memory_is_fine(self):
        class Remembering(Good):
            def memory(self, learners):
                return {"seen": torch.tensor(0.0)}

            def step(self, learners, batch, memory):
                memory["seen"] += 1
                return {n: loss / memory["seen"] for n, loss in super().step(learners, batch, memory).items()}

        assert "resume" not in caught(Remembering)


class TestOrder:
    def test_learners_known_by_their_place(self):
        class ByPlace(Good):
            def step(self, learners, batch, memory):
                losses = super().step(learners, batch, memory)
                first = next(name for name in learners if name in losses)
                return {name: loss * (2 if name == first else 1) for name, loss in losses.items()}

        assert caught(ByPlace) == ["order_free"]

    def test_losses_that_count_on_the_order_of_the_backward_passes(self):
        class Chained(Good):
            def step(self, learners, batch, memory):
                losses, passed = super().step(learners, batch, memory), []
                for loss in losses.values():
                    loss.register_hook(lambda gradient: passed.append(None) or gradient * len(passed))
                return losses

        with pytest.raises(CheckFailed, match="the order of the losses changes the weights"):
            conformance.check_order_free(Chained)

    def test_noise_drawn_in_the_order_of_the_learners(self):
        class Drawing(Good):
            def step(self, learners, batch, memory):
                noise = {name: torch.rand((), generator=memory["generator"]) for name in learners}
                return {name: loss * noise[name] for name, loss in super().step(learners, batch, memory).items()}

        assert caught(Drawing) == ["order_free", "microbatches"]


class TestMicrobatches:
    def test_a_count_taken_in_the_part(self):
        """The mean over the selected examples is not the mean of the parts' means."""

        class LocalCount(Good):
            def step(self, learners, batch, memory):
                x, y = batch["labelled"]["x"], batch["labelled"]["y"]
                kept = (x[:, 0] > 0.5).float()
                return {
                    name: (F.cross_entropy(learners[name](x), y, reduction="none") * kept).sum()
                    / kept.sum().clamp(min=1)
                    for name in ("a", "b")
                }

        assert "microbatches" in caught(LocalCount)

    def test_divided_by_the_batch_it_is_right(self):
        class ByBatch(Good):
            def step(self, learners, batch, memory):
                x, y = batch["labelled"]["x"], batch["labelled"]["y"]
                kept = (x[:, 0] > 0.5).float()
                return {
                    name: self.weight * (F.cross_entropy(learners[name](x), y, reduction="none") * kept).mean()
                    for name in ("a", "b")
                }

        check(ByBatch, ranks=False)

    def test_a_sum(self):
        class Sum(Good):
            def step(self, learners, batch, memory):
                x, y = batch["labelled"]["x"], batch["labelled"]["y"]
                return {"a": self.weight * F.cross_entropy(learners["a"](x), y, reduction="sum") / 8}

        assert "microbatches" in caught(Sum)

    def test_a_running_mean_of_the_batch_must_say_that_it_needs_the_whole(self):
        class Running(Good):
            def memory(self, learners):
                return {"mean_C": torch.full((3,), 1 / 3)}

            def step(self, learners, batch, memory):
                guess = learners["a"](batch["unlabelled"]["weak"]).softmax(-1)
                memory["mean_C"].lerp_(global_mean(guess), 0.5)
                losses = super().step(learners, batch, memory)
                return {**losses, "a": losses["a"] + self.weight * (guess / memory["mean_C"]).square().mean()}

        assert "microbatches" in caught(Running)

        class Whole(Running):
            whole_batch: ClassVar[bool] = True

        check(Whole, ranks=False)


@dataclass(frozen=True)
class Inert(Good):
    temperature: float = 2.0


class TestFields:
    def test_an_inert_field(self):
        with pytest.raises(CheckFailed, match="field 'temperature' changes nothing"):
            conformance.check_fields(Inert)

    def test_every_kind_of_field_is_varied(self):
        @dataclass(frozen=True)
        class Many(Good):
            count: int = 2
            flag: bool = False
            kind: Literal["sum", "square"] = "sum"
            limit: float | None = None
            exchange: MutualDistillation = PEERS

            def step(self, learners, batch, memory):
                x, y = batch["labelled"]["x"], batch["labelled"]["y"]
                out = {name: learners[name](x) for name in ("a", "b")}
                losses = {}
                for name, other in (("a", "b"), ("b", "a")):
                    loss = F.cross_entropy(out[name], y) * self.count * (2 if self.flag else 1)
                    loss = loss.square() if self.kind == "square" else loss
                    loss = loss if self.limit is None else loss.clamp(max=self.limit)
                    losses[name] = self.weight * loss + self.exchange.loss(
                        out[name], {"": self.exchange.message(out[other])}
                    )
                return losses

        check(Many, ranks=False)

    def test_inert_settings_of_an_inert_part(self):
        @dataclass(frozen=True)
        class Unused(Good):
            exchange: MutualDistillation = PEERS

        with pytest.raises(CheckFailed, match="field 'exchange' changes nothing"):
            conformance.check_fields(Unused)

    def test_a_field_that_cannot_be_varied(self):
        @dataclass(frozen=True)
        class Path(Good):
            path: str = "here"

        with pytest.raises(CheckFailed, match="cannot vary field 'path'"):
            conformance.check_fields(Path)

    def test_a_value_that_breaks_training_acts(self):
        @dataclass(frozen=True)
        class Divided(Good):
            divisor: float = 0.0

            def step(self, learners, batch, memory):
                losses = super().step(learners, batch, memory)
                return losses if self.divisor == 0 else {n: loss * float("inf") for n, loss in losses.items()}

        conformance.check_fields(Divided)

    def test_values_that_are_refused_by_name_do_not_count(self):
        @dataclass(frozen=True)
        class Refusing(Good):
            classes: int = 3

            def step(self, learners, batch, memory):
                if self.classes != 3:
                    raise cotrain.InputError("three classes, please")
                return super().step(learners, batch, memory)

        with pytest.raises(CheckFailed, match="field 'classes' changes nothing"):
            conformance.check_fields(Refusing)


def test_bf16_that_overflows():
    class Large(Good):
        def step(self, learners, batch, memory):
            losses = super().step(learners, batch, memory)
            low = torch.is_autocast_enabled("cpu")
            return {name: loss * (1e38 if low else 1) * (1e38 if low else 1) for name, loss in losses.items()}

    assert caught(Large) == ["bfloat16"]


def test_dropout_needs_nothing_from_the_method():
    class Noisy(Good):
        @classmethod
        def example(cls):
            example = super().example()
            net = nn.Sequential(nn.Dropout(0.3), two_layer(seed=1))
            return replace(example, learners={**example.learners, "a": Learner(net, SGD)})

        whole_batch: ClassVar[bool] = True  # microbatches draw noise of their own

    check(Noisy, ranks=False)


class TestCard:
    CARD = """# Mutual learning
One sentence.
Family: peers. Source: somewhere. Systems: none whole; part of 1.

## The step
a

## Use
```python
number = 1
```

## Turn these first
- `weight` = 1.0: a

## Differs from the paper
1. a

## Costs
a

## Measured
Not yet.

## Combines with
a
"""

    @pytest.fixture
    def card(self, tmp_path, monkeypatch):
        """Writes a card and has it taken for that of mutual learning."""
        from cotrain.methods.peers import mutual_learning

        path = tmp_path / "mutual_learning.md"
        monkeypatch.setattr(conformance, "module_of", lambda card: mutual_learning)

        def write(old="", new=""):
            assert old in self.CARD
            path.write_text(self.CARD.replace(old, new, 1))
            return path

        return write

    def test_a_true_card_passes(self, card):
        check_card(card())

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("## Costs\na\n", "", "has the headings"),
            ("## Costs", "## Measured", "has the headings"),
            ("Family: peers. ", "", "family, source and systems"),
            ("```python\nnumber = 1\n```", "words", "no python block"),
            ("`weight` = 1.0", "`weight` = 2.0", "says weight = 2.0, the code says 1.0"),
            ("`weight` = 1.0", "`height` = 1.0", "speaks of 'height'"),
        ],
    )
    def test_what_is_wrong_is_named(self, card, old, new, message):
        with pytest.raises(AssertionError, match=message):
            check_card(card(old, new))

    def test_the_code_is_run(self, card):
        with pytest.raises(ZeroDivisionError):
            check_card(card("number = 1", "1 / 0"))
