"""Checkpoints: a nested dict of tensors and plain values as safetensors and JSON, written whole or not at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cotrain.errors import CotrainError


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `folder/step-<step>` and remove all but the last `keep` checkpoints.

    The folder gets its name by a rename after its files are on the disk, so that a kill at any moment leaves the last
    complete checkpoint as it was.
    """
    final = folder / f"step-{step:09d}"
    partial = folder / f"{final.name}.tmp"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    skeleton = _take_apart(state, tensors)
    save_file(tensors, partial / "tensors.safetensors")
    (partial / "state.json").write_text(json.dumps(skeleton))
    for file in (*partial.iterdir(), partial):
        _flush(file)
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    _flush(folder)
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def load_last(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint that can be read, or None if there is none. A damaged one is passed over."""
    found = _checkpoints(folder)
    for path in reversed(found):
        try:
            tensors = load_file(path / "tensors.safetensors")
            return _put_together(json.loads((path / "state.json").read_text()), tensors)
        except (OSError, ValueError, KeyError, SafetensorError):
            continue
    if found:
        raise CotrainError(f"None of the {len(found)} checkpoints in {folder} can be read; remove them to start anew.")
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if p.is_dir() and p.suffix != ".tmp")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_apart(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON of the tree, with a number in place of each tensor. Dicts become lists of pairs: keys may be integers."""
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        tensors[name] = (
            tree.detach().cpu().clone().contiguous()
        )  # tied weights share memory; safetensors wants them apart
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, _take_apart(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return {"tuple" if isinstance(tree, tuple) else "list": [_take_apart(value, tensors) for value in tree]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    raise CotrainError(f"A checkpoint holds tensors and plain values, not {type(tree).__name__}.")


def _put_together(tree: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _put_together(value, tensors) for key, value in content}
    if kind == "list":
        return [_put_together(value, tensors) for value in content]
    if kind == "tuple":
        return tuple(_put_together(value, tensors) for value in content)
    return content
