import math

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.tree import DecisionTreeClassifier

from cotrain.errors import InputError
from cotrain.estimators.co_forest import CoForest
from cotrain.estimators.labels import bootstrap, stable_order


def data(seed: int = 0, n: int = 300, labelled: int = 60):
    x, y = make_classification(n, 10, n_informative=6, n_classes=2, class_sep=1.0, flip_y=0.05, random_state=seed)
    given = np.full(n, -1)
    given[:labelled] = y[:labelled]
    return x.astype(np.float32), y, given


def tree(seed, x, y, weight=None):
    return DecisionTreeClassifier(max_features="sqrt", random_state=int(seed)).fit(x, y, sample_weight=weight)


def start(count, y, seed):
    rng = np.random.RandomState(seed)
    seeds = rng.randint(np.iinfo(np.int32).max, size=count)
    return rng, seeds, [bootstrap(y, rng) for _ in seeds]


def test_no_unlabelled_rows_is_a_forest_of_bootstraps():
    x, y, _ = data()
    model = CoForest(trees=12, random_state=3).fit(x, y)
    _, seeds, bags = start(12, y, 3)
    own = np.mean([tree(s, x[bag], y[bag]).predict_proba(x) for s, bag in zip(seeds, bags)], axis=0)
    np.testing.assert_allclose(model.predict_proba(x), own, rtol=1e-12)
    assert (model.n_iter_, model.termination_condition_) == (0, "no_change")


def reference(x, given, count, threshold, seed):
    """Table I of the paper in plain loops, one row at a time."""
    order = stable_order(given, x)
    x, given = x[order], given[order]
    n = int((given >= 0).sum())
    rng, seeds, bags = start(count, given[:n], seed)
    forest = [tree(s, x[bag], given[bag]) for s, bag in zip(seeds, bags)]
    error, weight = [0.5] * count, [0.0] * count
    rounds = []
    while True:
        lessons = {}
        votes = [t.predict_proba(x) for t in forest]
        for i in range(count):
            wrong = judged = 0
            for row in range(n):
                outside = [votes[j][row] for j in range(count) if j != i and row not in bags[j]]
                if outside and max(np.mean(outside, axis=0)) > threshold:
                    judged += 1
                    wrong += np.mean(outside, axis=0).argmax() != given[row]
            now = wrong / judged if judged else 1.0
            if now >= error[i]:
                continue
            weight[i] = weight[i] or min((len(x) - n) / 10, 100)
            size = len(x) - n if now == 0 else min(len(x) - n, math.ceil(error[i] * weight[i] / now - 1))
            asked = n + np.sort(rng.choice(len(x) - n, size, replace=False))
            taught = []
            for row in asked:
                company = np.mean([votes[j][row] for j in range(count) if j != i], axis=0)
                if company.max() > threshold:
                    taught.append((row, company.argmax(), company.max()))
            mass = sum(sure for *_, sure in taught)
            if weight[i] < len(taught) and now * mass < error[i] * weight[i]:
                lessons[i] = taught
                error[i], weight[i] = now, mass
        for i, taught in lessons.items():
            rows = [row for row, *_ in taught]
            forest[i] = tree(
                seeds[i],
                np.concatenate([x[:n], x[rows]]),
                np.concatenate([given[:n], [label for _, label, _ in taught]]),
                np.concatenate([np.ones(n), [sure for *_, sure in taught]]),
            )
        rounds.append(sum(len(taught) for taught in lessons.values()))
        if not lessons:
            return forest, rounds


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.55, 0.6, 0.75])
def test_equals_the_paper_in_plain_loops(seed, threshold):
    x, _, given = data(seed)
    model = CoForest(trees=8, threshold=threshold, random_state=seed).fit(x, given)
    forest, rounds = reference(x, given, 8, threshold, seed)
    assert [entry["added"] for entry in model.history_] == rounds
    assert rounds[0] > 0 or threshold == 0.75
    np.testing.assert_allclose(model.predict_proba(x), np.mean([t.predict_proba(x) for t in forest], axis=0), atol=1e-9)


def test_rounds_and_threshold_are_limits():
    x, _, given = data()
    model = CoForest(trees=8, threshold=0.6, rounds=1, random_state=0).fit(x, given)
    assert (model.n_iter_, model.termination_condition_) == (1, "max_iter")
    never = CoForest(trees=8, threshold=1.0, random_state=0).fit(x, given)
    assert [entry["added"] for entry in never.history_] == [0]
    plain = CoForest(trees=8, random_state=0, rounds=0).fit(x, given)
    np.testing.assert_array_equal(never.predict_proba(x), plain.predict_proba(x))


def test_bad_arguments():
    x, _, given = data()
    with pytest.raises(InputError, match="trees is 1"):
        CoForest(trees=1).fit(x, given)
