"""Sound files as arrays: one channel, one rate, one length."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from cotrain.errors import InputError

_AT_ONCE = 1 << 18  # samples of each channel


def read_wave(path: Path | str, rate: int, quiet: bool = False) -> np.ndarray:
    """A sound file as float32 [T] in about -1..1, one channel, at `rate` samples per second.

    Reads what libsndfile reads (WAV of 8, 16, 24, 32 bits and float, FLAC, OGG, ...). Several channels become their
    mean. Another rate is resampled, and a warning says so, unless `quiet`.

    Raises:
        InputError: the file cannot be read, holds no sample, or holds one that is not finite; the message names it.
    """
    import soundfile

    try:
        wave, own = _one_channel(path)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise InputError(f"{path} cannot be read as sound: {error}") from error
    if not wave.size:
        raise InputError(f"{path} holds no sound: its length is 0 samples.")
    if not np.isfinite(wave).all():
        raise InputError(f"{path} holds samples that are not finite; the first is sample {np.isfinite(wave).argmin()}.")
    if own != rate:
        if not quiet:
            warnings.warn(f"Sound of {own} Hz is resampled to {rate} Hz.", stacklevel=2)
        common = math.gcd(own, rate)
        wave = resample_poly(wave, rate // common, own // common).astype(np.float32)
    return wave


def _one_channel(path: Path | str) -> tuple[np.ndarray, int]:
    """The mean of all channels, float32 [T], and their rate. Long recordings are read in parts, which spares memory,
    but for compressed ones, whose decoders give other samples so."""
    import soundfile

    with soundfile.SoundFile(path) as sound:
        if sound.channels > 1 and sound.subtype.startswith(("PCM", "FLOAT", "DOUBLE")):
            wave, filled = np.empty(sound.frames, np.float32), 0
            for part in sound.blocks(_AT_ONCE, dtype="float32", always_2d=True):
                part.mean(axis=1, out=wave[filled : filled + len(part)])
                filled += len(part)
            return wave[:filled], sound.samplerate
    samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1), own


def stack_waves(waves: Sequence[np.ndarray], samples: int) -> np.ndarray:
    """Waveforms of any length as float32 [N, samples]: longer ones lose both ends, shorter ones get silence at both."""
    stacked = np.zeros((len(waves), samples), np.float32)
    for row, wave in zip(stacked, waves, strict=True):
        start = (len(wave) - samples) // 2
        kept = wave[max(0, start) : max(0, start) + samples]
        row[max(0, -start) : max(0, -start) + len(kept)] = kept
    return stacked
