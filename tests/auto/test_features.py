from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from cotrain.auto.features import Features
from cotrain.views.reduced import ReducedView
from cotrain.views.table import ScaledView
from cotrain.views.view import View, extract_each


class Spy(View):
    """Gives each row's number as its feature, and remembers which rows it was fitted on."""

    extractions = 0

    def extract(self, frame):
        Spy.extractions += 1
        return frame[self.columns[0]].to_numpy(dtype=np.float64)[:, None]

    def fit(self, raw):
        self.learned = {"seen": raw[:, 0]}
        return self

    def transform(self, raw):
        return raw


def table(labelled, unlabelled):
    rows = labelled + unlabelled
    y = np.where(np.arange(rows) < labelled, np.arange(rows) % 2, -1)
    return pd.DataFrame({"number": np.arange(rows)}), y


@pytest.mark.parametrize("folds", [0, 1, 2])
def test_what_the_first_folds_made_is_kept_as_far_as_memory_goes(monkeypatch, folds):
    frame, y = table(10, 40)
    features = Features({"spy": Spy(["number"])}, frame, y)
    monkeypatch.setattr("cotrain.auto.features.KEPT", folds * features.raw["spy"].nbytes)
    trains = [np.array([1, 3]), np.array([1, 5]), np.array([1, 7])]

    def view(train: np.ndarray) -> View:
        seen = features.of(train, features.unlabelled)
        assert len(seen["spy"]) == 50
        return seen.fitted("spy")

    first, again = [view(train) for train in trains], [view(train) for train in trains]
    assert [one is two for one, two in zip(first, again, strict=True)] == [place < folds for place in range(3)]
    assert [each.learned["seen"][:2].tolist() for each in again] == [[1, 3], [1, 5], [1, 7]]


def test_few_unlabelled_rows_each_fold_fits_on_what_it_may_see():
    frame, y = table(10, 40)
    features = Features({"spy": Spy(["number"])}, frame, y)
    assert not features.shared
    train, unlabelled = np.array([1, 3, 5]), np.arange(10, 30)
    view = features.of(train, unlabelled).fitted("spy")
    assert view.learned["seen"].tolist() == [1, 3, 5, *range(10, 30)]


def test_many_unlabelled_rows_views_are_fitted_on_them_alone_and_once():
    frame, y = table(10, 100)
    features = Features({"spy": Spy(["number"])}, frame, y)
    assert features.shared
    one, two = features.of(np.arange(5), features.unlabelled), features.of(np.arange(5, 10), features.unlabelled)
    assert one["spy"] is two["spy"]
    assert one.fitted("spy").learned["seen"].tolist() == list(range(10, 110))


def test_many_unlabelled_rows_with_groups_held_out_leave_the_view_too():
    frame, y = table(10, 100)
    features = Features({"spy": Spy(["number"])}, frame, y)
    left = features.of(np.arange(5), np.arange(20, 110))
    assert left.fitted("spy").learned["seen"].tolist() == list(range(20, 110))


def test_views_of_one_source_share_their_extraction():
    frame, y = table(4, 4)
    before = Spy.extractions
    features = Features({"one": Spy(["number"]), "two": Spy(["number"])}, frame, y)
    assert Spy.extractions == before + 1
    assert list(features.of(features.labelled, features.unlabelled)) == ["one", "two"]
    assert features.raw["one"] is features.raw["two"]


def test_an_unknown_view_is_a_key_error():
    frame, y = table(4, 4)
    features = Features({"spy": Spy(["number"])}, frame, y)
    with pytest.raises(KeyError):
        features.of(features.labelled, features.unlabelled)["other"]


def test_what_was_extracted_before_is_not_extracted_again():
    frame, _ = table(4, 4)
    before, known = Spy.extractions, {}
    one = extract_each({"one": Spy(["number"])}, frame, known)
    two = extract_each({"two": Spy(["number"]), "three": Spy(["number"])}, frame, known)
    assert Spy.extractions == before + 1
    assert one["one"] is two["two"] is two["three"]
    extract_each({"one": Spy(["number"])}, frame)
    assert Spy.extractions == before + 2


@pytest.mark.parametrize("labelled", [10, 40])  # with 40, the views are fitted in each fold
def test_a_reduced_view_is_cut_from_its_base_s_features(monkeypatch, labelled):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(150, 6)), columns=list("abcdef"))
    y = np.where(np.arange(150) < labelled, np.arange(150) % 2, -1)
    base = ScaledView(list("abcdef"))
    features = Features({"reduced": ReducedView.of(base, dimensions=2), "base": base}, frame, y)
    assert features.base == {"reduced": "base"}
    fits = []
    monkeypatch.setattr(
        ScaledView, "fit", lambda view, raw, fit=ScaledView.fit: fits.append(len(raw)) or fit(view, raw)
    )
    part = features.of(features.labelled[:6], features.unlabelled)
    with ThreadPoolExecutor(2) as pool:
        part.make({"reduced"}, pool)
    assert len(fits) == 1  # of the base; the reduced one fits no base of its own
    alone = ReducedView.of(base, dimensions=2).fit(features.raw["base"][part._rows])
    np.testing.assert_allclose(part["reduced"], alone.transform(features.raw["base"]), atol=1e-5)
    np.testing.assert_allclose(part.fitted("reduced").transform(features.raw["base"]), part["reduced"], atol=1e-5)
