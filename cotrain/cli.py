"""The command line. Heavy imports stand inside the commands, so that help and lists come at once."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

import cotrain
from cotrain import show
from cotrain.errors import CotrainError, InputError

app = App(
    name="cotrain",
    help="Train things together: few labels and many unlabelled rows in, a model and an honest report out.",
    version=cotrain.__version__,
)


@app.command
def systems(number: int | None = None, /, *, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False):
    """List the 121 published systems and how far each has come; with a number, show its card.

    Parameters
    ----------
    number:
        Show the card of this system.
    as_json:
        Print the list for programs.
    """
    from cotrain import systems as tree

    if number is not None:
        from rich.markdown import Markdown

        text = tree.card(number)
        show.console().print(Markdown(text)) if sys.stdout.isatty() else print(text)
        return
    entries = [system.to_dict() for system in tree.systems()]
    if as_json:
        print(json.dumps(entries, indent=1))
        return
    show.table(
        "Systems", [{**e, "recipes": " ".join(e["recipes"]), "results": " ".join(e["results"])} for e in entries]
    )


@app.command
def run(
    name: str | None = None,
    /,
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True)],
    seeds: str | None = None,
    full: Annotated[bool, Parameter(negative="")] = False,
    record: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    out: Path | None = None,
):
    """Run a recipe with its baselines over its seeds and hold it to its bar; alone, list the recipes.

    The exit code is 0 if the bar held and 3 if it did not.

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
        listed = [{"recipe": key, **_summary(recipe.constants(path))} for key, path in recipe.files().items()]
        print(json.dumps(listed, indent=1)) if as_json else show.table("Recipes", listed)
        return
    module = recipe.load(name)
    result, table = recipe.run(module, settings, seeds=_seeds(seeds), full=full, out=out, title=name)
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


def _summary(constants: dict) -> dict[str, str]:
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
    except ValueError:
        raise InputError(f"--seeds takes whole numbers as 0,1,2 or 0-9, not {text!r}.") from None
    return seeds


def main() -> None:
    """Entry point: what the user can mend is one sentence and exit code 2, never a traceback."""
    try:
        app()
    except CotrainError as error:
        print(f"cotrain: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader, say `head`, has seen enough
        sys.stderr.close()
    except KeyboardInterrupt:
        print("cotrain: stopped.", file=sys.stderr)
        raise SystemExit(130) from None
