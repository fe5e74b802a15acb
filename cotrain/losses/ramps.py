"""Factors in 0..1 that change with the step; `length` is in steps, 0 or less: no ramp, the final value from step 0."""

import math


def linear(step: int, length: int) -> float:
    """Rises evenly from 0 to 1."""
    return _share(step, length)


def sigmoid(step: int, length: int) -> float:
    """exp(-5 (1 - t)^2), from 0.0067 to 1. Source: Laine & Aila 2017, arXiv:1610.02242, section 3.3."""
    return math.exp(-5.0 * (1.0 - _share(step, length)) ** 2)


def cosine_down(step: int, length: int) -> float:
    """Half a cosine from 1 to 0; a schedule of the learning rate.

    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, Eq. 5, without restarts.
    """
    return (1.0 + math.cos(math.pi * _share(step, length))) / 2.0


def _share(step: int, length: int) -> float:
    return 1.0 if length <= 0 else min(max(step / length, 0.0), 1.0)
