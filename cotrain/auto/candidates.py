"""What `cotrain fit` tries: learners on the views of the data, with and without the unlabelled rows.

Both sides get about the same number of configurations. Every candidate's probabilities are restated for equal class
shares before they are compared or averaged; the shares of the population are put in once, at the end.
Legend: N rows, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import SVC

from cotrain.auto.views import Views
from cotrain.estimators.co_em import CoEM
from cotrain.estimators.co_training import CoTraining
from cotrain.estimators.em_gaussian import EMGaussian
from cotrain.estimators.em_naive_bayes import EMNaiveBayes
from cotrain.estimators.graph import GraphSpreading
from cotrain.estimators.self_training import SelfTraining
from cotrain.estimators.taught import Taught
from cotrain.estimators.tri_training import TriTraining


@dataclass(frozen=True)
class Candidate:
    """One thing to try.

    `make(prior)` gives, from the classes' shares, an estimator for the features of `views`, joined (or as a pair, where
    it wants them `apart`). `kind` says what it looks at (words, characters, table ...), `columns` of which columns,
    where several views show the same of some columns and of others, `route` how it comes from labels to other rows
    (along a graph, by clouds, by its own guesses ...): candidates that differ in one of them err independently enough
    for their agreement to count as evidence. `modality` is the sort of columns that it reads: what is said of a note
    and what is said of a photograph is multiplied (see `Blend`). `taught`: it has its unlabelled rows' classes from the
    committee (see `lessons`).
    """

    name: str
    views: tuple[str, ...]
    unlabelled: bool  # does it learn from the unlabelled rows
    make: Callable[[np.ndarray], Any]
    kind: str = ""
    apart: bool = False
    route: str = ""
    most: int | None = None  # unlabelled rows that it learns from, half as many in a fold; None: all
    columns: frozenset[str] = frozenset()
    modality: str = ""
    taught: bool = False

    def looks_elsewhere(self, other: "Candidate") -> bool:
        """Whether they see different things. The words of a title and of title and text together are the same thing
        in part, so that learners on them agree whether they are right or not."""
        return self.kind != other.kind or (bool(self.columns) and self.columns.isdisjoint(other.columns))


MIXED = "both"  # the kind of learners that share views with others; their agreement is no evidence
STYLE = "style"  # the kind of learners that look at how a text is written, or how loud a sound is
KERNEL_ROWS = 4_000  # rows that a kernel machine is trained on; its cost grows with their square
TURNED = 1_000  # sparse rows up to which a logistic regression is quicker on axes of their own
_NO_LENGTH = 1e-10  # of the longest axis, squared
HELD = 4_000_000  # numbers of a kernel machine's rows or pairs of classes that are held at a time: 32 MB
NARROW = 100  # columns of a table up to which a hundred trees do
DENSE = 5_000  # unlabelled rows that learners on numbers take; neighbours cost their square, and more add little


class Margin(ClassifierMixin, BaseEstimator):
    """A support vector machine whose margins pass for logits; a temperature is fitted to them later.

    Kernels are made here, by products of matrices: the loops of `SVC` over pairs of rows take longer
    (`benchmarks/kernel_machine.py`).
    """

    def __init__(self, C=10.0):
        self.C = C

    def fit(self, X, y):
        if len(y) > KERNEL_ROWS:
            some = np.random.default_rng(0).permutation(len(y))[:KERNEL_ROWS]
            rare = np.unique(y, return_index=True)[1]  # every class stays
            some = np.union1d(some, rare)
            X, y = X[some], np.asarray(y)[some]
        X = X.astype(np.float64, copy=False)
        self.gamma_ = _width(X)
        machine = SVC(C=self.C, kernel="precomputed", class_weight="balanced").fit(rbf_kernel(X, gamma=self.gamma_), y)
        self.classes_ = machine.classes_
        self.rows_ = X[machine.support_]  # by class
        self.weights_ = np.split(machine.dual_coef_.T, np.cumsum(machine.n_support_)[:-1])
        self.intercept_ = machine.intercept_
        return self

    def predict_proba(self, X):
        classes = len(self.classes_)
        block = max(1, HELD // max(self.rows_.shape[0], classes * (classes - 1)))  # rows; of 150 classes 22,350 numbers
        parts = [self._logits(X[start : start + block]) for start in range(0, X.shape[0], block)]
        logits = np.concatenate(parts) if parts else np.empty((0, len(self.classes_)))
        return softmax(logits, axis=1)

    def _logits(self, X):
        """Twice the margins of each class against the others, [N, C], as `SVC` makes them of pairs: the pairs that a
        class wins and, within a third of one, by how much."""
        kernel_NS = rbf_kernel(X.astype(np.float64, copy=False), self.rows_, gamma=self.gamma_)
        ends = np.cumsum([len(weights) for weights in self.weights_])[:-1]
        parts = [own @ w for own, w in zip(np.split(kernel_NS, ends, axis=1), self.weights_, strict=True)]
        against = np.stack(parts)  # what the rows of a class say in its pairs with the others [C, N, C - 1]
        if len(against) == 2:
            margin = against.sum(0)[:, 0] + self.intercept_
            return np.stack([-margin, margin], 1)
        classes, start = len(self.classes_), 0
        votes, by = np.zeros((X.shape[0], classes)), np.zeros((X.shape[0], classes))
        for label in range(classes - 1):  # its pairs with all classes after it
            own = against[label, :, label:] + against[label + 1 :, :, label].T
            own += self.intercept_[start : start + classes - 1 - label]
            votes[:, label] += (own >= 0).sum(1)
            votes[:, label + 1 :] += own < 0
            by[:, label] += own.sum(1)
            by[:, label + 1 :] -= own
            start += own.shape[1]
        return 2 * (votes + by / (3 * (np.abs(by) + 1)))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(1)]


def _width(X) -> float:
    """The gamma that `SVC` calls "scale"."""
    variance = X.multiply(X).mean() - X.mean() ** 2 if sparse.issparse(X) else X.var()
    return 1.0 / (X.shape[1] * variance) if variance else 1.0


class Logistic(LogisticRegression):
    """Logistic regression that is quick on few rows of text, which are sparse and have tens of thousands of columns.

    The weights of a class are sums of rows, so few rows are told by their places on as many axes of their own, where
    the steps of L-BFGS are the same. Of more rows the columns are read that some row has; the weights of all others are
    zero.
    """

    coef_: np.ndarray  # [C or 1, D]

    def fit(self, X, y, sample_weight=None):
        if not sparse.issparse(X):
            return super().fit(X, y, sample_weight)
        rows = X.tocsr()
        held = np.unique(rows.indices)
        rows = rows[:, held]
        if 0 < rows.shape[0] <= min(TURNED, len(held)):
            length, axis = np.linalg.eigh((rows @ rows.T).toarray())
            kept = length > _NO_LENGTH * length[-1]  # copies lie on one axis
            length, axis = np.sqrt(length[kept]), axis[:, kept]
            super().fit(axis * length, y, sample_weight)
            found = (rows.T @ (axis / length @ self.coef_.T)).T
        else:
            super().fit(rows, y, sample_weight)
            found = self.coef_
        weights = np.zeros((len(found), X.shape[1]), found.dtype)
        weights[:, held] = found
        self.coef_, self.n_features_in_ = weights, X.shape[1]
        return self


def logistic(C: float) -> LogisticRegression:
    return Logistic(C=C, class_weight="balanced", max_iter=300)


def trees(count: int) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(count, class_weight="balanced", random_state=0)


def forest(count: int) -> RandomForestClassifier:
    return RandomForestClassifier(count, class_weight="balanced", random_state=0)


def candidates(views: Views) -> list[Candidate]:
    """The default set for the views at hand."""
    found: list[Candidate] = []
    for words, characters, topics in views.text:
        columns = frozenset(views.views[words].columns)
        found += [replace(made, columns=columns) for made in _text(words, characters, topics)]
    if len(views.text) > 1:
        found.append(_co_em_of_columns([words for words, _, _ in views.text[:-1]]))  # the last is all texts together
    for name in views.dense:
        reduced = views.reduced.get(name, name)
        made = _dense(name, _trees(name, views), reduced)
        found += [c for c in made if not c.unlabelled] if name in views.costly else made
    for name in views.style:  # last, for where time is short they tell least
        found += [replace(made, columns=frozenset(views.views[name].columns)) for made in _style(name)]
    return _placed(found, views)


def _placed(found: list[Candidate], views: Views) -> list[Candidate]:
    """With the sort of columns that they read; of two, as co-training may, the first."""
    return [replace(candidate, modality=views.modality.get(candidate.views[0], "")) for candidate in found]


def _text(words: str, characters: str, topics: str) -> list[Candidate]:
    """Few labels hold few words; naive Bayes with EM hears the others in the unlabelled rows."""
    counted = f"{words} counted"
    both = (words, characters)

    def em(weight: float, scale: float) -> Callable[[np.ndarray], EMNaiveBayes]:
        return lambda prior: EMNaiveBayes(weight=weight, scale=scale, rounds=15, tolerance=1e-3)

    return [
        Candidate(f"logistic regression, {words}", (words,), False, lambda _: logistic(10), "words"),
        Candidate(f"logistic regression, {characters}", (characters,), False, lambda _: logistic(10), "characters"),
        Candidate(f"logistic regression, {topics}", (topics,), False, lambda _: logistic(10), "topics"),
        Candidate(f"logistic regression, {words} + {characters}", both, False, lambda _: logistic(10), MIXED),
        Candidate(
            f"naive Bayes, {words}", (words,), False, lambda _: MultinomialNB(alpha=0.1, fit_prior=False), "words"
        ),
        Candidate(f"EM naive Bayes, {words}", (words,), True, em(1.0, 1.5), "words"),
        Candidate(f"EM naive Bayes, {counted}", (counted,), True, em(0.2, 1.0), "words"),
        Candidate(f"EM naive Bayes, {characters}", (characters,), True, em(1.0, 2.0), "characters"),
        Candidate(f"self-training, {counted}", (counted,), True, _likely(ComplementNB()), "words"),
        Candidate(f"co-EM, {words} + {characters}", both, True, lambda _: CoEM(scales=(1.5, 2.0)), MIXED, apart=True),
        Candidate(f"self-training, {topics}", (topics,), True, _quota(logistic(10)), "topics"),
        Candidate(f"graph, {topics}", (topics,), True, lambda _: GraphSpreading(n_neighbors=10), "topics"),
    ]


def _style(name: str) -> list[Candidate]:
    """A handful of numbers that the other views do not see."""
    return [
        Candidate(f"logistic regression, {name}", (name,), False, lambda _: logistic(1.0), STYLE),
        Candidate(f"kernel machine (stiff), {name}", (name,), False, lambda _: Margin(1.0), STYLE),
        Candidate(f"self-training with quotas, {name}", (name,), True, _quota(logistic(1.0)), STYLE, most=DENSE),
    ]


def _co_em_of_columns(words: Sequence[str]) -> Candidate:
    """A title and a text, or a paper's words and its links, are views that err for different reasons."""
    scales = (1.5,) * len(words)
    return Candidate("co-EM, words of each text", tuple(words), True, lambda _: CoEM(scales=scales), MIXED, apart=True)


