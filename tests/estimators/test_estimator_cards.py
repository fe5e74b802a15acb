"""Every card has its headings, and its code runs as it stands."""

import re
from pathlib import Path

import pytest

import cotrain.estimators

CARDS = sorted(Path(cotrain.estimators.__file__).parent.glob("*.md"))
HEADINGS = ["The step", "Use", "Turn these first", "Differs from the paper", "Costs", "Measured", "Combines with"]


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.stem)
def test_card(card):
    text = card.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert re.findall(r"^## (.*)$", text, re.M) == HEADINGS
    assert re.search(r"^Family: .+\. Source: .+\. Systems: (none whole|[\d, ]+)\.$", text, re.M)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(code, card.name, "exec"), {})
