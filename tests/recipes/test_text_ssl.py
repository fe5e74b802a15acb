import inspect
import os
from typing import get_args

import numpy as np
import pytest

from cotrain.data import splits
from cotrain.recipe import load
from cotrain.run import Table

text_ssl = load("text_ssl")
stored = pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")


@pytest.mark.parametrize("full", [False, True])
def test_every_row_is_a_recipe(full):
    known = set(inspect.signature(text_ssl.recipe).parameters)
    rows = text_ssl.rows(full)
    assert len({str(sorted(row.items())) for row in rows.values()}) == len(rows)
    for row in rows.values():
        assert set(row) <= known
        cell = text_ssl.recipe(**row)
        made, view = text_ssl.estimator(cell.algorithm, cell.base, cell.seed)
        assert hasattr(made, "fit")
        assert view in ("words", "counts", "topics", "two")
    assert {row["algorithm"] for row in rows.values()} == set(get_args(text_ssl.Algorithm))


def table(disagreement: float, threshold: float, quota: float) -> Table:
    made = Table()
    for name in text_ssl.rows():
        value = {
            "tri-training, disagreement, lr": disagreement,
            "self-training, threshold .75, lr": threshold,
            "self-training, quota, lr": quota,
        }.get(name.rsplit(",", 1)[0], 0.5)
        for seed in range(3):
            made.add(name, seed, {"mean": value, "ag accuracy": value})
    return made


def test_bars_by_hand():
    bars = text_ssl.bars(table(0.6, 0.5, 0.59))
    assert [round(bar.value, 9) for bar in bars] == [0.1, 0.01, 0.09]
    assert [bar.held for bar in bars] == [True, True, False]
    assert "second view of co-training adds -0.090" in bars[2].text
    assert [bar.held for bar in text_ssl.bars(table(0.6, 0.5, 0.7))] == [True, False, True]


@pytest.fixture
def small(monkeypatch):
    """Four small sets of made-up texts; the test rows alone hold the word "secret"."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    words = [[f"{'ab'[c]}word{rng.integers(20)}" if rng.random() < 0.4 else f"word{rng.integers(60)}" for _ in range(9)]
             for c in y]  # fmt: skip
    texts = [" ".join(line + ["secret"] * (row >= 300)) for row, line in enumerate(words)]

    def few_labels(name, labels, seed):
        drawn = np.random.default_rng(seed).permutation(300)
        labelled = np.sort(np.concatenate([drawn[y[drawn] == c][: labels // 2] for c in (0, 1)]))
        return splits.Split(labelled, np.setdiff1d(np.arange(300), labelled), np.arange(300, 400))

    monkeypatch.setattr(text_ssl.splits, "load", lambda name: (texts, y, "text"))
    monkeypatch.setattr(text_ssl.splits, "few_labels", few_labels)
    monkeypatch.setattr(text_ssl, "TruncatedSVD", lambda n, random_state: _SVD(20, random_state=random_state))
    for cached in (text_ssl.features, text_ssl.all_labels):
        cached.cache_clear()
    yield
    for cached in (text_ssl.features, text_ssl.all_labels):
        cached.cache_clear()


_SVD = text_ssl.TruncatedSVD


@pytest.mark.usefixtures("small")
def test_nothing_is_learnt_from_test_rows(monkeypatch):
    seen = []

    class Spy(text_ssl.CountVectorizer):
        def fit(self, texts, y=None):
            seen.extend(texts)
            return super().fit(texts, y)

    monkeypatch.setattr(text_ssl, "CountVectorizer", Spy)
    text_ssl.features("ag_news")
    assert len(seen) == 300
    assert not any("secret" in text for text in seen)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("algorithm", get_args(text_ssl.Algorithm))
def test_each_algorithm_gives_the_table_s_numbers(algorithm):
    numbers = text_ssl.recipe(algorithm=algorithm, labels=5, seed=1).measure()
    assert list(numbers) == [*text_ssl.SETS, "mean", "gap closed"]
    assert all(0.4 <= numbers[name] <= 1 for name in text_ssl.SETS)
    if algorithm == "oracle":
        np.testing.assert_allclose(numbers["gap closed"], 1)
    if algorithm == "supervised":
        np.testing.assert_allclose(numbers["gap closed"], 0)
    assert numbers == text_ssl.recipe(algorithm=algorithm, labels=5, seed=1).measure()


@stored
@pytest.mark.data
@pytest.mark.slow
def test_em_naive_bayes_on_the_real_sets():
    numbers = text_ssl.recipe(algorithm="em", labels=5, seed=0).measure()
    assert numbers["ag accuracy"] > 0.8
    assert numbers["gap closed"] > 0.5
