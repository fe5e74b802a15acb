"""What a fit gives, and how it is written to a folder."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from cotrain.auto.model import Model
from cotrain.auto.student import Student
from cotrain.errors import InputError


@dataclass
class Result:
    """What a fit gives."""

    model: Model
    student: Student
    report: "FitReport"
    folder: Path | None = None  # where it was saved

    def save(self, folder: Path | str) -> None:
        """Write `model/`, `student/`, `report.json` and `report.html`; all of them, or none where one fails.

        Raises:
            OSError, InputError: the folder cannot be written or holds something else in their place, or the disk is
                full.
        """
        folder = Path(folder)
        _refuse_others(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".saving-", ignore_cleanup_errors=True) as new:
            self.model.save(Path(new, "model"))
            self.student.save(Path(new, "student"))
            self.report.save(new)
            for path in sorted(Path(new).iterdir()):
                place = folder / path.name
                if place.is_symlink():
                    place.unlink()  # what it leads to stays
                elif place.is_dir():
                    shutil.rmtree(place)
                path.replace(place)
        self.folder = folder

    def rescue(self, folder: Path | str) -> None:
        """Save it; where that fails, into a new folder among the temporary files, with a warning that says where."""
        try:
            return self.save(folder)
        except (OSError, ValueError) as error:
            said = f"The result could not be saved to {folder} ({getattr(error, 'strerror', None) or error})"
        warnings = self.report["warnings"]
        warnings.insert(0, said)
        try:
            elsewhere = mkdtemp(prefix="cotrain-")
            warnings[0] = f"{said}; it is in {elsewhere} instead."
            self.save(elsewhere)
        except (OSError, ValueError):
            warnings[0] = f"{said}, nor among the temporary files; it is lost when this program ends."


class FitReport:
    """What is known of a fit, as plain values."""

    def __init__(self, values: dict[str, Any]):
        self.values = values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def save(self, folder: Path | str) -> None:
        from cotrain.auto.report import save

        save(self.values, Path(folder))

    def to_html(self, file: Path | str) -> None:
        from cotrain.auto.report import render

        Path(file).write_text(render(self.values), encoding="utf-8")


def check_folder(out: Path | str) -> None:
    """Before hours of work: can the result be written? Leaves nothing behind. Raises InputError."""
    if not isinstance(out, Path | str):
        raise InputError(f"--out takes a folder; not {out!r}.")
    folder = Path(out)
    try:
        if "\0" in str(folder):
            raise OSError("no path holds a NUL character")
        _refuse_others(folder)
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with TemporaryDirectory(dir=there, prefix=".writable-"):
            pass
    except OSError as error:
        raise InputError(f"--out {folder}: nothing can be written there ({error.strerror or error}).") from error


def _refuse_others(folder: Path) -> None:
    """Raises InputError where a result would take the place of folders and files that no fit has written."""
    for name in ("model", "student"):
        place = folder / name
        if place.is_dir() and not (place / f"{name}.json").is_file():
            raise InputError(
                f"--out {folder}: there is a folder {name!r} in it already that is no result of a fit and would be "
                "replaced; choose another folder."
            )
    for name in ("report.html", "report.json"):
        place = folder / name
        if place.exists() and not (place.is_file() and "cotrain" in place.read_text("utf-8", errors="replace")):
            raise InputError(
                f"--out {folder}: there is a {name} in it already that no fit has written; choose another folder."
            )
