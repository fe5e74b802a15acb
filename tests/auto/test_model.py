import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import soundfile
from numpy.testing._private import utils as foreign
from PIL import Image
from sklearn.preprocessing import FunctionTransformer

from cotrain.auto.blend import Blend
from cotrain.auto.candidates import Candidate, candidates, named
from cotrain.auto.columns import infer
from cotrain.auto.fit import fit
from cotrain.auto.model import Member, Model
from cotrain.auto.problem import load
from cotrain.auto.read import read
from cotrain.auto.trial import even, joined, train
from cotrain.auto.views import make_views
from cotrain.errors import InputError


@pytest.fixture(scope="module")
def texts(reviews):
    return fit(reviews(rows=120), target="label", method="naive-bayes,emnb", encoder="none", jobs=1)


@pytest.fixture(scope="module")
def numbers(measures):
    return fit(measures(), target="kind", method="logistic,kernel", encoder="none", coverage=0.9, jobs=1)


@pytest.fixture(scope="module")
def committee(reviews, measures):
    """One model with every learner that there is, on texts and numbers together."""
    table = reviews().assign(**{name: measures()[name] for name in ("size", "weight", "colour")})
    problem = load(table, target="label", text="review")
    views = make_views(problem.frame, problem.columns, Path())
    fitted = {name: view.fit(view.extract(problem.frame)) for name, view in views.views.items()}
    matrices = {name: view.transform(view.extract(problem.frame)) for name, view in fitted.items()}
    every = {c.name: c for group in [candidates(views), *named(views).values()] for c in group}
    members = []
    for candidate in every.values():
        learner = train(candidate, matrices, problem.y, problem.labelled, problem.unlabelled, np.array([0.5, 0.5]))
        members.append(Member(candidate.name, candidate.views, candidate.apart, learner, 1.5))
    text = tuple(n for n, member in enumerate(members) if fitted[member.views[0]].columns == ("review",))
    rest = tuple(n for n in range(len(members)) if n not in text)
    blend = Blend((text, rest), (0.7, 1.2), 1.1)
    return Model(problem.columns, fitted, members, ["bad", "good"], np.array([0.4, 0.6]), 0.2, blend), table


def test_every_learner_comes_back_from_its_folder_as_it_was(committee, tmp_path):
    model, table = committee
    assert len(model.members) > 20
    model.save(tmp_path)
    again = Model.load(tmp_path)
    assert not list(tmp_path.glob("*.pkl"))
    assert (again.classes, again.threshold, again.shares.tolist()) == (["bad", "good"], 0.2, [0.4, 0.6])
    assert again.blend == model.blend
    assert min(map(len, again.blend.parts)) > 5
    frame, source, _ = again.aligned(table)
    old, new = model.features(frame, source.folder), again.features(frame, source.folder)
    rows = np.arange(len(frame))
    for one, other in zip(model.members, again.members, strict=True):
        assert (one.name, one.views, one.apart, one.temperature) == (
            other.name,
            other.views,
            other.apart,
            other.temperature,
        )
        np.testing.assert_array_equal(model.votes(one, old, rows), again.votes(other, new, rows), err_msg=one.name)
    np.testing.assert_array_equal(model.predict_proba(table), again.predict_proba(table))


def test_a_committee_of_one_is_that_member(texts, reviews):
    model = texts.model
    member = model.members[0]
    alone = Model(model.columns, model.views, [Member(member.name, member.views, False, member.estimator, 1.0)],
                  model.classes, np.array([0.5, 0.5]))  # fmt: skip
    frame, source, _ = alone.aligned(reviews())
    x = joined(alone.features(frame, source.folder), Candidate("", member.views, False, lambda _: None), np.arange(60))
    expected = even(member.estimator, x, 2)
    np.testing.assert_allclose(alone.predict_proba(reviews()), expected, rtol=1e-12)


def test_a_committee_is_the_mean_of_its_members_sharpened_and_restated_for_the_shares(texts, reviews):
    model = texts.model
    assert len(model.members) > 1
    assert model.blend.parts == (tuple(range(len(model.members))),)
    frame, source, _ = model.aligned(reviews())
    features = model.features(frame, source.folder)
    votes = np.mean([model.votes(member, features, np.arange(60)) for member in model.members], axis=0)
    joint = votes ** (1 / model.blend.temperatures[0])
    joint = joint / joint.sum(1, keepdims=True) * model.shares
    np.testing.assert_allclose(model.predict_proba(reviews()), joint / joint.sum(1, keepdims=True), rtol=1e-12)


