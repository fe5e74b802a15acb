"""Log-mel spectrograms of waveforms, in plain torch, at any sampling rate.

Legend: B waveforms, T samples, F frames, M mel bands, K = n_fft // 2 + 1 frequencies.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from cotrain.errors import InputError

Scale = Literal["slaney", "htk"]


class LogMel(nn.Module):
    """Waveforms float [B, T] -> log-mel spectrograms float [B, M, F], F = 1 + T // hop_length.

    Args:
        sample_rate: of the waveforms, Hz.
        n_fft: samples in a frame (Hann window).
        hop_length: samples from one frame to the next. Frames are centred; the ends are padded with silence.
        n_mels: M.
        f_min, f_max: lowest and highest frequency, Hz; None is half the rate.
        scale: "slaney" is linear up to 1 kHz, "htk" is 2595 log10(1 + f / 700).
        equal_area: each band's weights have the same area (Slaney's normalization); else the same peak, 1.
        decibel: 10 log10 of the power; else the natural logarithm.
        floor: least power that is told apart, so that silence has a logarithm.

    Raises:
        InputError: bands beyond half the rate, or so narrow that one holds no frequency of the transform.
    """

    window: Tensor
    bands_KM: Tensor

    def __init__(
        self,
        sample_rate: int = 16_000,
        n_fft: int = 512,
        hop_length: int = 160,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        scale: Scale = "slaney",
        equal_area: bool = True,
        decibel: bool = False,
        floor: float = 1e-10,
    ):
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.decibel = decibel
        self.floor = floor
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        bands = mel_bands(sample_rate, n_fft, n_mels, f_min, f_max, scale, equal_area)
        self.register_buffer("bands_KM", torch.from_numpy(bands).float(), persistent=False)

    def forward(self, waves_BT: Tensor) -> Tensor:
        spectrum_BKF = torch.stft(
            waves_BT, self.n_fft, self.hop_length, window=self.window, pad_mode="constant", return_complex=True
        )
        power_BFK = (spectrum_BKF.real.square() + spectrum_BKF.imag.square()).mT
        log_BFM = (power_BFK @ self.bands_KM).clamp(min=self.floor).log()
        return (log_BFM * (10 / math.log(10)) if self.decibel else log_BFM).mT


def mel_bands(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    scale: Scale = "slaney",
    equal_area: bool = True,
) -> np.ndarray:
    """Triangular bands, float64 [K, M]: the weight of each frequency of the transform in each band.

    Raises:
        InputError: see `LogMel`.
    """
    top = sample_rate / 2 if f_max is None else f_max
    if not 0 <= f_min < top <= sample_rate / 2:
        raise InputError(
            f"Mel bands from {f_min} to {top} Hz do not fit into 0..{sample_rate / 2:g} Hz, half the rate."
        )
    to_mel, to_hertz = _SCALES[scale]
    corners = to_hertz(np.linspace(to_mel(np.array(f_min)), to_mel(np.array(top)), n_mels + 2))
    frequencies_K = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[:, None]
    low, centre, high = corners[:-2], corners[1:-1], corners[2:]
    bands = np.maximum(0, np.minimum((frequencies_K - low) / (centre - low), (high - frequencies_K) / (high - centre)))
    if (empty := np.flatnonzero(bands.max(0) == 0)).size:
        raise InputError(
            f"Mel band {empty[0]} of {n_mels} is narrower than a step of the transform, {sample_rate / n_fft:.0f} Hz: "
            "take a larger n_fft, fewer n_mels or a higher f_min."
        )
    return bands * 2 / (high - low) if equal_area else bands


def _htk_mel(hertz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hertz / 700)


def _htk_hertz(mel: np.ndarray) -> np.ndarray:
    return 700 * (10 ** (mel / 2595) - 1)


# Slaney's Auditory Toolbox (1998): 200/3 Hz a mel up to 1 kHz, above it 27 mels for each factor of 6.4.
_LINEAR, _BREAK, _STEP = 200 / 3, 1000.0, math.log(6.4) / 27


def _slaney_mel(hertz: np.ndarray) -> np.ndarray:
    above = _BREAK / _LINEAR + np.log(np.maximum(hertz, _BREAK) / _BREAK) / _STEP
    return np.where(hertz < _BREAK, hertz / _LINEAR, above)


def _slaney_hertz(mel: np.ndarray) -> np.ndarray:
    knee = _BREAK / _LINEAR
    return np.where(mel < knee, mel * _LINEAR, _BREAK * np.exp((np.maximum(mel, knee) - knee) * _STEP))


_SCALES = {"slaney": (_slaney_mel, _slaney_hertz), "htk": (_htk_mel, _htk_hertz)}
