"""What learners say of rows that they were not trained on, and what follows from it.

Legend: n labelled rows, m unlabelled rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral

import numpy as np

from cotrain.auto import prior as priors
from cotrain.auto.candidates import STYLE, Candidate, candidates, named
from cotrain.auto.choose import Board, Choice, judged
from cotrain.auto.features import Features
from cotrain.auto.folds import Fold, make_folds
from cotrain.auto.lessons import lessons
from cotrain.auto.problem import Problem
from cotrain.auto.scores import mean_of_known
from cotrain.auto.search import Clock, search
from cotrain.auto.trial import Trial
from cotrain.auto.views import Views
from cotrain.errors import InputError

LESSONS, OF_REST = 0.25, 1 / 3  # of the budget, and of what is left of it, at most for learners that teach each other
SHOWS = 2.0  # standard errors above chance from which how a text is written may say something
TRUSTED = 0.8  # out-of-fold score from which a committee may tell the classes' shares
GOOD, SURELY_GOOD = 0.98, 0.95  # supervised score, and its lower bound, that leave nothing to gain
RARE, COMMON = 0.5, 1.5  # times its even share: with a class below and one above, saying never "it" would pay
ENOUGH_PER_LABEL = 3  # unlabelled rows per labelled one below which they are not learnt from


@dataclass(frozen=True)
class Evidence:
    """What learners said of rows that they were not trained on, and what follows from it.

    trials: all, also those that were dropped. board: of those that ran. metric: what counts on this table.
    folds: those that were planned. first: what was known before learners taught each other; None where they did not.
    """

    trials: list[Trial]
    board: Board
    prior: priors.Prior
    metric: str
    folds: Sequence[Fold]
    first: "Evidence | None" = None


@dataclass(frozen=True)
class Setup:
    """What learners are tried on, and how: the start of a fit, of a comparison and of an audit of labels.

    prior, metric, seed, jobs: as `fit` takes them. use_unlabelled: may they have a say.
    warnings: of the report; what happens is added.
    """

    problem: Problem
    features: Features
    prior: priors.Asked
    metric: str
    seed: int
    jobs: int
    clock: Clock
    use_unlabelled: bool
    warnings: list[str]


def gather(setup: Setup, tried: Sequence[Candidate]) -> Evidence:
    """Try learners out of fold.

    Raises:
        InputError: nothing can be held out, or no learner could be trained.
    """
    problem, features = setup.problem, setup.features
    counts = np.bincount(problem.y[problem.labelled], minlength=len(problem.audit.classes))
    folds = make_folds(problem.y, features.unlabelled, problem.unit, problem.copies, problem.grouped, setup.seed)
    if not folds:
        rows, different = len(problem.labelled), len(np.unique(problem.copies[problem.labelled]))
        copies = f" The {rows:,} labelled rows are copies of {different:,} different ones." if different < rows else ""
        raise InputError(
            f"No class has two labelled rows (or groups), so nothing can be held out; label more rows.{copies}"
        )
    warn = partial(warn_first, setup.warnings)
    trials = search(tried, features, folds, counts / counts.sum(), setup.clock, setup.jobs, warn)
    return weigh(trials, problem, setup.use_unlabelled, setup.prior, setup.metric, folds)


def weigh(
    trials: list[Trial], problem: Problem, use_unlabelled: bool, prior: priors.Asked, metric: str, folds: Sequence[Fold]
) -> Evidence:
    """What follows from trials. Raises InputError if none of a learner on labelled rows came to an end."""
    classes = problem.audit.classes
    counts = np.bincount(problem.y[problem.labelled], minlength=len(classes))
    running = [t for t in trials if t.estimator is not None]
    if all(t.candidate.unlabelled for t in running):
        raise InputError("No learner could be trained on this table: " + "; ".join(t.dropped for t in trials[:3]))
    for trial in running:
        trial.silent = ""
    for trial in _unheard(running, problem):
        what = "how the texts are written" if trial.candidate.modality == "texts" else "how loud the sounds are"
        trial.silent = f"{what} tells too little"
    first = make_board(running, problem, priors.Prior.equal(len(classes)), "accuracy")
    found = _told(first, use_unlabelled)
    shares = priors.estimate(prior, classes, counts.astype(float), found)
    measure = _metric(metric, shares.shares if found is not None or shares.given else counts / counts.sum())
    board = make_board(running, problem, shares, measure)
    return Evidence(trials, board, shares, measure, folds)


def _unheard(trials: Sequence[Trial], problem: Problem) -> list[Trial]:
    """Those of learners on the style of texts or the loudness of sounds, unless one is as good as the best on what
    these say and surely better than chance. Words are the better bet: where few labels tell little, style joins by luck
    and does harm (sentiment: MPQA 5 points, CR and MR half a point), and where it tells (spam), it tells clearly."""
    styles = [m for m, trial in enumerate(trials) if trial.candidate.kind == STYLE]
    if not styles:
        return []
    classes = len(problem.audit.classes)
    board = make_board(trials, problem, priors.Prior.equal(classes), "balanced accuracy")
    chance = np.full(len(board.y), 1 / classes)
    score = {m: board.score(board.correct[m]) for m, trial in enumerate(trials) if not trial.candidate.unlabelled}
    found = []
    for sort in {trials[m].candidate.modality for m in styles}:
        own = [m for m, trial in enumerate(trials) if trial.candidate.modality == sort]
        others = [score[m] for m in own if m in score and m not in styles]
        best = max((m for m in own if m in score and m in styles), key=lambda m: score[m], default=None)
        if not others:
            continue
        if best is not None and score[best] >= max(others):
            over, error = board.gain(board.correct[best], chance)
            if over >= SHOWS * error:
                continue
        found += [trials[m] for m in own if m in styles]
    return found


def after_lessons(setup: Setup, seen: Evidence) -> Evidence:
    """With learners that taught each other, where there is time. Learners on texts alone are left out: they are lines
    through the same words, and gain nothing by it."""
    board = seen.board
    if not setup.use_unlabelled or {trial.candidate.modality for trial in board.trials} == {"texts"}:
        return seen
    choice = board.choose()
    if _already_good(board, choice):
        return seen
    taught = lessons(board, choice, setup.features, seen.folds, setup.clock.slot(LESSONS, OF_REST), setup.jobs)
    if not taught:
        return seen
    found = weigh([*seen.trials, *taught], setup.problem, True, setup.prior, seen.metric, seen.folds)
    return replace(found, first=seen)


def warn_first(warnings: list[str], text: str) -> None:
    """What happened to the fit itself comes before what is odd about the table, and once."""
    if text not in warnings:
        warnings.insert(0, text)


def pick(views: Views, method: str | None) -> tuple[list[Candidate], set[str]]:
    """What is tried, and the names of those that --method asks for (all, if it asks for nothing)."""
    if method is None:
        found = candidates(views)
        return found, {candidate.name for candidate in found}
    if not isinstance(method, str):
        raise InputError(f"--method takes names with commas between, such as 'supervised,emnb'; not {method!r}.")
    known = named(views)
    wanted = [name.strip() for name in method.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"There is no method {unknown[0]!r} for this table; there are {', '.join(known)}.")
    found = [candidate for name in dict.fromkeys(wanted) for candidate in known[name]]
    own = {candidate.name for candidate in found}
    if all(candidate.unlabelled for candidate in found):  # what would be without the unlabelled rows is always asked
        found += known["supervised"]
    return list({candidate.name: candidate for candidate in found}.values()), own


def may_ask(problem: Problem, warnings: list[str], method: str | None = None) -> bool:
    """Whether the unlabelled rows may have a say at all: where there are enough of them, or a method was asked for."""
    if method is not None:
        return problem.without_label > 0
    labelled, unlabelled = len(problem.labelled), problem.without_label
    if unlabelled < ENOUGH_PER_LABEL * labelled:
        if unlabelled:
            warnings.append(
                f"There are fewer than {ENOUGH_PER_LABEL} unlabelled rows per labelled one ({unlabelled:,} to "
                f"{labelled:,}); they were not learnt from."
            )
        return False
    return True


def _told(board: Board, use_unlabelled: bool) -> priors.Told | None:
    """The classes' shares among the unlabelled rows, where there is a committee that can be trusted to see them: one
    accepted on unlabelled rows for itself, or one that is TRUSTED."""
    choice = board.choose(unlabelled=use_unlabelled)
    if any(board.trials[m].unlabelled is None for m in choice.members):  # there are no unlabelled rows
        return None
    if not (choice.proven or board.score(board.right(choice.members)) >= TRUSTED):
        return None
    said = out_of_fold(board, choice.members)
    held = ~np.isnan(said[:, 0])
    return priors.told(said[held], board.y[held], board.of_unlabelled(choice.members))


def check_seed_and_jobs(seed: int, jobs: int) -> None:
    """Raises InputError for a seed that is no whole number from 0 on, or jobs that are none from 1 on."""
    if not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"--seed is a whole number, 0 or more; not {seed!r}.")
    if not isinstance(jobs, Integral) or jobs < 1:
        raise InputError(f"--jobs is a number of threads, 1 or more; not {jobs!r}.")


def check_words(prior: priors.Asked, metric: str, classes: Sequence[str]) -> None:
    """Raises InputError, before anything is tried, for a prior or a metric that will not do."""
    even = np.ones(len(classes))
    priors.estimate(prior, classes, even, None)
    _metric(metric, even / len(classes))


def _metric(asked: str, shares: np.ndarray) -> str:
    """Accuracy, unless a class is so rare that saying never "it" would pay: then every class counts the same."""
    if asked != "auto":
        if asked not in ("accuracy", "balanced accuracy"):
            raise InputError(f"--metric is auto, accuracy or balanced accuracy; not {asked!r}.")
        return asked
    rare = shares.min() < RARE / len(shares) and shares.max() > COMMON / len(shares)
    return "balanced accuracy" if rare else "accuracy"


def make_board(trials: Sequence[Trial], problem: Problem, prior: priors.Prior, metric: str) -> Board:
    """What trials say, and what that counts for classes of these shares. Learners are chosen for them only where the
    user gave them; shares that are estimated only add noise there."""
    y = problem.y[problem.labelled]
    classes = len(problem.audit.classes)
    decision = prior.shares if metric == "accuracy" else np.full(classes, 1 / classes)
    counts = np.bincount(y[judged(trials)], minlength=classes)  # they stand for the others of their class, too
    stands_for = (decision / np.maximum(counts, 1))[y]
    value = np.ones(len(y)) if metric == "accuracy" and not prior.given else stands_for
    unit = problem.unit[problem.labelled]
    return Board(trials, y, unit, decision, value / value.sum(), stands_for / stands_for.sum())


def board_of(
    trials: Sequence[Trial], names: set[str], problem: Problem, prior: priors.Prior, metric: str
) -> Board | None:
    """Of the learners of these names, which all stand on one side, so that the best are taken without a test; None
    where none of them ran."""
    own = [trial for trial in trials if trial.candidate.name in names and trial.estimator is not None]
    own = [replace(trial, candidate=replace(trial.candidate, unlabelled=False)) for trial in own]
    return make_board(own, problem, prior, metric) if own else None


def only(board: Board, choice: Choice, names: set[str]) -> Choice:
    """With --method the user has chosen: the committee is made of that method's learners, whatever they score."""
    own = [m for m, t in enumerate(board.trials) if t.candidate.name in names and not t.silent] or choice.supervised
    members = board.committee(own)
    used = any(board.trials[m].candidate.unlabelled for m in members)
    helped = board.surely_better(members, choice.supervised) if used else 0.0
    return Choice(members, choice.supervised, used, helped, choice.reasons, choice.accepted)


def decide(board: Board, use_unlabelled: bool, warnings: list[str] | None = None) -> Choice:
    """The choice; where the supervised result is nearly perfect already the unlabelled rows are left alone, and
    `warnings` say so."""
    choice = board.choose(unlabelled=use_unlabelled)
    if not choice.used_unlabelled or not _already_good(board, choice):
        return choice
    if warnings is not None:
        warnings.append("The supervised result is nearly perfect already; the unlabelled rows were left alone.")
    return board.choose(unlabelled=False)


def _already_good(board: Board, choice: Choice) -> bool:
    right = board.right(choice.supervised)
    score = board.score(right)
    return bool(score >= GOOD and board.interval(score, right).low >= SURELY_GOOD)


def out_of_fold(board: Board, members: Sequence[int]) -> np.ndarray:
    """The committee's out-of-fold probabilities, averaged over repeats [n, C]; NaN where a row was never held out."""
    return mean_of_known(board.together(members))
