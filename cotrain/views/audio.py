"""Sounds as features: cepstra summed up by segments, k-means over patches of the log-mel picture, or how loud they are.

All share one extraction: extract once and hand the result to each.
Legend: N sounds, T samples, F frames, M mel bands, K cepstral coefficients, D features.
"""

import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from scipy.fft import dct

from cotrain.data.audio import read_wave
from cotrain.data.files import cell_place, find_file
from cotrain.errors import InputError
from cotrain.progress import progress
from cotrain.threads import workers
from cotrain.views.log_mel import mel_bands
from cotrain.views.patches import learn_patches, patch_features
from cotrain.views.sample import sample_rows
from cotrain.views.scale import own_scales
from cotrain.views.view import View

BANDS = 40  # M
COEFFICIENTS = 13  # K; finer detail of the spectrum tells speakers apart rather than words
SEGMENTS = 5
PICTURE = 64  # columns of the log-mel picture, whatever the sound's length
HIGHEST_RATE = 16_000  # Hz; what is above 8 kHz rarely tells classes apart
_QUIET = np.log(10**-3.5)  # 35 dB below the loudest frame: silence at a sound's ends
_MARGIN = 3  # frames of silence that are left at each end
_FRAMES_AT_ONCE = 20_000  # bounds the memory of long recordings
_STATISTICS = (SEGMENTS + 1) * 2 * COEFFICIENTS + 1  # D
LEVELS = ("whole", "loudest frame", "90 of 100 frames", "half of the frames", "10 of 100 frames", "largest sample")
_SILENT = 1e-10  # power of digital silence, as -100 dB


