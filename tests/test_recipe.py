"""Recipes: found, read without running, their arguments from words, their rows over seeds, cells kept."""

import json
import subprocess
import sys
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cotrain import recipe
from cotrain.errors import InputError

TINY = '''"""Measures nothing much; a second.

More words."""
from typing import Literal

from cotrain.run import Bar

SYSTEMS: tuple[int, ...] = (24, 33)
CLAIM = "Ours is " "better."
SEEDS = range(2)


def rows(full=False):
    return {"ours": {"kind": "ours"}, "theirs": {"kind": "theirs"}}


def recipe(kind: Literal["ours", "theirs"] = "ours", gain: float = 0.1, scale: int = 1, seed: int = 0, full=False):
    return Cell(0.5 + (gain if kind == "ours" else 0) + 0.01 * seed, full)


class Cell:
    def __init__(self, value, full):
        self.value, self.full = value, full

    def measure(self):
        return {"accuracy": self.value, "full": float(self.full)}


def bars(table):
    gain = table.mean("ours", "accuracy") - table.mean("theirs", "accuracy")
    return [Bar("ours beats theirs by 5 points", gain, gain >= 0.05)]
'''


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    return path


def take(
    algorithm: Literal["self-training", "em"] = "em",
    labels: int = 5,
    learning_rate: float = 0.1,
    mixup: bool = False,
    name: str | None = None,
    layers: tuple[int, ...] = (1, 2),
    seed: int = 0,
    full: bool = False,
): ...


class TestArguments:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ([], {}),
            (["labels=7"], {"labels": 7}),
            (["--labels", "7"], {"labels": 7}),
            (["--labels=7"], {"labels": 7}),
            (["learning_rate=1e-3"], {"learning_rate": 0.001}),
            (["--learning-rate", "2"], {"learning_rate": 2.0}),
            (["algorithm=self-training"], {"algorithm": "self-training"}),
            (["mixup=true"], {"mixup": True}),
            (["--no-mixup"], {"mixup": False}),
            (["name=a=b"], {"name": "a=b"}),
            (["layers=3", "layers=4"], {"layers": (3, 4)}),
            (["labels=7", "mixup=true"], {"labels": 7, "mixup": True}),
        ],
    )
    def test_words_become_typed_arguments(self, words, expected):
        got = recipe.arguments(take, words)
        assert got == expected
        assert {key: type(value) for key, value in got.items()} == {key: type(value) for key, value in expected.items()}

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["lables=7"], "Unknown option"),
            (["7"], "7"),
            (["labels=many"], "unable to convert"),
            (["algorithm=magic"], "Choose from"),
            (["labels=1", "labels=2"], "multiple times"),
            (["--labels"], "requires an argument"),
            (["seed=3"], "Unknown option"),
            (["full=true"], "Unknown option"),
        ],
    )
    def test_others_are_refused_and_the_accepted_ones_named(self, words, said):
        with pytest.raises(InputError, match=said) as error:
            recipe.arguments(take, words)
        assert "The recipe takes: algorithm, labels, learning_rate, mixup, name, layers (as key=value)." in str(
            error.value
        )

    @given(st.integers())
    def test_any_integer(self, number):
        assert recipe.arguments(take, [f"labels={number}"]) == {"labels": number}

    def test_annotations_that_are_strings(self):
        def postponed(labels: "int" = 3, seed: "int" = 0): ...

        assert recipe.arguments(postponed, ["labels=4"]) == {"labels": 4}


ROWS = {"ours": {"kind": "ours", "labels": 5}, "theirs": {"kind": "theirs"}}


class TestChooseRows:
    def test_no_settings_leave_all_rows(self):
        assert recipe.choose_rows(ROWS, {}, {}) == ROWS

    def test_what_rows_set_selects_and_the_rest_applies_to_all(self):
        assert recipe.choose_rows(ROWS, {"scale": 2}, {}) == {name: {**row, "scale": 2} for name, row in ROWS.items()}
        assert recipe.choose_rows(ROWS, {"kind": "theirs"}, {}) == {"theirs": {"kind": "theirs"}}
        both = {"ours": {"kind": "ours", "labels": 5, "scale": 2}}
        assert recipe.choose_rows(ROWS, {"kind": "ours", "scale": 2}, {}) == both

    def test_settings_that_no_row_has_make_a_row_of_their_own(self):
        usual = {"kind": "ours", "gain": 0.1, "limit": None}
        expected = {"kind=third gain=0.1": {"kind": "third"}}
        assert recipe.choose_rows(ROWS, {"kind": "third"}, usual) == expected


