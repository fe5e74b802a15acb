import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.special import logsumexp
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.naive_bayes import MultinomialNB

from cotrain.errors import InputError
from cotrain.estimators.em_naive_bayes import EMNaiveBayes


def documents(
    n: int = 200,
    words: int = 50,
    classes: int = 3,
    length: int = 12,
    common=0.0,
    labelled: int = 5,
    seed: int = 0,
    prior=None,
):
    """Word counts drawn from the model itself, with a share of words common to all classes; classes; few labels."""
    rng = np.random.RandomState(seed)
    theta = common * rng.dirichlet([0.3] * words) + (1 - common) * rng.dirichlet([0.3] * words, size=classes)
    y = rng.choice(classes, size=n, p=prior)
    x = np.array([rng.multinomial(length, theta[c]) for c in y])
    gaps = np.full(n, -1)
    for c in range(classes):
        gaps[np.flatnonzero(y == c)[:labelled]] = c
    return sparse.csr_array(x), y, gaps


@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.toarray(), lambda x: TfidfTransformer().fit_transform(x)])
def test_weight_zero_is_multinomial_naive_bayes(alpha, make):
    counts_, _, gaps = documents()
    x = make(counts_)
    ours = EMNaiveBayes(weight=0, alpha=alpha, scale=1).fit(x, gaps)
    theirs = MultinomialNB(alpha=alpha).fit(x[gaps >= 0], gaps[gaps >= 0])
    np.testing.assert_allclose(ours.feature_log_prob_, theirs.feature_log_prob_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.class_log_prior_, theirs.class_log_prior_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-10)


def test_no_unlabelled_rows_is_multinomial_naive_bayes():
    x, y, _ = documents()
    for prior in ("estimated", "labelled", [0.2, 0.3, 0.5]):
        ours = EMNaiveBayes(prior=prior).fit(x, y)
        theirs = MultinomialNB(alpha=0.1, class_prior=None if isinstance(prior, str) else prior).fit(x, y)
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=0, atol=1e-10)
        assert (ours.n_iter_, ours.termination_condition_) == (0, "converged")


def test_one_round_by_hand():
    """Rows (2, 0) of a, (0, 2) of b, and (1, 0) unlabelled: it is of a with probability 3/4."""
    x = np.array([[2, 0], [0, 2], [1, 0]])
    model = EMNaiveBayes(weight=1, alpha=1, rounds=1).fit(x, ["a", "b", ""])
    np.testing.assert_allclose(np.exp(model.class_log_prior_), [7 / 12, 5 / 12])
    np.testing.assert_allclose(np.exp(model.feature_log_prob_), [[3.75 / 4.75, 1 / 4.75], [1.25 / 4.25, 3 / 4.25]])
    assert model.transduction_.tolist() == ["a", "b", "a"]
    half = EMNaiveBayes(weight=0.5, alpha=1, rounds=1).fit(x, ["a", "b", ""])
    np.testing.assert_allclose(np.exp(half.class_log_prior_), [(1 + 0.375) / 2.5, (1 + 0.125) / 2.5])
    fixed = EMNaiveBayes(weight=1, alpha=1, rounds=1, prior={"a": 1, "b": 3}).fit(x, ["a", "b", ""])
    np.testing.assert_allclose(np.exp(fixed.class_log_prior_), [0.25, 0.75])