def log_mel(wave: np.ndarray, rate: int) -> np.ndarray:
    """float32 [T] -> natural logarithm of the power in mel bands, float32 [F, M]; a frame of 25 ms every 10 ms.

    Frames do not reach over the ends; a sound shorter than a frame is padded. Power 80 dB and more below the sound's
    largest counts as 80 dB below: so digital silence is not told apart from quiet.
    """
    window, bands_FM, hop = _front_end(rate)
    if len(wave) < len(window):
        wave = np.pad(wave, (0, len(window) - len(wave)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, len(window))[::hop]
    size = 2 * (len(bands_FM) - 1)
    parts = []
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(frames[start : start + _FRAMES_AT_ONCE] * window, size)
        parts.append((spectrum.real**2 + spectrum.imag**2) @ bands_FM)
    power_FM = np.concatenate(parts)
    return np.log(np.maximum(power_FM, max(1e-8 * power_FM.max(), 1e-12))).astype(np.float32)


def mfcc(log_mel_FM: np.ndarray, coefficients: int = COEFFICIENTS) -> np.ndarray:
    """Mel-frequency cepstral coefficients [F, K]: orthonormal cosine transform (type 2) of the log-mel bands."""
    return dct(log_mel_FM, type=2, axis=1, norm="ortho")[:, :coefficients]


def delta(x_FK: np.ndarray, reach: int = 2) -> np.ndarray:
    """Slope of each coefficient over the frames t - reach..t + reach (least squares), the ends held; [F, K]."""
    padded = np.pad(x_FK, ((reach, reach), (0, 0)), mode="edge")
    frames = len(x_FK)
    steps = range(1, reach + 1)
    total = sum(n * (padded[reach + n : reach + n + frames] - padded[reach - n : reach - n + frames]) for n in steps)
    return np.asarray(total / (2 * sum(n * n for n in steps)), x_FK.dtype)


def trim(log_mel_FM: np.ndarray) -> np.ndarray:
    """Without the silence at both ends: frames 35 dB below the loudest one. 30 ms of it stay."""
    loudness = np.logaddexp.reduce(log_mel_FM, axis=1)
    loud = np.flatnonzero(loudness > loudness.max() + _QUIET)
    if not len(loud):
        return log_mel_FM
    return log_mel_FM[max(0, loud[0] - _MARGIN) : loud[-1] + 1 + _MARGIN]


def statistics(log_mel_FM: np.ndarray, segments: int = SEGMENTS) -> np.ndarray:
    """Cepstra and their slopes summed up over time, float32 [(segments + 1) * 2 K + 1].

    Mean of each in each of the equal segments of time, its standard deviation over the whole sound, and the logarithm
    of the number of frames. Loudness (the first cepstrum) is relative to the sound's own mean.
    """
    cepstra = mfcc(log_mel_FM)
    slopes = delta(cepstra)
    cepstra[:, 0] -= cepstra[:, 0].mean()
    both = np.concatenate([cepstra, slopes], axis=1)
    frames = len(both)
    starts = [segment * frames // segments for segment in range(segments + 1)]
    means = [both[start : max(start + 1, end)].mean(0) for start, end in pairwise(starts)]
    return np.concatenate([*means, both.std(0), [np.log(frames)]]).astype(np.float32)


def picture(log_mel_FM: np.ndarray, columns: int = PICTURE) -> np.ndarray:
    """The log-mel bands stretched or averaged to a fixed number of columns, float32 [M, columns]; its mean is 0."""
    frames = len(log_mel_FM)
    total = np.concatenate([np.zeros((1, log_mel_FM.shape[1])), np.cumsum(log_mel_FM, axis=0, dtype=np.float64)])
    edges = np.linspace(0, frames, columns + 1)
    low = np.minimum(edges.astype(int), frames - 1)
    at_edges = total[low] + (edges - low)[:, None] * log_mel_FM[low]
    means = np.diff(at_edges, axis=0) * (columns / frames)
    return (means - means.mean()).T.astype(np.float32)


def loudness(wave: np.ndarray, rate: int) -> np.ndarray:
    """float32 [T] -> `LEVELS` float32 [6], in dB of full scale; "90 of 100 frames", of 25 ms, are no louder."""
    length = min(max(1, round(0.025 * rate)), len(wave))
    square = np.square(wave, dtype=np.float64)
    frames = square[: len(square) // length * length].reshape(-1, length).mean(1)
    power = [square.mean(), frames.max(), *np.quantile(frames, (0.9, 0.5, 0.1)), square.max()]
    return (10 * np.log10(np.maximum(power, _SILENT))).astype(np.float32)


def features(wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the views of sounds read off one: float32 [T] -> `statistics` and `picture`, without silence at its ends,
    and `loudness`. A constant offset, as cheap recorders add, is no sound: it would pass for a deep hum."""
    wave = wave - wave.mean(dtype=np.float64).astype(np.float32)
    bands_FM = trim(log_mel(wave, rate))
    return statistics(bands_FM), picture(bands_FM), loudness(wave, rate)


@lru_cache(maxsize=8)
def _front_end(rate: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Window [samples of 25 ms], bands [frequencies, M], hop in samples."""
    length = max(4, round(0.025 * rate))
    size = 1 << (2 * length - 1).bit_length()  # at least twice the window: fine enough for the lowest bands
    if size < 64:  # but not for those of slow recordings, such as of hearts
        size = 128
    bands = mel_bands(rate, size, BANDS, f_min=min(20.0, rate / 25), scale="htk", equal_area=False)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return window.astype(np.float32), bands.astype(np.float32), max(1, round(0.010 * rate))


class AudioView(View):
    """One column of sounds, as paths or as arrays float [T].

    Args:
        columns: the name of one column.
        folder: what paths are relative to; None is the working folder.
        rate: Hz, to which all sounds are brought. None takes what most files of the first extracted frame have, 16 kHz
            at the most, and keeps it in `settings`. Arrays are taken as sampled at `rate`.
    """

    def __init__(self, columns: Sequence[str], folder: str | None = None, rate: int | None = None, **settings: Any):
        super().__init__(columns, folder=folder, rate=rate, **settings)
        if len(self.columns) != 1:
            raise InputError(f"An audio view reads one column, not {len(self.columns)}: {', '.join(self.columns)}.")

    @property
    def source(self) -> tuple[Any, ...]:
        return "sounds", self.columns, self.settings["folder"], self.settings["rate"]

    def extract(self, frame: pd.DataFrame) -> np.ndarray:
        """Structured array [N]: `statistics` float32 [D], `log_mel` float16 [M, 64] and `levels` float32 [6] of each.

        Raises:
            InputError: a sound cannot be read; the message names column and file, or the row of an array.
        """
        column, folder = self.columns[0], self.settings["folder"]
        cells = frame[column].tolist()
        if self.settings["rate"] is None:
            self.settings["rate"] = common_rate(cells, folder, column)
        rate = self.settings["rate"]
        raw = np.zeros(
            len(cells),
            [
                ("statistics", np.float32, (_STATISTICS,)),
                ("log_mel", np.float16, (BANDS, PICTURE)),
                ("levels", np.float32, (len(LEVELS),)),
            ],
        )

        def fill(row: int) -> None:
            raw[row] = features(_wave(cells[row], folder, rate, cell_place(cells[row], row, column)), rate)
            step()

        with (
            progress("Reading sounds" if len(cells) >= 200 else None, len(cells)) as step,
            workers(min(8, os.cpu_count() or 1)) as pool,
        ):
            for _ in pool.map(fill, range(len(cells))):
                pass
        return raw


class ScaledAudioView(AudioView):
    """One part of what was extracted, each number of the same size."""

    part: ClassVar[str]

    def fit(self, raw: np.ndarray) -> "ScaledAudioView":
        self.learned = own_scales(raw[self.part])
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (raw[self.part] - self.learned["mean"]) * self.learned["scale"]


class MfccView(ScaledAudioView):
    """Means of 13 cepstra and their slopes in five segments of time, their deviations, and the duration."""

    part = "statistics"


class LoudnessView(ScaledAudioView):
    """`LEVELS`. The other views are blind to them: a sound is relative to its own mean there."""

    part = "levels"


class LogMelPatchView(AudioView):
    """k-means over whitened patches of the log-mel picture, averaged over parts of time and pitch.

    Source: Coates & Ng's image features (see `patches`), on pictures of sounds.

    Args:
        centres: of k-means.
    """

    def __init__(self, columns: Sequence[str], folder: str | None = None, rate: int | None = None, centres: int = 100):
        super().__init__(columns, folder, rate, centres=centres)

    def fit(self, raw: np.ndarray) -> "LogMelPatchView":
        pictures = raw["log_mel"][sample_rows(raw["log_mel"], 5_000), :, :, None]
        self.learned = learn_patches(pictures.astype(np.float32), (8, 6), self.settings["centres"], flat=0.3, noise=0.5)
        self.learned |= own_scales(self._features(pictures[:1_000]))
        return self

    def transform(self, raw: np.ndarray) -> np.ndarray:
        return (self._features(raw["log_mel"][..., None]) - self.learned["mean"]) * self.learned["scale"]

    def _features(self, pictures: np.ndarray) -> np.ndarray:
        return patch_features(pictures, self.learned, grid=(4, 5))


def common_rate(cells: Sequence[Any], folder: str | None, column: str = "audio") -> int:
    """The sampling rate that most files have, Hz, at most 16 kHz. Raises InputError as `sampling_rates`."""
    return most_common(sampling_rates(cells, folder, column))


def most_common(rates: Counter[int]) -> int:
    """Of the sampling rates that most files have the highest, at most 16 kHz."""
    most = max(rates.values())
    return min(HIGHEST_RATE, max(rate for rate, count in rates.items() if count == most))


def sampling_rates(cells: Sequence[Any], folder: str | None, column: str = "audio") -> Counter[int]:
    """How many files have each sampling rate, Hz.

    Raises:
        InputError: a file cannot be read, there is none, or the sounds are arrays, which do not tell their rate.
    """
    import soundfile

    rates: Counter[int] = Counter()
    for row, cell in enumerate(cells):
        if isinstance(cell, np.ndarray):
            raise InputError(f"Column {column!r} holds sounds as arrays: give their sampling rate.")
        path = _path(cell, folder, where := cell_place(cell, row, column))
        try:
            rates[soundfile.info(path).samplerate] += 1
        except (soundfile.SoundFileError, OSError) as error:
            raise InputError(f"{where}: {path} cannot be read as sound: {error}") from error
    if not rates:
        raise InputError(f"Column {column!r} holds no sound.")
    return rates


def _wave(cell: Any, folder: str | None, rate: int, where: str) -> np.ndarray:
    if isinstance(cell, np.ndarray):
        if cell.ndim != 1 or not np.issubdtype(cell.dtype, np.floating) or not np.isfinite(cell).all():
            raise InputError(f"{where} is an array {cell.dtype} {list(cell.shape)}; give finite float [T] in -1..1.")
        return cell.astype(np.float32)
    path = _path(cell, folder, where)
    try:
        return read_wave(path, rate, quiet=True)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _path(cell: Any, folder: str | None, where: str) -> Path:
    if not isinstance(cell, (str, os.PathLike)):
        raise InputError(f"{where} is {cell!r}, neither the path of a sound nor an array.")
    return find_file(cell, folder)