def test_rows_are_predicted_one_by_one_as_together_and_in_their_order(texts, numbers, reviews, measures):
    for result, table in ((texts, reviews(seed=1)), (numbers, measures(seed=1))):
        together = result.model.predict_proba(table)
        np.testing.assert_allclose(together.sum(1), 1)
        alone = np.vstack([result.model.predict_proba(table.iloc[[row]]) for row in range(5)])
        np.testing.assert_allclose(alone, together[:5], rtol=1e-5)
        order = np.random.default_rng(0).permutation(60)
        np.testing.assert_allclose(result.model.predict_proba(table.iloc[order]), together[order], rtol=1e-5)


def test_it_knows_rows_that_it_never_saw(texts, numbers, reviews, measures):
    fresh = reviews(rows=200, labelled=200, seed=5)
    assert (texts.model.predict(fresh) == fresh["label"]).mean() > 0.95
    fresh = measures(rows=200, labelled=200, seed=5)
    assert (numbers.model.predict(fresh) == fresh["kind"]).mean() > 0.8


def test_sets_hold_the_truth_as_often_as_promised(numbers, measures):
    assert numbers.report["coverage"]["asked"] == 0.9
    assert numbers.report["coverage"]["threshold"] == numbers.model.threshold
    fresh = measures(rows=400, labelled=400, seed=7)
    held = [label in chosen for label, chosen in zip(fresh["kind"], numbers.model.sets(fresh), strict=True)]
    assert np.mean(held) > 0.8
    unsure = Model(numbers.model.columns, {}, [], ["a", "b"], np.array([0.5, 0.5]), None)
    with pytest.raises(InputError, match="too few labels to promise"):
        unsure.sets(fresh)


# Tables that changed between fit and predict


def test_a_header_with_the_fit_s_columns_is_one(numbers, measures, tmp_path):
    table = measures(seed=2)
    table.assign(colour="colour").to_csv(tmp_path / "new.csv", index=False)
    assert any("looks like a row" in warning for warning in read(tmp_path / "new.csv").warnings)
    _, _, said = numbers.model.aligned(tmp_path / "new.csv")
    assert said
    assert not any("looks like a row" in warning for warning in said)


def test_reordered_and_extra_columns_change_nothing(numbers, measures):
    table = measures(seed=2)
    expected = numbers.model.predict_proba(table)
    warnings: list[str] = []
    other = table[table.columns[::-1]].assign(extra=1)
    np.testing.assert_array_equal(numbers.model.predict_proba(other, warnings), expected)
    assert any("did not know are ignored: extra" in text for text in warnings)
    np.testing.assert_array_equal(numbers.model.predict_proba(table.drop(columns="kind")), expected)


def test_a_missing_number_column_counts_as_missing_and_a_missing_text_is_refused(numbers, texts, measures, reviews):
    warnings: list[str] = []
    found = numbers.model.predict_proba(measures(seed=2).drop(columns="weight"), warnings)
    assert np.isfinite(found).all()
    assert any("'weight' is not there" in text for text in warnings)
    for told in (numbers.model.predict, numbers.model.sets, numbers.student.predict):
        with pytest.warns(UserWarning, match="'weight' is not there"):
            told(measures(seed=2).drop(columns="weight"))
    with pytest.raises(InputError, match=r"There is no column 'review'\. Did you mean 'reviews'"):
        texts.model.predict(reviews().rename(columns={"review": "reviews"}))


