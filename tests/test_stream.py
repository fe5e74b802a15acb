"""Streams: orders by address, batches across epochs, exact resume."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.errors import InputError
from cotrain.stream import Once, Rows


def rows(count=10, batch=4, **options):
    return Rows({"x": torch.arange(count), "y": torch.arange(count) * 10}, batch=batch, **options)


def test_an_epoch_gives_every_row_once():
    stream = rows(count=12, batch=4)
    for _ in range(3):
        assert sorted(torch.cat([next(stream)["x"] for _ in range(3)]).tolist()) == list(range(12))


def test_epochs_have_different_orders():
    stream = rows(count=32, batch=32)
    assert not torch.equal(next(stream)["x"], next(stream)["x"])


def test_fields_stay_together():
    batch = next(rows())
    assert torch.equal(batch["y"], batch["x"] * 10)


def test_a_batch_reaches_into_the_next_epoch():
    stream = rows(count=5, batch=3, shuffle=False)
    assert [next(stream)["x"].tolist() for _ in range(4)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3], [4, 0, 1]]


def test_rows_fewer_than_the_batch_repeat_within_it():
    stream = rows(count=2, batch=5, shuffle=False)
    assert next(stream)["x"].tolist() == [0, 1, 0, 1, 0]
    assert next(stream)["x"].tolist() == [1, 0, 1, 0, 1]


def test_the_order_does_not_depend_on_the_batch_size():
    small, large = rows(count=12, batch=3), rows(count=12, batch=6)
    assert torch.equal(torch.cat([next(small)["x"] for _ in range(8)]), torch.cat([next(large)["x"] for _ in range(4)]))


def test_names_and_seeds_give_other_orders_and_global_draws_none():
    first = next(rows(count=50, batch=50))["x"]
    torch.rand(3)
    assert torch.equal(next(rows(count=50, batch=50))["x"], first)
    assert not torch.equal(next(rows(count=50, batch=50, name="other"))["x"], first)
    assert not torch.equal(next(rows(count=50, batch=50, seed=1))["x"], first)


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 6), st.booleans())
def test_resume_is_exact(count, batch, done, shuffle):
    def noisy(fields, draws):
        return {**fields, "noise": draws.normal(2)}

    straight = rows(count, batch, view=noisy, shuffle=shuffle)
    for _ in range(done):
        next(straight)
    resumed = rows(count, batch, view=noisy, shuffle=shuffle)
    resumed.load(straight.state())
    for _ in range(5):
        one, two = next(straight), next(resumed)
        assert all(torch.equal(one[field], two[field]) for field in one)


def test_the_view_sees_each_row_with_its_own_noise():
    def view(fields, draws):
        return {"x": fields["x"], "noise": draws.uniform()}

    seen = {}
    for batch_size in (2, 6):
        stream = rows(count=6, batch=batch_size, view=view)
        for _ in range(6 // batch_size):
            batch = next(stream)
            for x, noise in zip(batch["x"].tolist(), batch["noise"].tolist(), strict=True):
                seen.setdefault(x, set()).add(noise)
    assert all(len(values) == 1 for values in seen.values()), "the noise of a row depends on the batch it stands in"
    assert len(set.union(*seen.values())) == 6


def test_the_noise_of_a_row_changes_with_the_epoch():
    stream = rows(count=3, batch=3, shuffle=False, view=lambda fields, draws: {"noise": draws.uniform()})
    assert not (next(stream)["noise"] == next(stream)["noise"]).any()


def test_once_gives_all_rows_in_order_each_time():
    once = Once({"x": torch.arange(7)}, batch=3)
    for _ in range(2):
        assert [batch["x"].tolist() for batch in once] == [[0, 1, 2], [3, 4, 5], [6]]


def test_bad_input_is_refused_by_name():
    with pytest.raises(InputError, match="'y': 2"):
        Rows({"x": torch.zeros(3), "y": torch.zeros(2)}, batch=2)
    with pytest.raises(InputError, match="no fields"):
        Rows({}, batch=2)
    with pytest.raises(InputError, match="at least one row; x have none"):
        Rows({"x": torch.zeros(0)}, batch=2)
    with pytest.raises(InputError, match="not 0"):
        Rows({"x": torch.zeros(3)}, batch=0)
    with pytest.raises(InputError, match="do not divide"):
        rows(batch=5).split(0, 2)


def test_another_streams_state_is_refused():
    stream = rows(count=10, seed=1)
    with pytest.raises(InputError, match="rows=9, now 10, seed=0, now 1"):
        stream.load(rows(count=9).state())
    with pytest.raises(InputError, match="shuffle=True, now False"):
        rows(shuffle=False).load(rows().state())
    with pytest.raises(InputError, match="name"):
        rows(name="a").load(rows(name="b").state())


def test_a_state_from_before_shuffle_was_saved_is_taken():
    stream = rows(count=10, batch=4, shuffle=False)
    stream.load({"position": 8, "rows": 10, "seed": 0, "name": "rows"})
    assert next(stream)["x"].tolist() == [8, 9, 0, 1]
