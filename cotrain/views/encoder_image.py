"""Vectors of images from a timm model: its pooled features, before the classifier.

Legend: B images, D numbers in a vector.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from cotrain.data.files import find_file
from cotrain.errors import InputError
from cotrain.views.backbone import Backbone, library, read_json
from cotrain.views.pixels import read_image

Picture = Path | np.ndarray


class ImageBackbone(Backbone):
    """A timm model as its hub folders hold it: config.json (architecture, pretrained_cfg) and model.safetensors.

    Images go through the model's own size, crop, mean and deviation, by Pillow.

    Raises:
        InputError: timm is missing, the folder cannot be loaded, or an image cannot be read.
    """

    kind = "image"
    exports = True

    def __init__(self, folder: Path):
        super().__init__(folder)
        timm = library("timm", "vision")
        from safetensors.torch import load_file

        config = read_json(folder / "config.json")
        pretrained = config.get("pretrained_cfg") or {}
        settings = dict(config.get("model_args") or {})
        for name in ("num_classes", "global_pool"):
            if name in config:
                settings[name] = config[name]
        try:
            model = timm.create_model(config["architecture"], pretrained=False, **settings)
            model.load_state_dict(load_file(folder / "model.safetensors"))
            model.reset_classifier(0)
            data = timm.data.resolve_data_config(pretrained_cfg=pretrained, model=model)
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"The encoder in {folder} cannot be loaded: {error}") from error
        self.module = _Named(model).eval()
        self._size = tuple(int(side) for side in data["input_size"])  # channels, height, width
        self._mean, self._std = (np.array(data[name], np.float32) for name in ("mean", "std"))
        self._crop, self._squash = float(data["crop_pct"] or 1), data.get("crop_mode") == "squash"
        self._resample = getattr(Image.Resampling, str(data["interpolation"]).upper(), Image.Resampling.BICUBIC)

    def length(self, item: Picture) -> float:
        return 1.0

    def key(self, item: Picture) -> bytes:
        if isinstance(item, np.ndarray):
            content = np.ascontiguousarray(item).tobytes() + repr((item.shape, item.dtype.str)).encode()
            return hashlib.blake2b(content, digest_size=16).digest()
        try:
            return hashlib.blake2b(item.read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise InputError(f"{item} cannot be read as an image: {error}") from error

    def inputs(self, items: Sequence[Picture]) -> dict[str, Tensor]:
        x_BHWC = np.stack([self._pixels(item) for item in items])
        return {"x": torch.from_numpy(x_BHWC).permute(0, 3, 1, 2).contiguous()}

    def _pixels(self, item: Picture) -> np.ndarray:
        channels, height, width = self._size
        # The shorter side is brought to this, then the middle is cut out; `squash` stretches instead.
        scaled_height, scaled_width = (int(side / self._crop) for side in (height, width))
        image = read_image(item, None, "An image", channels, 2 * max(scaled_height, scaled_width))
        if self._squash:
            image = image.resize((scaled_width, scaled_height), self._resample)
        else:
            scale = max(scaled_width / image.width, scaled_height / image.height)
            size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
            image = image.resize(size, self._resample)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        pixels = np.asarray(image.crop((left, top, left + width, top + height)), np.float32) / 255
        return (pixels.reshape(height, width, channels) - self._mean) / self._std


class _Named(torch.nn.Module):
    """A network whose one input is called x, whatever its own name for it."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def as_picture(cell: Any, folder: str | None, where: str) -> Picture:
    """A table's cell as an image. Raises InputError."""
    if isinstance(cell, np.ndarray):
        return cell
    if not isinstance(cell, (str, os.PathLike)):
        raise InputError(f"{where} is {cell!r}, neither the path of an image nor an array.")
    return find_file(cell, folder)
