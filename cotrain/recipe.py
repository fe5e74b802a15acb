"""Recipes: find them, set their arguments from the command line, run their rows over the seeds, judge their bars."""

import ast
import difflib
import hashlib
import importlib.util
import inspect
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

from cotrain import __version__
from cotrain.errors import InputError
from cotrain.progress import progress

PACKAGE = Path(__file__).parent
# In a checkout recipes and results stand beside the package, in an installed wheel inside it.
HOME = PACKAGE if (PACKAGE / "recipes").is_dir() else PACKAGE.parent
RECIPES, RESULTS = HOME / "recipes", HOME / "results"


def files() -> dict[str, Path]:
    """All recipes of the tree, by name."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.py")) if not path.stem.startswith("_")}


def constants(path: Path) -> dict[str, Any]:
    """A recipe's docstring, SYSTEMS and CLAIM, read without running it.

    Raises:
        InputError: the file is no Python, or does not write them out, as (24,) and a text.
    """
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = {"doc": ast.get_docstring(tree) or ""}
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id in ("SYSTEMS", "CLAIM"):
                found[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
        if not _are_numbers(found.get("SYSTEMS", ())):
            raise ValueError("SYSTEMS is no tuple of numbers")
    except (SyntaxError, TypeError, ValueError) as error:
        raise InputError(
            f"The recipe {path.name} cannot be read ({error}): SYSTEMS and CLAIM are written out, as (24,) and a text."
        ) from error
    return found


def _are_numbers(systems: Any) -> bool:
    return isinstance(systems, tuple) and all(isinstance(number, int) for number in systems)


def load(name: str) -> ModuleType:
    """The recipe's module, by its name in the tree or by a path to a file of the user's own.

    Raises:
        InputError: there is none of that name, or the file lacks `recipe`, `rows` or `bars` or cannot be imported.
    """
    known = files()
    path = known.get(name.replace("-", "_"), Path(name))
    if path.suffix != ".py" or not path.is_file():
        near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(f"There is no recipe {name!r}.{hint} `cotrain run` lists the recipes.")
    spec = importlib.util.spec_from_file_location(f"cotrain_recipe_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    beside = str(path.resolve().parent)
    if path not in known.values() and beside not in sys.path:
        sys.path.insert(0, beside)  # a method of the user's own lies beside its recipe, as it would beside a script
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"The recipe {path} cannot be imported: {_said(error, beside)}") from error
    missing = [part for part in ("recipe", "rows", "bars", "SEEDS", "CLAIM", "SYSTEMS") if not hasattr(module, part)]
    if missing:
        raise InputError(f"The recipe {path} lacks {', '.join(missing)}.")
    if not _are_numbers(module.SYSTEMS):
        raise InputError(f"The recipe {path}: SYSTEMS is {module.SYSTEMS!r}, not a tuple of numbers such as (24,).")
    if "seed" not in inspect.signature(module.recipe).parameters:
        raise InputError(f"The recipe {path}: recipe() takes no argument `seed`, which the command gives it.")
    return module


def _said(error: Exception, folder: str) -> str:
    """What an import ended with, and the last line of the folder's files that it came through."""
    if isinstance(error, SyntaxError):
        return str(error)  # names file and line itself
    frames = traceback.extract_tb(error.__traceback__)
    through = [frame for frame in frames if str(Path(frame.filename).resolve().parent) == folder]
    where = f" ({Path(through[-1].filename).name}, line {through[-1].lineno})" if through else ""
    return f"{type(error).__name__}: {error}{where}"


def call(path: str, function: str, *arguments: Any) -> Any:
    """Call a recipe's function by its name: what other processes can be asked for, which cannot import a recipe."""
    return getattr(load(path), function)(*arguments)


