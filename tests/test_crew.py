"""The helper that runs ranks: results in order, failures shown, nothing left running."""

import os
import re
import signal
import time

import pytest
import torch
import torch.distributed as dist
from ranks import RanksFailed, run_ranks


def add_up(own):
    total = own + dist.get_rank()
    dist.all_reduce(total)
    return {
        "rank": dist.get_rank(),
        "total": total,
        "threads": (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]),
    }


def fail_on(rank, how):
    if dist.get_rank() == rank:
        if how == "raise":
            raise ValueError("this one")
        os.kill(os.getpid(), how)
    dist.barrier()


def sleep_on(rank):
    if dist.get_rank() == rank:
        time.sleep(60)


def variable(name):
    return os.environ.get(name)


def world_of_the_environment():
    before = dist.is_initialized()
    dist.init_process_group("gloo")
    return before, dist.get_rank(), int(os.environ["RANK"]), dist.get_world_size()


def test_results_come_in_the_ranks_order():
    results = run_ranks(add_up, 3, torch.ones(2))
    assert [result["rank"] for result in results] == [0, 1, 2]
    for result in results:
        assert torch.equal(result["total"], torch.full((2,), 6.0))
        assert result["threads"] == (1, "1")


def test_a_function_that_joins_by_the_environment():
    assert run_ranks(world_of_the_environment, 2, joined=False) == [(False, 0, 0, 2), (False, 1, 1, 2)]


def test_ranks_have_the_environment_of_their_time(monkeypatch):
    for value in ("one", "two", None):
        if value is None:
            monkeypatch.delenv("OF_NOW")
        else:
            monkeypatch.setenv("OF_NOW", value)
        assert run_ranks(variable, 2, "OF_NOW", joined=False) == [value] * 2


def test_a_failure_shows_its_traceback():
    with pytest.raises(RanksFailed, match=r"(?s)Rank 1 failed:.*in fail_on.*ValueError: this one"):
        run_ranks(fail_on, 2, 1, "raise")


def test_a_death_ends_all():
    with pytest.raises(RanksFailed, match="Rank 0 died with exit code -9"):
        run_ranks(fail_on, 2, 0, signal.SIGKILL)


def test_a_crash_shows_where_it_was(capfd):
    with pytest.raises(RanksFailed, match=r"Rank 1 died with exit code -11. Standard error says where\."):
        run_ranks(fail_on, 2, 1, signal.SIGSEGV)
    assert re.search(r"(?s)Segmentation fault.*in fail_on", capfd.readouterr().err)


def test_a_rank_that_takes_too_long():
    start = time.monotonic()
    with pytest.raises(RanksFailed, match=r"No result in time from rank .*1"):
        run_ranks(sleep_on, 2, 1, timeout=6)
    assert time.monotonic() - start < 50  # the sleeper was ended, not waited for
