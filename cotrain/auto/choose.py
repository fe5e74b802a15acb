"""Which candidates to keep, and how good the result will be: all from out-of-fold predictions.

Legend: M candidates, R repeats, n labelled rows, C classes, B draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import t as student_t

from cotrain.auto import scores
from cotrain.auto.blend import Blend, product
from cotrain.auto.calibrate import soften, temperature
from cotrain.auto.candidates import MIXED
from cotrain.auto.scores import Estimate
from cotrain.auto.trial import Trial

ACCEPTED_FROM = 0.8  # probability of a gain from which a learner on unlabelled rows is accepted
CONTRADICTED_FROM = 0.9  # the same where its fellows on other views contradict it
AGREEING = 0.75  # kappa with a fellow on another view from which the unlabelled rows speak for a learner
WORTH = 0.6  # of an independent row: out-of-fold rows share their training rows; set so that 90 % intervals cover 90 %
JUDGED = 0.5  # of the rows that the supervised committee was judged on, below which a learner is not compared with it
FEW_UNITS = 10  # units (speakers, patients) of several rows below which labels cannot prove a learner to be better
NOT_BEHIND, HARDLY_BEHIND = 0.5, 1.0  # standard errors that a learner may lose for which the unlabelled rows speak
REACH = 1.5  # standard errors behind the best that a learner on unlabelled rows may be, to stand beside it
PACE = 0.5  # an error falls with the labels to this power: what folds, which train on fewer, may owe to that


@dataclass(frozen=True)
class Choice:
    """Which candidates make the result, and why each of the others does not."""

    members: list[int]
    supervised: list[int]  # the committee that would stand without unlabelled rows
    used_unlabelled: bool
    p_helped: float  # that the result is better than the supervised committee
    reasons: list[str]  # one a candidate
    accepted: list[bool]
    proven: bool = False  # some learner on unlabelled rows was accepted for itself, not only to join the others


class Board:
    """The candidates' calibrated out-of-fold predictions and what follows from them.

    Args:
        trials: candidates that ran; probabilities are stated for equal class shares.
        y: class codes of the labelled rows, [n].
        unit: rows of one unit are drawn together.
        decision: what multiplies the probabilities before the largest wins, [C]: the classes' shares where accuracy
            counts, ones where every class counts the same.
        value: what a row counts in the score by which learners are chosen, [n], sums to 1.
        stands_for: what it counts in what is said of rows to come, [n]; None: the same. Labels that were not drawn at
            random stand for more or fewer rows than others.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        y: np.ndarray,
        unit: np.ndarray,
        decision: np.ndarray,
        value: np.ndarray,
        stands_for: np.ndarray | None = None,
    ):
        self.trials = list(trials)
        self.y = y
        self.unit = np.unique(unit, return_inverse=True)[1]
        self.decision = decision
        self.value = value
        self.stands_for = value if stands_for is None else stands_for
        self.evaluated = judged(trials)
        self.temperatures = [self._temperature(trial.probability) for trial in trials]
        self.probability = np.stack(
            [soften(t.probability, temp) for t, temp in zip(trials, self.temperatures, strict=True)]
        )
        found = [trial.candidate.modality for trial in trials]
        self._sorts = [[m for m, own in enumerate(found) if own == each] for each in dict.fromkeys(found)]
        heard = [[m for m in part if not trials[m].silent] for part in self._sorts]
        self.parts = [part for part in heard if part]
        self._right: dict[tuple[int, ...], np.ndarray] = {}
        self.correct = np.stack([self.right([m]) for m in range(len(trials))])  # [M, n]
        self.heard = self._heard()
        self.agreement = self._agreement()
        self.usual = self._usual()
        self.growth = self._growth()

    @property
    def label_shares(self) -> np.ndarray:
        """The classes' shares among the labelled rows [C]."""
        return np.bincount(self.y, minlength=len(self.decision)) / len(self.y)

    def _temperature(self, probability: np.ndarray) -> float:
        """Of out-of-fold probabilities [R, n, C]."""
        said = ~np.isnan(probability[..., 0])
        row = np.broadcast_to(np.arange(len(self.y)), said.shape)[said]
        own = 1 / np.bincount(self.y, minlength=len(self.decision))[self.y]  # the probabilities are for equal shares
        weight = (own * len(self.y) / own.sum())[row] / said.sum(0)[row]
        return temperature(probability[said], self.y[row], weight)

    def blend(self, members: Sequence[int]) -> Blend:
        """How these make one voice; temperatures are found on what they said out of fold."""
        parts = [[place for place, m in enumerate(members) if m in part] for part in self._sorts]
        parts = [part for part in parts if part]
        means = [self.probability[[members[place] for place in part]].mean(0) for part in parts]
        # a member is at its temperature already, a mean of several that err differently is too cautious
        temperatures = [self._temperature(m) if len(part) > 1 else 1.0 for m, part in zip(means, parts, strict=True)]
        if len(parts) == 1:
            return Blend((tuple(parts[0]),), tuple(temperatures))
        doubt = 1 / (self.evaluated.sum() + 2)  # of one that erred on none of the judged rows (Laplace)
        together = self._temperature(product(means, temperatures, doubt))
        return Blend(tuple(map(tuple, parts)), tuple(temperatures), together, doubt)

    def together(self, members: Sequence[int]) -> np.ndarray:
        """The committee's out-of-fold probabilities [R, n, C]."""
        return self.blend(members)(self.probability[list(members)])

    def voice(self, members: Sequence[int], said: Sequence[np.ndarray]) -> np.ndarray:
        """One probability [N, C] of what the members' estimators said of some rows."""
        return self.blend(members)([soften(p, self.temperatures[m]) for m, p in zip(members, said, strict=True)])

    def of_unlabelled(self, members: Sequence[int]) -> np.ndarray:
        """What the committee says of the unlabelled rows [m, C]."""
        return self.voice(members, [np.asarray(self.trials[m].unlabelled) for m in members])

    def right(self, members: Sequence[int]) -> np.ndarray:
        """Share of the repeats in which the committee is right, by row; NaN where a row was never held out."""
        known = self._right.get(tuple(members))  # the bootstrap asks again and again
        if known is None:
            together = self.together(members)
            right = (np.where(np.isnan(together), -1, together) * self.decision).argmax(-1) == self.y
            held = ~np.isnan(together[..., 0])
            with np.errstate(invalid="ignore"):
                known = (right & held).sum(0) / held.sum(0)
            self._right[tuple(members)] = known
        return known

    def _heard(self) -> dict[int, np.ndarray]:
        """What candidates say of the unlabelled rows [m], by number; of those whose agreement is evidence."""
        return {
            m: (trial.unlabelled * self.decision).argmax(1)
            for m, trial in enumerate(self.trials)
            if trial.unlabelled is not None and trial.candidate.kind != MIXED and not trial.silent
        }

    def _agreement(self) -> np.ndarray:
        """How far each candidate agrees on the unlabelled rows with that of its fellows, on another view or by another
        route, with which it agrees most [M]; NaN where it has none.

        Cohen's kappa, so that a learner that always says one thing agrees with nobody. Learners on views with
        independent errors that agree are right: their disagreement bounds the error (Dasgupta, Littman & McAllester
        2001).
        """
        found = np.full(len(self.trials), np.nan)
        for m, said in self.heard.items():
            own = self.trials[m].candidate
            kappas = [
                _kappa(said, theirs, len(self.decision))
                for other, theirs in ((self.trials[o].candidate, theirs) for o, theirs in self.heard.items())
                if other.unlabelled == own.unlabelled and (own.looks_elsewhere(other) or other.route != own.route)
            ]
            found[m] = max(kappas, default=np.nan)
        return found

    def _usual(self) -> float:
        """How far learners on labelled rows that look at different things agree, for others agree because they see the
        same; across routes, where all look at the same."""
        supervised = [m for m, trial in enumerate(self.trials) if not trial.candidate.unlabelled]
        across = [
            _kappa(self.heard[m], self.heard[other], len(self.decision))
            for m, other in combinations([m for m in supervised if m in self.heard], 2)
            if self.trials[m].candidate.looks_elsewhere(self.trials[other].candidate)
        ]
        return max([0.0, *(across or np.nan_to_num(self.agreement[supervised]))])

    def score(self, correct: np.ndarray, times: np.ndarray | None = None) -> float:
        """Weighted mean of correctness over the evaluated rows, each counted as often as `times` says."""
        return scores.mean(correct, self.value if times is None else self.value * times)

    def estimate(self, correct: np.ndarray, times: np.ndarray | None = None) -> float:
        """The score to expect on rows to come, which may be of other shares of the classes than the labels."""
        return scores.mean(correct, self.stands_for if times is None else self.stands_for * times)

    def by_class(self, correct: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Share right of each class [C] among these rows (bool [n]); NaN where it has none that was judged."""
        rows = rows & ~np.isnan(correct)
        weight = self.stands_for[rows]
        total, right = (np.bincount(self.y[rows], w, len(self.decision)) for w in (weight, weight * correct[rows]))
        return np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)

    def weight(self, correct: np.ndarray) -> np.ndarray:
        """What each row counts in an estimate [n], sums to 1; nothing where nobody judged it."""
        weight = self.stands_for * ~np.isnan(correct)
        return weight / max(weight.sum(), 1e-12)

    def gain(
        self, of: np.ndarray, over: np.ndarray, times: np.ndarray | None = None, value: np.ndarray | None = None
    ) -> tuple[float, float]:
        """As `scores.gain`; value: what rows count, if not what they count in a choice."""
        weight = (self.value if value is None else value) * (1 if times is None else times)
        return scores.gain(of, over, weight, self.unit)

    def _growth(self) -> float:
        """What the error may become with all labels, as a share of that in folds, where a fifth of each class (and a
        half of a class of two) is held out. It widens intervals upwards; scores stay as they were found."""
        units = [len(np.unique(self.unit[self.y == label])) for label in range(len(self.decision))]
        left = np.array([1 - np.ceil(count / 5) / count if count > 1 else 1.0 for count in units])
        weight = self.value * self.evaluated
        return float((weight * left[self.y] ** PACE).sum() / max(weight.sum(), 1e-12))

    def interval(self, score: float, correct: np.ndarray) -> Estimate:
        """The score of learners that are right as `correct` says, with what it may be on other rows."""
        return scores.interval(score, self.weight(correct), worth=self.worth(correct), growth=self.growth)

    def _probability(self, errors: float) -> float:
        """That a gain of so many standard errors is one."""
        return scores.chance(errors, int(self.unit.max()) + 1)

    def worth(self, correct: np.ndarray) -> float:
        """What a row counts in an interval: WORTH, or less where the rows of a unit (a speaker) are right or wrong
        together, so that there are hardly more pieces of evidence than units."""
        weight = self.weight(correct)
        mean = float((weight * np.nan_to_num(correct)).sum())
        parts = np.bincount(self.unit, weight * (np.nan_to_num(correct) - mean))
        units = len(np.unique(self.unit[weight > 0]))
        if units < 2 or min(mean, 1 - mean) < 1e-9:  # all right or all wrong, but for rounding
            return WORTH
        apart = mean * (1 - mean) * float((weight**2).sum())
        together = float((parts**2).sum()) * units / (units - 1) * (student_t.ppf(0.95, units - 1) / 1.645) ** 2
        return WORTH if WORTH * together <= apart else apart / together

    def _backed(self, m: int, times: np.ndarray | None) -> bool:
        """Whether the unlabelled rows speak for a learner: it agrees with a fellow on another view, more than learners
        on labelled rows do, and the labels do not contradict what this agreement promises."""
        agreement = self.agreement[m]
        if not (agreement >= AGREEING and agreement > self.usual):
            return False
        promised = (1 + agreement) / 2
        doubt = 2 / np.sqrt(len(self.y))  # at least four standard errors of a score
        return self.score(self.correct[m], times) + doubt >= promised

    def committee(self, among: Sequence[int], times: np.ndarray | None = None, reach: float = 1.0) -> list[int]:
        """The best of these and all that are within so many standard errors of it; of each sort of columns apart."""
        if len(self.parts) > 1:
            own = [[m for m in part if m in among] for part in self.parts]
            return sorted(m for some in own if some for m in self._near_best(some, times, reach))
        return self._near_best(among, times, reach)

    def _near_best(self, among: Sequence[int], times: np.ndarray | None, reach: float) -> list[int]:
        scores = [self.score(self.correct[m], times) for m in among]
        best = among[int(np.argmax(scores))]
        kept = []
        for member in among:
            mean, error = self.gain(self.correct[best], self.correct[member], times)
            if member == best or mean <= reach * error:
                kept.append(member)
        return kept

    def choose(self, times: np.ndarray | None = None, unlabelled: bool = True) -> Choice:
        """Learners on unlabelled rows take the place of the others where they are surely better. Where none is, those
        that are not far behind the supervised committee join it if it loses nothing by that: as one voice of many each
        does little harm. Of each sort of columns apart, among the learners on it. Those that all of these have taught
        take their place if nothing is lost by it; where there is one sort they stand beside them."""
        reasons, accepted = [trial.silent for trial in self.trials], [False] * len(self.trials)
        found = [self._choose_in(part, times, unlabelled, reasons, accepted) for part in self.parts]
        members = sorted(m for chosen, _, _ in found for m in chosen)
        without = sorted(m for _, supervised, _ in found for m in supervised)
        proven = any(own for _, _, own in found)
        pupils = [m for m, t in enumerate(self.trials) if t.candidate.taught and unlabelled and not t.silent]
        if pupils:
            after = self.committee(pupils, times) if len(self.parts) > 1 else sorted([*members, *pupils])
            gained, _ = self.gain(self.right(after), self.right(members), times)
            for m in pupils:
                reasons[m] = f"the committee {_by_points(gained)} by those taught"
                accepted[m] = gained >= 0
            members = after if gained >= 0 else members
        used = any(self.trials[m].candidate.unlabelled for m in members)
        p_helped = self.surely_better(members, without) if used else 0.0
        return Choice(members, without, used, p_helped, reasons, accepted, proven)

    def _choose_in(
        self, part: Sequence[int], times: np.ndarray | None, unlabelled: bool, reasons: list[str], accepted: list[bool]
    ) -> tuple[list[int], list[int], bool]:
        """The members from this part, those without unlabelled rows, and whether some learner on unlabelled rows was
        accepted for itself. `reasons` and `accepted` are filled in."""
        supervised = [m for m in part if not self.trials[m].candidate.unlabelled]
        others = [m for m in part if self.trials[m].candidate.unlabelled and not self.trials[m].candidate.taught]
        if not supervised:
            for m in others:
                reasons[m] = "no learner on labelled rows of these columns came to an end, to compare it with"
            return [], [], False
        without = self.committee(supervised, times)
        base = self.right(without)
        few = self.unit.max() + 1 < min(FEW_UNITS, len(self.y))
        judged = ~np.isnan(base)
        for m in others:
            if np.count_nonzero(judged & ~np.isnan(self.correct[m])) < JUDGED * np.count_nonzero(judged):
                reasons[m] = "the clock left too few rows to judge it on"
        others = [m for m in others if not reasons[m]]
        asked = others if unlabelled else []
        gains = {m: self.gain(self.correct[m], base, times) for m in asked}
        backed = [m for m in asked if self._backed(m, times)]
        # Where the unlabelled rows speak for a learner, others for which they speak are welcome unless they are behind.
        spoken_for = any(gains[m][0] > -NOT_BEHIND * gains[m][1] for m in backed)
        backed = [m for m in backed if spoken_for and gains[m][0] > -HARDLY_BEHIND * gains[m][1]]
        for m in asked:
            mean, error = gains[m]
            sure = self._probability(mean / error)
            needed = CONTRADICTED_FROM if self.agreement[m] < AGREEING else ACCEPTED_FROM
            accepted[m] = bool((mean > 0 and sure >= needed and not few) or m in backed)
            reasons[m] = f"{_by_points(mean)}, surely better: {sure:.2f}"
            reasons[m] += ", the unlabelled rows speak for it" if m in backed else ""
        good = [m for m in others if accepted[m]]
        proven = bool(good)
        members = without
        if proven:
            members = self.committee(good, times, REACH)
            # Learners without unlabelled rows would only water these down; one alone that is no better hangs on chance.
            alone = len(members) == 1 and gains[members[0]][0] <= 0
            if alone or not spoken_for:
                members = sorted({*members, *self.committee([*good, *without], times)})
        elif unlabelled:
            for m in others:
                joined = self._gain_of_joining(m, without, times)
                if joined is not None:
                    reasons[m] += f"; the supervised committee {_by_points(joined)} with it"
                    accepted[m] = joined >= 0
            good = [m for m in others if accepted[m]]
            members = sorted([*without, *good])
        for m in supervised:
            accepted[m] = m in without
            reasons[m] = "within one standard error of the best" if m in without else "behind the best supervised"
        return members, without, proven

    def _gain_of_joining(self, m: int, committee: Sequence[int], times: np.ndarray | None) -> float | None:
        """What the committee gains with one member more; None for one too far behind to be asked."""
        right = self.right(committee)
        mean, error = self.gain(self.correct[m], right, times)
        return self.gain(self.right([*committee, m]), right, times)[0] if mean >= -REACH * error else None

    def rights(self, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
        """Where the result and the supervised committee are right, of rows that both judged: the time may have ended
        before one of them came to all folds."""
        chosen, supervised = self.right(choice.members), self.right(choice.supervised)
        apart = np.isnan(chosen) | np.isnan(supervised)
        return np.where(apart, np.nan, chosen), np.where(apart, np.nan, supervised)

    def surely_better(self, one: Sequence[int], other: Sequence[int]) -> float:
        """The probability that one committee is better than the other on rows to come."""
        mean, error = self.gain(self.right(one), self.right(other), value=self.stands_for)
        return self._probability(mean / error)


def judged(trials: Sequence[Trial]) -> np.ndarray:
    """Which labelled rows were held out by some trial, bool [n]."""
    return ~np.isnan(np.stack([t.probability[..., 0] for t in trials])).all((0, 1))


def bootstrap(board: Board, unlabelled: bool, seed: int, draws: int = 300) -> tuple[float, float]:
    """Bias-corrected scores of (the result, the supervised committee): rows are drawn, the choice is made on the drawn
    rows and scored on those left out, so that choosing the luckiest candidate is not taken for skill. Classes are
    scored each by the draws that leave one of its rows out: a draw without a rare class says nothing of it.

    Source: Tsamardinos, Greasidou & Borboudakis 2018, "Bootstrapping the out-of-sample predictions for efficient and
    accurate cross-validation", Machine Learning 107 (BBC-CV).
    """
    rng = np.random.default_rng(seed)
    units = board.unit.max() + 1
    found = np.full((draws, 2, len(board.decision)), np.nan)
    for draw in range(draws):
        times = np.bincount(rng.integers(units, size=units), minlength=units)[board.unit]
        if not (board.evaluated & (times > 0)).any() or not (board.evaluated & (times == 0)).any():
            continue
        choice = board.choose(times, unlabelled)
        found[draw] = [board.by_class(right, times == 0) for right in board.rights(choice)]
    heard = ~np.isnan(found[:, 0]).all(0)
    if not heard.any():
        return float("nan"), float("nan")
    counts = np.bincount(board.y, board.stands_for * board.evaluated, len(board.decision))[heard]
    chosen, supervised = np.average(np.nanmean(found[..., heard], 0), axis=1, weights=counts)
    return float(chosen), float(supervised)


def _by_points(gain: float) -> str:
    return f"{'gains' if gain >= 0 else 'loses'} {abs(100 * gain):.1f} points"


def _kappa(one: np.ndarray, two: np.ndarray, classes: int) -> float:
    """Agreement beyond chance: 1 always the same, 0 as by chance."""
    joint = np.bincount(one * classes + two, minlength=classes**2).reshape(classes, classes) / len(one)
    chance = joint.sum(0) @ joint.sum(1)
    return float((np.trace(joint) - chance) / (1 - chance)) if chance < 1 else 0.0
