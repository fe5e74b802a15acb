"""Checkpoints: state trees (`cotrain.tree`) as safetensors and JSON, written whole or not at all, by one rank or many.

A checkpoint is a folder `step-<step>`: the tensors in `*.safetensors` (one file, or one a rank that wrote something),
`state.json`, `score.json` if it has a score, and `digests.json`, the hashes of all others. Nothing in it is ever
unpickled. There is no pointer to the last one that could point nowhere: the last one is the one of the highest step.

Where a process group is, all ranks call these functions together, and the folder is one that all of them see. They
talk over a group of their own, so that a checkpoint is written beside the training. What fails on one fails on all.
"""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cotrain import place
from cotrain.data.files import sha256
from cotrain.errors import CotrainError, InputError
from cotrain.tree import ELSEWHERE, Like, merge, put_together, take_apart, wanted

TENSORS, STATE, SCORE, DIGESTS = "tensors.safetensors", "state.json", "score.json", "digests.json"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError)

T = TypeVar("T")

_writer = ThreadPoolExecutor(1, "checkpoint")  # its thread is waited for at the end of the process
_pending: Future[Path] | None = None


def save(
    folder: Path, step: int, state: dict[str, Any], keep: int = 2, *, score: float | None = None, wait: bool = True
) -> Path:
    """Write `folder/step-<step>`; remove all but the last `keep` checkpoints and the best, and those of later steps.

    The folder gets its name by a rename after its files are on the disk, so that a kill at any moment leaves the last
    complete checkpoint as it was. With several ranks a tensor is

    - a DTensor, of which every rank writes its shard;
    - a plain one, the same on all ranks that have it, and one of them writes it;
    - on some ranks only: the dicts of the ranks are united.

    What differs by rank, local learners and random numbers' states, is wrapped in `tree.PerRank`.

    Args:
        state: dicts, lists and tuples of tensors and plain values; each rank gives its own.
        keep: >= 1.
        score: higher is better; NaN is none. Rank 0's counts.
        wait: False copies the state to host memory and returns; a thread writes the copy. The one before is waited for
            first, so that there is one at most.

    Raises:
        InputError: keep is below 1.
        CotrainError: the disk is full or not to be written, or the ranks' states do not fit together; earlier
            checkpoints are kept. Also: the write before this, which was not waited for, failed.
    """
    global _pending
    _finish()
    if keep < 1:
        raise InputError(f"keep is at least 1, not {keep}.")
    if score is not None and isnan(score):
        score = None
    tensors: dict[str, Tensor] = {}
    trees = _together(lambda: (take_apart(state, tensors, place.number()), _kinds(tensors)))
    if wait:
        return _write(folder, step, trees, tensors, keep, score)
    _pending = _writer.submit(_write, folder, step, trees, tensors, keep, score)
    return _named(folder, step)


def wait() -> None:
    """Wait for the write that `save(..., wait=False)` left to its thread; before the process group is destroyed.

    Raises:
        CotrainError: it failed.
    """
    _finish()


def load_last(folder: Path, pattern: Any = None) -> dict[str, Any] | None:
    """The last checkpoint that is whole, or None if there is none; the same on all ranks. A damaged one is passed over.

    The number of ranks may be another than at the save.

    Args:
        pattern: a tree like the one saved. Where it has a DTensor, the loaded one is sharded like it; below a
            `tree.Like`, those of its shape are. What stands under `tree.ELSEWHERE` is not read: it may come on the meta
            device, with its shape alone. Everything else, and all without a pattern, comes whole and plain, in host
            memory.

    Raises:
        InputError: a DTensor of the pattern has another shape than the saved one.
        CotrainError: there are checkpoints, and all are damaged.
    """
    return _load(folder, _checkpoints, pattern)


def load_best(folder: Path, pattern: Any = None) -> dict[str, Any] | None:
    """As `load_last`, the whole checkpoint with the highest score; None if none has a score."""
    return _load(folder, _by_score, pattern)


# Writing


def _finish() -> None:
    global _pending
    pending, _pending = _pending, None
    if pending is not None:
        pending.result()


def _kinds(tensors: Mapping[str, Tensor]) -> Any:
    """What plain tensors and shards of one name must have in common, as a tree."""
    return {"dict": [[name, {"value": f"{value.dtype} {tuple(value.shape)}"}] for name, value in tensors.items()]}


def _write(
    folder: Path, step: int, trees: list[tuple[Any, Any]], tensors: dict[str, Tensor], keep: int, score: float | None
) -> Path:
    final = _named(folder, step)
    partial = folder / f"{final.name}.tmp"
    first = place.first()

    def start() -> None:
        if first:
            for left_over in folder.glob("step-*.tmp"):
                shutil.rmtree(left_over)
            partial.mkdir(parents=True)

    def look() -> None:
        if not partial.is_dir():
            raise CotrainError(f"{partial}, which rank 0 made, is not there: all ranks write to one folder.")

    def finish() -> None:
        if first:
            merge([kinds for _, kinds in trees])
            (partial / STATE).write_text(json.dumps(merge([tree for tree, _ in trees])))
            if score is not None:
                (partial / SCORE).write_text(json.dumps(score))
            found = {name: digest for own in digests for name, digest in own.items()}
            found |= {path.name: sha256(path) for path in partial.glob("*.json")}
            (partial / DIGESTS).write_text(json.dumps(found))
            for file in (*partial.iterdir(), partial):
                _flush(file)
            _rename(partial, final)
            _remove_old(folder, step, keep)

    try:
        _together(start)
        _together(look)
        _write_tensors(tensors, partial)
        digests = _together(lambda: {path.name: sha256(path) for path in _share(partial.glob("*.safetensors"))})
        _together(finish)
    except (OSError, RuntimeError, SafetensorError, CotrainError) as error:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
        raise CotrainError(f"The checkpoint of step {step} could not be written to {folder}: {error}") from error
    return final


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    if not place.joined():
        save_file(tensors, path / TENSORS)
        return
    from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageWriter
    from torch.distributed.checkpoint import save as save_together

    try:
        writer = HuggingFaceStorageWriter(str(path), save_distributed=True)  # the one that does not pickle
        save_together(tensors, storage_writer=writer, process_group=_group())
    except CheckpointException as error:
        raise CotrainError(_told(error.failures)) from error


