import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from cotrain.errors import InputError
from cotrain.estimators.labels import bootstrap, class_prior, counts, encode, stable_order, transduction, unlabelled


def test_encode_by_hand():
    classes, code = encode(np.array(["b", None, "a", "", "b"], dtype=object), 5)
    assert classes.tolist() == ["a", "b"]
    assert code.tolist() == [1, -1, 0, -1, 1]


@pytest.mark.parametrize("labels", [[3, 1, 5, 1], ["b", "a", "c", "a"]], ids=str)
def test_masked_labels_are_none(labels):
    y = np.ma.array(labels, mask=[False, False, True, False])
    classes, code = encode(y, 4)
    assert classes.tolist() == sorted(set(labels) - {labels[2]})
    assert code.tolist() == [1, 0, -1, 0]
    assert transduction(y, classes, np.array([1, 0, 1, 0])).tolist() == [*labels[:2], labels[0], labels[3]]


def test_numbers_in_objects_become_numbers():
    classes, code = encode(np.array([3, None, 1, np.nan, -1], dtype=object), 5)
    assert classes.dtype.kind == "i"
    assert code.tolist() == [1, -1, 0, -1, -1]


def test_classes_that_mix_text_and_numbers_are_refused():
    with pytest.raises(InputError, match="mix text"):
        encode(np.array(["a", 1, None, "b"], dtype=object))


def test_blank_texts_are_no_label():
    assert unlabelled(np.array(["a", " ", ""], dtype=object)).tolist() == [False, True, True]


def test_booleans_are_classes_and_never_gaps():
    assert not unlabelled(np.array([True, False])).any()
    classes, code = encode(np.array([True, None, False], dtype=object), 3)
    assert classes.tolist() == [False, True]
    assert code.tolist() == [1, -1, 0]


def test_transduction_fills_only_gaps_and_cuts_no_text():
    y = np.array(["no", "", "yes", ""])
    filled = transduction(y, np.array(["a long class", "no", "yes"]), np.array([1, 0, 2, -1]))
    assert filled.tolist() == ["no", "a long class", "yes", ""]
    assert y.tolist() == ["no", "", "yes", ""]


def test_order_depends_on_content_alone_and_keeps_labelled_rows():
    rng = np.random.RandomState(0)
    x = rng.rand(30, 4).round(1)
    code = np.where(np.arange(30) % 3 == 0, 0, -1)
    order = stable_order(code, x)
    assert order[:10].tolist() == list(range(0, 30, 3))
    moved = np.arange(30)
    rest = np.flatnonzero(code < 0)
    moved[rest] = rng.permutation(rest)
    np.testing.assert_array_equal(x[order], x[moved][stable_order(code, x[moved])])
    thin = sparse.csr_array(x)
    np.testing.assert_array_equal(
        thin[stable_order(code, thin)].toarray(), thin[moved][stable_order(code, thin[moved])].toarray()
    )


def test_order_of_sparse_rows_ignores_how_they_are_stored():
    """The same matrix with its columns stored backwards and a value in two parts."""
    tidy = sparse.csr_array(np.array([[1.0, 2, 0], [0, 3, 4], [5, 0, 0]]))
    untidy = sparse.csr_array(
        (np.array([2.0, 1, 4, 1, 2, 5]), np.array([1, 0, 2, 1, 1, 0]), np.array([0, 2, 5, 6])), shape=(3, 3)
    )
    code = np.full(3, -1)
    np.testing.assert_array_equal(stable_order(code, tidy), stable_order(code, untidy))
    assert untidy.nnz == 6  # the user's matrix is left as it was


def test_order_is_the_same_in_another_process():
    script = (
        "import numpy as np; from cotrain.estimators.labels import stable_order;"
        "print(stable_order(np.full(20, -1), np.arange(40.0).reshape(20, 2)).tolist())"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str(stable_order(np.full(20, -1), np.arange(40.0).reshape(20, 2)).tolist())


def test_prior_in_its_three_forms():
    classes, code = np.array(["ham", "spam"]), np.array([0, 0, 0, 1, -1])
    assert class_prior("labelled", classes, code).tolist() == [0.75, 0.25]
    assert class_prior([9, 1], classes, code).tolist() == [0.9, 0.1]
    assert class_prior({"spam": 1, "ham": 4}, classes, code).tolist() == [0.8, 0.2]


@pytest.mark.parametrize("prior", ["uniform", [1, 0], [1, 2, 3], {"ham": 1}, {"ham": 1, "egg": 1}, [np.nan, 1]])
def test_prior_that_cannot_be(prior):
    with pytest.raises(InputError, match="prior"):
        class_prior(prior, np.array(["ham", "spam"]), np.array([0, 1]))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 1000))
def test_bootstrap_keeps_every_class_with_its_number(labels, seed):
    code = np.array(labels)
    drawn = bootstrap(code, np.random.RandomState(seed))
    assert np.bincount(code[drawn], minlength=5).tolist() == np.bincount(code, minlength=5).tolist()


def test_counts():
    assert counts(np.array(["a", "b"]), np.array([1, 1, -1, 0])) == {"a": 1, "b": 2}


@pytest.mark.parametrize("gap", [-1, None, np.nan])
def test_gaps_that_became_texts_are_no_class(gap):
    labels = np.array(["spam", "ham", "spam", "ham"])
    labels[2:] = gap
    assert labels.dtype.kind == "U"
    with pytest.raises(InputError, match="give an array of dtype object"):
        encode(labels)
    meant = encode(labels.astype(object))[0].tolist()
    assert sorted(meant) == sorted({"spam", "ham", str(gap)})
