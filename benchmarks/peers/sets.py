"""The sets of the main job's benchmark: as a user would have them, and as the matrices that the peers get.

Legend: N rows of a set, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.preprocessing import MinMaxScaler, StandardScaler, normalize

from cotrain.data import ag_news, cifar10, fashion_mnist, fsdd, planetoid, sms_spam
from cotrain.data.splits import SENTENCES, few_labels, load

TARGET = "label"
# (set, labelled rows); no gain is to be had from the unlabelled rows of breast_cancer, wine and fsdd.
CELLS = [
    ("digits", 40),
    ("digits", 100),
    ("breast_cancer", 20),
    ("wine", 15),
    ("sms", 20),
    ("sms", 50),
    ("sms_equal", 10),
    ("sms_equal", 50),
    ("ag_news", 20),
    ("ag_news", 40),
    ("ag_news", 100),
    ("ag_news", 400),
    ("cora", 140),
    ("citeseer", 120),
    ("mfeat", 20),
    ("mfeat", 50),
    ("fashion", 100),
    ("fashion", 250),
    ("fsdd", 50),
    ("fsdd", 100),
]
FULL = [("cifar10", 250), ("cifar10", 1000)]
TEXTS = ("sms", "sms_equal", "ag_news")
GRAPHS = ("cora", "citeseer")


@dataclass(frozen=True)
class Cell:
    """One draw of labelled rows."""

    name: str
    labels: int
    seed: int

    @property
    def metric(self) -> str:
        """One spam message to seven others: who never says spam would score 87 % accuracy."""
        return "balanced accuracy" if self.name in ("sms", "sms_equal") else "accuracy"

    @property
    def score(self) -> Callable[[np.ndarray, np.ndarray], float]:
        """(truth, prediction) -> the metric, 0..1."""
        return balanced_accuracy_score if self.metric == "balanced accuracy" else accuracy_score


# What a user has


@dataclass(frozen=True)
class Table:
    """What `cotrain.fit` gets: `train` with empty labels, `test` with labels, `unseen` = test without labels; `truth`
    holds the labels of the test rows as text."""

    train: pd.DataFrame | Path
    test: pd.DataFrame | Path
    unseen: pd.DataFrame | Path
    truth: np.ndarray


def table(cell: Cell, files: Path) -> Table:
    """The cell as DataFrames or, for images and sounds, as CSV files beside them in `files` (see `write_files`)."""
    frame = _frame(cell.name)
    split = few_labels(cell.name, cell.labels, cell.seed)
    labels = _label_names(cell.name)
    train = frame.iloc[np.sort(np.concatenate([split.labelled, split.unlabelled]))].copy()
    known = np.isin(train.index, split.labelled)
    train[TARGET] = pd.Series(labels[train.index], train.index, dtype=object).where(known, None)
    unseen = frame.iloc[split.test].copy()
    test = unseen.assign(**{TARGET: labels[split.test]})
    tables = {"train": train, "test": test, "unseen": unseen}
    if not {"image", "audio"} & set(frame.columns):
        return Table(**{part: made.reset_index(drop=True) for part, made in tables.items()}, truth=labels[split.test])
    paths = {}
    for part, made in tables.items():
        paths[part] = files / cell.name / f"{cell.labels}-{cell.seed}-{part}.csv"
        made.to_csv(paths[part], index=False)
    return Table(**paths, truth=labels[split.test])


@lru_cache(maxsize=1)
def _frame(name: str) -> pd.DataFrame:
    """All rows of a set without its labels, columns named as a user would name them."""
    if name in (*TEXTS, *SENTENCES):
        return pd.DataFrame({"message" if name.startswith("sms") else "text": load(name)[0]})
    if name == "digits":
        x = load(name)[0]
        return pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    if name in ("breast_cancer", "wine"):
        names = (load_breast_cancer if name == "breast_cancer" else load_wine)().feature_names
        return pd.DataFrame(load(name)[0], columns=list(names))
    if name == "mfeat":
        views = load(name)[0]
        columns = {f"{view}{i + 1}": x[:, i] for view, x in views.items() for i in range(x.shape[1])}
        return pd.DataFrame(columns)
    if name in GRAPHS:
        words, links = graph_texts(name)
        return pd.DataFrame({"words": words, "links": links})
    if name in ("fashion", "cifar10"):
        return pd.DataFrame({"image": [f"{row:05d}.png" for row in range(len(load(name)[1]))]})
    if name == "fsdd":
        return pd.DataFrame({"audio": _sound_names()})
    raise KeyError(name)


def _label_names(name: str) -> np.ndarray:
    """The class of each row as text, [N]."""
    y = load(name)[1]
    names = {
        "sms": sms_spam.NAMES,
        "sms_equal": sms_spam.NAMES,
        "ag_news": ag_news.NAMES,
        "fashion": fashion_mnist.NAMES,
        "cifar10": cifar10.NAMES,
        "breast_cancer": ["malignant", "benign"],
    }.get(name, [str(number) for number in range(y.max() + 1)])
    return np.array(names, dtype=object)[y]


def graph_texts(name: str) -> tuple[list[str], list[str]]:
    """Each paper's words, such as "w12 w40", and its own name and those that it is linked with, such as "p123 p7"."""
    x, _, edges = planetoid.load(name)
    words = [" ".join(f"w{word}" for word in x.indices[x.indptr[i] : x.indptr[i + 1]]) for i in range(x.shape[0])]
    linked: list[list[int]] = [[i] for i in range(x.shape[0])]
    for one, other in edges:
        linked[one].append(int(other))
        linked[other].append(int(one))
    return words, [" ".join(f"p{paper}" for paper in papers) for papers in linked]


