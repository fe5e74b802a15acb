from types import SimpleNamespace

import pytest
from scipy.stats import binomtest
from test_fit_report import candidate, example, supervised_only

from cotrain.auto.findings import (
    at_least,
    comfort,
    count,
    duration,
    exactly,
    expected,
    headline,
    likeness,
    limits,
    metric,
    mistakes,
    more_labels,
    on_test_rows,
    percent,
    probability,
    ranking,
    score,
    searched,
    size,
    span,
    status,
    steady,
    student,
    verdict,
    wilson,
)


def first_line(values):
    return " ".join("".join(part[:3]) for part in headline(values)).replace("\u00a0", " ")


def estimate(middle, low, high):
    return {"name": "a", "members": ["a"], "estimate": middle, "low": low, "high": high}


ROWS = {"labelled": 60, "unlabelled": 5580, "test": 0}
ASKED = candidate("EM naive Bayes, words", 0.6, 0.5, 0.7, True, False, False, "loses 7.0 points")
UNASKED = candidate("EM naive Bayes, words", 0.6, 0.5, 0.7, True, False, False, "")
ALONE = candidate("logistic regression, words", 0.67, 0.6, 0.73, False, True, True, "the best supervised")


def test_the_first_line_where_they_helped():
    assert first_line(example()) == (
        "Supervised only: 67 % (60–73). With 5,580 unlabelled rows: 83 % (77–88). Probability that they helped: 0.99."
    )


def test_the_first_line_where_they_did_not():
    assert first_line(supervised_only()) == "Supervised: 67 % (60–73). The 5,580 unlabelled rows did not help here."
    title, why = verdict(supervised_only())
    assert title == "The labels alone do as well."
    assert why.startswith("3 learners that use the unlabelled rows were tried and none was surely better")
    assert comfort(supervised_only()).startswith("Nothing is lost")
    for word in ("fail", "error", "sorry", "unfortunately"):
        assert word not in f"{title} {why} {comfort(supervised_only())}".lower()
    one = supervised_only(candidates=[ASKED, ALONE])
    assert "One learner that uses the unlabelled rows was tried and was not surely better, so" in verdict(one)[1]


def test_the_first_line_without_unlabelled_rows():
    values = supervised_only(rows={"labelled": 1, "unlabelled": 0, "test": 0}, candidates=[ALONE])
    assert first_line(values) == "Supervised: 67 % (60–73). 1 labelled row, none unlabelled."
    assert verdict(values)[0] == "This is an ordinary supervised fit."
    assert comfort(values) == ""


def test_the_first_line_where_they_were_not_asked():
    few = supervised_only(rows={"labelled": 60, "unlabelled": 1, "test": 0}, candidates=[ALONE])
    assert first_line(few).endswith("The 1 unlabelled row was not used here.")
    assert verdict(few)[1].startswith("1 unlabelled row beside 60 labelled is too few to add much, so the result is")
    perfect = supervised_only(candidates=[UNASKED, ALONE])
    assert "are nearly always right already" in verdict(perfect)[1]
    mute = supervised_only(candidates=[ASKED | {"silent": True, "reason": "what it hears tells too little"}, ALONE])
    assert "are nearly always right already" in verdict(mute)[1]
    stopped = supervised_only(candidates=[UNASKED | {"estimate": None, "reason": "not run"}, ALONE])
    assert "(you stopped before they were tried)" in verdict(stopped)[1]
    late = supervised_only(candidates=[UNASKED | {"estimate": None, "reason": "the time budget had ended"}, ALONE])
    assert verdict(late)[1].startswith(
        "No learner that uses the unlabelled rows came to an end (the time budget had ended), so the result is"
    )
    method = supervised_only(candidates=[ALONE], settings={"method": "supervised"})
    assert verdict(method)[1].startswith("Only the method that was asked for was tried")
    many = {"labelled": 30, "unlabelled": 50, "test": 0}
    not_asked = supervised_only(candidates=[ALONE], settings={"method": "graph", "asked": False}, rows=many)
    assert verdict(not_asked)[1].startswith("50 unlabelled rows beside 30 labelled are too few to add much")


@pytest.mark.parametrize(
    ("sure", "title"),
    [
        (0.95, "The unlabelled rows helped."),
        (0.9, "The unlabelled rows helped."),
        (0.75, "The unlabelled rows probably helped."),
        (0.5, "The unlabelled rows are used; whether they helped cannot be told from so few labels."),
        (None, "The unlabelled rows are used; whether they helped cannot be told from so few labels."),
    ],
)
def test_no_gain_is_claimed_that_is_not_sure(sure, title):
    assert verdict(example(p_helped=sure))[0] == title


def test_labels_that_speak_against_the_learners_together_are_heard():
    assert "Nothing in the labels speaks against them" in verdict(example(p_helped=0.6))[1]
    assert "the labels speak a little against all of them together" in verdict(example(p_helped=0.2))[1]
    worse = example(p_helped=0.6, chosen=estimate(0.2, 0.1, 0.3))
    assert "the labels speak a little against all of them together" in verdict(worse)[1]


