import math

import numpy as np
import pytest
import torch
from scipy.signal import stft

from cotrain.errors import InputError
from cotrain.views.log_mel import LogMel, mel_bands


def explicit_bands(rate, n_fft, n_mels, f_min, f_max, htk, equal_area):
    """The mel matrix, frequency by frequency and band by band, from the definitions alone."""

    def mel(f):
        if htk:
            return 2595 * math.log10(1 + f / 700)
        return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    def hertz(m):
        if htk:
            return 700 * (10 ** (m / 2595) - 1)
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    low, high = mel(f_min), mel(f_max)
    corners = [hertz(low + (high - low) * i / (n_mels + 1)) for i in range(n_mels + 2)]
    bands = np.zeros((n_fft // 2 + 1, n_mels))
    for k in range(n_fft // 2 + 1):
        f = k * rate / n_fft
        for m in range(n_mels):
            left, centre, right = corners[m : m + 3]
            if left < f <= centre:
                bands[k, m] = (f - left) / (centre - left)
            elif centre < f < right:
                bands[k, m] = (right - f) / (right - centre)
            if equal_area:
                bands[k, m] *= 2 / (right - left)
    return bands


@pytest.mark.parametrize("htk", [False, True])
@pytest.mark.parametrize("equal_area", [False, True])
@pytest.mark.parametrize(("rate", "n_fft", "hop", "n_mels"), [(16_000, 512, 160, 40), (8_000, 400, 128, 23)])
def test_against_scipy_and_an_explicit_matrix(htk, equal_area, rate, n_fft, hop, n_mels):
    rng = np.random.default_rng(0)
    wave = rng.normal(size=hop * 37) * np.sin(np.arange(hop * 37) / 50)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    _, _, spectrum = stft(wave, window=window, nperseg=n_fft, noverlap=n_fft - hop, boundary="zeros", padded=False)
    power = np.abs(spectrum * window.sum()) ** 2
    bands = explicit_bands(rate, n_fft, n_mels, 60.0, rate / 2, htk, equal_area)
    expected = np.log(np.maximum(bands.T @ power, 1e-10))

    front = LogMel(rate, n_fft, hop, n_mels, f_min=60.0, scale="htk" if htk else "slaney", equal_area=equal_area)
    found = front(torch.from_numpy(wave).float()[None])[0].numpy()
    assert found.shape == expected.shape == (n_mels, 38)
    np.testing.assert_allclose(found, expected, atol=1e-4)

    decibel = LogMel(
        rate, n_fft, hop, n_mels, f_min=60.0, scale="htk" if htk else "slaney", equal_area=equal_area, decibel=True
    )
    np.testing.assert_allclose(
        decibel(torch.from_numpy(wave).float()[None])[0].numpy(), expected * 10 / math.log(10), atol=1e-3
    )


def test_a_tone_falls_into_its_band():
    rate, front = 16_000, LogMel(16_000, 512, 160, 40)
    bands = mel_bands(rate, 512, 40)
    for hertz in (440.0, 3000.0):
        wave = torch.sin(2 * torch.pi * hertz * torch.arange(rate) / rate)[None]
        loudest = front(wave)[0, :, 50].argmax().item()
        assert bands[round(hertz / rate * 512), loudest] > 0


def test_silence_is_the_floor():
    assert (LogMel(floor=1e-6)(torch.zeros(2, 4000)) == torch.tensor(1e-6).log()).all()
    assert LogMel(floor=1e-6, decibel=True)(torch.zeros(1, 4000))[0, 0, 0].item() == pytest.approx(-60, abs=1e-3)


@pytest.mark.parametrize("samples", [1, 100, 511, 512, 513])
def test_sounds_shorter_than_a_frame(samples):
    found = LogMel()(torch.randn(3, samples))
    assert found.shape == (3, 64, 1 + samples // 160)
    assert found.isfinite().all()


def test_a_gradient_reaches_the_waveform():
    wave = torch.randn(1, 2000, requires_grad=True)
    LogMel()(wave).mean().backward()
    assert wave.grad.isfinite().all()


def test_bands_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="half the rate"):
        LogMel(8_000, f_max=5_000)
    with pytest.raises(InputError, match="n_fft"):
        LogMel(16_000, n_fft=128, n_mels=80)
