"""SMS Spam Collection: 5,574 English text messages, 747 of them spam.

Origin: UCI Machine Learning Repository, https://doi.org/10.24432/C5CC84 (T. Almeida and J. Hidalgo, 2011). Licence:
CC BY 4.0. The file ships with this package; sms_spam/ATTRIBUTION.md has the details.
"""

from importlib.resources import files
from pathlib import Path

import numpy as np

NAMES = ["ham", "spam"]


def path() -> Path:
    """The packaged table: tab-separated with a header, columns Label and SMS, no quoting."""
    return Path(str(files("cotrain.data") / "sms_spam" / "SMSSpamCollection.tsv"))


def load() -> tuple[list[str], np.ndarray, list[str]]:
    """texts (5,574), y int64 [5574] (0 ham, 1 spam), names of the classes."""
    lines = path().read_text(encoding="utf-8").split("\n")
    rows = [line.split("\t", 1) for line in lines if line.startswith(("ham\t", "spam\t"))]
    return [text for _, text in rows], np.array([NAMES.index(label) for label, _ in rows]), NAMES
