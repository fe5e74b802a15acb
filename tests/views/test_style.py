"""How texts are written."""

import numpy as np
import pandas as pd
import pytest

from cotrain.views.style import FEATURES, StyleView, style

TEXTS = ["Hello WORLD!! 12 €", "", "a,b.\n\nис ты", "no. no? NO", "😀\ud800x"]


def value(text, feature):
    return dict(zip(FEATURES, style([text])[0], strict=True))[feature]


def test_by_hand():
    text = "Hello WORLD!! 12 €"  # 18 characters, 3 words, 10 letters
    expected = {
        "characters, log": np.log(19),
        "words, log": np.log(4),
        "letters a word": 10 / 3,
        "capitals among letters": 6 / 10,
        "words that begin with a capital": 2 / 3,
        "digits among characters": 2 / 18,
        "punctuation among characters": 2 / 18,
        "symbols among characters": 1 / 18,
        "letters of other scripts among letters": 0,
        "characters that repeat the one before": 2 / 18,  # ll, !!
        "exclamation marks, log": np.log(3),
        "question marks, log": 0,
        "full stops, log": 0,
        "commas, log": 0,
        "line breaks, log": 0,
    }
    np.testing.assert_allclose(style([text])[0], list(expected.values()))
    assert tuple(expected) == FEATURES
    assert value("a,b.\n\nис", "letters of other scripts among letters") == 0.5
    assert value("a,b.\n\nис", "line breaks, log") == pytest.approx(np.log(3))
    assert value("a  b", "characters that repeat the one before") == 0  # blanks do not count


def test_a_text_counts_the_same_alone_and_among_others():
    together = style(TEXTS)
    for row, text in enumerate(TEXTS):
        np.testing.assert_array_equal(style([text])[0], together[row])
    assert style([]).shape == (0, len(FEATURES))
    assert (together[1] == 0).all()


def test_features_are_of_one_size_and_end_somewhere():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": ["x" * rng.integers(1, 30) + "!" * rng.integers(0, 3) for _ in range(300)]})
    view = StyleView(["t"])
    raw = view.extract(frame)
    features = view.fit(raw).transform(raw)
    assert features.dtype == np.float32
    spread = features.std(0)
    assert spread[spread > 0] == pytest.approx(spread.max(), rel=0.1)
    odd = view.transform(view.extract(pd.DataFrame({"t": ["!" * 15_000, None]})))
    assert np.isfinite(odd).all()
    assert np.abs(odd).max() <= 5
