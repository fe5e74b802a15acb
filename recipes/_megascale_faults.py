"""What each worker runs that `megascale` launches: two nets of digits that teach each other, and what befalls rank 1.

    cotrain launch --nproc 2 --max-restarts 1 _megascale_faults.py FOLDER SEED [DIES]

In step DIES rank 1 is killed, once; up to then it takes five times as long as it needs. Workers say in lines of JSON
from which step they train, and how the weights end. Rank 0 keeps the timeline.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn, optim

from cotrain.data import mfeat
from cotrain.engine import fit
from cotrain.learner import Learner
from cotrain.method import Batches, Learners, Losses, Memory
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.stream import Rows
from cotrain.watch.effective import Timeline

STEPS, SAVE_EVERY, SLOWER = 200, 20, 5
RANK = int(os.environ.get("RANK", 0))


def train(folder: Path, seed: int, dies: int | None) -> None:
    timeline = Timeline(folder / "timeline.jsonl" if RANK == 0 else None)
    timeline.note("start")
    died, newest = folder / "died", last_checkpoint(folder)

    class Struck(MutualLearning):
        def step(self, learners: Learners, batch: Batches, memory: Memory) -> Losses:
            nonlocal newest
            if timeline.moments[-1][1] == "start":
                timeline.note("ready")
                say(starts=memory["step"])
            before, newest = newest, last_checkpoint(folder)
            timeline.note("alive" if newest == before else "saved")
            start = time.perf_counter()
            losses = super().step(learners, batch, memory)
            if dies is not None and RANK == 1 and not died.exists():
                if memory["step"] == dies:
                    died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep((SLOWER - 1) * (time.perf_counter() - start))
            return losses

    learners = two_learners(seed)
    fit(
        Struck(),
        learners,
        {"labelled": digits(seed)},
        STEPS,
        seed=seed,
        device="cpu",
        out=folder,
        save_every=SAVE_EVERY,
    )
    timeline.note("end")
    say(weights=digest(learners))


def two_learners(seed: int) -> dict[str, Learner]:
    torch.manual_seed(seed)
    large = nn.Sequential(nn.Linear(240, 512), nn.ReLU(), nn.Dropout(0.2), nn.Linear(512, 512), nn.ReLU())
    small = nn.Sequential(nn.Linear(240, 64), nn.ReLU())
    return {
        "large": Learner(nn.Sequential(*large, nn.Linear(512, 10)), partial(optim.AdamW, lr=1e-3)),
        "small": Learner(nn.Sequential(*small, nn.Linear(64, 10)), partial(optim.SGD, lr=0.1, momentum=0.9)),
    }


def digits(seed: int) -> Rows:
    views, y = mfeat.load()
    return Rows({"x": torch.from_numpy(views["pix"]) / 6, "y": torch.from_numpy(y)}, batch=256, seed=seed)


def last_checkpoint(folder: Path) -> str:
    return max((path.name for path in (folder / "checkpoints").glob("step-*[0-9]")), default="")


def digest(learners: Mapping[str, Learner]) -> str:
    found = hashlib.sha256()
    for learner in learners.values():
        for value in learner.net.state_dict().values():
            found.update(value.numpy().tobytes())
    return found.hexdigest()


def say(**facts: Any) -> None:
    sys.stdout.write(json.dumps({"rank": RANK, **facts}) + "\n")  # at once: the ranks share the stream
    sys.stdout.flush()


if __name__ == "__main__":
    where, number, *rest = sys.argv[1:]
    train(Path(where), int(number), int(rest[0]) if rest else None)
