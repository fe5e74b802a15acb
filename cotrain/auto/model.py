"""The model that `cotrain fit` gives: a committee on fitted views. Saved without pickle, loaded without running code.

Legend: N rows, C classes.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter, warn

import numpy as np
import pandas as pd
from pandas.errors import InvalidIndexError

from cotrain import __version__
from cotrain.auto.align import align, named_as, source_warnings
from cotrain.auto.blend import Blend
from cotrain.auto.calibrate import classes_in_sets, even, soften, with_prior
from cotrain.auto.columns import SHAPE as COLUMNS
from cotrain.auto.columns import Columns
from cotrain.auto.media import check_media, media_paths, refuse_or_warn
from cotrain.auto.read import Source, read
from cotrain.auto.shape import Maybe, fault
from cotrain.data.files import sha256
from cotrain.errors import InputError
from cotrain.views.view import Known, View, extract_each, joined, view_class

SHAPE = {
    "columns": COLUMNS,
    "classes": [str],
    "shares": [(int, float)],
    "threshold": Maybe((int, float)),
    "views": {},
    "members": [{"name": str, "views": [str], "apart": bool, "temperature": (int, float)}],
    "blend": {},
}
# What a file of a member may hold beside scikit-learn's own estimators: the candidates' classes, one by one, because
# "anything of numpy" would let a stranger's file call functions.
TRUSTED = {
    "cotrain.auto.candidates.Logistic",
    "cotrain.auto.candidates.Margin",
    "cotrain.estimators.co_em.CoEM",
    "cotrain.estimators.co_forest.CoForest",
    "cotrain.estimators.co_training.CoTraining",
    "cotrain.estimators.democratic.DemocraticCoLearning",
    "cotrain.estimators.em_gaussian.EMGaussian",
    "cotrain.estimators.em_naive_bayes.EMNaiveBayes",
    "cotrain.estimators.graph.GraphSpreading",
    "cotrain.estimators.self_training.SelfTraining",
    "cotrain.estimators.taught.Taught",
    "cotrain.estimators.tri_training.TriTraining",
    "scipy.sparse._csr.csr_array",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.tree._tree.Tree",
}


@dataclass(frozen=True)
class Member:
    """One fitted learner of the committee."""

    name: str
    views: tuple[str, ...]
    apart: bool
    estimator: Any
    temperature: float


class Predictor:
    """What a model and a student share: they know some columns and predict classes for tables that have them.

    origin: the file that it was loaded from.
    """

    columns: Columns
    views: dict[str, View]
    classes: list[str]
    origin: Path | None = None

    @contextmanager
    def sound(self) -> Iterator[None]:
        """What fails inside fails because files that were loaded do not fit each other. Raises InputError."""
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, InvalidIndexError) as error:
            if self.origin is None or isinstance(error, InputError):
                raise
            why = (str(error).splitlines() or [""])[0]
            raise InputError(f"{self.origin} is damaged or was changed: {type(error).__name__}: {why}") from error

    def aligned(self, data: Any) -> tuple[pd.DataFrame, Source, list[str]]:
        """The rows of a path, DataFrame or array in the form of the training table, with what was odd about them."""
        source = read(data if isinstance(data, str | Path | pd.DataFrame | Source) else (data, None))
        source = named_as(source, self.columns)
        said = source_warnings(source, self.columns)
        with self.sound():
            return align(source.frame, self.columns, said), source, said

    def predict(self, data: Any) -> np.ndarray:
        """The predicted class of each row, as text; None for a row whose image or sound is missing or broken."""
        return self.named(self.predict_proba(data))

    def named(self, probability: np.ndarray) -> np.ndarray:
        """The likeliest class of each row; None where the probabilities are NaN."""
        known = ~np.isnan(probability[:, 0])
        names = np.full(len(probability), None, dtype=object)
        names[known] = np.array(self.classes, dtype=object)[probability[known].argmax(1)]
        return names

    def predict_proba(self, data: Any, warnings: list[str] | None = None) -> np.ndarray:
        """Probabilities [N, C] in the order of `classes`; NaN for a row whose image or sound is missing or broken.

        What was odd about the table is added to `warnings`; without such a list, Python's own warnings say it.

        Raises:
            InputError: the table cannot be read or lacks a column, or more than half of its files cannot be used; or
                the model is damaged.
        """
        frame, source, said = self.aligned(data)
        usable = usable_rows(source, frame, self.columns, said)
        probability = np.full((len(frame), len(self.classes)), np.nan)
        if usable.any():
            with self.sound():
                probability[usable] = self.probabilities(frame[usable].reset_index(drop=True), source.folder)
            if not np.isfinite(probability[usable]).all():
                raise InputError(
                    f"{self.origin or 'The model'} is damaged: it gives numbers that are no probabilities."
                )
        if warnings is not None:
            warnings += said
        else:
            for sentence in said:
                warn(sentence, stacklevel=2)
        return probability

    def probabilities(self, frame: pd.DataFrame, folder: Path, known: Known = None) -> np.ndarray:
        """Of an aligned table; `known` as in `extract_each`."""
        raise NotImplementedError

    def features(self, frame: pd.DataFrame, folder: Path, known: Known = None) -> dict[str, Any]:
        """The views' matrices of all rows of an aligned table, by view."""
        for view in self.views.values():
            view.read_from(str(folder))
        raw = extract_each(self.views, frame, known)
        return {name: view.transform(raw[name]) for name, view in self.views.items()}


