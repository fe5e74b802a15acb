"""Checkpoints of several ranks: shards, lone learners, values of each rank; beside the training; whole or not."""

import os
import signal
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from cotrain import checkpoint
from cotrain.crew import Crew, CrewFailed
from cotrain.errors import CotrainError, InputError
from cotrain.tree import ELSEWHERE, Like, PerRank

SECONDS = 240  # for one call


@pytest.fixture(scope="module")
def two():
    with Crew(2, SECONDS) as crew:
        yield crew


@pytest.fixture(scope="module")
def four():
    with Crew(4, SECONDS) as crew:
        yield crew


def same(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(_whole(one), _whole(two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and one == two


def _whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole(tree):
    """The tree without shards; all ranks of the shards call it."""
    if isinstance(tree, torch.Tensor):
        return _whole(tree).clone()
    if isinstance(tree, dict):
        return {key: whole(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [whole(value) for value in tree]
    return tree


def trained(sharded, steps=3):
    """A net and AdamW after some steps; 5 and 1 rows, which two ranks do not share evenly."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    if sharded:
        fully_shard(net)
    optimizer = optim.AdamW(net.parameters(), lr=0.1)
    for _ in range(steps):
        net(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "updates": steps}


def run_of_all_kinds(steps=3):
    rank = dist.get_rank()
    learners = {"sharded": trained(True, steps), "plain": trained(False, steps)}
    if rank == 1:
        learners["lone"] = {"net": {"weight": torch.full((2, 2), 7.0)}, "optimizer": None, "updates": 4}
    own = {"position": 10 * rank, "buffer": torch.arange(3) + rank}
    return {"step": 6, "learners": learners, "streams": {"env": PerRank(own)}, "memory": {"mean": torch.tensor(0.5)}}


def save_all_kinds(folder):
    state = run_of_all_kinds()
    checkpoint.save(folder, 6, state)
    return whole(state["learners"])


def load_by_pattern(folder):
    rank, ranks = dist.get_rank(), dist.get_world_size()
    pattern = run_of_all_kinds(steps=1)
    if rank != 1:
        pattern["learners"]["lone"] = ELSEWHERE
    if ranks == 4:  # as of an optimizer that has not stepped
        weights = pattern["learners"]["sharded"]["net"].values()
        moments = {number: Like(weight) for number, weight in enumerate(weights)}
        pattern["learners"]["sharded"]["optimizer"] = {"state": moments, "param_groups": []}
    loaded = checkpoint.load_last(folder, pattern)
    weight = loaded["learners"]["sharded"]["net"]["0.weight"]
    moment = loaded["learners"]["sharded"]["optimizer"]["state"][0]["exp_avg"]
    assert weight.placements == moment.placements == (Shard(0),)
    assert weight.to_local().shape == pattern["learners"]["sharded"]["net"]["0.weight"].to_local().shape
    assert loaded["learners"]["lone"]["net"]["weight"].is_meta == (rank != 1)
    buffers = [own["buffer"] for own in loaded["streams"]["env"]]
    assert [buffer.is_meta for buffer in buffers] == [ranks == 2 and index != rank for index in range(2)]
    assert all(buffer.is_meta or torch.equal(buffer, torch.arange(3) + index) for index, buffer in enumerate(buffers))
    assert loaded["memory"]["mean"] == 0.5
    if rank != 1:
        loaded["learners"]["lone"] = None  # its tensors are not here
    return whole(loaded["learners"]), [own["position"] for own in loaded["streams"]["env"]]


@pytest.mark.slow
def test_saved_by_two_ranks_and_loaded_by_any_number(two, four, tmp_path):
    first, second = two.run(save_all_kinds, tmp_path)
    assert same(first["sharded"], second["sharded"])
    assert not list(tmp_path.glob("*/*.metadata"))
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".safetensors", ".json"}

    alone = checkpoint.load_last(tmp_path)
    assert same(alone["learners"], second)
    assert same(alone["streams"]["env"], [{"position": 10 * r, "buffer": torch.arange(3) + r} for r in range(2)])
    for crew in (two, four):
        for rank, (learners, positions) in enumerate(crew.run(load_by_pattern, tmp_path)):
            assert same(learners, second if rank == 1 else {**first, "lone": None})
            assert positions == [0, 10]


def load_what_one_process_saved(folder):
    mesh = init_device_mesh("cpu", (2,))
    pattern = {"x": distribute_tensor(torch.zeros(5, 2), mesh, [Shard(0)])}
    loaded = checkpoint.load_last(folder, pattern)
    wrong = {"x": distribute_tensor(torch.zeros(4, 2), mesh, [Shard(0)])}
    with pytest.raises(InputError, match=r"x was saved with shape \(5, 2\) and is \(4, 2\) in this run"):
        checkpoint.load_last(folder, wrong if dist.get_rank() == 1 else pattern)  # on both ranks
    plain = checkpoint.load_last(folder)
    assert type(plain["x"]) is torch.Tensor
    return loaded["x"].to_local(), loaded["n"], plain["x"]


def test_saved_by_one_process_and_loaded_sharded(two, tmp_path):
    x = torch.arange(10.0).view(5, 2)
    checkpoint.save(tmp_path, 1, {"x": x, "n": torch.tensor(3)})
    (top, n, plain), (bottom, _, _) = two.run(load_what_one_process_saved, tmp_path)
    assert torch.equal(torch.cat([top, bottom]), x)
    assert n == 3
    assert torch.equal(plain, x)


def hybrid_and_groups(folder):
    rank = dist.get_rank()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
    x, y = torch.arange(21.0).view(7, 3), torch.arange(5)
    state = {"hybrid": distribute_tensor(x, mesh, [Replicate(), Shard(0)]), "columns": None}
    state["columns"] = distribute_tensor(x, mesh, [Shard(0), Shard(1)])
    if rank >= 2:  # a learner of one row of the mesh
        state["group"] = distribute_tensor(y, mesh["shards"], [Shard(0)])
    checkpoint.save(folder, 1, state)
    pattern = {"hybrid": torch.zeros_like(state["columns"]), "columns": torch.zeros_like(state["hybrid"])}
    loaded = checkpoint.load_last(folder, {**pattern, "group": state.get("group", ELSEWHERE)})
    assert loaded["hybrid"].placements == (Shard(0), Shard(1))
    assert torch.equal(loaded["hybrid"].full_tensor(), x)
    assert torch.equal(loaded["columns"].full_tensor(), x)
    if rank < 2:
        assert loaded["group"].is_meta
    else:
        assert torch.equal(loaded["group"].full_tensor(), y)


def test_hybrid_shards_and_learners_of_some_ranks(four, tmp_path):
    four.run(hybrid_and_groups, tmp_path)
    loaded = checkpoint.load_last(tmp_path)
    assert torch.equal(loaded["hybrid"], torch.arange(21.0).view(7, 3))
    assert torch.equal(loaded["group"], torch.arange(5))


def save_beside_training(folder):
    torch.manual_seed(0)
    net = nn.Linear(200, 200)
    fully_shard(net)
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    seen = {}
    for step in range(1, 9):
        net(torch.ones(1, 200)).square().mean().backward()  # gathers and scatters on the default group
        optimizer.step()
        optimizer.zero_grad()
        seen[step] = net.weight.full_tensor().detach().clone()
        path = checkpoint.save(folder, step, {"step": step, "net": net.state_dict()}, keep=3, wait=False)
    checkpoint.wait()
    assert path.exists()
    return seen


def test_written_beside_the_training(two, tmp_path):
    seen, _ = two.run(save_beside_training, tmp_path)
    assert not torch.equal(seen[7], seen[8])
    steps = [6, 7, 8]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:09d}" for step in steps]
    for step in reversed(steps):  # what stood at the save, though the weights moved on
        loaded = checkpoint.load_last(tmp_path)
        assert loaded["step"] == step
        assert torch.equal(loaded["net"]["weight"], seen[step])
        (tmp_path / f"step-{step:09d}").rename(tmp_path / f"seen-{step}")


def refused(folder):
    """What each bad save says on this rank, and what is there afterwards."""
    rank = dist.get_rank()
    checkpoint.save(folder, 1, {"step": 1})
    states = [
        {"step": 2, "streams": {"env": {"position": rank}}},
        {"step": 2, "memory": torch.zeros(2 + rank)},
        {"step": 2, "list": [0] * (1 + rank)},
        {"step": 2, "kind": [0] if rank else 0},
    ]
    said = []
    with pytest.raises(CotrainError, match="plain values, not set"):  # one of two ranks cannot
        checkpoint.save(folder, 2, {"own": set() if rank else 0}, wait=False)
    for state in states:
        with pytest.raises(CotrainError) as caught:
            checkpoint.save(folder, 2, state)
        said.append(str(caught.value))
    with pytest.raises(CotrainError, match="all ranks write to one folder"):
        checkpoint.save(folder / "elsewhere" if rank == 1 else folder, 2, {"step": 2})
    if rank == 1:
        writing, os.fsync = os.fsync, partial(_full, os.fsync)
    checkpoint.save(folder, 3, {"step": 3, "own": PerRank(torch.ones(3))}, wait=False)
    with pytest.raises(CotrainError) as caught:
        checkpoint.save(folder, 4, {"step": 4})
    said.append(str(caught.value))
    if rank == 1:
        os.fsync = writing
    assert checkpoint.load_last(folder) == {"step": 1}
    checkpoint.save(folder, 5, {"step": 5})
    assert checkpoint.load_last(folder) == {"step": 5}
    return said


def _full(fsync, handle):
    raise OSError(28, "No space left on device")


def test_what_fails_on_one_rank_fails_on_all(two, tmp_path):
    first, second = two.run(refused, tmp_path)
    wrap = "what differs by rank is wrapped in PerRank"
    for said in (first, second):
        assert "The checkpoint of step 2 could not be written" in said[0]
        assert f"streams/env/position is value 0 on rank 0 and value 1 on rank 1; {wrap}" in said[0]
        assert "[\"memory\"] is value 'torch.float32 (2,)' on rank 0" in said[1]
        assert "list is list" in said[2]
        assert "kind is value 0 on rank 0 and list" in said[3]
        assert "The checkpoint of step 3 could not be written" in said[4]
        assert "rank 1" in said[4]
        assert "No space left on device" in said[4]


def dies(folder, rank, write):
    """Ends this rank at its `write`-th wait for the disk in the second save."""
    state = {"x": PerRank(torch.ones(1000)), "step": 1}
    checkpoint.save(folder, 1, state)
    if dist.get_rank() == rank:
        waited, fsync = [], os.fsync

        def counting(handle):
            waited.append(handle)
            if len(waited) == write:
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(handle)

        os.fsync = counting
    checkpoint.save(folder, 2, {**state, "step": 2}, wait=False)
    checkpoint.wait()


# Rank 0 waits for its tensors, then for two files of tensors, two of JSON, their folder and the folder above.
@pytest.mark.parametrize(
    ("rank", "write", "last"),
    [(1, 1, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(0, 1, 1), (0, 6, 1), (0, 7, 2)])],
)
def test_a_rank_is_killed_in_a_save(tmp_path, rank, write, last):
    with Crew(2, SECONDS) as crew, pytest.raises(CrewFailed, match=f"Rank {rank} died with exit code -9"):
        crew.run(dies, tmp_path, rank, write)
    assert checkpoint.load_last(tmp_path)["step"] == last


def damaged_for_one(folder):
    rank = dist.get_rank()
    for step in (1, 2):
        checkpoint.save(folder, step, {"step": step, "x": PerRank(torch.full((3,), 1.0 * step))}, score=step)
    if rank == 0:
        shards = sorted((folder / "step-000000002").glob("*.safetensors"))
        assert len(shards) == 2
        content = bytearray(shards[1].read_bytes())
        content[-2] ^= 1
        shards[1].write_bytes(content)
    dist.barrier()
    for loaded in (checkpoint.load_last(folder), checkpoint.load_best(folder)):
        assert loaded["step"] == 1
        assert torch.equal(loaded["x"][rank], torch.ones(3))


def test_damage_that_one_rank_sees_is_passed_over_by_all(two, tmp_path):
    two.run(damaged_for_one, tmp_path)
