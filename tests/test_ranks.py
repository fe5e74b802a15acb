"""Runs on several ranks: the same weights as on one process, the same batches, and no silent wrong turn."""

import io
import json
import re
import time
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn, optim
from torch.distributed.fsdp import fully_shard

from cotrain import place
from cotrain.allreduce.communication import communication
from cotrain.average import GradientMean
from cotrain.crew import Crew
from cotrain.data.rollouts import Rollouts
from cotrain.engine import fit, update
from cotrain.errors import CotrainError, InputError
from cotrain.exchange import post, without
from cotrain.gradients.clip import Clip
from cotrain.gradients.pcgrad import PCGrad
from cotrain.gradients.rule import chain
from cotrain.judge import accuracy
from cotrain.learner import Learner, follow
from cotrain.method import Method
from cotrain.methods.adversarial.cyclegan import CycleGAN
from cotrain.methods.examples import labelled_rows, two_layer, unlabelled_rows
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.methods.reinforce.actor_critic import ActorCritic
from cotrain.methods.semi.mean_teacher import MeanTeacher
from cotrain.nets.transformer import Decoder
from cotrain.prefetch import Prefetched
from cotrain.stream import Rows, Stream
from cotrain.watch import lookout, stragglers
from cotrain.watch.watchdog import Watchdog

ADAM = partial(optim.AdamW, lr=1e-2)
SGD = partial(optim.SGD, lr=0.1)


@pytest.fixture(scope="module")
def two():
    with Crew(2, timeout=100) as crew:
        yield crew


@pytest.fixture(scope="module")
def four():
    with Crew(4, timeout=100) as crew:
        yield crew


# The methods of the matrix


@dataclass(frozen=True)
class PseudoLabels(Method):
    """Divides by the number of guesses that are sure, which differs between ranks."""

    whole_batch = True
    threshold: float = 0.5

    def step(self, learners, batch, memory):
        model = learners["model"]
        guess = model(batch["unlabelled"]["weak"]).detach().softmax(-1)
        confidence, label = guess.max(-1)
        taught = F.cross_entropy(model(batch["unlabelled"]["strong"]), label, reduction="none")
        labelled = F.cross_entropy(model(batch["labelled"]["x"]), batch["labelled"]["y"])
        return {"model": labelled + place.masked_mean(taught, confidence > self.threshold)}


@dataclass(frozen=True)
class SureOnFirstRows(Method):
    """Only rows that stand in the first half of the batch are ever taught: on two ranks, the second has none."""

    whole_batch = True

    def step(self, learners, batch, memory):
        logits = learners["model"](batch["unlabelled"]["weak"])
        first = place.share(torch.arange(8) < 4)
        return {
            "model": place.masked_mean(F.cross_entropy(logits, logits.detach().argmax(-1), reduction="none"), first)
        }


@dataclass(frozen=True)
class Queue(Method):
    """Pulls embeddings together and away from a queue of the last ones, kept in memory over all ranks."""

    whole_batch = True

    def memory(self, learners):
        return {"queue": torch.zeros(16, 3, dtype=torch.get_default_dtype())}

    def step(self, learners, batch, memory):
        one = F.normalize(learners["model"](batch["unlabelled"]["weak"]), dim=-1)
        two = F.normalize(learners["model"](batch["unlabelled"]["strong"]), dim=-1)
        every = place.gather(two)
        logits = torch.cat([one @ every.T, one @ memory["queue"].T], 1) / 0.5
        own = place.share(torch.arange(len(every)))
        memory["queue"] = torch.cat([every.detach(), memory["queue"]])[:16]
        return {"model": F.cross_entropy(logits, own)}


@dataclass(frozen=True)
class TwoLosses(Method):
    """One learner with losses under two keys and a parameter that no loss reaches; the other every second step."""

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        one, two = learners["one"], learners["two"]
        losses = {"one": [F.cross_entropy(one(x), y), one(2 * x).square().mean()]}
        losses["one", "two"] = F.mse_loss(one(x), two(x))
        if memory["step"] % 2:
            losses["two"] = F.cross_entropy(two(x), y)
        return losses


def two_learners(**settings):
    one, two = two_layer(seed=1), two_layer(seed=2)
    one.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return {"one": Learner(one, ADAM, **settings), "two": Learner(two, SGD, **settings)}


