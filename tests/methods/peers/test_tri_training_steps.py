"""Tri-training by hand and at its limits."""

import math

import pytest
import torch
from torch import nn

from cotrain.engine import prepare, update
from cotrain.errors import InputError
from cotrain.learner import Learner
from cotrain.methods.peers.tri_training import TriTraining
from cotrain.report import Recorder, listening


class Table(nn.Module):
    """Logits by row number: what each learner says about each example is written down."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows).log())

    def forward(self, x):
        return self.rows[x]


# What the three say of examples 0 to 3, as probabilities of two classes.
SAYS = {
    "one": [[0.5, 0.5], [0.9, 0.1], [0.2, 0.8], [0.3, 0.7]],
    "two": [[0.6, 0.4], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]],
    "three": [[0.7, 0.3], [0.3, 0.7], [0.6, 0.4], [0.1, 0.9]],
}


def batch():
    labelled = {name: {"x": torch.tensor([0]), "y": torch.tensor([0])} for name in SAYS}
    return {**labelled, "unlabelled": {"weak": torch.arange(1, 4)}}


def losses(**settings):
    learners = {name: Learner(Table(rows)) for name, rows in SAYS.items()}
    return {name: loss.item() for name, loss in TriTraining(**settings).step(learners, batch(), {}).items()}


def test_by_hand():
    # Labels on examples 1, 2, 3: one 0 1 1, two 0 0 1, three 1 0 1.
    # one is taught where two and three agree: 0 on example 2, 1 on 3; two: 1 on 3; three: 0 on 1, 1 on 3.
    taught = {
        "one": -math.log(0.2) - math.log(0.7),
        "two": -math.log(0.6),
        "three": -math.log(0.3) - math.log(0.9),
    }
    own = {"one": 0.5, "two": 0.6, "three": 0.7}
    for name, loss in losses(weight=0.5).items():
        # By U = 3, not by the number taught.
        assert loss == pytest.approx(-math.log(own[name]) + 0.5 * taught[name] / 3, rel=1e-5), name


def test_with_disagreement_only_what_a_learner_did_not_say_itself_is_taught():
    got = losses(disagreement=True)
    assert got["one"] == pytest.approx(-math.log(0.5) - math.log(0.2) / 3, rel=1e-5)
    assert got["two"] == pytest.approx(-math.log(0.6), rel=1e-5)
    assert got["three"] == pytest.approx(-math.log(0.7) - math.log(0.3) / 3, rel=1e-5)


def test_without_weight_it_is_supervised_training():
    assert losses(weight=0.0) == {
        name: pytest.approx(-math.log(p)) for name, p in (("one", 0.5), ("two", 0.6), ("three", 0.7))
    }


def test_the_teachers_get_no_gradient_from_what_they_teach():
    learners = {name: Learner(Table(rows), lambda p: torch.optim.SGD(p, lr=0.1)) for name, rows in SAYS.items()}
    prepare(learners)
    update(learners, {"one": TriTraining().step(learners, batch(), {})["one"]})
    assert learners["two"].net.rows.grad is None
    assert learners["three"].net.rows.grad is None


def test_the_shares_taught_are_noted():
    recorder = Recorder()
    with listening(recorder):
        losses()
    assert recorder.flush() == {
        "taught one": pytest.approx(2 / 3),
        "taught two": pytest.approx(1 / 3),
        "taught three": pytest.approx(2 / 3),
    }


def test_another_number_of_learners_is_refused():
    with pytest.raises(InputError, match="three learners, not 2: one, two"):
        TriTraining().step({name: Learner(Table(SAYS[name])) for name in ("one", "two")}, batch(), {})
