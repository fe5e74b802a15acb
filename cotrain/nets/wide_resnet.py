"""A wide residual net for images and spectrograms.

Source: Zagoruyko & Komodakis 2016, "Wide residual networks", arXiv:1605.07146, Table 1; with the leaky rectifier of
the published code of MixMatch (Berthelot et al. 2019, arXiv:1905.02249).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from cotrain.errors import InputError
from cotrain.nets.headed import Headed

_SLOPE = 0.1  # of the rectifier below zero


class WideResNet(Headed):
    """x [N, channels_in, H, W] -> logits [N, classes]; with features=True, features [N, 64 * width].

    Three groups of (depth - 4) / 6 blocks with 16, 32 and 64 times `width` channels, global average pooling, one linear
    layer. WideResNet(28, 2) has 1.5 million parameters, WideResNet(10, 1) 78 thousand.

    Args:
        stem_stride: of the first convolution; 2 quarters the cost of everything after it.

    Raises:
        InputError: a depth that is not 6 n + 4.
    """

    def __init__(self, depth: int, width: int, channels_in: int, classes: int, stem_stride: int = 1):
        if depth < 10 or (depth - 4) % 6:
            raise InputError(f"The depth of a wide residual net is 10, 16, 22, 28, ..., not {depth}.")
        blocks, sizes = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
        layers: list[nn.Module] = [nn.Conv2d(channels_in, 16, 3, stem_stride, padding=1, bias=False)]
        for group in range(3):
            for number in range(blocks):
                before = sizes[group] if number == 0 else sizes[group + 1]
                layers.append(_Block(before, sizes[group + 1], stride=2 if group > 0 and number == 0 else 1))
        tail = (nn.BatchNorm2d(sizes[-1]), nn.LeakyReLU(_SLOPE), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        head = nn.Linear(sizes[-1], classes)
        nn.init.zeros_(head.bias)
        super().__init__(nn.Sequential(*layers, *tail), head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, mode="fan_out")


class _Block(nn.Module):
    """Normalize, rectify, convolve, twice; added to the input, or to a 1x1 convolution of it where the size changes."""

    channelwise = True  # `forward` treats all channels alike: those of several nets side by side as well

    def __init__(self, channels_in: int, channels_out: int, stride: int):
        super().__init__()
        self.first_norm = nn.BatchNorm2d(channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        same = channels_in == channels_out and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(self.first_norm(x), _SLOPE)
        inner = F.leaky_relu(self.second_norm(self.first(active)), _SLOPE)
        return self.second(inner) + (x if self.shortcut is None else self.shortcut(active))