def a_case(name, placement="auto"):
    """(method, learners, streams); doubles, so that only mistakes show."""
    model = {"model": Learner(two_layer(), ADAM, placement=placement)}
    streams = {"labelled": labelled_rows(), "unlabelled": unlabelled_rows()}
    if name == "mutual":
        learners = {n: Learner(two_layer(seed=s), ADAM, placement=placement) for s, n in enumerate("ab")}
        method = MutualLearning(temperature=2.0)
    elif name == "pseudo-labels":
        method, learners = PseudoLabels(), model
    elif name == "one rank has none":
        method, learners = SureOnFirstRows(), model
    elif name == "adversaries":
        example = CycleGAN.example()
        for learner in example.learners.values():
            learner.placement = placement
        method, learners, streams = example.method, example.learners, example.streams
    elif name == "teacher":
        example = MeanTeacher.example()
        example.learners["model"].placement = placement
        method, learners, streams = example.method, example.learners, example.streams
    elif name == "queue":
        method, learners = Queue(), model
    elif name == "two losses":
        method, learners = TwoLosses(), two_learners(placement=placement)
    elif name == "clipped":
        method = TwoLosses()
        learners = two_learners(rule=Clip(0.05), placement=placement)
    elif name == "projected":
        method = TwoLosses()
        learners = two_learners(rule=chain(PCGrad(), Clip(0.5)), placement=placement)
    else:
        raise KeyError(name)
    for learner in learners.values():
        learner.net.double()
    for stream in streams.values():
        stream.data = {k: v.double() if v.is_floating_point() else v for k, v in stream.data.items()}
    return method, learners, streams


CASES = ["mutual", "pseudo-labels", "one rank has none", "adversaries", "teacher", "queue", "two losses", "clipped"]


def weights(learners):
    from cotrain.shard import whole

    return {
        f"{n}.{k}": whole(v).detach().clone() for n, one in learners.items() for k, v in one.net.state_dict().items()
    }


def run_case(name, placement="auto", steps=20, settings=None):
    torch.set_default_dtype(torch.float64)
    try:
        method, learners, streams = a_case(name, placement)
        report = fit(method, learners, streams, steps, device="cpu", log_every=steps, **(settings or {}))
        return weights(learners), report.last
    finally:
        torch.set_default_dtype(torch.float32)


def assert_equal(one, other, tolerance=1e-12):
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", [*CASES, "projected"])
def test_two_ranks_are_one_process(two, name):
    alone, said = run_case(name)
    for found, noted in two.run(run_case, name):
        assert_equal(alone, found)
        assert noted == pytest.approx(said)  # the log is of all rows


@pytest.mark.parametrize("name", CASES)
def test_shards_are_one_process(two, name):
    alone, _ = run_case(name)
    for found, _ in two.run(run_case, name, "fsdp"):
        assert_equal(alone, found)


@pytest.mark.parametrize("name", ["mutual", "adversaries", "teacher", "clipped"])
@pytest.mark.parametrize("placement", ["auto", pytest.param("fsdp", marks=pytest.mark.slow), "hsdp"])
def test_four_ranks_are_one_process(four, name, placement):
    alone, _ = run_case(name)
    for found, _ in four.run(run_hybrid, name, placement):
        assert_equal(alone, found)


def run_hybrid(name, placement):
    import os

    os.environ["LOCAL_WORLD_SIZE"] = "2"  # as two machines with two ranks each
    return run_case(name, placement)


def test_a_group_of_one_is_one_process():
    with Crew(1) as crew:
        ((found, _),) = crew.run(run_case, "mutual")
    assert_equal(run_case("mutual")[0], found, tolerance=0)


@dataclass(frozen=True)
class Ring(Method):
    """Any number of learners that are taught by each other's guesses, told as a dict of tensors; "mean" follows."""

    spreads = True

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        out = {name: learner(x) for name, learner in learners.items() if name != "mean"}
        mail = post({name: {"guess": o.detach().softmax(-1), "sure": o.detach().amax(-1)} for name, o in out.items()})
        losses = {}
        for name, logits in out.items():
            others = without(mail, name).values()
            losses[name] = F.cross_entropy(logits, y) + sum(F.cross_entropy(logits, other["guess"]) for other in others)
        return losses


def run_spread(groups, count, steps=10, out=None):
    learners = {f"n{seed}": Learner(two_layer(seed=seed), ADAM) for seed in range(count)}
    learners["mean"] = follow("n1", 0.9)
    fit(Ring(), learners, {"labelled": labelled_rows()}, steps, device="cpu", groups=groups, out=out)
    return weights(learners)


@pytest.mark.parametrize(("groups", "count"), [(2, 2), (2, 3), (4, 4), (4, 5)])
def test_learners_on_different_ranks_are_one_process(four, groups, count):
    alone = run_spread(1, count)
    for found in four.run(run_spread, groups, count):
        assert_equal(alone, found, tolerance=1e-6)


def own_loop(placement):
    """`build` and `update` without `fit`."""
    learners = two_learners(placement=placement)
    streams = {"labelled": labelled_rows()}
    streams["labelled"].split(place.here().rank, place.here().ranks)
    for learner in learners.values():
        learner.build()
    for step in range(5):
        batch = {name: next(stream) for name, stream in streams.items()}
        update(learners, TwoLosses().step(learners, batch, {"step": step}))
    return weights(learners)


@pytest.mark.parametrize("placement", ["auto", "fsdp", "hsdp"])
def test_a_loop_of_ones_own_on_two_ranks_is_that_on_one(two, placement):
    alone = own_loop("auto")
    for found in two.run(own_loop, placement):
        assert_equal(alone, found, tolerance=1e-6)


