"""Which unlabelled rows to label next: unsure ones that are unlike each other.

Ash and others, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", ICLR 2020 (BADGE),
with the committee in the place of a net.
Legend: N rows, C classes, D features.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from cotrain.auto.calibrate import with_prior
from cotrain.auto.columns import Columns
from cotrain.auto.model import Model
from cotrain.views.view import Matrix

LOOKED_AT = 5_000  # rows among which the choice is made


def label_next(
    model: Model,
    frame: pd.DataFrame,
    among: np.ndarray,
    features: Any,
    count: int,
    original: Sequence[int] | np.ndarray,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The rows whose labels would teach most, each with its reason.

    If a row's likeliest class were its label, it would move a linear model by the gradient (p - onehot) x features. It
    is long where the committee is unsure, and points elsewhere for other features or classes. Rows are drawn as centres
    in k-means++: by the squared distance from the nearest one chosen so far, the first by that from 0.

    Args:
        among: rows of the frame that have no label. features: the model's views' matrices of all rows of the frame.
        original: what row of the user's table each row of the frame is.
    """
    if not len(among):
        return []
    rng = np.random.default_rng(seed)
    rows = among if len(among) <= LOOKED_AT else np.sort(rng.choice(among, LOOKED_AT, replace=False))
    votes = np.stack([model.votes(member, features, rows) for member in model.members])
    probability = with_prior(model.blend(votes), model.shares)
    said = with_prior(votes, model.shares).argmax(2)
    moved_NC = probability - np.eye(len(model.classes))[probability.argmax(1)]
    length = (moved_NC**2).sum(1)
    place = _unit(features[model.members[0].views[0]][rows])
    apart, free = length.copy(), np.ones(len(rows), bool)
    chosen: list[dict[str, Any]] = []
    for _ in range(min(count, len(rows))):
        odds = np.where(free, apart, 0)
        odds = odds if odds.any() else free.astype(float)  # those left teach nothing more, as far as can be told
        best = int(rng.choice(len(rows), p=odds / odds.sum()))
        free[best] = False
        chosen.append(
            {
                "row": int(original[rows[best]]) + 1,
                "worth": round(float(length[best] ** 0.5), 3),
                "reason": _reason(model, probability[best], said[:, best]),
                "shown": excerpt(frame.iloc[rows[best]], model.columns),
            }
        )
        alike = place @ place[[best]].T
        alike = (alike.todense() if sparse.issparse(alike) else alike) * (moved_NC @ moved_NC[best])[:, None]
        apart = np.minimum(apart, np.maximum(length + length[best] - 2 * np.asarray(alike).ravel(), 0))
    return chosen


def _unit(x: Matrix) -> Any:
    """Rows of length one."""
    if not isinstance(x, np.ndarray):
        norm = np.sqrt(np.asarray(x.multiply(x).sum(1)).ravel())
        return sparse.diags_array(1 / np.maximum(norm, 1e-12)) @ x
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _reason(model: Model, probability: np.ndarray, said: np.ndarray) -> str:
    second, first = np.argsort(probability)[-2:]
    close = f"{model.classes[first]} ({probability[first]:.0%}) or {model.classes[second]} ({probability[second]:.0%})"
    split = np.bincount(said, minlength=len(model.classes))
    if (split > 0).sum() > 1:
        voices = ", ".join(
            f"{split[c]} say{'s' if split[c] == 1 else ''} {model.classes[c]}" for c in np.argsort(-split) if split[c]
        )
        return f"{close}; the learners disagree: {voices}"
    return close


def excerpt(row: pd.Series, columns: Columns) -> str:
    """A few words of a row, for people to know it by."""
    names = (*columns.text, *columns.image, *columns.audio, *columns.number, *columns.categories)
    return "; ".join("" if pd.isna(row[name]) else str(row[name])[:120] for name in names[:3])
