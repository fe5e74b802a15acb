"""The shares of the classes among the rows to come.

Legend: n labelled rows, m unlabelled rows, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, gammaln
from scipy.stats import chi2

from cotrain.errors import InputError

PSEUDO = 10  # labelled rows that equal shares are worth: a few labels do not tell shares
USUAL = 20  # rows of each class, told as rows are on average, that are added where a class's confusions are counted
LEVEL = 0.05  # of the test whether labelled and unlabelled rows are told alike


Asked = str | Mapping[Any, float]  # "auto", "label", "uniform", or shares of the classes


@dataclass(frozen=True)
class Prior:
    """Shares [C], where they come from, in words, and whether the user asked for them."""

    shares: np.ndarray
    source: str
    given: bool = False

    @classmethod
    def equal(cls, classes: int) -> "Prior":
        """Every class alike."""
        return cls(np.full(classes, 1 / classes), "equal shares")


@dataclass(frozen=True)
class Told:
    """What a committee tells of the shares of the classes [C].

    unlabelled: among the unlabelled rows. labelled: among the labelled rows, out of fold, by EM without their classes;
    `true` is what it should have come to. drawn: labelled rows are told as unlabelled ones are, as a random draw would
    be, and there are not as many of each class.
    """

    unlabelled: np.ndarray
    labelled: np.ndarray
    true: np.ndarray
    drawn: bool


def told(labelled_nC: np.ndarray, y_n: np.ndarray, unlabelled_mC: np.ndarray) -> Told:
    """From probabilities stated for equal shares, those of labelled rows out of fold."""
    classes = unlabelled_mC.shape[1]
    heard = [np.bincount(said.argmax(1), minlength=classes) for said in (labelled_nC, unlabelled_mC)]
    counts = np.bincount(y_n, minlength=classes)
    unlabelled = unmixed(unlabelled_mC.mean(0), confusion(labelled_nC, y_n))
    drawn = bool(np.ptp(counts) > 1) and _alike(*heard)
    return Told(unlabelled, saerens(labelled_nC), counts / counts.sum(), drawn)


def confusion(said_nC: np.ndarray, y_n: np.ndarray) -> np.ndarray:
    """What is said on average of rows of each class [C, C], drawn to what it would be were all classes alike."""
    classes = said_nC.shape[1]
    right = said_nC[np.arange(len(y_n)), y_n].mean()
    usual = np.full((classes, classes), (1 - right) / max(classes - 1, 1))
    np.fill_diagonal(usual, right)
    is_class = np.eye(classes)[y_n]
    return (is_class.T @ said_nC + USUAL * usual) / (is_class.sum(0)[:, None] + USUAL)


def unmixed(mean_C: np.ndarray, confusion_CC: np.ndarray) -> np.ndarray:
    """Shares whose mixture of the rows of a confusion matrix comes nearest to the mean of what is said (in
    Kullback-Leibler divergence): EM once more, for what is said is what each class makes likely.

    Source: the equation is that of Lipton, Wang & Smola 2018, "Detecting and correcting for label shift with black box
    predictors", ICML; inverting the matrix, as they do, can give shares below zero.
    """
    return saerens(confusion_CC.T, mean_C, rounds=2_000, tolerance=1e-7)


def saerens(
    even_mC: np.ndarray, weight_m: np.ndarray | None = None, rounds: int = 200, tolerance: float = 1e-6
) -> np.ndarray:
    """Shares that make rows with these probabilities (stated for equal shares) most likely, by EM. Weights say how
    often each row is there.

    Source: Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities",
    Neural Computation 14(1), Eq. 2.4.
    """
    shares = np.full(even_mC.shape[1], 1 / even_mC.shape[1])
    for _ in range(rounds):
        posterior = even_mC * shares
        posterior /= np.maximum(posterior.sum(1, keepdims=True), 1e-12)  # a class of no share may be the only one said
        new = np.average(posterior, axis=0, weights=weight_m)
        if np.abs(new - shares).max() < tolerance:
            return new
        shares = new
    return shares


def estimate(said: Asked, classes: Sequence[str], counts_C: np.ndarray, heard: Told | None) -> Prior:
    """The prior under the user's word: "auto", "label", "uniform", "a:0.1,b:0.9" or {"a": 0.1, "b": 0.9}.

    "auto" weighs the shares that the labelled rows tell (see `of_labels`) and those that a committee tells of the
    unlabelled rows, each by the error that it is likely to have. That of the labels is the error of a random draw of so
    many rows; where they do not look like one (as many of each class, say), it is their distance from what was told.
    The committee's is that of plain EM on the labelled rows, whose shares are known: a poor committee tells nothing.

    Raises:
        InputError: shares that name no class, or do not add up.
    """
    labelled = counts_C / counts_C.sum()
    if said == "label":
        return Prior(labelled, "the shares of the labelled rows, as asked", given=True)
    if said == "uniform":
        return Prior(np.full(len(classes), 1 / len(classes)), "equal shares, as asked", given=True)
    if said != "auto":
        return Prior(_given(said, classes), "as given", given=True)
    own, noise = of_labels(counts_C)
    if heard is None:
        return Prior(own, "the labelled rows, drawn to equal shares as far as they allow")
    error = ((heard.labelled - heard.true) ** 2).sum()
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


def of_labels(counts_C: np.ndarray) -> tuple[np.ndarray, float]:
    """The shares that labels tell, if they are a random draw, and the square of their error that is to be expected.

    Many tables hold as many rows of each class: the shares are a mean of equal ones and of those that were counted
    (drawn a little to equal ones), weighed by how likely each thought makes the labels. Were all shares as likely as
    others before, sixty labels of two classes speak for equal ones up to 37 to 23.
    """
    total, classes = counts_C.sum(), len(counts_C)
    counted, equal = (counts_C + PSEUDO / classes) / (total + PSEUDO), np.full(classes, 1 / classes)
    by_any = gammaln(classes) - gammaln(total + classes) + gammaln(counts_C + 1).sum()  # log-likelihoods of the labels
    by_equal = -total * np.log(classes)
    weight = float(expit(by_equal - by_any))
    labelled = counts_C / total
    draw = (labelled * (1 - labelled)).sum() / total
    noise = (1 - weight) * draw + weight * (1 - weight) * ((counted - equal) ** 2).sum()
    return weight * equal + (1 - weight) * counted, float(noise)


def _alike(*counts: np.ndarray) -> bool:
    """Whether two samples' counts [C] may come from the same shares, by a G-test."""
    table = np.stack(counts).astype(float)
    table = table[:, table.sum(0) > 0]
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    statistic = 2 * (table * np.log(np.where(table > 0, table, 1) / expected))[table > 0].sum()
    return bool(table.shape[1] < 2 or chi2.sf(statistic, table.shape[1] - 1) > LEVEL)


