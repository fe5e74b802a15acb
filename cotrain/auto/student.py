"""The student: one small model that learnt what the committee says of all rows, in plain arrays.

Text goes into a linear part over hashed words and characters, everything else into a net with one hidden layer; their
logits add up. Predicting needs NumPy, SciPy and pandas, and Pillow for images; the views of sounds need more.
Legend: N rows, C classes, D features, H hidden units.
"""

import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from cotrain import __version__
from cotrain.auto.columns import SHAPE as COLUMNS
from cotrain.auto.columns import Columns
from cotrain.auto.model import (
    Predictor,
    check_files,
    describe_views,
    file_digests,
    load_arrays,
    load_views,
    read_description,
    refusing_damage,
    save_views,
)
from cotrain.errors import InputError
from cotrain.views.view import Known, View

SHAPE = {"columns": COLUMNS, "classes": [str], "kind": str, "views": {}}
PARAMETERS = 200_000  # of the net for numbers, images and sounds, at the most
STEPS = 300, 3_000  # of the net's training, at the least and at the most
NOISY_FROM = 50  # columns from which the net bears much noise
NARROW = 100  # number columns up to which a net sees them in steps
_TEXT_WEIGHTS = 600_000  # of the linear part, shared out over the classes


class Student(Predictor):
    """Views, and weights by name: `linear` [D, C] for sparse views; `hidden` [D, H], `hidden_bias` [H] and `out` [H, C]
    for dense ones; `bias` [C]."""

    def __init__(
        self, columns: Columns, views: dict[str, View], classes: list[str], weights: dict[str, np.ndarray], kind: str
    ):
        self.columns = columns
        self.views = views
        self.classes = list(classes)
        self.weights = weights
        self.kind = kind

    @property
    def parameters(self) -> int:
        return sum(w.size for w in self.weights.values())

    def probabilities(self, frame: pd.DataFrame, folder: Path, known: Known = None) -> np.ndarray:
        return softmax(self.logits(list(self.features(frame, folder, known).values())), axis=1)

    def logits(self, features: list[Any]) -> np.ndarray:
        wide, deep = _split(features)
        logits = np.zeros((features[0].shape[0], len(self.classes)), np.float32) + self.weights["bias"]
        if wide is not None:
            logits += wide @ self.weights["linear"].astype(np.float32)
        if deep is not None:
            logits += _through_net(deep, self.weights)
        return logits

    def save(self, folder: Path | str) -> None:
        """Write `student.json`, `weights.npz` and the views' arrays."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "weights.npz", **self.weights)  # type: ignore[arg-type]
        save_views(folder, self.views)
        text = {
            "format": 1,
            "version": __version__,
            "kind": self.kind,
            "columns": self.columns.to_dict(),
            "classes": self.classes,
            "views": describe_views(self.views),
            "files": file_digests(folder),
        }
        (folder / "student.json").write_text(json.dumps(text, indent=1, default=str))

    @classmethod
    def load(cls, folder: Path | str) -> "Student":
        """Raises InputError: no student there, or files that cannot be read."""
        folder = Path(folder)
        text = read_description(folder, "student.json", SHAPE)
        weights = load_arrays(folder / "weights.npz")
        with refusing_damage(folder / "student.json"):
            columns, views = Columns.from_dict(text["columns"]), load_views(folder, text["views"])
            check_files(folder, text)
        _check_weights(weights, len(text["classes"]), folder / "weights.npz")
        found = cls(columns, views, text["classes"], weights, text["kind"])
        found.origin = folder / "student.json"
        return found


def _check_weights(weights: dict[str, np.ndarray], classes: int, file: Path) -> None:
    """Raises InputError for weights that are no finite numbers, or do not fit the classes and each other."""
    shapes = {name: weight.shape for name, weight in weights.items()}
    fits = shapes.get("bias") == (classes,) and not shapes.keys().isdisjoint(("linear", "hidden"))
    if "linear" in shapes:
        fits &= shapes["linear"][1:] == (classes,)
    if "hidden" in shapes:
        units = shapes["hidden"][1:]
        fits &= len(units) == 1 and shapes.get("hidden_bias") == units and shapes.get("out") == (*units, classes)
    if not fits or not all(w.dtype.kind == "f" and np.isfinite(w).all() for w in weights.values()):
        raise InputError(f"{file} is damaged: its weights are not those of a student of {classes:,} classes.")


def student_views(
    views: dict[str, View], columns: Columns, classes: int, read: Collection[str] = ()
) -> dict[str, View]:
    """Unfitted views for the student: cheap ones, small ones, and no encoder. Edges do not see how bright a grey image
    is, pixels do. How a text is written and how loud a sound is are for a student whose teacher `read` it."""
    from cotrain.views.table import StepView
    from cotrain.views.text import CharacterView, WordView

    found: dict[str, View] = {}
    if columns.text:
        most = max(2_000, _TEXT_WEIGHTS // classes // 3)
        found["words"] = WordView(columns.text, most=min(most, 40_000))
        found["characters"] = CharacterView(columns.text, most=min(2 * most, 80_000))
    if "table" in views and 0 < len(columns.numbers) <= NARROW:
        found["steps"] = StepView(columns.numbers)
    for name, view in views.items():
        styled = name.startswith(("style", "loudness")) and name in read
        media = name.startswith(("edges", "pixels", "sound"))
        if name in ("table", "curves") or styled or (media and not name.endswith(", reduced")):
            found[name] = view.fresh()
    return found


def distil(
    views: dict[str, View],
    features: list[Any],
    target_NC: np.ndarray,
    columns: Columns,
    classes: list[str],
    seed: int,
    seconds: float,
    mixed: bool = False,
    before: Student | None = None,
    weight_N: np.ndarray | None = None,
) -> Student:
    """A student that says of each row what the committee says. `features` are the fitted views' matrices of the rows.

    Args:
        target_NC: the committee's probabilities (one-hot where the label is known).
        seconds: training ends after about so long; a part of the rows is enough for a linear student of many rows.
        mixed: teach a net mixtures of two rows, of which the committee would say a mixture. True of rows that differ in
            many numbers (digits with 40 labels: 1 point less is lost), and not where classes surround each other.
        before: a student of the same features and of most of the rows; its linear part is where this one's begins.
        weight_N: what each row counts, 1 on average; None: all the same.
    """
    wide, deep = _split(features)
    weights: dict[str, np.ndarray] = {}
    offset = np.zeros_like(target_NC, dtype=np.float32)
    kinds = []
    if deep is not None:
        import torch  # noqa: F401  # a library's threads are limited only once it is loaded

        with threadpool_limits(1):  # its steps are too small to be shared out
            weights |= _net(deep, target_NC, seed, mixed, weight_N)
        offset = _through_net(deep, weights) + weights["bias"]
        kinds.append("net with one hidden layer")
    if wide is not None:  # last, for it can learn any row by heart and would leave nothing for the net to learn
        start = None
        if before is not None:
            start = before.weights["linear"], before.weights["bias"] - weights.get("bias", np.float32(0))
        with threadpool_limits(1):
            linear, bias = soft_regression(wide, target_NC, seconds, start=start, offset_NC=offset, weight_N=weight_N)
        weights["linear"] = linear.astype(np.float16)
        weights["bias"] = (bias + weights.get("bias", 0)).astype(np.float32)
        kinds.insert(0, "linear on hashed words and characters")
    return Student(columns, views, classes, weights, " + ".join(kinds))


def _split(features: list[Any]) -> tuple[sparse.csr_matrix | None, np.ndarray | None]:
    wide = [f for f in features if sparse.issparse(f)]
    deep = [f for f in features if not sparse.issparse(f)]
    return (
        sparse.hstack(wide, format="csr", dtype=np.float32) if wide else None,
        np.hstack(deep).astype(np.float32) if deep else None,
    )


def _through_net(deep: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    return np.maximum(deep @ weights["hidden"] + weights["hidden_bias"], 0) @ weights["out"]


def soft_regression(
    x: sparse.csr_matrix,
    target_NC: np.ndarray,
    seconds: float = 30.0,
    penalty: float = 0.3,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    offset_NC: np.ndarray | float = 0.0,
    weight_N: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Softmax regression on soft targets: weights [D, C] and bias [C] that minimize the mean cross-entropy plus
    penalty / (2 N) |W|^2, by L-BFGS from zeros or, with a third of the steps, from the weights and bias `start`.
    `offset_NC` is added to the logits; `weight_N` is what each row counts."""
    from cotrain.estimators.products import Products

    rows, columns, classes = x.shape[0], x.shape[1], target_NC.shape[1]
    products = Products(x)
    weight_N1 = np.ones((rows, 1)) if weight_N is None else weight_N[:, None]
    began = time.perf_counter()

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[:-classes].reshape(columns, classes), flat[-classes:]
        logits = products.of_rows(weights).astype(np.float64) + bias + offset_NC
        logits -= logits.max(1, keepdims=True)
        powers = np.exp(logits)
        total = powers.sum(1, keepdims=True)
        value = -(weight_N1 * target_NC * (logits - np.log(total))).sum() / rows
        value += penalty / 2 / rows * (weights**2).sum()
        error = weight_N1 * (powers / total - target_NC)
        gradient = products.of_columns(error).astype(np.float64) / rows + penalty / rows * weights
        return value, np.concatenate([gradient.ravel(), error.mean(0)])

    def out_of_time(_: np.ndarray) -> None:
        if time.perf_counter() - began > seconds:
            raise StopIteration

    if start is None:
        first = np.zeros((columns + 1) * classes)
    else:
        first = np.concatenate([part.astype(np.float64).ravel() for part in start])
    limits = {"maxiter": 60 if start is None else 20, "maxcor": 6}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", callback=out_of_time, options=limits)
    return found.x[:-classes].reshape(columns, classes).astype(np.float32), found.x[-classes:]


