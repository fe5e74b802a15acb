"""What `cotrain fit` shows: `report.json` for programs, `report.html` for people, a few lines for the terminal.

The page is one file without scripts, fonts or pictures from elsewhere. Its charts are SVG drawn in percent of their
width, so that lines and letters keep their size on a phone.
"""

import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cotrain.auto import findings
from cotrain.auto.columns import LISTS
from cotrain.auto.findings import Values
from cotrain.auto.shape import Maybe, fault
from cotrain.auto.wording import listing
from cotrain.data.files import write_whole
from cotrain.errors import InputError

NAME = "report.json"
WIDTH, TERM = 100, 13  # characters of a line on the terminal, and of the term before it
TOLD = 3  # warnings told there; the page has all

_number = (int, float)
_score = Maybe(_number)
_estimate = {"estimate": _score, "low": _score, "high": _score}
_known = _estimate | {"estimate": _number}
LARGEST = 1e300  # of any number that is not of the table's own: in percent it is still one
# The first keys are a contract; those with a question mark may be missing from a file of another version.
SHAPE: dict[str, Any] = {
    "version": str,
    "command": str,
    "seed": int,
    "seconds": _number,
    "rows": {"labelled": int, "unlabelled": int, "test": int},
    "classes": [str],
    "metric": str,
    "supervised": _known,
    "chosen": {"name": str, "members": [str], "parts?": {}, **_known, "bytes?": _score},
    "model?": {"rows_per_second": _score},
    "p_helped": _score,
    "used_unlabelled": bool,
    "prior": {"shares?": {}, "source?": str},
    "candidates": [
        {
            "name": str,
            **_estimate,
            "seconds": _number,
            "accepted": bool,
            "reason": str,
            "unlabelled?": bool,
            "silent?": bool,
            "folds?": int,
        }
    ],
    "student": {
        "kind": str,
        "bytes": _number,
        "parameters": _number,
        "agreement": _score,
        "estimate": _score,
        "rows_per_second": _score,
    },
    "test": Maybe(
        {"metric": str, "supervised": _score, "chosen": _score, "student": _score, "low?": _score, "high?": _score}
    ),
    "warnings": [str],
    "data?": str,
    "target?": str,
    "audit?": {
        "rows": int,
        "counts": {},
        "duplicates": int,
        "near_duplicates": int,
        "conflicts": [{"rows": [int], "where?": [str], "labels": [str]}],
        "conflict_groups?": int,
        "missing": {},
        "leaks": {},
        "left_out": int,
    },
    "calibration?": Maybe(
        {
            "ece": _score,
            "points": [{"said": _number, "was": _number, "rows": int}],
            "rows?": int,
            "worth?": _number,
        }
    ),
    "columns?": {"dropped": {}, **{f"{kind}?": [str] for kind in LISTS}},
    "confusion?": [[int]],
    "coverage?": {"asked": _number, "threshold": _score},
    "curve?": Maybe(
        {
            "points": [{"labels": int, **_estimate}],
            "more": int,
            "gain": _number,
            "gain_low": _number,
            "gain_high": _number,
        }
    ),
    "label_next?": [{"row": int, "reason": str, "shown": str, "file?": str}],
    "machine?": {},
    "settings?": {"budget?": _number, "folds?": int, "method?": Maybe(str)},
    "shift?": Maybe({"place": _number, "bar": _number, "apart": bool}),
    "skipped?": {"curve?": str, "steady?": str},
    "slices?": [{"name": str, "rows": int, "accuracy": _number}],
    "steady?": Maybe({"flipped": _number, "times": int, "dropped": _number, "rows": int}),
    "suspicious?": [{"row": int, "label": str, "rather": str, "probability": _number, "shown?": str, "file?": str}],
}


def save(values: Values, folder: Path | str) -> None:
    """Write `report.json` and `report.html`, each of them whole or not at all.

    The size of a model that is in the folder already is told too.

    Raises:
        InputError: nothing can be written there.
    """
    folder = Path(folder)
    told = plain(values)
    model = [file.stat().st_size for file in (folder / "model").glob("*") if file.is_file()]
    if model:
        told["chosen"]["bytes"] = sum(model)
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / NAME, text + "\n")
        write_whole(folder / "report.html", render(told))
    except OSError as error:
        raise InputError(f"{folder}: the report cannot be written there ({error.strerror or error}).") from error


