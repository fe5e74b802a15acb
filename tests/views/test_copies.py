import pytest
import torch

from cotrain.errors import InputError
from cotrain.randomness import Draws
from cotrain.stream import Rows
from cotrain.views.copies import Augmented, Copies, always, chain, copies, jitter
from cotrain.views.random_pool import NUMBERS, RandomPool


def draws(count=4, seed=0):
    return Draws(torch.arange(count), seed)


def test_the_fields_of_copies():
    view = Copies(
        jitter(0.1), jitter(1.0), weak_copies=2, strong_copies=3, turn=lambda x, d: (x.flip(1), d.integer(0, 4))
    )
    made = view({"x": torch.zeros(4, 5)}, draws())
    assert list(made) == ["weak", "weak2", "strong", "strong2", "strong3", "turned", "turn"]
    torch.testing.assert_close(made["turned"], made["strong"].flip(1))
    assert not torch.equal(made["weak"], made["weak2"])
    assert [len(found) for found in (copies(made, "weak"), copies(made, "strong"))] == [2, 3]
    assert list(Copies(jitter(0.1))({"x": torch.zeros(4, 5)}, draws())) == ["weak"]


def test_labelled_rows_keep_their_labels():
    made = Augmented(always(lambda x: x + 1))({"x": torch.zeros(2, 3), "y": torch.tensor([0, 1])}, draws(2))
    assert made["x"].sum() == 6
    assert made["y"].tolist() == [0, 1]


def test_a_chain_goes_in_order():
    assert chain(always(lambda x: x + 1), always(lambda x: x * 10))(torch.ones(1), draws(1)) == 20


def test_an_example_s_noise_does_not_depend_on_its_batch():
    def copy_of(index, batch):
        stream = Rows(
            {"x": torch.arange(12.0)[:, None]}, batch, seed=3, view=lambda b, d: {**b, **Copies(jitter(1.0))(b, d)}
        )
        while True:
            made = next(stream)
            if (at := (made["x"][:, 0] == index).nonzero().flatten()).numel():
                return made["weak"][at[0]]

    for index in (0, 7):
        assert torch.equal(copy_of(index, 4), copy_of(index, 6))


def test_a_pool_applies_one_operation_to_each_example():
    operations = tuple(lambda x, numbers, k=k: torch.full_like(x, float(k)) for k in (1, 2, 3))
    made = RandomPool(operations)(torch.zeros(3000, 2), draws(3000))
    assert (made[:, 0] == made[:, 1]).all()
    counts = torch.bincount(made[:, 0].long())
    assert counts[0] == 0
    assert ((counts[1:] - 1000).abs() < 100).all()


def test_a_pool_s_probability_and_count():
    once = RandomPool((lambda x, numbers: x + 1,), probability=0.25)(torch.zeros(4000), draws(4000))
    assert once.mean().item() == pytest.approx(0.25, abs=0.03)
    thrice = RandomPool((lambda x, numbers: x + 1,), count=3)(torch.zeros(5), draws(5))
    assert (thrice == 3).all()


def test_operations_get_numbers_of_their_own_rows():
    seen = []

    def operation(x, numbers):
        seen.append((x.clone(), numbers.clone()))
        return x

    x = torch.arange(6.0)
    RandomPool((operation, operation))(x, draws(6))
    again = Draws(torch.arange(6), 0)
    again.integer(0, 2)
    numbers = again.uniform(NUMBERS)
    for rows, given in seen:
        assert torch.equal(given, numbers[rows.long()])
    assert sum(len(rows) for rows, _ in seen) == 6


def test_no_copies_is_an_error():
    with pytest.raises(InputError, match=r"'strong'.*'weak'"):
        copies({"weak": torch.zeros(1)}, "strong")
