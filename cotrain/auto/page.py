"""The page of a fit, from its template: places in charts, and what makes a stranger's text harmless."""

from collections.abc import Iterable, Mapping
from functools import cache
from math import ceil, floor
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from cotrain.auto import findings
from cotrain.auto.glossary import glossary

LONGEST = 400  # characters of one text of the user's
MANY = 24  # classes up to which the table of mistakes is shown
_CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in range(32) if chr(code) not in "\t\n\r"}


def page(values: Mapping[str, Any]) -> str:
    """The whole page; everything of the user's is escaped, shortened and free of control characters."""
    axis = Axis(_scores(values))
    return _template().render(v=values, say=findings, axis=axis, Axis=Axis, MANY=MANY, glossary=glossary(values))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value.translate(_CONTROLS) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short, "percent": findings.percent, "size": findings.size}
    return environment.get_template("report.html.j2")


def short(text: Any, most: int = LONGEST) -> str:
    """The beginning of a long text."""
    text = str(text)
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


class Axis:
    """A line from a round share below the lowest to one above the highest, with round ticks between."""

    def __init__(self, shares: Iterable[float | None], top: float | None = 1.0):
        known = [share for share in shares if share is not None] or [0.0, 1.0]
        low, high = max(0.0, min(known)), min(1.0, max(known)) if top is None else top
        step = next(step for step in (0.02, 0.05, 0.1, 0.2) if high - low <= 6 * step or step == 0.2)
        first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
        self.low, self.high = first * step, max(last, first + 1) * step
        self.ticks = [min(1.0, tick * step) for tick in range(first, max(last, first + 1) + 1)]

    def at(self, share: float) -> float:
        """The place in percent of the length."""
        return round(100 * min(1.0, max(0.0, (share - self.low) / (self.high - self.low))), 2)


def _scores(values: Mapping[str, Any]) -> list[float | None]:
    said = [values["supervised"], values["chosen"], *values["candidates"]]
    test = values["test"] or {}
    return [e[key] for e in said for key in ("low", "estimate")] + [test.get(k) for k in ("supervised", "chosen")]
