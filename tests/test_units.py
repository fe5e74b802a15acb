import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_ranks
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F

from cotrain.errors import InputError
from cotrain.shard import leaves
from cotrain.units import auto_units, managed


def names(net: nn.Module, **bounds: float) -> list[list[str]]:
    name = {id(module): name for name, module in net.named_modules()}
    return [[name[id(module)] for module in unit] for unit in auto_units(net, **bounds)]


def square(size: int) -> nn.Linear:
    return nn.Linear(size, size, bias=False)


class Branch(nn.Module):
    """A part with a parameter of its own and a part that is not called."""

    def __init__(self, own: int, *parts: nn.Module):
        super().__init__()
        self.own = nn.Parameter(torch.zeros(own))
        self.parts = nn.ModuleList(parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x + self.own.sum()


def test_blocks_within_the_bounds_are_units():
    net = nn.Sequential(*(nn.Sequential(square(4), nn.Tanh(), square(4)) for _ in range(12)))
    assert names(net) == [[str(index)] for index in range(12)]  # 8.3 % each, though their linears are 4.2 %


def test_a_block_above_the_bound_is_cut():
    net = nn.Sequential(*(nn.Sequential(square(4), nn.Tanh(), square(4)) for _ in range(6)))
    assert names(net) == [[f"{index}.{part}"] for index in range(6) for part in (0, 2)]


def test_what_cannot_be_cut_is_a_unit_whatever_its_size():
    assert names(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))) == [["0"], ["2"]]
    assert names(nn.Linear(3, 4)) == []  # the net itself is the unit


def test_small_neighbours_make_a_unit_together_where_they_stand_in_order():
    net = nn.Sequential(*(square(2) for _ in range(200)))
    assert names(net) == [[str(index), str(index + 1)] for index in range(0, 200, 2)]
    # 1 of 2 + 400 numbers is less than a hundredth, and nothing says that the two are called one after the other.
    loose = nn.ModuleDict({"a": nn.Linear(1, 1, bias=False), "big": square(20), "b": nn.Linear(1, 1, bias=False)})
    assert names(loose) == [["big"]]


def test_a_list_of_modules_is_no_unit_and_what_is_left_of_a_block_is_one():
    net = nn.Sequential(Branch(8, square(4), square(4)), square(10))
    assert names(net, most=0.2) == [["0.parts.0"], ["0.parts.1"], ["0"], ["1"]]
    units = auto_units(net, most=0.2)
    assert managed(units[2], units) == [net[0].own]
    assert managed([net], units) == []
    small = nn.Sequential(Branch(1, square(4), square(4)), square(10))  # the rest is below a hundredth
    assert names(small, most=0.2) == [["0.parts.0"], ["0.parts.1"], ["1"]]
    assert managed([small], auto_units(small, most=0.2)) == [small[0].own]


def test_blocks_that_read_their_parts_weights_stay_whole():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert names(nn.Sequential(layer, nn.Linear(8, 8))) == [["0"], ["1"]]
    assert names(nn.Sequential(nn.MultiheadAttention(8, 2), nn.Linear(8, 8))) == [["0"], ["1"]]


def test_tied_weights_stay_in_one_unit():
    embedding, output = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
    output.weight = embedding.weight
    net = nn.Sequential(embedding, square(8), output)
    assert names(net) == [["1"]]
    assert managed([net], auto_units(net)) == [embedding.weight]
    block = square(8)
    assert names(nn.Sequential(block, nn.Tanh(), square(8), nn.Sequential(block))) == [["2"]]


def test_bounds_are_checked():
    for least, most in ((0, 0.1), (0.2, 0.1), (0.1, 1.5)):
        with pytest.raises(InputError, match="share from least to most"):
            auto_units(nn.Linear(2, 2), least=least, most=most)


trees = st.recursive(
    st.integers(1, 12).map(square), lambda inner: st.lists(inner, min_size=1, max_size=5).map(lambda m: Branch(3, *m))
)


@given(trees, st.floats(0.001, 0.2), st.floats(0, 0.8))
def test_every_parameter_is_sharded_once_and_units_keep_the_lower_bound(net, least, above):
    units = auto_units(net, least=least, most=least + above)
    held = [id(parameter) for unit in [*units, [net]] for parameter in managed(unit, units)]
    assert sorted(held) == sorted(id(parameter) for parameter in net.parameters())
    whole = sum(parameter.numel() for parameter in net.parameters())
    for unit in units:
        assert sum(parameter.numel() for parameter in managed(unit, units)) >= least * whole


def tower() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(30)]
    return nn.Sequential(nn.Linear(4, 6), Branch(3, *layers[:10]), *layers[10:], nn.Linear(6, 3)).double()


def sharded_tower(reshard: bool) -> tuple[int, float]:
    x, y = torch.linspace(-1, 1, 32, dtype=torch.float64).view(8, 4), torch.arange(8) % 3
    rank = torch.distributed.get_rank()
    alone, net = tower(), tower()
    units = auto_units(net, least=0.05, most=0.1)
    for unit in units:
        fully_shard(unit, reshard_after_forward=reshard)
    fully_shard(net)
    reached = leaves(net)
    F.cross_entropy(alone(x), y).backward()
    F.cross_entropy(net(x[rank::2]), y[rank::2]).backward(inputs=reached)
    apart = [(own.grad.full_tensor() - its.grad).abs().max() for own, its in zip(net.parameters(), alone.parameters())]
    return len(units), max(apart).item()


def both_ways() -> list[tuple[int, float]]:
    return [sharded_tower(reshard) for reshard in (True, False)]


def test_gradients_of_a_net_sharded_by_its_units_are_those_of_one_process():
    for rank in run_ranks(both_ways, 2, timeout=120):
        for count, apart in rank:
            assert count >= 10
            assert apart < 1e-12
