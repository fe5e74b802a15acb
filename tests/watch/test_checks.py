"""What a rank measures of its machine: that it is there, and in the unit that it says."""

import json
import time

import pytest
import torch
import torch.distributed as dist

from cotrain.watch import checks
from cotrain.watch.checks import MIB, all_reduce, disk, memory, rank_facts, versions


@pytest.fixture
def alone():
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_disk_writes_and_reads_what_it_says_and_leaves_nothing(tmp_path, monkeypatch):
    clock = iter([0.0, 0.1, 0.5, 10.0, 10.25])  # start, one look, end of writing; start and end of reading
    monkeypatch.setattr(checks, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: next(clock))}))
    found = disk(tmp_path, size=2 * 4 * MIB, seconds=1.0)
    assert found["disk_write_bytes"] == 8 * MIB / 0.5
    assert found["disk_read_bytes"] == 8 * MIB / 0.25
    assert found["disk_free_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_given_up_in_time(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(checks, "time", type("Clock", (), {"perf_counter": staticmethod(lambda: next(clock))}))
    assert disk(tmp_path, size=100 * MIB, seconds=1.0)["disk_write_bytes"] == 4 * MIB / 6


def test_a_folder_that_cannot_be_written_to_says_why(tmp_path):
    missing = tmp_path / "missing"
    assert disk(missing) == {"disk_error": f"No such file or directory ({missing})"}


def test_memory_is_what_the_system_says():
    found = memory()
    if found:  # on Linux
        assert 0 < found["memory_free_bytes"] <= found["memory_bytes"]
        assert found["memory_bytes"] > 100 * MIB


def test_versions():
    assert versions()["torch"] == torch.__version__
    assert list(versions()) == ["cotrain", "python", "torch", "numpy"]


def test_alone_an_all_reduce_sends_nothing(alone):
    found = all_reduce(torch.device("cpu"), seconds=0.01)
    assert found["all_reduce_bytes"] == 0
    assert found["all_reduce_latency_s"] > 0


def test_all_facts_are_plain(alone, tmp_path):
    start = time.monotonic()
    facts = rank_facts(tmp_path, seconds=0.01)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["rank"] == 0
    assert facts["products_flops"] > 1e6
    assert 0 < facts["between_barriers_s"] <= time.monotonic() - start