def two_rounds(placement):
    method, learners, streams = a_case("teacher", placement)
    learners["frozen"] = Learner(two_layer(seed=9).double(), placement=placement)
    torch.set_default_dtype(torch.float64)
    try:
        for seed in (1, 2):
            fit(method, learners, streams, 5, device="cpu", seed=seed)
    finally:
        torch.set_default_dtype(torch.float32)
    return weights(learners)


@pytest.mark.parametrize("placement", ["auto", "fsdp"])
def test_rounds_on_the_same_learners(two, placement):
    alone = two_rounds(placement)
    for found in two.run(two_rounds, placement):
        assert_equal(alone, found)


def partner_replaced():
    """The partner that comes anew takes the old one's name."""
    kept, found = Learner(two_layer(seed=1), SGD), {}
    for seed in (2, 3):
        learners = {"one": kept, "two": Learner(two_layer(seed=seed), SGD)}
        fit(Agreeing(), learners, {"labelled": labelled_rows()}, 3, device="cpu", seed=seed)
        found |= {f"{seed} {name}": value for name, value in weights(learners).items()}
    return found, [len(parameter._post_accumulate_grad_hooks or ()) for parameter in kept.parameters]


def test_a_learner_whose_partner_is_replaced_between_rounds(two):
    alone, _ = partner_replaced()
    for found, hooks in two.run(partner_replaced):
        assert_equal(alone, found, tolerance=1e-6)
        assert set(hooks) == {1}  # the old average holds neither learner


@dataclass(frozen=True)
class Unreduced(Method):
    def step(self, learners, batch, memory):
        return {"one": learners["one"](batch["labelled"]["x"])}


def failed_backward():
    one = Learner(two_layer(), SGD)
    with pytest.raises(InputError, match="not a scalar"):
        fit(Unreduced(), {"one": one}, {"labelled": labelled_rows()}, 1, device="cpu")
    return [mean.armed for mean in one.means.values()]


def test_after_a_backward_that_failed_nothing_waits_to_be_sent(two):
    assert two.run(failed_backward) == [[False], [False]]


def built_first():
    learners = {name: Learner(two_layer(seed=seed), SGD) for seed, name in enumerate("ab")}
    with place.standing(place.Ranks()):  # as before the ranks have met
        for learner in learners.values():
            learner.build()
    fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 5, device="cpu")
    return weights(learners)


def test_a_learner_that_was_built_before_the_ranks_met_is_averaged_too(two):
    alone = built_first()
    for found in two.run(built_first):
        assert_equal(alone, found, tolerance=1e-6)


def dealt_out_otherwise(first, second):
    learners = {f"n{seed}": Learner(two_layer(seed=seed), ADAM) for seed in range(3)}
    try:
        for groups, count in (first, second):
            some = dict(list(learners.items())[:count])
            fit(Ring(), some, {"labelled": labelled_rows()}, 3, device="cpu", groups=groups)
    except InputError as error:
        return str(error)
    return weights(learners)


def test_rounds_of_learners_on_different_ranks(two):
    alone = dealt_out_otherwise((1, 3), (1, 3))
    for found in two.run(dealt_out_otherwise, (2, 3), (2, 3)):
        assert_equal(alone, found, tolerance=1e-6)


@pytest.mark.parametrize(("first", "second"), [((1, 3), (2, 3)), ((2, 3), (1, 3)), ((2, 3), (2, 2))])
def test_learners_do_not_move_between_groups(two, first, second):
    for said in two.run(dealt_out_otherwise, first, second):
        assert "was trained in group" in said
        assert "where its optimizer is not" in said


def partly_frozen(placement):
    net = two_layer()
    net[0].weight.requires_grad_(False)
    net[2].bias.requires_grad_(False)
    learners = {n: Learner(one, ADAM, placement=placement) for n, one in (("a", net), ("b", two_layer(seed=1)))}
    fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 10, device="cpu")
    return weights(learners)


def test_frozen_and_trained_parameters_in_one_unit(two):
    alone = partly_frozen("auto")
    assert torch.equal(alone["a.0.weight"], two_layer()[0].weight)
    for found in two.run(partly_frozen, "fsdp"):
        assert_equal(alone, found, tolerance=1e-6)


