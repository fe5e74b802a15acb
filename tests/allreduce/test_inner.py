"""Sums inside a node through shared memory, each rank a thread that maps the memory for itself."""

import glob
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.allreduce import inner as module
from cotrain.allreduce.inner import AloneInner, SharedInner
from cotrain.allreduce.links import PeerLost
from cotrain.errors import InputError


def together(size, function, timeout=20.0, sees=lambda index, values: values, **settings):
    """function(index, inner) on each of `size` ranks of one node."""
    barrier, given = threading.Barrier(size), {}

    def rank(index):
        def exchange(value):
            given[index] = value
            barrier.wait()
            values = dict(given)
            barrier.wait()
            return sees(index, values)

        options = {"chunk": 64, "slots": 2, **settings}
        made = SharedInner(
            list(range(size)), index, "west", timeout=timedelta(seconds=timeout), exchange=exchange, **options
        )
        return function(index, made)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))


def reduce(values, chunk=64, slots=2):
    """values [ranks, length] summed over the ranks by chunks."""

    def rank(index, made):
        out = values[index].clone()
        for number, piece in enumerate(out.split(chunk // module.summed_as(values.dtype).itemsize)):
            made.spread(number, piece, made.gather(number, piece))
        return out

    return torch.stack(together(len(values), rank, chunk=chunk, slots=slots))


@settings(max_examples=25)
@given(
    size=st.integers(1, 5),
    length=st.integers(1, 200),
    chunk=st.sampled_from([64, 128, 320]),
    slots=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_integers_sum_exactly_in_chunks_that_do_not_divide_the_buffer(size, length, chunk, slots, dtype):
    values = torch.randint(-8, 8, (size, length), generator=torch.Generator().manual_seed(length)).to(dtype)
    assert torch.equal(reduce(values, chunk, slots), values.sum(0).expand_as(values))


def test_half_precision_is_summed_in_fp32():
    # 256 + 1 is 256 in bfloat16; 256 + 1 + 1 is 258.
    values = torch.tensor([[256.0], [1.0], [1.0]]).bfloat16()
    assert reduce(values).flatten().tolist() == [258.0] * 3


def test_nan_goes_through():
    values = torch.zeros(3, 40)
    values[1, 20] = float("nan")
    assert reduce(values).isnan().sum(1).tolist() == [1, 1, 1]


def test_nothing_is_left_behind():
    before = set(glob.glob("/dev/shm/cotrain-allreduce-*"))
    reduce(torch.ones(2, 5))
    assert set(glob.glob("/dev/shm/cotrain-allreduce-*")) <= before


def test_a_rank_that_does_not_come_is_named():
    def rank(index, made):
        if index == 1:
            return None
        with pytest.raises(PeerLost, match=r"Node 'west': rank 1 did not come within 0.3 s"):
            made.gather(0, torch.ones(4))

    together(3, rank, timeout=0.3)


def test_a_rank_that_gave_up_is_not_waited_for():
    def rank(index, made):
        if index == 1:
            made.give_up()
            return None
        with pytest.raises(PeerLost, match="rank 1 gave up"):
            made.gather(0, torch.ones(4))

    together(2, rank, timeout=1000)


def test_another_order_on_another_rank_is_noticed():
    def rank(index, made):
        with pytest.raises(InputError, match=r"\[4, 5\] elements"):
            made.gather(0, torch.ones(4 + index))

    together(2, rank)


def test_ranks_on_another_machine_under_the_same_name():
    def elsewhere(index, values):
        """What the first rank's file is to the second one."""
        return {0: ("/nowhere/cotrain-allreduce", None)} if index == 1 and isinstance(values[0], tuple) else values

    with pytest.raises(InputError, match=r"Ranks \[1\] do not see .* COTRAIN_NODE"):
        together(2, lambda index, made: None, sees=elsewhere)


def test_no_room_is_said_and_not_crashed_into(monkeypatch, tmp_path):
    def full(*args, **kwargs):
        number = os.open("/dev/full", os.O_WRONLY)
        (tmp_path / "file").touch()
        return number, str(tmp_path / "file")

    monkeypatch.setattr(module.tempfile, "mkstemp", full)
    with pytest.raises(InputError, match="MiB of shared memory"):
        together(2, lambda index, made: None, chunk=1 << 20)


def test_alone_it_is_the_chunk_itself_but_in_fp32():
    chunk = torch.ones(3)
    assert AloneInner().gather(0, chunk) is chunk
    half = torch.ones(3, dtype=torch.bfloat16)
    part = AloneInner().gather(0, half)
    assert part.dtype == torch.float32
    AloneInner().spread(0, half, part * 2)
    assert half.tolist() == [2.0, 2.0, 2.0]


def test_who_came_and_then_gave_up_is_not_waited_for(monkeypatch):
    """It comes and gives up between two looks: what it brought is judged, and the error is the one that it met."""

    def rank(_, made):
        counter, times = np.zeros(1, dtype=int), iter([0.0, 1.0])

        def monotonic():
            now = next(times)
            if now:
                counter[0], made.lost[0] = 1, 1
            return now

        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic, sleep=lambda _: None))
        made._wait_for(counter, 1)
        return next(times, "both looks")

    assert together(1, rank) == ["both looks"]
