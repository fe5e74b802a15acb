"""What the commands of the main job do and print. Results go to standard output, warnings to standard error."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from cotrain import show
from cotrain.auto.columns import IMAGES, SOUNDS
from cotrain.auto.model import Model, Predictor, usable_rows
from cotrain.data.files import write_whole
from cotrain.errors import InputError

if TYPE_CHECKING:
    from cotrain.auto.read import Source
    from cotrain.auto.result import Result

Options = Mapping[str, Any]  # keyword arguments of `cotrain.fit`


def fit(data: Any, out: Path | None, as_json: bool, options: Options) -> None:
    """Fit, say what came of it, and where it is."""
    from cotrain.auto.fit import fit as run

    try:
        result = run(data, out=out, **options)
    except KeyboardInterrupt:
        show.aside("cotrain: stopped before any result was there; nothing is saved.")
        raise SystemExit(130) from None
    closed = sys.stdout is None
    if fault := show.failure(lambda: _tell(result.report.values, as_json)):
        fault = f"standard output cannot be written ({fault})"
        if out is None:
            raise InputError(f"{fault}; {_rescued(result)}.")
    if out is None:
        _warn(["Nothing was saved; give --out DIR to keep the model, the student and the report."])
    elif result.folder == out:
        if fault and not closed:
            raise InputError(f"{fault}; the result is in {out}.")
        _say(
            f"The report is {out / 'report.html'}, the model {out / 'model'}, the small one {out / 'student'}.", as_json
        )
    else:
        raise InputError(result.report["warnings"][0])


def _rescued(result: "Result") -> str:
    """Where a result is that nobody has seen."""
    try:
        folder = tempfile.mkdtemp(prefix="cotrain-")
        result.save(folder)
    except OSError:
        return "nor could the result be saved among the temporary files; give --out DIR"
    return f"the result is in {folder} instead"


def _tell(values: dict[str, Any], as_json: bool) -> None:
    from cotrain.auto import report

    if as_json:
        print(json.dumps(report.plain(values), indent=1, ensure_ascii=False))
        return
    for line in report.lines(values):
        show.line(line)


def _say(text: str, as_json: bool) -> None:
    """Beside JSON on standard output, words go to standard error."""
    show.aside(text) if as_json else print(text)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        show.aside(f"cotrain: {warning}")


def predict(folder: Path, data: Any, student: bool, out: Path | None) -> None:
    """One line a row of the table, in its order; empty cells where an image, a sound or the row itself cannot be read.
    The files of a folder without a table are named."""
    from cotrain.auto.read import read

    table: Predictor
    if student:
        from cotrain.auto.student import Student

        table = Student.load(folder / "student")
    else:
        table = Model.load(folder / "model")
    warnings: list[str] = []
    source = read(data)
    if out is not None:
        _refuse_sources(out, source, folder)
    probability = table.predict_proba(source, warnings)
    columns: dict[str, Any] = {"file": source.unlisted} if source.of_files else {}
    columns["prediction"] = table.named(probability)
    columns |= {f"p:{name}": probability[:, code] for code, name in enumerate(table.classes)}
    found = pd.DataFrame(columns)
    places = np.searchsorted(source.lines, source.left_out)  # rows with too many cells keep their place
    found = found.reindex(np.insert(np.arange(len(found)), places, -1))
    text = found.to_csv(index=False, float_format="%.6g")
    _warn(warnings)
    if out is None:
        if fault := show.failure(lambda: print(text, end="")):
            _rescue(text, "predictions.csv", f"standard output cannot be written ({fault})", "give --out FILE")
        return
    _write(text, out)


def _refuse_sources(out: Path, source: "Source", folder: Path) -> None:
    """Raises InputError where predictions would take the place of what they are made from."""
    if "\0" in str(out):
        raise InputError(f"--out {out}: no path holds a NUL character.")
    place = out.resolve()
    if place == (source.folder / Path(source.name).name).resolve():  # also where its folder was given
        raise InputError(f"--out {out} is the table itself; the predictions would take its place.")
    own = [(folder / name).resolve() for name in ("model", "student", "report.json", "report.html")]
    if any(place.is_relative_to(each) for each in own):
        raise InputError(f"--out {out} is a file of the fit in {folder}; the predictions would take its place.")
    if place.suffix.lower() in IMAGES + SOUNDS:
        raise InputError(f"--out {out} has the name of an image or a sound, and predictions are a CSV table.")


def _write(text: str, file: Path) -> None:
    """The file is there in whole or not at all. Raises InputError, which says where the text is instead."""
    try:
        _replace(text, file)
    except OSError as error:
        said = f"{file} could not be written ({error.strerror or error})"
        _rescue(text, file.name, said, "omit --out to print it to standard output")


def _rescue(text: str, name: str, said: str, otherwise: str) -> NoReturn:
    """Raises InputError, which says what went wrong and where among the temporary files the text is, or what to do."""
    try:
        elsewhere = Path(tempfile.mkdtemp(prefix="cotrain-")) / name
        _replace(text, elsewhere)
    except OSError:
        raise InputError(f"{said}; {otherwise}.") from None
    raise InputError(f"{said}; it is in {elsewhere} instead.")


def _replace(text: str, file: Path) -> None:
    if file.exists() and not file.is_file():  # a pipe or a device
        with file.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
    else:
        write_whole(file, text)


def compare(data: Any, as_json: bool, options: Options) -> None:
    """A table of methods: mean and standard deviation over the seeds, the interval of other rows, and what it cost."""
    from cotrain.auto import findings
    from cotrain.auto.compare import compare as run

    found = run(data, **options)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    _warn(found.warnings)
    seeds = f"{len(found.seeds)} seeds" if len(found.seeds) > 1 else "1 seed"
    title = f"{found.metric} on {found.scored}, {seeds}, {found.rows['labelled']:,} labelled rows"
    show.table(
        title,
        [
            {
                "method": line.method,
                "score": _percent(line.mean, line.sd) + (f" ({line.partly})" if line.partly else ""),
                "90 % interval": findings.span({"estimate": line.mean, "low": line.low, "high": line.high}),
                "best is better": "" if line.behind is None else findings.probability(line.behind),
                "worst": _percent(line.worst),
                "seconds": round(line.seconds, 1),
                "learners": line.learners,
            }
            for line in found.lines
        ],
    )
    if said := findings.ranking(found.lines):
        show.line(said)


def _percent(share: float | None, sd: float | None = None) -> str:
    if share is None:
        return "not finished"
    return f"{100 * share:.1f}" + ("" if sd is None else f" ± {100 * sd:.1f}")


def label_next(folder: Path, data: Any, count: int, as_json: bool) -> None:
    """The unlabelled rows whose labels would teach the model most."""
    from cotrain.auto.label_next import label_next as advise
    from cotrain.auto.labels import read_labels
    from cotrain.auto.read import read
    from cotrain.auto.unlisted import with_unlisted

    if count < 1:
        raise InputError(f"-n is a number of rows, 1 or more; not {count}.")
    model = Model.load(folder / "model")
    frame, source, said = model.aligned(with_unlisted(read(data), model.columns))
    usable = usable_rows(source, frame, model.columns, said)
    target = model.columns.target
    among = usable.copy()
    if target in source.frame.columns:
        among &= ~read_labels(source.frame[target], model.columns.unlabelled).known
    rows = np.flatnonzero(usable)
    open_rows = np.flatnonzero(among[usable])
    if not len(open_rows):
        raise InputError(f"{source.name}: every row has a label in column {target!r}; there is nothing left to label.")
    shown = frame.iloc[rows].reset_index(drop=True)
    with model.sound():
        found = advise(model, shown, open_rows, model.features(shown, source.folder), count, rows)
    for entry in found:
        entry["where"] = source.row_label(entry["row"] - 1)
    if as_json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    _warn(said)
    show.table(
        f"Label these {len(found)} rows next",
        [{"row": e["where"], "reason": e["reason"], "what it holds": e["shown"]} for e in found],
    )


def audit_labels(data: Any, as_json: bool, options: Options) -> None:
    """Labels that contradict what was learnt without them, rows that repeat others, rows that contradict others."""
    from cotrain.auto.audit_labels import audit_labels as run

    found = run(data, **options)
    if as_json:
        print(json.dumps(found.to_dict(), indent=1, ensure_ascii=False))
        return
    _warn(found.warnings)
    counts = ", ".join(f"{name} {number:,}" for name, number in found.counts.items())
    show.line(f"{sum(found.counts.values()):,} labelled rows ({counts}), {found.unlabelled:,} unlabelled.")
    show.line(f"Rows that repeat another: {found.duplicates:,} exactly, {found.near_duplicates:,} but for spelling.")
    if found.conflicts:
        rows = [{"rows": ", ".join(c["where"]), "labels": ", ".join(c["labels"])} for c in found.conflicts]
        show.table("Rows that hold the same and have different labels", rows)
        if found.conflict_groups > len(rows):
            show.line(f"and {found.conflict_groups - len(rows):,} more groups of such rows")
    if found.suspicious:
        show.table(
            "Labels that learners who had not seen them find unlikely, worst first",
            [
                {
                    "row": entry["where"],
                    "label": entry["label"],
                    "rather": entry["rather"],
                    "probability of the label": f"{entry['probability']:.1%}",
                    "what it holds": entry["shown"],
                }
                for entry in found.suspicious
            ],
        )
    if not found.conflicts and not found.suspicious:
        every = found.judged == sum(found.counts.values())
        show.line("No label is in doubt." if every else f"None of the {found.judged:,} labels judged is in doubt.")


def report(folder: Path, as_json: bool) -> None:
    """Render report.html again from report.json."""
    from cotrain.auto import report as pages

    values = pages.load(folder)
    _tell(values, as_json)
    pages.save(values, folder)
    _say(f"The report is {folder / 'report.html'}.", as_json)


LABELS = 10  # of each class that the demo keeps
SCORED = 1 / 3  # of the messages that the demo holds back to score on


def demo(out: Path, seed: int, budget: str, jobs: int) -> None:
    """Fit on the packaged SMS collection with ten labels of each class, and score on messages it never saw."""
    from cotrain.auto.evidence import check_seed_and_jobs
    from cotrain.data import sms_spam

    check_seed_and_jobs(seed, jobs)
    table = pd.read_csv(sms_spam.path(), sep="\t", quoting=3, keep_default_na=False)
    table = table.drop_duplicates("SMS", ignore_index=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(table))
    apart, known = np.split(order, [int(SCORED * len(table))])
    labels = table["Label"].to_numpy(dtype=object)
    kept = np.concatenate([known[labels[known] == name][:LABELS] for name in sms_spam.NAMES])
    train = table.iloc[known].assign(Label=None)
    train.loc[kept, "Label"] = labels[kept]
    _say(
        f"{len(table):,} text messages: {len(kept)} keep their label, {LABELS} of each class; the labels of "
        f"{len(known) - len(kept):,} are hidden; {len(apart):,} are held back to score on.",
        False,
    )
    options: dict[str, Any] = {"target": "Label", "text": "SMS", "test": table.iloc[apart].reset_index(drop=True)}
    options |= {"seed": seed, "budget": budget, "jobs": jobs, "encoder": "none"}
    fit(train.reset_index(drop=True), out, False, options)
