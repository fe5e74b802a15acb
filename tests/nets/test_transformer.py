"""The decoder: its formulas written out, what it may see, its numbers of parameters and of operations."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cotrain.errors import InputError
from cotrain.nets.attention import causal_attention
from cotrain.nets.transformer import Decoder, ParallelBlock, SerialBlock

SIZES = {"vocabulary": 11, "width": 8, "layers": 3, "heads": 2, "context": 24}
V, E, L = 11, 8, 3


def random(block):
    """Norms and biases too, which start at ones and zeros."""
    rng = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    return block


def heads_of(tensor, heads=2):
    return tensor.view(*tensor.shape[:2], heads, -1).transpose(1, 2)


def attention(joined, window):
    query, key, value = (heads_of(part) for part in joined.split(E, dim=-1))
    return causal_attention(query, key, value, window).transpose(1, 2).reshape(*joined.shape[:2], E)


@pytest.mark.parametrize("window", [None, 3])
def test_serial_block_is_its_formula(window):
    block, x = random(SerialBlock(E, 2, 12, window)), torch.randn(2, 9, E, dtype=torch.float64)
    normed = F.layer_norm(x, (E,), block.attention_norm.weight, block.attention_norm.bias)
    y = x + block.attention_out(attention(block.attention_in(normed), window))
    normed = F.layer_norm(y, (E,), block.mlp_norm.weight, block.mlp_norm.bias)
    torch.testing.assert_close(block(x), y + block.mlp_out(F.gelu(block.mlp_in(normed))))


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("fused", [None, True, False])
def test_parallel_block_is_the_sum_of_both_at_one_norm(window, fused):
    block, x = random(ParallelBlock(E, 2, 12, window, fused)), torch.randn(2, 9, E, dtype=torch.float64)
    normed = F.layer_norm(x, (E,), block.norm.weight, block.norm.bias)
    weight, bias = block.both_in.weight, block.both_in.bias
    joined = F.linear(normed, weight[: 3 * E], bias[: 3 * E])
    units = F.linear(normed, weight[3 * E :], bias[3 * E :])
    expected = x + block.mlp_out(F.gelu(units)) + block.attention_out(attention(joined, window))
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("window", [None, 4, 8])
def test_no_position_sees_what_comes_after_it_or_before_its_windows(parallel, window):
    net = Decoder(**SIZES, parallel=parallel, window=window).double()
    ids = torch.arange(20).view(1, 20) % V
    other = ids.clone()
    other[0, 12:] = (ids[0, 12:] + 5) % V
    torch.testing.assert_close(net(ids)[:, :12], net(other)[:, :12], rtol=0, atol=0)
    assert not torch.isclose(net(ids)[:, 12:], net(other)[:, 12:]).all(-1).any()
    if window == 4:
        changed = ids.clone()
        changed[0, 0] = 7
        reach = L * (4 - 1)  # each layer looks three positions further back
        same = torch.isclose(net(ids), net(changed), rtol=0, atol=1e-12).all(-1)[0]
        assert same[reach + 1 :].all()
        assert not same[: reach + 1].any()


@pytest.mark.parametrize("parallel", [False, True])
def test_a_window_as_long_as_the_sequence_changes_nothing(parallel):
    full, cut = Decoder(**SIZES, parallel=parallel), Decoder(**SIZES, parallel=parallel, window=20)
    cut.load_state_dict(full.state_dict())
    ids = torch.randint(V, (2, 20))
    assert torch.equal(full(ids), cut(ids))


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("hidden", [None, 20])
def test_number_of_parameters(parallel, tied, hidden):
    net = Decoder(**SIZES, parallel=parallel, tied=tied, hidden=hidden)
    h = hidden or 4 * E
    products = (3 * E * E + 3 * E) + (E * E + E) + (E * h + h) + (h * E + E)
    norms = 2 * E * (1 if parallel else 2)
    outside = V * E + 24 * E + 2 * E + (0 if tied else V * E)
    assert sum(p.numel() for p in net.parameters()) == L * (products + norms) + outside


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("window", [None, 20, 7])
@pytest.mark.parametrize("hidden", [None, 20])
def test_flops_are_those_that_torch_counts(parallel, tied, window, hidden):
    net = Decoder(**SIZES, parallel=parallel, tied=tied, window=window, hidden=hidden)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        net(torch.randint(V, (3, 20)))
    assert counter.get_total_flops() == 3 * net.flops(20)


def test_flops_of_a_classic_layer():
    # 24 T E^2 + 4 T^2 E for each layer with a hidden layer of 4 E, and 2 T V E for the logits.
    assert Decoder(**SIZES).flops(20) == L * (24 * 20 * E**2 + 4 * 20**2 * E) + 2 * 20 * V * E


def test_it_starts_at_the_uniform_guess_and_learns_a_circle():
    torch.manual_seed(0)
    net = Decoder(**SIZES, parallel=True)
    ids = (torch.arange(21) + torch.randint(V, (16, 1))) % V
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        loss = F.cross_entropy(net(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(torch.tensor(V).log().item(), abs=0.02)
    assert losses[-1] < 0.1


def test_bad_sizes_and_sequences():
    with pytest.raises(InputError, match="3 heads do not divide a width of 8"):
        Decoder(**SIZES | {"heads": 3})
    with pytest.raises(InputError, match="window is at least 1, not 0"):
        Decoder(**SIZES, window=0)
    with pytest.raises(InputError, match="layers is at least 1, not 0"):
        Decoder(**SIZES | {"layers": 0})
    with pytest.raises(InputError, match="25 ids is longer than the decoder's context of 24"):
        Decoder(**SIZES)(torch.zeros(1, 25, dtype=torch.int64))


def test_tied_vectors_are_one_parameter():
    net = Decoder(**SIZES)
    assert net.head.weight is net.tokens.weight
    assert isinstance(net.head, nn.Linear)
