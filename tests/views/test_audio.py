import numpy as np
import pandas as pd
import pytest
import soundfile
from scipy.fft import dct
from scipy.signal import stft

from cotrain.errors import InputError
from cotrain.views.audio import (
    LogMelPatchView,
    LoudnessView,
    MfccView,
    common_rate,
    delta,
    features,
    log_mel,
    loudness,
    mfcc,
    picture,
    statistics,
    trim,
)
from cotrain.views.log_mel import mel_bands

RATE = 8_000
VIEWS = [MfccView, LogMelPatchView, LoudnessView]


def tone(hertz, seconds=0.5, rate=RATE, quiet=0.0):
    """A tone with `quiet` seconds of silence at both ends."""
    time = np.arange(round(seconds * rate)) / rate
    silence = np.zeros(round(quiet * rate))
    return np.concatenate([silence, 0.5 * np.sin(2 * np.pi * hertz * time), silence]).astype(np.float32)


def sounds(count, seed=0):
    """Rising and falling tones in noise, of many lengths."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    waves = []
    for rises in y:
        length = rng.integers(2_000, 8_000)
        sweep = np.linspace(400, 2_000, length) if rises else np.linspace(2_000, 400, length)
        waves.append((np.sin(2 * np.pi * np.cumsum(sweep) / RATE) + rng.normal(0, 0.05, length)).astype(np.float32))
    return waves, y


def cells(values):
    return pd.DataFrame({"clip": pd.Series(list(values), dtype=object)})


class TestFrontEnd:
    @pytest.mark.parametrize("rate", [8_000, 16_000, 11_025])
    def test_mfcc_equal_the_formula(self, rate):
        wave = np.random.default_rng(0).normal(0, 0.1, rate // 2).astype(np.float32)
        length, hop = round(0.025 * rate), round(0.010 * rate)
        size = 1 << (2 * length - 1).bit_length()
        _, _, spectrum = stft(
            wave, rate, "hann", length, length - hop, size, boundary=None, padded=False, scaling="spectrum"
        )
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        power = np.abs(spectrum * window.sum()).T ** 2  # scipy divides by the window's sum
        bands = mel_bands(rate, size, 40, f_min=20.0, scale="htk", equal_area=False)
        expected = dct(np.log(power @ bands), type=2, axis=1, norm="ortho")[:, :13]
        found = mfcc(log_mel(wave, rate))
        assert found.shape == expected.shape
        assert found == pytest.approx(expected, abs=2e-3)

    @pytest.mark.parametrize("rate", [10, 100, 125, 250, 360, 500, 640, 660])
    def test_slow_recordings(self, rate):
        wave = np.random.default_rng(0).normal(0, 0.1, 5 * rate).astype(np.float32)
        assert all(np.isfinite(found).all() for found in features(wave, rate))
        assert np.ptp(log_mel(wave, rate), axis=0).min() > 0  # each band holds something

    def test_a_tone_is_loudest_in_its_band(self):
        bands = log_mel(tone(1_000), RATE).mean(0)
        centres = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + np.array([20, 4000]) / 700)), 42)[1:-1] / 2595) - 1)
        assert abs(centres[bands.argmax()] - 1_000) < 100

    def test_twice_as_loud_is_a_constant_more(self):
        wave = np.random.default_rng(0).normal(0, 0.1, 4_000).astype(np.float32)
        assert log_mel(2 * wave, RATE) - log_mel(wave, RATE) == pytest.approx(np.log(4), abs=1e-4)

    def test_a_constant_offset_is_not_heard(self):
        wave = tone(500, quiet=0.3) + np.random.default_rng(0).normal(0, 1e-4, 8_800).astype(np.float32)
        for found, expected in zip(features(wave + np.float32(0.1), RATE), features(wave, RATE)):
            assert found == pytest.approx(expected, abs=1e-2)

    @pytest.mark.parametrize("samples", [1, 199, 200, 201])
    def test_short_sounds_have_a_frame(self, samples):
        assert log_mel(np.ones(samples, np.float32), RATE).shape == (1, 40)

    def test_long_sounds_in_parts(self, monkeypatch):
        wave = np.random.default_rng(0).normal(0, 0.1, 40_000).astype(np.float32)
        whole = log_mel(wave, RATE)
        monkeypatch.setattr("cotrain.views.audio._FRAMES_AT_ONCE", 7)
        assert log_mel(wave, RATE) == pytest.approx(whole, abs=1e-5)

    def test_silence_is_finite(self):
        assert np.isfinite(statistics(trim(log_mel(np.zeros(4_000, np.float32), RATE)))).all()

    def test_slope_by_hand(self):
        """On a line it is the line's slope; at the ends, where the value is held, less: (1 + 2 * 2) / 10."""
        line = np.arange(6.0)[:, None] * 3
        assert delta(line)[:, 0] == pytest.approx([1.5, 2.4, 3, 3, 2.4, 1.5])

    def test_trim_keeps_the_sound_and_a_little_more(self):
        frames = len(log_mel(tone(500, 0.5), RATE))
        noisy = tone(500, 0.5, quiet=0.5) + np.random.default_rng(0).normal(0, 1e-4, 12_000).astype(np.float32)
        kept = trim(log_mel(noisy, RATE))
        assert frames <= len(kept) <= frames + 10

    def test_statistics_by_hand(self):
        """One band pattern in the first half of the sound, another in the second; means by segment, then deviations."""
        bands = np.zeros((20, 40), np.float32)
        bands[10:] = np.cos(np.pi * (np.arange(40) + 0.5) / 40)  # the first cosine: its cepstrum 1 is sqrt(40 / 2)
        found = statistics(bands, segments=2)
        assert len(found) == 3 * 26 + 1
        assert found[1] == pytest.approx(0, abs=1e-5)
        assert found[26 + 1] == pytest.approx(20**0.5, abs=1e-4)
        assert found[2 * 26 + 1] == pytest.approx(20**0.5 / 2, abs=1e-4)
        assert found[-1] == pytest.approx(np.log(20))

    def test_loudness_does_not_matter_to_statistics(self):
        wave = sounds(1)[0][0]
        assert statistics(log_mel(wave, RATE)) == pytest.approx(statistics(log_mel(wave / 7, RATE)), abs=1e-3)

    @pytest.mark.parametrize("frames", [1, 3, 63, 64, 65, 500])
    def test_picture_keeps_averages(self, frames):
        bands = np.random.default_rng(0).normal(size=(frames, 40)).astype(np.float32)
        found = picture(bands)
        assert found.shape == (40, 64)
        assert found.mean(1) == pytest.approx(bands.mean(0) - bands.mean(), abs=1e-4)

    def test_picture_averages_pairs_and_repeats_by_hand(self):
        bands = np.array([[0.0], [2], [4], [6]], np.float32)
        assert picture(bands, 2)[0] == pytest.approx([-2, 2])
        assert picture(bands, 8)[0] == pytest.approx([-3, -3, -1, -1, 1, 1, 3, 3])