def test_the_gain_in_words():
    assert verdict(example())[1] == "The estimated gain is 16 points."
    small = example(chosen=estimate(0.678, 0.6, 0.7), p_helped=0.8)
    assert verdict(small)[1] == "The estimated gain is 0.8 points; the labelled rows are too few to be sure of it."
    none = example(chosen=estimate(0.66, 0.6, 0.7))
    assert verdict(none)[1] == "Row by row they did; the estimates are too rough to say by how much."
    asked = example(settings={"method": "emnb"}, p_helped=0.1)
    assert verdict(asked)[0] == "The unlabelled rows are used, as asked."


def test_limits_in_words():
    few = example(rows=ROWS | {"labelled": 12}, chosen=estimate(0.7, 0.5, 0.9))
    assert limits(few) == (
        "Only 12 labelled rows: the true score may be 20 points lower or higher; one time in ten it is further off."
    )
    lopsided = example(chosen=estimate(0.95, 0.85, 0.97))
    assert "60 labelled rows: the true score may be 10 points lower or 2 points higher;" in limits(lopsided)
    perfect = example(chosen=estimate(1.0, 0.74, 0.9997))  # the interval's end may lie below the estimate
    assert "may be up to 26 points lower;" in limits(perfect)
    assert "may be 10 points lower or 1 point higher;" in limits(example(chosen=estimate(0.83, 0.73, 0.844)))
    nothing = example(chosen=estimate(0.0, 0.001, 0.2))
    assert "may be up to 20 points higher;" in limits(nothing)
    many = example(rows=ROWS | {"labelled": 90_000}, chosen=estimate(0.9, 0.897, 0.903))
    assert limits(many) == "90,000 labelled rows: the true score is known to a point."


def test_numbers_as_they_are_said():
    assert [probability(p) for p in (1.0, 0.9901, 0.99, 0.5, 0.004, None)] == [
        "> 0.99",
        "> 0.99",
        "0.99",
        "0.50",
        "< 0.01",
        "not measured",
    ]
    assert percent(0.5) == "50\u00a0%"
    assert percent(None) == "not measured"
    assert score(estimate(0.9534, 0.94, 0.966)) == "95.3\u00a0% (94.0–96.6)"
    assert score(estimate(0.9534, 0.93, 0.97)) == "95\u00a0% (93–97)"
    assert score(estimate(None, None, None)) == "not measured"
    assert span({"low": None, "high": 1.0}) == ""
    assert [count(n, "row") for n in (0, 1, 5580)] == ["0 rows", "1 row", "5,580 rows"]
    assert [size(n).replace("\u00a0", " ") for n in (0, 999, 1000, 9_949, 543_056, 2_345_000, 7.2e9)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "9.9 kB",
        "543 kB",
        "2.3 MB",
        "7.2 GB",
    ]
    assert [duration(s) for s in (0.04, 59.94, 60.0, 119.7, 125, None)] == [
        "0.0 s",
        "59.9 s",
        "1 min",
        "2 min",
        "2 min 5 s",
        "not measured",
    ]


@pytest.mark.parametrize(("right", "rows"), [(0, 20), (9, 20), (20, 20), (170, 200)])
def test_interval_of_a_share_as_scipy_has_it(right, rows):
    reference = binomtest(right, rows).proportion_ci(0.9, method="wilson")
    assert wilson(right / rows, rows) == pytest.approx((reference.low, reference.high), abs=1e-4)


def test_the_test_rows_in_words():
    plain = lambda text: text.replace("\u00a0", " ")
    assert plain(on_test_rows(example())) == (
        "On 400 test rows, kept apart: supervised only 66.0 %, with unlabelled rows 81.0 %, student 80.0 %."
    )
    alone = supervised_only(test=example()["test"], rows=ROWS | {"test": 1})
    assert plain(on_test_rows(alone)) == "On 1 test row, kept apart: result 81.0 %, student 80.0 %."
    assert "the test score lies in it" in expected(example())
    below = example(test=example()["test"] | {"chosen": 0.5})
    assert "said 77–88 %; the test score lies below it. Chance alone seldom does that" in expected(below)
    near = example(test=example()["test"] | {"chosen": 0.75, "low": 0.52, "high": 0.9})  # a dozen test rows
    assert expected(near).endswith("lies below it, but may be 52–90 % on other rows: that is no contradiction.")
    assert "above it" in expected(example(test=example()["test"] | {"chosen": 0.95}))
    assert expected(example(test=example()["test"] | {"chosen": None})) == ""


def test_what_was_tried_in_words():
    assert searched(example()) == (
        "1 learner on the labels alone and 3 learners on the unlabelled rows too; each was judged on labelled rows "
        "that it had not seen (10 folds)."
    )
    assert searched(example(candidates=[ALONE], settings={})) == "1 learner on the labels alone."
    assert searched(example(candidates=[], settings={})) == "no learner."


