"""AG News: 7,600 news items on four topics, 1,900 of each.

Origin: https://github.com/mhjabreel/CharCnn_Keras, data/ag_news_csv/test.csv: the test file of the set that X. Zhang
(2015) made of A. Gulli's AG corpus, used here as the whole pool. Licence: the corpus is provided for research and any
other non-commercial activity; it is not part of this package.
"""

import csv
import io

import numpy as np

from cotrain.data.store import open_file, resolve

NAMES = ["World", "Sports", "Business", "Sci/Tech"]
_COMMIT = "555590db4219b1243abb1918effd6a7425a2d75f"


def load() -> tuple[list[str], np.ndarray, list[str]]:
    """texts (7,600: title, space, description), y int64 [7600] in 0..3, names of the classes.

    A backslash stands for a line break in the origin's file and becomes a space.
    """
    path = resolve(
        "ag_news",
        "test.csv.gz",
        f"https://raw.githubusercontent.com/mhjabreel/CharCnn_Keras/{_COMMIT}/data/ag_news_csv/test.csv",
        "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
        stored_sha256="a0687337e1d12c4c6e06e96e5ffaf0cdbfc59a2a20614bd7598a4f4b167b6eec",
    )
    with open_file(path) as file:
        rows = list(csv.reader(io.TextIOWrapper(file, encoding="utf-8", newline="")))
    texts = [f"{title} {description}".replace("\\", " ") for _, title, description in rows]
    return texts, np.array([int(topic) - 1 for topic, _, _ in rows]), NAMES
