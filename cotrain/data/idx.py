"""Reads IDX, the array format of MNIST and Fashion-MNIST."""

from pathlib import Path

import numpy as np

from cotrain.data.store import open_file


def read_idx(path: Path, rows: int | None = None) -> np.ndarray:
    """An IDX file of bytes, gzipped or not, as uint8 [N, ...]; only its first `rows` if given.

    Source: the description of the format on the MNIST page: two zero bytes, the type (8 = unsigned byte), the number
    of dimensions, then each dimension as a big-endian 32-bit integer.
    """
    with open_file(path) as file:
        kind, dimensions = file.read(4)[2:]
        if kind != 8:
            raise ValueError(f"{path}: IDX type {kind} is not unsigned bytes (8)")
        shape = [int(size) for size in np.frombuffer(file.read(4 * dimensions), ">i4")]
        if rows is not None:
            shape[0] = min(shape[0], rows)
        return np.frombuffer(file.read(int(np.prod(shape))), np.uint8).reshape(shape)
