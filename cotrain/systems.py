"""The 121 published systems and how far each has come, read from the tree: cards, recipes and results."""

import csv
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cotrain import recipe
from cotrain.errors import InputError

# Files by the numbers of the systems that they serve, and a sentence for each that does not tell them.
Told = tuple[dict[int, list[Path]], list[str]]


@dataclass(frozen=True)
class System:
    number: int
    name: str
    family: str
    kind: str
    state: str  # planned, built, measured: held, measured: did not hold
    recipes: list[str]
    results: list[str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def systems() -> list[System]:
    """All of them, in the order of their numbers; without the cards and recipes that `faults` names."""
    (cards_of, _), (recipes_of, _) = _cards(), _recipes()
    results_of: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(recipe.RESULTS.glob("*.json")):
        result = {"file": path.name, **json.loads(path.read_text())}
        for number in result.get("systems", ()):
            results_of.setdefault(number, []).append(result)
    found = []
    for entry in _entries():
        number = int(entry["number"])
        results = results_of.get(number, [])
        judged = [result["held"] for result in results if result["held"] is not None]
        if judged:
            state = "measured: held" if all(judged) else "measured: did not hold"
        else:
            state = "built" if number in cards_of else "planned"
        found.append(
            System(
                number=number,
                name=entry["name"],
                family=entry["family"],
                kind=entry["kind"],
                state=state,
                recipes=[path.stem for path in recipes_of.get(number, [])],
                results=[result["file"] for result in results],
            )
        )
    return found


def faults() -> list[str]:
    """A sentence for each card or recipe that does not say which systems it serves, or says one that there is not."""
    return _cards()[1] + _recipes()[1]


def _cards() -> Told:
    return _by_number(sorted(recipe.PACKAGE.glob("*/**/*.md")), _of_card)


def _recipes() -> Told:
    return _by_number(recipe.files().values(), lambda path: recipe.constants(path).get("SYSTEMS", ()))


def _by_number(paths: Iterable[Path], numbers_of: Callable[[Path], Iterable[int]]) -> Told:
    known = {int(entry["number"]) for entry in _entries()}
    found: dict[int, list[Path]] = {}
    said = []
    for path in paths:
        try:
            for number in numbers_of(path):
                if number in known:
                    found.setdefault(number, []).append(path)
                else:
                    said.append(f"{path.name} names system {number}; they are numbered 1 to {max(known)}.")
        except InputError as error:
            said.append(str(error))
    return found, said


def _of_card(path: Path) -> list[int]:
    """The numbers in the line `Family: ... Systems: 24, 33.`; what has no such line is no card."""
    line = re.search(r"^Family: .*Systems: (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    if line is None or line[1].startswith("none whole"):
        return []
    if not re.fullmatch(r"\d+(, \d+)*\.", line[1]):
        raise InputError(f"The card {path.name} says `Systems: {line[1]}`, not numbers as `24, 33.`, or `none whole.`")
    return [int(number) for number in re.findall(r"\d+", line[1])]


def _entries() -> list[dict[str, str]]:
    with (recipe.PACKAGE / "systems.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def card(number: int) -> str:
    """The text of a system's cards.

    Raises:
        InputError: no such system, or it has no card yet.
    """
    entry = next((system for system in systems() if system.number == number), None)
    if entry is None:
        raise InputError(f"There is no system {number}; they are numbered 1 to 121.")
    paths = _cards()[0].get(number)
    if not paths:
        raise InputError(f"System {number}, {entry.name}, is {entry.state}: it has no card yet.")
    return "\n\n".join(path.read_text(encoding="utf-8") for path in paths)
