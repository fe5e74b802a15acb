"""Floating-point operations by hand formula, and whose they are."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from cotrain.errors import InputError
from cotrain.watch.flops import SPECIFIED, Peak, count, measured_peak, specified, utilization


def linear(inputs=5, outputs=7):
    return nn.Linear(inputs, outputs)


def test_a_linear_layer_by_hand():
    net, x = linear(5, 7), torch.randn(3, 5)
    product = 2 * 3 * 5 * 7
    with count({"one": net}) as counted:
        net(x)
    assert counted.learners == {"one": product}
    with count({"one": net}) as counted:
        net(x).sum().backward()
    assert counted.learners == {"one": 2 * product}  # the input needs no gradient, so only the weight's
    with count({"one": net}) as counted:
        net(x.requires_grad_()).sum().backward()
    assert counted.learners == {"one": 3 * product}
    assert counted.elsewhere == 0


class Block(nn.Module):
    """A classic transformer block: attention and an MLP four times as wide."""

    def __init__(self, width, heads):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, x_BSH):
        B, S, H = x_BSH.shape
        q, k, v = (
            part.view(B, S, self.heads, H // self.heads).transpose(1, 2)
            for part in self.mix(self.norms[0](x_BSH)).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, S, H)
        x_BSH = x_BSH + self.out(mixed)
        return x_BSH + self.mlp(self.norms[1](x_BSH))


def block_flops(B, S, H):
    """Projections 8, MLP 16, attention 4 S / H, each times B S H^2."""
    return 24 * B * S * H**2 + 4 * B * S**2 * H


def test_a_transformer_block_by_formula():
    net, x = Block(32, 4), torch.randn(2, 10, 32, requires_grad=True)
    with count({"block": net}) as counted:
        out = net(x)
    assert counted.learners["block"] == block_flops(2, 10, 32)
    with count({"block": net}) as counted:
        out = net(x)
        out.square().mean().backward()
    assert counted.learners["block"] == 3 * block_flops(2, 10, 32)


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_computes_again_is_not_counted(reentrant):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block(16, 2)

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=reentrant)

    x = torch.randn(2, 6, 16, requires_grad=True)
    net = Checkpointed()
    with count({"one": net}) as counted:
        net(x).sum().backward()
    assert counted.learners["one"] == 3 * block_flops(2, 6, 16)


def test_a_checkpoint_around_the_learner_is_not_counted_twice():
    net, x = linear(), torch.randn(3, 5, requires_grad=True)
    with count({"one": net}) as counted:
        checkpoint(lambda x: net(x).square(), x, use_reentrant=False).sum().backward()
    assert counted.total == 3 * 2 * 3 * 5 * 7


def test_a_backward_through_another_learner_belongs_to_that_one():
    """A generator's loss flows through the discriminator."""
    generator, discriminator = linear(5, 7), nn.Sequential(linear(7, 11), nn.ReLU(), linear(11, 1))
    with count({"g": generator, "d": discriminator}) as counted:
        loss = discriminator(generator(torch.randn(3, 5))).mean()
        loss.backward(inputs=list(generator.parameters()))
    forward = 2 * 3 * (7 * 11 + 11)
    assert counted.learners == {"g": 2 * (2 * 3 * 5 * 7), "d": 2 * forward}  # inputs' gradients, not weights'


def test_a_gradient_penalty_is_counted_through_both_backwards():
    net, x = nn.Linear(5, 7, bias=False), torch.randn(3, 5, requires_grad=True)
    product = 2 * 3 * 5 * 7
    with count({"one": net}) as counted:
        (slope,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward(inputs=list(net.parameters()))
    # Forward, slope; then through the slope both ways (its input and the weight), and the first forward's weight.
    assert counted.learners == {"one": 5 * product}
    assert counted.elsewhere == 0


def test_losses_made_of_products_belong_to_nobody():
    net, x = linear(), torch.randn(3, 5)
    with count({"one": net}) as counted:
        z = net(x)
        (z @ z.T).sum().backward()
    similarity = 2 * 3 * 7 * 3
    assert counted.learners == {"one": 2 * (2 * 3 * 5 * 7)}
    assert counted.elsewhere == 3 * similarity


def test_an_input_computed_outside_is_not_the_learners():
    net, weight = linear(), torch.randn(4, 5, requires_grad=True)
    with count({"one": net}) as counted:
        net(torch.randn(3, 4) @ weight).sum().backward()
    assert counted.elsewhere == 2 * (2 * 3 * 4 * 5)


def test_a_part_of_a_net_is_its_learners():
    net = nn.ModuleDict({"body": linear(5, 7), "head": linear(7, 2)})
    with count({"one": net}) as counted:
        net["head"](net["body"](torch.randn(3, 5))).sum().backward()
    assert counted.learners["one"] == 2 * (2 * 3 * 5 * 7) + 3 * (2 * 3 * 7 * 2)


def test_outputs_in_dicts_and_dataclasses():
    @dataclass
    class Out:
        logits: torch.Tensor

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 7))

        def forward(self, x):
            return {"out": [Out(x @ self.weight)]}

    net = Net()
    with count({"one": net}) as counted:
        net(torch.randn(3, 5))["out"][0].logits.sum().backward()
    assert counted.learners["one"] == 2 * (2 * 3 * 5 * 7)


def test_all_together_is_what_torch_counts():
    nets = {
        "conv": nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3)),
        "head": nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 5)),
    }
    x = torch.randn(2, 2, 8, 8)

    def step():
        logits = nets["head"](nets["conv"](x))
        F.cross_entropy(logits, torch.tensor([0, 1])).backward()

    with count(nets) as counted:
        step()
    with FlopCounterMode(display=False) as torchs:
        step()
    assert counted.total == torchs.get_total_flops() > 0
    assert all(counted.learners.values())


def test_counting_changes_nothing_and_leaves_nothing():
    x = torch.randn(3, 5)
    gradients = []
    for counted in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(linear(), nn.Dropout(), linear(7, 2))
        if counted:
            with count({"one": net}):
                net(x).square().sum().backward()
        else:
            net(x).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_an_error_inside_leaves_no_hooks():
    net = linear()
    with pytest.raises(RuntimeError), count({"one": net}):
        net(torch.randn(3, 4))
    assert not net._forward_hooks


def test_utilization_by_hand():
    # 6e12 operations in 3 s on 2 devices of 10 TFLOP/s: a tenth
    assert utilization(6e12, 3.0, Peak(10e12, ""), devices=2) == pytest.approx(0.1)
    with pytest.raises(InputError, match="needs a time and a device"):
        utilization(1.0, 0.0, Peak(1.0, ""))


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.0),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA GH200 480GB", 989.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_names_as_drivers_give_them(name, tera):
    assert specified(name) == tera * 1e12


def test_an_unknown_device_has_no_figure():
    assert specified("NVIDIA A10G") is None
    assert specified("Tesla V100-SXM2-16GB") is None
    assert len(SPECIFIED) > 10


def test_a_measured_peak_says_so():
    peak = measured_peak(torch.device("cpu"), seconds=0.01, size=64)
    assert peak.what == "against measured matmul peak"
    assert peak.flops > 1e6
