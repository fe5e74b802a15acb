"""The fixed few-label splits on which everything is compared: few rows labelled, the others not, and a test set.

The test rows are the same for every seed; the seed draws the labelled rows from the rest (the pool), and what is left
of the pool is unlabelled. Indices are into the `x` and `y` that `load(name)` gives.

| name | rows of x | test rows | labelled rows |
|---|---|---|---|
| digits, breast_cancer, wine | scikit-learn's | 30 % by class | drawn by class as in the pool |
| sms | SMS Spam Collection | 30 % by class | drawn by class as in the pool (13 % spam) |
| sms_equal | as sms | as sms | as many of each class: labels do not show the prior |
| fashion | 10,000 training, 2,000 test images | the 2,000 | drawn by class as in the pool |
| cifar10 | 20,000 training, 4,000 test images | the 4,000 | as many of each class |
| ag_news | 7,600 news items | 2,000 by class | as many of each class |
| mr, subj, cr, mpqa | sentences | 30 % by class | as many of each class |
| trec | 5,452 training, 500 test questions | the 500 | as many of each class |
| mfeat | 2,000 digits, six views | 30 % by class | as many of each class |
| fsdd | 3,000 recordings | the 1,000 by theo and yweweler | as many of each class, by the other four speakers |
| cora, citeseer | papers, as bags of words | the usual 1,000 | as many of each class |
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split

from cotrain.data import ag_news, cifar10, fashion_mnist, fsdd, mfeat, planetoid, sentence_sets, sms_spam
from cotrain.errors import InputError

Kind = Literal["table", "text", "image", "audio", "views", "graph"]
TABLES = ("digits", "breast_cancer", "wine")
SENTENCES = ("mr", "subj", "cr", "mpqa", "trec")
NAMES = (*TABLES, "sms", "sms_equal", "ag_news", *SENTENCES, "fashion", "cifar10", "mfeat", "fsdd", "cora", "citeseer")
FASHION_POOL, FASHION_TEST = 10_000, 2_000
FSDD_TEST_SPEAKERS = ("theo", "yweweler")  # the last two by name; chosen once, before any result


@dataclass(frozen=True)
class Split:
    """Row numbers, int64: `labelled` and `unlabelled` make up the pool, `test` is apart."""

    labelled: np.ndarray
    unlabelled: np.ndarray
    test: np.ndarray


def load(name: str) -> tuple[Any, np.ndarray, Kind]:
    """x, y int64 [N] and the kind of x: a float32 array, a list of texts, uint8 images, a list of waves at 8 kHz, a
    dict of float32 views, or a csr matrix (whose links `planetoid.load` gives). Unscaled.
    """
    _check(name)
    if name in TABLES:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return x.astype(np.float32), y.astype(np.int64), "table"
    if name in ("sms", "sms_equal"):
        texts, y, _ = sms_spam.load()
        return texts, y, "text"
    if name == "ag_news":
        texts, y, _ = ag_news.load()
        return texts, y, "text"
    if name == "trec":
        (train, y_train, _), (test, y_test, _) = sentence_sets.load("trec"), sentence_sets.load("trec", "test")
        return train + test, np.concatenate([y_train, y_test]), "text"
    if name in SENTENCES:
        texts, y, _ = sentence_sets.load(name)
        return texts, y, "text"
    if name == "fashion":
        images = [fashion_mnist.load("train")[0][:FASHION_POOL], fashion_mnist.load("test")[0][:FASHION_TEST]]
        return np.concatenate(images), _labels(name), "image"
    if name == "cifar10":
        return np.concatenate([cifar10.load("train")[0], cifar10.load("test")[0]]), _labels(name), "image"
    if name == "mfeat":
        views, y = mfeat.load()
        return views, y, "views"
    if name == "fsdd":
        waves, _, y, _ = fsdd.load()
        return waves, y, "audio"
    graph, y, _ = planetoid.load(name)  # type: ignore[arg-type]
    return graph, y, "graph"


def few_labels(name: str, labels: int, seed: int) -> Split:
    """The split with `labels` labelled rows in all. The 15 Citeseer nodes without a topic are in none of its parts.

    Raises InputError for an unknown name, or a number of labels that cannot be drawn.
    """
    _check(name)
    y, pool, test = _pool(name)
    classes = np.unique(y[pool])
    by_class = name in (*TABLES, "sms", "fashion")
    if not len(classes) <= labels < len(pool) or (not by_class and labels % len(classes)):
        multiple = "" if by_class else f" and a multiple of {len(classes)}"
        raise InputError(
            f"{name}: cannot draw {labels} labels; give a number from {len(classes)} to {len(pool) - 1}{multiple}."
        )
    if by_class:
        labelled, unlabelled = train_test_split(pool, train_size=labels, stratify=y[pool], random_state=seed)
        return Split(labelled, unlabelled, test)
    each = labels // len(classes)
    smallest = int(np.bincount(y[pool]).min())
    if each > smallest:
        raise InputError(f"{name}: cannot draw {each} labels of each class; the smallest class has {smallest} rows.")
    rng = np.random.default_rng(seed)
    labelled = np.sort(np.concatenate([rng.choice(pool[y[pool] == c], each, replace=False) for c in classes]))
    return Split(labelled, np.setdiff1d(pool, labelled), test)


def all_labelled(split: Split) -> Split:
    """With a label for every row of the pool; the unlabelled rows stay, for methods that look at them too."""
    return Split(np.sort(np.concatenate([split.labelled, split.unlabelled])), split.unlabelled, split.test)


def _check(name: str) -> None:
    if name not in NAMES:
        raise InputError(f"There is no split named {name!r}; the names are {', '.join(NAMES)}.")


def _labels(name: str) -> np.ndarray:
    if name == "fashion":
        return np.concatenate(
            [fashion_mnist.labels("train")[:FASHION_POOL], fashion_mnist.labels("test")[:FASHION_TEST]]
        )
    if name == "cifar10":
        return np.concatenate([cifar10.labels("train"), cifar10.labels("test")])
    if name == "fsdd":
        return fsdd.labels()[0]
    return load(name)[1]


@lru_cache(maxsize=len(NAMES))
def _pool(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y of all rows, the rows of the pool, the test rows."""
    y = _labels(name)
    rows = np.arange(len(y))
    if name == "fashion":
        return y, rows[:FASHION_POOL], rows[FASHION_POOL:]
    if name == "cifar10":
        return y, rows[:20_000], rows[20_000:]
    if name == "trec":
        return y, rows[:5_452], rows[5_452:]
    if name == "fsdd":
        held_out = np.isin(fsdd.labels()[1], FSDD_TEST_SPEAKERS)
        return y, rows[~held_out], rows[held_out]
    if name in ("cora", "citeseer"):
        test = planetoid.public_split(name)[2]  # type: ignore[arg-type]
        return y, np.setdiff1d(rows[y >= 0], test), test
    test_size = 2_000 if name == "ag_news" else 0.3
    pool, test = train_test_split(rows, test_size=test_size, stratify=y, random_state=0)
    return y, pool, test
