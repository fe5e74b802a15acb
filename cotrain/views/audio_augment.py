"""Augmentations of waveforms and of spectrograms, batched and in plain torch.

An operation takes a batch and uniform numbers in 0..1 for each example (`cotrain.views.random_pool`); the functions
here make operations. `weak_wave` has the operations and magnitudes of the published code of Cances et al. 2022,
doi:10.1186/s13636-022-00255-6; the others are ours.
Legend: B examples, T samples, M mel bands, F frames, N numbers.
"""

import math
from functools import cache

import torch
from torch import Tensor

from cotrain.randomness import Draws, generator
from cotrain.views.copies import Augment, chain
from cotrain.views.random_pool import Operation, RandomPool


def weak_wave() -> Augment:
    """Each with probability 1/2: up to 1/4 of the waveform silenced; played at 1/2 to 3/2 of its speed."""
    return chain(RandomPool((occlude(0.25),), probability=0.5), RandomPool((speed(0.5, 1.5),), probability=0.5))


def strong_wave(count: int = 2) -> Augment:
    """`count` of: shift, speed, silenced part, noise, gain, band-stop."""
    pool = (shift(0.25), speed(0.6, 1.6), occlude(0.5), noise(0.0, 30.0), gain(12.0), band_stop(0.3))
    return RandomPool(pool, count)


def weak_spectrogram() -> Augment:
    """Each with probability 1/2: moved in time; stretched; a run of frames silenced; a rectangle silenced.

    The weak augmentations of waveforms as far as a spectrogram knows them, at a tenth of the cost.
    """
    steps = (move(0.1), stretch(0.3), time_mask(0.2), cutout(0.3))
    return chain(*(RandomPool((step,), probability=0.5) for step in steps))


def strong_spectrogram(count: int = 3) -> Augment:
    """`count` of: moved, stretched, played at another speed, pitch, noise, time mask, frequency mask, rectangle."""
    pool = (
        move(0.2),
        stretch(0.4),
        play(0.4),
        pitch(0.1),
        hiss(0.0, 30.0),
        time_mask(0.4),
        frequency_mask(0.4),
        cutout(0.6),
    )
    return RandomPool(pool, count)


def shift(most: float) -> Operation:
    """Earlier or later by up to a share `most` of the length; silence comes in."""

    def operation(x_BT: Tensor, numbers_BN: Tensor) -> Tensor:
        length = x_BT.shape[1]
        offset_B = ((2 * numbers_BN[:, 0] - 1) * most * length).round()
        return _sampled(x_BT, torch.arange(length) + offset_B[:, None])

    return operation


def speed(slowest: float, fastest: float) -> Operation:
    """Played faster or slower about its middle, pitch and all, by linear interpolation; padded or cropped."""

    def operation(x_BT: Tensor, numbers_BN: Tensor) -> Tensor:
        length = x_BT.shape[1]
        factor_B = slowest + (fastest - slowest) * numbers_BN[:, 0]
        middle = (length - 1) / 2
        return _sampled(x_BT, middle + (torch.arange(length) - middle) * factor_B[:, None])

    return operation


def occlude(most: float) -> Operation:
    """A part of up to a share `most` of the length becomes silence."""

    def operation(x_BT: Tensor, numbers_BN: Tensor) -> Tensor:
        return x_BT.masked_fill(_span(x_BT.shape[1], most * numbers_BN[:, 0], numbers_BN[:, 1]), 0)

    return operation


def noise(least: float, most: float) -> Operation:
    """White noise is added at a ratio of signal to noise between `least` and `most` decibel."""

    def operation(x_BT: Tensor, numbers_BN: Tensor) -> Tensor:
        decibel_B = least + (most - least) * (1 - numbers_BN[:, 0])
        deviation_B = x_BT.square().mean(1).sqrt() * 10 ** (-decibel_B / 20)
        # A stretch of one fixed recording of noise, at a place of the example's own: far cheaper than fresh numbers.
        white = _white_noise()
        start_B = (numbers_BN[:, 1] * len(white)).long()
        white_BT = white[(start_B[:, None] + torch.arange(x_BT.shape[1])) % len(white)]
        return x_BT + deviation_B[:, None] * white_BT

    return operation


def gain(most: float) -> Operation:
    """Louder or softer by up to `most` decibel."""

    def operation(x_BT: Tensor, numbers_BN: Tensor) -> Tensor:
        return x_BT * 10 ** ((2 * numbers_BN[:, :1] - 1) * most / 20)

    return operation


def band_stop(most: float) -> Operation:
    """A band as wide as up to a share `most` of all frequencies is taken out."""

    def operation(x_BT: Tensor, numbers_BN: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x_BT)
        band = _span(spectrum.shape[1], most * numbers_BN[:, 0], numbers_BN[:, 1])
        return torch.fft.irfft(spectrum.masked_fill(band, 0), n=x_BT.shape[1])

    return operation


def time_mask(most: float) -> Operation:
    """Up to a share `most` of the frames becomes silence. Source: Park et al. 2019, "SpecAugment", arXiv:1904.08779."""

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        return _silenced(x_BMF, _span(x_BMF.shape[2], most * numbers_BN[:, 0], numbers_BN[:, 1])[:, None, :])

    return operation


def frequency_mask(most: float) -> Operation:
    """Up to a share `most` of the bands becomes silence. Source: as `time_mask`."""

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        return _silenced(x_BMF, _span(x_BMF.shape[1], most * numbers_BN[:, 0], numbers_BN[:, 1])[:, :, None])

    return operation


