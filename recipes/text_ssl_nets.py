"""Few labels on news: the five semi-supervised methods of `audio_ssl` as they are, over a small net that reads word
vectors, against the same net alone and the two best algorithms of `text_ssl`. About a minute a seed on one core."""

from functools import lru_cache, partial
from statistics import fmean
from typing import Literal

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from torch import Tensor, optim

from cotrain.data import splits
from cotrain.estimators.em_naive_bayes import EMNaiveBayes
from cotrain.estimators.self_training import SelfTraining
from cotrain.losses import ramps
from cotrain.methods.semi.comparison import PUBLISHED, ROWS, Level, Name, Task, method_of
from cotrain.nets.text_bag import TextBag
from cotrain.run import Bar, Fit, Run, Table
from cotrain.views.copies import Augment, always, chain
from cotrain.views.text_noise import cut_words, drop_words, replace_words
from cotrain.views.token_ids import TokenIds, word_vectors

SYSTEMS = (24,)
CLAIM = (
    "The comparison of the five methods is on sounds and makes no claim on texts. Asked here: do FixMatch, MixMatch "
    "and ReMixMatch gain 2 points over the same net without unlabelled rows?"
)
SEEDS = range(3)

# Points of the grid in `cotrain.methods.semi.comparison`, as many for each method; of the net without unlabelled rows,
# how many words of its labelled rows are dropped. Chosen with `held_out=true` on seeds 100 and 101, without mixup
# (MixMatch and ReMixMatch with it): half of the labelled rows are kept from training and judged, and no other labels.
# Level points go to the middle.
CHOSEN: dict[str, Level] = {
    "supervised": "low",
    "mean teacher": "low",
    "deep co-training": "low",
    "mixmatch": "middle",
    "remixmatch": "middle",
    "fixmatch": "middle",
}
WORDS, LENGTH, SIZE = 8_000, 48, 64


def rows(full: bool = False) -> dict[str, dict]:
    return {
        **ROWS,
        "supervised, all labels": {"method": "supervised", "mixup": False, "labels": 0},
        "EM naive Bayes": {"method": "em"},
        "self-training, quota, lr": {"method": "self-training"},
    }