def test_unseen_categories_and_odd_numbers_are_said(numbers, measures):
    table = measures(seed=2).astype({"weight": object})
    table.loc[0, "colour"] = "purple"
    table.loc[1, "weight"] = "heavy"
    table.loc[2, "size"] = np.inf
    warnings: list[str] = []
    assert np.isfinite(numbers.model.predict_proba(table, warnings)).all()
    said = " ".join(warnings)
    assert "categories that were not in training: 'purple'" in said
    assert "'heavy'" in said
    assert "infinite cells count as missing: 1" in said


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_rows_whose_file_cannot_be_read_have_no_prediction(hasty, tmp_path, kind):
    rng = np.random.default_rng(0)
    names = []
    for row in range(24):
        bright = row % 2
        if kind == "image":
            names.append(f"{row}.png")
            pixels = rng.integers(0, 80, (12, 12)) + 150 * bright
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / names[-1])
        else:
            names.append(f"{row}.wav")
            tone = np.sin(2 * np.pi * (400 + 1200 * bright) * np.arange(1_600) / 8_000) + 0.1 * rng.normal(size=1_600)
            soundfile.write(tmp_path / names[-1], 0.4 * tone, 8_000)
    table = pd.DataFrame({"file": names, "label": [["low", "high"][row % 2] for row in range(24)]})
    table.loc[16:, "label"] = ""
    table.to_csv(tmp_path / "labels.csv", index=False)
    result = fit(tmp_path, target="label", method="logistic", encoder="none", jobs=1)
    result.save(tmp_path / "out")
    again = Model.load(tmp_path / "out" / "model")
    np.testing.assert_allclose(again.predict_proba(tmp_path), result.model.predict_proba(tmp_path), rtol=1e-6)
    (tmp_path / names[3]).write_bytes(b"broken")
    (tmp_path / names[5]).unlink()
    warnings: list[str] = []
    found = again.predict_proba(tmp_path, warnings)
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [3, 5]
    named_rows = again.predict(tmp_path)
    assert (named_rows[3], named_rows[5]) == (None, None)
    assert (named_rows[[0, 1, 2, 4]] == ["low", "high", "low", "low"]).all()
    assert any("2 of 24 files of column 'file' cannot be used" in text and "row 4" in text for text in warnings)
    for name in names[:14]:
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="more than half"):
        again.predict_proba(tmp_path)


# Folders from strangers


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture
def folder(texts, tmp_path):
    """A model in a folder, and a file that must never come to be."""
    texts.save(tmp_path / "out")
    return tmp_path / "out" / "model", tmp_path / "marker"


def refused(folder, *words):
    with pytest.raises(InputError) as error:
        Model.load(folder)
    assert all(word in str(error.value) for word in words), error.value


def test_a_pickle_in_a_member_s_place_is_never_opened(folder):
    model, marker = folder
    (model / "member0.skops").write_bytes(pickle.dumps(Marker(marker)))
    refused(model, "member0.skops")
    assert not marker.exists()
    pickle.loads((model / "member0.skops").read_bytes())
    assert marker.exists()  # the file would have done it


@pytest.mark.parametrize("name", ["view0.npz", "weights.npz"])
def test_a_pickle_among_the_arrays_is_never_opened(folder, name):
    model, marker = folder
    np.savez(model / "view0.npz", column=np.array([Marker(marker)], dtype=object))
    refused(model, "view0.npz")
    assert not marker.exists()


class Stranger:
    """A class that no model of ours holds."""


@pytest.mark.parametrize(
    "thing",
    [Stranger(), FunctionTransformer(shutil.rmtree), FunctionTransformer(foreign.runstring), {"a": Stranger}],
    ids=["class", "function", "function of numpy", "type"],
)
def test_a_member_with_foreign_types_is_never_loaded(folder, thing):
    model, _ = folder
    skops.io.dump(thing, model / "member0.skops")
    refused(model, "member0.skops", "it is not loaded")


@pytest.mark.parametrize(
    "kind", ["os:system", "cotrain.auto.model:Model", "cotrain.views.text:np", "cotrain.views.x:y"]
)
def test_a_view_that_is_none_is_never_imported(folder, kind):
    model, _ = folder
    text = json.loads((model / "model.json").read_text())
    next(iter(text["views"].values()))["class"] = kind
    (model / "model.json").write_text(json.dumps(text))
    refused(model, "model")


@pytest.mark.parametrize("base", ["subprocess:Popen", "os:system", "cotrain.views.text:np", "nowhere:Thing"])
def test_a_view_inside_a_view_that_is_none_is_never_called(folder, base):
    model, marker = folder
    text = json.loads((model / "model.json").read_text())
    hostile = {
        "class": "cotrain.views.reduced:ReducedView",
        "columns": ["/bin/sh", "-c", f"touch {marker}"],
        "settings": {"base": base, "base_settings": {}},
    }
    text["views"] = dict.fromkeys(text["views"], hostile)
    (model / "model.json").write_text(json.dumps(text))
    refused(model, "is no view of cotrain's")
    assert not marker.exists()
    for view in text["views"].values():
        view["columns"] = [["/bin/sh"]]
    (model / "model.json").write_text(json.dumps(text))
    refused(model, "are no names")


