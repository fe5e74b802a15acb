"""Masked arrays of NumPy."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike


def unmasked(values: Any, dtype: DTypeLike | None = None) -> Any:
    """What is masked becomes missing: NaN among numbers, NaT among times, None among anything else. What is no masked
    array, or hides nothing, stays as it is.

    Args:
        dtype: of the array with gaps, where whole numbers must not become floats.
    """
    if not isinstance(values, np.ma.MaskedArray) or not np.ma.is_masked(values):
        return values
    kept = {"i": np.float64, "u": np.float64, "f": values.dtype, "m": values.dtype, "M": values.dtype}
    found = np.array(np.ma.getdata(values), dtype or kept.get(values.dtype.kind, object))
    found[np.ma.getmaskarray(values)] = None
    return found