def _trees(name: str, views: Views) -> list[Candidate]:
    """Trees that split by chance; on tables also trees that split where it tells most, which find the few columns that
    matter."""
    narrow = name == "table" and len(views.views[name].columns) <= NARROW
    # Hundreds of statistics that tell little each want many trees; in few columns more would say the same.
    many = 1_000 if name.startswith("sound") else 100 if narrow else 300
    extra, best = views.trees.get(name, (name, None))
    found = [Candidate(f"extra trees, {extra}", (extra,), False, lambda _: trees(many), name, route="trees")]
    if best is not None:
        found.append(Candidate(f"random forest, {best}", (best,), False, lambda _: forest(many), name, route="trees"))
    return found


def _dense(name: str, forests: Sequence[Candidate], reduced: str) -> list[Candidate]:
    """Numbers: neighbours on a graph carry the labels, kernel machines and forests learn what the graph found."""

    def graph(_) -> GraphSpreading:
        return GraphSpreading(n_neighbors=10, alpha=0.9)

    def taught_kernel(prior) -> Taught:
        return Taught(graph(prior), Margin(10.0))

    quotas = _quota(logistic(1.0))
    return [
        Candidate(f"logistic regression, {name}", (name,), False, lambda _: logistic(1.0), name),
        Candidate(f"logistic regression (stiff), {name}", (name,), False, lambda _: logistic(0.1), name),
        Candidate(f"kernel machine, {name}", (name,), False, lambda _: Margin(10.0), name),
        Candidate(f"kernel machine (stiff), {name}", (name,), False, lambda _: Margin(1.0), name),
        *forests,
        Candidate(f"Gaussians, {name}", (reduced,), False, lambda _: EMGaussian(weight=0.0), name),
        Candidate(f"EM Gaussians, {name}", (reduced,), True, lambda _: EMGaussian(), name, route="clouds", most=DENSE),
        Candidate(f"graph, {name}", (reduced,), True, graph, name, route="graph", most=DENSE),
        Candidate(
            f"kernel machine taught by graph, {name}", (reduced,), True, taught_kernel, name, route="graph", most=DENSE
        ),
        Candidate(f"self-training, {name}", (reduced,), True, _sure(logistic(1.0)), name, route="guesses", most=DENSE),
        Candidate(f"self-training with quotas, {name}", (reduced,), True, quotas, name, route="guesses", most=DENSE),
    ]