class TestFind:
    def test_constants_are_read_without_running(self, tiny):
        tiny.write_text(TINY + "\nraise RuntimeError\n")
        found = recipe.constants(tiny)
        assert found == {
            "doc": "Measures nothing much; a second.\n\nMore words.",
            "SYSTEMS": (24, 33),
            "CLAIM": "Ours is better.",
        }

    @pytest.mark.parametrize("line", ["def broken(:", "SYSTEMS = 24", 'SYSTEMS = ("24",)', 'CLAIM = f"{1} point"'])
    def test_constants_that_cannot_be_read_are_named(self, tiny, line):
        tiny.write_text(TINY + f"\n{line}\n")
        with pytest.raises(InputError, match=rf"recipe {tiny.name} cannot be read .*as \(24,\) and a text"):
            recipe.constants(tiny)

    def test_by_path(self, tiny):
        assert recipe.load(str(tiny)).CLAIM == "Ours is better."

    def test_every_recipe_of_the_tree_has_what_the_lists_show(self):
        for path in recipe.files().values():
            found = recipe.constants(path)
            assert found["doc"], path
            assert isinstance(found["SYSTEMS"], tuple), path
            assert found["CLAIM"], path

    def test_an_unknown_name_suggests_the_nearest(self, monkeypatch, tiny):
        monkeypatch.setattr(recipe, "RECIPES", tiny.parent)
        with pytest.raises(InputError, match=r"no recipe 'tinny'. Did you mean 'tiny'\? `cotrain run` lists"):
            recipe.load("tinny")

    def test_names_may_be_written_with_hyphens(self, monkeypatch, tmp_path):
        (tmp_path / "two_words.py").write_text(TINY)
        monkeypatch.setattr(recipe, "RECIPES", tmp_path)
        assert recipe.load("two-words").__file__ == str(tmp_path / "two_words.py")

    def test_a_method_beside_a_recipe_of_ones_own_is_found(self, tiny, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tiny.parent / "my_own_gain.py").write_text("GAIN = 0.2")
        tiny.write_text(TINY.replace("gain: float = 0.1", "gain: float = GAIN").replace(
            "from typing", "from my_own_gain import GAIN\nfrom typing"))  # fmt: skip
        assert recipe.run(recipe.load(str(tiny)))[0].rows["ours"]["accuracy"][0] == pytest.approx(0.7)

    @pytest.mark.parametrize(("text", "words"), [("import no_such_module", "no_such_module"), ("x = (", "was never")])
    def test_a_file_that_cannot_be_imported_is_refused(self, tmp_path, text, words):
        (tmp_path / "faulty.py").write_text(text)
        with pytest.raises(InputError, match=f"faulty.py cannot be imported: .*{words}"):
            recipe.load(str(tmp_path / "faulty.py"))

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("= (24, 33)", "= 24", r"SYSTEMS is 24, not a tuple of numbers such as \(24,\)"),
            ("seed: int = 0", "number: int = 0", "takes no argument `seed`"),
        ],
    )
    def test_parts_of_another_form_are_refused_before_anything_runs(self, tiny, old, new, words):
        assert old in TINY
        tiny.write_text(TINY.replace(old, new))
        with pytest.raises(InputError, match=words):
            recipe.load(str(tiny))

    def test_a_file_that_lacks_parts_is_refused(self, tmp_path):
        path = tmp_path / "half.py"
        path.write_text("SEEDS = range(3)\ndef recipe(): ...\n")
        with pytest.raises(InputError, match="lacks rows, bars, CLAIM, SYSTEMS"):
            recipe.load(str(path))


