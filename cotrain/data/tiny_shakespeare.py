"""Tiny Shakespeare: 1,115,394 characters of plays, 65 kinds of them, for small language models.

Origin: https://github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt. Licence: the repository's is MIT; the text
is in the public domain.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cotrain.data.store import open_file, resolve
from cotrain.errors import InputError

# The text's characters in the order of their codes; an id is a place in this list.
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def load(part: Literal["train", "validation"] = "train") -> Tensor:
    """Ids of the characters, int64: the first 90 % of the text [1,003,854], or the last 10 % [111,540].

    Raises:
        InputError: another part.
    """
    if part not in ("train", "validation"):
        raise InputError(f"The parts of the text are 'train' and 'validation', not {part!r}.")
    path = resolve(
        "tiny_shakespeare",
        "input.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    )
    with open_file(path) as file:
        ids = encode(file.read().decode("ascii"))
    first = 9 * len(ids) // 10
    return ids[:first] if part == "train" else ids[first:]


def encode(text: str) -> Tensor:
    """Ids int64 [len(text)] in 0..64.

    Raises:
        InputError: a character that is not among the 65.
    """
    if strange := sorted(set(text) - set(CHARACTERS)):
        raise InputError(f"The text has characters that CHARACTERS lacks: {''.join(strange)!r}.")
    codes = np.frombuffer(text.encode("ascii"), np.uint8)
    place = np.zeros(128, np.int64)
    place[np.frombuffer(CHARACTERS.encode("ascii"), np.uint8)] = np.arange(len(CHARACTERS))
    return torch.from_numpy(place[codes])


def decode(ids: Tensor) -> str:
    """The text of ids int64 [T]."""
    return "".join(CHARACTERS[number] for number in ids.tolist())


def windows(ids: Tensor, length: int, stride: int = 1) -> Tensor:
    """All stretches of `length` + 1 ids, a stride apart: int64 [W, length + 1], a view that takes no memory.

    As rows of a stream they are drawn in a new order each epoch, and resume as any rows do:
    `Rows({"ids": windows(load(), 64)}, batch=32)`. With a stride of `length` every id is predicted once, for judges.

    Raises:
        InputError: fewer ids than one stretch has, or a length or stride below 1.
    """
    if length < 1 or stride < 1:
        raise InputError(f"The length and the stride of windows are at least 1; given: {length} and {stride}.")
    if len(ids) <= length:
        raise InputError(f"{len(ids)} ids hold no window of {length} + 1.")
    return ids.unfold(0, length + 1, stride)
