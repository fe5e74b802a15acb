"""The comparison of ranks by hand, and the command as it is typed."""

import contextlib
import io
import json
import shutil

import pytest
from ranks import run_ranks

from cotrain import doctor
from cotrain.cli import main
from cotrain.errors import CotrainError

VERSIONS = {"cotrain": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"}


def ranks(count, changed=None):
    """Ranks that are all alike, but for what is changed in one."""
    made = [
        {
            "rank": rank,
            "host": f"host{rank}",
            "device": "cpu, 1 thread",
            "products_flops": 1e9 * (1 + 0.001 * rank),
            "all_reduce_latency_s": 1e-4,
            "all_reduce_bytes": 1e9,
            "disk_write_bytes": 1e8,
            "disk_read_bytes": 1e9,
            "disk_free_bytes": 50 << 30,
            "memory_bytes": 16 << 30,
            "memory_free_bytes": 8 << 30,
            "between_barriers_s": 4.0,
            "wall_moved_s": 0.0001,
            "versions": VERSIONS,
        }
        for rank in range(count)
    ]
    for rank, values in (changed or {}).items():
        made[rank] |= values
    return made


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_ranks_that_are_alike_give_no_finding(count):
    assert doctor.findings(ranks(count)) == []


@pytest.mark.parametrize(
    ("count", "rank", "values", "said"),
    [
        (4, 2, {"products_flops": 5e8}, "Rank 2 (host2) multiplies matrices 2.0 times slower than the median rank."),
        (2, 1, {"products_flops": 5e8}, "Rank 1 (host1) multiplies matrices 2.0 times slower than the other."),
        (
            3,
            0,
            {"disk_write_bytes": 1e7},
            "Rank 0 (host0) writes to the folder 10.0 times slower than the median rank.",
        ),
        (
            3,
            0,
            {"disk_read_bytes": 1e8},
            "Rank 0 (host0) reads from the folder 10.0 times slower than the median rank.",
        ),
        (3, 1, {"disk_free_bytes": 1000}, "Rank 1 (host1) has less than 1 GiB free on the disk of the folder."),
        (3, 1, {"memory_free_bytes": 1000}, "Rank 1 (host1) has less than 1 GiB of memory free."),
        (3, 2, {"disk_error": "Read-only (/x)"}, "Rank 2 (host2) cannot write to the folder: Read-only (/x)."),
        (
            2,
            1,
            {"wall_moved_s": -1.5},
            "Rank 1 (host1) has a wall clock that went -1.50 s against its monotonic clock in 4 s: it is being set.",
        ),
        (
            3,
            1,
            {"between_barriers_s": 5.0},
            "The clock of rank 1 (host1) counted 5.00 s where the median rank counted 4.00 s.",
        ),
        (
            3,
            1,
            {"versions": {**VERSIONS, "torch": "2.12.0"}},
            "torch differs: 2.13.0 on rank 0 2, 2.12.0 on rank 1.",
        ),
    ],
)
def test_the_odd_rank_is_named(count, rank, values, said):
    assert doctor.findings(ranks(count, {rank: values})) == [said]


def test_a_rank_a_little_slower_is_not_odd():
    assert doctor.findings(ranks(4, {2: {"products_flops": 0.9e9}})) == []
    assert doctor.findings(ranks(2, {1: {"products_flops": 0.7e9}})) == []


def test_only_like_devices_are_compared():
    assert doctor.findings(ranks(4, {0: {"device": "NVIDIA H100", "products_flops": 6e14}})) == []


def test_ranks_that_share_a_disk_are_not_compared():
    shared = {rank: {"host": "one"} for rank in range(3)}
    shared[1] = {"host": "one", "disk_read_bytes": 1e7}
    assert doctor.findings(ranks(3, shared)) == []


def test_a_rank_without_a_disk_has_a_row():
    facts = {k: v for k, v in ranks(1)[0].items() if not k.startswith(("disk", "memory"))}
    shown = doctor.row({**facts, "disk_error": "full"})
    assert (shown["disk write"], shown["disk free"], shown["memory free"]) == ("none", "", "")
    assert doctor.row(ranks(1)[0])["products"] == "1.0 GFLOP/s"


@pytest.fixture
def cotrain(capsys, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)

    def type_(*words):
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return type_


def test_the_table_and_the_findings(cotrain, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_start_here", lambda folder: ranks(2, {1: {"products_flops": 5e8}}))
    code, out, _ = cotrain("doctor", "--folder", tmp_path)
    assert code == 0
    for part in (
        "Started alone: 2 ranks",
        "host1",
        "0.5 GFLOP/s",
        "All ranks: cotrain 0.1.0",
        "slower than the other.",
    ):
        assert part in out
    monkeypatch.setattr(doctor, "_start_here", lambda folder: ranks(2))
    assert "Nothing odd was found." in cotrain("doctor", "--folder", tmp_path)[1]


def test_no_such_folder(cotrain, tmp_path):
    code, _, err = cotrain("doctor", "--folder", tmp_path / "missing")
    assert code == 2
    assert "There is no folder" in err


def test_ranks_that_fail_to_start_are_an_error(cotrain, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.sys, "executable", shutil.which("false"))
    with pytest.raises(CotrainError, match="Rank 0, started here, ended with exit code 1: no message"):
        doctor._start_here(tmp_path)


@pytest.mark.slow
def test_alone_it_starts_two_ranks(cotrain, tmp_path):
    code, out, err = cotrain("doctor", "--json", "--folder", tmp_path)
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["started_here"] is True
    assert [rank["rank"] for rank in found["ranks"]] == [0, 1]
    assert all(rank["all_reduce_bytes"] > 0 and rank["disk_write_bytes"] > 0 for rank in found["ranks"])
    assert isinstance(found["findings"], list)
    assert list(tmp_path.iterdir()) == []


def _heard(folder):
    with contextlib.redirect_stdout(io.StringIO()) as heard:
        doctor.run(folder, as_json=True)
    return heard.getvalue()


@pytest.mark.slow
def test_under_a_launcher_rank_0_speaks_and_the_missing_folder_is_found(tmp_path):
    missing = tmp_path / "missing"
    first, second = run_ranks(_heard, 2, missing, joined=False)
    found = json.loads(first)
    assert second == ""
    assert found["started_here"] is False
    assert len(found["ranks"]) == 2
    assert sum("cannot write to the folder" in sentence for sentence in found["findings"]) == 2