@dataclass(frozen=True)
class Reading(Method):
    def step(self, learners, batch, memory):
        ids = batch["text"]["ids"]
        return {"model": F.cross_entropy(learners["model"](ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())}


def read(placement):
    torch.manual_seed(0)
    net = Decoder(7, width=8, layers=2, heads=2, context=6, parallel=True).double()
    units = [name for name, _ in net.named_modules() if name.endswith("both_in")]
    text = Rows({"ids": torch.randint(7, (16, 6))}, batch=8)
    learners = {"model": Learner(net, SGD, placement=placement, units=units)}
    fit(Reading(), learners, {"text": text}, 3, device="cpu")
    return weights(learners)


def test_a_decoder_whose_parallel_blocks_are_cut_into_units(two):
    alone = read("auto")
    for found in two.run(read, "fsdp"):
        assert_equal(alone, found)


class Branches(nn.Module):
    """Two layers alike, of which a call uses one."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x, first):
        return (self.one if first else self.two)(x)


@dataclass(frozen=True)
class OwnBranch(Method):
    def step(self, learners, batch, memory):
        logits = learners["model"](batch["labelled"]["x"], place.here().rank == 0)
        return {"model": F.cross_entropy(logits, batch["labelled"]["y"])}


def low_rank():
    """As "powersgd", which averages whole gradients in its first 1,000 steps."""
    state, send = communication("powersgd", start_powerSGD_iter=2)
    return lambda bucket: send(state, bucket)


def own_branches(placement, units, way=None):
    torch.manual_seed(0)
    sent = {} if way is None else {"communication": way()}
    learners = {"model": Learner(Branches(), SGD, placement=placement, units=units, **sent)}
    try:
        fit(OwnBranch(), learners, {"labelled": labelled_rows()}, 4, device="cpu")
    except CotrainError as error:
        return str(error)
    return weights(learners)


def test_ranks_that_reach_other_parameters(two):
    for said in two.run(own_branches, "fsdp", ()):
        assert "Not all ranks reach the same parameters of 'model'" in said
    for way in (None, low_rank):
        one, other = two.run(own_branches, "ddp", (), way)  # where it is no trouble
        assert_equal(one, other, tolerance=0)


@dataclass(frozen=True)
class Agreeing(Method):
    """Two learners own two losses together."""

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        one, two = learners["one"](x), learners["two"](x)
        return {("one", "two"): [F.mse_loss(one, two), F.cross_entropy(one, y) + F.cross_entropy(two, y)]}


def projected_beside(placement, microbatches):
    one = Learner(two_layer(seed=1), SGD, rule=PCGrad())
    learners = {"one": one, "two": Learner(two_layer(seed=2), SGD, placement=placement)}
    fit(Agreeing(), learners, {"labelled": labelled_rows()}, 5, device="cpu", microbatches=microbatches)
    return weights(learners)


@pytest.mark.parametrize("microbatches", [1, 2])
@pytest.mark.parametrize("placement", ["auto", "fsdp"])
def test_an_owner_that_wants_losses_apart_beside_one_that_does_not(two, placement, microbatches):
    alone = projected_beside("auto", 1)
    for found in two.run(projected_beside, placement, microbatches):
        assert_equal(alone, found, tolerance=1e-6)


@dataclass(frozen=True)
class SometimesTaught(Method):
    """The other learner has a loss where any row of the batch's part is marked; all ranks ask."""

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        losses = {"one": F.cross_entropy(learners["one"](x), y)}
        if place.agree(bool(batch["labelled"]["marked"].any())):
            losses["two"] = F.cross_entropy(learners["two"](x), y)
        return losses


def left_out_at_last(placement):
    stream = Rows({**labelled_rows().data, "marked": torch.arange(24) % 4 < 2}, batch=8, shuffle=False)
    learners = two_learners(placement=placement)
    try:  # a rank's first microbatch has two marked rows, its second none
        fit(SometimesTaught(), learners, {"labelled": stream}, 3, device="cpu", microbatches=2)
    except InputError as error:
        return str(error)
    return weights(learners)


def test_a_learner_without_a_loss_in_the_last_microbatch(two):
    start = two_learners()["two"].net.state_dict()
    one, other = two.run(left_out_at_last, "ddp")
    assert not torch.equal(one["two.0.weight"], start["0.weight"])
    assert_equal(one, other, tolerance=0)
    for said in two.run(left_out_at_last, "fsdp"):
        assert "The last microbatch gave 'two' no loss" in said


# Against torch's own


def averaged_by_torch():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)).double()
    x, y = torch.randn(32, 5, dtype=torch.float64), torch.randint(3, (32,))
    own = {"x": x, "y": y}
    mine = {k: v.chunk(dist.get_world_size())[dist.get_rank()] for k, v in own.items()}
    theirs = nn.parallel.DistributedDataParallel(net)
    F.cross_entropy(theirs(mine["x"]), mine["y"]).backward()
    wanted = [p.grad.clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = None
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("cotrain.average.BUCKET", 2048)  # several buckets
        mean = GradientMean(list(net.parameters()))
    mean.arm()
    F.cross_entropy(net(mine["x"]), mine["y"]).backward()
    mean.send()
    mean.wait()
    return len(mean.buckets), max(
        float((p.grad - w).abs().max()) for p, w in zip(net.parameters(), wanted, strict=True)
    )


def test_gradients_are_those_of_distributed_data_parallel(two):
    for buckets, apart in two.run(averaged_by_torch):
        assert buckets > 3
        assert apart < 1e-15


def buckets_left_before_the_end():
    torch.manual_seed(0)
    net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("cotrain.average.BUCKET", 300)
        mean = GradientMean(list(net.parameters()))
    left = []
    net[1].weight.register_post_accumulate_grad_hook(lambda p: left.append(mean.next))
    mean.arm()
    net(torch.randn(4, 8)).sum().backward()
    before = mean.next
    mean.send()
    mean.wait()
    return left, before, len(mean.buckets)


def test_buckets_leave_while_backward_goes_on(two):
    for left, before, buckets in two.run(buckets_left_before_the_end):
        assert 0 < left[0] < buckets  # some were under way when the second layer's gradient came
        assert before == buckets


def trained_by(communication):
    learners = {n: Learner(two_layer(hidden=64, seed=s), SGD, communication=communication) for s, n in enumerate("ab")}
    fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 30, device="cpu")
    return weights(learners)


