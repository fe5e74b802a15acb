import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.errors import InputError
from cotrain.losses.mixing import interleaved, mix, mixup, mixup_across, mixup_weight


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mix_by_hand():
    one, two = torch.tensor([[1.0, 3.0], [4.0, 0.0]]), torch.tensor([[5.0, -1.0], [0.0, 8.0]])
    mixed = mix(one, two, torch.tensor([0.75, 0.5]))
    torch.testing.assert_close(mixed, torch.tensor([[2.0, 2.0], [2.0, 4.0]]))


@settings(max_examples=30)
@given(alpha=st.floats(0.001, 20), seed=st.integers(0, 2**31))
def test_the_dominant_weight_is_at_least_a_half(alpha, seed):
    weight = mixup_weight(64, alpha, rng(seed))
    assert ((weight >= 0.5) & (weight <= 1)).all()


def test_weights_follow_the_beta_distribution():
    weight = mixup_weight(200_000, 0.75, rng(), dominant=False)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)) = 0.1
    assert weight.mean().item() == pytest.approx(0.5, abs=0.005)
    assert weight.var().item() == pytest.approx(0.1, abs=0.002)


def test_alpha_towards_0_mixes_nothing():
    x, y = torch.randn(32, 5), torch.eye(32)
    for alpha in (0.0, 1e-6):
        mixed_x, mixed_y = mixup(alpha, rng(), x, y)
        torch.testing.assert_close(mixed_x, x, atol=1e-6, rtol=0)
        torch.testing.assert_close(mixed_y, y, atol=1e-6, rtol=0)


def test_all_fields_are_mixed_alike():
    x = torch.randn(16, 3, 2)
    mixed, share = mixup(0.75, rng(), x, torch.eye(16))
    torch.testing.assert_close(mixed, torch.einsum("ij,jkl->ikl", share, x))
    torch.testing.assert_close(share.sum(1), torch.ones(16))


def test_the_same_generator_gives_the_same_mixture():
    x = torch.randn(8, 2)
    assert torch.equal(mixup(0.75, rng(3), x)[0], mixup(0.75, rng(3), x)[0])
    assert not torch.equal(mixup(0.75, rng(3), x)[0], mixup(0.75, rng(4), x)[0])


def test_across_meets_the_other_batch_in_turn():
    ones, twos = torch.zeros(2, 1), torch.tensor([[1.0], [2.0], [3.0]])
    (mixed_ones,), (mixed_twos,) = mixup_across(0.75, rng(), [ones], [twos])
    weight = mixup_weight(5, 0.75, rng())
    torch.testing.assert_close(mixed_ones[:, 0], (1 - weight[:2]) * torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(mixed_twos[:, 0], weight[2:] * torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(("rows", "batches"), [(6, 3), (7, 3), (2, 5), (1, 1), (0, 3)])
def test_interleaved_rows_come_back_in_their_order(rows, batches):
    seen = []

    def model(x):
        seen.append(x[:, 0].tolist())
        return 10 * x

    x = torch.arange(rows, dtype=torch.float32)[:, None]
    torch.testing.assert_close(interleaved(model, x, batches), 10 * x)
    assert sorted(row for call in seen for row in call) == x[:, 0].tolist()


def test_every_interleaved_call_sees_both_kinds_of_rows():
    calls = []
    kinds = torch.tensor([0.0] * 4 + [1.0] * 8)[:, None]  # 4 labelled, 8 unlabelled
    interleaved(lambda x: calls.append(x.mean().item()) or x, kinds, 3)
    np.testing.assert_allclose(calls, [0.5, 0.75, 0.75], atol=0.01)


def test_whole_numbers_are_refused():
    with pytest.raises(InputError, match="embedded"):
        mix(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64), torch.ones(2))


def test_a_negative_alpha_is_refused():
    with pytest.raises(InputError, match="alpha"):
        mixup_weight(3, -1.0, rng())
