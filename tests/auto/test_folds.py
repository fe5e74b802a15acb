import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrain.auto.folds import make_folds, repeats


def folds_of(y, unit=None, grouped=False, seed=0, copies=None):
    y = np.asarray(y)
    unit = np.arange(len(y)) if unit is None else np.asarray(unit)
    return make_folds(y, np.flatnonzero(y < 0), unit, np.arange(len(y)) if copies is None else copies, grouped, seed)


@pytest.mark.parametrize(("labelled", "expected"), [(4, (5, 4)), (30, (5, 4)), (31, (5, 2)), (200, (5, 2))])
def test_the_fewer_labels_the_more_repeats(labelled, expected):
    assert repeats(labelled) == expected


def test_many_labels_get_one_round_and_very_many_one_hold_out():
    assert repeats(2_000) == (5, 1)
    assert repeats(2_001) == (1, 1)
    (fold,) = folds_of(np.arange(3_000) % 3)
    assert (len(fold.held), len(fold.train)) == (600, 2_400)
    assert np.bincount(np.arange(3_000)[fold.held] % 3).tolist() == [200, 200, 200]


def test_every_labelled_row_is_held_out_once_a_repeat_and_classes_are_spread():
    y = np.array([0] * 10 + [1] * 10 + [-1] * 7)
    folds = folds_of(y)
    assert len(folds) == 20
    for repeat in range(4):
        held = [fold.held for fold in folds if fold.repeat == repeat]
        assert np.sort(np.concatenate(held)).tolist() == list(range(20))
        assert all(np.bincount(y[rows]).tolist() == [2, 2] for rows in held)
    for fold in folds:
        assert np.sort(np.concatenate([fold.train, fold.held])).tolist() == list(range(20))
        assert fold.unlabelled.tolist() == list(range(20, 27))


def test_repeats_and_seeds_differ_and_a_seed_repeats_itself():
    y = np.arange(40) % 2
    first, again, other = ([fold.held.tolist() for fold in folds_of(y, seed=seed)] for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first[:5] != first[5:]


@settings(max_examples=60)
@given(st.data())
def test_a_unit_is_never_on_both_sides(data):
    rows = data.draw(st.integers(4, 40))
    y = np.array(data.draw(st.lists(st.integers(-1, 2), min_size=rows, max_size=rows)))
    unit = np.array(data.draw(st.lists(st.integers(0, 8), min_size=rows, max_size=rows)))
    if not (y >= 0).any():
        return
    for grouped in (False, True):
        for fold in folds_of(y, unit, grouped):
            assert not set(unit[fold.train]) & set(unit[fold.held])
            assert (y[fold.train] >= 0).all()
            assert (y[fold.unlabelled] < 0).all()
            if grouped:
                assert not set(unit[fold.unlabelled]) & set(unit[fold.held])
            else:
                assert fold.unlabelled.tolist() == np.flatnonzero(y < 0).tolist()


def test_a_class_in_one_unit_is_never_held_out():
    y = np.array([0, 0, 0, 0, 1, 1, 2])
    folds = folds_of(y, unit=[0, 1, 2, 3, 4, 4, 5])
    assert set(np.concatenate([fold.held for fold in folds])) == {0, 1, 2, 3}
    assert all({4, 5, 6} <= set(fold.train) for fold in folds)


def test_nothing_can_be_held_out_where_every_class_is_one_unit():
    assert folds_of([0, 1, -1, -1]) == []


def test_a_group_is_held_out_where_the_others_have_its_classes():
    """Four speakers with different most frequent classes: each is held out once, and no repeat repeats it."""
    y = np.array([0, 0, 1, 2, 1, 1, 0, 2, 2, 2, 0, 1, 0, 1, 2])
    speaker = np.repeat([0, 1, 2, 3], [4, 4, 4, 3])
    folds = folds_of(y, speaker, grouped=True)
    assert sorted(fold.held.tolist() for fold in folds) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14]]


def test_as_many_groups_as_folds_are_held_out_once_each():
    folds = folds_of(np.arange(30) % 2, np.arange(30) % 5, grouped=True)
    assert [fold.repeat for fold in folds] == [0] * 5


def test_units_of_a_rare_class_are_spread_over_folds():
    """Two patients have all rows of a class, beside more of the other."""
    y = np.tile([0, 0, 0, 0, 0, 0], 12)
    patient = np.repeat(np.arange(12), 6)
    y[[0, 1, 6, 7]] = 1
    for seed in range(20):
        folds = folds_of(y, patient, grouped=True, seed=seed)
        assert all(set(y[fold.train]) == {0, 1} for fold in folds)
        assert sum(1 in y[fold.held] for fold in folds if fold.repeat == 0) == 2


def test_copies_of_held_rows_leave_training_although_they_are_of_other_groups():
    rng = np.random.default_rng(0)
    copies = np.repeat(np.arange(20), 3)
    group = np.concatenate([rng.permutation(12)[:3] for _ in range(20)])
    y = (np.arange(20) % 2)[copies]
    folds = folds_of(y, group, grouped=True, copies=copies)
    for fold in folds:
        assert len(fold.held)
        assert not set(copies[fold.train]) & set(copies[fold.held])
        assert set(y[fold.train]) == {0, 1}


def test_a_class_that_is_one_row_in_many_groups_is_not_judged():
    y = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    copies = np.where(y == 1, 100, np.arange(10))
    folds = folds_of(y, np.arange(10) // 2, grouped=True, copies=copies)
    assert {label for fold in folds for label in y[fold.held]} == {0}
    assert all(1 in y[fold.train] for fold in folds)
