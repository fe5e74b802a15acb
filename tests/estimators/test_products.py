import warnings

import numpy as np
import pytest
from scipy import sparse

from cotrain.estimators.products import Products


def weights(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("shape", [(7, 9), (4, 3), (0, 5), (5, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_sparse_and_dense_products_are_those_of_numpy(shape, dtype, index, classes):
    x = sparse.random(*shape, density=0.4, format="csr", dtype=dtype, random_state=0)
    x.indices, x.indptr = x.indices.astype(index), x.indptr.astype(index)
    rows, columns = weights(shape[1], classes), weights(shape[0], classes, seed=1)
    for products in (Products(x), Products(x.toarray())):
        for found, wanted in (
            (products.of_rows(rows), x.toarray() @ rows),
            (products.of_columns(columns), x.toarray().T @ columns),
        ):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, wanted, rtol=2e-6 if dtype == np.float32 else 1e-13)


def test_columns_out_of_order_and_more_than_once_add_up():
    x = sparse.csr_matrix((np.array([1.0, 2, 4, 8]), np.array([2, 0, 2, 1]), np.array([0, 3, 4])), shape=(2, 3))
    np.testing.assert_array_equal(Products(x).of_rows(np.eye(3)), [[2, 0, 5], [0, 8, 0]])
    np.testing.assert_array_equal(x.indices, [2, 0, 2, 1])  # the caller's own is as it was


def test_a_matrix_that_may_not_be_written_to_is_read_without_a_warning():
    x = sparse.random(20, 30, density=0.3, format="csr", random_state=0)
    x.data.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Products(x).of_rows(np.ones((30, 2)))


def test_the_same_to_the_last_digit_whatever_the_threads():
    torch = pytest.importorskip("torch")
    x = sparse.random(500, 2_000, density=0.05, format="csr", dtype=np.float32, random_state=0)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append((Products(x).of_rows(weights(2_000, 4)), Products(x).of_columns(weights(500, 4))))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
