import inspect
import os

import pytest
import torch
from torch import nn

from cotrain import checkpoint
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.nets.transformer import ParallelBlock, SerialBlock
from cotrain.optim.lamb import Lamb
from cotrain.recipe import load
from cotrain.run import Table

megascale = load("megascale")
stored = pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")


@pytest.fixture
def short(monkeypatch):
    """A short text of its own in place of the real one."""
    text = "All the world's a stage,\nAnd all the men and women merely players;\n" * 40

    def load_part(part="train"):
        ids = megascale.tiny_shakespeare.encode(text)
        return ids[:-400] if part == "train" else ids[-400:]

    monkeypatch.setattr(megascale.tiny_shakespeare, "load", load_part)
    monkeypatch.setattr(megascale, "SEQUENCES", 320)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("full", [False, True])
def test_every_row_is_a_recipe(full):
    known = set(inspect.signature(megascale.recipe).parameters)
    made = {}
    for name, row in megascale.rows(full).items():
        assert set(row) <= known
        made[name] = megascale.recipe(**row, seed=1)
    runs = {name: run for name, run in made.items() if hasattr(run, "steps") and hasattr(run, "streams")}
    assert {name: type(made[name]).__name__ for name in set(made) - set(runs)} == {
        "step time": "StepTime",
        "faults": "Faults",
        "checkpoint": "Stall",
    }
    # As many sequences in each, whatever the batch.
    assert {run.steps * run.streams["text"].batch for run in runs.values()} == {320}
    for name, run in runs.items():
        assert run.streams["text"].batch == megascale.BATCH * (4 if "x 4" in name else 1)
        (block, *_) = run.learners["model"].net.blocks
        assert isinstance(block, ParallelBlock if name.startswith("parallel") else SerialBlock)
        assert isinstance(run.learners["model"].build().optimizer, Lamb if "LAMB" in name else torch.optim.AdamW)


@pytest.mark.usefixtures("short")
def test_the_three_texts_are_apart():
    learn, texts = megascale.parts()
    whole = torch.cat([learn, texts["validation"], texts["test"]])
    assert torch.equal(whole, torch.cat([megascale.tiny_shakespeare.load(p) for p in ("train", "validation")]))
    assert len(texts["validation"]) == pytest.approx(len(learn) / 8, abs=1)


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_biases_and_norms_neither_decay_nor_adapt(name):
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    matrices, vectors = megascale.grouped(name, 0.5, list(net.parameters())).param_groups
    assert [id(p) for p in matrices["params"]] == [id(net[0].weight)]
    assert len(vectors["params"]) == 3
    assert (matrices["weight_decay"], vectors["weight_decay"], vectors["lr"]) == (0.01, 0, 0.5)
    if name == "lamb":
        assert (matrices["adapt"], vectors["adapt"]) == (True, False)


def test_the_schedule_by_hand():
    found = [megascale.warm_then_cosine(20, done) for done in (0, 1, 2, 11, 20)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1, 0.5, 0])


def test_loss_by_hand():
    class Uniform(nn.Module):
        def forward(self, ids):
            return torch.zeros(*ids.shape, 8)

    judge = megascale.nats("model")
    batches = [{"ids": torch.zeros(2, 4, dtype=torch.int64)}, {"ids": torch.ones(1, 4, dtype=torch.int64)}]
    assert judge({"model": Learner(Uniform())}, batches) == {"loss": pytest.approx(torch.tensor(8.0).log().item())}


def test_a_rate_that_was_not_tuned_is_asked_for():
    with pytest.raises(InputError, match="give rate="):
        megascale.recipe(optimizer="lamb", growth=3)


@pytest.mark.usefixtures("short")
def test_a_run_learns_and_is_the_same_again():
    made = [
        megascale.recipe(block="parallel", optimizer="lamb", growth=4, rate=0.02, seed=2).measure() for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0]["loss"] < 3.5  # ln 65 is 4.17


@pytest.mark.usefixtures("short")
def test_step_times_are_ratios(monkeypatch):
    moment = iter(range(1000))
    monkeypatch.setattr(megascale.time, "process_time", lambda: float(next(moment)))
    numbers = megascale.StepTime(seed=0, blocks=2, steps=1).measure()
    assert numbers == {f"parallel per serial, batch x {growth}": 1.0 for growth in (1, 4)}


LINES = [
    {"rank": 1, "starts": 0},
    {"rank": 0, "starts": 0},
    {"rank": 0, "starts": 160},
    {"rank": 0, "weights": "a"},
    {"rank": 1, "weights": "a"},
]


def test_what_workers_said_by_hand():
    said = megascale.Launched(LINES, "")
    assert said.starts == [0, 160]
    assert said.weights == {"a"}
    assert megascale.Launched([*LINES, {"rank": 1, "weights": "b"}], "").weights == {"a", "b"}


