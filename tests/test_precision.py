"""fp32 leaves everything alone, bf16 is autocast."""

import pytest
import torch
from torch import nn

from cotrain.errors import InputError
from cotrain.precision import autocast

CPU = torch.device("cpu")


def test_fp32_is_as_outside():
    net, x = nn.Linear(3, 2), torch.randn(4, 3)
    with autocast("fp32", CPU):
        assert torch.equal(net(x), net(x).float())
        assert not torch.is_autocast_enabled("cpu")


def test_bf16_computes_in_bf16_and_keeps_weights():
    net = nn.Linear(3, 2)
    with autocast("bf16", CPU):
        assert net(torch.randn(4, 3)).dtype == torch.bfloat16
    assert net.weight.dtype == torch.float32


def test_other_precisions_are_refused():
    with pytest.raises(InputError, match="'fp32' or 'bf16', not 'fp16'"):
        autocast("fp16", CPU)
