from itertools import pairwise

import pytest
import torch

from cotrain.errors import InputError
from cotrain.nets.wide_resnet import WideResNet


def count(net):
    return sum(p.numel() for p in net.parameters())


def by_hand(depth, width, channels, classes):
    """Parameters from the paper's Table 1: convolutions, normalizations, shortcuts where the size changes."""
    n, sizes = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
    total = 9 * channels * 16
    for before, after in pairwise(sizes):
        for block in range(n):
            start = before if block == 0 else after
            total += 2 * start + 9 * start * after + 2 * after + 9 * after * after
            if block == 0 and (start != after or after != sizes[1]):
                total += start * after
    return total + 2 * sizes[-1] + sizes[-1] * classes + classes


@pytest.mark.parametrize(("depth", "width", "channels"), [(10, 1, 1), (10, 2, 3), (16, 1, 3), (28, 2, 3)])
def test_parameters(depth, width, channels):
    assert count(WideResNet(depth, width, channels, 10)) == by_hand(depth, width, channels, 10)


def test_known_sizes():
    assert count(WideResNet(28, 2, 3, 10)) == 1_467_610  # the net of MixMatch and FixMatch, "1.5 million"
    assert count(WideResNet(10, 1, 1, 10)) == 77_562


@pytest.mark.parametrize("stride", [1, 2])
def test_any_size_of_input(stride):
    net = WideResNet(10, 1, 2, 7, stem_stride=stride)
    for shape in ((32, 32), (40, 51), (9, 5)):
        assert net(torch.randn(3, 2, *shape)).shape == (3, 7)


def test_features_lead_to_the_logits():
    net = WideResNet(10, 2, 1, 7).eval()
    x = torch.randn(3, 1, 16, 16)
    features = net(x, features=True)
    assert features.shape == (3, 128)
    torch.testing.assert_close(net.head(features), net(x))


def test_other_depths_are_refused():
    with pytest.raises(InputError, match="10, 16, 22, 28"):
        WideResNet(12, 1, 1, 10)