class TestRun:
    def test_nets_without_a_seed_of_their_own_are_the_same_each_time_and_a_single_bar_will_do(self, tiny):
        text = TINY.replace('"accuracy": self.value', '"accuracy": nn.Linear(3, 1).weight.sum().item()')
        text = text.replace("return [Bar(", "return (Bar(").replace("gain >= 0.05)]", "gain >= 0.05))")
        tiny.write_text(text.replace("from cotrain.run", "from torch import nn\n\nfrom cotrain.run"))
        before = torch.random.get_rng_state()
        (first, _), (again, _) = (recipe.run(recipe.load(str(tiny))) for _ in range(2))
        assert first.rows == again.rows
        assert len(set(first.rows["ours"]["accuracy"])) == 2  # another seed, other weights
        assert [bar["text"] for bar in first.bars] == ["ours beats theirs by 5 points"]
        assert torch.equal(before, torch.random.get_rng_state())

    def test_every_row_over_every_seed(self, tiny):
        result, table = recipe.run(recipe.load(str(tiny)))
        assert result.rows == {
            "ours": {"accuracy": [0.6, 0.61], "full": [0.0, 0.0]},
            "theirs": {"accuracy": [0.5, 0.51], "full": [0.0, 0.0]},
        }
        assert result.held is True
        assert result.bars[0]["text"] == "ours beats theirs by 5 points"
        assert result.seeds == [0, 1]
        assert (result.systems, result.claim, result.settings, result.full) == ([24, 33], "Ours is better.", {}, False)
        assert table.mean("ours", "accuracy") == pytest.approx(0.605)
        json.dumps(result.__dict__)

    def test_settings_seeds_and_full(self, tiny):
        result, _ = recipe.run(recipe.load(str(tiny)), ["gain=0.01"], seeds=[7, 3, 7], full=True)
        assert result.settings == {"gain": 0.01}
        assert result.seeds == [3, 7]
        assert result.rows["ours"] == {"accuracy": [pytest.approx(0.54), pytest.approx(0.58)], "full": [1.0, 1.0]}
        assert result.held is False

    def test_a_bar_whose_rows_were_not_run_is_not_evaluated(self, tiny):
        result, _ = recipe.run(recipe.load(str(tiny)), ["kind=ours"])
        assert result.held is None
        assert "'theirs'" in result.bars[0]["text"]

    def test_finished_cells_are_kept(self, tiny, tmp_path):
        out = tmp_path / "out"
        first, _ = recipe.run(recipe.load(str(tiny)), out=out)
        module = recipe.load(str(tiny))
        module.recipe = forbidden(module.recipe, seeds=(0, 1))
        again, _ = recipe.run(module, seeds=[0, 1, 2], out=out)
        assert {name: row["accuracy"][:2] for name, row in again.rows.items()} == {
            name: row["accuracy"] for name, row in first.rows.items()
        }

    def test_a_cut_off_line_is_measured_again(self, tiny, tmp_path):
        first, _ = recipe.run(recipe.load(str(tiny)), out=tmp_path)
        cells = tmp_path / "cells.jsonl"
        cells.write_text(cells.read_text()[:-20])
        assert recipe.run(recipe.load(str(tiny)), out=tmp_path)[0].rows == first.rows
        module = recipe.load(str(tiny))
        module.recipe = forbidden(module.recipe, seeds=(0, 1))  # what was written behind it can be read
        assert recipe.run(module, out=tmp_path)[0].rows == first.rows

    def test_numbers_of_other_code_are_not_taken_for_this(self, tiny, tmp_path, monkeypatch):
        package, out = tmp_path / "package", tmp_path / "out"
        (package / "losses").mkdir(parents=True)
        (package / "losses" / "ramps.py").write_text("AT_ONCE = 0")
        monkeypatch.setattr(recipe, "PACKAGE", package)
        written = []
        for text in ("AT_ONCE = 0", "AT_ONCE = 1", "AT_ONCE = 1"):
            (package / "losses" / "ramps.py").write_text(text)
            recipe.run(recipe.load(str(tiny)), out=out)
            written.append(len((out / "cells.jsonl").read_text().splitlines()))
        assert written == [4, 8, 8]

    def test_a_changed_recipe_or_other_settings_start_anew(self, tiny, tmp_path):
        recipe.run(recipe.load(str(tiny)), out=tmp_path)
        assert recipe.run(recipe.load(str(tiny)), ["gain=0.3"], out=tmp_path)[0].rows["ours"]["accuracy"][0] == 0.8
        tiny.write_text(TINY.replace("0.5 +", "0.25 +"))
        assert recipe.run(recipe.load(str(tiny)), out=tmp_path)[0].rows["theirs"]["accuracy"][0] == 0.25

    def test_the_larger_setting_must_be_one(self, tiny):
        tiny.write_text(TINY.replace("seed: int = 0, full=False", "seed: int = 0").replace("seed, full)", "seed, 0)"))
        with pytest.raises(InputError, match="one setting only"):
            recipe.run(recipe.load(str(tiny)), full=True)

    def test_a_measure_that_takes_a_folder_gets_one_of_its_own(self, tiny, tmp_path):
        text = TINY.replace("def measure(self):", "def measure(self, out=None):\n        out.mkdir()")
        tiny.write_text(text)
        recipe.run(recipe.load(str(tiny)), out=tmp_path)
        recipe.run(recipe.load(str(tiny)), ["gain=0.3"], out=tmp_path)  # `mkdir` fails in a folder that is there
        folders = sorted(p.name.rpartition("-")[0] for p in tmp_path.iterdir() if p.is_dir() and "-" in p.name)
        assert folders == ["ours-0", "ours-0", "ours-1", "ours-1", "theirs-0", "theirs-0", "theirs-1", "theirs-1"]


