"""Precision of a run: fp32, or bf16 autocast over the method's step (weights, gradients and optimizers stay fp32)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from cotrain.errors import InputError

Precision = Literal["fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    if precision == "fp32":
        return nullcontext()
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise InputError(f"precision is 'fp32' or 'bf16', not {precision!r}.")
