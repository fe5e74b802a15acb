"""Which views a table gets, by what its columns hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cotrain.auto.columns import Columns, names_in
from cotrain.auto.problem import Problem
from cotrain.views.curves import CurveView
from cotrain.views.families import find_shapes
from cotrain.views.reduced import ReducedView
from cotrain.views.style import StyleView
from cotrain.views.table import ScaledView, TreeView
from cotrain.views.text import CharacterView, CountView, TopicView, WordView
from cotrain.views.view import View

MANY_COLUMNS = 100  # columns above which learners on unlabelled rows read a table's principal components
SHAPE_CELLS = 60_000_000  # numbers that are read as curves or pictures, in a minute or two


@dataclass(frozen=True)
class Views:
    """The views of a table by name, and how the candidates use them.

    text: (words, characters, topics) of each text column, and of all together where there are several.
    style: how each text column is written, and how loud each column of sounds is.
    dense: views that linear models, kernels and graphs read. trees: the views that extra trees and random forests read
        instead of a dense one.
    reduced: the view of fewer dimensions that learners on unlabelled rows read instead of a dense one.
    costly: dense views that learners on labelled rows alone read: fitting them again in each fold is enough.
    modality: the sort of columns that a view reads: texts, numbers and categories, or one column of images or sounds.
    """

    views: dict[str, View]
    text: tuple[tuple[str, str, str], ...] = ()
    style: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    trees: dict[str, tuple[str, str]] = field(default_factory=dict)
    reduced: dict[str, str] = field(default_factory=dict)
    modality: dict[str, str] = field(default_factory=dict)
    costly: tuple[str, ...] = ()


def make_views(
    frame: pd.DataFrame,
    columns: Columns,
    folder: Path,
    encoders: Sequence[View] = (),
    warnings: list[str] | None = None,
) -> Views:
    """The views of an aligned table. `encoders` are views of pretrained encoders, fitted to columns already. What is
    odd about its files is added to `warnings`."""
    views: dict[str, View] = {}
    text: list[tuple[str, str, str]] = []
    style: list[str] = []
    dense: list[str] = []
    trees: dict[str, tuple[str, str]] = {}

    sets: list[tuple[str, ...]] = [(name,) for name in columns.text]
    if len(columns.text) > 1:
        sets.append(columns.text)
    for names in sets:
        of = "" if len(columns.text) == 1 else f" of {names[0]!r}" if len(names) == 1 else " of all texts"
        words, characters, topics = (f"{what}{of}" for what in ("words", "characters", "topics"))
        views[words] = WordView(names)
        views[f"{words} counted"] = CountView(names)
        views[characters] = CharacterView(names)
        views[topics] = TopicView(names)
        text.append((words, characters, topics))
        if len(names) == 1:
            views[f"style{of}"] = StyleView(names)
            style.append(f"style{of}")
    if columns.numbers or columns.categories:
        cells = (*columns.numbers, *columns.categories)
        views["table"] = ScaledView(cells, categories=len(columns.categories))
        views["table for trees"] = TreeView(cells, categories=len(columns.categories))
        dense.append("table")
        # splits by chance find no one category among numbers for categories
        trees["table"] = ("table" if columns.categories else "table for trees", "table for trees")
    said: list[str] = [] if warnings is None else warnings
    found = _number_views(frame, columns, said)
    views |= found
    dense += found
    read = [(columns.image, name, _image_views(frame, name, folder)) for name in columns.image]
    read += [(columns.audio, name, _audio_views(frame, name, folder, said)) for name in columns.audio]
    for media, name, found in read:
        of = "" if len(media) == 1 else f" of {name!r}"
        named = {f"{what}{of}": view for what, view in found.items()}
        views |= named
        for full in named:
            (style if full.startswith("loudness") else dense).append(full)
    for number, view in enumerate(encoders):
        name = f"encoder of {view.columns[0]!r}" + (f" {number + 1}" if len(encoders) > 1 else "")
        views[name] = view
        dense.append(name)
    narrow = len(columns.numbers) + len(columns.categories) <= MANY_COLUMNS
    costly = tuple(name for name in dense if name.startswith("patches of sound"))
    reduced = {name: f"{name}, reduced" for name in dense if (name != "table" or not narrow) and name not in costly}
    views |= {short: ReducedView.of(views[name]) for name, short in reduced.items()}
    modality = {name: _modality(view.columns[0], columns) for name, view in views.items()}
    return Views(views, tuple(text), tuple(style), tuple(dense), trees, reduced, modality, costly)


def find_views(encoder: str | Sequence[str], problem: Problem, warnings: list[str], left: float, jobs: int) -> Views:
    """The views of a table with those of the encoders that are asked for, as `fit` takes them.

    Args:
        warnings: what was left out is added. left: seconds, of which encoders may take a part. jobs: threads.
    """
    wanted = names_in(encoder)
    found: list[View] = []
    if "none" not in wanted:
        from cotrain.auto.encoders import encoder_views

        with threadpool_limits(jobs):
            found = encoder_views(wanted, problem.frame, problem.columns, problem.source.folder, left, warnings)
    return make_views(problem.frame, problem.columns, problem.source.folder, found, warnings)


def _modality(column: str, columns: Columns) -> str:
    """Texts are one, for their words are, and so are numbers and categories; each image and each sound is its own."""
    if column in columns.text:
        return "texts"
    return repr(column) if column in columns.image + columns.audio else "numbers and categories"


def _number_views(frame: pd.DataFrame, columns: Columns, warnings: list[str]) -> dict[str, View]:
    """Of columns of numbers that make a curve or a picture."""
    found: dict[str, View] = {}
    constant = [name for name, why in columns.dropped.items() if why.startswith("constant")]
    curves, pictures = find_shapes(frame, columns.measured, constant)
    names = [*chain(*curves), *chain(*(picture.columns for picture in pictures))]
    if len(frame) * len(names) > SHAPE_CELLS:
        warnings.append(
            f"Columns such as {names[0]!r} are read one by one; there are too many rows to see their shapes."
        )
        return {}
    for curve in curves:
        warnings.append(f"Columns {curve[0]!r} to {curve[-1]!r} are read as a curve too.")
    if curves:
        found["curves"] = CurveView(tuple(chain(*curves)), list(map(len, curves)))
    for picture in pictures:
        from cotrain.views.image import HogView, PatchView

        first, last, (height, width, colours) = picture.columns[0], picture.columns[-1], picture.shape
        kind = "pictures in colour" if colours == 3 else "pictures"
        warnings.append(f"Columns {first!r} to {last!r} are seen as {kind} of {height} by {width} pixels too.")
        values = frame[list(picture.columns)].iloc[:: max(1, len(frame) // 1_000)].to_numpy()
        black, white, median = (float(level) for level in np.nanquantile(values, (0.001, 0.999, 0.5)))
        if black == white:
            black, white = float(np.nanmin(values)), float(np.nanmax(values))
        pixels, shape = (black, white, median, *picture.places), picture.shape
        of = " of columns" if len(pictures) == 1 else f" of columns such as {first!r}"
        found[f"patches{of}"] = PatchView(picture.columns, shape=shape, pixels=pixels)
        found[f"edges{of}"] = HogView(picture.columns, shape=shape, pixels=pixels)
    return found


def _image_views(frame: pd.DataFrame, name: str, folder: Path) -> dict[str, View]:
    from cotrain.views.image import HogView, PatchView, PixelView
    from cotrain.views.pixels import common_levels, common_shape

    cells = frame[name].tolist()
    shape, levels = common_shape(cells, str(folder), name), common_levels(cells, str(folder), name)
    return {
        "patches": PatchView((name,), folder=str(folder), shape=shape, levels=levels),
        "edges": HogView((name,), folder=str(folder), shape=shape, levels=levels),
        "pixels": PixelView((name,), folder=str(folder), shape=shape, levels=levels),
    }


def _audio_views(frame: pd.DataFrame, name: str, folder: Path, warnings: list[str]) -> dict[str, View]:
    from cotrain.views.audio import LogMelPatchView, LoudnessView, MfccView, most_common, sampling_rates

    rates = sampling_rates(frame[name].tolist(), str(folder), name)
    rate = most_common(rates)  # of the table at hand, for all tables to come
    if len(rates) > 1:  # where these go with the classes, they tell them
        listed = ", ".join(f"{each:,} Hz ({count:,})" for each, count in rates.most_common())
        warnings.append(
            f"Column {name!r} holds sounds of several sampling rates, {listed}; all are brought to {rate:,}."
        )
    return {
        "sound": MfccView((name,), folder=str(folder), rate=rate),
        "patches of sound": LogMelPatchView((name,), folder=str(folder), rate=rate),
        "loudness": LoudnessView((name,), folder=str(folder), rate=rate),
    }