class TestLoudness:
    def test_by_hand(self):
        """A second that is silent, then half of the scale, then a tenth of it: square waves, whose power is flat."""
        wave = np.repeat([0.0, 0.5, 0.1], [3_000, 2_000, 3_000]) * np.resize([1.0, -1.0], 8_000)
        half, tenth, whole = 10 * np.log10([0.25, 0.01, (0.25 * 2 + 0.01 * 3) / 8])
        assert loudness(wave.astype(np.float32), RATE) == pytest.approx([whole, half, half, tenth, -100, half], abs=0.1)

    def test_twice_as_loud_is_six_decibels_more(self):
        wave = sounds(1)[0][0] / 4
        assert loudness(2 * wave, RATE) - loudness(wave, RATE) == pytest.approx(20 * np.log10(2), abs=1e-3)

    @pytest.mark.parametrize("samples", [1, 199, 200, 201])
    def test_short_and_silent_sounds_are_finite(self, samples):
        assert loudness(np.ones(samples, np.float32), RATE) == pytest.approx(np.zeros(6))
        assert loudness(np.zeros(samples, np.float32), RATE) == pytest.approx(np.full(6, -100))

    def test_the_view_tells_what_the_others_cannot(self):
        from sklearn.linear_model import LogisticRegression

        waves = [wave / (2 if number % 2 else 4) for number, wave in enumerate(sounds(120)[0])]
        y = np.arange(120) % 2
        score = {}
        for view_class in VIEWS:
            view = view_class(("clip",), rate=RATE)
            raw = view.extract(cells(waves))
            features = view.fit(raw).transform(raw)
            score[view_class] = LogisticRegression().fit(features[:40], y[:40]).score(features[40:], y[40:])
        assert score[LoudnessView] == 1
        assert max(score[MfccView], score[LogMelPatchView]) < 0.75