def test_objective_is_the_weighted_penalised_log_likelihood():
    x, _, gaps = documents(common=0.6)
    model = EMNaiveBayes(weight=0.3, alpha=0.5, rounds=4, tolerance=0).fit(x, gaps)
    joint = x @ model.feature_log_prob_.T + model.class_log_prior_
    labelled = gaps >= 0
    expected = joint[labelled, gaps[labelled]].sum() + 0.3 * logsumexp(joint[~labelled], axis=1).sum()
    np.testing.assert_allclose(model.objective_[-1], expected + 0.5 * model.feature_log_prob_.sum())
    assert len(model.objective_) == model.n_iter_ + 1 == 5


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.floats(0.01, 2),
    st.floats(0.01, 3),
    st.sampled_from(["estimated", "labelled", [0.1, 0.2, 0.7]]),
    st.booleans(),
)
def test_objective_never_falls(seed, weight, alpha, prior, tfidf):
    x, _, gaps = documents(60, 20, labelled=1 + seed % 4, seed=seed, length=5)
    if (np.bincount(gaps[gaps >= 0], minlength=3) == 0).any():
        return
    x = TfidfTransformer().fit_transform(x) if tfidf else x
    model = EMNaiveBayes(weight=weight, alpha=alpha, prior=prior, rounds=25, tolerance=0).fit(x, gaps)
    gain = np.diff(model.objective_)
    assert (gain >= -1e-9 * np.abs(model.objective_[:-1])).all()


def test_finds_the_prior_that_equal_labels_hide():
    x, y, gaps = documents(1500, prior=[0.7, 0.2, 0.1], length=25)
    model = EMNaiveBayes(weight=1).fit(x, gaps)
    np.testing.assert_allclose(np.exp(model.class_log_prior_), np.bincount(y) / len(y), atol=0.03)


def test_unlabelled_rows_help_where_the_model_is_true():
    gains = []
    for seed in range(5):
        x, y, gaps = documents(600, words=200, common=0.6, labelled=2, seed=seed)
        alone = MultinomialNB(alpha=0.1).fit(x[gaps >= 0], gaps[gaps >= 0]).score(x, y)
        gains.append(EMNaiveBayes().fit(x, gaps).score(x, y) - alone)
    assert np.mean(gains) > 0.3


def test_scale_lifts_tfidf_and_leaves_counts():
    x, y, gaps = documents(600, words=400, length=20, common=0.6, labelled=2)
    tfidf = TfidfTransformer().fit_transform(x)
    assert EMNaiveBayes().fit(x, gaps).scale_ == 1
    lifted = EMNaiveBayes().fit(tfidf, gaps)
    np.testing.assert_allclose(lifted.scale_, tfidf.nnz / tfidf.sum())
    assert lifted.score(tfidf, y) > EMNaiveBayes(scale=1).fit(tfidf, gaps).score(tfidf, y) + 0.2


def test_new_rows_are_scaled_as_those_that_were_learnt_from():
    """Three entries that weigh 1 together."""
    x, y = np.array([[0.25, 0.25], [0.0, 0.5]]), [0, 1]
    ours, theirs = EMNaiveBayes(alpha=1.0).fit(x, y), MultinomialNB(alpha=1.0).fit(3 * x, y)
    assert ours.scale_ == 3
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(3 * x))


def test_stops_when_nothing_is_gained():
    x, _, gaps = documents()
    model = EMNaiveBayes(rounds=200, tolerance=1e-3).fit(x, gaps)
    assert model.termination_condition_ == "converged"
    assert model.n_iter_ < 50
    assert EMNaiveBayes(rounds=2, tolerance=0).fit(x, gaps).termination_condition_ == "max_iter"


@pytest.mark.parametrize("arguments", [{"weight": -1}, {"alpha": 0}, {"prior": "even"}, {"prior": [1, 2]}])
def test_bad_arguments(arguments):
    x, _, gaps = documents()
    with pytest.raises(InputError):
        EMNaiveBayes(**arguments).fit(x, gaps)


def test_without_a_tolerance_all_rounds_are_taken():
    """5,600 texts, 20,000 words, 4 classes."""
    x = sparse.random_array((5600, 20_000), density=0.002, format="csr", rng=np.random.default_rng(0))
    gaps = np.full(5600, -1)
    gaps[:20] = np.arange(20) % 4
    model = EMNaiveBayes(tolerance=0).fit(x, gaps)
    assert model.n_iter_ == 30
