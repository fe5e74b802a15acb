import dataclasses
from functools import partial

import pytest
import torch
from torch import nn, optim

from cotrain import engine
from cotrain.errors import InputError
from cotrain.learner import Follower
from cotrain.methods.examples import two_layer
from cotrain.methods.semi.comparison import FACTOR, LEVELS, NAMES, PUBLISHED, ROWS, Task, judged_learner, method_of
from cotrain.methods.semi.fixmatch import FixMatch
from cotrain.methods.semi.supervised import Supervised
from cotrain.nets.headed import Headed
from cotrain.views.copies import jitter


def net():
    return Headed(two_layer(outputs=6), nn.Linear(6, 3))


def turn(x, draws):
    turn_B = draws.integer(0, 4)
    return x * turn_B[:, None], turn_B


def task(**changes):
    rows = torch.Generator().manual_seed(0)
    settings = {
        "x": torch.randn(9, 4, generator=rows),
        "y": torch.arange(9) % 3,
        "unlabelled": torch.randn(20, 4, generator=rows),
        "net": net,
        "optimizer": partial(optim.SGD, lr=0.1),
        "weak": jitter(0.1),
        "strong": jitter(0.5),
        "turn": turn,
        "batch": 4,
        "batch_unlabelled": 5,
        "decay": 0.9,
    }
    return Task(**{**settings, **changes})


def weights(learners):
    return {name: [w.clone() for w in learner.net.parameters()] for name, learner in learners.items()}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_of_the_table_trains(row):
    method = method_of(**{"name" if key == "method" else key: value for key, value in ROWS[row].items()}, ramp=2)
    assert bool(method.mixup) == ROWS[row]["mixup"]
    problem = task()
    parts = problem.parts(method, 0, problem.x, problem.y)
    report = engine.fit(method, steps=3, device="cpu", **parts)
    assert all(value == value for value in report.last.values())
    net = parts["learners"][judged_learner(method)].net.eval()
    assert report.last["accuracy"] == pytest.approx((net(problem.x).argmax(-1) == problem.y).float().mean().item())


@pytest.mark.parametrize("name", NAMES)
def test_unlabelled_rows_have_the_copies_that_are_read_and_no_others(name):
    method = method_of(name)
    streams = task().streams(method, 0)
    read = {
        "supervised": None,
        "mean teacher": {"weak", "weak2"},
        "deep co-training": {"weak"},
        "mixmatch": {"weak", "weak2"},
        "remixmatch": {"weak", "strong", "turned", "turn"},
        "fixmatch": {"weak", "strong"},
    }[name]
    assert ("unlabelled" in streams) == (read is not None)
    if read:
        assert set(next(streams["unlabelled"])) == read
    assert ("labelled_two" in streams) == (name == "deep co-training")


def test_the_grid_has_three_points_that_differ():
    for name in NAMES:
        points = {method_of(name, level=level) for level in LEVELS}
        # The net alone is tuned by its augmentation, which the recipe chooses.
        assert len(points) == (1 if name == "supervised" else 3)
    assert method_of("mixmatch", level="high").weight == FACTOR["high"] * method_of("mixmatch").weight
    assert method_of("fixmatch", level="low").threshold == 0.95
    assert method_of("remixmatch", level="high").weight_turn == pytest.approx(1.5)
    assert method_of("deep co-training").detach_target


def test_published_rows_are_in_the_table():
    assert set(PUBLISHED.values()) <= set(ROWS)
    assert PUBLISHED["mixmatch"] == "mixmatch + mixup"
    assert PUBLISHED["fixmatch"] == "fixmatch"


def test_all_methods_start_from_the_same_weights_and_seeds_differ():
    one, other = (weights(task().learners(method_of(name), 7))["model"] for name in ("supervised", "fixmatch"))
    assert all(torch.equal(a, b) for a, b in zip(one, other))
    two_nets = weights(
        task(net=lambda: Headed(nn.Linear(4, 6), nn.Linear(6, 3))).learners(method_of("deep co-training"), 7)
    )
    assert not torch.equal(two_nets["one"][0], two_nets["two"][0])


def test_first_weights_leave_the_generator_as_it_was():
    torch.default_generator.manual_seed(3)
    expected = torch.rand(1)
    torch.default_generator.manual_seed(3)
    task().learners(method_of("fixmatch"), 0)
    assert torch.equal(torch.rand(1), expected)


def test_labelled_rows_are_augmented_as_each_paper_has_it():
    def marked(value):
        return lambda x, draws: torch.full_like(x, value)

    problem = task(weak=marked(1.0), strong=marked(2.0))
    seen = {name: next(problem.streams(method_of(name), 0)["labelled"])["x"].unique().item() for name in NAMES}
    assert seen == {name: 2.0 if name == "remixmatch" else 1.0 for name in NAMES}
    own = dataclasses.replace(problem, labelled=marked(3.0))
    assert next(own.streams(Supervised(), 0)["labelled"])["x"].unique().item() == 3.0


def test_the_teacher_follows_with_the_task_s_decay():
    learners = task(decay=0.7).learners(method_of("mean teacher"), 0)
    assert isinstance(learners["teacher"], Follower)
    assert learners["teacher"].decay == 0.7
    assert judged_learner(method_of("mean teacher")) == "teacher"
    assert judged_learner(FixMatch()) == "model"


def test_a_task_without_labels_needs_features_and_a_turn():
    method = method_of("remixmatch")
    with pytest.raises(InputError, match="Headed"):
        task(net=two_layer).learners(method, 0)
    with pytest.raises(InputError, match="needs a turn"):
        task(turn=None).streams(method, 0)
    without = method_of("remixmatch", turn=False)
    assert set(task(net=two_layer).learners(without, 0)) == {"model"}
    assert set(next(task(turn=None).streams(without, 0)["unlabelled"])) == {"weak", "strong"}
