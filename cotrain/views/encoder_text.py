"""Sentence vectors from a transformer, as sentence-transformers makes them.

Legend: B texts, L tokens, D numbers in a vector.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotrain.errors import InputError
from cotrain.views.backbone import INSTALL, Backbone, library, quietly, read_json, transformer

_LONGEST = 512  # tokens, where the model does not say
_PLAIN = {"Transformer", "Pooling", "Normalize"}


class Pooled(nn.Module):
    """Hidden states [B, L, D] of a transformer to one vector for each text: mean, max or the first token's."""

    def __init__(self, transformer: nn.Module, pooling: str, unit: bool):
        super().__init__()
        self.transformer, self.pooling, self.unit = transformer, pooling, unit

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden_BLD = self.transformer(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask_BL1 = attention_mask.unsqueeze(-1).to(hidden_BLD.dtype)
        if self.pooling == "cls":
            vector_BD = hidden_BLD[:, 0]
        elif self.pooling == "max":
            vector_BD = hidden_BLD.masked_fill(mask_BL1 == 0, -1e9).amax(1)
        else:
            vector_BD = (hidden_BLD * mask_BL1).sum(1) / mask_BL1.sum(1).clamp(min=1e-9)
        return F.normalize(vector_BD, dim=-1) if self.unit else vector_BD


class TextBackbone(Backbone):
    """A transformers model with mean pooling and unit length, or what a sentence-transformers folder asks for.

    Folders with other modules (Dense, several poolings, CLIP, ...) are run by sentence-transformers itself.

    Raises:
        InputError: a library is missing, or the folder cannot be loaded.
    """

    kind = "text"
    exports = True

    def __init__(self, folder: Path):
        super().__init__(folder)
        modules = _modules(folder)
        pooling = _pooling(folder, modules)
        self._sentence_model: Any = None
        if pooling is None:
            self._load_sentence_model([module["class"] for module in modules])
            return
        transformers = library("transformers", "hf")
        inner = folder / next((module["path"] for module in modules if module["type"] == "Transformer"), "")
        self._tokenizer = quietly(transformers.AutoTokenizer.from_pretrained, str(inner))
        model = transformer(inner)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"  # on the left it moves the positions, and the first token
        unit = not modules or any(module["type"] == "Normalize" for module in modules)
        self.module = Pooled(model, pooling, unit).eval()
        settings = read_json(inner / "sentence_bert_config.json")
        self._lower = bool(settings.get("do_lower_case"))
        self._longest = settings.get("max_seq_length") or self._own_longest(model.config)
        if not isinstance(self._longest, int) or self._longest < 1:
            raise InputError(
                f"{inner / 'sentence_bert_config.json'} gives {self._longest!r} as max_seq_length; "
                "it must be a whole number above 0."
            )
        self._prompt = _prompt(folder / "config_sentence_transformers.json")

    def length(self, item: str) -> float:
        return min(len(item), 6 * self._longest) + 8.0  # a word piece is rarely longer than six characters

    def key(self, item: str) -> bytes:
        return hashlib.blake2b(item.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def inputs(self, items: Sequence[str]) -> dict[str, Tensor]:
        # A text is cut before it is tokenized: the end of a very long one would be thrown away, after seconds of work.
        cut = [item.strip()[: 24 * self._longest].encode("utf-8", "ignore").decode() for item in items]
        texts = [self._prompt + text for text in cut]
        if self._lower:
            texts = [text.lower() for text in texts]
        found = self._tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        if not found["input_ids"].shape[1]:  # nothing but empty texts, for a tokenizer that adds nothing
            pad = torch.full((len(texts), 1), self._tokenizer.pad_token_id or 0)
            return {"input_ids": pad, "attention_mask": torch.ones_like(pad)}
        mask_BL = found["attention_mask"]
        mask_BL[mask_BL.sum(1) == 0, 0] = 1  # an empty text among others has the vector that it has alone
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def _vectors(self, items: Sequence[str]) -> Tensor:
        if self._sentence_model is None:
            return super()._vectors(items)
        return torch.as_tensor(self._sentence_model.encode(list(items), show_progress_bar=False, convert_to_numpy=True))

    def _own_longest(self, config: Any) -> int:
        positions = int(getattr(config, "max_position_embeddings", 0) or _LONGEST)
        if getattr(config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            positions -= 2  # their positions are counted from 2 on
        return max(1, min(positions, int(self._tokenizer.model_max_length), _LONGEST))

    def _load_sentence_model(self, classes: Sequence[str]) -> None:
        try:
            import sentence_transformers
        except ImportError as error:
            raise InputError(
                f"The encoder in {self.folder} is made of parts that only sentence-transformers knows. "
                f"{INSTALL} sentence-transformers"
            ) from error
        if strange := [name for name in classes if not name.startswith("sentence_transformers.")]:
            raise InputError(f"The encoder in {self.folder} asks for code of its own ({strange[0]}), which is not run.")
        self._sentence_model = quietly(
            sentence_transformers.SentenceTransformer,
            str(self.folder),
            model_kwargs={"use_safetensors": True},
        )
        self.module = self._sentence_model
        self.exports = False  # type: ignore[misc]
        self._longest = int(self._sentence_model.max_seq_length or _LONGEST)


def _modules(folder: Path) -> list[dict[str, str]]:
    """Type (the class name), class (as it would be imported) and path of each module of a sentence-transformers
    folder."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [
            {"type": module["type"].split(".")[-1], "class": module["type"], "path": str(Path(module["path"]))}
            for module in found
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not the list of modules of a sentence-transformers model: {error}") from error


def _prompt(path: Path) -> str:
    """What is put before every text."""
    settings = read_json(path)
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not isinstance(name, str | None):
        raise InputError(f"{path} must give prompts as an object of name and text, and default_prompt_name as a text.")
    return str(prompts.get(name) or "")


def _pooling(folder: Path, modules: list[dict[str, str]]) -> str | None:
    """mean, max or cls; None if it takes sentence-transformers to say."""
    if not modules:
        return "mean"
    types = [module["type"] for module in modules]
    if not set(types) <= _PLAIN or types[:2] != ["Transformer", "Pooling"]:
        return None
    settings = read_json(folder / modules[1]["path"] / "config.json")
    if settings.get("include_prompt") is False:
        return None
    mode = settings.get("pooling_mode")
    if mode is None:
        old = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max"}
        chosen = [
            name.removeprefix("pooling_mode_") for name, on in settings.items() if name[:13] == "pooling_mode_" and on
        ]
        mode = old.get(chosen[0]) if len(chosen) == 1 else None
    mode = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    return mode if mode in ("mean", "max", "cls") else None
