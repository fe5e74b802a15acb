"""Checkpoints: any nesting of tensors and plain values there and back; whole or not at all."""

import errno
import json
import math
import shutil
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cotrain import checkpoint
from cotrain.errors import CotrainError, InputError
from cotrain.tree import PerRank

plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text()
tensors = st.lists(st.floats(width=32), max_size=3).map(torch.tensor) | st.integers(0, 9).map(torch.tensor)
trees = st.recursive(
    plain | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)


def same(one, two):
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one.nan_to_num(7.0), two.nan_to_num(7.0))
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and one == two


@settings(max_examples=60)
@given(tree=trees)
def test_what_is_saved_is_loaded(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.save(folder, 1, {"tree": tree})
    assert same({"tree": tree}, checkpoint.load_last(folder))


def test_types_that_tensors_come_in(tmp_path):
    kinds = (torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
    state = {str(kind): torch.tensor([0, 1, 1]).to(kind) for kind in kinds}
    state["strided"] = torch.arange(6.0).view(2, 3).t()
    state["empty"] = torch.zeros(0, 3)
    state["graph"] = torch.ones(2, requires_grad=True) * 2
    checkpoint.save(tmp_path, 1, state)
    loaded = checkpoint.load_last(tmp_path)
    for name, value in state.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value), name


def test_special_floats(tmp_path):
    checkpoint.save(tmp_path, 1, {"a": math.inf, "b": math.nan, "c": 0.1 + 0.2})
    loaded = checkpoint.load_last(tmp_path)
    assert loaded["a"] == math.inf
    assert math.isnan(loaded["b"])
    assert loaded["c"] == 0.1 + 0.2


def test_tied_weights(tmp_path):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    checkpoint.save(tmp_path, 1, net.state_dict())
    loaded = checkpoint.load_last(tmp_path)
    assert torch.equal(loaded["0.weight"], loaded["1.weight"])


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 1000):
        checkpoint.save(tmp_path, step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000010", "step-000001000"]
    assert checkpoint.load_last(tmp_path) == {"step": 1000}


def test_the_best_is_kept_too(tmp_path):
    for step, score in ((1, 0.3), (2, 0.9), (3, 0.9), (4, None), (5, math.nan), (6, 0.8), (7, None)):
        checkpoint.save(tmp_path, step, {"step": step}, keep=2, score=score)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-00000000{step}" for step in (3, 6, 7)]
    assert checkpoint.load_last(tmp_path) == {"step": 7}
    assert checkpoint.load_best(tmp_path) == {"step": 3}
    (tmp_path / "step-000000003" / checkpoint.STATE).write_text("{")
    assert checkpoint.load_best(tmp_path) == {"step": 6}


def test_without_scores_there_is_no_best(tmp_path):
    checkpoint.save(tmp_path, 1, {})
    assert checkpoint.load_best(tmp_path) is None


def test_a_run_that_went_back_leaves_its_later_steps(tmp_path):
    for step in (10, 20, 15):
        checkpoint.save(tmp_path, step, {"step": step})
    assert checkpoint.load_last(tmp_path) == {"step": 15}


def test_what_is_not_a_checkpoint_is_left_alone(tmp_path):
    checkpoint.save(tmp_path, 1, {"step": 1})
    (tmp_path / "LATEST").write_text("step-000000099")
    (tmp_path / "step-000000098").symlink_to(tmp_path / "gone")
    (tmp_path / "step-by-step").mkdir()
    assert checkpoint.load_last(tmp_path) == {"step": 1}
    checkpoint.save(tmp_path, 2, {"step": 2}, keep=1)
    assert (tmp_path / "step-by-step").exists()
    assert not (tmp_path / "step-000000001").exists()


def test_of_two_of_one_step_the_new_one_counts(tmp_path):
    for name in ("old", "new"):
        checkpoint.save(tmp_path / name, 1, {"name": name})
    shutil.move(tmp_path / "old" / "step-000000001", tmp_path / "new" / "step-000000001.old")
    assert checkpoint.load_last(tmp_path / "new") == {"name": "new"}


def test_more_than_nine_digits(tmp_path):
    for step in (999_999_999, 10**9):
        checkpoint.save(tmp_path, step, {"step": step})
    assert checkpoint.load_last(tmp_path) == {"step": 10**9}


def test_what_a_rank_has_for_itself_is_a_list_of_one(tmp_path):
    checkpoint.save(tmp_path, 1, {"own": PerRank({"x": torch.ones(2), "n": 3})})
    (own,) = checkpoint.load_last(tmp_path)["own"]
    assert same(own, {"x": torch.ones(2), "n": 3})


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_none_is_refused(tmp_path, keep):
    with pytest.raises(InputError, match="keep is at least 1"):
        checkpoint.save(tmp_path, 1, {}, keep=keep)


def test_nothing_there_is_none(tmp_path):
    assert checkpoint.load_last(tmp_path / "nowhere") is None


def test_what_cannot_be_kept_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(CotrainError, match="plain values, not Linear"):
        checkpoint.save(tmp_path, 1, {"net": nn.Linear(1, 1)})
    with pytest.raises(CotrainError, match=r"a word or a number, not \(1, 2\) \(table\)"):
        checkpoint.save(tmp_path, 1, {"table": {(1, 2): 0}})
    assert list(tmp_path.iterdir()) == []


class TestDamage:
    """Whatever happens to the last checkpoint, the one before it is found."""

    @pytest.fixture
    def folder(self, tmp_path):
        for step in (1, 2):
            checkpoint.save(tmp_path, step, {"step": step, "x": torch.full((100,), float(step))})
        return tmp_path

    @pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.STATE, checkpoint.DIGESTS])
    @pytest.mark.parametrize("how", ["missing", "empty", "cut", "flipped"])
    def test_a_damaged_file(self, folder, name, how):
        file = folder / "step-000000002" / name
        content = bytearray(file.read_bytes())
        if how == "missing":
            file.unlink()
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "cut":
            file.write_bytes(content[: len(content) // 2])
        else:
            content[-20] ^= 0b100
            file.write_bytes(content)
        assert checkpoint.load_last(folder)["step"] == 1

    def test_a_save_that_was_killed_half_way(self, folder):
        partial = folder / "step-000000003.tmp"
        shutil.copytree(folder / "step-000000002", partial)
        (partial / checkpoint.STATE).write_text('{"dict": [')
        assert checkpoint.load_last(folder)["step"] == 2
        checkpoint.save(folder, 4, {"step": 4})
        assert not partial.exists()

    def test_a_checkpoint_is_written_over_a_damaged_one_of_the_same_step(self, folder):
        (folder / "step-000000002" / checkpoint.STATE).write_text("{")
        checkpoint.save(folder, 2, {"step": "again"})
        assert checkpoint.load_last(folder)["step"] == "again"

    def test_when_all_are_damaged_it_says_so(self, folder):
        for path in folder.iterdir():
            (path / checkpoint.STATE).write_text("{")
        with pytest.raises(CotrainError, match="None of the 2 checkpoints"):
            checkpoint.load_last(folder)

    def test_a_full_disk_keeps_what_was_there(self, folder, monkeypatch):
        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checkpoint, "save_file", full)
        with pytest.raises(CotrainError, match=r"step 3 could not be written .*No space left"):
            checkpoint.save(folder, 3, {"step": 3})
        assert checkpoint.load_last(folder)["step"] == 2
        assert not list(folder.glob("*.tmp"))

    @pytest.mark.parametrize("renames", [0, 1])
    def test_killed_while_one_of_the_same_step_is_replaced(self, folder, monkeypatch, renames):
        """Before or after the one there was put aside; the run dies there, so it cannot tidy up."""
        rename, done = type(folder).rename, []

        def dying(path, target):
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(path)
            return rename(path, target)

        monkeypatch.setattr(type(folder), "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(folder, 2, {"step": "again"}, keep=1)
        monkeypatch.undo()
        assert checkpoint.load_last(folder)["step"] == 2
        checkpoint.save(folder, 2, {"step": "again"}, keep=1)
        assert checkpoint.load_last(folder) == {"step": "again"}
        assert [path.name for path in folder.iterdir()] == ["step-000000002"]


class TestInAThread:
    def test_the_state_is_that_of_the_call(self, tmp_path, monkeypatch):
        go, write = threading.Event(), checkpoint.save_file

        def held(*arguments):
            assert go.wait(60)
            write(*arguments)

        monkeypatch.setattr(checkpoint, "save_file", held)
        x, state = torch.zeros(3), {"list": [1]}
        path = checkpoint.save(tmp_path, 1, {"x": x, **state}, wait=False)
        x += 1
        state["list"].append(2)
        assert not path.exists()
        go.set()
        checkpoint.wait()
        assert path.exists()
        assert same(checkpoint.load_last(tmp_path), {"x": torch.zeros(3), "list": [1]})

    def test_one_write_at_a_time_and_loading_waits(self, tmp_path, monkeypatch):
        write, writing, most = checkpoint.save_file, [], []

        def counted(*arguments):
            writing.append(arguments)
            most.append(len(writing))
            write(*arguments)
            writing.pop()

        monkeypatch.setattr(checkpoint, "save_file", counted)
        for step in range(1, 6):
            checkpoint.save(tmp_path, step, {"step": step}, wait=False)
        assert checkpoint.load_last(tmp_path) == {"step": 5}
        assert most == [1] * 5

    @pytest.mark.parametrize(
        "then",
        [
            lambda folder: checkpoint.wait(),
            lambda folder: checkpoint.save(folder, 3, {"step": 3}),
            lambda folder: checkpoint.load_last(folder),
        ],
        ids=["wait", "save", "load"],
    )
    def test_its_error_comes_up_at_the_next_call(self, tmp_path, monkeypatch, then):
        def full(*arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

        checkpoint.save(tmp_path, 1, {"step": 1})
        monkeypatch.setattr(checkpoint, "save_file", full)
        checkpoint.save(tmp_path, 2, {"step": 2}, wait=False)
        with pytest.raises(CotrainError, match=r"step 2 could not be written .*No space left"):
            then(tmp_path)
        monkeypatch.undo()
        checkpoint.wait()  # said once
        assert checkpoint.load_last(tmp_path) == {"step": 1}

    def test_the_process_does_not_end_before_it(self, tmp_path):
        program = """
            import sys, time
            from pathlib import Path
            from cotrain import checkpoint

            write = checkpoint.save_file
            def slow(*arguments):
                time.sleep(0.5)
                write(*arguments)
            checkpoint.save_file = slow
            checkpoint.save(Path(sys.argv[1]), 1, {"step": 1}, wait=False)
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], check=True)
        assert checkpoint.load_last(tmp_path) == {"step": 1}


def test_nothing_is_unpickled(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"x": torch.zeros(2)})
    assert json.loads((path / checkpoint.STATE).read_text()) == {"dict": [["x", {"tensor": '["x"]'}]]}
    assert sorted(p.suffix for p in path.iterdir()) == [".json", ".json", ".safetensors"]