def forbidden(function, seeds):
    def guarded(kind: str = "ours", gain: float = 0.1, scale: int = 1, seed: int = 0, full: bool = False):
        assert seed not in seeds, "a finished cell is measured again"
        return function(kind=kind, gain=gain, scale=scale, seed=seed, full=full)

    return guarded


class TestRecord:
    @pytest.fixture
    def module(self, tiny, monkeypatch, tmp_path):
        monkeypatch.setattr(recipe, "RECIPES", tmp_path)
        monkeypatch.setattr(recipe, "RESULTS", tmp_path / "results")
        return recipe.load("tiny")

    def test_a_result_is_written_with_where_it_comes_from(self, module, tmp_path):
        recipe.check_recordable(module, [], None)
        path = recipe.record(recipe.run(module)[0])
        written = json.loads(path.read_text())
        assert path == tmp_path / "results" / "tiny.json"
        assert written["seeds"] == [0, 1]
        assert written["held"] is True
        assert written["machine"]["cores"] >= 1
        assert "torch" in written["machine"]
        assert "hostname" not in path.read_text()

    def test_the_full_setting_has_a_file_of_its_own(self, module):
        assert recipe.record(recipe.run(module, full=True)[0]).name == "tiny_full.json"

    def test_more_seeds_are_welcome_fewer_or_other_settings_are_not(self, module):
        recipe.check_recordable(module, [], [0, 1, 2])
        for words, seeds in ((["gain=0.2"], None), ([], [0]), ([], [1, 2])):
            with pytest.raises(InputError, match="own settings and at least its own seeds"):
                recipe.check_recordable(module, words, seeds)

    def test_a_file_that_is_not_in_the_tree_is_not_recorded(self, tmp_path):
        other = tmp_path / "mine.py"
        other.write_text(TINY)
        with pytest.raises(InputError, match="--record takes a recipe of"):
            recipe.check_recordable(recipe.load(str(other)), [], None)


def test_commit_names_the_checkout_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "HOME", tmp_path)
    assert recipe.commit() == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    assert len(recipe.commit()) == 12
    (tmp_path / "table.csv").write_text("x")  # no code
    assert len(recipe.commit()) == 12
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "new.py").write_text("x = 1")
    assert recipe.commit().endswith("+changes")
    (tmp_path / "recipes" / "new.py").unlink()
    (tmp_path / "file").write_text("two")
    assert recipe.commit().endswith("+changes")
    monkeypatch.setattr(recipe, "HOME", tmp_path / "recipes")  # installed within somebody else's checkout
    assert recipe.commit() == ""
