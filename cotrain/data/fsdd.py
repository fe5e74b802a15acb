"""Free Spoken Digit Dataset: 3,000 recordings of the digits 0-9 by six speakers, 50 of each digit by each.

Origin: https://github.com/Jakobovski/free-spoken-digit-dataset (folder recordings/). Licence: CC BY-SA 4.0.
"""

import io
from functools import cache

import numpy as np

from cotrain.data.store import members

RATE = 8_000  # samples per second
SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]


def load() -> tuple[list[np.ndarray], int, np.ndarray, list[str]]:
    """waves (3,000 float32 arrays in -1..1, each of its own length), rate in Hz, y int64 [3000], speaker of each.

    Rows are sorted by digit, speaker and index (as numbers); index 0-4 is the official test part, 5-49 training.
    """
    import soundfile

    recordings = _recordings()
    waves = [soundfile.read(io.BytesIO(recordings[file]), dtype="float32")[0] for file in _order(recordings)]
    y, speakers = labels()
    return waves, RATE, y, speakers


def labels() -> tuple[np.ndarray, list[str]]:
    """y int64 [3000] and the speaker of each row, without decoding a sound."""
    parts = [file.split("/")[-1].split("_") for file in _order(_recordings())]
    return np.array([int(digit) for digit, _, _ in parts]), [speaker for _, speaker, _ in parts]


@cache
def _recordings() -> dict[str, bytes]:
    return members(
        "fsdd",
        "recordings.zip",
        "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/heads/master.zip",
        pattern=rf"recordings/\d_({'|'.join(SPEAKERS)})_\d+\.wav$",
        sha256="dbcaa3388ff69aa465ace70757c7f7f94a383150990af3c69e954e0b3b8163aa",
    )


def _order(recordings: dict[str, bytes]) -> list[str]:
    def place(file: str) -> tuple[int, str, int]:
        digit, speaker, index = file.split("/")[-1].removesuffix(".wav").split("_")
        return int(digit), speaker, int(index)

    return sorted(recordings, key=place)
