"""What every card has: the page beside a module."""

import inspect
import math
import re

from cotrain import conformance

HEADINGS = ["The step", "Use", "Turn these first", "Differs from the paper", "Costs", "Measured", "Combines with"]


def check_card(card):
    """A card has every heading in order, its `Use` block runs, and the defaults it states are the code's.

    Defaults are read from the bullets under `Turn these first`: "`name` = value".
    """
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# "), f"{card.name} has no title"
    found = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert found == HEADINGS, f"{card.name} has the headings {found}, not {HEADINGS}"
    about = re.search(r"^Family: .+ Source: .+ Systems: .+\.$", text, flags=re.MULTILINE)
    assert about, f"{card.name} lacks its line of family, source and systems"
    blocks = re.findall(r"```python\n(.*?)```", _section(text, "Use"), flags=re.DOTALL)
    assert blocks, f"{card.name} has no python block under Use"
    for block in blocks:
        exec(compile(block, str(card), "exec"), {"__name__": "card"})
    module = conformance.module_of(card)
    classes = [t for _, t in inspect.getmembers(module, inspect.isclass) if t.__module__ == module.__name__]
    defaults = {name: p.default for c in classes for name, p in inspect.signature(c).parameters.items()}
    for name, stated in re.findall(r"`(\w+)` = ([-\w.\"']+)", _section(text, "Turn these first")):
        assert name in defaults, f"{card.name} speaks of {name!r}, which the code does not have"
        actual = defaults[name]
        value = stated.strip("\"'").rstrip(".")
        number = isinstance(actual, int | float) and not isinstance(actual, bool)
        same = math.isclose(float(value), actual) if number else value == str(actual)
        assert same, f"{card.name} says {name} = {stated}, the code says {actual!r}"


def _section(text, heading):
    return text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
