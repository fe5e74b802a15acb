import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student_t

from cotrain.auto import audit_labels as doubts
from cotrain.auto import candidates, evidence
from cotrain.auto import compare as comparison
from cotrain.auto.audit_labels import audit_labels
from cotrain.auto.calibrate import with_prior
from cotrain.auto.compare import compare
from cotrain.auto.fit import fit
from cotrain.errors import InputError

FAST = {"encoder": "none", "jobs": 1}
pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture(scope="module")
def table(reviews):
    return reviews(rows=120)


def test_methods_stand_side_by_side_over_seeds(table):
    found = compare(table, target="label", methods="naive-bayes,emnb", seeds=3, **FAST)
    assert [line.method for line in found.lines] == ["naive-bayes", "emnb"]
    assert [line.learners for line in found.lines] == [1, 3]
    assert found.seeds == [0, 1, 2]
    assert (found.metric, found.scored) == ("accuracy", "held-out labelled rows")
    assert found.rows == {"labelled": 16, "unlabelled": 104, "test": 0}
    for line in found.lines:
        assert line.mean == pytest.approx(np.mean(line.values))
        assert line.sd == pytest.approx(np.std(line.values, ddof=1))
        assert line.worst == min(line.values)
        assert line.low <= line.mean <= line.high
        assert line.seconds >= 0
    assert json.loads(json.dumps(found.to_dict()))["lines"][0]["method"] == "naive-bayes"


@pytest.mark.slow
def test_it_says_what_fit_says(table):
    """With one seed the score of "auto" is the bias-corrected one of the report."""
    held_out = compare(table, target="label", methods=["auto"], seeds=[4], **FAST)
    report = fit(table, target="label", seed=4, **FAST).report
    assert held_out.lines[0].values == [pytest.approx(report["chosen"]["estimate"])]


def test_on_a_test_table_it_scores_the_model_that_fit_would_give(table, reviews):
    test = reviews(rows=80, labelled=80, seed=3)
    found = compare(table, target="label", methods="naive-bayes,emnb", seeds=2, test=test, **FAST)
    assert found.scored == "the test table"
    assert found.rows["test"] == 80
    for line in found.lines:
        for seed, value in enumerate(line.values):
            report = fit(table, target="label", method=line.method, seed=seed, test=test, **FAST).report
            assert value == pytest.approx(report["test"]["chosen"])


def test_named_methods_learn_from_few_unlabelled_rows_as_fit_does(reviews):
    few, test = reviews(rows=40, labelled=30), reviews(rows=80, labelled=80, seed=3)
    test.loc[0, "label"] = "so so"
    found = compare(few, target="label", methods="emnb", seeds=1, test=test, prior="auto", **FAST)
    report = fit(few, target="label", method="emnb", seed=0, test=test, **FAST).report
    assert found.lines[0].values == [pytest.approx(report["test"]["chosen"])]
    assert any("(so so)" in warning for warning in found.warnings)  # what was odd about the test table
    assert not [warning for warning in found.warnings if "not learnt from" in warning]
    both = compare(few, target="label", methods="auto,naive-bayes", seeds=1, **FAST)
    assert [warning.split(":")[0] for warning in both.warnings if "not learnt from" in warning] == ["auto"]


def test_without_unlabelled_rows_nobody_learns_from_some(measures):
    few = {"target": "kind", "seeds": 1, "budget": "5s", **FAST}
    found = compare(measures(rows=40, labelled=40), methods="logistic,graph,auto", **few)
    logistic, graph, auto = found.lines
    assert graph.mean is None
    assert "graph needs unlabelled rows, and there are none." in found.warnings
    assert graph.learners == 0 < logistic.learners
    assert auto.learners < compare(measures(rows=100), methods="auto", **few).lines[0].learners


def test_the_same_seeds_give_the_same_scores(table):
    one, other = (compare(table, target="label", methods="naive-bayes", seeds=2, **FAST) for _ in range(2))
    assert one.lines[0].values == other.lines[0].values


def test_one_seed_has_no_deviation(table):
    (line,) = compare(table, target="label", methods="naive-bayes", seeds=1, **FAST).lines
    assert line.sd is None


