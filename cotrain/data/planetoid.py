"""Cora and Citeseer: scientific papers as bags of words, their topics, and who cites whom.

Origin: https://github.com/kimiyoung/planetoid (Yang, Cohen and Salakhutdinov, 2016). Licence: MIT. The origin publishes
pickles, which are never read here: the files are `.npz` conversions and cannot be downloaded.
"""

from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix

from cotrain.data.store import resolve

_SHA256 = {
    "cora": "7e0d5ef635a30a367d4cdd5cf815e0a5d201170aa01a4e728a27d977ad30cf43",
    "citeseer": "a99c432e66b059bbc38f5d9a3d9504330bed780fef980b0bbe45b2a3c5daf004",
}
Graph = Literal["cora", "citeseer"]


def load(name: Graph) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """x csr float32 [N, words] of 0 and 1, y int64 [N] (-1: 15 Citeseer nodes without text or topic), edges int64
    [E, 2], each once with the smaller node first. Cora: 2,708 nodes, 1,433 words, 7 topics; Citeseer: 3,327, 3,703, 6.
    """
    with _open(name) as arrays:
        parts = (arrays["x_data"].astype(np.float32), arrays["x_indices"], arrays["x_indptr"])
        x = csr_matrix(parts, shape=tuple(arrays["x_shape"]))
        return x, arrays["y"].astype(np.int64), arrays["edges"].astype(np.int64)


def public_split(name: Graph) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The usual nodes for training (20 a topic), validation (500) and test (1,000), int64."""
    with _open(name) as arrays:
        train, validation, test = (arrays[part].astype(np.int64) for part in ("train", "val", "test"))
        return train, validation, test


def _open(name: Graph):
    origin = "https://github.com/kimiyoung/planetoid"
    path = resolve("planetoid", f"{name}.npz", origin, None, stored_sha256=_SHA256[name])
    return np.load(path, allow_pickle=False)
