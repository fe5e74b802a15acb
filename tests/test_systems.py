"""The systems and their state, read from a tree."""

import json

import pytest

from cotrain import recipe, systems
from cotrain.errors import InputError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """An empty package with three systems; `card`, `recipe` and `result` add to it."""
    package = tmp_path / "package"
    (package / "methods" / "peers").mkdir(parents=True)
    package.joinpath("systems.csv").write_text(
        "number,name,family,kind\n1,One,peers,method\n2,Two,semi,method\n3,Three,deploy,engine\n"
    )
    for name, path in (("PACKAGE", package), ("RECIPES", tmp_path / "recipes"), ("RESULTS", tmp_path / "results")):
        path.mkdir(exist_ok=True)
        monkeypatch.setattr(recipe, name, path)

    class Tree:
        def card(self, name, line):
            (package / "methods" / "peers" / f"{name}.md").write_text(
                f"# {name}\nFamily: peers. Source: x. Systems: {line}\n"
            )

        def recipe(self, name, numbers):
            (tmp_path / "recipes" / f"{name}.py").write_text(f'"""What."""\nSYSTEMS = {numbers}\nCLAIM = "a"\n')

        def result(self, name, numbers, held):
            (tmp_path / "results" / f"{name}.json").write_text(json.dumps({"systems": numbers, "held": held}))

    return Tree()


def states():
    return [system.state for system in systems.systems()]


def test_nothing_there_is_planned(tree):
    assert states() == ["planned"] * 3


def test_a_card_makes_a_system_built(tree):
    tree.card("first", "1, 3.")
    assert states() == ["built", "planned", "built"]
    assert systems.card(3).startswith("# first")


def test_a_part_of_a_system_does_not(tree):
    tree.card("part", "none whole; part of 1, 2.")
    assert states() == ["planned"] * 3


def test_results_make_it_measured_and_all_must_hold(tree):
    tree.result("a", [1], True)
    tree.result("b", [2], True)
    tree.result("c", [2, 3], False)
    assert states() == ["measured: held", "measured: did not hold", "measured: did not hold"]


def test_a_result_whose_bar_was_not_evaluated_measures_nothing(tree):
    tree.card("first", "1.")
    tree.result("a", [1], None)
    assert states()[0] == "built"


def test_recipes_and_results_are_listed(tree):
    tree.recipe("one_digits", (1,))
    tree.recipe("none", ())
    tree.result("one_digits", [1], True)
    first = systems.systems()[0].to_dict()
    assert first == {
        "number": 1,
        "name": "One",
        "family": "peers",
        "kind": "method",
        "state": "measured: held",
        "recipes": ["one_digits"],
        "results": ["one_digits.json"],
    }


def test_a_system_with_two_cards_shows_both(tree):
    tree.card("a", "1.")
    tree.card("b", "1, 2.")
    assert systems.card(1).count("# ") == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 and 3.", "The card a.md says `Systems: 2 and 3.`, not numbers as `24, 33.`, or `none whole.`"),
        ("2", "The card a.md says `Systems: 2`, not"),
        ("2, 700.", "a.md names system 700; they are numbered 1 to 3."),
    ],
)
def test_a_card_that_does_not_tell_its_systems_is_a_fault(tree, line, said):
    tree.card("a", line)
    tree.card("b", "1.")
    (fault,) = systems.faults()
    assert fault.startswith(said)
    assert states()[0] == "built"


def test_a_recipe_that_does_not_tell_its_systems_is_a_fault_and_the_others_are_listed(tree):
    tree.recipe("broken", "(")
    tree.recipe("stranger", "(9,)")
    tree.recipe("whole", "(1,)")
    broken, stranger = systems.faults()
    assert broken.startswith("The recipe broken.py cannot be read")
    assert stranger == "stranger.py names system 9; they are numbered 1 to 3."
    assert systems.systems()[0].recipes == ["whole"]


def test_errors_by_name(tree):
    with pytest.raises(InputError, match="no system 9"):
        systems.card(9)
    with pytest.raises(InputError, match="System 2, Two, is planned: it has no card yet"):
        systems.card(2)


def test_the_real_list_is_whole():
    assert systems.faults() == []
    found = systems.systems()
    assert [system.number for system in found] == list(range(1, 122))
    assert len({system.name for system in found}) == 121
    assert all(system.family and system.kind for system in found)