@pytest.mark.parametrize("stopped_in", [0, 2])
def test_an_interrupt_ends_it_with_the_seeds_that_are_finished(monkeypatch, table, stopped_in):
    gather = comparison.gather

    def interrupted(setup, tried):
        setup.clock.stopped = setup.seed == stopped_in
        return gather(setup, tried)

    monkeypatch.setattr(comparison, "gather", interrupted)
    if not stopped_in:
        with pytest.raises(KeyboardInterrupt):
            compare(table, target="label", methods="naive-bayes", seeds=4, **FAST)
        return
    found = compare(table, target="label", methods="naive-bayes", seeds=4, **FAST)
    assert found.seeds == [0, 1]
    assert len(found.lines[0].values) == 2


def test_a_method_that_ended_with_some_seeds_only_says_so(monkeypatch, table):
    judged = comparison._judged

    def sometimes(group, trials, seen, setup, test):
        return None if setup.seed == 1 and group.name == "emnb" else judged(group, trials, seen, setup, test)

    monkeypatch.setattr(comparison, "_judged", sometimes)
    found = compare(table, target="label", methods="naive-bayes,emnb", seeds=2, **FAST)
    assert "emnb came to an end with 1 of 2 seeds only; its score is of these." in found.warnings
    assert found.lines[1].mean == found.lines[1].values[0]


def told(right, score=0.5):
    weight = np.full(len(right), 1 / len(right))
    return comparison.Judged(score, 0.0, 1.0, np.array(right, float), weight, np.arange(len(right)))


def test_how_surely_the_best_is_better_is_told_by_rows_not_by_seeds():
    """Forty rows, 38 and 30 of them right; a second seed that says the same is no further evidence."""
    one, other = told([1] * 38 + [0] * 2), told([1] * 30 + [0] * 10)
    sure = comparison._behind([(one, other)])
    assert sure == pytest.approx(student_t(39).cdf(0.2 / np.sqrt((8 * 0.8**2 + 32 * 0.2**2) / 40**2 + 1 / 41**2)))
    assert comparison._behind([(one, other)] * 5) == pytest.approx(sure)
    assert comparison._behind([(one, one)]) == 0.5
    assert comparison._behind([]) is None


def test_a_method_whose_learners_all_fail_does_not_end_the_others(monkeypatch, table):
    class Broken:
        def fit(self, x, y):
            raise ValueError("too few")

    named = candidates.named

    def with_broken(views):
        found = named(views)
        return found | {"trees": [replace(found["naive-bayes"][0], name="broken", make=lambda _: Broken())]}

    for module in (comparison, evidence):
        monkeypatch.setattr(module, "named", with_broken)
    found = compare(table, target="label", methods="trees,naive-bayes", seeds=1, **FAST)
    assert [line.mean is None for line in found.lines] == [True, False]
    with pytest.raises(InputError, match="No learner could be trained"):
        compare(table, target="label", methods="trees", seeds=1, **FAST)


def test_where_no_method_finds_time_it_says_so(table):
    with pytest.raises(InputError, match="No method came to an end"):
        compare(table, target="label", methods="emnb", seeds=1, budget="0.001s", **FAST)


