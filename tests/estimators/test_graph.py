import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits, make_blobs

from cotrain.errors import InputError
from cotrain.estimators.graph import GraphSpreading


def data(n: int = 80, seed: int = 0, d: int = 5):
    x, y = make_blobs(n, d, centers=3, cluster_std=3.0, random_state=seed)
    given = np.full(n, -1)
    for c in range(3):
        given[np.flatnonzero(y == c)[:2]] = c
    return x, y, given


def reference(x, given, k=10, alpha=0.9, metric="euclidean", gamma=None):
    """Dense: all distances, the graph, and the inverse of I - alpha S."""
    square = cdist(x, x) ** 2
    if metric == "cosine":
        square = 2 * cdist(x, x, "cosine")
    np.fill_diagonal(square, np.inf)
    rank = np.argsort(square, axis=1)
    width = np.sqrt(square[np.arange(len(x)), rank[:, 6]])
    weight = np.zeros_like(square)
    for i in range(len(x)):
        for j in rank[i, :k]:
            scale = width[i] * width[j] if gamma is None else 1 / gamma
            weight[i, j] = weight[j, i] = np.exp(-square[i, j] / scale)
    root = np.sqrt(weight.sum(axis=1))
    spread = weight / root[:, None] / root
    start = np.eye(given.max() + 1)[given] * (given >= 0)[:, None]
    return (1 - alpha) * np.linalg.solve(np.eye(len(x)) - alpha * spread, start), width


@pytest.mark.parametrize("k", [3, 10])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("gamma", [None, 0.05])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_equals_the_dense_solution(k, metric, gamma, make):
    x, _, given = data()
    model = GraphSpreading(n_neighbors=k, metric=metric, gamma=gamma, tolerance=1e-10).fit(make(x), given)
    mass, _ = reference(x, given, k, 0.9, metric, gamma)
    total = mass.sum(axis=1, keepdims=True)
    expected = np.where(total > 1e-12, mass / np.maximum(total, 1e-12), 1 / 3)
    np.testing.assert_allclose(model.label_distributions_, expected, atol=1e-6)
    np.testing.assert_array_equal(model.transduction_[given >= 0], given[given >= 0])


def test_new_rows_by_the_formula():
    x, _, given = data()
    new = np.random.RandomState(1).randn(6, 5) * 5
    model = GraphSpreading().fit(x, given)
    _, width = reference(x, given)
    for row, probability in zip(new, model.predict_proba(new)):
        square = ((x - row) ** 2).sum(axis=1)
        near = np.argsort(square)[:10]
        weight = np.exp(-square[near] / (np.sqrt(square[near[6]]) * width[near]))
        np.testing.assert_allclose(probability, weight @ model.label_distributions_[near] / weight.sum(), rtol=1e-6)


def test_dense_and_sparse_rows_may_be_asked_of_either():
    x, _, given = data()
    a, b = GraphSpreading().fit(x, given), GraphSpreading().fit(sparse.csr_array(x), given)
    for model in (a, b):
        np.testing.assert_allclose(model.predict_proba(x), model.predict_proba(sparse.csr_array(x)), rtol=1e-6)
    np.testing.assert_allclose(a.predict_proba(x), b.predict_proba(x), rtol=1e-5)


def test_class_masses_meet_the_prior():
    x, _, given = data(300)
    model = GraphSpreading(prior=[0.6, 0.3, 0.1], tolerance=1e-10).fit(x, given)
    mass, _ = reference(x, given)
    mass *= np.array([0.6, 0.3, 0.1]) / mass[given < 0].sum(axis=0)
    np.testing.assert_allclose(model.label_distributions_, mass / mass.sum(axis=1, keepdims=True), atol=1e-6)
    plain = GraphSpreading().fit(x, given)
    share = np.bincount(model.transduction_, minlength=3) / 300
    before = np.bincount(plain.transduction_, minlength=3) / 300
    assert share[0] > before[0]
    assert share[2] < before[2]


def test_a_part_without_labels_gets_the_prior():
    x = np.concatenate([np.arange(20.0), np.arange(20) + 1000.0])[:, None]
    given = np.full(40, -1)
    given[[0, 1, 19]] = 0, 0, 1
    model = GraphSpreading(n_neighbors=3).fit(x, given)
    np.testing.assert_allclose(model.label_distributions_[20:], [[2 / 3, 1 / 3]] * 20)
    assert model.history_[0]["unreached"] == 20


