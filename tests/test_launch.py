"""Runs that a launcher starts in several processes: they survive what long runs meet."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from cotrain.errors import InputError
from cotrain.launch import launch

STEPS = 60
# Mutual learning with dropout, momentum, a follower and a schedule; the last line of a rank is a digest of all.
PROGRAM = textwrap.dedent(
    """
    import hashlib, os, signal, sys, time
    from functools import partial
    from pathlib import Path

    import torch
    from torch import nn, optim

    from cotrain import place
    from cotrain.engine import fit
    from cotrain.learner import Learner, follow
    from cotrain.methods.examples import labelled_rows
    from cotrain.methods.peers.mutual_learning import MutualLearning

    folder, steps, die_at, placement = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.manual_seed(0)

    class Watched(MutualLearning):
        def step(self, learners, batch, memory):
            rank = os.environ.get("RANK", "0")
            mark = folder / f"died {rank}"
            if memory["step"] == die_at and rank in os.environ.get("DYING", "1") and not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if die_at < 0:
                time.sleep(0.05)
                if memory["step"] == 3:
                    print("under way", flush=True)
            return super().step({n: l for n, l in learners.items() if n != "mean"}, batch, memory)

    Watched.__name__ = "MutualLearning"
    net = lambda: nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 3))
    sgd = partial(optim.SGD, lr=0.1, momentum=0.9)
    learners = {
        "a": Learner(net(), sgd, schedule=lambda t: 1 / (1 + t), placement=placement),
        "b": Learner(net(), partial(optim.AdamW, lr=1e-2), placement=placement),
        "mean": follow("a", 0.9),
    }
    fit(Watched(), learners, {"labelled": labelled_rows()}, steps, out=folder, save_every=7, log_every=10, device="cpu")
    digest = hashlib.sha256()
    for learner in learners.values():
        for value in learner.net.state_dict().values():
            value = value.full_tensor() if hasattr(value, "full_tensor") else value
            digest.update(value.contiguous().numpy().tobytes())
    print(f"digest {digest.hexdigest()}", flush=True)
    """
)


@pytest.fixture
def program(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return file


def environment():
    here = {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, "OMP_NUM_THREADS": "1", **here}


def launched(*words):
    return [sys.executable, "-m", "cotrain", "launch", "--nproc", "2", *map(str, words)]


def ran(command, timeout=150):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def digests(text):
    return {line.split()[-1] for line in text.splitlines() if "digest" in line}


@pytest.mark.slow
def test_any_launcher_that_sets_the_environment_does(program, tmp_path):
    straight = ran(launched(program, tmp_path / "one", STEPS, 10**6, "auto"))
    assert len(digests(straight.stdout)) == 1  # both ranks end the same
    assert straight.stderr == ""  # and nothing is warned of
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    plain = ran([*torchrun, str(program), str(tmp_path / "two"), str(STEPS), str(10**6), "auto"])
    assert digests(plain.stdout) == digests(straight.stdout)
    assert digests(by_hand(program, tmp_path / "three")) == digests(straight.stdout)


def by_hand(program, folder):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(program), str(folder), str(STEPS), str(10**6), "auto"]
    both = []
    for rank in (0, 1):
        where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        known = environment() | {name: str(value) for name, value in where.items()}
        both.append(subprocess.Popen(command, env=known, stdout=subprocess.PIPE, text=True))
    return "".join(process.communicate(timeout=100)[0] for process in both)


@pytest.mark.slow
def test_a_rank_ends_well_while_threads_of_its_groups_hold_tensors(tmp_path):
    """A thread that wants Python when it has ended takes the process down; here threads seldom get their turn."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, torch, torch.distributed as dist\n"
        "from cotrain import place\n"
        "sys.setswitchinterval(10)\n"
        "place.start(torch.device('cpu'))\n"
        "groups = [place.beside(str(number)) for number in range(12)]\n"
        "sent = [dist.all_reduce(torch.ones(1000), group=group, async_op=True) for group in groups]\n"
        "[work.wait() for work in sent]\n"
        "del groups, sent\n"
    )
    for _ in range(2):
        ran(launched(program))


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["auto", "fsdp"])
def test_killed_and_started_again_it_ends_where_the_unbroken_run_ends(program, tmp_path, placement):
    straight = ran(launched(program, tmp_path / "straight", STEPS, 10**6, placement))
    for trial in range(10 if placement == "auto" else 2):
        folder = tmp_path / f"killed {trial}"
        folder.mkdir()
        command = launched("--max-restarts", 1, program, folder, STEPS, 20 + 3 * trial, placement)
        killed = ran(command)
        assert (folder / "died 1").exists()
        assert digests(killed.stdout) == digests(straight.stdout)
        rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows] == list(range(10, STEPS + 1, 10))