def _given(said: Asked, classes: Sequence[str]) -> np.ndarray:
    try:
        shares = _parse(said) if isinstance(said, str) else {str(name): float(share) for name, share in said.items()}
    except (AttributeError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--prior takes auto, label, uniform or shares as a:0.1,b:0.9; not {said!r}.") from None
    if set(shares) != set(classes):
        raise InputError(f"--prior names {', '.join(shares)}; the classes are {', '.join(classes)}.")
    values = np.array([shares[name] for name in classes])
    if not (values > 0).all() or not np.isclose(values.sum(), 1, atol=0.02):
        raise InputError(f"--prior shares are positive and add up to 1; these add up to {values.sum():g}.")
    return values / values.sum()


def _parse(said: str) -> dict[str, float]:
    """Raises ValueError."""
    shares: dict[str, float] = {}
    parts = [""]
    for piece in said.split(","):
        if ":" in parts[-1]:
            parts.append(piece)
        else:  # a comma in a name
            parts[-1] += f",{piece}" if parts[-1] else piece
    for part in parts:
        name, colon, share = part.rpartition(":")
        if name.strip() in shares:
            raise InputError(f"--prior names {name.strip()} twice.")
        if not colon:
            raise ValueError
        shares[name.strip()] = float(share)
    return shares