@pytest.mark.parametrize("wrong", ["nothing", "weights", "start", "name"])
def test_faults_by_hand(monkeypatch, wrong):
    """Three launches whose words are given; each thing that goes wrong shows in its number and in no other."""
    again = [{"rank": 0, "starts": 200 if wrong == "start" else 180}, *LINES[-2:]]
    killed = [*LINES[:3], {"rank": 0, "weights": "b" if wrong == "weights" else "a"}]
    words = "" if wrong == "name" else "cotrain: step 150: Rank 1 is slow: its own work takes 5.00 times the median"
    launches = iter([megascale.Launched([LINES[1], *LINES[-2:]], ""), None, megascale.Launched(again, "")])

    def launched(self, out, dies=None):
        found = next(launches)
        if found is None:
            assert dies == 175
            out.mkdir()
            moments = [(0, "start"), (1, "ready"), (6, "saved"), (7, "alive"), (7, "start"), (9, "ready"), (10, "end")]
            (out / "timeline.jsonl").write_text("\n".join(map(megascale.json.dumps, moments)))
            return megascale.Launched(killed, words)
        assert dies is None
        return found

    monkeypatch.setattr(megascale.Faults, "launched", launched)
    damaged = []
    monkeypatch.setattr(megascale, "damage", damaged.append)
    numbers = megascale.Faults(seed=0).measure()
    assert [path.name for path in damaged] == ["step-000000200"]
    assert numbers == pytest.approx(
        {
            "weights as in the clean run": float(wrong != "weights"),
            "restarts": 1,
            "steps of lost work": 15,
            "steps until the slow rank is named": float("nan") if wrong == "name" else 150,
            "healthy runs in which a rank is named": 0,
            "damaged checkpoint skipped": float(wrong != "start"),
            "effective time share": 0.7,
        },
        nan_ok=True,
    )


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    for step in (1, 2):
        path = checkpoint.save(tmp_path, step, {"step": step, "w": torch.ones(100)})
    megascale.damage(path)
    assert checkpoint.load_last(tmp_path)["step"] == 1


@pytest.mark.slow
@stored
def test_two_workers_that_are_struck_end_as_the_clean_run():
    numbers = megascale.Faults(seed=0).measure()
    assert numbers["weights as in the clean run"] == numbers["damaged checkpoint skipped"] == numbers["restarts"] == 1
    assert 0 < numbers["effective time share"] < 1


def test_stalls_by_hand(monkeypatch, tmp_path):
    """A clock on which a save that waits takes four times as long as one that does not."""
    clock = [0.0]
    monkeypatch.setattr(megascale.time, "perf_counter", lambda: clock[0])
    save = checkpoint.save

    def timed(*given, wait):
        clock[0] += 0.4 if wait else 0.1
        return save(*given, wait=wait)

    monkeypatch.setattr(checkpoint, "save", timed)
    numbers = megascale.Stall(megabytes=0.5, blocks=2, width=64, folder=tmp_path).measure()
    assert numbers["megabytes"] == pytest.approx(0.5, abs=0.05)
    assert numbers["ms, waits for the disk"] == pytest.approx(400)
    assert [numbers["ratio"], numbers["ratio of the least"]] == pytest.approx([0.25, 0.25])


def table(parallel, lamb, ratio, lost=(14, 19, 15), named=(150, 150, 150), equal=1.0, skipped=1.0, stall=0.2):
    made = Table()
    for seed in range(3):
        numbers = {
            "weights as in the clean run": 1.0 if seed else equal,
            "steps of lost work": lost[seed],
            "steps until the slow rank is named": named[seed],
            "damaged checkpoint skipped": 1.0 if seed else skipped,
        }
        made.add("faults", seed, numbers)
        made.add("checkpoint", seed, {"ratio": stall + (seed - 1) / 100})
        made.add("serial, AdamW", seed, {"loss": 2.0})
        made.add("parallel, AdamW", seed, {"loss": parallel})
        made.add("serial, AdamW, batch x 4", seed, {"loss": 2.2})
        made.add("serial, LAMB, batch x 4", seed, {"loss": lamb})
        made.add("step time", seed, {f"parallel per serial, batch x {growth}": ratio - growth for growth in (1, 4)})
    return made


def test_bars_by_hand():
    bars = megascale.bars(table(2.03, 2.05, 2.0))
    assert [bar.value for bar in bars] == pytest.approx([1, 19, 150, 1, 0.2, 0.015, 0.025, 1.0])
    assert [bar.held for bar in bars] == [True] * 6 + [False, True]
    assert "+10.0%" in bars[6].text
    assert [bar.held for bar in megascale.bars(table(2.05, 1.9, 2.01))][5:] == [False, True, False]


@pytest.mark.parametrize(
    ("place", "numbers"),
    [
        (0, {"equal": 0.0}),
        (1, {"lost": (14, 21, 15)}),
        (2, {"named": (150, 150, 200)}),
        (2, {"named": (150, float("nan"), 150)}),
        (3, {"skipped": 0.0}),
        (4, {"stall": 0.31}),
    ],
)
def test_one_seed_that_fails_fails_its_bar_alone(place, numbers):
    assert [bar.held for bar in megascale.bars(table(2.0, 2.0, 1.9, **numbers))] == [at != place for at in range(8)]
