"""Which unlabelled rows to label next: unsure ones, in crowded places, and not all in the same place."""

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
_CROWD = 500  # rows that tell how crowded a place is


def label_next(
    model: Model,
    frame: pd.DataFrame,
    among: np.ndarray,
    features: Any,
    count: int,
    original: Sequence[int] | np.ndarray,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The most useful rows, best first, each with its reason.

    A row's worth is how near its two likeliest classes are, plus how far the members disagree, times how crowded its
    place is; rows like one that was chosen already lose their worth.

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
    ordered = np.sort(probability, axis=1)
    closeness = 1 - (ordered[:, -1] - ordered[:, -2])
    said = with_prior(votes, model.shares).argmax(2)
    disagreement = (said != probability.argmax(1)).mean(0)
    place = _unit(features[model.members[0].views[0]][rows])
    crowd = place[rng.permutation(len(rows))[:_CROWD]]
    density = np.clip(np.asarray(place @ crowd.mean(0).T).ravel(), 0, None)
    worth = (closeness + disagreement) * (0.5 + density / max(density.max(), 1e-12))
    chosen: list[dict[str, Any]] = []
    free = np.ones(len(rows), bool)
    for _ in range(min(count, len(rows))):
        best = int(np.where(free, worth, -np.inf).argmax())
        free[best] = False
        chosen.append(
            {
                "row": int(original[rows[best]]) + 1,
                "worth": round(float(worth[best]), 3),
                "reason": _reason(model, probability[best], said[:, best]),
                "shown": excerpt(frame.iloc[rows[best]], model.columns),
            }
        )
        near = np.asarray((place @ place[best].T).todense() if sparse.issparse(place) else place @ place[best]).ravel()
        worth = worth * (1 - np.clip(near, 0, 1))
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
