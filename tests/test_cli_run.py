"""`cotrain run` and `cotrain systems` as they are typed."""

import json
import re
import sys

import pytest

from cotrain import __main__ as entry
from cotrain import cli, recipe
from cotrain.auto import commands
from cotrain.cli import main

TINY = '''"""Coins; a second."""
from cotrain.run import Bar

SYSTEMS = (33,)
CLAIM = "Loaded coins win [by 5 %]."
SEEDS = range(2)


def rows(full=False):
    return {"loaded": {"gain": 0.1}, "fair": {"gain": 0.0}}


def recipe(gain: float = 0.1, share_of_heads: float = 0.5, flips: int = 10, seed: int = 0):
    return Coin(share_of_heads + min(gain, 0.01 * flips) + 0.01 * seed)


class Coin:
    def __init__(self, heads):
        self.heads = heads

    def measure(self):
        return {"heads": self.heads, "luck": float("nan")}


def bars(table):
    gain = table.mean("loaded", "heads") - table.mean("fair", "heads")
    return [Bar("loaded beats fair by 5 points", gain, gain >= 0.05)]
'''


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "RECIPES", tmp_path / "recipes")
    monkeypatch.setattr(recipe, "RESULTS", tmp_path / "results")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "coins.py").write_text(TINY)
    return tmp_path


@pytest.fixture
def cotrain(tree, capsys):
    """Types a command; gives exit code, output and errors."""

    def type_(*words):
        code = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        return (code, *capsys.readouterr())

    return type_


def test_alone_it_lists_the_recipes(cotrain):
    code, out, _ = cotrain("run")
    assert code == 0
    assert "coins" in out
    assert "Coins; a second." in out
    assert json.loads(cotrain("run", "--json")[1]) == [{"recipe": "coins", "systems": "33", "what": "Coins; a second."}]


def test_the_table_the_claim_and_the_bar(cotrain):
    code, out, _ = cotrain("run", "coins")
    assert code == 0
    for part in (
        "loaded",
        "0.605 ± 0.0071",
        "0.505",
        "Claimed: Loaded coins win [by 5 %].",
        "(0.1) held",
        "The bar held.",
    ):
        assert part in out


def test_a_bar_that_does_not_hold_ends_with_3(cotrain):
    code, out, _ = cotrain("run", "coins", "flips=1")
    assert code == 3
    assert "did not hold" in out


def test_a_bar_that_cannot_be_evaluated_ends_with_0_and_says_so(cotrain):
    code, out, _ = cotrain("run", "coins", "gain=0.1", "--json")
    assert code == 0
    assert json.loads(out)["held"] is None


def test_json_is_the_result_and_nothing_else(cotrain):
    code, out, _ = cotrain("run", "coins", "--json", "--seeds", "3,5-6", "flips=20")
    result = json.loads(out)
    assert code == 0
    assert result["seeds"] == [3, 5, 6]
    assert result["settings"] == {"flips": 20}
    assert result["rows"]["fair"]["heads"] == [0.53, 0.55, 0.56]
    assert result["rows"]["fair"]["luck"] == [None, None, None]
    assert result["held"] is True


