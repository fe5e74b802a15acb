"""Folds over labelled rows: stratified, by units that stay together, repeated."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fold:
    """Row numbers. `train` and `held` are labelled; `unlabelled` may be learnt from while `held` is out."""

    train: np.ndarray
    held: np.ndarray
    unlabelled: np.ndarray
    repeat: int


def fold_of_all(labelled: np.ndarray, unlabelled: np.ndarray) -> Fold:
    """Everything is learnt from and nothing held out, as for the result."""
    return Fold(labelled, labelled[:0], unlabelled, 0)


def repeats(labelled: int) -> tuple[int, int]:
    """How many folds and how many repeats: more where a fold has few rows to judge on. One fold is a 20 % hold-out."""
    if labelled <= 30:
        return 5, 4
    if labelled <= 200:
        return 5, 2
    return (5, 1) if labelled <= 2_000 else (1, 1)


def make_folds(
    y: np.ndarray, every: np.ndarray, unit: np.ndarray, copies: np.ndarray, grouped: bool, seed: int
) -> list[Fold]:
    """Folds over the rows with y >= 0.

    Args:
        y: class codes, -1 is unlabelled.
        every: the unlabelled rows that may be learnt from.
        unit: rows of one unit (duplicates, a speaker) are never on both sides.
        copies: rows of one number hold the same. Where units are groups, a row leaves training with its held copies.
        grouped: units are the user's groups, so the unlabelled rows of a held unit leave with it.
        seed: of the draw.

    A class whose labelled rows are all in one unit is never held out: there would be nothing to learn it from. Where
    there are no more units than folds, each fold holds one of them, and repeats would repeat the same.
    """
    labelled = np.flatnonzero(y >= 0)
    folds, times = repeats(len(labelled))
    if len(np.unique(unit[labelled])) <= folds:
        times = 1
    made = []
    for repeat in range(times):
        part = deal(y[labelled], unit[labelled], max(folds, 5), np.random.default_rng([seed, repeat]))
        for number in range(folds):
            held = labelled[part == number]
            train, held = _without_copies(labelled[part != number], held, y, copies)
            if len(held):
                out = np.isin(unit[every], unit[held]) if grouped else np.zeros(len(every), bool)
                made.append(Fold(train, held, every[~out], repeat))
    return made


def _without_copies(
    train: np.ndarray, held: np.ndarray, y: np.ndarray, copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """No copies of held rows in training; of a class that would be gone from it, none of copied rows among the held."""
    kept = train[~np.isin(copies[train], copies[held])]
    gone = train[~np.isin(y[train], y[kept])]
    if len(gone):
        held = held[~np.isin(copies[held], copies[gone])]
        kept = train[~np.isin(copies[train], copies[held])]
    return kept, held


def deal(y: np.ndarray, unit: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each row, -1 for always in training: units are dealt out by class, to the shortest fold first; one of
    several classes by that which fewest units hold, so that not all of these are in one fold."""
    units, place = np.unique(unit, return_inverse=True)
    homes = {label: len(np.unique(place[y == label])) for label in np.unique(y)}  # units that hold rows of a class
    needed = np.array([min(homes[label] for label in y[place == number]) == 1 for number in range(len(units))])
    kind = np.array([_rarest(y[place == number], homes) for number in range(len(units))])
    size = np.bincount(place)
    fold_of = np.full(len(units), -1)
    total = np.zeros(folds)
    for label in np.unique(kind):
        members = rng.permutation(np.flatnonzero((kind == label) & ~needed))
        here = np.zeros(folds)
        for member in members:
            # Few of this class first, then few rows in all, then by chance.
            choice = np.lexsort((rng.random(folds), total, here))[0]
            fold_of[member] = choice
            here[choice] += size[member]
            total[choice] += size[member]
    return fold_of[place]


def _rarest(labels: np.ndarray, homes: dict[int, int]) -> int:
    """The class that fewest units hold; of several the one that most of these rows have."""
    counts = np.bincount(labels)
    return min(np.flatnonzero(counts).tolist(), key=lambda label: (homes[label], -counts[label]))
