"""Tiny nets and streams for the methods' `example()`: four features, three classes, milliseconds."""

import torch
from torch import Tensor, nn

from cotrain.randomness import Draws, generator
from cotrain.stream import Batch, Rows

FEATURES, CLASSES = 4, 3


def two_layer(hidden: int = 8, seed: int = 0, features: int = FEATURES, outputs: int = CLASSES) -> nn.Module:
    """A net with fixed first weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, outputs))


def labelled_rows(count: int = 24, batch: int = 8, seed: int = 0, view=None, name: str = "labelled") -> Rows:
    """x [count, 4] in three groups with their labels y."""
    x, y = _groups(count, seed)
    return Rows({"x": x, "y": y}, batch=batch, seed=seed, name=name, view=view)


def unlabelled_rows(count: int = 48, batch: int = 8, seed: int = 1, view=None, name: str = "unlabelled") -> Rows:
    """Rows of the same groups without labels; the default view gives `weak` and `strong`."""
    x, _ = _groups(count, seed)
    return Rows({"x": x}, batch=batch, seed=seed, name=name, view=view or weak_and_strong)


def weak_and_strong(batch: Batch, draws: Draws) -> Batch:
    """Two views of x with small and larger noise."""
    x = batch["x"]
    return {"weak": x + 0.05 * draws.normal(x.shape[1]), "strong": x + 0.3 * draws.normal(x.shape[1])}


def _groups(count: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = generator("example", seed)
    y = torch.arange(count) % CLASSES
    centre = torch.eye(CLASSES, FEATURES) * 2
    return centre[y] + 0.5 * torch.randn(count, FEATURES, generator=rng), y
