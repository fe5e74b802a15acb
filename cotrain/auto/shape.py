"""Does what was read from a JSON file have the shape it should have?

A shape is a type or several, a dict of shapes by key (a key that ends in "?" may be missing, other keys may be there),
a list of one shape for all items, or Maybe(shape) for a shape or null.
"""

from typing import Any, NamedTuple


class Maybe(NamedTuple):
    """This shape, or null."""

    shape: Any


def fault(value: Any, shape: Any, where: str = "") -> str:
    """The first place that does not have its shape, in words; empty where all have."""
    match shape:
        case Maybe():
            return "" if value is None else fault(value, shape.shape, where)
        case dict():
            if not isinstance(value, dict):
                return f"{where or 'it'} does not hold names with values"
            for name, part in shape.items():
                key, inside = name.removesuffix("?"), f"{where}.{name}".strip(".?")
                if key not in value and key == name:
                    return f"{inside} is missing"
                found = fault(value[key], part, inside) if key in value else ""
                if found:
                    return found
            return ""
        case list():
            if not isinstance(value, list):
                return f"{where} is not a list"
            faults = (fault(item, shape[0], f"{where}[{number}]") for number, item in enumerate(value))
            return next(filter(None, faults), "")
    types = shape if isinstance(shape, tuple) else (shape,)
    good = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    return "" if good else f"{where} is {value!r:.40}"
