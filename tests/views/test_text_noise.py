import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.randomness import Draws
from cotrain.views.text_noise import cut_words, drop_words, reorder, replace_words, shuffle_words, swap_words

NOISES = {
    "drop": drop_words(0.3),
    "replace": replace_words(0.3, vocabulary=50),
    "shuffle": shuffle_words(3.0),
    "swap": swap_words(2),
    "cut": cut_words(0.5),
}


def draws(count, seed=0):
    return Draws(torch.arange(count), seed)


def texts(lengths, width=12):
    ids = torch.zeros(len(lengths), width, dtype=torch.int64)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.arange(1, length + 1)
    return ids


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
    name=st.sampled_from(sorted(NOISES)),
)
def test_every_noise_keeps_texts_well_formed(lengths, seed, name):
    ids = texts(lengths)
    made = NOISES[name](ids, draws(len(lengths), seed))
    assert made.shape == ids.shape
    assert made.dtype == torch.int64
    for row, length in zip(made, lengths, strict=True):
        words = int((row > 0).sum())
        assert (row[:words] > 0).all()  # words from the left, then 0s
        assert words <= length
        assert (words > 0) == (length > 0)  # no text loses its last word
        if name in ("shuffle", "swap"):
            assert sorted(row.tolist()) == sorted(
                ids[0].new_tensor([*range(1, length + 1), *[0] * (12 - length)]).tolist()
            )
        if name in ("drop", "cut"):
            kept = row[:words].tolist()
            assert kept == sorted(kept)  # the order stays
    torch.testing.assert_close(ids, texts(lengths))  # nothing is changed in place


def test_no_noise_changes_nothing():
    ids = texts([5, 12, 1])
    for noise in (drop_words(0.0), replace_words(0.0, 50), shuffle_words(1.0), swap_words(0), cut_words(0.0)):
        assert torch.equal(noise(ids, draws(3)), ids)


def test_rates():
    ids = texts([12] * 2000)
    assert (drop_words(0.25)(ids, draws(2000)) > 0).float().mean().item() == pytest.approx(0.75, abs=0.01)
    replaced = replace_words(0.25, vocabulary=10_000, first=100)(ids, draws(2000))
    assert (replaced != ids).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert replaced[replaced != ids].min() >= 100


def test_shuffled_words_stay_near():
    ids = texts([12] * 500)
    made = shuffle_words(3.0)(ids, draws(500))
    assert (made - ids).abs().max() == 2  # less than the distance
    assert not torch.equal(made, ids)


def test_cut_is_one_run():
    made = cut_words(0.5)(texts([12] * 200), draws(200))
    for row in made:
        gaps = row[row > 0].diff()
        assert (gaps > 1).sum() <= 1
        assert (row > 0).sum() >= 6


def test_reorder_by_hand():
    ids = texts([5] * 64, width=7)
    made, turn = reorder(ids, draws(64))
    expected = {0: [1, 2, 3, 4, 5], 1: [5, 4, 3, 2, 1], 2: [3, 4, 5, 1, 2], 3: [2, 1, 5, 4, 3]}
    assert set(turn.tolist()) == set(expected)
    for row, how in zip(made, turn.tolist(), strict=True):
        assert row.tolist() == [*expected[how], 0, 0]