def _sound_names() -> list[str]:
    """speaker_number.wav, numbered so that the name does not tell the digit."""
    speakers = np.array(fsdd.labels()[1])
    numbers = np.empty(len(speakers), int)
    rng = np.random.default_rng(0)
    for speaker in np.unique(speakers):
        mask = speakers == speaker
        numbers[mask] = rng.permutation(mask.sum())
    return [f"{speaker}_{number:03d}.wav" for speaker, number in zip(speakers, numbers, strict=True)]


def write_files(name: str, files: Path) -> None:
    """The images or sounds of a set as files, once."""
    folder = files / name
    done = folder / "complete"
    if name not in ("fashion", "cifar10", "fsdd") or done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    x = load(name)[0]
    if name == "fsdd":
        import soundfile

        for file, wave in zip(_sound_names(), x, strict=True):
            soundfile.write(folder / file, wave, fsdd.RATE, subtype="PCM_16")
    else:
        from PIL import Image

        for file, pixels in zip(_frame(name)["image"], x, strict=True):
            Image.fromarray(pixels).save(folder / file)
    done.touch()


# What the peers get


@dataclass(frozen=True)
class Matrices:
    """Rows in the order labelled, unlabelled, test.

    x: TF-IDF of words (1-2-grams), standardised columns, pixels in 0..1, or statistics of cepstra. positive: the same
    without negative numbers. words: counts of words but English stop words, for naive Bayes, otherwise positive.
    compact: dense, 100 singular directions of TF-IDF (length 1), otherwise x. frequent: dense, the 2,000 most frequent
    words, otherwise positive. views: two sets of the columns of compact for co-training: the set's own where it has
    some, otherwise chance halves. y of the labelled rows; truth of the test rows. groups: speakers of the labelled
    rows, if there are some.
    """

    x: Any
    positive: Any
    words: Any
    compact: np.ndarray
    frequent: np.ndarray
    views: tuple[np.ndarray, np.ndarray]
    y: np.ndarray
    truth: np.ndarray
    unlabelled: int
    groups: np.ndarray | None


