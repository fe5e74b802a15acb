"""Runs, fits, and the table that they make."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import optim

from cotrain.errors import InputError
from cotrain.judge import accuracy
from cotrain.learner import Learner
from cotrain.methods.examples import labelled_rows, two_layer
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.run import Fit, MissingRow, Run, Table
from cotrain.stream import Once


def mutual(steps=20, **options):
    rows = labelled_rows()
    learners = {name: Learner(two_layer(seed=i), partial(optim.SGD, lr=0.3)) for i, name in enumerate(("one", "two"))}
    judges = [(accuracy(of=name, name=f"accuracy {name}"), Once(rows.data)) for name in learners]
    return Run(MutualLearning(), learners, {"labelled": rows}, steps, judges=judges, **options)


class TestRun:
    def test_it_measures_what_its_judges_say_at_the_end(self):
        numbers = mutual(steps=60).measure()
        assert set(numbers) == {"accuracy one", "accuracy two"}
        assert numbers["accuracy one"] > 0.9

    def test_without_judges_there_is_nothing_to_measure(self):
        learners = {name: Learner(two_layer(), partial(optim.SGD, lr=0.3)) for name in ("one", "two")}
        with pytest.raises(InputError, match="measured by its judges"):
            Run(MutualLearning(), learners, {"labelled": labelled_rows()}, 2).measure()

    @pytest.mark.parametrize("wrong", ["judge alone", "mapping", "pair alone", "turned round", "one of a pair", "none"])
    def test_judges_that_are_no_pairs_are_refused_before_the_first_step(self, wrong):
        run = mutual()
        judge, stream = run.judges[0]
        judges = {
            "judge alone": [judge],
            "mapping": {"one": (judge, stream)},
            "pair alone": (judge, stream),
            "turned round": [(stream, judge)],
            "one of a pair": [(judge,)],
            "none": None,
        }[wrong]
        with pytest.raises(InputError, match="judges takes pairs of a judge and the stream"):
            replace(run, judges=judges).fit()
        assert run.learners["one"].updates == 0

    def test_its_settings_reach_the_engine(self):
        run = mutual(steps=6, judge_every=2, log_every=3, microbatches=2, precision="bf16", seed=5)
        report = run.fit()
        assert [step for step, _ in report.column("accuracy one")] == [2, 4, 6]
        assert [step for step, _ in report.column("loss one")] == [3, 6]
        with pytest.raises(InputError, match="microbatches do not divide"):
            mutual(microbatches=3).fit()

    def test_a_measure_that_was_cut_off_goes_on(self, tmp_path):
        straight = mutual().measure()
        broken = mutual()
        broken.learners["one"].step = cut_after(11, broken.learners["one"].step)
        with pytest.raises(KeyboardInterrupt):
            broken.measure(tmp_path)
        assert max(p.name for p in (tmp_path / "checkpoints").iterdir()) == "step-000000010"
        assert mutual().measure(tmp_path) == straight

    def test_what_is_not_a_number_is_nan_when_it_is_read_again_too(self, tmp_path):
        def measured():
            run = mutual(steps=3)
            judges = [(lambda learners, stream: {"reward": float("nan")}, [])]
            return Run(run.method, run.learners, run.streams, run.steps, judges=judges).measure(tmp_path)

        table = Table()
        for seed in range(2):  # the second reads what the first wrote
            table.add("row", seed, measured())
        assert np.isnan(table.mean("row", "reward"))


def cut_after(calls, function):
    left = iter(range(calls))

    def cut():
        if next(left, None) is None:
            raise KeyboardInterrupt
        function()

    return cut


class Majority:
    """An estimator: the commonest of the labels that are not -1."""

    def fit(self, x, y):
        self.label = np.bincount(y[y >= 0]).argmax()
        return self

    def predict(self, x):
        return np.full(len(x), self.label)


def test_fit_measures_an_estimator_on_held_out_rows():
    metrics = {"share": lambda truth, guess: np.mean(truth == guess), "rows": lambda truth, guess: len(guess)}
    fit = Fit(
        Majority(), np.zeros((5, 1)), np.array([-1, 1, 1, 0, -1]), np.zeros((4, 1)), np.array([1, 1, 1, 0]), metrics
    )
    numbers = fit.measure()
    assert numbers == {"share": 0.75, "rows": 4.0}
    assert all(type(value) is float for value in numbers.values())


class TestTable:
    @pytest.fixture
    def table(self):
        table = Table()
        table.add("ours", 2, {"accuracy": 0.8, "seconds": 2.0})
        table.add("ours", 1, {"accuracy": 0.6})
        table.add("theirs", 1, {"accuracy": 0.5})
        return table

    def test_values_come_in_the_order_of_the_seeds(self, table):
        assert table.values("ours", "accuracy") == [0.6, 0.8]
        assert table.mean("ours", "accuracy") == pytest.approx(0.7)

    def test_what_was_not_run_is_missing_by_name(self, table):
        for row, metric in (("nobody's", "accuracy"), ("theirs", "seconds"), ("ours", "seconds")):
            with pytest.raises(MissingRow, match=f"row {row!r}, metric {metric!r}".replace("(", "")):
                table.values(row, metric)

    def test_columns_hold_none_where_a_seed_has_no_number(self, table):
        assert table.columns("ours") == {"accuracy": [0.6, 0.8], "seconds": [None, 2.0]}

    def test_summary(self, table):
        assert table.summary() == [
            {"row": "ours", "seeds": 2, "accuracy": "0.7 ± 0.14", "seconds": "2"},
            {"row": "theirs", "seeds": 1, "accuracy": "0.5"},
        ]


def test_a_run_takes_a_seed_for_its_noise():
    def last(seed):
        torch.manual_seed(0)
        learners = {
            "one": Learner(torch.nn.Sequential(torch.nn.Dropout(), two_layer()), partial(optim.SGD, lr=0.1)),
            "two": Learner(two_layer(seed=1), partial(optim.SGD, lr=0.1)),
        }
        return Run(MutualLearning(), learners, {"labelled": labelled_rows()}, 3, seed=seed).fit().last

    assert last(0) == last(0)
    assert last(0) != last(1)