@pytest.mark.slow
def test_two_ranks_that_die_at_once(program, tmp_path, monkeypatch):
    straight = ran(launched(program, tmp_path / "straight", STEPS, 10**6, "auto"))
    monkeypatch.setenv("DYING", "0 1")
    killed = ran(launched("--max-restarts", 2, program, tmp_path / "killed", STEPS, 33, "auto"))
    assert any((tmp_path / "killed").glob("died *"))
    assert digests(killed.stdout) == digests(straight.stdout)


@pytest.mark.slow
def test_told_to_stop_it_saves_and_can_be_resumed(program, tmp_path):
    straight = ran(launched(program, tmp_path / "straight", STEPS, 10**6, "auto"))
    command = launched(program, tmp_path / "stopped", STEPS, -1, "auto")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        for line in process.stdout:
            if "under way" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=100)
    finally:
        process.kill()
    assert "resumable" in err
    assert process.returncode == 128 + signal.SIGTERM
    saved = max(path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir())
    assert 3 <= int(saved.removeprefix("step-")) < STEPS
    again = ran(launched(program, tmp_path / "stopped", STEPS, 10**6, "auto"))
    assert digests(again.stdout) == digests(straight.stdout)


def test_one_process_that_is_told_to_stop(program, tmp_path):
    command = [sys.executable, str(program), str(tmp_path / "alone"), str(10**6), "-1", "auto"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        for line in process.stdout:
            if "under way" in line:
                break
        time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert any((tmp_path / "alone" / "checkpoints").iterdir())


def test_what_cannot_be_launched_is_said():
    for words, message in (
        ((), "Say what to launch"),
        (("--nnodes", "2", "run", "x"), "Several machines need a place to meet"),
    ):
        done = subprocess.run(launched(*words), capture_output=True, text=True, timeout=60, env=environment())
        assert done.returncode == 2
        assert message in done.stderr


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"processes": 0}, "--nproc is at least 1, not 0"),
        ({"machines": 0}, "--nnodes is at least 1, not 0"),
        ({"restarts": -1}, "--max-restarts is at least 0, not -1"),
        ({"command": ["nowhere.py", "--fast"]}, "There is no script nowhere.py"),
        ({"machines": 2, "rendezvous": "host"}, "--rendezvous HOST:PORT, the same on each, not host"),
    ],
)
def test_numbers_and_names_are_looked_at_before_anything_starts(changed, message):
    asked = {"command": ["doctor"], "processes": 1, "machines": 1, "rendezvous": None, "restarts": 0}
    with pytest.raises(InputError, match=message):
        launch(**{**asked, **changed})


def test_a_mistake_ends_with_its_own_code():
    done = subprocess.run(launched("run", "no-such"), capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 2
    assert "There is no recipe 'no-such'" in done.stderr


RECIPE = textwrap.dedent(
    """
    from functools import partial
    from torch import optim
    from cotrain.judge import accuracy
    from cotrain.learner import Learner
    from cotrain.methods.examples import labelled_rows, two_layer
    from cotrain.methods.semi.supervised import Supervised
    from cotrain.run import Bar, Run
    from cotrain.stream import Once

    SYSTEMS, CLAIM, SEEDS = (), "none", (0,)

    def recipe(lr: float = 0.1, seed: int = 0):
        learners = {"model": Learner(two_layer(seed=seed), partial(optim.SGD, lr=lr))}
        test = Once(labelled_rows(count=96).data)
        streams = {"labelled": labelled_rows(count=96)}
        return Run(Supervised(), learners, streams, 40, judges=[(accuracy("model"), test)], seed=seed)

    def rows(full):
        return {"slow": {"lr": 0.01}, "fast": {"lr": 0.5}}

    def bars(table):
        gain = table.mean("fast", "accuracy") - table.mean("slow", "accuracy")
        return [Bar("fast is better", gain, gain > 0)]
    """
)


@pytest.mark.slow
def test_a_recipe_on_two_processes_is_the_recipe_on_one(tmp_path):
    file = tmp_path / "a_recipe.py"
    file.write_text(RECIPE)
    one = ran([sys.executable, "-m", "cotrain", "run", str(file), "--json"])
    two = ran(launched("run", file, "--json", "--out", tmp_path / "out"))
    one, two = json.loads(one.stdout), json.loads(two.stdout)  # one process prints
    assert two["rows"] == one["rows"]
    assert two["held"] is True
    assert len((tmp_path / "out" / "cells.jsonl").read_text().splitlines()) == 2
