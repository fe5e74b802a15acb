import io
import warnings

import numpy as np
import pytest
import soundfile

from cotrain.data.audio import read_wave, stack_waves
from cotrain.errors import InputError

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000)


def write(folder, samples, rate=8_000, subtype="PCM_16", name="sound.wav", **kwargs):
    path = folder / name
    soundfile.write(path, samples, rate, subtype=subtype, **kwargs)
    return path


@pytest.mark.parametrize(
    ("subtype", "step"),
    [("PCM_U8", 2**-7), ("PCM_16", 2**-15), ("PCM_24", 2**-23), ("PCM_32", 2**-23), ("FLOAT", 1e-7)],
)
def test_all_depths(tmp_path, subtype, step):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to say about the right rate
        wave = read_wave(write(tmp_path, TONE, subtype=subtype), 8_000)
    assert wave.dtype == np.float32
    np.testing.assert_allclose(wave, TONE, atol=step)


def test_several_channels_become_their_mean(tmp_path):
    wave = read_wave(write(tmp_path, np.stack([TONE, 0 * TONE], axis=1)), 8_000)
    np.testing.assert_allclose(wave, TONE / 2, atol=1e-4)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_in_parts_it_is_the_same(tmp_path, monkeypatch, suffix):
    """Also where the decoder would give other samples in parts."""
    noise = np.random.default_rng(0).normal(0, 0.1, (5_000, 2))
    soundfile.write(tmp_path / f"a.{suffix}", noise, 8_000)
    monkeypatch.setattr("cotrain.data.audio._AT_ONCE", 700)
    whole = soundfile.read(tmp_path / f"a.{suffix}", dtype="float32")[0].mean(axis=1)
    assert (read_wave(tmp_path / f"a.{suffix}", 8_000) == whole).all()


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000, 44_100])
def test_another_rate_is_resampled_and_reported(tmp_path, rate):
    path = write(tmp_path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate), rate)
    if rate == 8_000:
        wave = read_wave(path, 8_000)
    else:
        with pytest.warns(UserWarning, match=f"{rate} Hz is resampled to 8000"):
            wave = read_wave(path, 8_000)
    assert wave.shape == (8_000,)
    np.testing.assert_allclose(wave[500:-500], TONE[500:-500], atol=0.01)


def test_values_beyond_1_are_kept(tmp_path):
    assert read_wave(write(tmp_path, 3 * TONE, subtype="FLOAT"), 8_000).max() == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound at all" * 10])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.wav"):
        read_wave(path, 8_000)


def test_a_corrupted_header_is_named(tmp_path):
    sound = io.BytesIO()
    soundfile.write(sound, TONE, 8_000, format="WAV")
    content = bytearray(sound.getvalue())
    content[8:16] = b"\xff" * 8  # WAVE and fmt
    (tmp_path / "header.wav").write_bytes(content)
    with pytest.raises(InputError, match=r"header\.wav"):
        read_wave(tmp_path / "header.wav", 8_000)


def test_a_missing_an_empty_and_an_infinite_file_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.wav"):
        read_wave(tmp_path / "none.wav", 8_000)
    with pytest.raises(InputError, match=r"empty\.wav.*0 samples"):
        read_wave(write(tmp_path, np.zeros(0), name="empty.wav"), 8_000)
    with pytest.raises(InputError, match=r"bad\.wav.*sample 7"):
        read_wave(write(tmp_path, np.where(np.arange(100) == 7, np.nan, 0.1), subtype="FLOAT", name="bad.wav"), 8_000)


def test_a_silent_file_stays_silent(tmp_path):
    assert not read_wave(write(tmp_path, np.zeros(100)), 8_000).any()


def test_different_lengths_are_stacked():
    waves = [np.array([1.0]), np.arange(1.0, 5.0), np.arange(1.0, 8.0), np.zeros(0)]
    np.testing.assert_array_equal(stack_waves(waves, 4), [[0, 0, 1, 0], [1, 2, 3, 4], [2, 3, 4, 5], [0, 0, 0, 0]])
