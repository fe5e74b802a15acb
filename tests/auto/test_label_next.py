import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cotrain.auto.columns import Columns
from cotrain.auto.label_next import excerpt, label_next
from cotrain.auto.model import Member, Model


class Says:
    """A fitted learner: class b with the probability that stands in the row's first feature."""

    classes_ = np.array([0, 1])

    def __init__(self, place=0):
        self.place = place

    def predict_proba(self, x):
        b = np.asarray(x.todense() if sparse.issparse(x) else x)[:, self.place]
        return np.stack([1 - b, b], 1)


def model(members=1, shares=(0.5, 0.5)):
    found = [Member(f"m{n}", ("view",), False, Says(n), 1.0) for n in range(members)]
    return Model(Columns("label", text=("text",)), {}, found, ["a", "b"], np.array(shares))


def ask(x, count, among=None, members=1, shares=(0.5, 0.5), **settings):
    x = np.asarray(x, float)
    frame = pd.DataFrame({"text": [f"text {row}" for row in range(len(x))]})
    among = np.arange(len(x)) if among is None else np.asarray(among)
    return label_next(model(members, shares), frame, among, {"view": x}, count, np.arange(len(x)) * 10, **settings)


def test_the_row_between_the_classes_comes_first():
    found = ask([[0.95, 0.3], [0.5, 0.8], [0.05, 0.9]], 1)
    assert found == [{"row": 11, "worth": 0.707, "reason": "b (50%) or a (50%)", "shown": "text 1"}]


@pytest.mark.parametrize("as_sparse", [False, True])
def test_rows_are_drawn_as_k_means_draws_centres_among_gradients(as_sparse):
    """The gradients are written out here: for each class and feature a number."""
    x = np.random.default_rng(1).uniform(0.05, 0.95, (30, 3))
    frame = pd.DataFrame({"text": [""] * 30})
    view = {"view": sparse.csr_matrix(x) if as_sparse else x}
    found = label_next(model(), frame, np.arange(30), view, 8, np.arange(30), seed=3)
    p = np.stack([1 - x[:, 0], x[:, 0]], 1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    gradient = np.einsum("nc,nd->ncd", p - (p == p.max(1, keepdims=True)), unit).reshape(30, -1)
    rng, centres, chosen = np.random.default_rng(3), np.zeros((1, 6)), []
    for _ in range(8):
        apart = ((gradient[:, None] - centres) ** 2).sum(2).min(1)
        apart[chosen] = 0
        chosen.append(rng.choice(30, p=apart / apart.sum()))
        centres = np.concatenate([centres, gradient[chosen[-1:]]])
    assert [row["row"] - 1 for row in found] == chosen


def test_disagreement_is_told():
    """Both rows are level, but over the first the members contradict each other."""
    reasons = {row["row"]: row["reason"] for row in ask([[0.9, 0.1], [0.5, 0.5]], 2, members=2)}
    assert "the learners disagree: 1 says a, 1 says b" in reasons[1]
    assert "disagree" not in reasons[11]


def test_learners_agree_where_the_shares_of_the_classes_make_them():
    """For equal shares both say b; a is nine times as frequent, so that both say a, as the committee does."""
    found = ask([[0.7, 0.6], [0.5, 0.5]], 2, members=2, shares=(0.9, 0.1))
    assert not any("disagree" in each["reason"] for each in found)


def test_rows_like_a_chosen_one_wait():
    found = ask([[0.5, 1.0, 0.0], [0.5, 1.01, 0.0], [0.5, 0.0, 1.0]], 2)
    assert len({row["row"] // 20 for row in found}) == 2


@pytest.mark.parametrize("as_sparse", [False, True])
def test_no_row_is_chosen_twice_even_where_all_are_alike(as_sparse):
    x = np.tile([0.5, 0.5], (6, 1))
    view = sparse.csr_matrix(x) if as_sparse else x
    frame = pd.DataFrame({"text": ["same"] * 6})
    found = label_next(model(), frame, np.arange(6), {"view": view}, 10, np.arange(6))
    assert sorted(row["row"] for row in found) == [1, 2, 3, 4, 5, 6]


def test_only_the_rows_asked_for_are_looked_at():
    found = ask([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2]], 5, among=[1, 2])
    assert sorted(row["row"] for row in found) == [11, 21]
    assert ask([[0.5, 0.5]], 3, among=[]) == []
    assert ask([[0.5, 0.5]], 0) == []


def test_of_very_many_rows_a_part_is_looked_at(monkeypatch):
    monkeypatch.setattr("cotrain.auto.label_next.LOOKED_AT", 20)
    x = np.random.default_rng(0).uniform(0.05, 0.95, (200, 3))
    found = ask(x, 30)
    assert len(found) == len({row["row"] for row in found}) == 20
    assert found == ask(x, 30)
    assert found != ask(x, 30, seed=1)


def test_a_single_row_and_a_row_of_zeros():
    assert [row["row"] for row in ask([[0.0, 0.0]], 3)] == [1]


def test_the_excerpt_is_short():
    columns = Columns("label", text=("text",), number=("n",), category=("c", "d"))
    row = pd.Series({"text": "x" * 500, "n": 1.5, "c": "red", "d": "left out"})
    assert excerpt(row, columns) == f"{'x' * 120}; 1.5; red"
