"""Where pretrained encoders lie on this machine; nothing here downloads, except `fetch`, which is asked to."""

import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cotrain.errors import InputError
from cotrain.views.backbone import Kind, has_weights, kind_of, library

PACKAGE = "package:"  # begins the place of an encoder inside an installed package


def on_disk(kind: Kind) -> Iterator[tuple[str, Path]]:
    """Places and folders of a kind of encoder: $COTRAIN_ENCODER (names or paths, divided by commas), else those in
    installed packages, then those in the Hugging Face cache; each sort by size, small ones first.

    Of plain language models in the cache only those made for sentences are given: others make poor vectors.

    Raises:
        InputError: $COTRAIN_ENCODER names what is not on disk.
    """
    if wanted := os.environ.get("COTRAIN_ENCODER", "").strip():
        for place in filter(None, map(str.strip, wanted.split(","))):
            folder = resolve(place)
            if folder is None:
                raise InputError(f"COTRAIN_ENCODER names {place!r}, which is neither a folder nor in the local cache.")
            if kind_of(folder) == kind:
                yield place, folder
        return
    for found in (_packaged(), _cached()):
        usable = [(place, folder) for place, folder in found if has_weights(folder) and kind_of(folder) == kind]
        yield from sorted(usable, key=lambda entry: (_size(entry[1]), entry[0]))


def resolve(place: str) -> Path | None:
    """The folder of a path, a `package:` place or the name of a model in the local cache; None if it is not on disk."""
    if place.startswith(PACKAGE):
        package, _, inside = place.removeprefix(PACKAGE).partition("/")
        try:
            folder = Path(str(metadata.distribution(package).locate_file(inside)))
        except metadata.PackageNotFoundError:
            return None
        return folder if folder.is_dir() else None
    if Path(place).expanduser().is_dir():
        return Path(place).expanduser().resolve()
    hub = _hub() / f"models--{place.removeprefix('hf-hub:').replace('/', '--')}"
    return _snapshot(hub)


def fetch(name: str) -> Path:
    """The folder of a model of the Hugging Face hub, or of timm's weights for an architecture, downloaded if need be.

    Raises:
        InputError: the library is missing, or the model cannot be had.
    """
    name = name.removeprefix("hf-hub:")
    if re.fullmatch(
        r"[\w.\-]+", name
    ):  # no owner: an architecture of timm, or one of the hub's few names without owner
        try:
            timm = library("timm", "vision")
            known = timm.get_pretrained_cfg(name, allow_unregistered=False)
            name = getattr(known, "hf_hub_id", None) or name
        except (InputError, RuntimeError):
            pass
    if not re.fullmatch(r"[\w.\-]+(/[\w.\-]+)?", name):
        raise InputError(f"The encoder {name!r} is neither a folder nor the name of a model.")
    if (folder := resolve(name)) is not None:
        return folder
    hub = library("huggingface_hub", "hf")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except Exception as error:  # the library's errors, and those of every HTTP library that it may use
        why = str(error).strip().split("\n")[0]
        raise InputError(
            f"The encoder {name!r} is not on this disk and cannot be downloaded ({type(error).__name__}: {why}). "
            "Give the path of a folder that holds it."
        ) from error


def _packaged() -> Iterator[tuple[str, Path]]:
    for package in metadata.distributions():
        record = package.read_text("RECORD") or ""
        if "model.safetensors" not in record:
            continue
        for inside in sorted({line.rsplit("/", 1)[0] for line in record.split("\n") if "/model.safetensors," in line}):
            folder = Path(str(package.locate_file(inside)))
            if folder.is_dir():
                yield f"{PACKAGE}{package.metadata['Name']}/{inside}", folder


def _cached() -> Iterator[tuple[str, Path]]:
    for model in sorted(_hub().glob("models--*")):
        folder = _snapshot(model)
        if folder and (kind_of(folder) != "text" or (folder / "modules.json").is_file()):
            yield model.name.removeprefix("models--").replace("--", "/"), folder


def _snapshot(model: Path) -> Path | None:
    """The newest complete state of a cached model: the main branch if it is there."""
    try:
        main = model / "snapshots" / (model / "refs" / "main").read_text().strip()
        if has_weights(main):
            return main
    except (OSError, ValueError):
        pass
    found = [folder for folder in (model / "snapshots").glob("*") if has_weights(folder)]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def _hub() -> Path:
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(home) / "hub"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
