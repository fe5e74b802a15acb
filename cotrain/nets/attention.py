"""Causal attention, over all earlier positions or over a window of them.

Legend: N sequences, H heads, T positions, D numbers a head, W positions in the window.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_attention(query_NHTD: Tensor, key_NHTD: Tensor, value_NHTD: Tensor, window: int | None = None) -> Tensor:
    """softmax(q k' / sqrt(D)) v over the positions up to a query's own: [N, H, T, D].

    Args:
        window: how many positions a query sees, its own the last of them, >= 1; None is all. The work then grows with
            T * 2 W instead of T^2: queries are cut into blocks of W, each of which meets its own and the last block's
            keys.

    Source: Beltagy et al. 2020, "Longformer", arXiv:2004.05150, section 3.1 (the window, in blocks).
    """
    length = query_NHTD.shape[2]
    if window is None or window >= length:
        return F.scaled_dot_product_attention(query_NHTD, key_NHTD, value_NHTD, is_causal=True)
    distance_TT = torch.arange(length, device=query_NHTD.device)
    distance_TT = distance_TT[:, None] - distance_TT
    if length <= 2 * window:  # blocks would save nothing
        seen_TT = (distance_TT >= 0) & (distance_TT < window)
        return F.scaled_dot_product_attention(query_NHTD, key_NHTD, value_NHTD, attn_mask=seen_TT)
    return _in_blocks(query_NHTD, key_NHTD, value_NHTD, window)


def _in_blocks(query_NHTD: Tensor, key_NHTD: Tensor, value_NHTD: Tensor, window: int) -> Tensor:
    """B blocks of W positions; the last one is filled up with zeros, which no query before them sees."""
    sequences, heads, length, size = query_NHTD.shape
    blocks = -(-length // window)
    query, key, value = (
        F.pad(tensor, (0, 0, 0, blocks * window - length)).view(sequences, heads, blocks, window, size).transpose(1, 2)
        for tensor in (query_NHTD, key_NHTD, value_NHTD)
    )  # [N, B, H, W, D]
    key, value = (torch.cat([_one_later(tensor), tensor], dim=3) for tensor in (key, value))  # [N, B, H, 2 W, D]
    own = torch.arange(window, device=query.device)
    distance = own[:, None] + window - torch.arange(2 * window, device=query.device)  # [W, 2 W]
    seen = ((distance >= 0) & (distance < window)).expand(blocks, 1, window, 2 * window).clone()
    seen[0, :, :, :window] = False  # before the first block there is nothing
    found = F.scaled_dot_product_attention(
        query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), attn_mask=seen.repeat(sequences, 1, 1, 1)
    )
    found = found.view(sequences, blocks, heads, window, size).transpose(1, 2)
    return found.reshape(sequences, heads, blocks * window, size)[:, :, :length]


def _one_later(blocks: Tensor) -> Tensor:
    """Block b - 1 in the place of block b, zeros in that of the first."""
    return torch.cat([torch.zeros_like(blocks[:, :1]), blocks[:, :-1]], dim=1)


def pairs_met(length: int, window: int | None) -> int:
    """Pairs of a query and a key that `causal_attention` computes for a head, masked ones included."""
    if window is None or length <= 2 * window:
        return length * length
    return -(-length // window) * window * 2 * window
