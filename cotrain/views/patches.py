"""Features of a picture from k-means over its patches; no labels.

Source: Coates, Ng & Lee, "An analysis of single-layer networks in unsupervised feature learning" (AISTATS 2011):
patches normalised for brightness and contrast, whitened, clustered; a patch z says of each centre c_k
max(0, mean_j |z - c_j| - |z - c_k|) ("triangle"), and these are summed over the quadrants of the picture.
Legend: N pictures, H height, W width, C channels, P = patch height x patch width x C, K centres, G pooling cells.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cotrain.threads import workers

_CHUNK = 1 << 20  # numbers in the largest intermediate array: small enough for a core's cache
_ROWS = 8192  # patches whose nearest centres are sought at a time


def learn_patches(
    pictures: np.ndarray,
    patch: tuple[int, int],
    centres: int,
    *,
    flat: float,
    noise: float = 0.1,
    patches: int = 60_000,
    rounds: int = 12,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Whitening and centres from random patches of the pictures.

    Args:
        pictures: [N, H, W, C], any numeric type; at best a few thousand.
        patch: height and width.
        centres: K; fewer where there are fewer than five patches for each.
        flat: variance added to a patch's own before it is divided by, in squared units of the pictures: keeps flat
            patches flat (the paper's 10 for pixels 0..255).
        noise: added to the variances in whitening (the paper's 0.1).
        patches: how many are drawn.
        rounds: of k-means.
        seed: of the draws.

    Returns:
        whiten float32 [P, P], shift float32 [P] (z = whiten @ normalised - shift), centres float32 [K, P], flat.
    """
    rng = np.random.default_rng(seed)
    height, width = patch
    _, rows, columns, _ = pictures.shape
    count = min(patches, len(pictures) * (rows - height + 1) * (columns - width + 1))
    windows = np.lib.stride_tricks.sliding_window_view(pictures, patch, axis=(1, 2))  # [N, H', W', C, h, w], no copy
    picture = rng.integers(0, len(pictures), count)
    drawn = windows[picture, rng.integers(0, windows.shape[1], count), rng.integers(0, windows.shape[2], count)]
    x_NP = _normalised(torch.from_numpy(drawn.reshape(count, -1).astype(np.float32)), flat)
    mean_P = x_NP.mean(0)
    covariance_PP = ((x_NP - mean_P).mT @ (x_NP - mean_P)) / count
    variance_P, axes_PP = torch.linalg.eigh(covariance_PP.double())
    whiten_PP = ((axes_PP * (variance_P.clamp(min=0) + noise).rsqrt()) @ axes_PP.mT).float()
    z_NP = (x_NP - mean_P) @ whiten_PP
    return {
        "whiten": whiten_PP.numpy(),
        "shift": (whiten_PP @ mean_P).numpy(),
        "centres": _cluster(z_NP, max(1, min(centres, count // 5)), rounds).numpy(),
        "flat": np.array(flat, np.float32),
        "patch": np.array(patch),
    }


def patch_features(
    pictures: np.ndarray, learned: dict[str, np.ndarray], grid: tuple[int, int] = (2, 2), stride: int = 1
) -> np.ndarray:
    """Triangle activations averaged over each cell of the grid, float32 [N, G * K].

    Averages, where the paper sums: the same up to a factor, and cells of unequal size count the same.
    """
    height, width = (int(size) for size in learned["patch"])
    whiten_PP, shift_P, centres_KP = (torch.from_numpy(learned[name]) for name in ("whiten", "shift", "centres"))
    rows = (pictures.shape[1] - height) // stride + 1
    columns = (pictures.shape[2] - width) // stride + 1
    pool_GL = _pooling(rows, columns, grid)
    centres_PK = centres_KP.mT.contiguous()
    squared_K = centres_KP.square().sum(1)
    features = np.empty((len(pictures), len(pool_GL) * len(centres_KP)), np.float32)
    step = max(1, _CHUNK // (rows * columns * len(centres_KP)))

    def fill(start: int) -> None:
        x_NCHW = torch.from_numpy(pictures[start : start + step]).float().permute(0, 3, 1, 2)
        x_NLP = F.unfold(x_NCHW, (height, width), stride=stride).mT
        z_NLP = _normalised(x_NLP, float(learned["flat"])) @ whiten_PP - shift_P
        distance_NLK = (
            torch.matmul(z_NLP, centres_PK).mul_(-2).add_(squared_K).add_(z_NLP.square().sum(-1, keepdim=True))
        )
        distance_NLK.clamp_(min=0).sqrt_()
        activation_NLK = distance_NLK.neg_().sub_(distance_NLK.mean(-1, keepdim=True)).clamp_(min=0)
        features[start : start + step] = torch.matmul(pool_GL, activation_NLK).flatten(1).numpy()

    # A thread for each chunk: threads in its small steps would wait for each other.
    with workers(torch.get_num_threads()) as pool:
        list(pool.map(fill, range(0, len(pictures), step)))
    return features


def _normalised(x: Tensor, flat: float) -> Tensor:
    """Each patch (last axis) less its mean, over the root of its variance + flat."""
    x = x - x.mean(-1, keepdim=True)
    return x * (x.square().mean(-1, keepdim=True) + flat).rsqrt()


def _pooling(rows: int, columns: int, grid: tuple[int, int]) -> Tensor:
    """Weights [G, rows * columns] that average over each cell of the grid."""
    row = torch.arange(rows) * grid[0] // rows
    column = torch.arange(columns) * grid[1] // columns
    cell_L = (row[:, None] * grid[1] + column).flatten()
    member_GL = F.one_hot(cell_L, grid[0] * grid[1]).mT.float()
    return member_GL / member_GL.sum(1, keepdim=True).clamp(min=1)


def _cluster(z_NP: Tensor, centres: int, rounds: int) -> Tensor:
    """Lloyd's k-means from random patches; one that no patch is nearest to starts again at the patch furthest off."""
    centres_KP = z_NP[:centres].clone()  # the patches come in random order
    squared_N = z_NP.square().sum(1)
    label_N, distance_N = torch.empty(len(z_NP), dtype=torch.int64), torch.empty(len(z_NP))
    scores = torch.empty(min(_ROWS, len(z_NP)), centres)  # one for all rounds: fresh memory takes as long as the sums
    for _ in range(rounds):
        squared_K = centres_KP.square().sum(1)
        for z, squared, label, distance in zip(*(x.split(_ROWS) for x in (z_NP, squared_N, label_N, distance_N))):
            score = torch.addmm(squared_K, z, centres_KP.mT, alpha=-2, out=scores[: len(z)])
            label.copy_(torch.from_numpy(score.numpy().argmin(1)))  # in half the time of torch's
            torch.add(score.gather(1, label[:, None])[:, 0], squared, out=distance)
        count_K = torch.bincount(label_N, minlength=centres)
        total_KP = torch.zeros_like(centres_KP).index_add_(0, label_N, z_NP)
        centres_KP = total_KP / count_K.clamp(min=1)[:, None]
        if len(empty := (count_K == 0).nonzero().flatten()):
            centres_KP[empty] = z_NP[distance_N.topk(len(empty)).indices]
    return centres_KP
