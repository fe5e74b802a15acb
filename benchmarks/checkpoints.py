"""What a checkpoint of 50 MB costs the training: `checkpoint.save` that waits for the disk, against `wait=False`.

    python benchmarks/checkpoints.py [--blocks 15] [--megabytes 50] [--folder DIR] [--record]

As the recipe `megascale` measures it (its `Stall`), with more blocks or on a disk of your choice. --record writes
results/benchmarks/checkpoints.json.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import _record

from cotrain import recipe, show

BAR = 0.30  # of the stall of a save that waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=15)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; a temporary one by default")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    stall = recipe.load("megascale").Stall(megabytes=given.megabytes, blocks=given.blocks, folder=given.folder)
    found = stall.measure()
    show.table(f"A checkpoint of {found['megabytes']} MB", [{name: f"{value:.3g}" for name, value in found.items()}])
    held = found["ratio"] <= BAR
    show.line(f"Stall {found['ratio']:.0%} by median, at most {BAR:.0%}: {'held' if held else 'did not hold'}")
    if given.record:
        _record.write("checkpoints", {"blocks": given.blocks, **found, "bar": {"at most": BAR, "held": held}})


if __name__ == "__main__":
    main()