def load(folder: Path | str) -> dict[str, Any]:
    """The values of a saved report.

    Raises:
        InputError: there is none, or it is damaged; says what is missing or wrong in it.
    """
    file = Path(folder) / NAME
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no {NAME} in {folder}; name the folder that `cotrain fit --out` wrote.") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged, it is not JSON ({error}); fit again.") from error
    wrong = fault(values, SHAPE) or _outsized({name: part for name, part in values.items() if name != "columns"})
    if not wrong and len(values["classes"]) < 2:
        wrong = "classes has fewer than two"
    if wrong:
        raise InputError(f"{file} is damaged or not a report: {wrong}; fit again.")
    return values


def _outsized(value: Any, where: str = "") -> str:
    """The first number that no report has, in words; empty where there is none."""
    if isinstance(value, float | int):
        return "" if abs(value) < LARGEST else f"{where} is {value!r:.40}"
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next(filter(None, (_outsized(item, f"{where}.{name}".strip(".")) for name, item in parts)), "")


def plain(value: Any) -> Any:
    """The value in what strict JSON knows: NaN and infinities become None, arrays become lists, the rest text."""
    if isinstance(value, Mapping):
        return {_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        return plain(value.tolist())
    return _text(str(value))


def _text(text: str) -> str:
    """Half of a surrogate pair, as badly decoded files hold them, can be written to no file."""
    return text.encode("utf-8", "replace").decode("utf-8")


def render(values: Values) -> str:
    """The page."""
    from cotrain.auto.page import page

    return page(plain(values))


def lines(values: Values) -> list[str]:
    """What the terminal shows, in some fifteen lines: plain characters but for the user's own."""
    values = plain(values)
    rows, chosen, warnings = values["rows"], values["chosen"], values["warnings"]
    suspicious, wanted = (
        [item.get("file", item["row"]) for item in values.get(part) or ()] for part in ("suspicious", "label_next")
    )
    told = [
        ("verdict", " ".join(findings.verdict(values))),
        ("how sure", findings.limits(values)),
        (
            "data",
            f"{values.get('data', 'the table')}: {findings.count(rows['labelled'], 'labelled row')}, "
            f"{rows['unlabelled']:,} unlabelled, {len(values['classes'])} classes; the score is {values['metric']}",
        ),
        ("shares", _shares(values["prior"])),
        ("tried", findings.searched(values)),
        ("result", chosen["name"] + (f": {'; '.join(chosen['members'])}" if len(chosen["members"]) > 1 else "")),
        ("student", findings.student(values)),
        ("test", findings.on_test_rows(values) if values["test"] else ""),
        ("more labels", findings.more_labels(values)),
        ("label next", _rows(wanted)),
        ("suspicious", f"labels in {_rows(suspicious)}" if suspicious else ""),
        *(("warning", warning) for warning in warnings[:TOLD]),
        ("", f"and {len(warnings) - TOLD:,} more, in report.html" if len(warnings) > TOLD else ""),
        ("repeat", f"{values['command']} (seed {values['seed']}, {findings.duration(values['seconds'])})"),
    ]
    first = " ".join("".join(part[:3]) for part in findings.headline(values))
    return [first.translate(_TYPED), *(line for term, text in told if text for line in _hung(term, text))]


def _rows(wanted: list[int | str]) -> str:
    """Rows of the table by number, files that are not in it by name."""
    numbers = [each for each in wanted if isinstance(each, int)]
    files = [each for each in wanted if isinstance(each, str)]
    rows = f"row{'' if len(numbers) == 1 else 's'} {listing(numbers)}" if numbers else ""
    return "; ".join(part for part in (rows, listing(files)) if part)


def _shares(prior: Values, most: int = 6) -> str:
    shares = sorted((prior.get("shares") or {}).items(), key=lambda item: -item[1])
    digits = next((digits for digits, share in enumerate((0.1, 0.01)) if shares and shares[0][1] >= share), 2)
    said = ", ".join(f"{name} {findings.percent(share, digits)}" for name, share in shares[:most])
    rest = f" and {len(shares) - most} more" if len(shares) > most else ""
    return f"{said}{rest} ({prior.get('source', 'source unknown')})"


def _hung(term: str, text: str) -> list[str]:
    """The text beside its term, broken into at most three lines."""
    text = " ".join(text.translate(_TYPED).split())
    parts = textwrap.wrap(text, WIDTH - TERM, max_lines=3, placeholder=" ...")
    return [f"{'' if number else term:<{TERM}}{part}" for number, part in enumerate(parts)]


_TYPED = str.maketrans({"\u00a0": " ", "–": "-", "“": '"', "”": '"'})  # what every terminal can show
