import numpy as np
import pytest

from cotrain.errors import InputError
from cotrain.views.token_ids import TokenIds, split_words, word_vectors


def test_by_hand():
    texts = ["The cat, the CAT!", "a dog and the cat", "dog"]
    ids = TokenIds(size=10, length=4, least=2).fit(texts)
    assert ids.words == ["", "?", "cat", "the", "dog"]  # 3, 3 (by the alphabet), 2
    np.testing.assert_array_equal(ids.transform(texts), [[3, 2, 3, 2], [1, 4, 1, 3], [4, 0, 0, 0]])
    np.testing.assert_array_equal(ids.transform(["", "never seen"]), [[0, 0, 0, 0], [1, 1, 0, 0]])
    assert TokenIds(size=3, length=4).fit(texts).words == ["", "?", "cat"]


def test_words_of_any_script():
    assert split_words("Größe, 42 naïve—ΩΜΕΓΑ") == ["größe", "42", "naïve", "ωμεγα"]


def test_errors():
    with pytest.raises(InputError, match="No word occurs 2 times"):
        TokenIds().fit(["all words differ"])
    with pytest.raises(InputError, match="length"):
        TokenIds(length=0)


def test_words_of_the_same_company_have_near_vectors():
    rng = np.random.default_rng(0)
    topics = [range(2, 12), range(12, 22)]  # two topics of ten words each
    ids = np.array([rng.choice(topics[row % 2], 15) for row in range(300)])
    vectors = word_vectors(ids, 25, 4)
    assert vectors.shape == (25, 4)
    assert not vectors[[0, 1, 22, 23, 24]].any()
    unit = vectors[2:22] / np.linalg.norm(vectors[2:22], axis=1, keepdims=True)
    near = unit @ unit.T
    assert near[:10, :10].mean() > near[:10, 10:].mean() + 0.3
    assert vectors[2:22].std() == pytest.approx(1, rel=1e-4)


def test_against_a_plain_count():
    ids = np.sort(np.random.default_rng(0).integers(0, 8, (30, 8)), axis=1)  # like words stand together
    pairs = np.zeros((8, 8))
    for row in ids:
        for i in range(8):
            for j in range(8):
                if i != j and abs(i - j) <= 2 and row[i] > 1 and row[j] > 1:
                    pairs[row[i], row[j]] += 1
    count = pairs.sum(0)
    smooth = count**0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(pairs * smooth.sum() / np.outer(count, smooth))
    u, s, _ = np.linalg.svd(np.nan_to_num(np.maximum(information, 0)))
    reference = u[:, :2] * s[:2]
    reference /= reference[2:].std()
    found = word_vectors(ids, 8, 2, window=2)
    signs = np.sign((found * reference).sum(0))  # a factor's sign is free
    np.testing.assert_allclose(found[2:] * signs, reference[2:], atol=1e-3)
