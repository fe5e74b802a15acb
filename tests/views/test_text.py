"""Hashed counts against scikit-learn's, and the views made of them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from cotrain.views.text import CharacterView, CountView, TopicView, WordView, cells, character_counts, word_counts

TEXTS = [
    "The cat sat on the mat.",
    "the CAT ate 2 fish",
    "",
    "Éclair für Ünïcode wörd",
    "a  b\tc\nd",
    "x" * 300,
    "こんにちは 世界",
]
FRAME = pd.DataFrame({"text": [f"word{i % 7} and part{i % 3} with thing{i % 11} again" for i in range(120)]})


def test_words_equal_count_vectorizer():
    ours = word_counts(TEXTS)
    theirs = CountVectorizer(token_pattern=r"[㐀-鿿ぁ-ゟ]|[^\W_㐀-鿿ぁ-ゟ]+", ngram_range=(1, 2)).fit_transform(TEXTS)
    assert ours.sum() == theirs.sum()
    assert ours.nnz == theirs.nnz  # no two of these words share a hash
    assert sorted(ours.data) == sorted(theirs.data)


def test_characters_equal_char_wb():
    texts = ["the cat sat", "on the mat again", "mississippi"]  # words of at least two letters
    ours = character_counts(texts)
    theirs = CountVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform(texts)
    np.testing.assert_array_equal(character_counts(texts, 2, 4).sum(1), theirs.sum(1))
    assert ours.sum() > theirs.sum()


def test_no_gram_crosses_a_word_or_a_text():
    # "ab" and "cd" as one word, as two words and as two texts: b and c are neighbours in the first only
    assert character_counts(["", "  "]).sum() == 0
    assert character_counts(["ab cd"], 1, 1).sum() == 4  # and no blank
    assert character_counts(["abcd"], 2, 2).sum() == 5  # " a", "ab", "bc", "cd", "d "
    assert character_counts(["ab cd"], 2, 2).sum() == 6
    assert character_counts(["ab", "cd"], 2, 2).sum(1).ravel().tolist() == [[3.0, 3.0]]


@settings(max_examples=60)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_a_text_counts_the_same_alone_and_among_others(texts):
    for count in (word_counts, character_counts):
        together = count(texts)
        assert together.shape[0] == len(texts)
        for row, text in enumerate(texts):
            assert (together[row] != count([text])).nnz == 0


def test_long_inputs_are_hashed_in_chunks(monkeypatch):
    texts = FRAME["text"].tolist()
    whole = word_counts(texts)
    monkeypatch.setattr("cotrain.views.text._CHUNK", 200)
    assert (word_counts(texts) != whole).nnz == 0


def test_word_view_equals_tfidf():
    view = WordView(["text"])
    raw = view.extract(FRAME)
    ours = view.fit(raw).transform(raw)
    theirs = TfidfVectorizer(
        token_pattern=r"[㐀-鿿ぁ-ゟ]|[^\W_㐀-鿿ぁ-ゟ]+", ngram_range=(1, 2), min_df=2, max_df=0.95, sublinear_tf=True
    ).fit_transform(FRAME["text"])
    assert ours.shape == theirs.shape
    # log(1 + count) stands for 1 + log(count): equal up to a factor where counts are 1, as here
    np.testing.assert_allclose((ours @ ours.T).toarray(), (theirs @ theirs.T).toarray(), atol=1e-5)


def test_rows_that_were_not_fitted_change_nothing():
    view = WordView(["text"])
    raw = view.extract(FRAME)
    fitted = view.fit(raw[:100]).transform(raw[:100])
    other = view.fresh().fit(view.extract(FRAME[:100])).transform(raw[:100])
    np.testing.assert_array_equal(fitted.toarray(), other.toarray())


def test_words_of_a_single_row_are_left_out():
    texts = [f"same w{i}" for i in range(50)] + [f"same w{i}" for i in range(25)] + ["other"] * 30
    view = WordView(["text"])
    raw = view.extract(pd.DataFrame({"text": texts}))
    assert view.fit(raw).learned["column"].size == 52  # 25 words that came twice, as many pairs, and two more


def test_counts_are_whole_numbers_and_topics_have_unit_length():
    counted = CountView(["text"])
    raw = counted.extract(FRAME)
    found = counted.fit(raw).transform(raw)
    np.testing.assert_array_equal(found.data, np.round(found.data))
    topics = TopicView(["text"], dimensions=5)
    raw = topics.extract(FRAME)
    features = topics.fit(raw).transform(raw)
    assert features.shape == (120, 5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)


def test_topics_leave_out_as_little_as_the_singular_vectors():
    view = TopicView(["text"], dimensions=3)
    raw = view.extract(FRAME)
    view.fit(raw)
    words = WordView.transform(view, raw).toarray()
    directions = view.learned["direction"]
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-5)
    left = ((words - words @ directions.T @ directions) ** 2).sum()
    least = (np.linalg.svd(words, compute_uv=False)[3:] ** 2).sum()
    assert left <= 1.01 * least


@pytest.mark.parametrize("texts", [[""], ["", " \n"], ["!!!"]])
def test_texts_without_words_have_no_features(texts):
    view = CharacterView(["text"])
    frame = pd.DataFrame({"text": texts})
    raw = view.extract(frame)
    assert view.fit(raw).transform(raw).shape[0] == len(texts)
    topics = TopicView(["text"])
    raw = topics.extract(frame)
    assert np.isfinite(topics.fit(raw).transform(raw)).all()


def test_several_columns_are_one_text_and_missing_cells_are_empty():
    frame = pd.DataFrame({"a": ["one", None], "b": ["two", "three"]})
    assert [text.split() for text in cells(frame, ["a", "b"])] == [["one", "two"], ["three"]]


def test_an_emoji_is_a_word_of_its_own():
    def words(text):
        return word_counts([text], longest=1)

    apart, together = words("good 😀 😀 bad ❤ x"), words("good😀😀bad ❤\ufe0fx")
    assert apart.sum() == 6
    assert (apart != together).nnz == 0
    assert words("a 👍🏽, b")[0].nnz == 3  # the colour of a hand is no word


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我爱北京", ["我", "爱", "北", "京"]),
        ("ok東京タワーへ行く", ["ok", "東", "京", "タワー", "へ", "行", "く"]),
        ("ไปที่ไหน", ["ไ", "ป", "ที่", "ไ", "ห", "น"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
    ],
)
def test_scripts_without_blanks_are_cut_into_characters_with_their_marks(text, words):
    apart, together = word_counts([" ".join(words)]), word_counts([text])
    assert together.sum() == 2 * len(words) - 1  # and pairs
    assert (apart != together).nnz == 0