def recipe(
    method: Name | Literal["em", "self-training"] = "fixmatch",
    mixup: bool = False,
    labels: int = 10,
    level: Level | None = None,
    held_out: bool = False,
    steps: int = 400,
    seed: int = 0,
    full: bool = False,
) -> Run | Fit:
    """One method on AG News: 5,600 items, 2,000 others are the test.

    Args:
        method: what is trained.
        mixup: mix the word vectors: alpha 0.75, of labelled rows alone 0.4.
        labels: labelled rows of each class; 0 for all of them.
        level: point of the method's grid; None is the one that was chosen.
        held_out: judge on half of the labelled rows, kept from training, instead of the test.
        steps: of the optimizer; ten times as many with `full`.
        seed: which rows are labelled, first weights and noise.
        full: more steps.
    """
    data = rows_of(labels, seed, held_out)
    if method in ("em", "self-training"):
        return fit_of(method, data)
    ids, y, vectors = tokens()
    level = level or CHOSEN[method]
    steps = steps * (10 if full else 1)

    def embedded(ids_BT: Tensor) -> Tensor:
        """Token ids have no mixtures, so that nets read frozen vectors [B, T, size]."""
        return vectors[ids_BT]

    strong = chain(drop_words(0.4), cut_words(0.3), replace_words(0.1, WORDS, first=2))
    task = Task(
        ids[data.labelled],
        y[data.labelled],
        ids[np.concatenate([data.labelled, data.unlabelled])],
        net=partial(TextBag, None, SIZE, 128, 4),
        optimizer=partial(optim.AdamW, lr=3e-3, weight_decay=0.01),
        weak=chain(drop_words(0.1), always(embedded)),
        strong=chain(strong, always(embedded)),
        labelled=chain(augmentation(level), always(embedded)) if method == "supervised" else None,
        schedule=partial(ramps.cosine_down, length=steps),
        decay=0.98,
    )
    # The net does not see the order of words, so that turning them is no task for it.
    made = method_of(method, mixup, level, ramp=steps // 4, turn=False)
    return Run(made, steps=steps, seed=seed, **task.parts(made, seed, embedded(ids[data.test]), y[data.test]))


def augmentation(level: Level) -> Augment:
    """Of the labelled rows of the net without unlabelled ones: a share of the words is dropped."""
    return drop_words({"low": 0.1, "middle": 0.3, "high": 0.5}[level])


@lru_cache(maxsize=1)
def tokens() -> tuple[Tensor, Tensor, Tensor]:
    """Ids int64 [7600, T], classes, and a vector for each id; vocabulary and vectors are learnt from the pool alone."""
    texts, y, _ = splits.load("ag_news")
    learn = rows_of(0, 0, held_out=False).labelled
    reader = TokenIds(WORDS, LENGTH).fit([texts[row] for row in learn])
    ids = reader.transform(texts)
    vectors = word_vectors(ids[learn], WORDS, SIZE)
    return torch.from_numpy(ids), torch.from_numpy(y), torch.from_numpy(vectors)


@lru_cache(maxsize=1)
def counts() -> tuple[np.ndarray, np.ndarray]:
    """Counts of words and their weights, as in `text_ssl`."""
    texts, _, _ = splits.load("ag_news")
    texts = np.array(texts, dtype=object)
    learn = rows_of(0, 0, held_out=False).labelled
    counted = CountVectorizer(min_df=2).fit(texts[learn]).transform(texts).astype(np.float64)
    return counted, TfidfTransformer(sublinear_tf=True).fit(counted[learn]).transform(counted)


def fit_of(method: str, data: splits.Split) -> Fit:
    """An algorithm of `text_ssl` with its settings there."""
    counted, weighted = counts()
    y = tokens()[1].numpy()
    if method == "em":
        made, x = EMNaiveBayes(), counted
    else:
        learner = LogisticRegression(C=10, max_iter=300)
        made, x = SelfTraining(learner, criterion="quota", rounds=8, per_round=0.08), weighted
    pool = np.concatenate([data.labelled, data.unlabelled])
    given = np.where(np.isin(pool, data.labelled), y[pool], -1)
    return Fit(made, x[pool], given, x[data.test], y[data.test], {"accuracy": accuracy_score})


def rows_of(labels: int, seed: int, held_out: bool) -> splits.Split:
    """Which rows are labelled, unlabelled and judged."""
    split = splits.few_labels("ag_news", 4 * (labels or 10), seed)
    split = split if labels else splits.all_labelled(split)
    if not held_out:
        return split
    y = splits.load("ag_news")[1]
    order = split.labelled[y[split.labelled].argsort(kind="stable")]  # every other row is half of each class
    return splits.Split(order[::2], split.unlabelled, order[1::2])


def bars(table: Table) -> list[Bar]:
    def score(row: str) -> float:
        return table.mean(row, "accuracy")

    alone = score("supervised")
    gains = {name: score(PUBLISHED[name]) - alone for name in ("fixmatch", "mixmatch", "remixmatch")}
    mixed = fmean(score(f"{name} + mixup") - score(name) for name in ("deep co-training", "mean teacher", "fixmatch"))
    others = {
        "EM naive Bayes": "EM naive Bayes",
        "self-training by quota": "self-training, quota, lr",
        "the net with all labels": "supervised, all labels",
    }
    shown = ", ".join(f"{name} {score(row):.3f}" for name, row in others.items())
    aside = f"{shown}; mixup adds {mixed:+.3f} to the other three"
    return [Bar(f"{name} >= supervised + 0.02 ({aside})", gain, gain >= 0.02) for name, gain in gains.items()]