def arguments(recipe: Callable[..., Any], tokens: Sequence[str]) -> dict[str, Any]:
    """`key=value` and `--key value` as keyword arguments of the recipe, converted by its signature's types.

    `seed` and `full` are not among them: they are options of the command.

    Raises:
        InputError: an unknown argument, a word without a key, or a value of the wrong type.
    """
    import cyclopts

    signature = inspect.signature(recipe, eval_str=True)
    accepted = [p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values() if p.name not in ("seed", "full")]

    def named_only(**settings: Any) -> None: ...

    named_only.__signature__ = signature.replace(parameters=accepted)  # type: ignore[attr-defined]
    named_only.__annotations__ = {p.name: p.annotation for p in accepted}
    app = cyclopts.App(help_flags=[], version_flags=[], result_action="return_value")
    app.default(named_only)
    words = [f"--{token}" if "=" in token and not token.startswith("-") else token for token in tokens]
    try:
        _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as error:
        takes = ", ".join(p.name for p in accepted) or "no settings"
        said = str(error) if str(error).endswith((".", "?")) else f"{error}."
        raise InputError(f"{said} The recipe takes: {takes} (as key=value).") from error
    return dict(bound.kwargs)


def choose_rows(
    rows: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any], usual: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The table's rows under the user's arguments: what rows set themselves selects rows, the rest applies to all.
    Where that fits no row, one of its own, named by all it is made of: `usual` are the recipe's defaults."""
    chosen = {name: {**row, **given} for name, row in rows.items() if all(row.get(k, v) == v for k, v in given.items())}
    return chosen or {" ".join(f"{k}={v}" for k, v in {**usual, **given}.items() if v is not None): dict(given)}


@dataclass(frozen=True)
class Result:
    """A recipe's table, its bars, and where and how they were measured."""

    name: str
    systems: list[int]
    claim: str
    settings: dict[str, Any]  # what the user set beyond the recipe's own defaults
    full: bool
    seeds: list[int]
    rows: dict[str, dict[str, list[float | None]]]  # row -> metric -> one number a seed, null where it has none
    bars: list[dict[str, Any]]  # text, value, held (null: not evaluated)
    held: bool | None  # all bars; null if none was evaluated
    seconds: float
    commit: str
    version: str
    machine: dict[str, Any]


def run(
    module: ModuleType,
    tokens: Sequence[str] = (),
    *,
    seeds: Sequence[int] | None = None,
    full: bool = False,
    out: Path | None = None,
    title: str | None = None,
) -> tuple[Result, Any]:
    """Every row over every seed: the result and the `run.Table`. With `out`, finished cells are kept and reused.

    Where a launcher started several processes, all of them run every row, and the first one's numbers count.
    """
    import torch

    from cotrain import place
    from cotrain.randomness import seed_torch
    from cotrain.run import Bar, MissingRow, Table

    place.start(place.device_of("auto"))
    started = time.perf_counter()
    given = arguments(module.recipe, tokens)
    parameters = inspect.signature(module.recipe).parameters
    if full and "full" not in parameters and module.rows(True) == module.rows(False):
        raise InputError("The recipe has one setting only, so there is nothing that --full could change.")
    usual = {
        p.name: p.default for p in parameters.values() if p.name not in ("seed", "full") and p.default is not p.empty
    }
    rows = choose_rows(module.rows(full), given, usual)
    seeds = sorted(set(module.SEEDS if seeds is None else seeds))
    path = Path(module.__file__ or "recipe")
    table = Table()
    store = _Cells(None if out is None else out / "cells.jsonl", source=path)
    with progress(title if place.first() else None, total=len(rows) * len(seeds)) as advance:
        for seed in seeds:
            for row, settings in rows.items():
                keywords = {**settings, "seed": seed, **({"full": True} if full and "full" in parameters else {})}
                key, numbers = place.everywhere(store.look_up(row, keywords))[0]
                if numbers is None:
                    folder = None if out is None else out / f"{_slug(row)}-{seed}-{key[:8]}"
                    with torch.random.fork_rng(devices=[]):
                        seed_torch(seed)  # of nets that are made without a seed of their own
                        measured = _measure(module.recipe(**keywords), folder)
                    numbers = place.everywhere(measured)[0]
                    if place.first():
                        store.put(key, numbers)
                table.add(row, seed, numbers)
                advance()
    try:
        asked = module.bars(table)
        asked = [asked] if isinstance(asked, Bar) else asked
        bars = [{**asdict(bar), "value": _finite(bar.value), "held": bool(bar.held)} for bar in asked]
    except MissingRow as missing:
        bars = [{"text": f"not evaluated: {missing} was not run", "value": None, "held": None}]
    evaluated = [bar["held"] for bar in bars if bar["held"] is not None]
    result = Result(
        name=path.stem,
        systems=list(module.SYSTEMS),
        claim=module.CLAIM,
        settings={k: v if isinstance(v, bool | int | float) else str(v) for k, v in given.items()},
        full=full,
        seeds=seeds,
        rows={
            row: {metric: [_finite(value) for value in values] for metric, values in table.columns(row).items()}
            for row in table.cells
        },
        bars=bars,
        held=all(evaluated) if evaluated else None,
        seconds=round(time.perf_counter() - started, 1),
        commit=commit(),
        version=__version__,
        machine=machine(),
    )
    return result, table


