"""Vectors of sounds from an audio transformer of the transformers library, averaged over time.

Legend: B sounds, T samples, L frames of the model, D numbers in a vector.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import resample_poly
from torch import Tensor

from cotrain.data.audio import read_wave
from cotrain.data.files import find_file
from cotrain.errors import InputError
from cotrain.views.backbone import Backbone, library, quietly, transformer

LONGEST = 30  # seconds that are listened to

Sound = Path | tuple[np.ndarray, int]  # a file, or a waveform and its rate


class AudioBackbone(Backbone):
    """wav2vec 2.0 and its kin (HuBERT, WavLM, ...), which read waveforms; or a model that reads spectrograms.

    Raises:
        InputError: a library is missing, the folder cannot be loaded, or a sound cannot be read.
    """

    kind = "audio"
    batch = 8

    def __init__(self, folder: Path):
        super().__init__(folder)
        transformers = library("transformers", "hf")
        self._extractor = quietly(transformers.AutoFeatureExtractor.from_pretrained, str(folder))
        model = transformer(folder)
        self.module = model.eval()
        self.rate = int(self._extractor.sampling_rate)
        self._reads_waves = callable(getattr(model, "_get_feature_vector_attention_mask", None))
        self._masked = bool(getattr(self._extractor, "return_attention_mask", False))

    def length(self, item: Sound) -> float:
        if isinstance(item, tuple):
            return min(len(item[0]) / item[1], LONGEST)
        import soundfile

        try:
            return min(soundfile.info(item).duration, LONGEST)
        except (soundfile.SoundFileError, OSError) as error:
            raise InputError(f"{item} cannot be read as sound: {error}") from error

    def key(self, item: Sound) -> bytes:
        if isinstance(item, tuple):
            content = np.ascontiguousarray(item[0], np.float32).tobytes() + str(item[1]).encode()
            return hashlib.blake2b(content, digest_size=16).digest()
        try:
            return hashlib.blake2b(item.read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise InputError(f"{item} cannot be read as sound: {error}") from error

    def inputs(self, items: Sequence[Sound]) -> dict[str, Tensor]:
        return dict(
            self._extractor(
                [self._wave(item) for item in items],
                sampling_rate=self.rate,
                return_tensors="pt",
                **({"padding": True, "return_attention_mask": self._masked} if self._reads_waves else {}),
            )
        )

    def _vectors(self, items: Sequence[Sound]) -> Tensor:
        if self._reads_waves and not self._masked and len({self.length(item) for item in items}) > 1:
            # These models were trained without a mask: padding would change what they say, so each sound goes alone.
            return torch.cat([self._vectors([item]) for item in items])
        inputs = self._on_device(items)
        hidden_BLD = self.module(**inputs)[0].float()
        mask_BL1 = torch.ones_like(hidden_BLD[..., :1])
        if self._reads_waves and "attention_mask" in inputs:
            frames: Any = self.module._get_feature_vector_attention_mask
            mask_BL1 = frames(hidden_BLD.shape[1], inputs["attention_mask"])[..., None].float()
        return (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1)

    def _wave(self, item: Sound) -> np.ndarray:
        if isinstance(item, tuple):
            wave, own = item
            common = math.gcd(own, self.rate)
            wave = wave if own == self.rate else resample_poly(wave, self.rate // common, own // common)
        else:
            wave = read_wave(item, self.rate, quiet=True)
        least = self.rate // 10  # shorter sounds give some models no frame at all
        wave = np.asarray(wave[: LONGEST * self.rate], np.float32)
        return np.pad(wave, (0, max(0, least - len(wave))))


def as_sound(cell: Any, folder: str | None, rate: int | None, where: str) -> Sound:
    """A table's cell as a sound. Raises InputError."""
    if isinstance(cell, np.ndarray):
        if rate is None:
            raise InputError(f"{where} is a sound as an array: give its sampling rate.")
        if cell.ndim != 1 or not np.issubdtype(cell.dtype, np.floating) or not np.isfinite(cell).all():
            raise InputError(f"{where} is an array {cell.dtype} {list(cell.shape)}; give finite float [T] in -1..1.")
        return cell, rate
    if not isinstance(cell, (str, os.PathLike)):
        raise InputError(f"{where} is {cell!r}, neither the path of a sound nor an array.")
    return find_file(cell, folder)
