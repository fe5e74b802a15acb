"""Checkpoints: a nested dict of tensors and plain values as safetensors and JSON, written whole or not at all.

A checkpoint is a folder `step-<step>` with `tensors.safetensors`, `state.json` and `digests.json`, the hashes of the
other two. Nothing in it is ever unpickled.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cotrain.errors import CotrainError

TENSORS, STATE, DIGESTS = "tensors.safetensors", "state.json", "digests.json"


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `folder/step-<step>` and remove all but the last `keep` checkpoints.

    The folder gets its name by a rename after its files are on the disk, so that a kill at any moment leaves the last
    complete checkpoint as it was.

    Raises:
        CotrainError: the disk is full or not to be written; earlier checkpoints are kept.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _take_apart(state, tensors)
    final = folder / f"step-{step:09d}"
    partial = folder / f"{final.name}.tmp"
    try:
        for left_over in folder.glob("step-*.tmp"):
            shutil.rmtree(left_over)
        partial.mkdir(parents=True)
        save_file(tensors, partial / TENSORS)
        (partial / STATE).write_text(json.dumps(skeleton))
        (partial / DIGESTS).write_text(json.dumps({name: _digest(partial / name) for name in (TENSORS, STATE)}))
        for file in (*partial.iterdir(), partial):
            _flush(file)
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _flush(folder)
        for old in _checkpoints(folder)[:-keep]:
            shutil.rmtree(old)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CotrainError(f"The checkpoint of step {step} could not be written to {folder}: {error}") from error
    return final


def load_last(folder: Path) -> dict[str, Any] | None:
    """The last checkpoint that is whole, or None if there is none. A damaged one is passed over.

    Raises:
        CotrainError: there are checkpoints, and all are damaged.
    """
    found = _checkpoints(folder)
    for path in reversed(found):
        try:
            digests = json.loads((path / DIGESTS).read_text())
            if any(_digest(path / name) != digests[name] for name in (TENSORS, STATE)):
                continue
            return _put_together(json.loads((path / STATE).read_text()), load_file(path / TENSORS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            continue
    if found:
        raise CotrainError(f"None of the {len(found)} checkpoints in {folder} can be read; remove them to start anew.")
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if p.is_dir() and p.suffix != ".tmp")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    if os.name == "nt":  # where folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _take_apart(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON of the tree, with a number in place of each tensor. Dicts become lists of pairs: keys may be integers."""
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        # A copy, because tied weights share memory and safetensors wants them apart.
        tensors[name] = tree.detach().to("cpu", copy=True).contiguous()
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
