import pytest
import torch
import torch.nn.functional as F

from cotrain.errors import InputError
from cotrain.losses.perturbation import fast_gradient_sign, watched


def test_by_hand():
    # logits = x, so d CE / dx = softmax(x) - one-hot: negative at the label, positive elsewhere
    x = watched(torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 5.0]]))
    attack = fast_gradient_sign(x, x * 1.0, torch.tensor([0, 2]), epsilon=0.25)
    torch.testing.assert_close(attack, torch.tensor([[1.75, 1.25, 0.25], [0.25, 0.25, 4.75]]))
    assert not attack.requires_grad


def test_no_size_no_change():
    x = watched(torch.randn(4, 3))
    assert torch.equal(fast_gradient_sign(x, x * 1.0, torch.zeros(4, dtype=torch.int64), 0.0), x)


def test_raises_the_loss_and_keeps_the_graph():
    net, x, y = torch.nn.Linear(5, 3), watched(torch.randn(8, 5)), torch.arange(8) % 3
    logits = net(x)
    attack = fast_gradient_sign(x, logits, y, 0.1)
    assert F.cross_entropy(net(attack), y) > F.cross_entropy(logits, y)
    F.cross_entropy(logits, y).backward()
    assert net.weight.grad is not None


def test_the_batch_does_not_matter():
    net, x, y = torch.nn.Linear(5, 3), torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    whole = watched(x)
    together = fast_gradient_sign(whole, net(whole), y, 0.1)
    for row in range(4):
        one = watched(x[row : row + 1])
        torch.testing.assert_close(fast_gradient_sign(one, net(one), y[row : row + 1], 0.1)[0], together[row])


def test_whole_numbers_are_refused():
    with pytest.raises(InputError, match="vectors"):
        watched(torch.ones(2, 3, dtype=torch.int64))