def cutout(most: float) -> Operation:
    """A rectangle of up to a share `most` of each side becomes silence."""

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        bands = _span(x_BMF.shape[1], most * numbers_BN[:, 0], numbers_BN[:, 1])
        frames = _span(x_BMF.shape[2], most * numbers_BN[:, 2], numbers_BN[:, 3])
        return _silenced(x_BMF, bands[:, :, None] & frames[:, None, :])

    return operation


def pitch(most: float) -> Operation:
    """All bands move up or down by up to a share `most` of their number, the tempo stays."""

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        bands = x_BMF.shape[1]
        place = torch.arange(bands) + ((2 * numbers_BN[:, 0] - 1) * most * bands)[:, None]
        return _interpolated(x_BMF, place.clamp(0, bands - 1))

    return operation


def stretch(most: float) -> Operation:
    """Faster or slower about the middle by up to a share `most`, the pitch stays."""

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        frames = x_BMF.shape[2]
        middle = (frames - 1) / 2
        factor_B = 1 + (2 * numbers_BN[:, 0] - 1) * most
        return _placed(x_BMF.mT, middle + (torch.arange(frames) - middle) * factor_B[:, None]).mT

    return operation


def move(most: float) -> Operation:
    """Earlier or later by up to a share `most` of the frames; silence comes in."""

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        frames = x_BMF.shape[2]
        place_BF = torch.arange(frames) + ((2 * numbers_BN[:, 0] - 1) * most * frames).round()[:, None]
        return _placed(x_BMF.mT, place_BF).mT

    return operation


def play(most: float) -> Operation:
    """Played up to `most` octaves faster and higher, or slower and lower, as from a record.

    An octave is taken as a quarter of the bands everywhere, which holds roughly for speech on a mel scale.
    """

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        bands, frames = x_BMF.shape[1:]
        octaves_B = (2 * numbers_BN[:, 0] - 1) * most
        middle = (frames - 1) / 2
        place_BF = middle + (torch.arange(frames) - middle) * (2**octaves_B)[:, None]
        faster = _placed(x_BMF.mT, place_BF).mT
        return _interpolated(faster, (torch.arange(bands) - (octaves_B * bands / 4)[:, None]).clamp(0, bands - 1))

    return operation


def hiss(least: float, most: float) -> Operation:
    """The level of white noise at a ratio of signal to noise between `least` and `most` decibel joins every band.

    For natural logarithms of power in bands of equal area (`LogMel` as it comes).
    """

    def operation(x_BMF: Tensor, numbers_BN: Tensor) -> Tensor:
        decibel_B = least + (most - least) * (1 - numbers_BN[:, 0])
        level_B = x_BMF.flatten(1).logsumexp(1) - math.log(x_BMF[0].numel()) - decibel_B * math.log(10) / 10
        return torch.logaddexp(x_BMF, level_B[:, None, None])

    return operation


def flips(x_BMF: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """One of four: as it is (0), time reversed (1), bands upside down (2), both (3); and which, int64 [B].

    The task without labels that stands for the rotations of images: a rotated spectrogram is no sound.
    """
    turn_B = draws.integer(0, 4)
    reversed_ = torch.where(((turn_B & 1) > 0)[:, None, None], x_BMF.flip(2), x_BMF)
    return torch.where(((turn_B & 2) > 0)[:, None, None], reversed_.flip(1), reversed_), turn_B


def _span(length: int, share_B: Tensor, place_B: Tensor) -> Tensor:
    """bool [B, length]: a run as long as a share of the length, at a place (0: first possible, 1: last possible)."""
    size_B = (share_B * length).round()
    start_B = (place_B * (length - size_B)).round()
    at = torch.arange(length)
    return (at >= start_B[:, None]) & (at < (start_B + size_B)[:, None])


def _silenced(x_BMF: Tensor, mask: Tensor) -> Tensor:
    """The least value of each example stands for silence."""
    return torch.where(mask, _silence(x_BMF), x_BMF)


def _silence(x_BMF: Tensor) -> Tensor:
    return x_BMF.amin((1, 2), keepdim=True)


def _placed(x_BTF: Tensor, place_BT: Tensor) -> Tensor:
    """Rows at fractional places, silence outside."""
    length = x_BTF.shape[1]
    outside_BT = (place_BT < 0) | (place_BT > length - 1)
    return torch.where(outside_BT[..., None], _silence(x_BTF), _interpolated(x_BTF, place_BT.clamp(0, length - 1)))


def _interpolated(x_BTF: Tensor, place_BT: Tensor) -> Tensor:
    """Rows at fractional places 0..T-1 between neighbouring rows, for all columns."""
    # As a product with a matrix of hat functions: a few times faster than gathering rows.
    return (1 - (place_BT[..., None] - torch.arange(x_BTF.shape[1])).abs()).clamp(min=0) @ x_BTF


def _sampled(x_BT: Tensor, place_BT: Tensor) -> Tensor:
    """The waveform at fractional places, silence outside."""
    length = x_BT.shape[1]
    inside = (place_BT > -1) & (place_BT < length)
    place_BT = place_BT.clamp(0, length - 1)
    below_BT = place_BT.long()
    values = [x_BT.gather(1, at) for at in (below_BT, (below_BT + 1).clamp(max=length - 1))]
    return torch.lerp(values[0], values[1], place_BT - below_BT) * inside


@cache
def _white_noise(samples: int = 2**17) -> Tensor:
    return torch.randn(samples, generator=generator("white noise"))