def usable_rows(source: Source, frame: pd.DataFrame, columns: Columns, said: list[str]) -> np.ndarray:
    """bool [N]: rows of an aligned table whose images and sounds can be read; the others are listed in `said`.

    Raises InputError if more than half of a column's files cannot be used.
    """
    usable = np.ones(len(frame), bool)
    for name in columns.image + columns.audio:
        files = media_paths(frame[name].tolist(), source.folder)
        media = check_media(files, "image" if name in columns.image else "audio")
        said += refuse_or_warn(media, name, source.row_label)
        usable &= media.usable
    return usable


class Model(Predictor):
    """A committee: one probability of its members' calibrated ones, restated for the population's class shares.

    Attributes:
        shares: the classes' shares that the probabilities are stated for, [C]: the population's where accuracy counts,
            equal ones where every class counts the same.
        threshold: a row's set is all classes of at least this probability; None where coverage cannot be promised.
        blend: how the members' probabilities become one; by default they are averaged.
    """

    def __init__(
        self,
        columns: Columns,
        views: dict[str, View],
        members: Sequence[Member],
        classes: Sequence[str],
        shares: np.ndarray,
        threshold: float | None = None,
        blend: Blend | None = None,
    ):
        self.columns = columns
        self.views = views
        self.members = list(members)
        self.blend = blend or Blend((tuple(range(len(self.members))),), (1.0,))
        self.classes = list(classes)
        self.shares = np.asarray(shares)
        self.threshold = threshold

    def probabilities(self, frame: pd.DataFrame, folder: Path, known: Known = None) -> np.ndarray:
        return self.from_features(self.features(frame, folder, known), np.arange(len(frame)))

    def from_features(self, features: Any, rows: np.ndarray) -> np.ndarray:
        """Probabilities of these rows, from the views' matrices."""
        return with_prior(self.even(features, rows), self.shares)

    def even(self, features: Any, rows: np.ndarray) -> np.ndarray:
        """Probabilities stated for equal class shares."""
        return self.blend([self.votes(member, features, rows) for member in self.members])

    def votes(self, member: Member, features: Any, rows: np.ndarray) -> np.ndarray:
        said = even(member.estimator, joined(features, member, rows), len(self.classes))
        return soften(said, member.temperature)

    def sets(self, data: Any) -> list[list[str]]:
        """For each row the classes that cannot be ruled out at the stated coverage.

        Raises:
            InputError: too few labels for the coverage that was asked for.
        """
        if self.threshold is None:
            raise InputError("There were too few labels to promise a coverage; label more rows and fit again.")
        inside = classes_in_sets(self.predict_proba(data), self.threshold)
        return [[self.classes[c] for c in np.flatnonzero(row)] for row in inside]

    def save(self, folder: Path | str) -> None:
        """Write `model.json`, the views' arrays as npz and the members as skops files."""
        import skops.io

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for number, member in enumerate(self.members):
            skops.io.dump(member.estimator, folder / f"member{number}.skops")
        save_views(folder, self.views)
        text = {
            "format": 1,
            "version": __version__,
            "columns": self.columns.to_dict(),
            "classes": self.classes,
            "shares": self.shares.tolist(),
            "threshold": self.threshold,
            "views": describe_views(self.views),
            "members": [
                {"name": m.name, "views": list(m.views), "apart": m.apart, "temperature": m.temperature}
                for m in self.members
            ],
            "blend": self.blend.to_dict(),
            "files": file_digests(folder),
        }
        (folder / "model.json").write_text(json.dumps(text, indent=1, default=str))

    @classmethod
    def load(cls, folder: Path | str) -> "Model":
        """Raises InputError: no model there, or a file that holds anything but learners of cotrain and scikit-learn."""

        folder = Path(folder)
        text = read_description(folder, "model.json", SHAPE)
        with refusing_damage(folder / "model.json"):
            members = [_load_member(folder / f"member{n}.skops", entry) for n, entry in enumerate(text["members"])]
            views = load_views(folder, text["views"])
            columns, shares = Columns.from_dict(text["columns"]), np.array(text["shares"], dtype=np.float64)
            blend = Blend.from_dict(text["blend"], len(members))
            check_files(folder, text)
            if len(shares) != len(text["classes"]) or not (shares >= 0).all() or not np.isclose(shares.sum(), 1):
                raise ValueError("the shares are not those of the classes")
            if not members or not all(member.views and set(member.views) <= set(views) for member in members):
                raise ValueError("the learners' views are not there")
            found = cls(columns, views, members, text["classes"], shares, text["threshold"], blend)
        found.origin = folder / "model.json"
        return found


