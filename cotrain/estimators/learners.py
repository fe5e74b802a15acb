"""Base learners: anything with `fit`, `predict_proba` and `classes_`, from scikit-learn or not."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import get_tags

from cotrain.errors import InputError


class SemiSupervisedClassifier(ClassifierMixin, BaseEstimator):
    """What the estimators share: they predict their most probable class, and take what their learners take."""

    classes_: np.ndarray

    def predict(self, X) -> np.ndarray:
        """The most probable class of each row."""
        probability = self.predict_proba(X)  # first: it says so when the estimator is not fitted
        return self.classes_[probability.argmax(axis=1)]

    def predict_proba(self, X) -> np.ndarray:
        raise NotImplementedError

    def _learners(self) -> list:
        """The base learners that the user gave, if the estimator takes any."""
        return []

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inputs = [get_tags(learner).input_tags for learner in self._learners() if hasattr(learner, "__sklearn_tags__")]
        tags.input_tags.sparse = all(each.sparse for each in inputs)
        tags.input_tags.allow_nan = bool(inputs) and all(each.allow_nan for each in inputs)
        return tags


def fresh(learner, rng: np.random.RandomState):
    """An untrained copy; where it has a random state that nobody set, that becomes a seed drawn from `rng`."""
    for method in ("fit", "predict_proba"):
        if not hasattr(learner, method):
            advice = "; wrap it in sklearn.calibration.CalibratedClassifierCV" if method == "predict_proba" else ""
            raise InputError(f"the learner {learner!r} has no {method}{advice}")
    copy = clone(learner, safe=False)
    seed = int(rng.randint(np.iinfo(np.int32).max))
    if hasattr(copy, "get_params"):
        states = [name for name in copy.get_params() if name.split("__")[-1] == "random_state"]
        copy.set_params(**{name: seed for name in states if copy.get_params()[name] is None})
    return copy


def trained(start, x, label: np.ndarray, classes: np.ndarray):
    """A copy of `start`, fitted on the rows whose label is a class number (not -1)."""
    learner, known = clone(start, safe=False), label >= 0
    learner.fit(x[known], classes[label[known]])
    return learner


def probabilities(learner, x, classes: np.ndarray) -> np.ndarray:
    """The learner's probabilities as float64 [rows, C]; zero for a class that it has not seen."""
    if not x.shape[0]:
        return np.zeros((0, len(classes)))
    probability = np.asarray(learner.predict_proba(x), dtype=np.float64)
    if len(learner.classes_) == len(classes):
        return probability
    full = np.zeros((x.shape[0], len(classes)))
    full[:, np.searchsorted(classes, learner.classes_)] = probability
    return full
