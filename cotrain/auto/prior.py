"""The shares of the classes among the rows to come.

Legend: m unlabelled rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from cotrain.errors import InputError

PSEUDO = 50  # labelled rows that the shares found without labels are worth


@dataclass(frozen=True)
class Prior:
    """Shares [C] and where they come from, in words."""

    shares: np.ndarray
    source: str


def saerens(even_mC: np.ndarray, rounds: int = 200, tolerance: float = 1e-6) -> np.ndarray:
    """Shares that make rows with these probabilities (stated for equal shares) most likely, by EM.

    Source: Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 14(1), Eq. 2.4.
    """
    shares = np.full(even_mC.shape[1], 1 / even_mC.shape[1])
    for _ in range(rounds):
        posterior = even_mC * shares
        posterior /= posterior.sum(1, keepdims=True)
        new = posterior.mean(0)
        if np.abs(new - shares).max() < tolerance:
            return new
        shares = new
    return shares


def estimate(said: str, classes: Sequence[str], counts_C: np.ndarray, found_C: np.ndarray | None) -> Prior:
    """The prior under the user's word: "auto", "label", "uniform" or "a:0.1,b:0.9".

    "auto" asks whether the labelled rows look like a random draw of the unlabelled ones (a G-test of their counts
    against `found_C`, the shares among the unlabelled rows by EM). If they do, they are added to what was found, which
    counts as PSEUDO rows; if not, the labels were chosen class by class and only the unlabelled rows speak. Without
    `found_C`, equal shares take its place: a few labels do not tell shares.

    Raises:
        InputError: shares that name no class, or do not add up.
    """
    labelled = counts_C / counts_C.sum()
    if said == "label":
        return Prior(labelled, "the shares of the labelled rows, as asked")
    if said == "uniform":
        return Prior(np.full(len(classes), 1 / len(classes)), "equal shares, as asked")
    if said != "auto":
        return Prior(_parse(said, classes), "as given")
    if found_C is None:
        start, source = np.full(len(classes), 1 / len(classes)), "the labelled rows, drawn to equal shares where few"
    else:
        start = np.maximum(found_C, 1e-3) / np.maximum(found_C, 1e-3).sum()
        if not _looks_drawn(counts_C, start):
            return Prior(start, "the unlabelled rows: the labels do not look like a random draw of them")
        source = "labelled and unlabelled rows together: the labels look like a random draw of the rows"
    return Prior((counts_C + PSEUDO * start) / (counts_C.sum() + PSEUDO), source)


def _looks_drawn(counts_C: np.ndarray, shares_C: np.ndarray, level: float = 0.05) -> bool:
    """G-test at the level; likelihood ratio of the counts under their own shares and under these."""
    n = counts_C.sum()
    seen = counts_C > 0
    statistic = 2 * (counts_C[seen] * np.log(counts_C[seen] / (n * shares_C[seen]))).sum()
    return bool(chi2.sf(statistic, len(counts_C) - 1) > level)


def _parse(said: str, classes: Sequence[str]) -> np.ndarray:
    shares = {}
    for part in said.split(","):
        name, colon, share = part.rpartition(":")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            colon = ""
        if not colon:
            raise InputError(f"--prior takes auto, label, uniform or shares as a:0.1,b:0.9; not {said!r}.")
    if set(shares) != set(classes):
        raise InputError(f"--prior names {', '.join(shares)}; the classes are {', '.join(classes)}.")
    values = np.array([shares[name] for name in classes])
    if (values <= 0).any() or not np.isclose(values.sum(), 1, atol=0.02):
        raise InputError(f"--prior shares are positive and add up to 1; these add up to {values.sum():g}.")
    return values / values.sum()
