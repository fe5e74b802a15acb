import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import _record


def test_a_record_says_with_what_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(_record, "ROOT", tmp_path)
    assert _record.read("made") == {}
    assert _record.write("made", {"seeds": [0], "commit": "abc"}) == Path("results/benchmarks/made.json")
    found = _record.read("made")
    assert list(found) == ["version", "commit", "machine", "seeds"]
    assert found["commit"] == "abc"  # of the runs, if they say it
    assert found["machine"]["torch"] == torch.__version__
