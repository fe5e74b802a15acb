from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cotrain.auto.candidates import candidates, named
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
