"""Batches made ahead are the batches, in their order, and a run resumes as if none had been."""

import os
import signal
import time
from functools import partial

import pytest
import torch

from cotrain.engine import fit
from cotrain.errors import CotrainError, InputError
from cotrain.learner import Learner
from cotrain.methods.examples import labelled_rows, two_layer, weak_and_strong
from cotrain.methods.semi.supervised import Supervised
from cotrain.prefetch import Prefetched
from cotrain.stream import Rows

SOME_WORKERS = [0, pytest.param(2, marks=pytest.mark.slow)]  # for tests that start them several times


def rows(view=weak_and_strong):
    return Rows({"x": torch.arange(46.0).view(23, 2)}, batch=5, seed=3, view=view)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def take(stream, count):
    return [next(stream) for _ in range(count)]


def broken_view(batch, draws):
    if (batch["x"] == 0).any():
        raise ValueError("row 0 is broken")
    return batch


def moody_view(batch, draws, told):
    """Breaks once, on row 16."""
    if (batch["x"] == 16).any() and not told.exists():
        told.touch()
        raise OSError("the disk was asleep")
    return batch


def deadly_view(batch, draws):
    os._exit(7)


@pytest.mark.parametrize(("ahead", "workers"), [(1, 0), (4, 0), (5, 2)])
def test_the_same_batches_in_the_same_order(ahead, workers):
    plain, made = rows(), Prefetched(rows(), ahead, workers)
    try:
        for _ in range(12):
            assert same(next(plain), next(made))
            assert made.state() == plain.state()
    finally:
        made.close()


@pytest.mark.parametrize("workers", SOME_WORKERS)
def test_resumes_at_what_was_taken_not_at_what_was_made(workers):
    plain, made = rows(), Prefetched(rows(), 4, workers)
    for _ in range(3):
        next(plain), next(made)
    state = made.state()
    wanted = [next(plain) for _ in range(3)]
    again = Prefetched(rows(), 4, workers)
    again.load(state)
    assert all(same(next(again), batch) for batch in wanted)
    made.load(state)  # and so does the one that had gone on
    assert all(same(next(made), batch) for batch in wanted)
    made.close()
    again.close()


def test_split_over_ranks():
    whole, made = Rows({"i": torch.arange(8)}, batch=4), Prefetched(Rows({"i": torch.arange(8)}, batch=4))
    made.split(1, 2)
    assert torch.equal(next(made)["i"], next(whole)["i"][2:])
    made.close()


def test_batches_are_made_while_others_are_used():
    made = Prefetched(rows(), ahead=3)
    next(made)
    deadline = time.monotonic() + 30
    while made.stream.position < 4 * 5 and time.monotonic() < deadline:  # nobody asks for them
        time.sleep(0.01)
    assert made.stream.position >= 4 * 5
    made.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_in_the_view_is_raised_where_the_batch_is_taken(workers):
    made = Prefetched(rows(broken_view), 2, workers)
    with pytest.raises((ValueError, CotrainError), match="row 0 is broken"):
        take(made, 6)
    made.close()


@pytest.mark.parametrize("workers", SOME_WORKERS)
def test_a_batch_that_could_not_be_made_is_tried_again(workers, tmp_path):
    view = partial(moody_view, told=tmp_path / "told")
    made = Prefetched(Rows({"x": torch.arange(64)}, batch=8, shuffle=False, view=view), 6, workers)
    first = take(made, 2)
    with pytest.raises((OSError, CotrainError), match="the disk was asleep"):
        next(made)
    assert made.state()["position"] == 16
    assert torch.equal(torch.cat([batch["x"] for batch in first + take(made, 6)]), torch.arange(64))
    assert made.state()["position"] == 64
    made.close()


def test_a_process_that_dies_is_an_error_and_no_hang():
    made = Prefetched(rows(deadly_view), 2, 1)
    with pytest.raises(CotrainError, match="has died with exit code 7"):
        next(made)
    made.close()


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="there are no groups of processes")
def test_who_tells_the_run_to_stop_does_not_stop_its_workers():
    made = Prefetched(rows(view=None), workers=1)
    try:
        next(made)
        (worker,) = made._makers._processes
        assert os.getpgid(worker.pid) == worker.pid
        os.kill(worker.pid, signal.SIGUSR1)
        take(made, 4)  # more than were asked for before
        assert worker.is_alive()
        made._makers._pipes[0].close()  # as `close` does, which waits a second only
        worker.join(30)
    finally:
        made.close()
    assert worker.exitcode == 0


def test_refused_by_name():
    with pytest.raises(InputError, match="ahead is at least 1"):
        Prefetched(rows(), 0)

    class Endless:
        def state(self):
            return {}

    with pytest.raises(InputError, match="which Endless cannot: it has no position"):
        Prefetched(Endless(), workers=2)
    asking = Endless()
    asking.actor = Learner(two_layer())
    with pytest.raises(InputError, match="Endless plays with learners as they are now"):
        Prefetched(asking)


def test_training_on_it_is_training_on_the_stream():
    def train(stream):
        learner = Learner(two_layer(), lambda p: torch.optim.SGD(p, lr=0.1))
        fit(Supervised(), {"model": learner}, {"labelled": stream}, 10, device="cpu")
        return learner.net.state_dict()

    made = Prefetched(labelled_rows(), 3)
    assert same(train(labelled_rows()), train(made))
    made.close()
