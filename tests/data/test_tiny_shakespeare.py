import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain.data.tiny_shakespeare import CHARACTERS, decode, encode, load, windows
from cotrain.errors import InputError
from cotrain.stream import Once, Rows


def test_ids_by_hand():
    assert encode("az \n").tolist() == [39, 64, 1, 0]
    assert encode("").shape == (0,)


@given(st.text(alphabet=CHARACTERS))
def test_texts_come_back(text):
    assert decode(encode(text)) == text


def test_a_strange_character_is_named():
    with pytest.raises(InputError, match="'#é'"):
        encode("what # is é")


def test_windows_by_hand():
    ids = torch.arange(7)
    assert windows(ids, 3).tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]
    assert windows(ids, 3, stride=3).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]
    assert windows(ids, 3).data_ptr() == ids.data_ptr()


def test_with_a_stride_of_the_length_every_id_but_the_first_is_predicted_once():
    targets = torch.cat([batch["ids"][:, 1:].flatten() for batch in Once({"ids": windows(torch.arange(31), 5, 5)}, 4)])
    assert targets.tolist() == list(range(1, 31))


@pytest.mark.parametrize(("length", "stride"), [(7, 1), (0, 1), (3, 0)])
def test_windows_that_cannot_be(length, stride):
    with pytest.raises(InputError):
        windows(torch.arange(7), length, stride)


def test_a_stream_of_windows_resumes():
    def stream(seed=3):
        return Rows({"ids": windows(torch.arange(50), 4)}, batch=8, seed=seed)

    straight = stream()
    expected = [next(straight)["ids"] for _ in range(15)]  # into the third epoch of 46 windows
    first, second = stream(), stream()
    for batch in expected[:6]:
        assert torch.equal(next(first)["ids"], batch)
    second.load(first.state())
    for batch in expected[6:]:
        assert torch.equal(next(second)["ids"], batch)
    assert sorted(torch.cat(expected)[:46, 0].tolist()) == list(range(46))
    assert not torch.equal(next(stream(seed=4))["ids"], expected[0])


def test_another_part_is_refused():
    with pytest.raises(InputError, match="'train' and 'validation', not 'test'"):
        load("test")


@pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")
@pytest.mark.data
def test_the_real_text():
    train, validation = load(), load("validation")
    assert (len(train), len(validation), train.dtype) == (1003854, 111540, torch.int64)
    assert decode(train[:14]) == "First Citizen:"
    assert decode(validation[:12]) == "?\n\nGREMIO:\nG"
    assert set(train.tolist()) == set(range(65))