@pytest.mark.parametrize(("communication", "tolerance"), [("hier", 1e-5), ("bf16", 0.03), ("powersgd", 0.5)])
def test_gradients_may_go_by_other_ways(four, communication, tolerance):
    wanted = trained_by("flat")
    found = four.run(trained_by, communication)
    for one in found:
        assert_equal(found[0], one, tolerance=0)  # on all ranks the same
        assert_equal(wanted, one, tolerance)


# What ranks tell each other


def collectives():
    rank = dist.get_rank()
    x = torch.tensor([[1.0 + rank], [2.0 + rank]], requires_grad=True)
    every = place.gather(x)
    (every.square().sum() * (rank + 1)).backward()
    one, other = x.detach().clone().requires_grad_(), x.detach().clone().requires_grad_()
    (place.gather(one) + place.gather(other)).square().sum().backward()  # autograd gives one tensor to both
    return {
        "gathered": every.flatten().tolist(),
        "gradient": x.grad.flatten().tolist(),
        "gradients of a sum": [one.grad.flatten().tolist(), other.grad.flatten().tolist()],
        "shared": place.share(torch.arange(4)).tolist(),
        "mean": place.global_mean(torch.tensor([[float(rank)], [2.0]])).item(),
        "masked": place.masked_mean(torch.tensor([1.0 + rank, 5.0]), torch.tensor([True, rank == 1])).item(),
        "any": place.agree(rank == 1),
        "all": place.agree(rank == 1, "all"),
        "all true": place.agree(True, "all"),
        "told": place.everywhere(f"rank {rank}"),
        "here": (place.joined(), place.number(), place.processes(), place.first()),
        "turned": place.over_batch(lambda a, b: [a.flip(0), b], torch.tensor([rank * 2, rank * 2 + 1]), torch.ones(2))[
            0
        ],
    }


def test_collectives_by_hand(two):
    first, second = two.run(collectives)
    assert first["gathered"] == second["gathered"] == [1, 2, 2, 3]
    # each rank's loss looks at all rows: (1 + 2) * 2 x
    assert first["gradient"] == [6, 12]
    assert second["gradient"] == [12, 18]
    assert first["gradients of a sum"] == [[8, 16]] * 2  # 2 ranks * 2 * (x + x)
    assert second["gradients of a sum"] == [[16, 24]] * 2
    assert (first["shared"], second["shared"]) == ([0, 1], [2, 3])
    assert first["mean"] == second["mean"] == 1.25
    # one masked row on rank 0 and two on rank 1: sums over the mean count 1.5; their mean over ranks is (1 + 7) / 3
    assert (first["masked"] + second["masked"]) / 2 == pytest.approx(8 / 3)
    assert (first["any"], first["all"], first["all true"]) == (True, False, True)
    assert first["told"] == ["rank 0", "rank 1"]
    assert (first["here"], second["here"]) == ((True, 0, 2, True), (True, 1, 2, False))
    assert torch.cat([first["turned"], second["turned"]]).tolist() == [3, 2, 1, 0]


# Batches


def batches(steps):
    here = place.here()
    stream = Rows({"i": torch.arange(23)}, batch=12, seed=3)
    stream.split(here.rank, here.ranks)
    given = [next(stream)["i"] for _ in range(steps)]
    return given, stream.state()


def test_the_order_does_not_depend_on_the_number_of_ranks(two, four):
    alone, state = batches(5)
    for crew in (two, four):
        told = crew.run(batches, 5)
        for step in range(5):
            assert torch.equal(torch.cat([given[step] for given, _ in told]), alone[step])
        assert all(saved == state for _, saved in told)


class Whole(Stream):
    """Makes whole batches only: it has no `split`."""

    def __init__(self):
        self.rows = labelled_rows()

    def __next__(self):
        return next(self.rows)

    def state(self):
        return self.rows.state()

    def load(self, state):
        self.rows.load(state)


def trained_on(ahead, out=None, steps=6):
    learners = {name: Learner(two_layer(seed=seed), SGD) for seed, name in enumerate("ab")}
    stream = Prefetched(Whole()) if ahead else Whole()
    fit(MutualLearning(), learners, {"labelled": stream}, steps, device="cpu", out=out)
    return weights(learners)


def test_a_stream_that_cannot_be_split_made_ahead_and_resumed(two, tmp_path):
    alone = trained_on(False)
    two.run(trained_on, True, tmp_path, 3)
    for found in (*two.run(trained_on, False), *two.run(trained_on, True, tmp_path)):
        assert_equal(alone, found, tolerance=1e-6)


