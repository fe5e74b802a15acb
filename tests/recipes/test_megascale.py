import inspect
import os

import pytest
import torch
from torch import nn

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
    assert set(made) - set(runs) == {"step time"}
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


def table(parallel, lamb, ratio):
    made = Table()
    for seed in range(3):
        made.add("serial, AdamW", seed, {"loss": 2.0})
        made.add("parallel, AdamW", seed, {"loss": parallel})
        made.add("serial, AdamW, batch x 4", seed, {"loss": 2.2})
        made.add("serial, LAMB, batch x 4", seed, {"loss": lamb})
        made.add("step time", seed, {f"parallel per serial, batch x {growth}": ratio - growth for growth in (1, 4)})
    return made


def test_bars_by_hand():
    bars = megascale.bars(table(2.03, 2.05, 2.0))
    assert [bar.value for bar in bars] == pytest.approx([0.015, 0.025, 1.0])
    assert [bar.held for bar in bars] == [True, False, True]
    assert "+10.0%" in bars[1].text
    assert [bar.held for bar in megascale.bars(table(2.05, 1.9, 2.01))] == [False, True, False]
