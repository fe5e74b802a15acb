"""Forward passes that leave no trace in batch normalization."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Within it, batch normalization normalizes by the batch as in training, and its running means stay as they are.

    For guesses and side tasks, whose inputs are not what the net will be used on.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
