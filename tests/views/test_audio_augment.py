import math

import pytest
import torch

from cotrain.randomness import Draws
from cotrain.views import audio_augment as audio
from cotrain.views.log_mel import LogMel

WAVES = [
    audio.shift(0.25),
    audio.speed(0.5, 1.5),
    audio.occlude(0.5),
    audio.noise(0.0, 30.0),
    audio.gain(12.0),
    audio.band_stop(0.3),
]
SPECTROGRAMS = [
    audio.time_mask(0.4),
    audio.frequency_mask(0.4),
    audio.cutout(0.5),
    audio.pitch(0.2),
    audio.stretch(0.3),
    audio.move(0.2),
    audio.play(0.3),
    audio.hiss(0.0, 30.0),
]


def numbers(*rows):
    return torch.tensor([[*row, *[0.5] * (5 - len(row))] for row in rows])


def tone(hertz, samples=8_000, rate=8_000):
    return torch.sin(2 * math.pi * hertz * torch.arange(samples) / rate)


def pitch_of(wave, rate=8_000):
    return torch.fft.rfft(wave).abs().argmax().item() * rate / len(wave)


@pytest.mark.parametrize(("operations", "shape"), [(WAVES, (6, 400)), (SPECTROGRAMS, (6, 20, 30))])
def test_every_operation_keeps_shape_and_finiteness(operations, shape):
    x = torch.randn(shape)
    x[0] = 0  # silence
    for operation in operations:
        for extreme in (0.0, 0.5, 1 - 2**-24):
            made = operation(x, torch.full((6, 5), extreme))
            assert made.shape == x.shape
            assert made.isfinite().all()


@pytest.mark.parametrize(("operations", "shape"), [(WAVES, (4, 400)), (SPECTROGRAMS, (4, 20, 30))])
def test_every_operation_acts_on_each_example_alone(operations, shape):
    x, n = torch.randn(shape), torch.rand(4, 5)
    for operation in operations:
        together = operation(x, n)
        for row in range(4):
            torch.testing.assert_close(operation(x[row : row + 1], n[row : row + 1])[0], together[row])


def test_shift_by_hand():
    x = torch.arange(1.0, 9.0)[None]
    # numbers 1, 0.5 and 0: later part first, nothing, earlier
    assert audio.shift(0.25)(x, numbers([1.0])).tolist() == [[3, 4, 5, 6, 7, 8, 0, 0]]
    assert audio.shift(0.25)(x, numbers([0.5])).tolist() == x.tolist()
    assert audio.shift(0.25)(x, numbers([0.0])).tolist() == [[0, 0, 1, 2, 3, 4, 5, 6]]


def test_speed_moves_the_pitch():
    made = audio.speed(0.5, 2.0)(tone(400).expand(3, -1), numbers([0.0], [1 / 3], [1.0]))
    for wave, expected in zip(made, (200, 400, 800), strict=True):
        assert pitch_of(wave) == pytest.approx(expected, abs=3)
    # twice as fast lasts half as long: silence at both ends
    assert made[2, :1900].abs().max() == 0
    assert made[2, 2100:5900].abs().max() > 0.9


def test_noise_has_its_ratio():
    x = tone(400)[None]
    for number, decibel in ((0.0, 30), (0.5, 15), (1.0, 0)):
        added = audio.noise(0.0, 30.0)(x, numbers([number])) - x
        ratio = 10 * math.log10((x.square().mean() / added.square().mean()).item())
        assert ratio == pytest.approx(decibel, abs=0.5)
    assert not audio.noise(0.0, 30.0)(torch.zeros(1, 100), numbers([1.0])).any()


def test_gain_and_occlusion_by_hand():
    assert audio.gain(20.0)(torch.ones(1, 3), numbers([1.0])).tolist() == [[10, 10, 10]]
    # half of eight samples, at the last place
    assert audio.occlude(0.5)(torch.ones(1, 8), numbers([1.0, 1.0])).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


