"""Random numbers by counter: one address, one number, whatever else was drawn before.

An address is made of the seed, a name, an epoch and the index of an example. So adding a learner does not
change the noise of another, a batch may be cut over ranks, and a resumed run draws what the unbroken run drew.
"""

import hashlib
import math
from operator import index

import torch
from torch import Tensor, nn

# The increment and multipliers of splitmix64 (Steele, Lea & Flood 2014), as the signed integers that tensors hold.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_MASK = 2**64 - 1


def fold(*keys: int | str) -> int:
    """A seed in 0..2^63-1 made of integers and names; the same on every machine and in every process."""
    # index() makes numpy's integers and 0-d tensors the integers that they stand for.
    text = "\x1f".join(f"str:{key}" if isinstance(key, str) else f"int:{index(key)}" for key in keys)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*keys: int | str) -> torch.Generator:
    """A fresh CPU generator at the address `keys`."""
    return torch.Generator().manual_seed(fold(*keys))


def at(key: int, *counters: int) -> int:
    """The address `counters` below a folded key, in 0..2^63-1: as good as folding once more, at a tenth of its cost."""
    for counter in counters:
        key = (key + (counter + 1) * _GOLDEN) & _MASK
        key = ((key ^ key >> 30) * _MULTIPLIERS[0]) & _MASK
        key = ((key ^ key >> 27) * _MULTIPLIERS[1]) & _MASK
        key ^= key >> 31
    return key >> 1


def seed_torch(seed: int) -> None:
    """Seed torch's default generators (CPU, and GPUs in use).

    A hundredth of the cost of `torch.manual_seed`, which asks every backend.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        for generator_of_gpu in torch.cuda.default_generators:
            generator_of_gpu.manual_seed(seed)


# Layers that draw nothing, whatever their settings.
_QUIET = frozenset(
    (
        *(nn.Sequential, nn.ModuleList, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Embedding),
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm),
        *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Softmax, nn.LogSoftmax),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    )
)


def draws_nothing(net: nn.Module) -> bool:
    """Whether a call of the net surely draws no random number: it is made of torch's layers that never do, and nobody
    hooked in. To seed a generator that nobody asks is a sizeable part of a small net's step."""
    return all(
        type(module) in _QUIET
        and not (module._forward_hooks or module._forward_pre_hooks)
        and "forward" not in vars(module)
        for module in net.modules()
    )


def _wrap(x: int) -> int:
    """The low 64 bits as a signed integer, as tensors of int64 wrap by themselves."""
    return (x + 2**63) % 2**64 - 2**63


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift; torch's own shift of int64 keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finalizer of splitmix64: a bijection of int64 that scatters neighbours."""
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIERS[0]
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIERS[1]
    return x ^ _shift_right(x, 31)


class Draws:
    """Independent random numbers for each example of a batch, addressed by (seed, name, epoch, index).

    Args:
        index_B: the examples' indices in their dataset, int64 [B].
        keys: what else the address is made of. An entry may be a tensor int64 [B] (the epoch of each example).

    Each call draws new numbers; the k-th call on an example gives the same numbers in every batch it stands in.
    """

    def __init__(self, index_B: Tensor, *keys: int | str | Tensor):
        plain = [key for key in keys if not isinstance(key, Tensor)]
        state_B = _mix(index_B.long() * _GOLDEN + fold(*plain))
        for key in keys:
            if isinstance(key, Tensor):
                state_B = _mix(state_B + key.to(state_B) * _GOLDEN)
        self._state_B = state_B
        self._calls = 0

    def _bits(self, shape: tuple[int, ...]) -> Tensor:
        self._calls += 1
        count = math.prod(shape)
        base_B = _mix(self._state_B + _wrap(self._calls * _GOLDEN))
        counter_N = torch.arange(1, count + 1, device=base_B.device) * _GOLDEN
        return _mix(base_B[:, None] + counter_N).view(len(base_B), *shape)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """float32 [B, *shape], uniform in [low, high)."""
        unit = _shift_right(self._bits(shape), 40).float() * 2.0**-24
        return low + (high - low) * unit

    def integer(self, low: int, high: int, *shape: int) -> Tensor:
        """int64 [B, *shape], uniform in low..high-1."""
        return low + _shift_right(self._bits(shape), 1) % (high - low)

    def normal(self, *shape: int) -> Tensor:
        """float32 [B, *shape], standard normal (Box and Muller)."""
        radius = (-2 * torch.log1p(-self.uniform(*shape))).sqrt()
        return radius * torch.cos(2 * math.pi * self.uniform(*shape))

    def coin(self, probability: float) -> Tensor:
        """bool [B], true with the given probability."""
        return self.uniform() < probability
