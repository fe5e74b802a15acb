"""Lamb by hand, against torch's AdamW, in a learner and over ranks."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from ranks import run_ranks
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from cotrain.engine import prepare, update
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.optim.lamb import Lamb


def stepped(weights, gradients, **settings):
    """The weights after one step for each gradient."""
    parameter = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    optimizer = Lamb([parameter], **settings)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return parameter.detach()


def test_one_step_by_hand():
    # m = g and v = g^2 after the correction, so u = sign(g) + 0.1 w = (1.3, -0.6), |u| = sqrt(2.05), |w| = 5.
    found = stepped([3.0, 4.0], [[2.0, -7.0]], lr=0.1, eps=1e-15, weight_decay=0.1)
    ratio = 5 / 2.05**0.5
    torch.testing.assert_close(found, torch.tensor([3 - 0.1 * ratio * 1.3, 4 + 0.1 * ratio * 0.6], dtype=torch.float64))


def test_a_second_step_by_hand():
    # w = 8, g = 1 then 3, without decay: a step is 8 * lr long at first, then lr * |w| again, for any |u|.
    found = stepped([8.0], [[1.0], [3.0]], lr=0.25, weight_decay=0)
    torch.testing.assert_close(found, torch.tensor([8 * 0.75**2], dtype=torch.float64))


def test_without_bias_correction_by_hand():
    # m = 0.1 g, v = 0.001 g^2: u = 0.1 / sqrt(0.001), in the ratio it cancels, without it it shows.
    settings = {"lr": 0.01, "eps": 1e-15, "weight_decay": 0, "bias_correction": False}
    torch.testing.assert_close(stepped([2.0], [[5.0]], **settings), torch.tensor([1.98], dtype=torch.float64))
    plain = stepped([2.0], [[5.0]], adapt=False, **settings)
    torch.testing.assert_close(plain, torch.tensor([2 - 0.01 * 0.1 / 0.001**0.5], dtype=torch.float64))


def test_the_limits_of_the_norm():
    settings = {"lr": 0.1, "weight_decay": 0, "eps": 1e-15}
    torch.testing.assert_close(stepped([8.0], [[1.0]], limits=(0, 2), **settings).item(), 8 - 0.1 * 2)
    torch.testing.assert_close(stepped([0.5], [[1.0]], limits=(1, 2), **settings).item(), 0.5 - 0.1)
    assert torch.equal(stepped([1.5], [[1.0]], limits=(1, 2), **settings), stepped([1.5], [[1.0]], **settings))


@pytest.mark.parametrize("limits", [None, (0.5, 2.0)])
def test_zero_weights_and_zero_updates_have_the_ratio_1(limits):
    settings = {"lr": 0.1, "eps": 1e-15, "weight_decay": 0, "limits": limits}
    torch.testing.assert_close(stepped([0.0, 0.0], [[1.0, -1.0]], **settings).tolist(), [-0.1, 0.1])
    assert stepped([3.0, 4.0], [[0.0, 0.0]], **settings).tolist() == [3.0, 4.0]


def net(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, width), nn.LayerNorm(width), nn.Tanh(), nn.Linear(width, 3))


def train(net, optimizer, steps, start=0):
    rng = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 4, generator=rng), torch.randint(3, (64,), generator=rng)
    for number in range(start, start + steps):
        optimizer.zero_grad()
        rows = torch.arange(8 * number, 8 * number + 8) % 64
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_the_ratio_forced_to_1_it_is_adamw(decay):
    settings = {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": decay}
    one, two = net().double(), net().double()
    rng = torch.Generator().manual_seed(2)
    ours, theirs = Lamb(one.parameters(), adapt=False, **settings), torch.optim.AdamW(two.parameters(), **settings)
    for _ in range(300):
        x, y = torch.randn(8, 4, generator=rng).double(), torch.randint(3, (8,), generator=rng)
        for each, optimizer in ((one, ours), (two, theirs)):
            optimizer.zero_grad()
            F.cross_entropy(each(x), y).backward()
            optimizer.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    assert not torch.equal(one[0].weight, net().double()[0].weight)


@given(seed=st.integers(0, 1000), size=st.floats(1e-4, 1e4), lr=st.floats(1e-4, 0.5))
def test_every_tensor_moves_by_the_share_lr_of_its_norm(seed, size, lr):
    rng = torch.Generator().manual_seed(seed)
    before = [size * torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((3, 4), (5,), ())]
    parameters = [nn.Parameter(w.clone()) for w in before]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    Lamb(parameters, lr=lr).step()
    for parameter, w in zip(parameters, before, strict=True):
        torch.testing.assert_close((parameter.detach() - w).norm(), lr * w.norm())


def test_groups_have_settings_of_their_own():
    one, two = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([2.0]))
    optimizer = Lamb([{"params": [one]}, {"params": [two], "adapt": False, "weight_decay": 0.0}], lr=0.1, eps=1e-15)
    one.grad, two.grad = torch.tensor([1.0]), torch.tensor([1.0])
    optimizer.step()
    torch.testing.assert_close([one.item(), two.item()], [2 - 0.1 * 2, 2 - 0.1])


def test_a_parameter_without_gradient_stays_and_keeps_its_own_count():
    one, two = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([2.0]))
    optimizer = Lamb([one, two], lr=0.1)
    for number in range(3):
        one.grad, two.grad = torch.tensor([1.0]), torch.tensor([1.0]) if number == 2 else None
        optimizer.step()
    assert [optimizer.state[p]["step"].item() for p in (one, two)] == [3, 1]
    assert two.item() == pytest.approx(2 - 0.1 * 2)


def test_half_precision_and_full_in_one_group():
    one, two = nn.Parameter(torch.tensor([2.0]).bfloat16()), nn.Parameter(torch.tensor([2.0]))
    for parameter in (one, two):
        parameter.grad = torch.ones_like(parameter)
    Lamb([one, two], lr=0.5).step()
    assert (one.dtype, one.item(), two.item()) == (torch.bfloat16, 1.0, 1.0)


def test_a_closure_is_called_with_gradients():
    parameter = nn.Parameter(torch.tensor([2.0]))
    optimizer = Lamb([parameter], lr=0.1)

    def loss():
        optimizer.zero_grad()
        value = parameter.square().sum()
        value.backward()
        return value

    assert optimizer.step(loss).item() == 4.0
    assert parameter.item() == pytest.approx(1.8)


def test_its_state_goes_through_a_state_dict():
    straight = net()
    whole = train(straight, Lamb(straight.parameters(), lr=0.01), 12)
    first = net()
    optimizer = Lamb(first.parameters(), lr=0.01)
    train(first, optimizer, 5)
    second = net(seed=5)
    second.load_state_dict(first.state_dict())
    resumed = Lamb(second.parameters(), lr=0.01)
    resumed.load_state_dict(optimizer.state_dict())
    for a, b in zip(whole, train(second, resumed, 7, start=5), strict=True):
        assert torch.equal(a, b)


def test_a_learner_steps_with_it_saves_and_loads():
    def learner():
        made = Learner(net(), partial(Lamb, lr=0.01, limits=(0.0, 10.0)), schedule=lambda t: 1 / (t + 1))
        prepare({"model": made})
        return made

    def go(model, steps):
        for _ in range(steps):
            update({"model": model}, {"model": model(torch.ones(2, 4)).square().mean()})

    straight, first, second = learner(), learner(), learner()
    go(straight, 6)
    go(first, 3)
    second.load(first.state())
    go(second, 3)
    for a, b in zip(straight.parameters, second.parameters, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": -1.0},
        {"eps": 0.0},
        {"betas": (0.9, 1.0)},
        {"weight_decay": -0.1},
        {"limits": (2.0, 1.0)},
        {"lr": float("nan")},
    ],
)
def test_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(InputError, match=f"Lamb's {name}"):
        Lamb([nn.Parameter(torch.ones(1))], **settings)
    with pytest.raises(InputError, match=f"Lamb's {name}"):
        Lamb([{"params": [nn.Parameter(torch.ones(1))], **settings}])


def test_a_rate_of_zero_moves_nothing():
    assert stepped([2.0], [[1.0]], lr=0.0).tolist() == [2.0]


def test_sparse_gradients_are_refused():
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="sparse"):
        Lamb(table.parameters()).step()


def sharded(mesh_shape):
    """Weights after some steps, sharded over ranks, and the number of collectives in the optimizer's step."""
    from torch.distributed.tensor.debug import CommDebugMode

    names = ("copies", "shards")[-len(mesh_shape) :]
    model = net(width=5).double()  # 5 and 3 rows: shards of unequal size
    fully_shard(model, mesh=init_device_mesh("cpu", mesh_shape, mesh_dim_names=names))
    optimizer = Lamb(model.parameters(), lr=0.02)
    rng = torch.Generator().manual_seed(1)
    for _ in range(5):
        x = torch.randn(8, 4, generator=rng).double()
        optimizer.zero_grad()
        model(x).square().mean().backward()
        with CommDebugMode() as collectives:
            optimizer.step()
    return [p.full_tensor().detach().numpy() for p in model.parameters()], collectives.get_total_counts()


@pytest.mark.parametrize("mesh_shape", [(2,), pytest.param((2, 2), marks=pytest.mark.slow)])
def test_norms_of_sharded_parameters_are_those_of_the_whole(mesh_shape):
    expected = net(width=5).double()
    optimizer = Lamb(expected.parameters(), lr=0.02)
    rng = torch.Generator().manual_seed(1)
    for _ in range(5):
        x = torch.randn(8, 4, generator=rng).double()
        optimizer.zero_grad()
        expected(x).square().mean().backward()
        optimizer.step()
    ranks = 2 ** len(mesh_shape)
    for found, collectives in run_ranks(sharded, ranks, mesh_shape, timeout=120):
        assert collectives == 1
        for a, b in zip(found, expected.parameters(), strict=True):
            torch.testing.assert_close(torch.from_numpy(a), b.detach(), rtol=1e-12, atol=1e-12)
