import os

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

from cotrain.data import fsdd, planetoid, splits
from cotrain.errors import InputError

stored = pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")
LABELS = {"cora": 140, "citeseer": 120, "fsdd": 50, "trec": 60, "wine": 15, "ag_news": 20, "cifar10": 250}
PACKAGED = ("digits", "breast_cancer", "wine", "sms", "sms_equal")


EVERY = [pytest.param(name, marks=() if name in PACKAGED else (stored, pytest.mark.data)) for name in splits.NAMES]


@pytest.mark.parametrize("name", EVERY)
def test_parts_are_apart_and_the_test_rows_do_not_depend_on_the_seed(name):
    labels = LABELS.get(name, 50)
    first, second = splits.few_labels(name, labels, 0), splits.few_labels(name, labels, 1)
    assert len(first.labelled) == labels
    np.testing.assert_array_equal(first.test, second.test)
    assert not np.array_equal(np.sort(first.labelled), np.sort(second.labelled))
    rows = np.concatenate([first.labelled, first.unlabelled, first.test])
    assert len(np.unique(rows)) == len(rows)
    again = splits.few_labels(name, labels, 0)
    np.testing.assert_array_equal(first.labelled, again.labelled)


@pytest.mark.parametrize("name", EVERY)
def test_labelled_rows_hold_every_class_and_equally_where_so_said(name):
    split = splits.few_labels(name, LABELS.get(name, 50), 0)
    y = splits._pool(name)[0]
    counts = np.bincount(y[split.labelled])
    assert counts.min() > 0
    if name not in (*splits.TABLES, "sms", "fashion"):
        assert len(set(counts)) == 1


@pytest.mark.parametrize(("name", "labels"), [("digits", 40), ("wine", 15), ("sms", 20)])
def test_the_rows_are_those_of_scikit_learns_stratified_draw(name, labels):
    _, y, _ = splits.load(name)
    pool, test = train_test_split(np.arange(len(y)), test_size=0.3, stratify=y, random_state=0)
    labelled, unlabelled = train_test_split(pool, train_size=labels, stratify=y[pool], random_state=7)
    split = splits.few_labels(name, labels, 7)
    np.testing.assert_array_equal(split.labelled, labelled)
    np.testing.assert_array_equal(split.unlabelled, unlabelled)
    np.testing.assert_array_equal(split.test, test)


@stored
@pytest.mark.data
def test_no_speaker_is_in_pool_and_test():
    split = splits.few_labels("fsdd", 100, 3)
    speakers = np.array(fsdd.labels()[1])
    assert set(speakers[split.test]) == set(splits.FSDD_TEST_SPEAKERS)
    assert len(set(speakers[split.labelled]) | set(speakers[split.unlabelled])) == 4


@stored
@pytest.mark.data
def test_citation_graphs_keep_their_usual_test_nodes():
    np.testing.assert_array_equal(splits.few_labels("cora", 140, 5).test, planetoid.public_split("cora")[2])


@stored
@pytest.mark.data
def test_sizes_of_pools():
    sizes = {name: splits.few_labels(name, 20, 0) for name in ("ag_news", "fashion", "mfeat")}
    assert {name: len(s.test) for name, s in sizes.items()} == {"ag_news": 2000, "fashion": 2000, "mfeat": 600}
    assert {name: len(s.unlabelled) for name, s in sizes.items()} == {"ag_news": 5580, "fashion": 9980, "mfeat": 1380}


def test_all_labelled_moves_no_row_to_or_from_the_test():
    split = splits.few_labels("digits", 40, seed=3)
    every = splits.all_labelled(split)
    assert every.labelled.tolist() == sorted([*split.labelled, *split.unlabelled])
    assert np.array_equal(every.unlabelled, split.unlabelled)
    assert np.array_equal(every.test, split.test)


def test_bad_input():
    with pytest.raises(InputError, match="no split named 'nothing'"):
        splits.few_labels("nothing", 10, 0)
    with pytest.raises(InputError, match="no split named"):
        splits.load("nothing")
    with pytest.raises(InputError, match="multiple of 2"):
        splits.few_labels("sms_equal", 11, 0)
    with pytest.raises(InputError, match="smallest class has 523 rows"):
        splits.few_labels("sms_equal", 2000, 0)
    with pytest.raises(InputError, match="from 3 to"):
        splits.few_labels("wine", 2, 0)
    with pytest.raises(InputError, match="from 10 to 1256"):
        splits.few_labels("digits", 1257, 0)
