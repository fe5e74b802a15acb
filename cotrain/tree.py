"""State trees: nested dicts, lists and tuples of tensors and plain values, taken apart for a file and put together.

In a file a tree is JSON with a name in the place of each tensor. Dicts are lists of pairs there: keys may be integers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cotrain.errors import CotrainError


@dataclass(frozen=True)
class PerRank:
    """A tree that each rank has for itself. Loaded, it is the list of all ranks' trees in the ranks' order.

    Loaded by as many ranks as saved it, only the own entry has its tensors; the others' are on the meta device.
    """

    value: Any


@dataclass(frozen=True)
class Like:
    """In a pattern: tensors of its shape below here are sharded like it, as an optimizer's state of a weight is."""

    tensor: Tensor


ELSEWHERE: Any = object()  # in a pattern: what stands here is not needed; its tensors come on the meta device


def take_apart(tree: Any, tensors: dict[str, Tensor], rank: int = 0, path: tuple[Any, ...] = ()) -> Any:
    """The JSON of a tree; its tensors are copied to host memory and put into `tensors` by the names that the JSON has.

    A name is the JSON of the way to the tensor, so that all ranks have the same name for it.

    Raises:
        CotrainError: the tree holds something else, or has keys that JSON has not.
    """
    if isinstance(tree, Tensor):
        name = json.dumps(path)
        # A copy also on the host: tied weights share memory, which safetensors wants apart, and training goes on.
        tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(tree, PerRank):
        return {"rank": take_apart(tree.value, tensors, rank, (*path, {"rank": rank}))}
    if isinstance(tree, dict):
        if odd := [key for key in tree if not isinstance(key, str | int | float | None)]:
            raise CotrainError(f"A key in a checkpoint is a word or a number, not {odd[0]!r} ({_shown(path)}).")
        return {"dict": [[key, take_apart(value, tensors, rank, (*path, key))] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [take_apart(value, tensors, rank, (*path, index)) for index, value in enumerate(tree)]}
    if isinstance(tree, np.bool_ | np.integer | np.floating):
        tree = tree.item()
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    raise CotrainError(f"A checkpoint holds tensors and plain values, not {type(tree).__name__} ({_shown(path)}).")


def merge(trees: Sequence[Any], path: tuple[Any, ...] = ()) -> Any:
    """One tree (in JSON) from those of all ranks; None is a rank that has nothing here.

    Dicts are united. What is not a dict is the same on all ranks that have it, or wrapped in `PerRank`.

    Raises:
        CotrainError: it is neither; the message says where.
    """
    there = [(rank, *next(iter(tree.items()))) for rank, tree in enumerate(trees) if tree is not None]
    (first, kind, content), *others = there
    odd = next((other for other in others if other[1] != kind), None)
    if kind == "rank" and odd is None:
        return {"ranks": [{"value": None} if tree is None else merge([tree["rank"]], path) for tree in trees]}
    if kind == "dict" and odd is None:
        entries = [None if tree is None else dict(tree["dict"]) for tree in trees]
        keys = dict.fromkeys(key for entry in entries if entry is not None for key in entry)
        by_key = {key: [None if entry is None else entry.get(key) for entry in entries] for key in keys}
        return {"dict": [[key, merge(values, (*path, key))] for key, values in by_key.items()]}
    if kind in ("list", "tuple") and odd is None:
        odd = next((other for other in others if len(other[2]) != len(content)), None)
        if odd is None:
            rows = [[None if tree is None else tree[kind][index] for tree in trees] for index in range(len(content))]
            return {kind: [merge(values, (*path, index)) for index, values in enumerate(rows)]}
    odd = odd or next((other for other in others if repr(other[2]) != repr(content)), None)
    if odd is None:
        return {kind: content}
    raise CotrainError(
        f"{_shown(path)} is {kind} {content!r:.60} on rank {first} and {odd[1]} {odd[2]!r:.60} on rank {odd[0]}; "
        "what differs by rank is wrapped in PerRank."
    )


def wanted(tree: Any, pattern: Any, rank: int, ranks: int) -> Iterator[tuple[str, Any]]:
    """The name of each tensor in a merged tree, with what stands in its place in a pattern (None if nothing does)."""
    ((kind, content),) = tree.items()
    if kind == "tensor":
        yield content, pattern
    elif kind == "dict":
        for key, value in content:
            yield from wanted(value, pattern.get(key) if isinstance(pattern, Mapping) else _outer(pattern), rank, ranks)
    elif kind in ("list", "tuple"):
        inner = pattern if isinstance(pattern, list | tuple) else [_outer(pattern)] * len(content)
        for index, value in enumerate(content):
            yield from wanted(value, inner[index] if index < len(inner) else None, rank, ranks)
    elif kind == "ranks":
        own = pattern.value if isinstance(pattern, PerRank) else _outer(pattern)
        for index, value in enumerate(content):
            elsewhere = len(content) == ranks and index != rank
            yield from wanted(value, ELSEWHERE if elsewhere else own, rank, ranks)


def _outer(pattern: Any) -> Any:
    """What a pattern says of everything below."""
    return pattern if pattern is ELSEWHERE or isinstance(pattern, Like) else None


def put_together(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The tree that the JSON stands for."""
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: put_together(value, tensors) for key, value in content}
    if kind in ("list", "ranks"):
        return [put_together(value, tensors) for value in content]
    if kind == "tuple":
        return tuple(put_together(value, tensors) for value in content)
    return content


def _shown(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path)) or "the state"
