"""What may import what, read from the files; and what the command line does not load."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cotrain

PACKAGE = Path(cotrain.__file__).parent
HOME = PACKAGE.parent
# Imports go to the same level or a lower one, never to a higher one. A module stands at the level of the longest
# name that fits it.
LEVELS = {
    "recipes": 5,
    "benchmarks": 5,
    "cotrain.cli": 5,
    "cotrain.__main__": 5,
    "cotrain.auto": 4,
    "cotrain.methods": 3,
    "cotrain.estimators": 3,
    "cotrain.conformance": 4,  # looks at all methods
    "cotrain.conformance_ranks": 4,
    "cotrain.exchanges": 2,
    "cotrain.instruments": 2,
    "cotrain": 1,  # the nouns and the machine room
    "cotrain.allreduce": 0,
    "cotrain.losses": 0,
    "cotrain.gradients": 0,
    "cotrain.nets": 0,
    "cotrain.optim": 0,
    "cotrain.views": 1,
    "cotrain.data": 1,
    "cotrain.errors": 0,
    "cotrain.randomness": 0,
    "cotrain.place": 0,
    "cotrain.units": 0,
}


def level(module: str) -> int | None:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in LEVELS:
            return LEVELS[name]
    return None


def files():
    for folder in (PACKAGE, HOME / "recipes", HOME / "benchmarks"):
        for path in sorted(folder.rglob("*.py")):
            yield ".".join(path.relative_to(HOME).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path: Path) -> set[str]:
    """The modules of the project that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            inside = node.module == "cotrain" or (PACKAGE / Path(*node.module.split(".")[1:])).is_dir()
            found |= {f"{node.module}.{alias.name}" for alias in node.names} if inside else {node.module}
    return {name for name in found if name.split(".")[0] in ("cotrain", "recipes", "benchmarks")}


@pytest.mark.parametrize(("module", "path"), list(files()), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_run_one_way(module, path):
    # The package's own __init__ names everything lazily.
    if module == "cotrain":
        return
    for other in imports(path):
        assert level(other) <= level(module), f"{module} imports {other}, which stands above it"


def test_the_levels_are_what_the_design_says():
    chain = ["cotrain.cli", "cotrain.auto", "cotrain.methods", "cotrain.exchanges", "cotrain.losses"]
    heights = [level(name) for name in chain]
    assert heights == sorted(heights, reverse=True)
    assert level("cotrain.methods.peers.tri_training") == level("cotrain.estimators.co_training")


def test_the_engine_names_no_method_and_methods_no_engine():
    words = {path.stem for path in (PACKAGE / "methods").rglob("*.py")} - {"__init__", "examples"}
    room = ["engine", "learner", "stream", "method", "exchange", "checkpoint", "place", "precision", "judge", "report"]
    for name in room:
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        names = {node.id.lower() for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert not names & (words | {word.replace("_", "") for word in words}), name
        assert not any("cotrain.methods" in module for module in imports(PACKAGE / f"{name}.py")), name
    for path in (PACKAGE / "methods").rglob("*.py"):
        forbidden = {"cotrain.engine", "cotrain.checkpoint", "cotrain.run", "cotrain.precision"}
        assert not imports(path) & forbidden, path


@pytest.mark.parametrize("folder", ["losses", "exchanges", "gradients", "nets", "optim", "watch"])
def test_the_parts_work_without_the_engine(folder):
    seen, todo = set(), [f"cotrain.{folder}.{path.stem}" for path in (PACKAGE / folder).glob("*.py")]
    while todo:
        module = todo.pop()
        path = PACKAGE / Path(*module.split(".")[1:]).with_suffix(".py")
        if module in seen or not path.is_file():
            continue
        seen.add(module)
        todo += imports(path)
    assert "cotrain.engine" not in seen


HEAVY = ("torch", "sklearn", "pandas", "scipy", "numpy", "matplotlib", "pyarrow")


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["systems"],
        ["systems", "--json"],
        ["run"],
        ["run", "--json"],
        ["fit", "--help"],
        ["doctor", "--help"],
    ],
)
def test_the_command_line_starts_light(command):
    program = (
        "import sys, json\nfrom cotrain.cli import main\nsys.argv = ['cotrain', *json.loads(sys.argv[1])]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(command)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_import_cotrain_is_light_and_its_names_are_there():
    program = f"import sys, cotrain\nprint([name for name in {HEAVY!r} if name in sys.modules], len(dir(cotrain)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert len(cotrain.__all__) <= 25
    for name in cotrain.__all__:
        assert getattr(cotrain, name) is not None


def test_type_checkers_see_the_names_that_are_imported_on_first_use():
    inside = next(node for node in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(node, ast.If))
    assert ast.unparse(inside.test) == "TYPE_CHECKING"
    seen = {alias.asname: node.module for node in inside.body for alias in node.names}
    assert seen == {name: f"cotrain.{home}" for name, home in cotrain._HOMES.items()}
    assert (PACKAGE / "py.typed").is_file()


def test_modules_that_the_guides_name_are_there_after_import():
    program = "import cotrain; print(cotrain.engine.fit.__name__, cotrain.place.__name__, cotrain.stack.__name__)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout == "fit cotrain.place cotrain.stack\n", ran.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trainer'"):
        cotrain.trainer  # noqa: B018