def test_what_found_no_time_has_no_score(table):
    found = compare(table, target="label", methods="naive-bayes,emnb", seeds=1, budget="0.001s", **FAST)
    assert found.lines[1].mean is None
    assert found.lines[1].values == [None]
    assert any("time budget" in text for text in found.warnings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"methods": "magic"}, "There is no method 'magic' for this table; there are auto, supervised"),
        ({"methods": ""}, "There is no method ''"),
        ({"seeds": 0}, "--seeds is a number of seeds, 1 or more"),
        ({"prior": "bad:1"}, "the classes are bad, good"),
        ({"target": "nothing"}, "There is no column 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_refused(table, settings, words):
    with pytest.raises(InputError) as error:
        compare(table, **({"target": "label", "methods": "naive-bayes"} | FAST | settings))
    assert words in str(error.value)


def test_labels_are_doubted_as_classes_are_common_among_them(monkeypatch, reviews):
    """Balanced accuracy counts where 8 labels of 98 are of one class, but a label of it is right as often as there."""
    table, shares = reviews(rows=180, labelled=180), []
    table.loc[table.index[table["label"] == "bad"][8:], "label"] = None
    monkeypatch.setattr(doubts, "with_prior", lambda said, asked: shares.append(asked) or with_prior(said, asked))
    audit_labels(table, target="label", **FAST)
    np.testing.assert_allclose(shares, [[8 / 98, 90 / 98]])


def test_labels_in_doubt_are_listed_with_their_rows(reviews):
    table = reviews(rows=170, labelled=160)
    table.loc[7, "label"] = "bad" if table.loc[7, "label"] == "good" else "good"
    table.loc[20, "review"] = table.loc[30, "review"]
    table.loc[[20, 30], "label"] = ["good", "bad"]
    table.loc[100, "review"] = table.loc[110, "review"].upper()
    table.loc[100, "label"] = table.loc[110, "label"]
    found = audit_labels(table, target="label", **FAST)
    assert found.suspicious[0]["row"] in (8, 21, 31)
    assert 8 in [entry["row"] for entry in found.suspicious]
    (conflict,) = found.conflicts
    assert conflict == {"rows": [21, 31], "where": ["row 21", "row 31"], "labels": ["good", "bad"]}
    assert (found.duplicates, found.near_duplicates) == (1, 1)
    assert sum(found.counts.values()) == found.judged == 160
    assert found.unlabelled == 10
    assert len(audit_labels(table, target="label", most=1, **FAST).suspicious) <= 1
    json.dumps(found.to_dict())


def test_how_many_labels_were_judged_is_said(monkeypatch, measures):
    def half(board, members):
        found = evidence.out_of_fold(board, members)
        found[:20] = np.nan
        return found

    monkeypatch.setattr(doubts, "out_of_fold", half)
    found = audit_labels(measures(rows=60, labelled=50), target="kind", budget="5s", **FAST)
    assert found.judged == 30
    assert "Only 30 of 50 labels were judged; a longer --budget judges more." in found.warnings


def test_clean_labels_are_not_doubted(measures):
    table = measures(rows=60, labelled=60)
    table["size"] += 20 * (table["kind"] == "b")
    found = audit_labels(table, target="kind", budget="5s", **FAST)
    assert found.suspicious == []
    assert found.conflicts == []


def test_a_line_by_hand():
    one, other = told([1] * 38 + [0] * 2, 0.95), told([1] * 30 + [0] * 10, 0.75)
    line = comparison._line("m", [one, None, other], 6.0, 4, [one, None, one])
    assert (line.mean, line.worst, line.low, line.high) == (pytest.approx(0.85), 0.75, 0.0, 1.0)
    assert (line.seconds, line.learners, line.values) == (2.0, 4, [0.95, None, 0.75])
    assert line.partly == "2 of 3 seeds"
    assert line.behind == comparison._behind([(one, one), (one, other)])


def test_the_method_of_the_highest_mean_is_behind_nobody(monkeypatch, table):
    scores = {"naive-bayes": told([1] * 30 + [0] * 10, 0.75), "emnb": told([1] * 38 + [0] * 2, 0.95)}
    monkeypatch.setattr(comparison, "_judged", lambda group, *_: scores[group.name])
    found = compare(table, target="label", methods="naive-bayes,emnb", seeds=1, **FAST)
    assert [line.behind is None for line in found.lines] == [False, True]
    assert found.lines[0].behind > 0.9


def test_each_test_row_counts_as_the_metric_says(measures):
    table, test = measures(rows=40, labelled=40), measures(rows=200, labelled=200, seed=3)
    test = test[(test["kind"] == "a") | (np.arange(200) < 20)]  # 100 and 10
    test.loc[test["kind"] == "b", "size"] -= 2  # and these are hard
    found = compare(table, target="kind", methods="logistic", seeds=1, test=test, metric="accuracy", **FAST)
    report = fit(table, target="kind", method="logistic", seed=0, test=test, metric="accuracy", **FAST).report
    assert found.lines[0].values == [pytest.approx(report["test"]["chosen"])]
