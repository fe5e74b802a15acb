"""The command line. Heavy imports stand inside the commands, so that help and lists come at once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

import cotrain
from cotrain import show
from cotrain.errors import CotrainError, InputError

app = App(
    name="cotrain",
    help="Train things together: few labels and many unlabelled rows in, a model and an honest report out.",
    version=cotrain.__version__,
    suppress_keyboard_interrupt=False,  # `main` says that it was stopped
)

Names = Annotated[
    tuple[str, ...], Parameter(negative="", show_default=False)
]  # the option may be given again for another column
Json = Annotated[bool, Parameter(name="--json", negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Table:
    """What the columns of a table hold. What no column is named for is found by looking."""

    target: str | None = None
    "The column of the labels; an empty cell is a row without a label."
    text: Names = ()
    "A column of text."
    image: Names = ()
    "A column of image files, relative to the table."
    audio: Names = ()
    "A column of sound files, relative to the table."
    drop: Names = ()
    "A column to leave out."
    group: Names = ()
    "A column whose equal rows (a speaker, a patient) must not be both learnt from and judged on."
    unlabelled: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    'A value of the target that means "no label".'
    more: Annotated[tuple[Path, ...], Parameter(negative="", show_default=False)] = ()
    "Another table, whose rows count as if they stood in DATA; the labels may be missing there."
    encoder: Names = ("auto",)
    "Pretrained encoders as views: auto (those on this disk), none, a path or a name."
    jobs: int = 2
    "Threads."


@Parameter(name="*")
@dataclass(frozen=True)
class Aim:
    """What counts as good, and on which rows."""

    test: Path | None = None
    "A table with labels to score on at the end."
    prior: str = "auto"
    "Shares of the classes among the rows to come: auto, label, uniform, or a:0.1,b:0.9."
    metric: str = "auto"
    "What counts: accuracy, balanced accuracy, or auto: balanced where a class is rare."


@app.command
def fit(
    data: Path,
    /,
    *,
    table: Table = Table(),
    aim: Aim = Aim(),
    budget: str = "3m",
    coverage: float = 0.9,
    method: str | None = None,
    seed: int = 0,
    out: Path | None = None,
    as_json: Json = False,
):
    """Few labels in; the best model, a small one and an honest report out.

    Parameters
    ----------
    data:
        CSV, TSV, Parquet, Feather, JSON lines, NPZ, or a folder with a labels.csv or a subfolder for each class. Text
        files may be packed: gzip, bzip2, xz, zip.
    budget:
        Time for everything: 90s, 3m, 1h.
    coverage:
        Of the sets of classes that cannot be ruled out, between 0 and 1.
    method:
        Try only these learners: supervised, emnb, graph, self-training, cotraining, ...
    seed:
        Of everything random.
    out:
        Folder for model/, student/, report.html and report.json.
    as_json:
        Print report.json instead of the summary.
    """
    from cotrain.auto import commands

    options = {"budget": budget, "coverage": coverage, "method": method, "seed": seed}
    commands.fit(data, out, as_json, vars(table) | vars(aim) | options)


@app.command
def predict(
    folder: Path, data: Path, /, *, student: Annotated[bool, Parameter(negative="")] = False, out: Path | None = None
):
    """Predict the class of each row: columns `prediction` and `p:CLASS`, in the order of the rows.

    Parameters
    ----------
    folder:
        What `cotrain fit --out` wrote.
    data:
        A table with the same columns; the target may be missing.
    student:
        Use the small model.
    out:
        A CSV file; standard output without it.
    """
    from cotrain.auto import commands

    commands.predict(folder, data, student, out)


@app.command
def compare(
    data: Path,
    /,
    *,
    table: Table = Table(),
    aim: Aim = Aim(),
    methods: str = "supervised,auto",
    seeds: int = 5,
    budget: str = "3m",
    as_json: Json = False,
):
    """Methods side by side on the same rows: mean and standard deviation over seeds, and seconds.

    Parameters
    ----------
    data:
        As for fit.
    methods:
        Names with commas between: supervised, emnb, graph, self-training, cotraining, tri-training, auto, ...
    seeds:
        How often the labelled rows are split anew.
    budget:
        Time for each seed.
    as_json:
        Print all numbers for programs.
    """
    from cotrain.auto import commands

    options = {"methods": methods, "seeds": seeds, "budget": budget}
    commands.compare(data, as_json, vars(table) | vars(aim) | options)


@app.command
def label_next(
    folder: Path,
    data: Path,
    /,
    *,
    number: Annotated[int, Parameter(name=["-n", "--number"])] = 20,
    as_json: Json = False,
):
    """Which rows to label next, with reasons.

    Parameters
    ----------
    folder:
        What `cotrain fit --out` wrote.
    data:
        The table; rows with a label are passed over.
    number:
        How many rows.
    as_json:
        Print the list for programs.
    """
    from cotrain.auto import commands

    commands.label_next(folder, data, number, as_json)


@app.command
def audit_labels(
    data: Path,
    /,
    *,
    table: Table = Table(),
    number: Annotated[int, Parameter(name=["-n", "--number"])] = 50,
    budget: str = "1m",
    seed: int = 0,
    as_json: Json = False,
):
    """Labels in doubt: those that learners who had not seen them find unlikely, duplicates, and conflicts.

    Parameters
    ----------
    data:
        As for fit.
    number:
        The most suspicious labels listed.
    budget:
        Time for everything.
    seed:
        Of everything random.
    as_json:
        Print what was found for programs.
    """
    from cotrain.auto import commands

    commands.audit_labels(data, as_json, vars(table) | {"most": number, "budget": budget, "seed": seed})


@app.command
def report(folder: Path, /, *, as_json: Json = False):
    """Render report.html again from report.json, and print the summary.

    Parameters
    ----------
    folder:
        What `cotrain fit --out` wrote.
    as_json:
        Print the values instead of the summary.
    """
    from cotrain.auto import commands

    commands.report(folder, as_json)


@app.command
def demo(*, out: Path = Path("cotrain-demo"), seed: int = 0, budget: str = "1m", jobs: int = 2):
    """Fit on the SMS messages that ship with the package: 20 labels are shown, the others hidden, some used to score.

    Parameters
    ----------
    out:
        Folder for model, student and report.
    seed:
        Which labels are shown.
    budget:
        Time for everything.
    jobs:
        Threads.
    """
    from cotrain.auto import commands

    commands.demo(out, seed, budget, jobs)


@app.command
def doctor(*, folder: Path = Path(), as_json: Json = False):
    """Look at this machine, or at all ranks under a launcher, before a long run; name the rank that is odd.

    Speed of matrix products and of the folder's disk on each rank, all-reduce between them, clocks, memory, versions.
    For all ranks: torchrun --nproc-per-node 4 --no-python cotrain doctor

    Parameters
    ----------
    folder:
        Where the run will write.
    as_json:
        Print everything measured for programs.
    """
    from cotrain import doctor as checks

    checks.run(folder, as_json)


@app.command
def systems(number: int | None = None, /, *, as_json: Json = False):
    """List the 121 published systems and how far each has come; with a number, show its card.

    Parameters
    ----------
    number:
        Show the card of this system.
    as_json:
        Print the list, or the one system with its card, for programs.
    """
    from cotrain import systems as tree

    entries = [system.to_dict() for system in tree.systems()]
    if number is not None:
        text = tree.card(number)
        if as_json:
            entry = next(entry for entry in entries if entry["number"] == number)
            print(json.dumps({**entry, "card": text}, indent=1))
        elif show.on_terminal():
            from rich.markdown import Markdown

            show.console().print(Markdown(text))
        else:
            print(text)
        return
    if as_json:
        print(json.dumps(entries, indent=1))
    else:
        show.table(
            "Systems", [{**e, "recipes": " ".join(e["recipes"]), "results": " ".join(e["results"])} for e in entries]
        )
    for fault in tree.faults():
        show.aside(f"cotrain: {fault}")


@app.command
def run(
    name: str | None = None,
    /,
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True)],
    seeds: str | None = None,
    full: Annotated[bool, Parameter(negative="")] = False,
    record: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
    out: Path | None = None,
):
    """Run a recipe with its baselines over its seeds and hold it to its bar; alone, list the recipes.

    The exit code is 0 if the bar held, or none was evaluated because settings left out a row of it, and 3 if it did not
    hold.

    Parameters
    ----------
    name:
        A recipe of the list, or the path of a recipe file of your own.
    settings:
        The recipe's arguments, as key=value or --key value.
    seeds:
        Which seeds, as 0,1,2 or 0-9; the recipe's own if not given.
    full:
        The paper's setting instead of the one that fits a laptop.
    record:
        Write results/NAME.json.
    as_json:
        Print the result for programs.
    out:
        Keep logs, checkpoints and finished cells here; a run that was cut off goes on.
    """
    from cotrain import recipe

    if name is None:
        listed = [{"recipe": key, **_summary(path)} for key, path in recipe.files().items()]
        print(json.dumps(listed, indent=1)) if as_json else show.table("Recipes", listed)
        return
    module = recipe.load(name)
    if record:
        recipe.check_recordable(module, settings, _seeds(seeds))
    result, table = recipe.run(module, settings, seeds=_seeds(seeds), full=full, out=out, title=name)
    from cotrain.place import first

    if not first():  # one of several processes; another one shows
        raise SystemExit(3 if result.held is False else 0)
    if record:
        recipe.record(result)
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(result), indent=1))
    else:
        show.table(f"{name}, seeds {', '.join(map(str, result.seeds))}", table.summary())
        show.line(f"Claimed: {result.claim}")
        for bar in result.bars:
            verdict = {True: "held", False: "did not hold", None: ""}[bar["held"]]
            value = "" if bar["value"] is None else f" ({bar['value']:.4g})"
            show.line(f"{bar['text']}{value} {verdict}")
        show.line({True: "The bar held.", False: "The bar did not hold.", None: "No bar was evaluated."}[result.held])
    if result.held is False:
        raise SystemExit(3)


@app.command
def launch(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    nproc: int = 1,
    nnodes: int = 1,
    rendezvous: str | None = None,
    max_restarts: int = 0,
):
    """Start a run in several processes, on this machine or on several: `cotrain launch --nproc 2 run RECIPE`.

    Options of the command itself come behind it.

    Parameters
    ----------
    command:
        A command of cotrain, or a script ending in .py, with its arguments.
    nproc:
        Processes on each machine: one for each GPU.
    nnodes:
        Machines; give the same command on each.
    rendezvous:
        HOST:PORT of one of several machines.
    max_restarts:
        How often everything is started again after a process died.
    """
    from cotrain.launch import launch as start

    start(command, nproc, nnodes, rendezvous, max_restarts)


def _summary(path: Path) -> dict[str, str]:
    from cotrain import recipe

    try:
        constants = recipe.constants(path)
    except InputError as error:
        return {"systems": "", "what": str(error)}
    numbers = ", ".join(map(str, constants.get("SYSTEMS", ())))
    return {"systems": numbers, "what": constants["doc"].split("\n")[0]}


def _seeds(text: str | None) -> list[int] | None:
    """`0,3,5-9` as a list."""
    if text is None:
        return None
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            seeds += range(int(first), int(last or first) + 1)
        if not seeds:
            raise ValueError
    except ValueError:
        raise InputError(f"--seeds takes whole numbers as 0,1,2 or 0-9, not {text!r}.") from None
    return seeds


def main(tokens: list[str] | None = None) -> None:
    """Entry point: what the user can mend is one sentence and exit code 2, never a traceback."""
    code: Any = 0
    said = ""
    try:
        app(tokens, exit_on_error=False, print_error=False)
    except SystemExit as ended:  # so do all commands
        code = ended.code
    except UnusedCliTokensError as error:
        code, said = 2, f"Too many words: {' '.join(error.unused_tokens or ())}. --help shows what the command takes."
    except (CotrainError, CycloptsError) as error:
        code, said = 2, str(error)
    except KeyboardInterrupt:
        code, said = 130, "stopped."
    except OSError:
        if not show.stuck("\n"):  # long texts that could not be written are kept in no buffer
            raise
    if why := show.stuck():
        show.give_up()
        if not (said or isinstance(why, BrokenPipeError)):  # the reader, say `head`, has seen enough
            code, said = 2, f"standard output cannot be written ({why.strerror or why})."
    if said:
        show.aside(f"cotrain: {said}")
    raise SystemExit(code)
