import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.losses.mixing import mixup_across
from cotrain.methods.semi.fixmatch import FixMatch


class Scale(nn.Module):
    """logits = weight * x with weight 1: the inputs are the logits."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.weight * x


def logs(*rows):
    return torch.tensor(rows).log()


def loss(method, labelled, unlabelled, **memory):
    model = Learner(Scale())
    return method.step({"model": model}, {"labelled": labelled, "unlabelled": unlabelled}, memory)["model"], model


def random_batch(seed=0, labelled=5, unlabelled=7, classes=4):
    rng = torch.Generator().manual_seed(seed)
    rows = {"x": torch.randn(labelled, classes, generator=rng), "y": torch.arange(labelled) % classes}
    views = {name: 3 * torch.randn(unlabelled, classes, generator=rng) for name in ("weak", "strong")}
    return rows, views


def test_by_hand():
    labelled = {"x": logs([0.5, 0.5]), "y": torch.tensor([0])}
    unlabelled = {"weak": logs([0.96, 0.04], [0.9, 0.1]), "strong": logs([0.25, 0.75], [0.5, 0.5])}
    # supervised ln 2; of two guesses only 0.96 is kept: -ln 0.25 over U = 2 is ln 2; together 2 ln 2
    torch.testing.assert_close(loss(FixMatch(), labelled, unlabelled)[0], torch.tensor(1.3862944))


def test_equals_a_plain_derivation():
    """In numpy, from Eq. 3 and 4: no shared code."""
    rows, views = random_batch(labelled=8, unlabelled=32)
    x, weak, strong = (t.double().numpy() for t in (rows["x"], views["weak"], views["strong"]))
    y, tau = rows["y"].numpy(), 0.8

    def softmax(z):
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    supervised = -np.mean([np.log(softmax(x)[i, y[i]]) for i in range(len(x))])
    q = softmax(weak)
    kept = [i for i in range(len(q)) if q[i].max() >= tau]
    assert 0 < len(kept) < len(q)
    unlabelled = -sum(np.log(softmax(strong)[i, q[i].argmax()]) for i in kept) / len(q)
    found, _ = loss(FixMatch(threshold=tau, weight=2.5), rows, views)
    assert found.item() == pytest.approx(supervised + 2.5 * unlabelled, rel=1e-5)


def test_an_impossible_threshold_is_supervised_training():
    rows, views = random_batch()
    found, _ = loss(FixMatch(threshold=1.01), rows, views)
    torch.testing.assert_close(found, F.cross_entropy(rows["x"], rows["y"]))


def test_the_weak_copy_gets_no_gradient():
    rows, views = random_batch()
    views["weak"].requires_grad_()
    views["strong"].requires_grad_()
    loss(FixMatch(threshold=0.0), rows, views)[0].backward()
    assert views["weak"].grad is None
    assert views["strong"].grad is not None


def test_labelled_and_strong_rows_are_seen_in_one_call():
    seen, model = [], Learner(Scale())
    model.net.register_forward_hook(lambda net, given, said: seen.append(len(said)))
    rows, views = random_batch(labelled=5, unlabelled=7)
    FixMatch().step({"model": model}, {"labelled": rows, "unlabelled": views}, {})
    assert seen == [7, 12]


def test_mixup_keeps_the_dominant_row_s_label():
    rows, views = random_batch()
    rng = torch.Generator().manual_seed(1)
    found, _ = loss(FixMatch(threshold=0.5, mixup=0.75), rows, views, generator=rng)
    (x,), (strong,) = mixup_across(0.75, torch.Generator().manual_seed(1), [rows["x"]], [views["strong"]])
    confidence, label = views["weak"].softmax(1).max(1)
    kept = (confidence >= 0.5).float()
    expected = F.cross_entropy(x, rows["y"]) + (F.cross_entropy(strong, label, reduction="none") * kept).mean()
    torch.testing.assert_close(found, expected)


def test_mixed_labels_are_mixed_as_the_inputs():
    rows, views = random_batch()
    rng = torch.Generator().manual_seed(1)
    found, _ = loss(FixMatch(threshold=0.0, mixup=0.75, mixed_labels=True), rows, views, generator=rng)
    one_hot = [F.one_hot(label, 4).float() for label in (rows["y"], views["weak"].argmax(1))]
    (x, target_x), (strong, target_strong) = mixup_across(
        0.75, torch.Generator().manual_seed(1), [rows["x"], one_hot[0]], [views["strong"], one_hot[1]]
    )
    expected = F.cross_entropy(x, target_x) + F.cross_entropy(strong, target_strong)
    torch.testing.assert_close(found, expected)


def test_alpha_towards_0_is_no_mixup():
    rows, views = random_batch()
    plain, _ = loss(FixMatch(threshold=0.5), rows, views)
    mixed, _ = loss(FixMatch(threshold=0.5, mixup=1e-7), rows, views, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed, plain)


def test_only_mixing_needs_the_whole_batch():
    assert FixMatch(mixup=0.75).whole_batch
    assert not FixMatch().whole_batch


def test_token_ids_cannot_be_mixed():
    rows, views = random_batch()
    ids = {"x": torch.ones(5, 4, dtype=torch.int64), "y": rows["y"]}
    with pytest.raises(InputError, match="embedded"):
        loss(FixMatch(mixup=0.75), ids, {name: torch.ones(7, 4, dtype=torch.int64) for name in views}, generator=None)
