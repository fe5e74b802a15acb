"""The shares of the classes among the rows to come.

Legend: n labelled rows, m unlabelled rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from cotrain.errors import InputError

PSEUDO = 10  # labelled rows that equal shares are worth: a few labels do not tell shares
LEVEL = 0.05  # of the test whether labelled and unlabelled rows are told alike


@dataclass(frozen=True)
class Prior:
    """Shares [C] and where they come from, in words."""

    shares: np.ndarray
    source: str


@dataclass(frozen=True)
class Told:
    """What a committee tells of the shares of the classes [C].

    unlabelled: among the unlabelled rows, by EM. labelled: the same reckoning on the labelled rows, out of fold; `true`
    is what it should have come to. drawn: labelled rows are told as unlabelled ones are, as a random draw would be.
    """

    unlabelled: np.ndarray
    labelled: np.ndarray
    true: np.ndarray
    drawn: bool


def told(labelled_nC: np.ndarray, y_n: np.ndarray, unlabelled_mC: np.ndarray) -> Told:
    """From probabilities stated for equal shares, those of labelled rows out of fold."""
    classes = unlabelled_mC.shape[1]
    counts = [np.bincount(said.argmax(1), minlength=classes) for said in (labelled_nC, unlabelled_mC)]
    true = np.bincount(y_n, minlength=classes) / len(y_n)
    return Told(saerens(unlabelled_mC), saerens(labelled_nC), true, _alike(*counts))


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


def estimate(said: str, classes: Sequence[str], counts_C: np.ndarray, heard: Told | None) -> Prior:
    """The prior under the user's word: "auto", "label", "uniform" or "a:0.1,b:0.9".

    "auto" weighs the shares of the labelled rows, drawn a little to equal ones, and those that a committee tells of the
    unlabelled rows, each by the error that it is likely to have. That of the labels is the error of a random draw of so
    many rows; where they do not look like one (as many of each class, say), it is their distance from what was told.
    The committee's is what the same reckoning makes of the labelled rows, whose shares are known: a poor committee
    tells nothing.

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
    own = (counts_C + PSEUDO / len(classes)) / (counts_C.sum() + PSEUDO)
    if heard is None:
        return Prior(own, "the labelled rows, drawn to equal shares where few")
    error = ((heard.labelled - heard.true) ** 2).sum()
    noise = (labelled * (1 - labelled)).sum() / counts_C.sum()
    if not heard.drawn:
        noise = max(noise, ((heard.unlabelled - own) ** 2).sum())
    weight = noise / (noise + error) if noise + error else 0.0
    shares = np.maximum((1 - weight) * own + weight * heard.unlabelled, 1e-3)
    if heard.drawn:
        source = "labelled and unlabelled rows together: the labels look like a random draw of the rows"
    elif weight > 0.5:
        source = "the unlabelled rows: the labels do not look like a random draw of them"
    else:
        source = "the labelled rows: they do not look like a random draw, but what is told of the others is not sure"
    return Prior(shares / shares.sum(), source)


def _alike(*counts: np.ndarray) -> bool:
    """Whether two samples' counts [C] may come from the same shares, by a G-test."""
    table = np.stack(counts).astype(float)
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = 2 * (table * np.log(np.where(table > 0, table, 1) / expected))[table > 0].sum()
    return bool(table.shape[1] < 2 or chi2.sf(statistic, table.shape[1] - 1) > LEVEL)


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
