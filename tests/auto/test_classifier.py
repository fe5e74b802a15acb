import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import cotrain
from cotrain.auto.classifier import CoTrainClassifier
from cotrain.errors import InputError

FAST = {"encoder": "none", "method": "logistic"}
pytestmark = pytest.mark.usefixtures("hasty")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks([CoTrainClassifier(unlabelled=None, **FAST)])
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [CoTrainClassifier(encoder="none")],
    expected_failed_checks=lambda _: {
        "check_classifiers_classes": "one of its label sets is {-1, 1}, and -1 means unlabelled"
    },
)
def test_scikit_learn_s_checks_with_everything_tried(estimator, check):
    check(estimator)


def numbers(measures, labelled=16):
    table = measures(labelled=60)
    y = (table["kind"] == "b").to_numpy().astype(int)
    given = y.copy()
    given[labelled:] = -1
    return table[["size", "weight", "age"]].to_numpy(), y, given


def test_it_is_public():
    assert cotrain.CoTrainClassifier is CoTrainClassifier


def test_arrays_with_minus_one_for_no_label(measures):
    x, y, given = numbers(measures)
    found = CoTrainClassifier(**FAST).fit(x, given)
    assert found.classes_.tolist() == [0, 1]
    assert (found.predict(x) == y).mean() > 0.8
    np.testing.assert_allclose(found.predict_proba(x).sum(1), 1)
    assert found.n_features_in_ == 3
    assert found.report_["rows"] == {"labelled": 16, "unlabelled": 44, "test": 0}
    assert found.report_["classes"] == ["0", "1"]
    assert (found.student_.predict(pd.DataFrame(x, columns=["x_0", "x_1", "x_2"])) == y.astype(str)).mean() > 0.8


@pytest.mark.parametrize("missing", [None, np.nan, "", " ", pd.NA])
def test_other_ways_to_say_no_label(measures, missing):
    x, y, given = numbers(measures)
    names = np.array(["no", "yes"], dtype=object)[y]
    names[given < 0] = missing
    found = CoTrainClassifier(**FAST).fit(x, names)
    assert found.classes_.tolist() == ["no", "yes"]
    assert found.report_["rows"]["unlabelled"] == 44
    assert set(found.predict(x)) == {"no", "yes"}


def test_a_value_of_the_user_s_own_for_no_label(measures):
    x, y, given = numbers(measures)
    signs = np.where(given < 0, 0, 2 * y - 1)
    found = CoTrainClassifier(unlabelled=0, **FAST).fit(x, signs)
    assert found.classes_.tolist() == [-1, 1]
    assert (found.predict(x) == 2 * y - 1).mean() > 0.8
    assert found.report_["rows"]["unlabelled"] == 44
    all_known = CoTrainClassifier(unlabelled=None, **FAST).fit(x, 2 * y - 1)
    assert all_known.classes_.tolist() == [-1, 1]
    assert all_known.report_["rows"]["unlabelled"] == 0
    for labels in ([1, -1, None], [0, 1, None], [True, False, None], ["a", "b", None]):
        classes, code = CoTrainClassifier(unlabelled=None)._codes(labels, 3)
        assert classes[code[:2]].tolist() == labels[:2]
        assert code[2] == -1
    with pytest.raises(ValueError, match="Unknown label type"):
        CoTrainClassifier(unlabelled=None)._codes([1, "a", None], 3)


@pytest.mark.parametrize(
    "classes",
    [[10, 9], [2.0, 10.0], [True, False], ["b", "a"], ["nan", "null"], ["a;b", "b"], ["a ", "a"], ["1", "1.0"]],
    ids=str,
)
def test_classes_of_every_kind_keep_their_order_and_type(measures, classes):
    x, y, _ = numbers(measures, labelled=60)
    gaps = isinstance(classes[0], str)  # a NumPy array of texts cannot tell "nan" from a missing label
    labels = np.array(classes, dtype=object if gaps else None)[y]
    found = CoTrainClassifier(**FAST).fit(x, labels)
    assert found.classes_.tolist() == sorted(classes)
    assert (found.predict(x) == labels).mean() > 0.8
    probability = found.predict_proba(x)
    assert (found.classes_[probability.argmax(1)] == labels).mean() > 0.8


def test_three_classes_whose_order_numpy_and_people_see_differently():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = rng.normal(5.0 * y[:, None], 1.0, (60, 2))
    labels = np.array(["10", "9", "Z"])[y]
    found = CoTrainClassifier(**FAST).fit(x, labels)
    assert found.classes_.tolist() == ["10", "9", "Z"]
    assert found.model_.classes == ["9", "10", "Z"]
    assert (found.predict(x) == labels).mean() > 0.95


def test_lists_of_texts(reviews):
    table = reviews(rows=100)
    texts = table["review"].tolist()
    found = CoTrainClassifier(encoder="none", method="naive-bayes").fit(texts, table["label"])
    truth = reviews(rows=100, labelled=100)["label"]
    for form in (texts, tuple(texts), table["review"], np.array(texts), np.array(texts, dtype=object)):
        assert (found.predict(form) == truth).mean() > 0.8
    assert found.classes_.tolist() == ["bad", "good"]


