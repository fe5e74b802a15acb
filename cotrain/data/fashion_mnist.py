"""Fashion-MNIST, a part: the first 20,000 training images and all 10,000 test images of ten kinds of clothing.

Origin: https://github.com/zalandoresearch/fashion-mnist. Licence: MIT.
"""

from typing import Literal

import numpy as np

from cotrain.data.idx import read_idx
from cotrain.data.store import resolve

NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
Part = Literal["train", "test"]
_ROWS = {"train": 20_000, "test": 10_000}
# For each part: the stored file, its hash, the origin's file, its hash.
_IMAGES = {
    "train": (
        "train-images-first20000-idx3-ubyte.gz",
        "6833bf9e158da70ee91a28ef3fd3f53f5543627b2eacf7adc5136a0f72d4543a",
        "train-images-idx3-ubyte.gz",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    "test": (
        "t10k-images-idx3-ubyte.gz",
        "78cb45a589ec14266eab4ac0cb2e9e10a4c076ae2d337fe86383d761bff83f32",
        "t10k-images-idx3-ubyte.gz",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
}
_LABELS = {
    "train": (
        "train-labels-first20000-idx1-ubyte.gz",
        "8c92c2e07b232e86cb328eb4c0209b958aeb078a7d12ffbc8ff42df96953b73e",
        "train-labels-idx1-ubyte.gz",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    "test": (
        "t10k-labels-idx1-ubyte.gz",
        "ae04cd950ab214637dd08f56319057c2ae10cbb660f742681f426479e3d51363",
        "t10k-labels-idx1-ubyte.gz",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}


def load(split: Part = "train") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """images uint8 [20000 or 10000, 28, 28] (0 background), y int64 [N], names; in the original order."""
    return _read(_IMAGES[split], split), labels(split), NAMES


def labels(split: Part = "train") -> np.ndarray:
    """y int64 [N], without reading the images."""
    return _read(_LABELS[split], split).astype(np.int64)


def _read(entry: tuple[str, str, str, str], split: Part) -> np.ndarray:
    stored, stored_sha256, file, sha256 = entry
    url = f"https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/{file}"
    return read_idx(resolve("fashion_mnist", stored, url, sha256, stored_sha256=stored_sha256), rows=_ROWS[split])
