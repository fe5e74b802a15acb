"""Notes, their means, and rows on disk."""

import json
import math

import pytest
import torch

from cotrain.errors import InputError
from cotrain.report import Recorder, Report, listening, note


def test_notes_are_averaged_between_flushes():
    recorder = Recorder()
    with listening(recorder):
        note("a", torch.tensor(1.0))
        note("a", torch.tensor(2.0))
        note("b", 5)
    assert recorder.flush() == {"a": 1.5, "b": 5.0}
    assert recorder.flush() == {}


def test_nobody_listens_outside_a_run():
    note("a", torch.tensor(1.0))
    recorder = Recorder()
    with listening(recorder):
        pass
    note("a", 1.0)
    assert recorder.flush() == {}


def test_numbers_and_tensors_of_any_type_mix():
    recorder = Recorder()
    for value in (torch.tensor(1), torch.tensor(2.0, dtype=torch.bfloat16), torch.tensor([3.0]), 4, True):
        recorder.note("a", value)
    assert recorder.flush() == {"a": pytest.approx(11 / 5)}


def test_a_noted_tensor_may_be_changed_afterwards():
    recorder, memory = Recorder(), torch.tensor(1.0)
    recorder.note("a", memory)
    memory.add_(10)
    assert recorder.flush() == {"a": 1.0}


def test_a_noted_tensor_keeps_no_graph():
    recorder, weight = Recorder(), torch.tensor(1.0, requires_grad=True)
    recorder.note("a", weight * 2)
    assert not recorder._noted["a"][0].requires_grad


def test_a_vector_is_refused():
    with pytest.raises(InputError, match=r"note\('a'\) takes one number, not a tensor of shape \(2,\)"):
        Recorder().note("a", torch.zeros(2))


def test_what_was_noted_survives_a_checkpoint():
    straight, resumed = Recorder(), Recorder()
    straight.note("a", torch.tensor(0.1))
    straight.note("b", 0.2)
    resumed.load(json.loads(json.dumps(straight.state())))
    for recorder in (straight, resumed):
        recorder.note("a", torch.tensor(0.7))
    assert straight.flush() == resumed.flush()


class TestReport:
    def test_rows_are_written_as_they_come(self, tmp_path):
        report = Report(tmp_path / "deep" / "log.jsonl")
        report.add({"step": 1, "loss a": 0.5})
        report.add({"step": 2, "loss a": math.nan})
        lines = (tmp_path / "deep" / "log.jsonl").read_text().splitlines()
        assert json.loads(lines[0]) == {"step": 1, "loss a": 0.5}
        assert len(lines) == 2

    def test_a_resumed_run_drops_later_rows_and_broken_lines(self, tmp_path):
        file = tmp_path / "log.jsonl"
        file.write_text('{"step": 1, "a": 1.0}\n{"step": 3, "a": 3.0}\n{"step": 2, "a"')
        assert Report(file, upto=2).rows == [{"step": 1, "a": 1.0}]
        assert file.read_text() == '{"step": 1, "a": 1.0}\n'

    def test_what_is_not_finite_is_null_in_the_file_and_nan_again_when_it_is_read(self, tmp_path):
        file = tmp_path / "log.jsonl"
        Report(file).add({"step": 1, "a": math.nan, "b": 0.5})
        for _ in range(2):  # the file is written anew each time
            (row,) = Report(file, upto=1).rows
            assert math.isnan(row["a"])
            assert row["b"] == 0.5
            assert json.loads(file.read_text()) == {"step": 1, "a": None, "b": 0.5}

    def test_last_and_column(self):
        report = Report()
        for row in ({"step": 1, "a": 1.0, "b": 1.0}, {"step": 2, "a": 2.0}, {"step": 2, "accuracy": 0.5}):
            report.add(row)
        assert report.last == {"step": 2, "a": 2.0, "b": 1.0, "accuracy": 0.5}
        assert report.column("a") == [(1, 1.0), (2, 2.0)]
