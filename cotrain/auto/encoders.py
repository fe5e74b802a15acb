"""Pretrained encoders as views of the table's columns, as far as the time allows."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cotrain.auto.columns import Columns
from cotrain.errors import InputError
from cotrain.views.backbone import INSTALL
from cotrain.views.encoder import EncoderView, find
from cotrain.views.encoder_places import on_disk
from cotrain.views.view import View

SHARE = 0.4  # of the time that is left, which embedding may take
ADVICE = {
    kind: "There is no pretrained encoder on this disk; one often gains most where labels are fewest: --encoder NAME, "
    f"such as {name}, with a library for it. {INSTALL} -e '.[{extra}]'"
    for kind, name, extra in (
        ("text", "sentence-transformers/all-MiniLM-L6-v2", "hf"),
        ("audio", "facebook/wav2vec2-base", "hf"),
        ("image", "timm/resnet18.a1_in1k", "vision"),
    )
}


def encoder_views(
    wanted: Sequence[str], frame: pd.DataFrame, columns: Columns, folder: Path, left: float, warnings: list[str]
) -> list[View]:
    """One view for each encoder and sort of column that fit each other.

    Args:
        wanted: "auto" (what is on this disk; never downloads), or paths or names.
        left: seconds; an encoder that "auto" found and that would take more than a part of them is left out.

    Raises:
        InputError: what was named cannot be had, or fits no column.
    """
    places = [("text", columns.text)] if columns.text else []
    places += [("image", (name,)) for name in columns.image] + [("audio", (name,)) for name in columns.audio]
    found: list[View] = []
    for name in dict.fromkeys(wanted):
        fits = False
        for kind, read in places:
            if name == "auto" and next(iter(on_disk(kind)), None) is None:  # type: ignore[arg-type]
                warnings.append(ADVICE[kind])
                continue
            encoder = find(kind, name)  # type: ignore[arg-type]
            if encoder is None:
                continue
            fits = True
            view = EncoderView(read, encoder.place, folder=None if kind == "text" else str(folder))
            try:
                needed = view.estimate_seconds(frame)
            except InputError as error:
                if name != "auto":
                    raise
                warnings.append(f"The encoder {encoder.place} on this disk is left out. {error}")
                continue
            if any(
                view.columns == known.columns and view.settings["digest"] == known.settings["digest"] for known in found
            ):
                continue  # the same, by another name
            if name == "auto" and needed > SHARE * left:
                warnings.append(
                    f"The encoder {encoder.name} would take {needed:.0f} s, too much of the time budget; "
                    f"it was left out. Give --encoder {encoder.place} or a longer --budget."
                )
                continue
            if needed > SHARE * left:
                warnings.append(
                    f"The encoder {encoder.name} takes about {needed:.0f} s of the {left:.0f} s that are left; "
                    "a longer --budget leaves more time for learners."
                )
            found.append(view)
        if name != "auto" and not fits:
            kinds = ", ".join(dict.fromkeys(kind for kind, _ in places)) or "none"
            raise InputError(f"The encoder {name!r} fits no column; this table has columns for encoders of: {kinds}.")
    return found
