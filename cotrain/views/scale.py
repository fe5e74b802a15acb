"""One unit for all dense views, so that one grid of a learner's settings serves them all.

Features are centred and scaled so that a row's mean squared length is ten, that of ten standardised columns, however
many features there are.
"""

import numpy as np

LENGTH = 10**0.5  # root of a row's mean squared length


def one_scale(x_ND: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and a scale that all features share: they keep their relative sizes."""
    mean_D = x_ND.mean(0)
    length = float(np.sqrt(np.square(x_ND - mean_D).sum(1).mean()))
    return {"mean": mean_D, "scale": np.array(LENGTH / max(length, 1e-6), np.float32)}


def own_scales(x_ND: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and a scale for each feature: all count the same, constant ones nothing."""
    spread_D = x_ND.std(0)
    alive = spread_D > 1e-4 * spread_D.max(initial=0.0)
    scale_D = np.where(alive, LENGTH / max(int(alive.sum()), 1) ** 0.5 / np.where(alive, spread_D, 1), 0)
    return {"mean": x_ND.mean(0), "scale": scale_D.astype(np.float32)}