def matrices(cell: Cell) -> Matrices:
    """Everything is fitted on the labelled and unlabelled rows only."""
    split = few_labels(cell.name, cell.labels, cell.seed)
    rows = np.concatenate([split.labelled, split.unlabelled, split.test])
    pool = len(split.labelled) + len(split.unlabelled)
    y = load(cell.name)[1][rows]
    first = 0  # columns of the first of two views, where the set has some
    if cell.name in TEXTS:
        texts = load(cell.name)[0]
        x = _tfidf(texts, rows, pool, (1, 2))
        words = _counted(texts, rows, pool)
    elif cell.name in GRAPHS:
        columns = graph_texts(cell.name)
        parts = [_tfidf(texts, rows, pool, (1, 1)) for texts in columns]
        x = sparse.hstack(parts, format="csr")
        words = sparse.hstack([_counted(texts, rows, pool) for texts in columns], format="csr")
    elif cell.name in ("fashion", "cifar10"):
        x = (load(cell.name)[0][rows].reshape(len(rows), -1) / 255).astype(np.float32)
    elif cell.name == "digits":
        x = load(cell.name)[0][rows] / 16
    else:
        x, first = _columns(cell.name)
        x = StandardScaler().fit(x[rows[:pool]]).transform(x[rows])
    compact, positive = x, x
    if cell.name in GRAPHS:
        compact = np.hstack([_compact(part, pool) for part in parts])
        first = compact.shape[1] // 2
    elif sparse.issparse(x):
        compact = _compact(x, pool)
    elif x.min() < 0:
        positive = MinMaxScaler(clip=True).fit(x[:pool]).transform(x)
    groups = np.array(fsdd.labels()[1])[split.labelled] if cell.name == "fsdd" else None
    return Matrices(
        x=x,
        positive=positive,
        words=words if sparse.issparse(x) else positive,
        compact=compact,
        frequent=words[:, _frequent(words[:pool])].toarray() if sparse.issparse(x) else positive,
        views=_two_views(compact.shape[1], first, cell.seed),
        y=y[: len(split.labelled)],
        truth=y[pool:],
        unlabelled=len(split.unlabelled),
        groups=groups,
    )


def _tfidf(texts: list[str], rows: np.ndarray, pool: int, grams: tuple[int, int]) -> sparse.csr_matrix:
    vectors = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=grams, strip_accents="unicode")
    vectors.fit([texts[row] for row in rows[:pool]])
    return vectors.transform([texts[row] for row in rows])


def _counted(texts: list[str], rows: np.ndarray, pool: int) -> sparse.csr_matrix:
    counts = CountVectorizer(min_df=2, stop_words="english", strip_accents="unicode")
    counts.fit([texts[row] for row in rows[:pool]])
    return counts.transform([texts[row] for row in rows]).astype(np.float64)


def _columns(name: str) -> tuple[np.ndarray, int]:
    """The columns of a table, views side by side, and how many of them are the first view of two (0: no views)."""
    if name == "mfeat":
        views = load(name)[0]
        first = ("fou", "fac", "kar")
        order = [*first, *(view for view in views if view not in first)]
        return np.hstack([views[view] for view in order]), sum(views[view].shape[1] for view in first)
    if name == "fsdd":
        from cotrain.views.audio import MfccView

        view = MfccView(("audio",), rate=fsdd.RATE)
        waves = pd.DataFrame({"audio": pd.Series(load(name)[0], dtype=object)})
        return view.extract(waves)["statistics"], 0
    return load(name)[0], 0


def _compact(x: sparse.csr_matrix, pool: int) -> np.ndarray:
    return normalize(TruncatedSVD(100, random_state=0).fit(x[:pool]).transform(x))


def _frequent(x: sparse.csr_matrix, most: int = 2_000) -> np.ndarray:
    """The columns that are not zero in most rows."""
    return np.sort(np.argsort(-x.getnnz(axis=0), kind="stable")[:most])


def _two_views(columns: int, first: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the first columns and of the others; where `first` is 0, two halves by chance."""
    order = np.arange(columns) if first else np.random.default_rng(seed).permutation(columns)
    first = first or columns // 2
    return np.sort(order[:first]), np.sort(order[first:])