def test_tables_with_text_numbers_and_categories(reviews, measures):
    table = measures(rows=60).drop(columns="kind").assign(review=reviews(rows=60)["review"], target="a column")
    y = reviews(rows=60)["label"]
    found = CoTrainClassifier(text="review", drop=["age"], **FAST).fit(table, y)
    assert found.feature_names_in_.tolist() == table.columns.tolist()
    assert (found.predict(table)[:16] == y[:16]).mean() > 0.9
    assert found.model_.columns.target == "target_"
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(table.rename(columns={"size": "height"}))


def test_missing_numbers_are_taken_and_infinite_ones_are_not(measures):
    x, _, given = numbers(measures)
    x = x.copy()
    x[::5, 1] = np.nan
    found = CoTrainClassifier(**FAST).fit(x, given)
    assert np.isfinite(found.predict_proba(x)).all()
    x[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        found.predict(x)
    with pytest.raises(ValueError, match="infinity"):
        CoTrainClassifier(**FAST).fit(x, given)


def test_what_masks_hide_is_missing(measures):
    x, y, given = numbers(measures)
    gaps = np.random.default_rng(0).random(x.shape) < 0.1
    wanted = CoTrainClassifier(**FAST).fit(np.where(gaps, np.nan, x), given)
    spoilt = np.ma.array(np.where(gaps, 1e6, x), mask=gaps)
    for unlabelled in (-1, None):
        hidden = np.ma.array(np.where(given < 0, 1 - y, y), mask=given < 0)
        found = CoTrainClassifier(unlabelled=unlabelled, **FAST).fit(spoilt, hidden)
        assert found.classes_.dtype.kind == "i"
        np.testing.assert_array_equal(found.predict_proba(spoilt), wanted.predict_proba(np.where(gaps, np.nan, x)))


def test_texts_that_are_hidden_or_none_are_missing():
    for texts in (np.ma.array(["a", "b"], mask=[False, True]), ["a", None]):
        assert CoTrainClassifier()._frame(texts, fitting=True)["text"].isna().tolist() == [False, True]


def test_columns_of_one_name_are_refused(measures):
    table = measures(labelled=60).drop(columns="kind").rename(columns={"age": "size"})
    with pytest.raises(InputError, match="Several columns are called 'size'"):
        CoTrainClassifier(**FAST).fit(table, np.arange(60) % 2)


def test_sets_of_classes(measures):
    x, y, _ = numbers(measures, labelled=60)
    found = CoTrainClassifier(coverage=0.9, **FAST).fit(x, y)
    sets = found.predict_set(x)
    assert sets.shape == (60, 2)
    assert sets[np.arange(60), y].mean() > 0.85
    few = CoTrainClassifier(coverage=0.999, **FAST).fit(x, y)
    with pytest.raises(InputError, match="too few labels"):
        few.predict_set(x)


def test_the_order_of_rows_changes_nothing(measures):
    x, _, given = numbers(measures)
    order = np.random.default_rng(0).permutation(60)
    one = CoTrainClassifier(**FAST).fit(x, given)
    other = CoTrainClassifier(**FAST).fit(x[order], given[order])
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(x))


def test_it_works_in_pipelines_and_cross_validation_and_survives_pickling(measures):
    x, y, given = numbers(measures)
    pipe = make_pipeline(StandardScaler(), CoTrainClassifier(**FAST)).fit(x, given)
    assert (pipe.predict(x) == y).mean() > 0.8
    assert cross_val_score(CoTrainClassifier(**FAST), x, y, cv=2).mean() > 0.75
    again = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(again.predict_proba(x), pipe.predict_proba(x))


def test_parameters_are_kept_as_they_are():
    names = ["review", "title"]
    estimator = CoTrainClassifier(budget="90s", text=names, prior="uniform", seed=3)
    assert estimator.get_params()["text"] is names
    assert clone(estimator).get_params() == estimator.get_params()
    with pytest.raises(NotFittedError):
        estimator.predict([["a"]])


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([-1] * 60, "no labelled row"),
        ([0] * 20 + [-1] * 40, "only one class"),
        ([0, 1] * 10, "60 rows"),
        (None, "y"),
        (np.linspace(0, 1, 60), "continuous"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(measures, y, words):
    x, *_ = numbers(measures)
    with pytest.raises(ValueError, match=words):
        CoTrainClassifier(**FAST).fit(x, y)
    with pytest.raises(ValueError, match=words):
        CoTrainClassifier(unlabelled=None if y is None or -1 not in np.asarray(y) else -1, **FAST).fit(x, y)


def test_it_warns_of_nothing_by_itself(measures):
    x, _, given = numbers(measures)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CoTrainClassifier(**FAST).fit(x, given).predict(x)