def _net(
    x: np.ndarray, target_NC: np.ndarray, seed: int, mixed: bool, weight_N: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Weights of a net with one hidden layer, trained on noisy copies of the rows. In many columns rows lie far apart
    and bear more noise (sounds of new speakers: 1 point less is lost), which would blur circles in two columns."""
    import torch

    from cotrain.randomness import generator

    rng = generator(seed, "student")
    rows, size, classes = x.shape[0], x.shape[1], target_NC.shape[1]
    noise = 0.5 if size >= NOISY_FROM else 0.1
    hidden = int(np.clip(PARAMETERS // (size + classes + 1), 8, 256))
    data, target = torch.from_numpy(x), torch.from_numpy(target_NC).float()
    drawn = None if weight_N is None else torch.from_numpy(weight_N)
    centre, spread = data.mean(0), data.std(0, correction=0).mean().clamp(min=1e-6)
    data = (data - centre) / spread
    weights = [
        torch.randn(size, hidden, generator=rng) * (1 / max(size, 1)) ** 0.5,
        torch.zeros(hidden),
        torch.randn(hidden, classes, generator=rng) * (0.1 / hidden**0.5),
        torch.zeros(classes),
    ]
    for weight in weights:
        weight.requires_grad_(True)
    steps = int(np.clip(20_000_000 // max(rows * size, 1), 8, 60)) * max(1, rows // 128)
    steps = int(np.clip(steps, *STEPS))
    optimizer = torch.optim.AdamW(weights, weight_decay=1e-3, fused=True)  # the schedule sets rate and momentum
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for _ in range(steps):
        if drawn is None:
            index = torch.randint(rows, (min(128, rows),), generator=rng)
        else:
            index = torch.multinomial(drawn, min(128, rows), replacement=True, generator=rng)
        inputs, wanted = data[index], target[index]
        if mixed:
            share = 0.5 * torch.rand(len(index), 1, generator=rng)
            other = torch.randperm(len(index), generator=rng)
            inputs, wanted = (torch.lerp(own, own[other], share) for own in (inputs, wanted))
        noisy = inputs + noise * torch.randn(len(index), size, generator=rng)
        inner = torch.relu(noisy @ weights[0] + weights[1])
        kept = (torch.rand(inner.shape, generator=rng) < 0.8) / 0.8
        logits = (inner * kept) @ weights[2] + weights[3]
        loss = -(wanted * logits.log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    first, first_bias, out, bias = (weight.detach() for weight in weights)
    # The centring and scaling of the inputs go into the first layer.
    return {
        "hidden": (first / spread).numpy(),
        "hidden_bias": (first_bias - centre / spread @ first).numpy(),
        "out": out.numpy(),
        "bias": bias.numpy(),
    }
