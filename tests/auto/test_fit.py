import json
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cotrain.auto import evidence, steady
from cotrain.auto import fit as module
from cotrain.auto.candidates import Candidate
from cotrain.auto.curve import NO_TIME
from cotrain.auto.fit import fit
from cotrain.auto.model import Model
from cotrain.auto.problem import load
from cotrain.auto.report_parts import score
from cotrain.auto.result import Result
from cotrain.auto.search import seconds
from cotrain.auto.student import Student
from cotrain.auto.views import Views
from cotrain.errors import InputError
from cotrain.views.table import ScaledView
from cotrain.views.view import View

FAST = {"encoder": "none", "jobs": 1}
CONTRACT = {
    "version": str,
    "command": str,
    "seed": int,
    "seconds": float,
    "rows": {"labelled": int, "unlabelled": int, "test": int},
    "classes": [str],
    "metric": str,
    "supervised": {"estimate": float, "low": float, "high": float},
    "chosen": {"name": str, "members": [str], "estimate": float, "low": float, "high": float},
    "p_helped": float,
    "used_unlabelled": bool,
    "prior": {},
    "candidates": [
        {
            "name": str,
            "estimate": float,
            "low": float,
            "high": float,
            "seconds": float,
            "accepted": bool,
            "reason": str,
        }
    ],
    "student": {
        "kind": str,
        "bytes": int,
        "parameters": int,
        "agreement": float,
        "estimate": float,
        "rows_per_second": float,
    },
    "test": {"metric": str, "supervised": float, "chosen": float, "student": float},
    "warnings": [str],
}


def assert_shape(value, shape):
    if isinstance(shape, dict):
        assert set(shape) <= set(value)
        for key, part in shape.items():
            assert_shape(value[key], part)
    elif isinstance(shape, list):
        assert isinstance(value, list)
        for item in value:
            assert_shape(item, shape[0])
    else:
        assert isinstance(value, shape), (value, shape)


@pytest.fixture(scope="module")
def done(reviews) -> Result:
    """A fit with everything that there is for text, and a test table."""
    test = reviews(rows=100, labelled=100, seed=3)
    return fit(reviews(rows=120), target="label", test=test, **FAST)


AMPLE = {"budget": "1h"}  # where two fits are compared, neither may end for want of time on a busy machine


@pytest.fixture(scope="module")
def quick(reviews) -> Result:
    return fit(reviews(rows=120), target="label", method="naive-bayes,emnb", **FAST, **AMPLE)


# What comes out


def test_the_report_holds_what_was_agreed(done, tmp_path):
    done.save(tmp_path)
    values = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert_shape(values, CONTRACT)
    assert values["rows"] == {"labelled": 16, "unlabelled": 104, "test": 100}
    assert values["classes"] == ["bad", "good"]
    assert values["metric"] == values["test"]["metric"] == "accuracy"
    assert set(values["prior"]["shares"]) == {"bad", "good"}
    assert sum(values["prior"]["shares"].values()) == pytest.approx(1)
    for part in (values["supervised"], values["chosen"]):
        assert 0 <= part["low"] <= part["estimate"] <= part["high"] <= 1
    assert len(values["candidates"]) == 15
    assert {row["name"] for row in values["candidates"] if row["member"]} == set(values["chosen"]["members"])
    assert sum(sum(row) for row in values["confusion"]) == 16


def test_the_model_the_student_and_the_test_scores_are_as_reported(done, reviews):
    test = reviews(rows=100, labelled=100, seed=3)
    for name, who in (("chosen", done.model), ("student", done.student)):
        assert (who.predict(test) == test["label"]).mean() == pytest.approx(done.report["test"][name])
    assert done.report["test"]["chosen"] > 0.9
    assert done.report["test"]["student"] > 0.9


def test_the_result_is_saved_whole_and_loads_again(done, reviews, tmp_path):
    done.save(tmp_path / "deep" / "folder")
    folder = tmp_path / "deep" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["model", "report.html", "report.json", "student"]
    table = reviews(seed=9)
    np.testing.assert_array_equal(Model.load(folder / "model").predict_proba(table), done.model.predict_proba(table))
    np.testing.assert_array_equal(
        Student.load(folder / "student").predict_proba(table), done.student.predict_proba(table)
    )
    assert done.folder == folder


