"""Every method in the tree keeps every promise of the suite, and every card is true."""

from pathlib import Path

import pytest

import cotrain
from cotrain.conformance import CHECKS, check_card, methods

CARDS = sorted(Path(cotrain.__file__).parent.glob("*/**/*.md"))
CARDS = [card for card in CARDS if card.with_suffix(".py").exists()]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)
def test_method(method, check):
    check(method)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_card(card):
    check_card(card)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)
def test_method_has_a_card(method):
    module = Path(cotrain.__file__).parent.parent.joinpath(*method.__module__.split("."))
    assert module.with_suffix(".md").exists()