@pytest.mark.parametrize("view_class", VIEWS)
class TestViews:
    def test_learns_sweeps_from_few(self, view_class):
        from sklearn.linear_model import LogisticRegression

        waves, y = sounds(120)
        if view_class is LoudnessView:
            waves = [wave / (1 + sign) for wave, sign in zip(waves, y)]
        view = view_class(("clip",), rate=RATE)
        raw = view.extract(cells(waves))
        features = view.fit(raw).transform(raw)
        assert features.dtype == np.float32
        assert np.square(features).sum(1).mean() == pytest.approx(10, rel=0.2)
        assert LogisticRegression().fit(features[:20], y[:20]).score(features[20:], y[20:]) > 0.95

    def test_files_of_any_rate(self, view_class, tmp_path):
        for number, rate in enumerate([8_000, 8_000, 16_000]):
            soundfile.write(tmp_path / f"{number}.wav", tone(440, 1.0, rate), rate)
        view = view_class(("clip",), folder=str(tmp_path))
        raw = view.extract(cells(["0.wav", "1.wav", "2.wav"]))
        assert view.settings["rate"] == 8_000
        assert view.fresh().settings["rate"] == 8_000
        assert raw["log_mel"][2].astype(float) == pytest.approx(raw["log_mel"][0].astype(float), abs=1.5)
        assert np.isfinite(view.fit(raw).transform(raw)).all()

    def test_a_broken_file_is_named(self, view_class, tmp_path):
        soundfile.write(tmp_path / "good.wav", tone(440), RATE)
        (tmp_path / "bad.wav").write_bytes(b"RIFF no sound")
        for settings in ({}, {"rate": RATE}):
            with pytest.raises(InputError, match=r"Column 'clip'.*bad\.wav"):
                view_class(("clip",), folder=str(tmp_path), **settings).extract(cells(["good.wav", "bad.wav"]))

    @pytest.mark.parametrize("cell", [None, float("nan"), np.zeros((2, 3)), np.array([1, 2]), np.array([np.nan])])
    def test_what_is_no_sound_is_refused(self, view_class, cell):
        with pytest.raises(InputError, match="Row 0"):
            view_class(("clip",), rate=RATE).extract(cells([cell]))

    def test_saved_and_loaded_gives_the_same(self, view_class, tmp_path):
        waves, _ = sounds(30)
        view = view_class(("clip",), rate=RATE)
        raw = view.extract(cells(waves))
        expected = view.fit(raw).transform(raw[:5])
        np.savez(tmp_path / "learned.npz", **view.learned)
        other = view_class(view.columns, **view.settings)
        with np.load(tmp_path / "learned.npz", allow_pickle=False) as learned:
            other.learned = dict(learned)
        assert (other.transform(other.extract(cells(waves[:5]))) == expected).all()

    def test_views_of_a_column_share_a_source(self, view_class):
        assert view_class(("clip",), rate=8_000).source == MfccView(("clip",), rate=8_000).source
        assert view_class(("clip",), rate=8_000).source != MfccView(("clip",), rate=16_000).source


class TestRate:
    def test_the_most_common_one_up_to_sixteen_thousand(self, tmp_path):
        for number, rate in enumerate([44_100, 44_100, 8_000]):
            soundfile.write(tmp_path / f"{number}.wav", tone(440, rate=rate), rate)
        assert common_rate(["0.wav", "1.wav", "2.wav"], str(tmp_path)) == 16_000
        assert common_rate(["2.wav"], str(tmp_path)) == 8_000

    def test_arrays_do_not_tell(self):
        with pytest.raises(InputError, match="sampling rate"):
            common_rate([tone(440)], None)


def test_a_table_of_several_rates_is_said_to_be_one(tmp_path):
    from cotrain.auto.columns import Columns
    from cotrain.auto.views import make_views

    for number, rate in enumerate([8_000, 8_000, 16_000]):
        soundfile.write(tmp_path / f"{number}.wav", tone(440, 1.0, rate), rate)
    warnings: list[str] = []
    views = make_views(cells(["0.wav", "1.wav", "2.wav"]), Columns("y", audio=("clip",)), tmp_path, (), warnings)
    assert views.views["sound"].settings["rate"] == 8_000
    assert len(warnings) == 1
    assert "8,000 Hz (2), 16,000 Hz (1); all are brought to 8,000" in warnings[0]
    make_views(cells(["0.wav", "1.wav"]), Columns("y", audio=("clip",)), tmp_path, (), warnings)
    assert len(warnings) == 1