def test_a_second_fit_leaves_nothing_of_the_first(done, quick, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    done.save(tmp_path)
    shutil.copy(tmp_path / "model" / "member0.skops", tmp_path / "model" / "member9.skops")
    quick.save(tmp_path)
    assert not (tmp_path / "model" / "member9.skops").exists()
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert [m.name for m in Model.load(tmp_path / "model").members] == quick.report["chosen"]["members"]
    assert not list(tmp_path.glob(".*"))


def test_the_rows_to_label_next_have_no_label(done, reviews):
    rows = [entry["row"] for entry in done.report["label_next"]]
    assert len(rows) == len(set(rows)) == 20
    assert min(rows) > 16
    table = reviews(rows=120)
    assert all(table["review"][entry["row"] - 1] == entry["shown"] for entry in done.report["label_next"])


def test_a_curve_and_how_steady_it_is_are_told(quick):
    curve, found = quick.report["curve"], quick.report["steady"]
    assert quick.report["skipped"] == {}
    assert [point["labels"] for point in curve["points"]] == [4, 9, 13]
    assert curve["gain_low"] <= curve["gain"] <= curve["gain_high"]
    assert (found["rows"], found["times"]) == (104, 5)
    assert 0 <= found["flipped"] < 0.5
    assert not quick.report["shift"]["apart"]


def test_what_there_is_no_time_for_is_skipped_with_a_reason(reviews):
    result = fit(reviews(rows=120), target="label", method="naive-bayes,emnb", budget="0.001s", **FAST)
    assert (result.report["curve"], result.report["steady"]) == (None, None)
    assert result.report["skipped"] == dict.fromkeys(("curve", "steady"), NO_TIME)
    without = fit(reviews(rows=16), target="label", method="naive-bayes", **FAST)
    assert without.report["skipped"]["steady"] == "there are no unlabelled rows"


def test_a_result_that_hangs_on_single_labels_is_warned_of(monkeypatch, reviews):
    monkeypatch.setattr(steady, "FLIPPING", -1.0)
    result = fit(reviews(rows=120), target="label", method="naive-bayes", **FAST, **AMPLE)
    assert any("depends on single labels" in text for text in result.report["warnings"])


def test_a_planted_wrong_label_is_found(reviews):
    table = reviews(rows=160, labelled=140)
    table.loc[7, "label"] = "bad" if table.loc[7, "label"] == "good" else "good"
    result = fit(table, target="label", method="naive-bayes", **FAST)
    first = result.report["suspicious"][0]
    assert (first["row"], first["label"], first["shown"]) == (8, table.loc[7, "label"], table.loc[7, "review"])
    assert first["where"] == "row 8"


# Exact checks


def same_report(one: Result, other: Result) -> None:
    def timeless(values):
        if isinstance(values, dict):
            return {k: timeless(v) for k, v in values.items() if k not in ("seconds", "rows_per_second")}
        return [timeless(v) for v in values] if isinstance(values, list) else values

    assert timeless(one.report.values) == timeless(other.report.values)


def test_what_texts_and_numbers_tell_is_put_together(reviews, tmp_path):
    """Four classes; the words tell two from two, the number the others, so that each sort of columns alone is right
    half of the time."""
    rng = np.random.default_rng(0)
    table = reviews(rows=320, labelled=320)
    large = rng.random(320) < 0.5
    table["weight"] = rng.normal(np.where(large, 2.0, -2.0))
    truth = table["label"] + np.where(large, ", large", ", small")
    table["label"] = truth.where(np.arange(320) < 40, None)
    result = fit(table, target="label", method="logistic,emnb", encoder="none", jobs=1, out=tmp_path)
    parts = result.report["chosen"]["parts"]
    assert set(parts) == {"texts", "numbers and categories"}
    assert sorted(chain(*parts.values())) == sorted(result.report["chosen"]["members"])
    rest = np.arange(320) >= 40
    assert (result.model.predict(table[rest]) == truth[rest]).mean() > 0.9
    assert (result.student.predict(table[rest]) == truth[rest]).mean() > 0.9
    page = (tmp_path / "report.html").read_text()
    assert "What 2 sorts of columns say is multiplied" in page
    assert "<strong>texts</strong>" in page
    np.testing.assert_array_equal(Model.load(tmp_path / "model").predict(table), result.model.predict(table))


def test_columns_that_make_a_curve_are_told_by_its_shapes():
    """A hill or a ramp somewhere along the row: no column alone, and no sum of them, tells which."""
    rng = np.random.default_rng(0)
    curves = 0.15 * rng.normal(size=(240, 40)).cumsum(1)
    truth = np.where(rng.random(240) < 0.5, "hill", "ramp")
    for curve, place, what in zip(curves, rng.integers(0, 30, 240), truth):
        curve[place : place + 10] += 3 * (np.sin(np.arange(10) / 10 * np.pi) if what == "hill" else np.arange(10) / 10)
    table = pd.DataFrame(curves).add_prefix("t").assign(label=pd.Series(truth).where(np.arange(240) < 30, None))
    result = fit(table, target="label", method="logistic", **FAST)
    assert "Columns 't0' to 't39' are read as a curve too." in result.report["warnings"]
    assert all("curves" in member for member in result.report["chosen"]["members"])
    for model in (result.model, result.student):
        assert (model.predict(table[30:]) == truth[30:]).mean() > 0.9


def test_columns_that_are_pixels_are_seen_as_pictures(hasty):
    """A bar somewhere, lying or standing; the corners are always black, so that their columns are left out."""
    rng = np.random.default_rng(0)
    pictures = 0.1 * rng.random((240, 12, 12))
    truth = np.where(rng.random(240) < 0.5, "lies", "stands")
    for picture, (y, x), what in zip(pictures, rng.integers(1, 5, (240, 2)), truth):
        where = (slice(y, y + 3), slice(x, x + 6)) if what == "lies" else (slice(y, y + 6), slice(x, x + 3))
        picture[where] += 1
    pictures[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 0
    table = pd.DataFrame(pictures.reshape(240, -1)).add_prefix("pixel")
    table["label"] = pd.Series(truth).where(np.arange(240) < 20, None)
    result = fit(table, target="label", method="logistic", **FAST)
    assert "Columns 'pixel1' to 'pixel142' are seen as pictures of 12 by 12 pixels too." in result.report["warnings"]
    assert any("edges of columns" in candidate["name"] for candidate in result.report["candidates"])
    assert (result.model.predict(table[20:]) == truth[20:]).mean() > 0.95


def test_the_same_seed_gives_the_same_report_and_another_does_not(quick, reviews):
    again = fit(reviews(rows=120), target="label", method="naive-bayes,emnb", **FAST, **AMPLE)
    same_report(quick, again)
    np.testing.assert_array_equal(
        quick.model.predict_proba(reviews(seed=1)), again.model.predict_proba(reviews(seed=1))
    )
    other = fit(reviews(rows=120), target="label", method="naive-bayes,emnb", seed=1, **FAST)
    assert other.report["candidates"] != quick.report["candidates"]


@pytest.mark.parametrize("kind", ["texts", "numbers"])
def test_the_order_of_rows_and_columns_changes_nothing(hasty, reviews, measures, kind):
    table = reviews(rows=120) if kind == "texts" else measures(rows=120)
    if kind == "texts":  # rows that differ in spelling only: their place must not matter either
        table.loc[[100, 101], "review"] = ["The film was fine, lovely!", "the film was FINE lovely"]
    target = "label" if kind == "texts" else "kind"
    method = "naive-bayes,emnb" if kind == "texts" else "logistic,graph"
    order = np.random.default_rng(0).permutation(len(table))
    shuffled = table.iloc[order].reset_index(drop=True)
    one = fit(table, target=target, method=method, **FAST)
    other = fit(shuffled, target=target, method=method, **FAST)
    for key in ("chosen", "supervised", "prior", "calibration", "confusion", "p_helped", "coverage"):
        assert one.report[key] == other.report[key], key
    for rows in zip(one.report["candidates"], other.report["candidates"], strict=True):
        assert rows[0] | {"seconds": 0} == rows[1] | {"seconds": 0}
    for a, b in ((one.model, other.model), (one.student, other.student)):
        np.testing.assert_array_equal(a.predict_proba(table), b.predict_proba(table))
        # Matrix products round a row by its place in a block, on some processors.
        np.testing.assert_allclose(a.predict_proba(table)[order], b.predict_proba(shuffled), rtol=0, atol=1e-6)
    said = [[order[e["row"] - 1] + 1 if shuffle else e["row"] for e in r.report["label_next"]]
            for r, shuffle in ((one, False), (other, True))]  # fmt: skip
    assert said[0] == said[1]


def test_without_unlabelled_rows_it_is_the_supervised_pipeline_bit_for_bit(reviews):
    table = reviews(rows=40, labelled=40)
    one = fit(table, target="label", **FAST)
    other = fit(table, target="label", method="supervised", **FAST)
    assert one.report["chosen"]["members"] == other.report["chosen"]["members"]
    assert not one.report["used_unlabelled"]
    assert one.report["p_helped"] == 0
    assert one.report["chosen"]["estimate"] == one.report["supervised"]["estimate"]
    assert not any(row["unlabelled"] for row in one.report["candidates"])
    fresh = reviews(rows=50, seed=4)
    np.testing.assert_array_equal(one.model.predict_proba(fresh), other.model.predict_proba(fresh))
    np.testing.assert_array_equal(one.student.predict_proba(fresh), other.student.predict_proba(fresh))


class SpyView(View):
    """The number of each row's `size`, which no other row has."""

    fits: list[set[float]] = []  # noqa: RUF012

    def extract(self, frame):
        return frame["size"].to_numpy(dtype=np.float64)[:, None]

    def fit(self, raw):
        SpyView.fits.append(set(raw[:, 0]))
        self.learned = {"me": np.array(len(SpyView.fits) - 1)}
        return self

    def transform(self, raw):
        return np.hstack([raw, np.full((len(raw), 1), float(self.learned["me"]))])


@pytest.mark.parametrize("group", [(), ("speaker",)])
@pytest.mark.parametrize("rows", [90, 300])
def test_held_out_rows_reach_no_fit_from_end_to_end(hasty, monkeypatch, measures, group, rows):
    """The whole of `fit`, with a view and learners that remember what they saw."""
    table = measures(rows=rows, labelled=20)
    table["speaker"] = [f"s{row // 4}" for row in range(rows)]
    speaker = dict(zip(table["size"], table["speaker"], strict=True))
    labelled = set(table["size"][:20])
    asked: list[int] = []

    class SpyLearner:
        def fit(self, x, y):
            self.seen, self.view = set(x[:, 0]), SpyView.fits[int(x[0, 1])]
            self.classes_ = np.unique(y[y >= 0])
            return self

        def predict_proba(self, x):
            held = set(x[:, 0]) & labelled
            if held and len(held) < 20:  # asked in a fold, not by the finished model
                asked.append(len(held))
                assert not held & self.seen
                assert not held & self.view
                if group:
                    speakers = {speaker[size] for size in held}
                    assert not speakers & {speaker[size] for size in self.seen | self.view}
            return np.full((len(x), 2), 0.5)

    views = {"spy": SpyView(("size",)), "table": ScaledView(("size",))}
    spies = [Candidate(n, ("spy",), n == "all", lambda _: SpyLearner(), n) for n in ("labels", "all")]
    monkeypatch.setattr(module, "find_views", lambda *_: Views(views, dense=("spy",)))
    monkeypatch.setattr(evidence, "candidates", lambda *_: spies)
    monkeypatch.setattr(module, "speed", lambda *_: 1.0)  # it asks the finished model for the first rows
    fit(table, target="kind", group=group, drop=() if group else "speaker", **FAST)
    # Two learners, each labelled row in each of four repeats; five speakers make five folds, whatever the draw. Then
    # the one on labels, taught by the committee, in one repeat; and both (they are equal) for the curve, with a third
    # and with two thirds of the labels, in one repeat.
    assert sum(asked) == 2 * 20 * (1 if group else 4) + 20 + 2 * 2 * 20


# What is asked for


def test_groups_stay_on_one_side(hasty):
    """Numbers that tell the speaker, and speakers that tell the class: only folds by speaker see through that."""
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(8), 10)
    angle = 2 * np.pi * speakers / 8
    place = 20 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(size=(80, 2))
    table = pd.DataFrame(place, columns=["a", "b"]).assign(
        speaker=[f"s{s}" for s in speakers], kind=np.where(speakers % 2, "x", "y")
    )
    apart = fit(table, target="kind", group="speaker", method="kernel", **FAST)
    together = fit(table, target="kind", drop="speaker", method="kernel", **FAST)
    assert together.report["chosen"]["estimate"] > 0.95
    assert apart.report["chosen"]["estimate"] < 0.6
    assert [part["name"] for part in apart.report["slices"]] == []  # no group has 20 labelled rows


def test_classes_of_which_nothing_was_held_out_are_named_in_one_sentence_with_the_reason():
    rng = np.random.default_rng(0)
    kind = np.repeat(list("abcdefgh"), 8)
    table = pd.DataFrame(rng.normal(size=(64, 2)) + np.arange(64)[:, None] % 8, columns=["x", "y"])
    table["kind"], table["site"] = kind, [f"{k}{i % 8 if k < 'c' else 0}" for i, k in enumerate(kind)]
    problem = load(table, target="kind", group="site")
    places = {name: code for code, name in enumerate(problem.audit.classes)}
    (one,) = module.unjudged(problem, np.array([places["a"], places["b"]]))
    names = "'c', 'd', 'e', 'f', 'g' and 1 more"
    assert one == (
        f"The labelled rows of each of the classes {names} are all of one group or copies of each other, so none can "
        "be held out: the estimates say nothing of them."
    )
    _, other = module.unjudged(problem, np.array([places["a"]]))  # the time had ended before the turn of b
    assert other == (
        "No labelled row of class 'b' was among those that were held out: the estimates say nothing of them."
    )


def test_a_prior_that_is_given_is_used_and_printed(reviews):
    table = reviews(rows=120)
    skewed = fit(table, target="label", method="naive-bayes", prior="bad:0.9,good:0.1", **FAST)
    even = fit(table, target="label", method="naive-bayes", prior="uniform", metric="accuracy", **FAST)
    assert skewed.report["prior"]["shares"] == {"bad": pytest.approx(0.9), "good": pytest.approx(0.1)}
    assert skewed.report["metric"] == "balanced accuracy"  # a class is rare
    assert any("--metric accuracy makes them" in warning for warning in skewed.report["warnings"])
    assert even.report["prior"]["source"] == "equal shares, as asked"
    accuracy = fit(table, target="label", method="naive-bayes", prior="bad:0.9,good:0.1", metric="accuracy", **FAST)
    assert not any("--metric accuracy" in warning for warning in accuracy.report["warnings"])
    fresh = reviews(seed=8)
    odds = [np.log(r.model.predict_proba(fresh)) @ [1, -1] for r in (accuracy, even)]
    assert accuracy.model.members[0].temperature == even.model.members[0].temperature
    np.testing.assert_allclose(odds[0] - odds[1], np.log(9), rtol=1e-6)


@pytest.mark.slow
def test_the_score_to_expect_is_for_the_shares_of_the_rows_to_come():
    """As many labels of each class, but nine of ten rows are of one."""
    rng = np.random.default_rng(0)

    def rows(count, share):
        kind = rng.random(count) < share
        return pd.DataFrame(
            {"a": rng.normal(kind * 1.0), "b": rng.normal(size=count), "kind": np.where(kind, "x", "y")}
        )

    labels = pd.concat([rows(60, 1.0), rows(60, 0.0)])
    table, test = pd.concat([labels, rows(600, 0.9).assign(kind=None)]), rows(5_000, 0.9)
    given = fit(table, target="kind", prior="x:0.9,y:0.1", metric="accuracy", test=test, budget="20s", **FAST).report
    assert given["test"]["chosen"] > 0.85
    for name in ("supervised", "chosen"):
        assert given[name]["estimate"] == pytest.approx(given["test"][name], abs=0.05)
        assert given[name]["low"] < given["test"][name] < given[name]["high"]
    assert given["calibration"]["ece"] < 0.1


@pytest.mark.slow
def test_the_student_of_labels_alone_is_held_against_the_result_and_not_against_the_labels():
    """A quarter of the labels is wrong: what both have learnt agrees far more often than the labels with either."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    kind = np.where((x[:, 0] > 0) ^ (rng.random(200) < 0.25), "a", "b")
    table = pd.DataFrame(x, columns=list("pqrs")).assign(kind=kind)
    report = fit(table, target="kind", budget="20s", **FAST).report
    assert report["student"]["agreement"] > 0.8
    assert report["student"]["estimate"] > report["chosen"]["estimate"] - 0.1


def test_a_student_that_cannot_be_checked_has_no_estimate(measures):
    table = measures(rows=4, labelled=4)
    report = fit(table, target="kind", method="logistic", **FAST).report
    assert (report["student"]["agreement"], report["student"]["estimate"]) == (None, None)


def test_a_rare_class_makes_every_class_count_the_same(reviews):
    table = reviews(rows=200, labelled=60)
    bad = np.flatnonzero(table["label"] == "bad")
    table = table.drop(index=bad[6:]).reset_index(drop=True)
    result = fit(table, target="label", method="naive-bayes", prior="label", **FAST)
    assert result.report["metric"] == "balanced accuracy"
    np.testing.assert_allclose(result.model.shares, 0.5)


@pytest.mark.parametrize("metric", ["accuracy", "balanced accuracy"])
def test_the_student_counts_rows_as_the_metric_does(monkeypatch, reviews, metric):
    from cotrain.auto import teach

    given = []

    def noted(*args, **more):
        given.append(more.get("weight_N", args[-1]))
        return distil(*args, **more)

    distil = teach.distil
    monkeypatch.setattr(teach, "distil", noted)
    table = reviews(rows=200, labelled=60)
    bad = np.flatnonzero(table["label"] == "bad")
    table = table.drop(index=bad[20:]).reset_index(drop=True)
    fit(table, target="label", method="naive-bayes", prior="label", metric=metric, **FAST)
    for weight in given:
        if metric == "accuracy":
            assert weight is None
        else:
            assert weight.mean() == pytest.approx(1, abs=0.3)
            assert weight.max() > 1.3 * weight.min()


@pytest.mark.slow
def test_a_method_is_taken_as_asked(reviews):
    for method, names in (
        ("emnb", {"EM naive Bayes, words", "EM naive Bayes, words counted", "EM naive Bayes, characters"}),
        ("naive-bayes", {"naive Bayes, words"}),
        ("cotraining", {"co-training, words and characters"}),
    ):
        result = fit(reviews(rows=100), target="label", method=method, **FAST)
        assert set(result.report["chosen"]["members"]) <= names
        supervised = [row for row in result.report["candidates"] if not row["unlabelled"]]
        assert len(supervised) == (1 if method == "naive-bayes" else 7)
        assert result.report["used_unlabelled"] == (method != "naive-bayes")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "magic"}, "There is no method 'magic' for this table; there are supervised"),
        ({"method": "kernel"}, "There is no method 'kernel'"),  # not for text
        ({"prior": "bad:0.5"}, "the classes are bad, good"),
        ({"metric": "f1"}, "--metric is auto, accuracy or balanced accuracy; not 'f1'"),
        ({"budget": "soon"}, "--budget takes a time such as 90s, 3m or 1h; not 'soon'"),
        ({"budget": "-3m"}, "--budget takes a time"),
        ({"seed": -1}, "--seed is a whole number, 0 or more; not -1"),
        ({"jobs": 0}, "--jobs is a number of threads, 1 or more; not 0"),
        ({"coverage": 1.0}, "--coverage is a share between 0 and 1"),
        ({"coverage": 0}, "--coverage is a share between 0 and 1"),
        ({"target": "lable"}, "There is no column 'lable'. Did you mean 'label'"),
        ({"target": None}, "Name the column of the labels: --target COL"),
        ({"drop": "review"}, "No column is left to learn 'label' from"),
        ({"text": "label"}, "given as target and as text"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_tried(monkeypatch, reviews, settings, words):
    monkeypatch.setattr(evidence, "search", lambda *_: pytest.fail("too late"))
    with pytest.raises(InputError) as error:
        fit(reviews(), **({"target": "label"} | FAST | settings))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("3m", 180), ("1h", 3_600), ("0.5M", 30), (12, 12), (1.5, 1.5)]
)
def test_times_are_read(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", "m", "0", "nan", "3 minutes", "3d", "-1", 0, -2.0, "inf", "1e400", np.inf, np.nan]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="--budget"):
        seconds(text)


def test_the_smallest_budget_still_gives_a_supervised_result(reviews):
    result = fit(reviews(rows=120), target="label", budget="0.001s", **FAST)
    assert not result.report["used_unlabelled"]
    (member,) = result.report["chosen"]["members"]  # the quickest of three
    assert member.startswith("logistic regression")
    assert any("The time budget ended after 1 of 20 folds" in text for text in result.report["warnings"])
    assert (result.model.predict(reviews(seed=2)) != None).all()  # noqa: E711
    assert (result.student.predict(reviews(seed=2)) == result.model.predict(reviews(seed=2))).mean() > 0.7


def test_too_few_unlabelled_rows_are_not_learnt_from(reviews):
    result = fit(reviews(rows=60, labelled=30), target="label", budget="20s", **FAST)
    assert any("fewer than 3 unlabelled rows per labelled one (30 to 30)" in w for w in result.report["warnings"])
    assert not result.report["used_unlabelled"]


def test_coverage_that_cannot_be_promised_is_said(reviews):
    result = fit(reviews(), target="label", method="naive-bayes", coverage=0.99, **FAST)
    said = "Sets with 99% coverage need at least 99 held-out labelled rows."
    assert said in result.report["warnings"]
    assert result.report["coverage"]["threshold"] is None


def test_labels_of_copies_alone_are_refused_and_said():
    table = pd.DataFrame({"text": ["the same long text of many words once more"] * 8 + ["another text of words"] * 4})
    table["label"] = ["a", "b"] * 4 + [None] * 4
    with pytest.raises(InputError, match="The 8 labelled rows are copies of 1 different ones"):
        fit(table, target="label", text="text", **FAST)


def test_nothing_to_hold_out_is_refused():
    table = pd.DataFrame({"a": np.arange(8.0) ** 2, "kind": ["x", "y", None, None, None, None, None, None]})
    with pytest.raises(InputError, match="nothing can be held out; label more rows"):
        fit(table, target="kind", **FAST)


# Test tables


def test_test_rows_that_are_also_in_training_are_said(reviews):
    table, test = reviews(rows=100), reviews(rows=40, labelled=40, seed=3)
    test.loc[:4, "review"] = table["review"][50:55].to_numpy()
    result = fit(table, target="label", method="naive-bayes", test=test, **FAST)
    assert any("5 of 40 test rows hold the same as a training row" in text for text in result.report["warnings"])
    assert result.report["test"]["repeated"] == 5


def test_rows_of_the_test_table_without_a_label_do_not_count(reviews):
    test = reviews(rows=40, labelled=40, seed=3)
    test["label"] = test["label"].astype(object)
    test.loc[:9, "label"] = "?"
    result = fit(reviews(rows=100), target="label", unlabelled="?", method="naive-bayes", test=test, **FAST)
    assert result.report["rows"]["test"] == 30


def test_rows_of_the_test_table_of_a_class_that_nobody_labelled_count_as_wrong(reviews):
    test = reviews(rows=40, labelled=40, seed=3)
    known = fit(reviews(rows=100), target="label", method="naive-bayes", test=test, **FAST).report["test"]
    odd = pd.concat([test, test[:10].assign(label="odd")], ignore_index=True)
    result = fit(reviews(rows=100), target="label", method="naive-bayes", test=odd, **FAST)
    assert result.report["test"]["chosen"] == pytest.approx(known["chosen"] * 40 / 50)
    assert any("10 of 50 rows are of classes that no training row has (odd)" in w for w in result.report["warnings"])
    odd_class = np.append(np.zeros(4, int), 2)
    probability = np.array([[0.9, 0.1]] * 5)
    assert score(probability, odd_class, "balanced accuracy") == 0.5  # a class of its own, never right


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="label"), "has no column 'label'; a test table has the labels in it"),
        (lambda t: t.assign(label=None), "no row has a label in column 'label'"),
        (lambda t: t.assign(label="ugly"), "column 'label' has only classes that no training row has: ugly"),
        (lambda t: t.drop(columns="review"), "There is no column 'review'"),
    ],
)
def test_a_test_table_that_cannot_be_scored_is_refused_at_once(monkeypatch, reviews, change, words):
    monkeypatch.setattr(evidence, "search", lambda *_: pytest.fail("too late"))
    with pytest.raises(InputError, match=words):
        fit(reviews(), target="label", test=change(reviews(labelled=60, seed=3)), **FAST)


# Where it comes from and where it goes


def test_a_path_a_frame_and_arrays_are_the_same_data(hasty, measures, tmp_path):
    table = measures()[["size", "weight", "age", "kind"]]
    table.to_csv(tmp_path / "table.csv", index=False)
    from_file = fit(tmp_path / "table.csv", target="kind", method="logistic", **FAST)
    from_frame = fit(table, target="kind", method="logistic", **FAST)
    x = table[["size", "weight", "age"]].to_numpy()
    y = np.where(table["kind"].isna(), -1, table["kind"] == "b").astype(int)
    from_arrays = fit(x, y, method="logistic", **FAST)
    assert from_file.report["chosen"] == from_frame.report["chosen"]
    assert from_arrays.report["classes"] == ["0", "1"]
    np.testing.assert_allclose(from_file.model.predict_proba(table), from_frame.model.predict_proba(table))
    np.testing.assert_allclose(from_arrays.model.predict_proba(x), from_frame.model.predict_proba(table), rtol=1e-5)


def test_lists_of_texts_and_their_labels(reviews):
    table = reviews(rows=100)
    y = [label if isinstance(label, str) else None for label in table["label"]]
    result = fit(np.array(table["review"]), np.array(y, dtype=object), method="naive-bayes", **FAST)
    assert result.report["rows"] == {"labelled": 16, "unlabelled": 84, "test": 0}


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load", lambda *_, **__: pytest.fail("too late"))
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc/nowhere")):
        with pytest.raises(InputError, match="nothing can be written there"):
            fit("table.csv", target="label", out=out)
    assert (tmp_path / "file").read_text() == ""


def test_a_refused_fit_leaves_no_folder_behind(tmp_path, reviews):
    with pytest.raises(InputError):
        fit(reviews(), target="lable", out=tmp_path / "new" / "out", **FAST)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_the_end_loses_nothing(monkeypatch, reviews, tmp_path):
    save = Model.save

    def full(self, folder):
        save(self, folder)
        if tmp_path / "out" in Path(folder).parents:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Model, "save", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = fit(reviews(), target="label", method="naive-bayes", out=tmp_path / "out", **FAST)
    assert result.folder is not None
    assert result.folder.parent == tmp_path
    first = result.report["warnings"][0]
    assert f"could not be saved to {tmp_path / 'out'} (No space left on device)" in first
    assert f"it is in {result.folder} instead" in first
    assert list((tmp_path / "out").iterdir()) == []
    Model.load(result.folder / "model")
    assert json.loads((result.folder / "report.json").read_text())["warnings"][0] == first


def test_an_older_result_survives_a_failed_save(monkeypatch, quick, tmp_path):
    quick.save(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(self, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Student, "save", full)
    with pytest.raises(OSError, match="No space left"):
        quick.save(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_load_orders_rows_by_what_they_hold(reviews):
    table = reviews()
    one, other = load(table, target="label"), load(table.iloc[::-1].reset_index(drop=True), target="label")
    assert one.frame["review"].tolist() == other.frame["review"].tolist()
    assert one.y.tolist() == other.y.tolist()
    assert (59 - other.rows).tolist() == one.rows.tolist()
    assert one.labelled.tolist() == np.flatnonzero(one.y >= 0).tolist()
    assert len(one.unlabelled) == 44


def test_each_sound_is_read_once(hasty, monkeypatch, tmp_path):
    """For learners and student, and for all scores of a test table; 20 more for the pace of model and student each."""
    import soundfile

    from cotrain.auto import teach
    from cotrain.views import audio

    rng = np.random.default_rng(0)  # so many rows that the views are fitted once
    names = [f"{number}.wav" for number in range(120)]
    for number, name in enumerate(names):
        tone = np.sin(np.arange(800) * (0.2 + 0.3 * (number % 2))) + 0.1 * rng.normal(size=800)
        soundfile.write(tmp_path / name, 0.4 * tone, 8_000)
    table = pd.DataFrame({"clip": names, "what": [("low", "high")[number % 2] for number in range(120)]})
    table.to_csv(tmp_path / "test.csv", index=False)
    table.loc[12:, "what"] = None
    table.to_csv(tmp_path / "train.csv", index=False)
    read = []
    monkeypatch.setattr(teach, "LONG", 0.0)
    monkeypatch.setattr(
        audio, "read_wave", lambda path, *a, real=audio.read_wave, **k: read.append(path) or real(path, *a, **k)
    )
    result = fit(tmp_path / "train.csv", target="what", test=tmp_path / "test.csv", method="logistic,kernel", **FAST)
    assert len(read) == 120 + 2 * 20 + 120
    assert result.report["test"]["chosen"] > 0.9
