import json
import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cotrain.auto.glossary import LEARNERS, glossary
from cotrain.auto.machine import machine
from cotrain.auto.page import Axis, short
from cotrain.auto.report import SHAPE, lines, load, plain, render, save
from cotrain.auto.shape import fault
from cotrain.errors import InputError

EXTRAS = {name.removesuffix("?") for name in SHAPE if name.endswith("?")}
VOID = {"meta", "br"}
TAGS = VOID | {
    *("html", "head", "title", "style", "body", "header", "main", "footer", "section", "nav", "div", "span", "bdi"),
    *("p", "h1", "h2", "h3", "b", "i", "strong", "small", "a", "ul", "ol", "li", "dl", "dt", "dd", "pre", "code"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption"),
    *("svg", "line", "circle", "rect", "text"),
}
CONTRACT = {
    *("version", "command", "seed", "seconds", "rows", "classes", "metric", "supervised", "chosen", "p_helped"),
    *("used_unlabelled", "prior", "candidates", "student", "test", "warnings"),
}
TERMS = ("verdict", "how sure", "data", "shares", "tried", "result", "student", "test", "more labels", "label next")
TERMS += ("suspicious", "warning", "repeat")


def candidate(name, estimate, low, high, unlabelled, accepted, member, reason, seconds=0.5):
    return {
        "name": name,
        "unlabelled": unlabelled,
        "seconds": seconds,
        "estimate": estimate,
        "low": low,
        "high": high,
        "accepted": accepted,
        "member": member,
        "reason": reason,
    }


def example(**changes):
    """A report as a fit gives it: 60 labelled reviews, 5,580 unlabelled ones, three classes."""
    values = {
        "version": "1.2.3",
        "command": "cotrain fit reviews.csv --text review --target verdict --out out",
        "seed": 7,
        "data": "reviews.csv",
        "target": "verdict",
        "rows": {"labelled": 60, "unlabelled": 5580, "test": 400},
        "classes": ["good", "fair", "bad"],
        "metric": "accuracy",
        "supervised": {"estimate": 0.67, "low": 0.60, "high": 0.73},
        "chosen": {
            "name": "committee of 2",
            "members": ["EM naive Bayes, words", "self-training, topics"],
            "estimate": 0.83,
            "low": 0.77,
            "high": 0.88,
        },
        "p_helped": 0.99,
        "used_unlabelled": True,
        "prior": {
            "shares": {"good": 0.5, "fair": 0.3, "bad": 0.2},
            "source": "equal shares, as asked",
            "asked": "auto",
        },
        "candidates": [
            candidate("EM naive Bayes, words", 0.85, 0.75, 0.92, True, True, True, "gains 16.0 points"),
            candidate("self-training, topics", 0.81, 0.71, 0.89, True, True, True, "gains 12.0 points"),
            candidate("graph, topics", 0.55, 0.44, 0.66, True, False, False, "loses 14.0 points"),
            candidate("logistic regression, words", 0.69, 0.58, 0.79, False, True, False, "the best supervised"),
            candidate("extra trees, words", None, None, None, False, False, False, "too slow for the time budget"),
        ],
        "student": {
            "kind": "linear on hashed words and characters",
            "bytes": 543_056,
            "parameters": 90_510,
            "agreement": 0.983,
            "rows_per_second": 18_506.4,
            "estimate": 0.82,
        },
        "audit": {
            "rows": 5640,
            "classes": ["good", "fair", "bad"],
            "counts": {"good": 20, "fair": 20, "bad": 20},
            "duplicates": 12,
            "near_duplicates": 3,
            "conflicts": [{"rows": [4, 18], "labels": ["good", "bad"]}],
            "missing": {"price": 40},
            "leaks": {"stars": 0.997},
            "left_out": 2,
        },
        "columns": {"target": "verdict", "text": ["review"], "number": ["price"], "dropped": {"id": "identifier"}},
        "calibration": {"log_loss": 0.4, "brier": 0.2, "ece": 0.04, "points": [{"said": 0.7, "was": 0.65, "rows": 20}]},
        "confusion": [[18, 2, 0], [5, 14, 1], [0, 1, 19]],
        "coverage": {"asked": 0.9, "threshold": 0.21},
        "curve": {
            "points": [
                {"labels": 16, "estimate": 0.7, "low": 0.6, "high": 0.78},
                {"labels": 32, "estimate": 0.78, "low": 0.7, "high": 0.85},
                {"labels": 48, "estimate": 0.82, "low": 0.75, "high": 0.88},
            ],
            "more": 50,
            "gain": 0.04,
            "gain_low": 0.01,
            "gain_high": 0.06,
        },
        "shift": {"place": 0.53, "bar": 0.8, "apart": False},
        "steady": {"flipped": 0.04, "times": 5, "dropped": 0.2, "rows": 2000},
        "skipped": {},
        "slices": [{"name": "review: longer", "rows": 30, "accuracy": 0.9}],
        "suspicious": [{"row": 18, "where": "row 18", "label": "bad", "rather": "good", "probability": 0.08}],
        "label_next": [
            {"row": 1000 + n, "worth": 1.0, "reason": "good (51%) or bad (49%)", "shown": f"Review number {n}"}
            for n in range(20)
        ],
        "settings": {"budget": 180.0, "jobs": 2, "folds": 10, "method": None},
        "machine": {"python": "3.11.7"},
        "test": {"metric": "accuracy", "rows": 400, "repeated": 0, "supervised": 0.66, "chosen": 0.81, "student": 0.8},
        "warnings": ["Rows that repeat another one: 12 exactly."],
        "seconds": 42.5,
    }
    return values | changes


def bare(**changes):
    """Only what the contract asks for."""
    values = {key: value for key, value in example(**changes).items() if key not in EXTRAS}
    return values | {"candidates": [{k: v for k, v in c.items() if k != "member"} for c in values["candidates"]]}


def supervised_only(**changes):
    """The unlabelled rows did not help."""
    rows = {"labelled": 60, "unlabelled": 5580, "test": 0}
    chosen = {"name": "logistic regression, words", "members": ["logistic regression, words"]}
    estimate = {"estimate": 0.67, "low": 0.60, "high": 0.73}
    values = {"rows": rows, "chosen": chosen | estimate, "used_unlabelled": False, "p_helped": 0.0, "test": None}
    return example(**values | changes)


class Page(HTMLParser):
    """What a page is made of; complains about tags that are not closed in their order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.open, self.parts, self.wrong = set(), [], [], [], []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.parts).split())
        self.wrong += self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.parts.append(data)


def everywhere(value, text):
    """The same value with the text in place of all of the user's."""
    if isinstance(value, dict):
        return {key: everywhere(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [everywhere(item, text) for item in value]
    return text if isinstance(value, str) else value


# report.json


def test_the_contract_is_kept_and_json_is_strict(tmp_path):
    values = example(p_helped=float("nan"), seed=np.int64(3), classes=np.array(["good", "fair", "bad"]))
    values["student"]["agreement"] = np.float32("inf")
    save(values, tmp_path)

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert fault(read, SHAPE) == ""
    assert read["p_helped"] is None
    assert read["student"]["agreement"] is None
    assert (read["seed"], read["classes"]) == (3, ["good", "fair", "bad"])
    assert set(read) >= CONTRACT
    assert not CONTRACT & EXTRAS


def test_what_was_saved_is_loaded_and_shown_again(tmp_path):
    save(example(), tmp_path)
    again = load(tmp_path)
    assert again == plain(example())
    first = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert render(again) == first == render(example())
    save(again, tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_the_size_of_the_model_beside_it_is_told(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "member0.skops").write_bytes(bytes(2_000_000))
    (tmp_path / "model" / "model.json").write_bytes(bytes(345_000))
    save(example(), tmp_path)
    assert load(tmp_path)["chosen"]["bytes"] == 2_345_000
    assert "2.3\u00a0MB" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_write_that_fails_leaves_the_old_report(tmp_path, monkeypatch):
    save(example(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match=r"cannot be written there \(No space left on device\)"):
        save(example(seed=8), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_values_are_not_changed_by_saving(tmp_path):
    values = example()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m").write_bytes(b"12")
    save(values, tmp_path)
    assert values == example()


def test_a_report_that_is_not_there_or_damaged(tmp_path):
    with pytest.raises(InputError, match=r"no report\.json in .*nowhere"):
        load(tmp_path / "nowhere")
    save(example(), tmp_path)
    file = tmp_path / "report.json"
    good = file.read_text(encoding="utf-8")

    def refused(text, match):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(InputError, match=match):
            load(tmp_path)

    refused(good[: len(good) // 2], "damaged, it is not JSON")
    refused(b"\xff\xfe\x00", "damaged, it is not JSON")
    refused("[" * 100_000, "damaged, it is not JSON")
    refused("", "damaged, it is not JSON")
    refused("[1, 2]", "it does not hold names with values")
    refused(json.dumps(example() | {"rows": {"labelled": 60, "test": 0}}), "rows.unlabelled is missing")
    refused(json.dumps(example() | {"seed": "seven"}), "seed is 'seven'")
    refused(json.dumps(example() | {"candidates": [{"name": 3}]}), r"candidates\[0\].name is 3")
    refused(json.dumps(example() | {"curve": {"points": []}}), "curve.more is missing")
    refused(json.dumps({k: v for k, v in example().items() if k != "chosen"}), "chosen is missing")
    for part in ("supervised", "chosen"):
        for value in (None, 1e308, 10**400):
            refused(json.dumps(example() | {part: example()[part] | {"estimate": value}}), f"{part}.estimate is")
    refused(json.dumps(example() | {"classes": []}), "classes has fewer than two")
    refused(json.dumps(example() | {"columns": {"dropped": {}, "text": 5}}), "columns.text is not a list")
    refused(json.dumps(example() | {"coverage": {"asked": 0.9, "threshold": -1e308}}), "coverage.threshold is -1e")
    refused(json.dumps(example() | {"seconds": float("inf")}), "seconds is inf")
    own = bare() | {"columns": {"dropped": {}, "spans": {"price": [-1e308, 1e308]}}}
    for whole in (bare(), own):
        file.write_text(json.dumps(whole))
        assert load(tmp_path) == whole


def test_a_folder_that_stands_where_the_report_should(tmp_path):
    (tmp_path / "report.json").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path)


# report.html


def test_the_first_line_stands_on_top_of_the_page():
    page = Page(render(example()))
    start = page.text.replace("\u00a0", " ").replace(" .", ".").replace(" (", " (")
    wanted = ("Supervised only: 67 %", "(60–73)", "With 5,580 unlabelled rows: 83 %", "(77–88)", "helped: 0.99")
    places = [start.index(part) for part in wanted]
    assert places == sorted(places)
    assert places[-1] < 300


def test_everything_a_reader_may_ask_is_on_the_page():
    text = Page(render(example())).text.replace("\u00a0", " ")
    for part in (
        "The unlabelled rows helped. The estimated gain is 16 points.",
        "60 labelled rows: the true score may be 6 points lower or higher",
        "On 400 test rows, kept apart: supervised only 66.0 %, with unlabelled rows 81.0 %, student 80.0 %.",
        "the test score lies in it",
        "Rows that repeat another one: 12 exactly.",
        "stars alone predicts the label in 100 %",
        "id : identifier",
        "equal shares, as asked",
        "row 4 good , row 18 bad",
        "extra trees, words given up : too slow for the time budget",
        "graph, topics rejected : loses 14.0 points",
        "50 more labels would add about 4 points (1 to 6)",
        "a third, two thirds and all of the same 60 labelled rows",
        "gives 4 % of the unlabelled rows another class",
        "a classifier does not surely tell them apart (0.53; 0.5 is chance",
        "5 of 20 “fair” were taken for “good”",
        "differ by 4 points on average",
        "every other one of at least 21 % probability",
        "review: longer",
        "Review number 19",
        "row 1,000",
        "labelled bad (8 %), rather good",
        "543 kB",
        "18,506",
        "on 98.3 % of rows that it was not taught on it says the same",
        "cotrain fit reviews.csv --text review --target verdict --out out",
        "3 min, of which 42.5 s were used",
        "Joins each row to those most like it",
    ):
        assert part in text, part


def test_what_was_skipped_says_why():
    skipped = {"curve": "there was no time for it", "steady": "there are no unlabelled rows"}
    values = example(curve=None, steady=None, skipped=skipped)
    text = Page(render(values)).text
    assert "What more labels would bring Not measured: there was no time for it." in text
    assert "was not measured: there are no unlabelled rows." in text
    assert "more labels  Not measured: there was no time for it." in "\n".join(lines(values))


def test_a_page_of_the_contract_alone():
    page = Page(render(bare()))
    assert not page.wrong
    assert "EM naive Bayes, words" in page.text
    assert "Where it goes wrong" not in page.text


def test_nothing_could_be_measured():
    nothing = dict.fromkeys(("estimate", "low", "high"))
    values = supervised_only(supervised=nothing, chosen={"name": "a", "members": ["a"], **nothing}, confusion=[])
    values["candidates"] = [candidate("a", None, None, None, False, False, False, "not run")]
    values["student"] |= {"estimate": None, "agreement": None, "rows_per_second": None}
    page = Page(render(values))
    assert not page.wrong
    assert "not measured" in page.text
    assert "60 labelled rows do not suffice to say how good the result is." in page.text
    assert lines(values)[0] == "Supervised: not measured. The 5,580 unlabelled rows were not used here."


def test_calibration_is_not_drawn_from_too_few_rows():
    text = Page(render(example(calibration={"ece": None, "points": []}))).text
    assert "That cannot be measured from 60 labelled rows" in text


def test_a_page_asks_nothing_of_the_network_and_runs_nothing():
    html = render(example())
    page = Page(html)
    assert page.tags <= TAGS
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "srcset", "background", "action", "data")
        if name == "href":
            assert value.startswith("#")
    style = html[html.index("<style>") : html.index("</style>")]
    assert not re.search(r"url\(|@import|//", style)
    anchors = {value for name, value in page.attributes if name == "href"}
    ids = {f"#{value}" for name, value in page.attributes if name == "id"}
    assert anchors <= ids


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></title></pre><iframe src='//evil'>",
    "{{ 7919 * 7907 }}{% raw %}",
    "--></svg><a href='javascript:alert(1)'>x</a>",
    "' style='position:fixed",
    "\x00\x1b[31m\ud800\u202e&amp;&#39;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_the_users_becomes_part_of_the_page(text):
    values = everywhere(example(), text)
    values["prior"]["shares"] = {text: 1.0}
    values["audit"] |= {"counts": {text: 60}, "missing": {text: 3}, "leaks": {text: 0.99}}
    values["columns"] = {"text": [text], "dropped": {text: text}}
    values["machine"] = {text: text}
    page = Page(render(values))
    assert not page.wrong
    assert page.tags <= TAGS
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert {value[0] for name, value in page.attributes if name == "href"} == {"#"}
    assert "62615533" not in page.text  # 7919 * 7907
    render(values).encode("utf-8")


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60))
def test_any_name_at_all(text):
    values = everywhere(example(), text)
    page = Page(render(values))
    assert not page.wrong
    assert page.tags <= TAGS
    fine = "".join("�" if ord(c) < 32 and c not in "\t\n\r" else c for c in text)
    assert " ".join(fine.split()) in page.text
    assert all("\n" not in line for line in lines(values))


def test_a_page_stays_small_whatever_is_in_it():
    classes = [f"class number {n} " + "x" * 300 for n in range(100)]
    values = example(
        classes=classes,
        confusion=np.eye(100, dtype=int).tolist(),
        prior={"shares": dict.fromkeys(classes, 0.01), "source": "y" * 5_000},
        candidates=[candidate(f"learner {n}", 0.5, 0.4, 0.6, True, False, False, "z" * 5_000) for n in range(60)],
        warnings=["w" * 5_000] * 100,
        label_next=[{"row": n, "reason": "r" * 5_000, "shown": "s" * 50_000} for n in range(20)],
        slices=[{"name": f"speaker {n}", "rows": 20, "accuracy": 0.5} for n in range(500)],
        command="c" * 50_000,
        columns={
            "text": [],
            "number": [f"n{n}" for n in range(10_000)],
            "dropped": {f"d{n}": "why" for n in range(999)},
        },
    )
    values["audit"] |= {
        "counts": dict.fromkeys(classes, 1),
        "missing": {f"n{n}": 1 for n in range(10_000)},
        "conflicts": [{"rows": list(range(100)), "labels": ["l" * 1_000] * 100}] * 50,
    }
    page = render(values)
    assert len(page.encode()) < 300_000
    assert not Page(page).wrong
    assert len(render(example()).encode()) < 60_000


def test_marks_stand_where_the_scores_are():
    # The lowest of all is 0.44, so the axis runs from 0.4 to 1: 0.85 lies at 75 %, 0.75 and 0.92 at 58.33 and 86.67.
    html = render(example())
    row = html[html.index("<strong>EM naive Bayes, words</strong>") :].split("</svg>")[0]
    assert 'cx="75.0%"' in row
    assert 'class="range" x1="58.33%" x2="86.67%"' in row
    assert 'class="base" x1="45.0%"' in row  # supervised only: 0.67


def test_axis_by_hand():
    axis = Axis([0.44, None, 0.9])
    assert (round(axis.low, 9), axis.high) == (0.4, 1.0)
    assert np.allclose(axis.ticks, [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert [axis.at(x) for x in (0.4, 0.7, 1.0, 0.1)] == [0.0, 50.0, 100.0, 0.0]
    close = Axis([0.985, 0.99])
    assert np.allclose(close.ticks, [0.98, 1.0])
    whole = Axis([])
    assert np.allclose(whole.ticks, [0, 0.2, 0.4, 0.6, 0.8, 1.0])
    both = Axis([0.31, 0.58], top=None)
    assert np.allclose(both.ticks, [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6])
    same = Axis([1.0], top=None)
    assert same.at(1.0) in (0.0, 100.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9), st.booleans())
def test_axis_holds_every_score(scores, open_top):
    axis = Axis(scores, None if open_top else 1.0)
    assert axis.low <= min(scores) + 1e-9
    assert axis.high >= max(scores) - 1e-9
    assert 2 <= len(axis.ticks) <= 8
    assert all(0 <= axis.at(score) <= 100 for score in scores)


def test_short_texts():
    assert short("abc", 3) == "abc"
    assert short("abc def", 5) == "abc…"


def test_glossary_explains_the_words_in_use_and_no_others():
    known = dict(glossary(example()))
    assert {"EM naive Bayes", "graph", "self-training", "logistic regression", "extra trees", "committee"} <= set(known)
    assert "naive Bayes" in known  # which the line of EM naive Bayes leans on
    assert not {"kernel machine", "co-training", "balanced accuracy"} & set(known)
    alone = dict(glossary(supervised_only(rows={"labelled": 9, "unlabelled": 0, "test": 0})))
    assert "committee" not in alone
    assert "probability that they helped" not in alone


def test_every_learner_of_the_main_job_is_explained():
    from cotrain.auto.candidates import candidates
    from cotrain.auto.views import Views
    from cotrain.views.table import ScaledView
    from cotrain.views.text import WordView

    texts, dense = (("words", "characters", "topics"),), ("table", "patches", "edges", "pixels", "sound")
    views = {"words": WordView(("review",)), "table": ScaledView(("price",))}
    for found in candidates(Views(views=views, text=texts, dense=dense)):
        learner = found.name.split(",")[0].split(" (")[0].split(" with ")[0]
        assert any(re.search(rf"(?<!\w){word}(?!\w)", learner) for word in LEARNERS), found.name


# the terminal


def test_lines_by_hand():
    first, *rest = lines(example())
    assert first == (
        "Supervised only: 67 % (60-73). With 5,580 unlabelled rows: 83 % (77-88). Probability that they helped: 0.99."
    )
    terms = [line.split("  ")[0] for line in rest if not line.startswith(" ")]
    assert tuple(terms) == TERMS
    assert 14 <= len(lines(example())) <= 22
    assert all(len(line) <= 100 for line in rest)
    assert {line[13] for line in rest} & {" "} == set()  # all texts start in one column
    assert all(line.isascii() for line in lines(example()))
    told = "\n".join(rest)
    assert "shares       good 50 %, fair 30 %, bad 20 % (equal shares, as asked)" in told
    assert "label next   rows 1000, 1001, 1002, 1003, 1004 and 15 more" in told


def test_lines_tell_a_few_warnings_and_how_many_more():
    told = lines(example(warnings=[f"Warning number {n}." for n in range(9)]))
    assert sum(line.startswith("warning ") for line in told) == 3
    assert "and 6 more, in report.html" in "\n".join(told)


def test_lines_keep_to_their_number_whatever_is_in_them():
    values = everywhere(example(warnings=["w"] * 50), "word " * 5_000)
    assert len(lines(values)) <= 50
    assert max(map(len, lines(values)[1:])) <= 100


def test_lines_of_the_contract_alone():
    assert lines(bare())[0].startswith("Supervised only: 67 %")


def test_machine_names_what_decides_about_numbers():
    found = machine()
    assert found["numpy"] == np.__version__
    assert found["python"].count(".") == 2
    assert plain(found) == found


# a real one


@pytest.mark.slow
def test_the_report_of_a_fit_has_the_shape(tmp_path):
    import cotrain

    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3)) + np.repeat([0, 3], 45)[:, None]
    y = np.repeat([0, 1], 45)
    y[np.arange(90) % 9 > 0] = -1
    result = cotrain.fit(x, y, encoder="none", method="supervised", jobs=1, budget="20s")
    save(result.report.values, tmp_path)
    values = load(tmp_path)
    assert fault(values, SHAPE) == ""
    assert {name.removesuffix("?") for name in SHAPE} - set(values) <= EXTRAS
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not page.wrong
    assert "Only 10 labelled rows" in page.text


def test_what_the_terminal_says_of_shares_members_and_single_rows():
    told = "\n".join(lines(example(label_next=example()["label_next"][:1])))
    assert "result       committee of 2: EM naive Bayes, words; self-training, topics" in told
    assert "label next   row 1000\n" in told
    shares = {"source": "x", "shares": {f"c{n}": 0.04 for n in range(25)}}
    assert "shares       c0 4.0 %, c1 4.0 %, c2 4.0 %, c3 4.0 %, c4 4.0 %, c5 4.0 % and 19 more (x)" in "\n".join(
        lines(example(prior=shares))
    )
    even = {"source": "x", "shares": {"a": 0.34, "b": 0.33, "c": 0.33}}
    assert "a 34 %, b 33 %, c 33 % (x)" in "\n".join(lines(example(prior=even)))


def test_a_report_of_one_class_is_none(tmp_path):
    save(example(), tmp_path)
    (tmp_path / "report.json").write_text(json.dumps(example() | {"classes": ["good"]}))
    with pytest.raises(InputError, match="classes has fewer than two"):
        load(tmp_path)
