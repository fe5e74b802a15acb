"""The 10,000 test images of MNIST: handwritten digits.

Origin: the MNIST database of Y. LeCun, C. Cortes and C. Burges. Licence: none stated; in wide use for research.
"""

import numpy as np

from cotrain.data.idx import read_idx
from cotrain.data.store import resolve

_ORIGIN = "https://storage.googleapis.com/cvdf-datasets/mnist"


def load() -> tuple[np.ndarray, np.ndarray]:
    """images uint8 [10000, 28, 28] (0 background), y int64 [10000] in 0..9."""
    images = resolve(
        "mnist10k",
        "t10k-images-idx3-ubyte.gz",
        f"{_ORIGIN}/t10k-images-idx3-ubyte.gz",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        stored_sha256="ba05d2d6e06f59dd97d2d5378250478bb5c9b64296a5c2681700569121e3a2d7",
    )
    labels = resolve(
        "mnist10k",
        "t10k-labels-idx1-ubyte.gz",
        f"{_ORIGIN}/t10k-labels-idx1-ubyte.gz",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        stored_sha256="94088eab8a64f51a9b34cc9716f54b6548ef8b2fd16ada6d1575091b933dbf4b",
    )
    return read_idx(images), read_idx(labels).astype(np.int64)