class Cut:
    """Observations of noise; an episode is cut off after five to nine steps."""

    def reset(self, seed):
        self.noise = np.random.default_rng(seed)
        self.left = int(self.noise.integers(5, 10))
        return self.noise.normal(size=4), {}

    def step(self, action):
        self.left -= 1
        return self.noise.normal(size=4) + action, float(action), False, self.left == 0, {}


def played(placement):
    learners = {
        name: Learner(two_layer(seed=seed, outputs=outputs), SGD, placement=placement, units=["0", "2"])
        for seed, (name, outputs) in enumerate((("actor", 3), ("critic", 1)))
    }
    stream = Rollouts(Cut, learners["actor"], learners["critic"], environments=4, horizon=8)
    for seed in (1, 2):
        fit(ActorCritic(), learners, {"rollout": stream}, 3, device="cpu", seed=seed)
    return weights(learners)


@pytest.mark.parametrize("placement", ["auto", "fsdp"])
def test_rounds_of_rollouts_whose_episodes_end_on_one_rank_alone(two, placement):
    alone = played(placement)
    for found in two.run(played, placement):
        assert_equal(alone, found, tolerance=1e-6)


# Checkpoints


@pytest.mark.parametrize("placement", ["auto", "fsdp"])
def test_saved_on_two_ranks_it_goes_on_on_one_two_or_four(two, four, tmp_path, placement):
    straight, _ = run_case("teacher", placement, steps=20)
    for name in ("one", "two", "four"):
        two.run(run_case, "teacher", placement, 10, {"out": tmp_path / name})
    ended = [run_case("teacher", placement, 20, {"out": tmp_path / "one"})]
    ended += two.run(run_case, "teacher", placement, 20, {"out": tmp_path / "two"})
    ended += four.run(run_case, "teacher", placement, 20, {"out": tmp_path / "four"})
    for found, _ in ended:
        assert_equal(straight, found)


def test_dealt_out_learners_are_saved_from_their_homes(two, tmp_path):
    alone = run_spread(1, 3)
    two.run(run_spread, 2, 3, 5, tmp_path)
    (state,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.name.endswith("5")]
    assert state.exists()
    for found in two.run(run_spread, 2, 3, 10, tmp_path):
        assert_equal(alone, found, tolerance=1e-6)


def ended_before(folder):
    learners = {f"n{seed}": Learner(two_layer(seed=seed), ADAM) for seed in range(3)}
    fit(Ring(), learners, {"labelled": labelled_rows()}, 5, device="cpu", groups=2, out=folder)
    return weights(learners)


def test_a_run_that_had_ended_gives_every_rank_all_learners(two, tmp_path):
    ended, _ = two.run(ended_before, tmp_path)
    for found in two.run(ended_before, tmp_path):
        assert_equal(ended, found, tolerance=0)


def with_batch_statistics(groups):
    nets = [nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)) for _ in range(2)]
    learners = {f"n{number}": Learner(net, SGD) for number, net in enumerate(nets)} | {"mean": follow("n1", 0.5)}
    with warnings.catch_warnings(record=True) as said:
        fit(Ring(), learners, {"labelled": labelled_rows()}, 3, device="cpu", groups=groups)
    return weights(learners), [str(one.message) for one in said]


@pytest.mark.parametrize("groups", [1, 2])
def test_batch_statistics_are_the_same_on_all_ranks_in_the_end(four, groups):
    (first, said), *others = four.run(with_batch_statistics, groups)
    assert [text for text in said if f"'n0', 'n1' sees the rows of one of {4 // groups} parts" in text]
    for other, said in others:
        assert_equal(first, other, tolerance=0)
        assert not said


def resumed_with(folder, rate, **options):
    learners = {f"n{seed}": Learner(two_layer(seed=seed), partial(optim.SGD, lr=0.1)) for seed in range(2)}
    learners["n1"].factory = partial(optim.SGD, lr=rate)
    try:
        fit(Ring(), learners, {"labelled": labelled_rows()}, 4, device="cpu", groups=2, out=folder, **options)
    except InputError as error:
        return str(error)
    return [learner.updates for learner in learners.values()]


def started_from(folder):
    return resumed_with(folder / "new", 0.2, start_from=folder, partial=["n0"])


def test_what_one_rank_cannot_load_no_rank_goes_on_from(two, tmp_path):
    two.run(resumed_with, tmp_path, 0.1)
    for said in two.run(resumed_with, tmp_path, 0.2):
        assert "of another run" in said
        assert "'n1'. Its optimizer was made with lr=0.1, now 0.2" in said
    assert two.run(started_from, tmp_path) == [
        [8, 0],
        [0, 4],
    ]  # n0 went on, n1 began anew, both for 4 steps


# What is watched


@dataclass(frozen=True)
class Slow(Method):
    """Rank 1 works longer, from a step on."""

    since: int = 0
    pause: float = 0.01

    def step(self, learners, batch, memory):
        slow = place.here().rank == 1 and memory["step"] >= self.since
        time.sleep(self.pause * (5 if slow else 1))
        return {"model": F.cross_entropy(learners["model"](batch["labelled"]["x"]), batch["labelled"]["y"])}


