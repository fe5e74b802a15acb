"""A pretrained network that turns texts, sounds or images into vectors.

Legend: B items in a batch, D numbers in a vector.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cotrain.errors import InputError

Kind = Literal["text", "audio", "image"]
KINDS: tuple[Kind, ...] = ("text", "audio", "image")
# What to type for an extra or a library more; cotrain is on no index of packages, so its own name will not do.
INSTALL = "In the folder of cotrain: .venv/bin/pip install -c constraints.txt"
_FAILS = (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, RuntimeError, SafetensorError)
_UNUSED = ("pooler.", "masked_spec_embed")  # weights that many folders lack, and no vector is made with
# The files that decide what a network computes, in its folder and those of its modules.
_READ = (
    *("config.json", "adapter_config.json", "preprocessor_config.json", "processor_config.json"),
    *("modules.json", "config_sentence_transformers.json", "sentence_*_config.json", "router_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "*.model"),
    *("vocab.json", "vocab.txt", "merges.txt", "dict.txt", "bpe.codes"),
    *("*.safetensors", "*.safetensors.index.json"),
)


class Backbone(ABC):
    """A network in a folder. Weights are read from safetensors only, and no code from the folder is run.

    Attributes:
        folder: where it lies.
        module: float32 network in evaluation mode; called with what `inputs` gives, its output is [B, D].
        exports: whether `module` can be tried as an ONNX graph, all its inputs [B, L] or [B, ...] of fixed size.
        batch: items in a batch.
    """

    kind: ClassVar[Kind]
    exports: ClassVar[bool] = False
    batch: ClassVar[int] = 16

    def __init__(self, folder: Path):
        self.folder = folder
        self.module: nn.Module

    @cached_property
    def digest(self) -> str:
        """Hash of the network's files."""
        return folder_digest(self.folder)

    @abstractmethod
    def length(self, item: Any) -> float:
        """What an item costs, in any unit; cheap to say."""

    @abstractmethod
    def key(self, item: Any) -> bytes:
        """Hash of what the item holds, 16 bytes."""

    @abstractmethod
    def inputs(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """A batch for `module`. Items come sorted by length."""

    def embed(self, items: Sequence[Any]) -> Tensor:
        """Vectors float32 [B, D] of a batch.

        Raises:
            InputError: the network is no encoder of this kind, or an item cannot be read.
        """
        try:
            with torch.inference_mode():
                return self._vectors(items).float().cpu()
        except InputError:
            raise
        except _FAILS as error:  # of another make inside
            raise InputError(f"The encoder in {self.folder} cannot be used for {self.kind}: {error}") from error

    def _vectors(self, items: Sequence[Any]) -> Tensor:
        return self.module(**self._on_device(items))

    def _on_device(self, items: Sequence[Any]) -> dict[str, Tensor]:
        device = next(self.module.parameters()).device
        return {name: x.to(device) for name, x in self.inputs(items).items()}


def folder_digest(folder: Path) -> str:
    """Raises InputError where a file cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        for path in _decisive(folder):
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise InputError(f"The encoder in {folder} cannot be read: {error}") from error
    return digest.hexdigest()


def folder_state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of the files that decide what a network computes: changes when they do."""
    found = [(path, path.stat()) for path in _decisive(folder)]
    return tuple((str(path.relative_to(folder)), status.st_size, status.st_mtime_ns) for path, status in found)


def _decisive(folder: Path) -> list[Path]:
    def read(path: Path) -> bool:
        return any(fnmatchcase(path.name, pattern) for pattern in _READ)

    folders = {folder, *(folder / place for place in _module_folders(folder))}
    found = {path for each in folders for path in each.glob("*") if read(path) and path.is_file()}
    return sorted(found)


def _module_folders(folder: Path) -> list[str]:
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return [str(module["path"]).lstrip("/") for module in modules]
    except (OSError, ValueError, LookupError, TypeError):  # those that use it say what is wrong
        return []


def kind_of(folder: Path) -> Kind | None:
    """What the network in a folder reads, by its configuration; None if the folder holds none that is known here."""
    config, modules = read_json(folder / "config.json"), folder / "modules.json"
    if modules.is_file():
        return "text"
    if "architecture" in config and ("pretrained_cfg" in config or "num_classes" in config):
        return "image"
    extractor = read_json(folder / "processor_config.json").get("feature_extractor") or {}  # from transformers 5 on
    if "sampling_rate" in {*extractor, *read_json(folder / "preprocessor_config.json")}:
        return "audio"
    words = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
    return "text" if "model_type" in config and any((folder / name).is_file() for name in words) else None


def has_weights(folder: Path) -> bool:
    """Whether the folder, or that of its first module, holds weights as safetensors."""
    names = ("model.safetensors", "model.safetensors.index.json", "0_Transformer/model.safetensors")
    return any((folder / name).is_file() for name in names)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def library(name: str, extra: str) -> Any:
    """A library of an extra.

    Raises:
        InputError: it is not installed, or cannot be loaded; says what to install.
    """
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"This encoder needs {name}, which cannot be loaded ({error}). {INSTALL} -e '.[{extra}]'"
        ) from error


def transformer(folder: Path) -> Any:
    """The network of transformers in a folder, in float32; of an encoder with a decoder the encoder.

    Raises:
        InputError: it cannot be loaded, or lacks weights, which transformers would fill with random numbers.
    """
    model, report = quietly(
        library("transformers", "hf").AutoModel.from_pretrained,
        str(folder),
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    encoder = model.get_encoder() if model.config.is_encoder_decoder else model
    used = {id(weight) for weight in encoder.state_dict(keep_vars=True).values()}
    for name, weight in model.state_dict(keep_vars=True).items():
        if name in report["missing_keys"] and id(weight) in used and not name.startswith(_UNUSED):
            raise InputError(
                f"The encoder in {folder} lacks weights that its config.json asks for, such as {name}: "
                "its model.safetensors is not whole, or of another model; download it again."
            )
    return encoder


def quietly(load: Any, *arguments: Any, **settings: Any) -> Any:
    """Calls a loader of transformers without its progress bars, on what is on this disk, without code from there.

    Raises:
        InputError: what is in the folder cannot be loaded.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return load(*arguments, local_files_only=True, trust_remote_code=False, **settings)
    except _FAILS as error:
        raise InputError(f"The encoder in {arguments[0]} cannot be loaded: {error}") from error
    finally:
        if shown:
            logging.enable_progress_bar()
