"""Few labels on small photographs (CIFAR-10, a part): the five semi-supervised methods of `audio_ssl` as they are, with
and without mixup, against the same net without unlabelled rows. About 10 minutes a seed on one core for all rows."""

from functools import lru_cache, partial
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, optim

from cotrain.data import splits
from cotrain.losses import ramps
from cotrain.methods.semi.comparison import PUBLISHED, ROWS, Level, Name, Task, method_of
from cotrain.nets.wide_resnet import WideResNet
from cotrain.run import Bar, Run, Table
from cotrain.views.copies import Augment, always, chain
from cotrain.views.image_augment import quarter_turns, strong_image, weak_image

SYSTEMS = (24,)
CLAIM = (
    "On CIFAR-10 with 250 labels (WRN-28-2, a million steps) FixMatch errs on 5.07 %, ReMixMatch on 5.44 %, MixMatch "
    "on 11.05 % and Mean Teacher on 32.32 % (FixMatch's Table 2). Net, images and steps are far smaller here."
)
SEEDS = range(3)

# Points of the grid in `cotrain.methods.semi.comparison`, as many for each method; of the net without unlabelled rows,
# how its labelled rows are augmented, and then those of all methods. Chosen with `held_out=true steps=200` on seed 100,
# MixMatch and ReMixMatch with mixup: half of the labelled rows (125) are kept from training and judged, and no other
# labels. Of level points the middle or the lower.
CHOSEN: dict[str, Level] = {
    "supervised": "low",
    "mean teacher": "low",
    "deep co-training": "high",
    "mixmatch": "low",
    "remixmatch": "low",
    "fixmatch": "high",
}


def rows(full: bool = False) -> dict[str, dict]:
    return {**ROWS, "supervised, all labels": {"method": "supervised", "mixup": False, "labels": 0}}


def recipe(
    method: Name = "fixmatch",
    mixup: bool = False,
    labels: int = 25,
    level: Level | None = None,
    held_out: bool = False,
    steps: int | None = None,
    seed: int = 0,
    full: bool = False,
) -> Run:
    """One method on 20,000 images of 16 x 16 pixels; 4,000 others are the test.

    Args:
        method: what is trained.
        mixup: mix the inputs: alpha 0.75, of labelled rows alone 0.4.
        labels: labelled rows of each class; 0 for all of them.
        level: point of the method's grid; None is the one that was chosen.
        held_out: judge on half of the labelled rows, kept from training, instead of the test.
        steps: of the optimizer; 1,000, or 100,000 with `full`.
        seed: which rows are labelled, first weights and noise.
        full: the paper's net, WRN-28-2, and all 32 x 32 pixels.
    """
    data = rows_of(labels, seed, held_out)
    level = level or CHOSEN[method]
    steps = (100_000 if full else 1000) if steps is None else steps
    x, y = images(full)
    task = Task(
        x[data.labelled],
        y[data.labelled],
        x[np.concatenate([data.labelled, data.unlabelled])],
        net=partial(net, full),
        optimizer=partial(optim.AdamW, lr=3e-3, weight_decay=0.01),
        weak=chain(weak_image(), always(scaled)),
        strong=chain(strong_image(), always(scaled)),
        labelled=augmentation(level if method == "supervised" else CHOSEN["supervised"]),
        turn=quarter_turns,
        batch=64 if full else 32,
        batch_unlabelled=448 if full else 32,
        schedule=partial(ramps.cosine_down, length=steps),
        decay=0.999 if full else 0.98,
    )
    made = method_of(method, mixup, level, ramp=steps // 4)
    return Run(made, steps=steps, seed=seed, **task.parts(made, seed, scaled(x[data.test]), y[data.test]))


def augmentation(level: Level) -> Augment:
    """Of labelled rows: weak, or strong with one or two operations."""
    augment = {"low": weak_image(), "middle": strong_image(1), "high": strong_image(2)}[level]
    return chain(augment, always(scaled))


def net(full: bool) -> WideResNet:
    """78 thousand parameters, or 1.5 million."""
    made = WideResNet(28, 2, 3, 10) if full else WideResNet(10, 1, 3, 10)
    return made.to(memory_format=torch.channels_last)


def scaled(x: Tensor) -> Tensor:
    """From 0..1 to about mean 0, deviation 1."""
    return (x - 0.47) / 0.25


@lru_cache(maxsize=1)
def images(full: bool) -> tuple[Tensor, Tensor]:
    """float32 [24000, 3, H, H] in 0..1 and classes int64; H is 32, or 16 by means over 2 x 2 pixels."""
    pixels, y, _ = splits.load("cifar10")
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    return (x if full else F.avg_pool2d(x, 2)).contiguous(), torch.from_numpy(y)


def rows_of(labels: int, seed: int, held_out: bool) -> splits.Split:
    """Which rows are labelled, unlabelled and judged."""
    split = splits.few_labels("cifar10", 10 * (labels or 25), seed)
    split = split if labels else splits.all_labelled(split)
    if not held_out:
        return split
    # Labelled rows are sorted, and so are the classes: every other row is half of each class.
    return splits.Split(split.labelled[::2], split.unlabelled, split.labelled[1::2])


def bars(table: Table) -> list[Bar]:
    def score(row: str) -> float:
        return table.mean(row, "accuracy")

    alone = score("supervised")
    gains = {name: score(PUBLISHED[name]) - alone for name in ("fixmatch", "mixmatch", "remixmatch")}
    mixed = fmean(score(f"{name} + mixup") - score(name) for name in ("deep co-training", "mean teacher", "fixmatch"))
    aside = f"with all labels {score('supervised, all labels'):.3f}; mixup adds {mixed:+.3f} to the other three"
    return [Bar(f"{name} >= supervised + 0.02 ({aside})", gain, gain >= 0.02) for name, gain in gains.items()]
