"""The parts of a net that are sharded as one piece each: large enough to be worth a message, small enough to be whole
for a moment.

Source: Zhao et al. 2023, "PyTorch FSDP", arXiv:2304.11277, section 3.2, for units; the bounds are this project's.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from torch import nn

from cotrain.errors import InputError

Unit = list[nn.Module]

# A unit gathers its parameters when it is called. Lists of modules never are, and these blocks may read the weights of
# their parts without calling them.
UNCALLED = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
WHOLE = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def units_of(net: nn.Module, wanted: Sequence[str] | Literal["auto"]) -> list[Unit]:
    """The units that a learner asks for: by the names of modules, or those of `auto_units`.

    Raises:
        InputError: the net has no such module.
    """
    if wanted == "auto":
        return auto_units(net)
    modules = dict(net.named_modules())
    for name in wanted:
        if name not in modules:
            raise InputError(f"has no module {name!r} to shard as a unit; it has {', '.join(filter(None, modules))}.")
    return [[modules[name]] for name in wanted]


def auto_units(net: nn.Module, least: float = 0.01, most: float = 0.1) -> list[Unit]:
    """Blocks that hold a share of `least` to `most` of the net's parameters, inner ones before those around them.

    A block above `most` is cut into its children where it has some; what they leave of it is a unit of its own if it
    holds `least`. Neighbours below `least` in a Sequential or ModuleList make one unit together. What is in no unit,
    the net's own parameters among it, belongs to the net itself, and so does a weight that two units would share::

        for unit in auto_units(net):
            fully_shard(unit)
        fully_shard(net)

    Raises:
        InputError: not 0 < least <= most <= 1.
    """
    if not 0 < least <= most <= 1:
        raise InputError(f"A unit holds a share from least to most of the parameters, 0 < {least} <= {most} <= 1.")
    whole = sum(parameter.numel() for parameter in net.parameters())
    units = _cut(net, least * whole, most * whole)
    while tied := _tied(net, units):
        units = [unit for unit in units if unit not in tied]
    return units


def managed(unit: Iterable[nn.Module], units: list[Unit]) -> list[nn.Parameter]:
    """The parameters that a unit shards: those of its modules that no unit inside of it has, each once."""
    inner = {id(module) for other in units for module in other} - {id(module) for module in unit}
    found = {id(parameter): parameter for module in unit for parameter in _own(module, inner)}
    return list(found.values())


def _own(module: nn.Module, inner: set[int]) -> Iterator[nn.Parameter]:
    yield from module.parameters(recurse=False)
    for child in module.children():
        if id(child) not in inner:
            yield from _own(child, inner)


def _cut(module: nn.Module, least: float, most: float) -> list[Unit]:
    """The units among a module's descendants."""
    units: list[Unit] = []
    small: Unit = []  # neighbours that wait for company
    in_order = isinstance(module, nn.Sequential | nn.ModuleList)
    for child in module.children():
        called = not isinstance(child, UNCALLED)
        size = _size([child])
        if called and size < least:
            small.append(child)
            if in_order and _size(small) >= least:
                units.append(small)
                small = []
            continue
        small = []
        if called and (size <= most or isinstance(child, WHOLE)):
            units.append([child])
            continue
        inner = _cut(child, least, most)
        units += inner
        if called and sum(p.numel() for p in managed([child], inner)) >= least:
            units.append([child])
    return units


def _size(unit: Unit) -> int:
    return sum(parameter.numel() for parameter in managed(unit, []))


def _tied(net: nn.Module, units: list[Unit]) -> list[Unit]:
    """The units that hold a parameter of another unit or of the net itself."""
    holders: dict[int, list[Unit]] = {}
    for unit in [*units, [net]]:
        for parameter in managed(unit, units):
            holders.setdefault(id(parameter), []).append(unit)
    return [unit for unit in units if any(len(all_) > 1 and unit in all_ for all_ in holders.values())]
