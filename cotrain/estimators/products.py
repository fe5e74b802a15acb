"""Products of a sparse matrix with narrow dense ones, as expectation-maximisation and regression take them again and
again.

Legend: N rows, W columns, C classes.
"""

import warnings
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse


class Products:
    """A matrix [N, W], dense or sparse, ready to be multiplied from both sides.

    Sparse ones go through torch, whose kernels take a quarter of SciPy's time (sums differ in the last digit of their
    precision).
    """

    def __init__(self, x: Any):
        self.dtype = x.dtype
        self._sparse = _canonical(x) if sparse.issparse(x) else None
        self._x = x if self._sparse is None else _in_torch(self._sparse)

    def of_rows(self, weight_WC: np.ndarray) -> np.ndarray:
        """x @ weight [N, C], in the precision of x."""
        return _multiply(self._x, weight_WC.astype(self.dtype, copy=False))

    def of_columns(self, weight_NC: np.ndarray) -> np.ndarray:
        """x.T @ weight [W, C], in the precision of x."""
        return _multiply(self._transposed, weight_NC.astype(self.dtype, copy=False))

    @cached_property
    def _transposed(self) -> Any:
        return self._x.T if self._sparse is None else _in_torch(self._sparse.T.tocsr())


def _canonical(x: Any) -> sparse.csr_matrix:
    """Each row's columns in order and once, which torch takes for granted."""
    x = sparse.csr_matrix(x)
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x


def _in_torch(x: sparse.csr_matrix) -> Any:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that such tensors are new; that a matrix may not be written to
        starts, columns, values = (torch.from_numpy(part) for part in (x.indptr, x.indices, x.data))
        return torch.sparse_csr_tensor(starts, columns, values, size=x.shape, check_invariants=False)


def _multiply(x: Any, weight: np.ndarray) -> np.ndarray:
    if isinstance(x, np.ndarray):
        return x @ weight
    import torch

    return (x @ torch.from_numpy(np.ascontiguousarray(weight))).numpy()
