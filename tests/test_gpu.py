"""On a GPU: every method keeps its promises there, alone and in a group of NCCL, and no step waits for the device."""

import os
import signal
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn, optim

from cotrain import place
from cotrain.average import GradientMean, communication
from cotrain.conformance import CHECKS, close, methods, train
from cotrain.engine import fit
from cotrain.judge import accuracy
from cotrain.learner import Learner
from cotrain.methods.adversarial.cyclegan import CycleGAN
from cotrain.methods.examples import labelled_rows, two_layer
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.methods.reinforce.actor_critic import ActorCritic
from cotrain.prefetch import Prefetched
from cotrain.shard import whole
from cotrain.stopping import Stopped
from cotrain.stream import Once, Rows, Stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

SGD = partial(optim.SGD, lr=0.1)
ADAM = partial(optim.AdamW, lr=1e-2)
each_method = pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)


@pytest.fixture(scope="module", autouse=True)
def exact():
    """Sums in fixed order and products without TF32, so that two runs can be compared."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def nccl(tmp_path_factory):
    """A process group of NCCL with this process alone in it, as torchrun makes it on one GPU."""
    meeting = tmp_path_factory.mktemp("nccl") / "meeting"
    torch.cuda.set_device(0)
    dist.init_process_group("nccl", init_method=f"file://{meeting}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# Alone


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@each_method
def test_method(method, check):
    check(method, "cuda")


class Watched(Stream):
    """Rows that lie on the GPU; from its third batch to its last, whatever waits for the device is an error."""

    def __init__(self, stream, last):
        self.stream, self.last, self.given = stream, last, 0

    def __next__(self):
        batch = place.move(next(self.stream), torch.device("cuda"))
        self.given += 1
        torch.cuda.set_sync_debug_mode("error" if 2 < self.given < self.last else "default")
        return batch

    def state(self):
        return self.stream.state()

    def load(self, state):
        self.stream.load(state)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@each_method
def test_no_step_waits_for_the_device(method, precision):
    if method is ActorCritic:
        pytest.skip("plays in a simulator on the host, which waits for every action")
    example = method.example()
    name, *_ = example.streams
    streams = example.streams | {name: Watched(example.streams[name], last=8)}
    try:
        fit(example.method, example.learners, streams, 8, device="cuda", precision=precision)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert streams[name].given == 8


def test_a_wait_would_be_seen():
    class Waits(MutualLearning):
        def step(self, learners, batch, memory):
            losses = super().step(learners, batch, memory)
            next(iter(losses.values())).item()
            return losses

    example = MutualLearning.example()
    streams = {"labelled": Watched(example.streams["labelled"], last=8)}
    try:
        with pytest.raises(RuntimeError, match="synchroniz"):
            fit(Waits(), example.learners, streams, 8, device="cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")


def pair(optimizer=SGD):
    return {name: Learner(two_layer(seed=seed), optimizer) for seed, name in enumerate(("one", "two"))}


def weights(learners):
    return {name: [w.detach().cpu() for w in learner.net.state_dict().values()] for name, learner in learners.items()}


def trained(device, learners=None, **settings):
    learners = pair() if learners is None else learners
    fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 20, device=device, **settings)
    return weights(learners)


def test_gpu_learns_what_the_cpu_learns():
    assert close(trained("cpu"), trained("cuda"))


def test_stack_equals_alone():
    assert close(trained("cuda", stack=False), trained("cuda", stack=True))


def test_stacked_convolutions_equal_alone():
    x, y = torch.randn(64, 1, 8, 8), torch.randint(3, (64,))

    def run(stack):
        learners = {}
        for seed, name in enumerate(("one", "two", "three")):
            torch.manual_seed(seed)
            layers = nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)
            learners[name] = Learner(nn.Sequential(*layers), SGD)
        streams = {"labelled": Rows({"x": x, "y": y}, batch=16)}
        fit(MutualLearning(), learners, streams, 10, device="cuda", stack=stack)
        return weights(learners)

    assert close(run(False), run(True), tolerance=1e-4)


def test_auto_stack_decides():
    assert close(trained("cuda", stack=False), trained("cuda", stack="auto"))


def test_compiled_equals_eager():
    assert close(trained("cuda"), trained("cuda", compile=True))


def test_adam_steps_in_fused_kernels():
    learners = pair(ADAM)
    fused = trained("cuda", learners)
    assert all(group["fused"] for learner in learners.values() for group in learner.optimizer.param_groups)
    assert close(fused, trained("cuda", pair(partial(ADAM, foreach=True))))


def test_prefetched_batches_are_pinned():
    stream = Prefetched(labelled_rows())
    batch = next(stream)
    stream.close()
    assert all(values.is_pinned() for values in batch.values())
    prefetched = pair()
    fit(MutualLearning(), prefetched, {"labelled": Prefetched(labelled_rows())}, 20, device="cuda")
    assert close(trained("cuda"), weights(prefetched))


def test_dropout_on_the_gpu_resumes_bit_for_bit(tmp_path):
    def run(steps, **settings):
        learners = {
            name: Learner(nn.Sequential(two_layer(seed=seed), nn.Dropout(0.5)), ADAM)
            for seed, name in enumerate(("one", "two"))
        }
        fit(MutualLearning(), learners, {"labelled": labelled_rows()}, steps, device="cuda", **settings)
        return weights(learners)

    unbroken = run(12)
    nothing = Once({"x": torch.zeros(1, 4)})
    with pytest.raises(Stopped):
        run(12, judges=[(stop_here, nothing)], judge_every=5, out=tmp_path)
    resumed = run(12, judges=[(lambda learners, stream: {}, nothing)], judge_every=5, out=tmp_path)
    assert all(torch.equal(a, b) for name in unbroken for a, b in zip(unbroken[name], resumed[name], strict=True))


def stop_here(learners, stream):
    """A judge in whose place the run is told to stop, as a scheduler does it."""
    os.kill(os.getpid(), signal.SIGTERM)
    return {}


def test_judge_counts_on_the_gpu():
    learners = pair()
    truth = Once(labelled_rows(300).data, batch=64)
    judges = [(accuracy("one"), truth)]
    report = fit(MutualLearning(), learners, {"labelled": labelled_rows()}, 40, judges=judges, device="cuda")
    with torch.no_grad():
        said = learners["one"].net.cpu()(truth.data["x"]).argmax(-1)
    assert report.last["accuracy"] == pytest.approx((said == truth.data["y"]).float().mean().item())


def test_bf16_learns_nearly_the_same():
    weights = trained("cuda", precision="bf16")
    assert not close(weights, trained("cuda"), tolerance=1e-7)
    assert close(weights, trained("cuda"), tolerance=0.05)


# In a group of NCCL, which on one GPU can have one rank


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@each_method
def test_method_in_a_group(method, check, nccl):
    check(method, "cuda")


@pytest.mark.parametrize("method", [m for m in methods() if m is not ActorCritic], ids=lambda method: method.__name__)
def test_a_group_of_one_learns_what_the_cpu_learns(method, nccl):
    learned = {name: [w.cpu() for w in found] for name, found in train(method, "cuda").items()}
    assert close(train(method), learned, tolerance=1e-4)


@pytest.mark.parametrize("how", ["flat", "bf16"])
def test_gradients_come_back_from_nccl(how, nccl):
    x, y = torch.randn(16, 4, device="cuda"), torch.randint(3, (16,), device="cuda")
    net = two_layer().cuda()
    F.cross_entropy(net(x), y).backward()
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    mean = GradientMean(list(net.parameters()), communication(how))
    mean.arm()
    F.cross_entropy(net(x), y).backward()
    mean.send()
    mean.wait()
    tolerance = 1e-6 if how == "flat" else 1e-2
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sharded_over_nccl(precision, nccl, monkeypatch):
    """A loss that flows through one sharded learner into another. One rank is placed as it is, so it is told that there
    are two; torch shards over the group that there is."""
    plain = CycleGAN.example()
    fit(plain.method, plain.learners, plain.streams, 6, device="cuda", precision=precision)
    sharded = CycleGAN.example()
    learners = {
        name: Learner(learner.net, learner.factory, placement="fsdp") for name, learner in sharded.learners.items()
    }
    monkeypatch.setattr(Learner, "is_sharded", property(lambda self: self.placement == "fsdp"))
    monkeypatch.setattr("cotrain.learner.place.ranks", lambda: 2)
    fit(sharded.method, learners, sharded.streams, 6, device="cuda", precision=precision)
    found = {name: [whole(w).cpu() for w in learner.net.state_dict().values()] for name, learner in learners.items()}
    assert close(weights(plain.learners), found, tolerance=1e-5 if precision == "fp32" else 1e-2)
