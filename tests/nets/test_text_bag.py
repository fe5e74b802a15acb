import pytest
import torch
from torch import nn

from cotrain.nets.text_bag import TextBag, TextConvolution

NETS = [TextBag, TextConvolution]


def count(net):
    return sum(p.numel() for p in net.parameters())


def test_parameters():
    assert count(TextBag(1000, 16, 32, 4)) == 1000 * 16 + 16 * 32 + 32 + 32 * 4 + 4
    assert count(TextBag(None, 16, 32, 4)) == 16 * 32 + 32 + 32 * 4 + 4
    assert count(TextConvolution(1000, 16, 32, 4)) == 1000 * 16 + 3 * 16 * 32 + 32 + 32 * 4 + 4


def test_bag_by_hand():
    net = TextBag(None, 2, 2, 2, dropout=0.0)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
    words = torch.tensor([[[1.0, 4.0], [3.0, 0.0], [0.0, 0.0]], [[-2.0, 6.0], [0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(net(words), torch.tensor([[2.0, 2.0], [0.0, 6.0]]))


@pytest.mark.parametrize("net", NETS)
def test_ids_and_their_vectors_give_the_same(net):
    one = net(50, 8, 16, 3).eval()
    ids = torch.randint(1, 50, (4, 7))
    ids[0, 3:] = 0
    table = next(m for m in one.modules() if isinstance(m, nn.Embedding)).weight
    torch.testing.assert_close(one(ids), one(table[ids]))
    assert one(ids, features=True).shape == (4, 16)


@pytest.mark.parametrize("net", NETS)
def test_padding_does_not_matter(net):
    one = net(50, 8, 16, 3).eval()
    ids = torch.randint(1, 50, (4, 5))
    torch.testing.assert_close(one(ids), one(nn.functional.pad(ids, (0, 9))))


@pytest.mark.parametrize("net", NETS)
def test_no_gradient_reaches_padding_and_an_empty_text_is_finite(net):
    one = net(None, 8, 16, 3)
    words = torch.randn(3, 6, 8)
    words[0, 2:] = 0
    words[1] = 0
    words.requires_grad_()
    one(words).square().sum().backward()
    assert not words.grad[0, 2:].any()
    assert not words.grad[1].any()
    assert words.grad[2].any()
    assert one(words).isfinite().all()


def test_only_convolutions_see_the_order():
    ids = torch.randint(1, 50, (8, 6))
    bag, convolution = (net(50, 8, 16, 3).eval() for net in NETS)
    torch.testing.assert_close(bag(ids), bag(ids.flip(1)))
    assert not torch.allclose(convolution(ids), convolution(ids.flip(1)))