def test_what_became_of_a_learner():
    assert status(ALONE, alone=True) == "chosen"
    assert status(ALONE, alone=False) == "in the committee"
    assert status(ALONE | {"member": False}, alone=False) == "in the supervised committee"
    assert status(ASKED, alone=False) == "rejected"
    assert status(ASKED | {"accepted": True}, alone=False) == "good, but not needed"
    assert status(ASKED | {"estimate": None}, alone=False) == "given up"


def test_mistakes_by_hand():
    found = mistakes([[18, 2, 0], [5, 14, 1], [0, 1, 19]], ["good", "fair", "bad"])
    assert found == ["5 of 20 “fair” were taken for “good”", "2 of 20 “good” were taken for “fair”"]
    assert mistakes([[5, 1], [1, 5]], ["a", "b"]) == []  # a single row tells nothing
    assert mistakes([[980, 20], [0, 9]], ["a", "b"]) == []  # nor does a fiftieth
    assert mistakes([], ["a", "b"]) == []


def test_more_labels_in_words():
    values = example()

    def said(**changes):
        return more_labels(values | {"curve": values["curve"] | changes})

    assert said() == "50 more labels would add about 4 points (1 to 6), if the curve goes on as it does."
    assert said(gain=0.01, gain_low=0.01, gain_high=0.012).startswith("50 more labels would add about 1 point, if")
    assert said(gain=0.02, gain_low=0.0).startswith("50 more labels may add about 2 points (0 to 6), if")
    assert said(gain=0.0, gain_low=0.0).startswith("50 more labels may add nothing, or up to 6 points, if")
    assert said(gain=-0.02, gain_low=-0.05, gain_high=0.03).startswith(
        "50 more labels may add nothing, or up to 3 points"
    )
    hardly = "50 more labels would hardly change the score, as far as 60 labelled rows can tell."
    assert said(gain=0.001, gain_low=0.0, gain_high=0.004) == hardly
    skipped = {"curve": None, "skipped": {"curve": "there was no time for it"}}
    assert more_labels(values | skipped) == "Not measured: there was no time for it."
    assert more_labels(values | {"curve": None, "skipped": {}}) == ""


def test_how_steady_in_words():
    said = "Trained again 5 times, each time without 20 % of the labels, the result gives 4 % of the unlabelled rows"
    assert steady(example()).replace("\u00a0", " ") == f"{said} another class."
    skipped = {"steady": None, "skipped": {"steady": "there was no time for it"}}
    assert steady(example(**skipped)).endswith("was not measured: there was no time for it.")
    assert steady(example(steady=None)) == ""


def test_rows_from_elsewhere_in_words():
    shift = {"place": 0.953, "bar": 0.8, "apart": True}
    assert likeness(shift).endswith("tells them apart (0.95; 0.5 is chance, above 0.80 is sure)")
    assert likeness(example()["shift"]).startswith("a classifier does not surely tell them apart (0.53;")


def test_the_student_and_the_metric_in_words():
    assert student(example()).replace("\u00a0", " ") == (
        "linear on hashed words and characters, 543 kB, says the same as the result in 98 % of unseen rows, "
        "estimated 82 %."
    )
    assert metric(example()) == "Accuracy: the share of right answers."
    assert "averaged" in metric(example(metric="balanced accuracy"))
    assert metric(example(metric="f1")) == "F1."


def test_shares_that_were_asked_for_and_thresholds_that_must_be_kept():
    assert [exactly(part) for part in (0.9, 0.996)] == ["90\u00a0%", "99.6\u00a0%"]
    assert [at_least(part) for part in (0.0392, 0.004, 0.2, 1.0)] == [
        "3.9\u00a0%",
        "0.4\u00a0%",
        "20\u00a0%",
        "100\u00a0%",
    ]


def test_how_many_folds_were_run():
    tried = [ALONE | {"folds": 9}, ASKED | {"folds": 1}]
    values = supervised_only(candidates=tried, settings={"folds": 20})
    assert "(1 to 9 of 20 folds)" in searched(values)
    assert "(9 of 20 folds)" in searched(supervised_only(candidates=tried[:1], settings={"folds": 20}))
    assert "(20 folds)" in searched(supervised_only(candidates=[ALONE], settings={"folds": 20}))


def test_methods_are_surely_behind_the_more_surely_the_more_there_are():
    def line(method, mean, behind):
        return SimpleNamespace(method=method, mean=mean, sd=0.01, behind=behind)

    best, near, far, none = line("a", 0.8, None), line("b", 0.7, 0.93), line("c", 0.6, 0.96), line("d", None, None)
    assert "a has the highest mean; it is surely better (with a probability of 0.9 or more) than b" in ranking(
        [near, best]
    )
    assert "(with a probability of 0.95 or more) than c." in ranking([best, near, far, none])
    assert "than none of the others." in ranking([best, line("b", 0.7, 0.6)])
    assert "a has the highest mean" in ranking([line("b", 0.7, None), best])  # they share no seed
    assert ranking([best, none]) == ""
