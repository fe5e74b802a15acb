import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.methods.semi.deep_co_training import DeepCoTraining


def nets(seed=0, features=4, classes=3):
    torch.manual_seed(seed)
    return {name: Learner(nn.Linear(features, classes)) for name in ("one", "two")}


def random_batch(labelled=(5, 4), unlabelled=6, features=4, classes=3):
    rng = torch.Generator().manual_seed(1)

    def rows(count):
        return {"x": torch.randn(count, features, generator=rng), "y": torch.arange(count) % classes}

    return {
        "labelled": rows(labelled[0]),
        "labelled_two": rows(labelled[1]),
        "unlabelled": {"weak": torch.randn(unlabelled, features, generator=rng)},
    }


def step(method, learners, batch, at=0):
    memory = {"step": at, "generator": torch.Generator().manual_seed(0)}
    return method.step(learners, batch, memory)["one", "two"]


def test_equals_a_plain_derivation():
    """From the formulas, with the attack's gradient in closed form: for a linear net it is W' (p - one-hot)."""
    learners, batch = nets(), random_batch()
    nets_ = [learners[name].net for name in ("one", "two")]
    u, rows = batch["unlabelled"]["weak"], [batch["labelled"], batch["labelled_two"]]
    supervised, clean, attacks = 0.0, [], []
    for net, r in zip(nets_, rows, strict=True):
        x = torch.cat([r["x"], u])
        p = net(x).softmax(1)
        label = torch.cat([r["y"], net(u).argmax(1)])
        gradient = (p - F.one_hot(label, 3)) @ net.weight
        attacks.append((x + 0.3 * gradient.sign()).detach())
        clean.append(p)
        supervised = supervised - p[: len(r["y"])].log()[range(len(r["y"])), r["y"]].mean()
    one, two = clean[0][5:], clean[1][4:]
    mean = (one + two) / 2

    def h(p):
        return -(p * p.log()).sum(1)

    agreement = (h(mean) - (h(one) + h(two)) / 2).mean()
    # what fools one is shown to two, which is to say what one said before; and the reverse
    difference = -(clean[0] * nets_[1](attacks[0]).log_softmax(1)).sum(1).mean()
    difference = difference - (clean[1] * nets_[0](attacks[1]).log_softmax(1)).sum(1).mean()
    found = step(DeepCoTraining(2.0, 0.7, epsilon=0.3, ramp=0), learners, batch)
    torch.testing.assert_close(found, supervised + 2 * agreement + 0.7 * difference)


def test_no_weights_is_supervised_training_of_both():
    learners, batch = nets(), random_batch()
    expected = sum(
        F.cross_entropy(learners[name].net(batch[stream]["x"]), batch[stream]["y"])
        for name, stream in (("one", "labelled"), ("two", "labelled_two"))
    )
    torch.testing.assert_close(step(DeepCoTraining(0.0, 0.0), learners, batch), expected)


def test_equal_nets_agree_and_an_attack_of_no_size_leaves_the_entropy():
    learners, batch = nets(), random_batch()
    learners["two"].net.load_state_dict(learners["one"].net.state_dict())
    batch["labelled_two"] = batch["labelled"]
    p = learners["one"].net(torch.cat([batch["labelled"]["x"], batch["unlabelled"]["weak"]])).softmax(1)
    entropy = -(p * p.log()).sum(1).mean()
    supervised = step(DeepCoTraining(0.0, 0.0), learners, batch)
    torch.testing.assert_close(step(DeepCoTraining(5.0, 0.0, ramp=0), learners, batch), supervised)
    torch.testing.assert_close(
        step(DeepCoTraining(0.0, 1.0, epsilon=0.0, ramp=0), learners, batch), supervised + 2 * entropy
    )


def test_the_agreement_is_at_most_log_2_whatever_the_batch():
    learners = nets()
    for unlabelled in (1, 50):
        batch = random_batch(unlabelled=unlabelled)
        batch["unlabelled"]["weak"] *= 1e3
        agreement = step(DeepCoTraining(1.0, 0.0, ramp=0), learners, batch) - step(
            DeepCoTraining(0.0, 0.0), learners, batch
        )
        assert 0 <= agreement.item() <= math.log(2) + 1e-5


def test_a_detached_target_changes_the_gradient_and_not_the_loss():
    learners, batch = nets(), random_batch()
    losses, gradients = [], []
    for detach in (False, True):
        losses.append(step(DeepCoTraining(0.0, 1.0, epsilon=0.3, ramp=0, detach_target=detach), learners, batch))
        gradients.append(torch.autograd.grad(losses[-1], learners["one"].net.weight)[0])
    assert torch.equal(losses[0], losses[1])
    assert not torch.allclose(gradients[0], gradients[1])


def test_the_attack_itself_has_no_gradient():
    """The loss's gradient with a detached target is that of supervised training plus one pass on fixed inputs."""
    learners, batch = nets(), random_batch()
    found = step(DeepCoTraining(0.0, 1.0, epsilon=0.3, ramp=0, detach_target=True), learners, batch)
    (gradient,) = torch.autograd.grad(found, learners["two"].net.bias)
    assert gradient.isfinite().all()
    assert not batch["unlabelled"]["weak"].requires_grad


def test_both_weights_rise():
    learners, batch = nets(), random_batch()
    base = step(DeepCoTraining(0.0, 0.0), learners, batch)
    early, late = (step(DeepCoTraining(1.0, 0.5, ramp=10), learners, batch, at) - base for at in (0, 10))
    assert early.item() == pytest.approx(math.exp(-5) * late.item(), rel=1e-3)


def test_alpha_towards_0_is_no_mixup():
    learners, batch = nets(), random_batch()
    plain, mixed = (step(DeepCoTraining(ramp=0, mixup=alpha), learners, batch) for alpha in (0.0, 1e-7))
    # The unlabelled rows are the same up to their order, which no loss sees.
    torch.testing.assert_close(mixed, plain, atol=1e-4, rtol=1e-4)


def test_token_ids_are_refused():
    batch = random_batch()
    for rows in batch.values():
        for field in ("x", "weak"):
            if field in rows:
                rows[field] = rows[field].long()
    with pytest.raises(InputError, match="vectors"):
        step(DeepCoTraining(), nets(), batch)