def test_settings_before_and_after_options_in_both_spellings(cotrain):
    for words in (
        ["--seeds", "0", "share_of_heads=0.25", "--flips", "3"],
        ["--flips=3", "--share-of-heads", "0.25", "--seeds=0"],
    ):
        result = json.loads(cotrain("run", "coins", "--json", *words)[1])
        assert result["settings"] == {"share_of_heads": 0.25, "flips": 3}
        assert result["seeds"] == [0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["coins", "luck=1"], "Unknown option: --luck"),
        (["coins", "luck=1"], "The recipe takes: gain, share_of_heads, flips (as key=value)."),
        (["coins", "flips=many"], "unable to convert"),
        (["coins", "seed=4"], "Unknown option"),
        (["coin"], "There is no recipe 'coin'. Did you mean 'coins'?"),
        (["coins", "--seeds", "one"], "--seeds takes whole numbers as 0,1,2 or 0-9, not 'one'."),
        (["coins", "--seeds", "5-3"], "--seeds takes whole numbers"),
        (["coins", "--record", "flips=20"], "--record takes the recipe's own settings"),
        (["coins", "--record", "--seeds", "0"], "at least its own seeds"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_ends_with_2(cotrain, words, said):
    code, out, err = cotrain("run", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize("line", ["x = nothing", "x = {}[1]", "raise ValueError('no data')", "x = ("])
def test_a_recipe_that_cannot_be_imported_is_one_sentence_with_its_line(cotrain, tree, line):
    (tree / "recipes" / "coins.py").write_text(f"{TINY}\n{line}\n")
    code, out, err = cotrain("run", "coins")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        rf"cotrain: The recipe \S+ cannot be imported: .*\(coins.py, line {len(TINY.splitlines()) + 2}\)\n", err
    )


def test_an_error_in_what_a_recipe_runs_keeps_its_traceback(cotrain, tree):
    (tree / "recipes" / "coins.py").write_text(TINY.replace('return {"heads"', "return {nothing"))
    with pytest.raises(NameError, match="nothing"):
        cotrain("run", "coins")


def test_a_recipe_that_cannot_be_read_hides_no_other(cotrain, tree):
    (tree / "recipes" / "broken.py").write_text("x = (")
    broken, coins = json.loads(cotrain("run", "--json")[1])
    assert "broken.py cannot be read" in broken["what"]
    assert coins["recipe"] == "coins"
    code, out, err = cotrain("systems", "--json")
    assert code == 0
    assert json.loads(out)[32]["recipes"] == ["coins"]
    assert err.startswith("cotrain: The recipe broken.py cannot be read")


def test_what_cannot_be_recorded_is_refused_before_it_is_run(cotrain, tree):
    (tree / "recipes" / "coins.py").write_text(
        TINY.replace("def measure(self):", "def measure(self):\n        raise AssertionError")
    )
    assert cotrain("run", "coins", "--record", "flips=20")[0] == 2


def test_record_writes_the_result(cotrain, tree):
    assert cotrain("run", "coins", "--record", "--seeds", "0-4")[0] == 0
    written = json.loads((tree / "results" / "coins.json").read_text())
    assert written["held"] is True
    assert written["seeds"] == [0, 1, 2, 3, 4]
    systems = json.loads(cotrain("systems", "--json")[1])
    assert systems[32]["state"] == "measured: held"
    assert (systems[32]["recipes"], systems[32]["results"]) == (["coins"], ["coins.json"])


def test_out_keeps_the_cells(cotrain, tree):
    out = tree / "out"
    first = json.loads(cotrain("run", "coins", "--out", out, "--json")[1])
    cells = (out / "cells.jsonl").read_text()
    again = json.loads(cotrain("run", "coins", "--out", out, "--json")[1])
    assert again["rows"] == first["rows"]
    assert (out / "cells.jsonl").read_text() == cells
    assert len(cells.splitlines()) == 4


def test_a_recipe_file_of_ones_own(cotrain, tmp_path):
    own = tmp_path / "my_coins.py"
    own.write_text(TINY)
    code, out, _ = cotrain("run", own, "--seeds", "0")
    assert code == 0
    assert "loaded" in out


def test_a_recipe_of_a_method_trains_and_resumes(cotrain, tree):
    (tree / "recipes" / "peers.py").write_text(
        '''"""Two peers; a second."""
from functools import partial

from torch import optim

from cotrain.judge import accuracy
from cotrain.learner import Learner
from cotrain.methods.examples import labelled_rows, two_layer
from cotrain.methods.peers.mutual_learning import MutualLearning
from cotrain.run import Bar, Run
from cotrain.stream import Once

SYSTEMS = ()
CLAIM = "Peers learn."
SEEDS = (0,)


def rows(full=False):
    return {"peers": {}}


def recipe(steps: int = 40, weight: float = 1.0, seed: int = 0) -> Run:
    stream = labelled_rows(seed=seed)
    learners = {n: Learner(two_layer(seed=i), partial(optim.SGD, lr=0.3)) for i, n in enumerate(("one", "two"))}
    judges = [(accuracy(of="one"), Once(stream.data))]
    return Run(MutualLearning(weight=weight), learners, {"labelled": stream}, steps, judges=judges, seed=seed)


def bars(table):
    value = table.mean("peers", "accuracy")
    return [Bar("nearly all right", value, value > 0.9)]
'''
    )
    code, out, _ = cotrain("run", "peers", "--out", tree / "out")
    assert code == 0, out
    (folder,) = (tree / "out").glob("peers-0-*")
    log = (folder / "log.jsonl").read_text()
    (tree / "out" / "cells.jsonl").unlink()
    assert cotrain("run", "peers", "--out", tree / "out")[0] == 0  # from its last checkpoint
    assert (folder / "log.jsonl").read_text() == log
    assert cotrain("run", "peers", "weight=2", "--out", tree / "out")[0] == 0  # beside it
    assert len(list((tree / "out").glob("*/log.jsonl"))) == 2


def test_an_interrupt_while_the_command_line_is_imported(capsys, monkeypatch):
    class Interrupt:
        def find_spec(self, name, *_):
            if name == "cotrain.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "cotrain.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupt(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "cotrain: stopped.\n")


def test_an_interrupt_of_a_command(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["systems"])
    assert ended.value.code == 130


@pytest.mark.parametrize("command", ["fit", "audit-labels"])
def test_the_seed_reaches_the_command(cotrain, monkeypatch, command):
    given = []
    monkeypatch.setattr(commands, command.replace("-", "_"), lambda *arguments: given.append(arguments[-1]))
    assert cotrain(command, "x.csv", "--target", "y", "--seed", "7")[0] == 0
    assert given[0]["seed"] == 7


def test_words_too_many_are_named(cotrain):
    said = "cotrain: Too many words: b.csv c.csv. --help shows what the command takes.\n"
    assert cotrain("fit", "a.csv", "b.csv", "c.csv") == (2, "", said)


@pytest.mark.parametrize(("option", "value"), [("--seed", -1), ("--jobs", 0)])
def test_the_demo_refuses_what_fit_refuses_before_it_begins(cotrain, option, value):
    code, out, err = cotrain("demo", option, value)
    assert (code, out) == (2, "")
    assert err.startswith(f"cotrain: {option} is a")


class TestSystems:
    def test_the_list(self, cotrain):
        code, out, _ = cotrain("systems")
        assert code == 0
        assert "CTCD" in out
        assert len(json.loads(cotrain("systems", "--json")[1])) == 121

    def test_fields(self, cotrain):
        entry = json.loads(cotrain("systems", "--json")[1])[0]
        assert list(entry) == ["number", "name", "family", "kind", "state", "recipes", "results"]

    def test_a_card(self, cotrain):
        built = next(e["number"] for e in json.loads(cotrain("systems", "--json")[1]) if e["state"] != "planned")
        assert cotrain("systems", built)[1].startswith("# ")
        assert json.loads(cotrain("systems", built, "--json")[1])["card"].startswith("# ")

    def test_no_such_system(self, cotrain):
        code, _, err = cotrain("systems", 500)
        assert code == 2
        assert "no system 500" in err
