"""What a benchmark leaves behind: results/benchmarks/NAME.json (NAME_gpu.json of a GPU)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = Path("results") / "benchmarks"


def write(name: str, values: Mapping[str, Any], gpu: bool = False) -> Path:
    """The version, commit and machine, then the values, which may say these themselves; where, seen from the root."""
    from cotrain import __version__, recipe  # not on top: some benchmarks measure what importing it takes

    about: dict[str, Any] = {"version": __version__, "commit": recipe.commit(), "machine": recipe.machine()}
    if gpu:
        import torch

        about["machine"]["gpu"] = torch.cuda.get_device_name()
    file = _file(name, gpu)
    (ROOT / file).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / file).write_text(json.dumps({**about, **values}, indent=1) + "\n")
    return file


def read(name: str, gpu: bool = False) -> dict[str, Any]:
    """What was recorded before; nothing if nothing was."""
    file = ROOT / _file(name, gpu)
    return json.loads(file.read_text()) if file.exists() else {}


def _file(name: str, gpu: bool) -> Path:
    return FOLDER / f"{name}{'_gpu' if gpu else ''}.json"
