"""report.json and report.html."""

import json
from pathlib import Path


def save(values, folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(values, indent=1))
