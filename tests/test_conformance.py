"""Every method in the tree keeps every promise of the suite, and every card is true."""

from pathlib import Path

import pytest
import torch
from cards import check_card

import cotrain
from cotrain.conformance import CHECKS, methods
from cotrain.conformance_ranks import RANK_CHECKS, RANKS
from cotrain.crew import Crew
from cotrain.engine import fit

CARDS = sorted(Path(cotrain.__file__).parent.glob("*/**/*.md"))
CARDS = [card for card in CARDS if card.with_suffix(".py").exists()]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)
def test_method(method, check):
    check(method)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)
def test_method_where_double_is_the_usual_precision(method):
    torch.set_default_dtype(torch.float64)
    try:
        example = method.example()
        fit(example.method, example.learners, example.streams, 2, device="cpu")
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(p.dtype == torch.float64 for one in example.learners.values() for p in one.net.parameters())


@pytest.fixture(scope="module")
def crew():
    crews = []

    def at_work() -> Crew:
        """One crew for all tests; a new one after a failure, which ends the old one."""
        if not crews or not crews[-1].alive:
            crews.append(Crew(RANKS))
        return crews[-1]

    yield at_work
    for one in crews:
        one.close()


@pytest.mark.parametrize("check", RANK_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)
def test_method_on_ranks(method, check, crew):
    check(method, crew())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.stem)
def test_card(card):
    check_card(card)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.__name__)
def test_method_has_a_card(method):
    module = Path(cotrain.__file__).parent.parent.joinpath(*method.__module__.split("."))
    assert module.with_suffix(".md").exists()