def test_copies_have_no_width_of_their_own():
    x, _, given = data()
    x = np.concatenate([x, np.repeat(x[40:41], 12, axis=0)])
    model = GraphSpreading().fit(x, np.concatenate([given, np.full(12, -1)]))
    assert np.isfinite(model.label_distributions_).all()
    assert (model.transduction_[80:] == model.transduction_[40]).all()
    same = GraphSpreading().fit(np.ones((10, 2)), [0, 1] + [-1] * 8)
    np.testing.assert_allclose(same.predict_proba(np.ones((1, 2))), 0.5, atol=0.01)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_copies_of_a_row_change_nothing_but_its_label_mass(make):
    x, _, given = data()
    copies = np.repeat(x[40:43], 15, axis=0)
    alone = GraphSpreading().fit(make(x), given)
    both = GraphSpreading().fit(make(np.concatenate([copies, x])), np.concatenate([np.full(45, -1), given]))
    np.testing.assert_allclose(both.label_distributions_[45:], alone.label_distributions_, atol=1e-8)
    np.testing.assert_allclose(both.label_distributions_[:45], np.repeat(alone.label_distributions_[40:43], 15, axis=0))
    np.testing.assert_allclose(both.predict_proba(make(x)), alone.predict_proba(make(x)), atol=1e-8)
    assert both.history_[0]["unreached"] == 0


def test_multiples_of_a_row_are_near_by_rounding_only():
    x, _, given = data()
    x = np.abs(x)
    copies = x[40:41] * np.arange(2, 14)[:, None] / 7  # the same direction
    model = GraphSpreading(metric="cosine").fit(
        sparse.csr_array(np.concatenate([x, copies])), np.concatenate([given, np.full(12, -1)])
    )
    assert (model.transduction_[80:] == model.transduction_[40]).all()


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array])
def test_a_row_is_told_alone_as_among_others(make):
    x, _, given = data()
    x = np.concatenate([x, x[40:41] + 1e-13 * np.arange(12)[:, None]])
    model = GraphSpreading().fit(make(x), np.concatenate([given, np.full(12, -1)]))
    together = model.predict_proba(make(x))
    np.testing.assert_allclose(np.concatenate([model.predict_proba(make(x[i : i + 1])) for i in range(92)]), together)


def test_rows_may_be_fewer_than_the_neighbours_that_are_asked_for():
    model = GraphSpreading(n_neighbors=10).fit(np.array([[0.0], [0.1], [1.0], [1.1]]), np.array([0, -1, 1, -1]))
    assert model.transduction_.tolist() == [0, 0, 1, 1]


def test_rows_far_from_everything_have_probabilities_too():
    x, _, given = data()
    probability = GraphSpreading().fit(x, given).predict_proba(np.full((1, 5), 1e6))
    np.testing.assert_allclose(probability.sum(), 1)  # no 0 / 0


def test_labels_flow_along_two_rings():
    """One label on each of two rings, one inside the other: a straight line cannot do it, the graph can."""
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    ring = np.column_stack([np.cos(turn), np.sin(turn)])
    given = np.full(400, -1)
    given[[0, 200]] = 0, 1
    model = GraphSpreading(n_neighbors=4, alpha=0.99).fit(np.concatenate([ring, 2 * ring]), given)
    assert model.transduction_.tolist() == [0] * 200 + [1] * 200
    assert model.predict(np.concatenate([1.1 * ring, 1.9 * ring])).tolist() == [0] * 200 + [1] * 200


def test_no_gamma_to_tune_when_units_change():
    x, _, given = data()
    a, b = GraphSpreading().fit(x, given), GraphSpreading().fit(1000 * x, given)
    np.testing.assert_allclose(a.label_distributions_, b.label_distributions_, atol=1e-4)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_single_precision_does_for_rows_far_from_everything(form):
    x, _, given = data()
    single, double = (GraphSpreading().fit(form(x.astype(dtype)), given) for dtype in (np.float32, np.float64))
    for rows in (x[:5] + 0.01, np.full((2, 5), 1e3)):
        found = single.predict_proba(form(rows.astype(np.float32)))
        np.testing.assert_allclose(found, double.predict_proba(form(rows)), atol=1e-3)


def test_digits_with_forty_labels():
    """Better than a logistic regression on the same labels by far (0.84 in the published splits)."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.RandomState(0)
    given = np.full(len(y), -1)
    for c in range(10):
        given[rng.choice(np.flatnonzero(y == c), 4, replace=False)] = c
    model = GraphSpreading().fit(x / 16, given)
    assert (model.transduction_ == y).mean() > 0.9


@pytest.mark.parametrize("arguments", [{"alpha": 1.0}, {"alpha": 0}, {"n_neighbors": 0}, {"metric": "manhattan"}])
def test_bad_arguments(arguments):
    x, _, given = data()
    with pytest.raises(InputError):
        GraphSpreading(**arguments).fit(x, given)


@pytest.mark.slow
def test_ten_thousand_rows():
    """10,000 rows of 200 numbers, 10 classes, ten labels of each."""
    rng = np.random.RandomState(0)
    x = (rng.randn(10, 200)[np.arange(10_000) % 10] + 1.5 * rng.randn(10_000, 200)).astype(np.float32)
    given = np.full(10_000, -1)
    given[:100] = np.arange(100) % 10
    model = GraphSpreading().fit(x, given)
    assert (model.transduction_ == np.arange(10_000) % 10).mean() > 0.99
