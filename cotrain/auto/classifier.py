"""The main job as a scikit-learn classifier."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from cotrain.auto.calibrate import classes_in_sets
from cotrain.auto.fit import Metric, fit
from cotrain.auto.labels import check_classes, read_labels
from cotrain.auto.model import Model
from cotrain.auto.prior import Asked
from cotrain.auto.result import FitReport
from cotrain.auto.student import Student
from cotrain.errors import InputError
from cotrain.estimators.labels import encode
from cotrain.masks import unmasked

Names = str | Sequence[str]


class CoTrainClassifier(ClassifierMixin, BaseEstimator):
    """What `cotrain fit` does, for X and y: -1, None, NaN, an empty text or a mask in y is a row without a label.

    X is an array of numbers [N, D] (NaN or a masked number is a missing cell), a DataFrame (text, numbers, categories,
    dates, file names), or a list of texts.

    Args:
        budget: time for a fit, such as "3m".
        method: try only these learners ("supervised", "emnb", "graph", ...); None tries what suits the data.
        prior: shares of the classes in the population: "auto", "label", "uniform", "a:0.1,b:0.9" or
            {"a": 0.1, "b": 0.9}.
        metric: "auto", "accuracy" or "balanced accuracy".
        coverage: of the sets that `predict_set` gives.
        encoder: pretrained encoders as views: "auto" (those on this disk), "none", a path or a name.
        text, image, audio, drop, group: columns of a DataFrame, as for `cotrain.fit`.
        unlabelled: the value of y that means "no label" beside None, NaN and empty texts. None where -1 is a class.
        seed: of everything random.
        jobs: threads.

    Attributes:
        classes_: the labels, sorted, [C].
        model_: the committee; it knows the classes as text. student_: the small model. report_: what is known of the
            fit.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn; not for a list of texts.
    """

    def __init__(
        self,
        *,
        budget: str | float = "3m",
        method: str | None = None,
        prior: Asked = "auto",
        metric: Metric = "auto",
        coverage: float = 0.9,
        encoder: Names = "auto",
        text: Names = (),
        image: Names = (),
        audio: Names = (),
        drop: Names = (),
        group: Names = (),
        unlabelled: Any = -1,
        seed: int = 0,
        jobs: int = 1,
    ):
        self.budget = budget
        self.method = method
        self.prior = prior
        self.metric = metric
        self.coverage = coverage
        self.encoder = encoder
        self.text = text
        self.image = image
        self.audio = audio
        self.drop = drop
        self.group = group
        self.unlabelled = unlabelled
        self.seed = seed
        self.jobs = jobs

    classes_: np.ndarray
    model_: Model
    student_: Student
    report_: FitReport

    def fit(self, X, y) -> "CoTrainClassifier":
        """Learn from the labelled rows and, where they help, from the others.

        Raises:
            InputError: no labelled row, one class only, no column to learn from.
        """
        frame = self._frame(X, fitting=True)
        self.classes_, code = self._codes(y, len(frame))
        names = _class_names(self.classes_, code)
        target = _free_name(list(frame.columns))
        labels = np.full(len(frame), None, dtype=object)
        labels[code >= 0] = np.array(names, dtype=object)[code[code >= 0]]
        result = fit(
            frame.assign(**{target: pd.Series(labels, index=frame.index)}),
            target=target,
            text="text" if _is_texts(X) else self.text,
            image=self.image,
            audio=self.audio,
            drop=self.drop,
            group=self.group,
            budget=self.budget,
            coverage=self.coverage,
            prior=self.prior,
            metric=self.metric,
            method=self.method,
            encoder=self.encoder,
            seed=self.seed,
            jobs=self.jobs,
        )
        self.model_, self.student_, self.report_ = result.model, result.student, result.report
        # The model's classes are in the order in which people sort, `classes_` in numpy's.
        self._place_ = np.array([result.model.classes.index(name) for name in names])
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Probabilities [N, C] in the order of `classes_`; NaN where an image or a sound cannot be read."""
        check_is_fitted(self, "model_")
        return self.model_.predict_proba(self._frame(X, fitting=False))[:, self._place_]

    def predict(self, X) -> np.ndarray:
        """The likeliest class of each row [N].

        Raises:
            InputError: an image or a sound cannot be read, so that there is no class for its row.
        """
        probability = self.predict_proba(X)
        unknown = np.flatnonzero(np.isnan(probability[:, 0]))
        if len(unknown):
            raise InputError(f"Row {unknown[0]} names a file that cannot be read; leave such rows out.")
        return self.classes_[probability.argmax(1)]

    def predict_set(self, X) -> np.ndarray:
        """bool [N, C]: which classes cannot be ruled out at the coverage that was asked for.

        Raises:
            InputError: there were too few labels to promise it.
        """
        probability = self.predict_proba(X)
        if self.model_.threshold is None:
            raise InputError("There were too few labels to promise a coverage; label more rows and fit again.")
        return classes_in_sets(probability, self.model_.threshold)

    def _codes(self, y: Any, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes, and each row's place among them, -1 without a label."""
        if y is None or (isinstance(self.unlabelled, int) and self.unlabelled == -1):
            return encode(y, rows)
        y = column_or_1d(unmasked(y, object), warn=True)
        missing = np.array(pd.isna(y)) | (y == self.unlabelled)
        missing |= np.array([isinstance(label, str) and not label.strip() for label in y])
        classes, code = np.empty(0), np.full(len(y), -1)
        if not missing.all():
            given = y[~missing]
            if not any(isinstance(label, str) for label in given):
                given = np.array(given.tolist())  # numbers that stood beside None are objects
            check_classification_targets(given)
            classes, code[~missing] = np.unique(np.array(given.tolist()), return_inverse=True)
        encode(code, rows)  # refuses what cannot be learnt from
        return classes, code

    def _frame(self, X: Any, fitting: bool) -> pd.DataFrame:
        X = unmasked(X)
        if _is_texts(X):
            return pd.DataFrame({"text": [None if text is None else str(text) for text in X]})
        if isinstance(X, pd.DataFrame):
            if not X.columns.is_unique:
                name = X.columns[X.columns.duplicated()][0]
                raise InputError(f"Several columns are called {name!r}; give each a name of its own.")
            validate_data(self, X, reset=fitting, skip_check_array=True)
            if not len(X):
                raise InputError("Found array with 0 sample(s): the table has no row.")
            return X.set_axis([str(name) for name in X.columns], axis=1)
        x = validate_data(self, X, reset=fitting, ensure_all_finite="allow-nan")
        return pd.DataFrame(x, columns=[f"x_{number}" for number in range(x.shape[1])])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _is_texts(X: Any) -> bool:
    """One text a row, not a table."""
    if isinstance(X, str | pd.DataFrame) or not hasattr(X, "__len__") or getattr(X, "ndim", 1) != 1 or not len(X):
        return False
    return isinstance(next(iter(X)), str)


def _class_names(classes: np.ndarray, code: np.ndarray) -> list[str]:
    """The classes as text: as they are called, or `class 0`, `class 1`, ... where a table could not hold that."""
    names = [str(name) for name in classes.tolist()]
    column = pd.Series([names[c] for c in code if c >= 0], dtype=object, name="y")
    try:
        check_classes(column)
        same = len(set(names)) == len(names) and read_labels(column).values.tolist() == column.tolist()
    except InputError:
        same = False
    return names if same else [f"class {number}" for number in range(len(names))]


def _free_name(taken: Sequence[str]) -> str:
    name = "target"
    while name in taken:
        name += "_"
    return name
