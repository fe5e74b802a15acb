"""Pretrained encoders as views: each text, sound or image becomes the vector that a network trained elsewhere gives it.

Legend: N rows, D numbers in a vector.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from cotrain.data.files import cell_place
from cotrain.data.store import cache_folder
from cotrain.errors import InputError
from cotrain.progress import progress
from cotrain.views import encoder_onnx
from cotrain.views.backbone import KINDS, Backbone, Kind, folder_digest, folder_state, has_weights, kind_of
from cotrain.views.embedding_cache import EmbeddingCache, make_room
from cotrain.views.encoder_places import fetch, on_disk, resolve
from cotrain.views.scale import one_scale
from cotrain.views.text import cells
from cotrain.views.view import View

Precision = Literal["auto", "float32", "int8"]
PROBED = 64  # rows by which speed is measured and int8 compared
AGREEMENT = 0.99  # least cosine of any probed row to its float32 vector at which int8 is used
WORTH = 20.0  # seconds of work from which it pays to make an ONNX graph
_SAVED = 60.0  # seconds after which vectors are written, so that little is lost when the work is stopped
_BY_KIND = {"text": ("encoder_text", "TextBackbone"), "audio": ("encoder_audio", "AudioBackbone")}
_BY_KIND["image"] = ("encoder_image", "ImageBackbone")


class Encoder:
    """A pretrained network with its cache and its speed.

    Attributes:
        place: where it was found: a path, a model's name, or `package:NAME/FOLDER`; `load` finds it again.
        speeds: rows a second by way of computing (torch, onnx, int8), as far as measured.
        agreement: least cosine of int8 to float32 vectors on probed rows; None if not measured.
        computed: rows computed so far, and not read from the cache.
    """

    def __init__(self, place: str, kind: Kind, folder: Path, backbone: Backbone | None = None):
        self.place, self.kind, self.folder = place, kind, folder
        self.speeds: dict[str, float] = {}
        self.agreement: float | None = None
        self.computed = 0
        self._given = backbone
        self._run: Callable[[Sequence[Any]], np.ndarray] = self._with_torch
        self._way = "torch"
        self._precision: Precision = "float32"
        self._caches: dict[str, EmbeddingCache] = {}

    @property
    def name(self) -> str:
        """For people."""
        if self.place.startswith("package:"):
            return self.place.removeprefix("package:").split("/")[0]
        return Path(self.place).name if Path(self.place).is_dir() else self.place

    @cached_property
    def backbone(self) -> Backbone:
        """The network, read when first needed. Raises InputError if a library is missing or it cannot be loaded."""
        if self._given is not None:
            return self._given
        from importlib import import_module

        module, name = _BY_KIND[self.kind]
        backbone: Backbone = getattr(import_module(f"cotrain.views.{module}"), name)(self.folder)
        if torch.cuda.is_available():
            backbone.module.to("cuda")
        return backbone

    def seconds(self, items: Sequence[Any], precision: Precision = "auto") -> float:
        """Estimated seconds to embed the items that are not in the cache, measured on some of them (which are kept)."""
        keys = self._keys(items)
        if self._in_cache(keys, precision):
            return 0.0
        self._choose(items, keys, precision)
        return len(self._missing(keys)) / self.speeds[self._way]

    def embed(self, items: Sequence[Any], precision: Precision = "auto") -> tuple[np.ndarray, Precision]:
        """Vectors float32 [N, D] of at least one item, and the precision that they have.

        precision: "auto" takes int8 where it is faster and agrees with float32 on the items' own rows, and what the
        cache already holds before either. "int8" gives float32 where this machine cannot do it, or the cache holds
        that.
        """
        keys = self._keys(items)
        if not len(keys):
            raise InputError("There is no row to embed.")
        ready = self._in_cache(keys, precision)
        if ready is None:
            self._choose(items, keys, precision)
            self._compute(items, keys)
            ready = self._precision
        cache = self._cache(ready)
        return np.stack([cache[key] for key in keys]), ready

    def _keys(self, items: Sequence[Any]) -> list[bytes]:
        return [self.backbone.key(item) for item in items]

    def _cache(self, precision: str) -> EmbeddingCache:
        if precision not in self._caches:
            self._caches[precision] = EmbeddingCache(self._own_folder / precision)
        return self._caches[precision]

    @cached_property
    def _own_folder(self) -> Path:
        return cache_folder() / "embeddings" / self.backbone.digest

    def _in_cache(self, keys: Sequence[bytes], precision: Precision) -> Precision | None:
        """The precision, if any, in which all of them are known already."""
        tried: tuple[Precision, ...] = ("int8", "float32") if precision == "auto" else (precision,)
        for ready in tried:
            cache = self._cache(ready)
            if all(key in cache for key in keys):
                return ready
        return None

    def _missing(self, keys: Sequence[bytes]) -> list[int]:
        """Rows to compute; of equal items the first."""
        cache = self._cache(self._precision)
        first: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in cache:
                first.setdefault(key, row)
        return list(first.values())

    def _choose(self, items: Sequence[Any], keys: Sequence[bytes], precision: Precision) -> None:
        """Measures torch, and what else may be faster, on rows of all lengths; sets how the rest is computed."""
        self._precision = "float32"
        missing = sorted(self._missing(keys), key=lambda row: (self.backbone.length(items[row]), keys[row]))
        self._run, self._way = self._with_torch, "torch"
        probed = (
            [missing[int((i + 0.5) * len(missing) / PROBED)] for i in range(PROBED)]
            if len(missing) > PROBED
            else missing
        )
        if not probed:
            return
        batches = [probed[start : start + 8] for start in range(0, len(probed), 8)]
        self._with_torch([items[row] for row in batches[0][:1]])  # the first call pays for set-up
        exact = self._timed("torch", self._with_torch, items, batches)
        self._cache("float32").put([keys[row] for row in probed], exact)
        self.computed += len(probed)
        wait = len(missing) / self.speeds["torch"]
        on_cpu = next(self.backbone.module.parameters()).device.type == "cpu"
        if not on_cpu or not self.backbone.exports or not encoder_onnx.installed():
            return
        if precision != "int8" and wait < WORTH:
            return
        example = self.backbone.inputs([items[row] for row in batches[-1]])
        try:
            plain, small = encoder_onnx.export(self.backbone.module, example, self._own_folder / "onnx")
            ways = {"onnx": encoder_onnx.session(plain), "int8": encoder_onnx.session(small)}
        except (
            Exception
        ):  # exporter and runtime fail in many ways on networks they do not know; torch does without them
            return
        for way, session in ways.items():
            run = self._with(session)
            try:
                vectors = self._timed(way, run, items, batches)
            except Exception:  # a graph that does not take other sizes than the example's
                self.speeds.pop(way, None)
                continue
            least = float(_cosine(vectors, exact).min())
            if way == "int8":
                self.agreement = least
                if precision == "float32" or least < AGREEMENT:
                    continue
                if precision == "auto" and self.speeds[way] <= self.speeds[self._way]:
                    continue
                self._precision = "int8"
                self._cache("int8").put([keys[row] for row in probed], vectors)
            elif least < 1 - 1e-4 or self.speeds[way] <= self.speeds[self._way]:
                continue
            self._run, self._way = run, way

    def _compute(self, items: Sequence[Any], keys: Sequence[bytes]) -> None:
        missing = sorted(self._missing(keys), key=lambda row: self.backbone.length(items[row]))
        size = self.backbone.batch
        batches = [missing[start : start + size] for start in range(0, len(missing), size)]
        order = np.random.default_rng(0).permutation(len(batches))  # so that the remaining time is a fair guess
        cache, run = self._cache(self._precision), self._run
        rows: list[int] = []
        vectors: list[np.ndarray] = []
        written = time.monotonic()
        title = f"{self.name}: {self.speeds[self._way]:.0f} rows a second" if missing else None
        try:
            with progress(title, len(missing)) as step:
                for number in order:
                    vectors.append(run([items[row] for row in batches[number]]))
                    rows += batches[number]
                    for _ in batches[number]:
                        step()
                    if time.monotonic() - written > _SAVED:
                        cache.put([keys[row] for row in rows], np.concatenate(vectors))
                        self.computed += len(rows)
                        rows, vectors, written = [], [], time.monotonic()
        finally:
            if rows and vectors:
                done = np.concatenate(vectors)
                cache.put([keys[row] for row in rows[: len(done)]], done)
                self.computed += len(done)
            make_room(cache_folder() / "embeddings")

    def _timed(self, way: str, run: Callable, items: Sequence[Any], batches: Sequence[Sequence[int]]) -> np.ndarray:
        begun = time.perf_counter()
        found = np.concatenate([run([items[row] for row in batch]) for batch in batches])
        self.speeds[way] = len(found) / max(time.perf_counter() - begun, 1e-9)
        return found

    def _with_torch(self, items: Sequence[Any]) -> np.ndarray:
        return self.backbone.embed(items).numpy()

    def _with(self, session: encoder_onnx.Session) -> Callable[[Sequence[Any]], np.ndarray]:
        return lambda items: np.asarray(session(self.backbone.inputs(items)), np.float32)


def find(kind: Kind, wanted: str = "auto") -> Encoder | None:
    """An encoder for a kind of column.

    Args:
        kind: "text", "audio" or "image".
        wanted: "none"; "auto" takes what is on disk ($COTRAIN_ENCODER, an installed package that carries a model, the
            Hugging Face cache; the smallest of several that can be loaded) and never downloads; else the path of a
            folder or the name of a model, which may be downloaded by its library.

    Returns:
        None if there is none, or if the one that was named is for another kind of column.

    Raises:
        InputError: what was named cannot be had, or is no encoder.
    """
    if wanted == "none":
        return None
    if wanted == "auto":
        for place, _ in on_disk(kind):
            encoder = load(place)
            try:
                _ = encoder.backbone
            except InputError as error:
                warnings.warn(f"The encoder {encoder.name} on this disk is left out. {error}", stacklevel=2)
                continue
            return encoder
        return None
    encoder = load(wanted, download=True)
    return encoder if encoder.kind == kind else None


def load(place: str, download: bool = False) -> Encoder:
    """The encoder at a path or by its name; the same object as long as the process lives and its files stay.

    Raises:
        InputError: it is not there, or is no encoder that is known here.
    """
    folder = resolve(place)
    if folder is None and download:
        folder = fetch(place)
    if folder is None:
        raise InputError(f"The encoder {place!r} is not on this disk; name its folder, or download it first.")
    named = place if place.startswith("package:") or not Path(place).expanduser().is_dir() else str(folder)
    return _load(named, folder, folder_state(folder))


@lru_cache(maxsize=8)
def _load(place: str, folder: Path, state: tuple) -> Encoder:
    kind = kind_of(folder)
    if kind is None:
        raise InputError(
            f"The folder {folder} holds no encoder that is known here: a text model of sentence-transformers or "
            "transformers, an audio model of transformers, or an image model of timm."
        )
    if not has_weights(folder):
        raise InputError(f"The folder {folder} holds no model.safetensors; other files of weights are not opened.")
    return Encoder(place, kind, folder)


class EncoderView(View):
    """The vectors of a pretrained encoder, centred and in one unit.

    Args:
        columns: text columns, read as one text; or one column of sounds or images, as for `AudioView` and `ImageView`.
        encoder: its place (see `Encoder`).
        precision: "auto" becomes what the first extraction used, and is kept in `settings`.
        digest: hash of the encoder's files; None becomes that of the encoder at hand. Another encoder is then refused.
        folder: what paths are relative to; None is the working folder.
        rate: Hz, of sounds given as arrays.
    """

    def __init__(
        self,
        columns: Sequence[str],
        encoder: str,
        precision: Precision = "auto",
        digest: str | None = None,
        folder: str | None = None,
        rate: int | None = None,
    ):
        super().__init__(columns, encoder=encoder, precision=precision, digest=digest, folder=folder, rate=rate)

    @property
    def source(self) -> tuple[Any, ...]:
        return "encoder", self.columns, self.settings["encoder"], self.settings["folder"], self.settings["rate"]

    @property
    def encoder(self) -> Encoder:
        """Raises InputError if it is gone, or is another one, and the same is nowhere on this disk."""
        digest = self.settings["digest"]
        try:
            found = load(self.settings["encoder"])
            if digest not in (None, found.backbone.digest):
                raise InputError(f"The encoder at {found.place} is not the one with which this model was trained.")
        except InputError as error:
            places = (place for kind in KINDS for place, folder in on_disk(kind) if folder_digest(folder) == digest)
            if digest is None or (place := next(places, None)) is None:
                raise InputError(f"{error} COTRAIN_ENCODER can name the folder where it is now.") from error
            found = load(place)
            self.settings["encoder"] = place
        self.settings["digest"] = found.backbone.digest
        if found.kind != "text" and len(self.columns) != 1:
            raise InputError(f"An {found.kind} encoder reads one column, not {len(self.columns)}.")
        return found

    def estimate_seconds(self, frame: pd.DataFrame) -> float:
        """Seconds that `extract` would take, measured on some rows; 0 if the cache holds all of them."""
        return self.encoder.seconds(self._items(frame), self.settings["precision"])

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """Vectors float32 [N, D]. Raises InputError for a file that cannot be read, or an encoder that is gone."""
        found, self.settings["precision"] = self.encoder.embed(self._items(frame), self.settings["precision"])
        return found

    def fit(self, raw: np.ndarray) -> "EncoderView":
        self.learned = one_scale(raw)
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (raw - self.learned["mean"]) * self.learned["scale"]

    def _items(self, frame: pd.DataFrame) -> list[Any]:
        kind, folder = self.encoder.kind, self.settings["folder"]
        if kind == "text":
            return cells(frame, self.columns)
        column = self.columns[0]
        values = [(cell_place(cell, row, column), cell) for row, cell in enumerate(frame[column])]
        if kind == "audio":
            from cotrain.views.encoder_audio import as_sound

            return [as_sound(cell, folder, self.settings["rate"], where) for where, cell in values]
        from cotrain.views.encoder_image import as_picture

        return [as_picture(cell, folder, where) for where, cell in values]


def _cosine(x_ND: np.ndarray, y_ND: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(x_ND, axis=1) * np.linalg.norm(y_ND, axis=1)
    return (x_ND * y_ND).sum(1) / np.maximum(lengths, 1e-12)
