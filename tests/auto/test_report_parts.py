"""Tests of the parts of a report, by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from cotrain.auto.report_parts import confusion, score_test, slices, suspicious


def test_confusion_has_the_truth_by_row():
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.95, 0.05]])
    assert confusion(said, np.array([0, 0, 0, 1]), 2) == [[1, 2], [1, 0]]


def test_the_score_by_length_and_by_group():
    right = np.r_[np.ones(30), np.zeros(20), np.nan]
    frame = pd.DataFrame({"t": ["x" * n for n in range(1, 52)], "who": ["a"] * 22 + ["b"] * 29})
    columns = SimpleNamespace(text=("t",), group=("who",))
    problem = SimpleNamespace(columns=columns, frame=frame, labelled=np.arange(51))
    board, choice = SimpleNamespace(right=lambda members: right), SimpleNamespace(members=[0])
    assert slices(problem, board, choice) == [
        {"name": "t: up to 26 characters", "rows": 26, "accuracy": 1.0},
        {"name": "t: longer", "rows": 24, "accuracy": 4 / 24},
        {"name": "who = a", "rows": 22, "accuracy": 1.0},
        {"name": "who = b", "rows": 28, "accuracy": 8 / 28},
    ]


def test_only_labels_that_are_very_unlikely_are_suspicious():
    first, second = [0.1, 0.25, 0.15, 0.9, 0.19, 0.05], [0.9, 0.75, 0.6, 0.1, 0.71, 0.95]
    said = np.column_stack([first, second, 1 - np.add(first, second)])
    names = ("number", "category", "numbers", "categories", "image", "audio")
    problem = SimpleNamespace(
        labelled=np.arange(6),
        y=np.zeros(6, int),
        rows=np.arange(6) * 10,
        source=SimpleNamespace(row_label=str),
        frame=pd.DataFrame({"t": list("abcdef")}),
        columns=SimpleNamespace(text=("t",), **dict.fromkeys(names, ())),
    )
    found = suspicious(problem, said, np.ones(6, bool), ["x", "y", "z"])
    assert [(each["row"], each["rather"], each["probability"]) for each in found] == [
        (51, "y", 0.05),
        (1, "y", 0.1),
        (41, "y", 0.19),
    ]
    assert len(suspicious(problem, said, np.ones(6, bool), ["x", "y", "z"], most=1)) == 1


def test_a_class_that_is_never_predicted_on_the_test_rows_is_named():
    who = SimpleNamespace(probabilities=lambda *_: np.array([[0.9, 0.1], [0.8, 0.2]]), classes=["a", "b"])
    test = SimpleNamespace(repeated=0, y=np.array([0, 1]), frame=None, folder=None)
    warnings: list[str] = []
    assert score_test(test, who, who, who, "accuracy", warnings)["chosen"] == 0.5
    assert warnings == ["Never predicted on the test rows: b."]