def _load_member(file: Path, entry: dict[str, Any]) -> Member:
    import skops.io

    with refusing_damage(file):
        unknown = skops.io.get_untrusted_types(file=file)
        strange = [name for name in unknown if name not in TRUSTED]
        if strange:
            raise InputError(f"{file} holds objects of {', '.join(strange)}; it is not loaded.")
        with catch_warnings():
            simplefilter("ignore")
            estimator = skops.io.load(file, trusted=unknown)
    return Member(entry["name"], tuple(entry["views"]), entry["apart"], estimator, entry["temperature"])


@contextmanager
def refusing_damage(file: Path) -> Iterator[None]:
    """A damaged or hostile file can fail anywhere in its reader; whatever it raises becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{file} needs a library that cannot be loaded: {error}") from error
    except Exception as error:
        raise InputError(f"{file} is damaged or no file of cotrain's: {type(error).__name__}: {error}") from error


def describe_views(views: dict[str, View]) -> dict[str, Any]:
    """Plain values from which equal, unfitted views are made."""
    return {
        name: {"class": f"{type(v).__module__}:{type(v).__name__}", "columns": list(v.columns), "settings": v.settings}
        for name, v in views.items()
    }


def save_views(folder: Path, views: dict[str, View]) -> None:
    for number, view in enumerate(views.values()):
        np.savez_compressed(folder / f"view{number}.npz", **view.learned)  # type: ignore[arg-type]


def load_views(folder: Path, described: dict[str, Any]) -> dict[str, View]:
    """Raises InputError for a class that is no view of cotrain, or arrays that cannot be read."""
    views = {}
    for number, (name, entry) in enumerate(described.items()):
        if not all(isinstance(column, str) for column in entry["columns"]):
            raise InputError(f"{folder}: the columns of the view {name!r} are no names; it is not loaded.")
        try:
            view = view_class(entry["class"])(entry["columns"], **entry["settings"])
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        view.learned = load_arrays(folder / f"view{number}.npz")
        views[name] = view
    return views


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the arrays and learners in a folder."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".npz", ".skops"):
            found[path.name] = sha256(path)
    return found


def check_files(folder: Path, text: dict[str, Any]) -> None:
    """Raises InputError where a file is not the one that was saved with the description."""
    now = file_digests(folder)
    for name, digest in dict(text.get("files") or {}).items():  # older ones have none
        if now.get(name) != digest:
            what = "is damaged, or of another model" if name in now else "is not there"
            raise InputError(f"{folder / name} {what}.")
    if len(set(text["classes"])) < 2:
        raise InputError(f"{folder} names no classes.")


def load_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name. Raises InputError for a damaged file and for Python objects in it."""
    with refusing_damage(file), np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_description(folder: Path, name: str, shape: dict[str, Any]) -> dict[str, Any]:
    """The JSON file of a model or student. Raises InputError if it is not there, of a later format, or damaged."""
    file = folder / name
    try:
        if not file.is_file():
            raise FileNotFoundError
        text = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise InputError(f"There is no {name} in {folder}; give the folder that `cotrain fit --out` wrote.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not isinstance(text, dict) or text.get("format") != 1:
        raise InputError(f"{file} is of a format that this version ({__version__}) does not read.")
    if wrong := fault(text, shape):
        raise InputError(f"{file} is damaged or no file of cotrain's: {wrong}.")
    return text