def _finite(value: float | None) -> float | None:
    """JSON has no nan."""
    return None if value is None or not isfinite(value) else float(value)


def _measure(runnable: Any, folder: Path | None) -> dict[str, float]:
    """What the recipe's object measures; `out` goes to those that take it."""
    takes_out = "out" in inspect.signature(runnable.measure).parameters
    return runnable.measure(out=folder) if takes_out else runnable.measure()


def check_recordable(module: ModuleType, tokens: Sequence[str], seeds: Sequence[int] | None) -> None:
    """To be asked before a run that may take hours.

    Raises:
        InputError: settings or seeds other than the recipe's own, or a recipe that is not in the tree; such a run is
            no result.
    """
    path = Path(module.__file__ or "").resolve()
    if path not in [known.resolve() for known in files().values()]:
        raise InputError(f"--record takes a recipe of {RECIPES}; of your own file, keep the output of --json.")
    if tokens or not set(module.SEEDS) <= set(module.SEEDS if seeds is None else seeds):
        raise InputError("--record takes the recipe's own settings and at least its own seeds.")


def record(result: Result) -> Path:
    """Write `results/<name>.json`."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{result.name}{'_full' if result.full else ''}.json"
    path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return path


def commit() -> str:
    """The checkout's commit, with "+changes" if the tree differs from it or has code that is not in it; "" outside a
    checkout of cotrain."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != HOME.resolve():
            return ""  # installed within somebody else's
        found = _git("describe", "--always", "--abbrev=12", "--exclude=*")
        code = _git("status", "--porcelain", "--", "cotrain", "recipes")  # new files, too
        return found + "+changes" * bool(code or _git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(HOME), *words], capture_output=True, text=True, check=True).stdout.strip()


def machine() -> dict[str, Any]:
    """Size and versions, nothing that names the machine."""
    from importlib.metadata import version

    names = ("torch", "numpy", "scikit-learn")
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)


class _Cells:
    """Finished cells of the table as JSON lines, so that a run that was cut off does not repeat them.

    A cell is known by its row, its arguments and the text of the package, the recipe and what lies beside it: what
    changed starts anew.
    """

    def __init__(self, file: Path | None, source: Path):
        self.file = file
        code = hashlib.sha256()
        for path in [*sorted(source.parent.glob("*.py")), *sorted(PACKAGE.rglob("*.py"))]:
            if path.is_file():
                code.update(path.read_bytes() + b"\0")
        self.code = code.hexdigest()
        self.done: dict[str, dict[str, float]] = {}
        if file is not None and file.exists():
            for line in file.read_text().splitlines():
                try:
                    cell = json.loads(line)
                    self.done[cell["key"]] = cell["numbers"]
                except (json.JSONDecodeError, KeyError):  # a line that was cut off
                    continue

    def look_up(self, row: str, keywords: Mapping[str, Any]) -> tuple[str, dict[str, float] | None]:
        """The cell's key, hexadecimal, and its numbers if it is finished."""
        known = json.dumps([self.code, row, keywords], sort_keys=True, default=str)
        key = hashlib.sha256(known.encode()).hexdigest()
        return key, self.done.get(key)

    def put(self, key: str, numbers: dict[str, float]) -> None:
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        cut = self.file.exists() and not self.file.read_bytes().endswith(b"\n")
        with self.file.open("a") as out:
            out.write("\n" * cut + json.dumps({"key": key, "numbers": numbers}) + "\n")