def test_band_stop_takes_out_a_tone():
    x = (tone(500) + tone(3000))[None]
    made = audio.band_stop(0.3)(x, numbers([1.0, 0.0]))[0]  # 0 to 1,200 Hz
    torch.testing.assert_close(made, tone(3000), atol=1e-3, rtol=0)


def test_masks_by_hand():
    x = torch.arange(12.0).view(1, 3, 4) + 1
    masked = audio.time_mask(0.5)(x, numbers([1.0, 0.0]))[0]
    assert masked.tolist() == [[1, 1, 3, 4], [1, 1, 7, 8], [1, 1, 11, 12]]  # the least value stands for silence
    masked = audio.frequency_mask(1 / 3)(x, numbers([1.0, 1.0]))[0]
    assert masked.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 1, 1]]
    masked = audio.cutout(0.5)(torch.arange(16.0).view(1, 4, 4), numbers([1.0, 0.0, 1.0, 1.0]))[0]
    assert masked.tolist() == [[0, 1, 0, 0], [4, 5, 0, 0], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_moves_by_hand():
    x = torch.tensor([[[0.0, 10, 20, 30]]])
    assert audio.move(0.25)(x, numbers([1.0])).tolist() == [[[10, 20, 30, 0]]]
    assert audio.stretch(1.0)(x, numbers([0.25])).tolist() == [
        [[7.5, 12.5, 17.5, 22.5]]
    ]  # half as fast, between frames
    x = torch.tensor([[[0.0], [10], [20], [30]]])
    assert audio.pitch(0.25)(x, numbers([1.0]))[0, :, 0].tolist() == [10, 20, 30, 30]


def test_hiss_fills_the_silence_at_its_ratio():
    x = torch.tensor([[[0.0, -50.0], [0.0, -50.0]]])  # power 1, 1 and nothing: mean power 1/2
    made = audio.hiss(0.0, 20.0)(x, numbers([0.0]))  # 20 dB below: 1/200
    torch.testing.assert_close(made, torch.tensor([[[1.005, 0.005]] * 2]).log())


def test_hiss_is_what_noise_is_on_the_waveform():
    """The spectrogram of wave and noise is about the spectrogram with the noise's level: the two agree in the mean."""
    front = LogMel(8_000, 512, 128, 40, f_min=60.0)
    wave = (tone(400) + tone(1500))[None]
    noisy = front(audio.noise(0.0, 30.0)(wave, numbers([0.5])))[0, :, 5:-5]
    level = audio.hiss(0.0, 30.0)(front(wave), numbers([0.5]))[0, :, 5:-5]
    quiet = front(wave)[0, :, 5:-5] < -5
    # Power of white noise is spread over all bands, that of `hiss` is measured on the mean over bands.
    assert (noisy[quiet].exp().mean().log() - level[quiet].exp().mean().log()).abs() < 1.0


def test_flips_say_what_they_did():
    x = torch.randn(64, 5, 7)
    turned, turn = audio.flips(x, Draws(torch.arange(64), 0))
    assert set(turn.tolist()) == {0, 1, 2, 3}
    for row in range(64):
        dims = [d for bit, d in ((1, 1), (2, 0)) if turn[row] & bit]
        assert torch.equal(turned[row], x[row].flip(dims))


@pytest.mark.parametrize("augment", [audio.weak_wave(), audio.strong_wave()])
def test_waveform_pools(augment):
    x = torch.randn(32, 800)
    one, two = (augment(x, Draws(torch.arange(32), seed)) for seed in (0, 1))
    assert one.shape == x.shape
    assert not torch.equal(one, two)
    assert torch.equal(one, augment(x, Draws(torch.arange(32), 0)))


def test_strong_changes_more_than_weak():
    x = LogMel(8_000, 512, 128, 40, f_min=60.0)(torch.stack([tone(200 + 50 * k) for k in range(32)]))
    weak, strong = (
        (augment(x, Draws(torch.arange(32), 0)) - x).abs().mean()
        for augment in (audio.weak_spectrogram(), audio.strong_spectrogram())
    )
    assert 0 < weak < strong