def test_files_of_another_model_are_told_apart(folder):
    model, _ = folder
    names = sorted(path.name for path in model.glob("*.npz"))[:2]
    contents = [(model / name).read_bytes() for name in names]
    for name, content in zip(names, reversed(contents), strict=True):
        (model / name).write_bytes(content)
    refused(model, names[0], "of another model")
    text = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(text | {"classes": ["a", "a"]}))
    for name, content in zip(names, contents, strict=True):
        (model / name).write_bytes(content)
    refused(model, "names no classes")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"format": 2}', '{"format": 1}', '{"format": 1, "members": 3, "views": []}']
)
def test_a_damaged_description_is_refused(folder, text):
    model, _ = folder
    (model / "model.json").write_text(text)
    refused(model, "model.json")


def test_a_description_that_was_edited_is_refused(folder, texts, reviews):
    model, _ = folder
    good = json.loads((model / "model.json").read_text())

    def edited(**changes):
        (model / "model.json").write_text(json.dumps(good | changes))

    for shares in (None, [], 5, [0.5], [0.5, np.nan], [2, 3], [-0.5, 1.5], ["a", "b"]):
        edited(shares=shares)
        refused(model, "model.json", "shares")
    for key in ("text", "image", "number", "date", "code", "vector", "group"):
        for value in (None, 5, "x", {}, [3]):
            edited(columns=good["columns"] | {key: value})
            refused(model, f"columns.{key}")
    for key, value in (("target", {}), ("date", ["nope"]), ("code", ["nope"]), ("levels", {"colour": 5})):
        edited(columns=good["columns"] | {key: value})
        refused(model, "model.json")
    for classes in ([], ["good"], ["good", "good"]):
        edited(classes=classes)
        refused(model, "names no classes")
    for classes in ([1, 2], {}, "ab"):
        edited(classes=classes)
        refused(model, "model.json", "classes")
    edited(views={})
    refused(model, "views")
    edited(members=[], blend={"parts": [], "temperatures": [], "temperature": 1.0})
    refused(model, "views")
    edited(threshold="x")
    refused(model, "threshold")
    edited(columns=good["columns"] | {"text": ["label"]})
    with pytest.raises(InputError, match=r"model.json is damaged or was changed: KeyError: 'review'"):
        Model.load(model).predict(reviews())
    edited(blend=good["blend"] | {"temperature": np.nan})
    with pytest.raises(InputError, match=r"model.json is damaged: it gives numbers that are no probabilities"):
        Model.load(model).predict(reviews())
    (model / "model.json").write_text(json.dumps(good))
    np.testing.assert_array_equal(Model.load(model).predict(reviews()), texts.model.predict(reviews()))


def test_a_damaged_file_is_refused_wherever_it_is_cut(folder):
    model, _ = folder
    for name in ("member0.skops", "view0.npz"):
        whole = (model / name).read_bytes()
        for size in np.linspace(0, len(whole) - 1, 8).astype(int):
            (model / name).write_bytes(whole[:size])
            refused(model, name)
        (model / name).write_bytes(whole)
    Model.load(model)


def test_a_folder_without_a_model_says_what_to_give(tmp_path):
    refused(tmp_path, "There is no model.json in", "the folder that `cotrain fit --out` wrote")


def test_columns_survive_a_trip_through_json(measures):
    columns = infer(measures(), target="kind")
    assert type(columns).from_dict(json.loads(json.dumps(columns.to_dict()))) == columns


def test_learners_of_another_model_are_told_apart_and_older_models_without_digests_load(folder, texts, reviews):
    model, _ = folder
    text = json.loads((model / "model.json").read_text())
    member = model / "member0.skops"
    whole = member.read_bytes()
    member.write_bytes((model / "member1.skops").read_bytes())
    refused(model, "member0.skops", "of another model")
    member.write_bytes(whole)
    del text["files"]
    (model / "model.json").write_text(json.dumps(text))
    np.testing.assert_array_equal(Model.load(model).predict(reviews()), texts.model.predict(reviews()))
