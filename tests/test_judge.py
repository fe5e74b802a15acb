"""Judges look and change nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from cotrain.errors import InputError
from cotrain.judge import accuracy, evaluating, judged
from cotrain.learner import Learner
from cotrain.stream import Once

CPU = torch.device("cpu")


def rows():
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    return Once({"x": logits, "y": torch.tensor([0, 0, 0])}, batch=2)


def test_accuracy_by_hand():
    numbers = judged({"model": Learner(nn.Identity())}, [(accuracy(of="model"), rows())], CPU)
    assert numbers == {"accuracy": pytest.approx(2 / 3)}


def test_judges_are_joined_and_streams_read_again():
    learners = {"one": Learner(nn.Identity()), "two": Learner(nn.Identity())}
    judges = [(accuracy(of="one", name="one"), rows()), (accuracy(of="two", name="two"), rows())]
    assert judged(learners, judges, CPU) == judged(learners, judges, CPU)


def test_no_number_takes_the_place_of_another():
    learners = {"one": Learner(nn.Identity()), "two": Learner(nn.Identity())}
    with pytest.raises(InputError, match="'accuracy', which is another judge's number"):
        judged(learners, [(accuracy(of="one"), rows()), (accuracy(of="two"), rows())], CPU)
    with pytest.raises(InputError, match="'step', which is the row's own number"):
        judged(learners, [(accuracy(of="one", name="step"), rows())], CPU)


def test_nets_are_judged_in_evaluation_mode_without_gradient_and_put_back():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.BatchNorm1d(2).eval())
    seen = []

    def spy(learners, stream):
        seen.append((net.training, net[1].training, torch.is_grad_enabled()))
        return {}

    judged({"model": Learner(net)}, [(spy, rows())], CPU)
    assert seen == [(False, False, False)]
    assert (net.training, net[1].training, net[2].training) == (True, True, False)


def test_modes_are_put_back_after_an_error():
    net = nn.Dropout()
    with pytest.raises(RuntimeError), evaluating({"model": Learner(net)}):
        raise RuntimeError
    assert net.training


@pytest.mark.parametrize("value", [torch.tensor([0.5]), np.float32(0.5), np.float64(0.5), 0.5])
def test_numbers_of_any_kind_become_pythons(value):
    (number,) = judged({}, [(lambda learners, stream: {"half": value}, [])], CPU).values()
    assert type(number) is float
    assert number == 0.5


@pytest.mark.parametrize("value", [None, torch.ones(2), np.ones(2), "good"])
def test_what_is_no_number_is_named(value):
    with pytest.raises(InputError, match=r"A judge gave 'half' as .*; it gives numbers by name"):
        judged({}, [(lambda learners, stream: {"half": value}, [])], CPU)


def test_a_learner_that_is_not_there_is_named():
    with pytest.raises(InputError, match="A judge needs a learner named 'modle'; given: 'model'"):
        judged({"model": Learner(nn.Identity())}, [(accuracy(of="modle"), rows())], CPU)


def test_a_stream_that_is_used_up_is_named():
    used_up = iter(list(rows()))
    judges = [(accuracy(of="model"), used_up)]
    learners = {"model": Learner(nn.Identity())}
    judged(learners, judges, CPU)
    with pytest.raises(InputError, match="gave no batch"):
        judged(learners, judges, CPU)
