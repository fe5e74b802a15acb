"""What a report says, in sentences: shared by the page and the terminal.

Every function takes the values of `report.json`. Scores are shares; they are said in percent, differences in points.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cotrain.auto.calibrate import MEASURABLE
from cotrain.auto.wording import listing

Values = Mapping[str, Any]
SURE, LIKELY = 0.9, 0.7  # probability of a gain from which it is called a gain, and a probable one
FEW_LABELS = 40  # labelled rows up to which the numbers are called a rough guide
NOT_RUN = "not run"  # why a learner has no score that was never begun


class Part(NamedTuple):
    """A sentence with one number to show large; `role` is what the number is of: labels, both, or nothing."""

    before: str
    number: str = ""
    after: str = ""
    role: str = ""


def percent(share: float | None, decimals: int = 0) -> str:
    return "not measured" if share is None else f"{100 * share:.{decimals}f}\u00a0%"


def exactly(part: float) -> str:
    """A share that somebody asked for, as it was: 90 %, 99.6 %."""
    return f"{100 * part:g}\u00a0%"


def at_least(part: float) -> str:
    """A threshold in percent, rounded down to two digits, so that whoever keeps to it does not ask for too much."""
    digits = 1 - math.floor(math.log10(max(100 * part, 1e-9)))
    return f"{math.floor(100 * part * 10**digits) / 10**digits:g}\u00a0%"


def probability(value: float | None) -> str:
    """Two decimals, but never a certainty that nobody has."""
    if value is None:
        return "not measured"
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def span(estimate: Values) -> str:
    """`60–73`, with a decimal where the ends are close."""
    low, high = estimate.get("low"), estimate.get("high")
    if low is None or high is None:
        return ""
    decimals = _decimals(estimate)
    return f"{100 * low:.{decimals}f}–{100 * high:.{decimals}f}"


def score(estimate: Values) -> str:
    """`67 % (60–73)`."""
    ends = span(estimate)
    return percent(estimate["estimate"], _decimals(estimate)) + (f" ({ends})" if ends else "")


def _decimals(estimate: Values) -> int:
    low, high = estimate.get("low"), estimate.get("high")
    return int(low is not None and high is not None and high - low < 0.03)


def count(number: int, one: str, many: str = "") -> str:
    """`1 row`, `5,580 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f}\u00a0{unit}" if unit == "bytes" or number >= 10 else f"{number:.1f}\u00a0{unit}"
        number /= 1000
    return f"{number:.1f}\u00a0GB"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "not measured"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" + (f" {rest} s" if rest else "")


def wilson(share: float, rows: float, deviations: float = 1.645) -> tuple[float, float]:
    """90 % interval of a share seen in so many rows (Wilson 1927)."""
    z = deviations**2 / rows
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(z * share * (1 - share) + z * z / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def headline(values: Values) -> list[Part]:
    """The first line, sentence by sentence."""
    supervised, chosen, rows = values["supervised"], values["chosen"], values["rows"]
    many = count(rows["unlabelled"], "unlabelled row")
    if values["used_unlabelled"]:
        return [
            Part("Supervised only: ", *_numbers(supervised), "labels"),
            Part(f"With {many}: ", *_numbers(chosen), "both"),
            Part("Probability that they helped: ", probability(values["p_helped"]), "."),
        ]
    if not rows["unlabelled"]:
        labelled = f"{count(rows['labelled'], 'labelled row')}, none unlabelled."
        return [Part("Supervised: ", *_numbers(chosen), "labels"), Part(labelled)]
    helped = "did not help here" if tried(values) else f"{'was' if rows['unlabelled'] == 1 else 'were'} not used here"
    return [
        Part("Supervised: ", *_numbers(chosen), "labels"),
        Part(f"The {many} {helped}."),
    ]


def _numbers(estimate: Values) -> tuple[str, str]:
    ends = span(estimate)
    return percent(estimate["estimate"], _decimals(estimate)), f" ({ends})." if ends else "."


def tried(values: Values) -> int:
    """Learners on unlabelled rows that were judged against the labels alone: these have a reason."""
    found = [c for c in values["candidates"] if c.get("unlabelled") and c["reason"] and not c.get("silent")]
    return sum(c["estimate"] is not None for c in found)


def verdict(values: Values) -> tuple[str, str]:
    """What to make of the first line: in a few words, and why."""
    if values["used_unlabelled"]:
        return _used(values)
    if not values["rows"]["unlabelled"]:
        return (
            "This is an ordinary supervised fit.",
            "Rows without a label, where there are any, can be put into the same table with an empty label.",
        )
    result = "a committee of learners" if len(values["chosen"]["members"]) > 1 else "a learner"
    number = tried(values)
    if number:
        learners = f"{number:,} learners that use the unlabelled rows were tried and none was surely better"
        if number == 1:
            learners = "One learner that uses the unlabelled rows was tried and was not surely better"
        return "The labels alone do as well.", f"{learners}, so the result is {result} trained on the labels alone."
    return "The labels alone were learnt from.", f"{_unasked(values)}, so the result is {result} trained on the labels."


def comfort(values: Values) -> str:
    """That doing without unlabelled rows is no failure, where they were tried and left out."""
    if values["used_unlabelled"] or not tried(values):
        return ""
    return (
        "Nothing is lost: this happens where the labels already say what there is to say, or where the classes do not "
        "gather in groups. Using the unlabelled rows all the same could have done harm."
    )


def _used(values: Values) -> tuple[str, str]:
    gain, sure = _gain(values), values["p_helped"] or 0.0
    if _setting(values, "method"):
        return "The unlabelled rows are used, as asked.", "The method was given, so it stands whatever it scores."
    if sure < LIKELY:
        labels = "Nothing in the labels speaks against them"
        if values["chosen"]["estimate"] < values["supervised"]["estimate"] or sure < 0.5:
            labels = "Row by row the labels speak a little against all of them together"
        return (
            "The unlabelled rows are used; whether they helped cannot be told from so few labels.",
            f"{labels}; what speaks for them stands beside each learner tried.",
        )
    why = "Row by row they did; the estimates are too rough to say by how much."
    if gain:
        why = f"The estimated gain is {gain}."
        if sure < SURE:
            why = f"{why[:-1]}; the labelled rows are too few to be sure of it."
    return f"The unlabelled rows {'helped' if sure >= SURE else 'probably helped'}.", why


def _gain(values: Values) -> str:
    """The difference of the estimates in points; nothing where there is none."""
    chosen, supervised = values["chosen"]["estimate"], values["supervised"]["estimate"]
    if chosen is None or supervised is None or chosen <= supervised:
        return ""
    gain = 100 * (chosen - supervised)
    return f"{gain:.0f} points" if gain >= 1.5 else f"{gain:.1f} points"


def _unasked(values: Values) -> str:
    """Why no learner on unlabelled rows was judged."""
    rows = values["rows"]
    if any(c.get("unlabelled") and c["estimate"] is not None for c in values["candidates"]):
        return "Learners on the labels alone are nearly always right already"
    ended = [c["reason"] for c in values["candidates"] if c.get("unlabelled")]
    if ended:
        why = "you stopped before they were tried" if ended[0] == NOT_RUN else ended[0]
        return f"No learner that uses the unlabelled rows came to an end ({why})"
    if _setting(values, "method") and _setting(values, "asked") is not False:
        return "Only the method that was asked for was tried"
    many = count(rows["unlabelled"], "unlabelled row")
    return (
        f"{many} beside {rows['labelled']:,} labelled {'is' if rows['unlabelled'] == 1 else 'are'} too few to add much"
    )


def _setting(values: Values, name: str) -> Any:
    return (values.get("settings") or {}).get(name)


def limits(values: Values) -> str:
    """How far the estimate can be trusted, in words."""
    chosen, labelled = values["chosen"], values["rows"]["labelled"]
    if None in (chosen["estimate"], chosen["low"], chosen["high"]):
        return f"{count(labelled, 'labelled row')} do not suffice to say how good the result is."
    below, above = (
        max(0.0, 100 * d) for d in (chosen["estimate"] - chosen["low"], chosen["high"] - chosen["estimate"])
    )
    rows = count(labelled, "labelled row")
    if max(below, above) < 1:
        return f"{rows}: the true score is known to a point."
    if min(below, above) < 1:
        where = f"up to {_points(below)} lower" if below > above else f"up to {_points(above)} higher"
    elif max(below, above) > 1.5 * min(below, above):
        where = f"{_points(below)} lower or {_points(above)} higher"
    else:
        where = f"{_points(max(below, above))} lower or higher"
    few = "Only " if labelled <= FEW_LABELS else ""
    return f"{few}{rows}: the true score may be {where}; one time in ten it is further off."


def _points(number: float) -> str:
    return count(round(number), "point")


def metric(values: Values) -> str:
    if values["metric"] == "balanced accuracy":
        return "Balanced accuracy: the share of right answers in each class, averaged; a rare class counts as much."
    if values["metric"] == "accuracy":
        return "Accuracy: the share of right answers."
    return f"{values['metric'][:1].upper()}{values['metric'][1:]}."


def on_test_rows(values: Values) -> str:
    """What the test table said."""
    said = values["test"]
    names = {"chosen": "result", "student": "student"}
    if values["used_unlabelled"]:
        names = {"supervised": "supervised only", "chosen": "with unlabelled rows", "student": "student"}
    scores = ", ".join(f"{name} {percent(said[key], 1)}" for key, name in names.items())
    return f"On {count(values['rows']['test'], 'test row')}, kept apart: {scores}."


def expected(values: Values) -> str:
    """Whether the test score is where the estimate said."""
    found, chosen = values["test"]["chosen"], values["chosen"]
    if found is None or chosen["low"] is None or chosen["high"] is None:
        return ""
    if chosen["low"] <= found <= chosen["high"]:
        return f"The estimate from the labelled rows said {span(chosen)} %, and the test score lies in it."
    where = "below" if found < chosen["low"] else "above"
    said = f"The estimate from the labelled rows said {span(chosen)} %; the test score lies {where} it"
    low, high = (values["test"].get(end, found) for end in ("low", "high"))
    if low <= chosen["high"] and chosen["low"] <= high:
        other = span({"estimate": found, "low": low, "high": high})
        return f"{said}, but may be {other} % on other rows: that is no contradiction."
    return f"{said}. Chance alone seldom does that; probably the test rows differ from the labelled ones."


def searched(values: Values) -> str:
    """How many learners were tried, and how they were judged."""
    sides = [0, 0]
    for candidate in values["candidates"]:
        sides[bool(candidate.get("unlabelled"))] += candidate["estimate"] is not None
    said = [f"{count(sides[0], 'learner')} on the labels alone"] if sides[0] else []
    said += [f"{count(sides[1], 'learner')} on the unlabelled rows too"] if sides[1] else []
    planned = _setting(values, "folds")
    run = sorted(c["folds"] for c in values["candidates"] if c.get("folds") and c["estimate"] is not None) or [planned]
    folds = f"{planned} folds"
    if run[0] != planned:
        folds = f"{run[0]} of {folds}" if run[0] == run[-1] else f"{run[0]} to {run[-1]} of {folds}"
    judged = f"; each was judged on labelled rows that it had not seen ({folds})" if planned else ""
    return f"{' and '.join(said) or 'no learner'}{judged}."


def student(values: Values) -> str:
    about = values["student"]
    said = f"{about['kind']}, {size(about['bytes'])}"
    if about["agreement"] is not None:
        said += f", says the same as the result in {percent(about['agreement'])} of unseen rows"
    if about["estimate"] is not None:
        said += f", estimated {percent(about['estimate'])}"
    return said + "."


def mistakes(confusion: Sequence[Sequence[int]], classes: Sequence[str], most: int = 3) -> list[str]:
    """The confusions in words, the commonest first."""
    found = [
        (wrong, sum(row), classes[t], classes[p])
        for t, row in enumerate(confusion)
        for p, wrong in enumerate(row)
        if t != p and wrong > max(1, 0.05 * sum(row))  # a single row, or a small share, tells nothing
    ]
    found.sort(key=lambda item: (-item[0], -item[0] / item[1]))
    return [f"{wrong:,} of {rows:,} “{truth}” were taken for “{said}”" for wrong, rows, truth, said in found[:most]]


def unmeasured(values: Values) -> str:
    """Why nothing can be said of how right the probabilities are."""
    found = values.get("calibration") or {}
    rows, worth = found.get("rows", values["rows"]["labelled"]), found.get("worth")
    what = f"{count(rows, 'labelled row')} that learners had not seen"
    if worth is not None and round(worth) < rows:
        what += f", which count as {worth:.0f} because some count for many"
    return f"That cannot be measured from {what}; about {MEASURABLE} are needed."


def more_labels(values: Values) -> str:
    """What the learning curve promises, or why there is none; nothing where nobody asked."""
    curve = values.get("curve")
    if not curve:
        why = (values.get("skipped") or {}).get("curve")
        return f"Not measured: {why}." if why else ""
    gain, low, high = (max(0, round(100 * curve[key])) for key in ("gain", "gain_low", "gain_high"))
    more, labelled = f"{curve['more']} more labels", count(values["rows"]["labelled"], "labelled row")
    if high < 1:
        return f"{more} would hardly change the score, as far as {labelled} can tell."
    if not gain:
        return f"{more} may add nothing, or up to {count(high, 'point')}, if the curve goes on as it does."
    span = f" ({low} to {high})" if low < high else ""
    return (
        f"{more} {'would' if low else 'may'} add about {count(gain, 'point')}{span}, if the curve goes on as it does."
    )


def curve_limits(values: Values) -> str:
    """How far the learning curve can be trusted."""
    return (
        f"A hint, no more: a third, two thirds and all of the same {values['rows']['labelled']:,} labelled rows, of "
        "which each fold holds some out. The scores are not corrected for having picked the best learners. The range "
        "of the gain is what other draws of these rows would have said; that the curve keeps its shape is a guess."
    )


def steady(values: Values) -> str:
    """Whether other labels would have given another result; nothing where that was not asked."""
    found = values.get("steady")
    if not found:
        why = (values.get("skipped") or {}).get("steady")
        return f"Whether the result depends on single labels was not measured: {why}." if why else ""
    again = f"Trained again {found['times']} times, each time without {percent(found['dropped'])} of the labels"
    return f"{again}, the result gives {percent(found['flipped'])} of the unlabelled rows another class."


def likeness(shift: Values) -> str:
    """Whether labelled rows are like unlabelled ones."""
    tells, sure = ("tells", "is") if shift["apart"] else ("does not surely tell", "would be")
    where = f"{shift['place']:.2f}; 0.5 is chance, above {shift['bar']:.2f} {sure} sure"
    return f"a classifier {tells} them apart ({where})"


def ranking(lines: Sequence[Any]) -> str:
    """How a table of methods is to be read, and which of them are surely behind: the more there are, the surer it must
    be, for one of them is best by luck (Bonferroni's correction)."""
    scored = [line for line in lines if line.mean is not None]
    if len(scored) < 2:
        return ""
    best = max(scored, key=lambda line: line.mean)
    needed = 1 - (1 - SURE) / (len(scored) - 1)
    sure = [line.method for line in scored if line.behind is not None and line.behind >= needed]
    spread = "± is what another split of the same rows changes; " if best.sd is not None else ""
    return (
        f"{spread}intervals are of what other rows would say. {best.method} has the highest mean; it is surely better "
        f"(with a probability of {needed:.3g} or more) than {listing(sure) if sure else 'none of the others'}."
    )


def status(candidate: Values, alone: bool) -> str:
    """What became of a learner, in a few words."""
    if candidate["estimate"] is None:
        return "given up"
    if candidate.get("member", candidate["accepted"]):
        return "chosen" if alone else "in the committee"
    if candidate["accepted"]:
        return "good, but not needed" if candidate.get("unlabelled") else "in the supervised committee"
    return "rejected"
