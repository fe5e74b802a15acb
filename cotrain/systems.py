"""The 121 published systems and how far each has come, read from the tree: cards, recipes and results."""

import csv
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cotrain import recipe
from cotrain.errors import InputError


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
    """All of them, in the order of their numbers."""
    cards_of = cards()
    recipes_of: dict[int, list[str]] = {}
    for name, path in recipe.files().items():
        for number in recipe.constants(path).get("SYSTEMS", ()):
            recipes_of.setdefault(number, []).append(name)
    results_of: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(recipe.RESULTS.glob("*.json")):
        result = {"file": path.name, **json.loads(path.read_text())}
        for number in result.get("systems", ()):
            results_of.setdefault(number, []).append(result)
    with (recipe.PACKAGE / "systems.csv").open(encoding="utf-8", newline="") as file:
        entries = list(csv.DictReader(file))
    found = []
    for entry in entries:
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
                recipes=recipes_of.get(number, []),
                results=[result["file"] for result in results],
            )
        )
    return found


def cards() -> dict[int, list[Path]]:
    """The cards by the numbers of the systems that they serve, from their line `Systems: 24, 33.`"""
    found: dict[int, list[Path]] = {}
    for path in sorted(recipe.PACKAGE.glob("*/**/*.md")):
        for line in path.read_text(encoding="utf-8").splitlines()[:8]:
            for listed in re.findall(r"Systems: ([\d, ]+)\.", line):
                for number in listed.split(","):
                    found.setdefault(int(number), []).append(path)
    return found


def card(number: int) -> str:
    """The text of a system's cards.

    Raises:
        InputError: no such system, or it has no card yet.
    """
    entry = next((system for system in systems() if system.number == number), None)
    if entry is None:
        raise InputError(f"There is no system {number}; they are numbered 1 to 121.")
    paths = cards().get(number)
    if not paths:
        raise InputError(f"System {number}, {entry.name}, is {entry.state}: it has no card yet.")
    return "\n\n".join(path.read_text(encoding="utf-8") for path in paths)
