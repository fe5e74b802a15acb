from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from cotrain.auto.candidates import Logistic, Margin, candidates, named
from cotrain.auto.columns import Columns
from cotrain.auto.views import make_views

FRAME = pd.DataFrame({"title": ["a b", "c d"], "body": ["e f", "g h"], "price": [1.0, 2.0]})
TABLES = {
    "text": Columns(target="y", text=("title",)),
    "texts": Columns(target="y", text=("title", "body")),
    "numbers": Columns(target="y", number=("price",)),
    "mixed": Columns(target="y", text=("title",), number=("price",)),
}


@pytest.fixture(params=TABLES)
def views(request):
    return make_views(FRAME, TABLES[request.param], Path())


def test_each_candidate_has_a_name_of_its_own_and_views_that_exist(views):
    found = candidates(views)
    assert len({candidate.name for candidate in found}) == len(found)
    assert {name for candidate in found for name in candidate.views} <= set(views.views)


def test_there_are_learners_with_and_without_unlabelled_rows(views):
    for found in (candidates(views), named(views)["supervised"] + named(views)["self-training"]):
        assert {candidate.unlabelled for candidate in found} == {True, False}


@pytest.mark.parametrize("classes", [2, 4, 7])
def test_naive_bayes_believes_guesses_half_way_from_chance_to_certainty(classes):
    found = candidates(make_views(FRAME, TABLES["text"], Path()))
    own = next(candidate for candidate in found if candidate.name == "self-training, words counted")
    assert own.make(np.full(classes, 1 / classes)).threshold == pytest.approx((1 + 1 / classes) / 2)


def test_tables_have_two_sorts_of_trees_and_extra_ones_read_categories_one_by_one():
    frame = pd.DataFrame({"price": [1.0, 2.0], "colour": ["red", "blue"]})
    for columns, extra in (
        (Columns(target="y", number=("price",)), "table for trees"),
        (Columns(target="y", number=("price",), category=("colour",)), "table"),
    ):
        found = named(make_views(frame, columns, Path()))["trees"]
        assert [c.name for c in found] == [f"extra trees, {extra}", "random forest, table for trees"]
        assert [c.views for c in found] == [(extra,), ("table for trees",)]


@pytest.mark.parametrize(("columns", "many"), [(100, 100), (101, 300)])
def test_few_columns_want_fewer_trees(columns, many):
    frame = pd.DataFrame(np.eye(2, columns), columns=[f"n{number}" for number in range(columns)])
    found = named(make_views(frame, Columns(target="y", number=tuple(frame.columns)), Path()))["trees"]
    assert [candidate.make(np.full(2, 0.5)).n_estimators for candidate in found] == [many, many]


def test_text_columns_are_other_things_to_see_but_not_a_column_and_all_of_them():
    found = {candidate.name: candidate for candidate in candidates(make_views(FRAME, TABLES["texts"], Path()))}
    title, body, every = (found[f"EM naive Bayes, words of {of}"] for of in ("'title'", "'body'", "all texts"))
    assert title.looks_elsewhere(body)
    assert not title.looks_elsewhere(every)
    assert not every.looks_elsewhere(body)
    assert title.looks_elsewhere(found["EM naive Bayes, characters of 'title'"])
    assert every.looks_elsewhere(found["self-training, topics of 'title'"])
    assert not title.looks_elsewhere(found["self-training, words of 'title' counted"])


def test_the_words_of_each_text_teach_each_other():
    """Titles tell the labelled rows apart, bodies the others; only together do they reach rows without such titles."""
    titles = ["red", "blue", "red", "blue"] * 5 + [f"of {n}" for n in range(20)]
    bodies = ["sun warm", "ice cold"] * 20
    y = np.array([0, 1] + [-1] * 38)
    frame = pd.DataFrame({"title": titles, "body": bodies})
    views = make_views(frame, TABLES["texts"], Path())
    own = next(candidate for candidate in candidates(views) if candidate.name == "co-EM, words of each text")
    assert own.views == ("words of 'title'", "words of 'body'")
    parts = []
    for view in (views.views[name] for name in own.views):
        raw = view.extract(frame)
        parts.append(view.fit(raw).transform(raw))
    said = own.make(np.array([0.5, 0.5])).fit(tuple(parts), y).predict(tuple(parts))
    assert said.tolist() == [0, 1] * 20
    for alone in ("text", "mixed"):
        assert not any("each text" in c.name for c in candidates(make_views(FRAME, TABLES[alone], Path())))


def test_one_sort_of_numbers_is_one_thing_to_see():
    found = candidates(make_views(FRAME, TABLES["numbers"], Path()))
    assert not any(one.looks_elsewhere(other) for one in found for other in found)


def test_every_learner_reads_one_sort_of_columns():
    made = make_views(FRAME, TABLES["mixed"], Path())
    for found in [candidates(made), *(group for name, group in named(made).items() if name != "cotraining")]:
        assert {candidate.modality for candidate in found} <= {"texts", "numbers and categories"}
        for candidate in found:
            assert {made.modality[name] for name in candidate.views} == {candidate.modality}
    texts = make_views(FRAME, TABLES["texts"], Path())
    assert {candidate.modality for candidate in candidates(texts)} == {"texts"}


def test_co_training_pairs_views_of_a_text_and_sorts_of_columns():
    found = {candidate.views for candidate in named(make_views(FRAME, TABLES["mixed"], Path()))["cotraining"]}
    assert found == {("words", "characters"), ("words", "table")}


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("held", [1, 100, 4_000_000])
@pytest.mark.parametrize("form", [np.asarray, np.float32, sparse.csr_array])
def test_a_kernel_machine_says_what_svc_says_whatever_is_held_at_a_time(classes, held, form, monkeypatch):
    monkeypatch.setattr("cotrain.auto.candidates.HELD", held)
    rng = np.random.default_rng(0)
    y = np.arange(5 * classes) % classes
    x = rng.normal(size=(len(y), 4)) + 2 * rng.normal(size=(classes, 4))[y]
    x, new = form(x), form(rng.normal(size=(30, 4)))
    margin = SVC(C=3.0, class_weight="balanced").fit(x, y).decision_function(new)
    own = Margin(3.0).fit(x, y)
    found = own.predict_proba(new)
    powers = np.exp(np.stack([-margin, margin], 1) if classes == 2 else 2 * margin)
    np.testing.assert_allclose(found, powers / powers.sum(1, keepdims=True), rtol=1e-9)
    assert own.predict_proba(new[:0]).shape == (0, classes)


@pytest.mark.parametrize("turned", [0, 1_000])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_quick_logistic_regression_of_sparse_rows_is_the_usual_one(monkeypatch, classes, turned):
    monkeypatch.setattr("cotrain.auto.candidates.TURNED", turned)
    x = sparse.random(40, 500, 0.01, random_state=0, format="csr")
    x = sparse.vstack([x, x[:5], sparse.csr_matrix((1, 500))], format="csr")  # copies, and a row that has no word
    y = np.arange(46) % classes
    found, usual = (kind(C=10, class_weight="balanced").fit(x, y) for kind in (Logistic, LogisticRegression))
    new = sparse.random(20, 500, 0.1, random_state=1, format="csr")
    np.testing.assert_allclose(found.coef_, usual.coef_, atol=1e-6)
    np.testing.assert_allclose(found.predict_proba(new), usual.predict_proba(new), atol=1e-6)
    assert (found.coef_[:, np.setdiff1d(np.arange(500), x.indices)] == 0).all()
    np.testing.assert_array_equal(Logistic().fit(x.toarray(), y).coef_, LogisticRegression().fit(x.toarray(), y).coef_)