def watched(folder, since, steps):
    fit(
        Slow(since),
        {"model": Learner(two_layer(), SGD)},
        {"labelled": labelled_rows()},
        steps,
        device="cpu",
        out=folder,
    )


@pytest.mark.slow
def test_a_slow_rank_is_named(two, tmp_path):
    two.run(watched, tmp_path / "clean", 10**6, 150)
    clean = json.loads((tmp_path / "clean" / "ranks.json").read_text())
    assert [window["slow"] for window in clean["windows"]] == [[], [], []]
    two.run(watched, tmp_path / "slow", 0, 150)
    slow = json.loads((tmp_path / "slow" / "ranks.json").read_text())
    assert [window["slow"] for window in slow["windows"]] == [[], [], [1]]  # three windows running make it sure
    assert slow["windows"][-1]["cost"] > 0.3
    assert (tmp_path / "slow" / "ranks.png").exists()


CLOCK = [0.0]  # moved by hand


@dataclass(frozen=True)
class LastIsSlow(Ring):
    def step(self, learners, batch, memory):
        CLOCK[0] += (5.0 if dist.get_rank() == dist.get_world_size() - 1 else 1.0) + 0.01 * (memory["step"] % 4)
        return super().step(learners, batch, memory)


def watched_in_groups(folder):
    learners = {f"n{seed}": Learner(two_layer(seed=seed), SGD) for seed in range(2)}
    with pytest.MonkeyPatch.context() as monkeypatch, redirect_stderr(io.StringIO()) as said:
        monkeypatch.setattr(stragglers, "time", SimpleNamespace(perf_counter=lambda: CLOCK[0]))
        monkeypatch.setattr(lookout, "Stragglers", partial(stragglers.Stragglers, window=4))
        fit(LastIsSlow(), learners, {"labelled": labelled_rows()}, 12, device="cpu", out=folder, groups=2)
    return said.getvalue()


def test_a_slow_rank_of_another_group_is_named_by_its_number_in_the_run(four, tmp_path):
    *silent, third, last = four.run(watched_in_groups, tmp_path)
    assert third.startswith("cotrain: step 12: Rank 3 is slow")
    assert not any((*silent, last))
    for group, slow in ((0, []), (1, [3])):
        found = json.loads((tmp_path / ("ranks_1.json" if group else "ranks.json")).read_text())
        assert (found["first"], len(found["ranks"])) == (2 * group, 2)
        assert [window["slow"] for window in found["windows"]] == [[], [], slow]
    assert (tmp_path / "ranks_1.png").exists()


def judged_unwatched():
    dogs = []

    class Dog(Watchdog):
        def __enter__(self):
            dogs.append(self)
            return super().__enter__()

    def judge(learners, stream):
        return {"paused": dogs[0]._paused}

    learners = {name: Learner(two_layer(seed=seed), SGD) for seed, name in enumerate("ab")}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(lookout, "Watchdog", Dog)
        run = {"device": "cpu", "judges": [(judge, [])]}
        report = fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 1, **run)
    return report.last["paused"], dogs[0]._paused


def test_a_judge_may_take_its_time(two):
    assert two.run(judged_unwatched) == [(1.0, False)] * 2


@dataclass(frozen=True)
class Bad(Method):
    """The loss of one learner is not a number at some steps, on rank 1 alone."""

    def step(self, learners, batch, memory):
        x, y = batch["labelled"]["x"], batch["labelled"]["y"]
        losses = {name: F.cross_entropy(learner(x), y) for name, learner in learners.items()}
        if place.here().rank == place.ranks() - 1 and memory["step"] in (2, 3):
            losses["a"] = losses["a"] * float("nan")
        return losses


def unsound(policy):
    learners = {"a": Learner(two_layer(seed=1), ADAM, nonfinite=policy), "b": Learner(two_layer(seed=2), ADAM)}
    report = fit(Bad(), learners, {"labelled": labelled_rows()}, 8, device="cpu", log_every=8)
    return weights(learners), {n: one.updates for n, one in learners.items()}, report.rows


@pytest.mark.parametrize("policy", ["skip", "rollback"])
def test_a_gradient_that_is_not_finite_is_kept_from_its_learner_on_all_ranks(two, policy):
    alone, updates, _ = unsound(policy)
    assert updates["b"] == 8
    assert updates["a"] == {"skip": 6, "rollback": 4}[policy]  # back to the start at steps 2 and 3
    for found, counted, _ in two.run(unsound, policy):
        assert counted == updates
        assert_equal(alone, found, tolerance=1e-6)
        assert all(value.isfinite().all() for value in found.values())


