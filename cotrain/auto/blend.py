"""How the members of a committee speak with one voice.

Legend: M members, N rows, C classes, P parts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cotrain.auto.calibrate import soften


@dataclass(frozen=True)
class Blend:
    """Members that read one sort of columns are averaged: they err alike, and a mean evens out what each makes of it.
    What different sorts of columns say (a note, a photograph, numbers) is multiplied: given the class, one tells little
    of the other, so that two hints at a class are more than each of them.

    Attributes:
        parts: the members' numbers by what they read, P lists.
        temperatures: of each part's mean. temperature: of the product. doubt: see `product`.

    Source: the product rule of Kittler, Hatef, Duin & Matas 1998, "On combining classifiers", IEEE TPAMI 20(3).
    """

    parts: tuple[tuple[int, ...], ...]
    temperatures: tuple[float, ...]
    temperature: float = 1.0
    doubt: float = 0.0

    def __call__(self, said: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """One probability [..., C] of the members' calibrated ones, M of [..., C], for equal class shares."""
        means = [np.mean([said[m] for m in part], axis=0) for part in self.parts]
        return soften(product(means, self.temperatures, self.doubt), self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], members: int) -> "Blend":
        """Raises KeyError, TypeError or ValueError for other values than those of `to_dict` for so many members."""
        parts, temperatures = tuple(map(tuple, values["parts"])), tuple(values["temperatures"])
        found = cls(parts, temperatures, float(values["temperature"]), float(values.get("doubt", 0.0)))
        if sorted(m for part in found.parts for m in part) != list(range(members)):
            raise ValueError("the parts of the blend are not those of the members")
        if len(found.temperatures) != len(found.parts):
            raise ValueError("each part of the blend has one temperature")
        return found


def product(means: Sequence[np.ndarray], temperatures: Sequence[float], doubt: float = 0.0) -> np.ndarray:
    """The parts' probabilities, P of [..., C], each at its temperature, multiplied and normalized.

    doubt: the chance that a part knows nothing of a row, which says each class as often. Else one that is sure for want
    of rows on which it was wrong overrules all others.
    """
    soft = [soften(mean, own) for mean, own in zip(means, temperatures, strict=True)]
    logs = sum(np.log(np.maximum((1 - doubt) * each + doubt / each.shape[-1], 1e-12)) for each in soft)
    return soften(np.exp(logs - np.max(logs, axis=-1, keepdims=True)), 1.0)