def _quota(base) -> Callable[[np.ndarray], SelfTraining]:
    """Self-training that keeps to the classes' shares, which keeps a discriminative learner from collapsing."""
    return lambda prior: SelfTraining(
        base, criterion="quota", rounds=4, per_round=0.2, prior=np.asarray(prior), random_state=0
    )


def _sure(base, threshold: float = 0.9) -> Callable[[np.ndarray], SelfTraining]:
    return lambda prior: SelfTraining(base, criterion="threshold", threshold=threshold, rounds=8, random_state=0)


def _likely(base) -> Callable[[np.ndarray], SelfTraining]:
    """Self-training on guesses half way from chance to certainty, for a learner whose probabilities are cautious."""
    return lambda prior: _sure(base, (1 + 1 / len(prior)) / 2)(prior)


def named(views: Views) -> dict[str, list[Candidate]]:
    """The methods that `--method` and `cotrain compare` take by name, as far as the views at hand allow them."""
    every = candidates(views)
    supervised = [c for c in every if not c.unlabelled]
    groups = {
        "supervised": supervised,
        "logistic": [c for c in supervised if c.name.startswith("logistic")],
        "naive-bayes": [c for c in supervised if c.name.startswith("naive Bayes")],
        "kernel": [c for c in supervised if c.name.startswith("kernel") and c.kind != STYLE],
        "trees": [c for c in supervised if c.route == "trees"],
        "emnb": [c for c in every if c.name.startswith("EM naive Bayes")],
        "graph": [c for c in every if c.name.startswith("graph")],
        "self-training": [c for c in every if c.name.startswith("self-training")],
        "taught": [c for c in every if "taught" in c.name],
        "cotraining": _co_training(views),
        "tri-training": _tri_training(views),
    }
    return {name: _placed(found, views) for name, found in groups.items() if found}


def _co_training(views: Views) -> list[Candidate]:
    """Blum and Mitchell's algorithm on two views of the text, or on two sorts of columns."""
    pairs = [(words, characters) for words, characters, _ in views.text]
    first: dict[str, str] = {}
    for name in (*(words for words, _, _ in views.text), *views.dense):
        first.setdefault(views.modality.get(name, ""), name)
    pairs += combinations(first.values(), 2)
    base = logistic(10)
    return [
        Candidate(
            f"co-training, {a} and {b}",
            (a, b),
            True,
            lambda prior: CoTraining(base, base, prior=np.asarray(prior), random_state=0),
            MIXED,
            apart=True,
        )
        for a, b in pairs
    ]


def _tri_training(views: Views) -> list[Candidate]:
    kinds = {topics: "topics" for _, _, topics in views.text} | {name: name for name in views.dense}
    return [
        Candidate(
            f"tri-training with disagreement, {name}",
            (name,),
            True,
            lambda _: TriTraining(logistic(10), disagreement=True, random_state=0),
            kind,
        )
        for name, kind in kinds.items()
    ]