def _rename(partial: Path, final: Path) -> None:
    """Put a complete folder in its place; one of the same step counts until then."""
    aside = final.with_suffix(".old")
    if final.exists():
        if aside.exists():
            shutil.rmtree(aside)
        final.rename(aside)
    partial.rename(final)
    _flush(final.parent)


def _remove_old(folder: Path, step: int, keep: int) -> None:
    # Later steps belong to a run that was given up, or were passed over because they are damaged.
    now = [path for path in _checkpoints(folder) if _step(path) <= step and path.suffix != ".old"]
    kept = {*now[-keep:], *[path for path in _by_score(folder) if path in now][-1:]}
    for path in _checkpoints(folder):
        if path not in kept:
            shutil.rmtree(path)


# Loading


def _load(folder: Path, listed: Callable[[Path], list[Path]], pattern: Any) -> dict[str, Any] | None:
    _finish()
    found, *_ = _together(lambda: [path.name for path in reversed(listed(folder))])  # rank 0's list is everyone's
    for name in found:
        try:
            return _read(folder / name, pattern)
        except InputError:
            raise
        except (*UNREADABLE, CotrainError):
            continue
    if found:
        raise CotrainError(f"None of the {len(found)} checkpoints in {folder} can be read; remove them to start anew.")
    return None


def _read(path: Path, pattern: Any) -> Any:
    tree: Any = None

    def verify() -> None:
        nonlocal tree
        digests = json.loads((path / DIGESTS).read_text())
        for file in _share(path / name for name in digests):
            if sha256(file) != digests[file.name]:
                raise CotrainError(f"{file} is damaged.")
        tree = json.loads((path / STATE).read_text())

    _together(verify)
    if not place.joined() and (path / TENSORS).exists():
        return put_together(tree, load_file(path / TENSORS))
    from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageReader, load

    reader = HuggingFaceStorageReader(str(path))
    tensors: dict[str, Tensor] = {}
    _together(lambda: tensors.update(_targets(tree, pattern, reader.read_metadata().state_dict_metadata)))
    needed = {name: tensor for name, tensor in tensors.items() if not tensor.is_meta}
    try:
        with warnings.catch_warnings():  # of one process that reads what many wrote
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            load(
                needed,
                storage_reader=reader,
                process_group=_group() if place.joined() else None,
                no_dist=not place.joined(),
            )
    except CheckpointException as error:
        raise CotrainError(_told(error.failures)) from error
    return put_together(tree, tensors)


def _targets(tree: Any, pattern: Any, saved: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Tensors to be read into: as the pattern's DTensors are, else plain; on the meta device what is not needed."""
    from torch.distributed.tensor import DTensor

    for name, like in wanted(tree, pattern, place.number(), place.processes()):
        size, dtype = saved[name].size, saved[name].properties.dtype
        if isinstance(like, Like):
            like = like.tensor if like.tensor.shape == size else None
        if isinstance(like, DTensor):
            if like.shape != size:
                where = "/".join(map(str, json.loads(name)))
                raise InputError(f"{where} was saved with shape {tuple(size)} and is {tuple(like.shape)} in this run.")
            yield name, torch.empty_like(like.detach(), dtype=dtype)
        else:
            yield name, torch.empty(size, dtype=dtype, device="meta" if like is ELSEWHERE else "cpu")


# Folders and files


def _named(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _checkpoints(folder: Path) -> list[Path]:
    """By step. One that ends in `.old` was to be replaced by one of the same step, and stands before it."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+(\.old)?", path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (_step(path), path.suffix == ""))


def _by_score(folder: Path) -> list[Path]:
    """Those that have a score, the best last; of equals the later one."""
    scores: list[tuple[float, Path]] = []
    for path in _checkpoints(folder):
        with suppress(OSError, ValueError):
            scores.append((float(json.loads((path / SCORE).read_text())), path))
    return [path for _, path in sorted(scores, key=lambda pair: pair[0])]


def _flush(path: Path) -> None:
    if os.name == "nt":  # where folders cannot be opened
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Ranks


def _group() -> dist.ProcessGroup:
    return place.beside("checkpoint")


def _share(paths: Iterable[Path]) -> list[Path]:
    """This rank's part of the files that all ranks see."""
    return sorted(paths)[place.number() :: place.processes()]


def _together(work: Callable[[], T]) -> list[T]:
    """What each rank's work gives, in the ranks' order. What fails on one rank fails on all."""
    if not place.joined():
        return [work()]
    result, failure = None, None
    try:
        result = work()
    except Exception as error:
        failure = error
    told: list[Any] = [None] * place.processes()
    dist.all_gather_object(told, (result, type(failure) is InputError, failure and str(failure)), group=_group())
    if failure is not None:
        raise failure
    for rank, (_, of_input, text) in enumerate(told):
        if text is not None:
            raise (InputError if of_input else CotrainError)(f"On rank {rank}: {text}")
    return [result for result, _, _ in told]


def _told(failures: Mapping[int, Any]) -> str:
    return "; ".join(f"rank {rank}: {error}" for rank, (error, _) in failures.items())
