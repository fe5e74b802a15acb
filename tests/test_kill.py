"""Killed at any moment and resumed, a run ends bit for bit where an unbroken run ends."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

STEPS = 40
# A run with all that can go wrong at a resume: dropout, batch statistics, AdamW with a schedule, a follower, memory,
# the method's own noise, streams with views, a loss that is not there at every step. Its last line is a digest of all.
PROGRAM = textwrap.dedent(
    """
    import hashlib, os, signal, sys
    from dataclasses import dataclass
    from functools import partial
    from pathlib import Path

    import torch
    import torch.nn.functional as F
    from torch import nn, optim

    from cotrain import checkpoint
    from cotrain.engine import fit
    from cotrain.gradients.clip import Clip
    from cotrain.learner import Learner, follow
    from cotrain.method import Method
    from cotrain.methods.examples import labelled_rows, unlabelled_rows
    from cotrain.report import note

    folder, steps, how, when = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])


    def die():
        os.kill(os.getpid(), signal.SIGKILL)


    if how == "save":  # in the middle of the `when`-th save of this process: after so many of its writes to disk
        flushed, flush = [], checkpoint._flush

        def counting(path):
            flushed.append(path)
            if len(flushed) == when:
                die()
            flush(path)

        checkpoint._flush = counting


    @dataclass(frozen=True)
    class Everything(Method):
        def memory(self, learners):
            return {"mean_C": torch.full((3,), 1 / 3), "count": torch.tensor(0)}

        def step(self, learners, batch, memory):
            if how == "step" and memory["step"] == when:
                die()
            if how == "slow":
                print("step", flush=True)
            x, y = batch["labelled"]["x"], batch["labelled"]["y"]
            with torch.no_grad():
                guess = learners["mean"](batch["unlabelled"]["weak"]).softmax(-1)
            memory["mean_C"].lerp_(guess.mean(0), 0.1)
            memory["count"] += len(x)
            strong = batch["unlabelled"]["strong"]
            noise = torch.randn(strong.shape, generator=memory["generator"])
            agreement = F.mse_loss(learners["one"](strong + 0.1 * noise).softmax(-1), guess / memory["mean_C"])
            note("agreement", agreement)
            losses = {"one": F.cross_entropy(learners["one"](x), y) + agreement}
            if memory["step"] % 3 == 0:
                losses["two"] = F.cross_entropy(learners["two"](x), y)
            return losses


    torch.set_num_threads(1)
    torch.manual_seed(0)
    adamw = partial(optim.AdamW, lr=0.01)
    schedule = lambda updates: 0.5 ** (updates / 10)
    learners = {
        "one": Learner(nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 3)), adamw, Clip(1.0), schedule),
        "two": Learner(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)), adamw),
        "mean": follow("one", 0.9),
    }
    streams = {"labelled": labelled_rows(batch=7), "unlabelled": unlabelled_rows(batch=5)}
    report = fit(Everything(), learners, streams, steps, out=folder, save_every=3, log_every=4, device="cpu")

    digest = hashlib.sha256()
    def take_in(tree):
        if isinstance(tree, torch.Tensor):
            digest.update(tree.detach().numpy().tobytes())
        elif isinstance(tree, dict):
            for key in sorted(tree, key=str):
                digest.update(str(key).encode())
                take_in(tree[key])
        elif isinstance(tree, list | tuple):
            for entry in tree:
                take_in(entry)
        else:
            digest.update(repr(tree).encode())
    take_in(checkpoint.load_last(Path(folder) / "checkpoints"))
    take_in([learner.state() for learner in learners.values()])
    take_in(report.rows)
    print(digest.hexdigest())
    """
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


def start(program, folder, how="whole", when=0):
    command = [sys.executable, str(program), str(folder), str(STEPS), how, str(when)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def run(*arguments):
    """The digest, or None where the run was killed."""
    process = start(*arguments)
    out, err = process.communicate()
    if process.returncode == -signal.SIGKILL:
        return None
    assert process.returncode == 0, err
    return out.split()[-1]


@pytest.fixture(scope="module")
def straight(program, tmp_path_factory):
    """The digest of an unbroken run."""
    return run(program, tmp_path_factory.mktemp("straight"))


def test_killed_at_a_random_step_and_again_in_the_middle_of_a_save(program, straight, tmp_path):
    chance = random.Random(seed := time.time_ns() % 10**6)
    step, write = chance.randrange(4, STEPS - 10), chance.randrange(1, 20)
    assert run(program, tmp_path, "step", step) is None
    assert run(program, tmp_path, "save", write) is None
    assert run(program, tmp_path) == straight, f"killed at step {step}, then at write {write} (chance {seed})"


@pytest.mark.slow
def test_killed_at_each_write_of_a_save(program, straight, tmp_path):
    assert run(program, tmp_path, "step", 11) is None
    # Five writes a save: three files, their folder, and after its renaming the folder above; then the next save's.
    for write in range(1, 8):
        assert run(program, tmp_path, "save", write) is None
    assert run(program, tmp_path) == straight


@pytest.mark.slow
def test_killed_from_outside_at_any_moment_again_and_again(program, straight, tmp_path):
    chance = random.Random(seed := time.time_ns() % 10**6)
    kills = 0
    for _ in range(5):
        process = start(program, tmp_path, "slow")
        process.stdout.readline()  # the first step is under way
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills > 0
    assert run(program, tmp_path) == straight, f"chance {seed}"


@pytest.mark.slow
def test_killed_before_the_first_checkpoint_starts_anew(program, straight, tmp_path):
    assert run(program, tmp_path, "step", 1) is None
    assert run(program, tmp_path) == straight