def patience(groups):
    from cotrain.shard import _mesh

    place.start(torch.device("cpu"))
    with place.standing(place.grid(torch.device("cpu"), groups)):
        axes = [place.here().along("data"), place.here().along("learners"), place.control()]
    with place.standing(place.grid(torch.device("cpu"))):
        hybrid = _mesh("cpu", 2)
        axes += [hybrid.get_group("replicas"), hybrid.get_group("shards")]
    return [group._get_backend(torch.device("cpu")).options._timeout.total_seconds() for group in axes]


@pytest.mark.slow
def test_every_group_gives_up_in_time(monkeypatch):
    monkeypatch.setenv("COTRAIN_TIMEOUT", "17")
    with Crew(4, joined=False) as crew:
        assert crew.run(patience, 2) == [[17.0] * 5] * 4


# What must be refused


def refuse(case):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return refused(case, dist.get_rank(), monkeypatch)


def refused(case, rank, monkeypatch):
    learners = {name: Learner(two_layer(seed=seed), SGD) for seed, name in enumerate("ab")}
    streams = {"labelled": labelled_rows()}
    method = MutualLearning()
    if case == "order":
        learners = dict(reversed(learners.items())) if rank else learners
    elif case == "shape":
        learners["b"] = Learner(two_layer(hidden=8 + rank), SGD)
    elif case == "setting":
        method = MutualLearning(weight=1.0 + rank)
    elif case == "version":
        monkeypatch.setattr("cotrain.preparation.__version__", f"0.{rank}")
    elif case == "batch":
        streams = {"labelled": labelled_rows(batch=7)}
    elif case == "wrapped":
        both = nn.parallel.DistributedDataParallel(nn.ModuleList([one.net for one in learners.values()]))
        learners = {"both": Learner(both, SGD)}
    elif case == "sharded":
        fully_shard(learners["a"].net)
    elif case == "built":
        learners["a"] = Learner(two_layer(), SGD, placement="fsdp")
        with place.standing(place.Ranks()):
            learners["a"].build()
    elif case == "apart":
        learners["a"] = Learner(two_layer(), SGD, PCGrad(), placement="fsdp")
    elif case == "unit":
        learners["a"] = Learner(two_layer(), SGD, placement="fsdp", units=["7"])
    elif case == "sparse":
        learners["a"] = Learner(nn.Sequential(nn.Linear(4, 3), nn.Embedding(5, 3, sparse=True)), SGD)
    elif case == "number":
        learners["a"] = Learner(two_layer(), SGD, placement="fsdp")
        learners["a"].net.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    elif case == "frozen":
        learners["b"] = Learner(two_layer(seed=1), None if rank else SGD)
    elif case == "policy":
        learners["b"] = Learner(two_layer(seed=1), SGD, nonfinite="skip" if rank else "stop")
    settings = {
        "rhythm": {"log_every": 2 + rank},
        "folder": {"out": None if rank else "/nowhere"},
        "dealt out": {"groups": 1 + rank},
        "judges": {"judges": [(accuracy("a"), [])] * rank},
    }
    groups = {"groups": 3, "together": 2, "few": 2}.get(case, 1)
    if case == "together":
        example = CycleGAN.example()
        method, learners, streams = example.method, example.learners, example.streams
    elif case == "few":
        learners = {"a": learners["a"]}
    try:
        fit(method, learners, streams, 1, device="cpu", **({"groups": groups} | settings.get(case, {})))
    except InputError as error:
        return str(error)
    return "not refused"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("order", "list of learners is .*'a', 'b'.* on rank 0, .*'b', 'a'.* on rank 1"),
        ("shape", "the net of 'b' is"),
        ("setting", "the method is"),
        ("version", "cotrain's version is '0.0' on rank 0, '0.1' on rank 1"),
        ("batch", "2 ranks do not divide the batch of 7 rows"),
        ("wrapped", "'both' is wrapped in DistributedDataParallel"),
        ("sharded", "'a' is sharded already: give the net as it was made"),
        ("built", "'a' has an optimizer that was built before sharding"),
        ("apart", "'a' has a rule that wants losses apart"),
        ("unit", "'a' has no module '7'"),
        ("sparse", "'a' has a layer with sparse gradients, '1', which ranks do not average"),
        ("number", "'a' has a parameter without dimensions, 'scale', which cannot be sharded"),
        ("groups", "3 groups of learners do not divide 2 ranks"),
        ("together", "CycleGAN needs its learners together"),
        ("frozen", "the way of 'b' is .*'frozen': False.* on rank 0, .*'frozen': True.* on rank 1"),
        ("policy", "the way of 'b' is .*'stop'.* on rank 0, .*'skip'.* on rank 1"),
        ("rhythm", "log_every is 2 on rank 0, 3 on rank 1"),
        ("folder", "whether there is an out folder is True on rank 0, False on rank 1"),
        ("dealt out", "the number of groups is 1 on rank 0, 2 on rank 1"),
        ("judges", "the number of judges is 0 on rank 0, 1 on rank 1"),
        ("few", "1 learners cannot be dealt out to 2 groups"),
    ],
)
def test_refused_at_the_start_and_not_in_a_hang(two, case, message):
    for said in two.run(refuse, case):  # on every rank
        assert re.search(message, said)
