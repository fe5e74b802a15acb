import gzip
import os
import struct

import numpy as np
import pytest

from cotrain.data import (
    ag_news,
    cifar10,
    fashion_mnist,
    fsdd,
    heart,
    mfeat,
    mnist10k,
    planetoid,
    sentence_sets,
    sms_spam,
)
from cotrain.data.idx import read_idx

stored = pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")


def test_the_packaged_messages_and_their_attribution(monkeypatch):
    monkeypatch.delenv("COTRAIN_DATA", raising=False)
    texts, y, names = sms_spam.load()
    assert (len(texts), y.dtype, names) == (5574, np.int64, ["ham", "spam"])
    assert np.bincount(y).tolist() == [4827, 747]
    assert texts[0].startswith("Go until jurong point")
    attribution = (sms_spam.path().parent / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for part in ("Almeida", "Hidalgo", "UCI", "CC BY 4.0"):
        assert part in attribution


def test_idx_by_hand(tmp_path):
    values = bytes(range(12))
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">iii", 3, 2, 2) + values))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz"), np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.gz", rows=1), [[[0, 1], [2, 3]]])
    (tmp_path / "b").write_bytes(b"\0\0\x0d\x01" + struct.pack(">i", 1) + b"\0\0\0\0")
    with pytest.raises(ValueError, match="type 13"):
        read_idx(tmp_path / "b")


@stored
@pytest.mark.data
def test_ag_news():
    texts, y, names = ag_news.load()
    assert np.bincount(y).tolist() == [1900] * 4
    assert names[y[0]] == "Business"
    assert texts[0].startswith("Fears for T N pension after talks Unions")
    assert not any("\\" in text for text in texts)


@stored
@pytest.mark.data
def test_fsdd():
    waves, rate, y, speakers = fsdd.load()
    assert (len(waves), rate, waves[0].dtype, waves[0].ndim) == (3000, 8000, np.float32, 1)
    assert max(np.abs(wave).max() for wave in waves) <= 1
    pairs, counts = np.unique([f"{speaker}{digit}" for speaker, digit in zip(speakers, y)], return_counts=True)
    assert (len(pairs), set(counts)) == (60, {50})


@stored
@pytest.mark.data
@pytest.mark.parametrize(("module", "shape"), [(cifar10, (4000, 32, 32, 3)), (fashion_mnist, (10000, 28, 28))])
def test_images(module, shape):
    images, y, names = module.load("test")
    assert (images.shape, images.dtype, y.dtype, len(names)) == (shape, np.uint8, np.int64, 10)
    assert np.bincount(y).tolist() == [shape[0] // 10] * 10
    np.testing.assert_array_equal(module.labels("test"), y)
    # Images of a class are more alike than images of two classes: rows and labels belong together.
    means = np.stack([images[y == c].reshape((y == c).sum(), -1).mean(0) for c in range(10)])
    nearest = ((images[:500].reshape(500, 1, -1) - means) ** 2).sum(-1).argmin(1)
    assert (nearest == y[:500]).mean() > 0.2


@stored
@pytest.mark.data
def test_mnist10k():
    images, y = mnist10k.load()
    assert images.shape == (10000, 28, 28)
    assert y[:5].tolist() == [7, 2, 1, 0, 4]


@stored
@pytest.mark.data
def test_mfeat():
    views, y = mfeat.load()
    widths = {view: x.shape[1] for view, x in views.items()}
    assert widths == {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}
    assert {x.dtype for x in views.values()} == {np.dtype(np.float32)}
    assert np.bincount(y).tolist() == [200] * 10


@stored
@pytest.mark.data
@pytest.mark.parametrize(("name", "nodes", "words", "topics"), [("cora", 2708, 1433, 7), ("citeseer", 3327, 3703, 6)])
def test_planetoid(name, nodes, words, topics):
    x, y, edges = planetoid.load(name)
    assert x.shape == (nodes, words)
    assert x.dtype == np.float32
    assert y.max() + 1 == topics
    assert (edges[:, 0] < edges[:, 1]).all()
    train, validation, test = planetoid.public_split(name)
    assert (len(train), len(validation), len(test)) == (20 * topics, 500, 1000)
    assert np.bincount(y[train]).tolist() == [20] * topics


@stored
@pytest.mark.data
def test_heart_without_its_repeated_rows():
    assert len(heart.load(distinct=False)) == 1018
    table = heart.load()
    assert len(table) == 300
    assert not table.duplicated().any()


@stored
@pytest.mark.data
def test_sentence_sets():
    sizes = {name: len(sentence_sets.load(name)[0]) for name in sentence_sets.NAMES}
    assert sizes == {"mr": 10662, "subj": 10000, "cr": 3775, "mpqa": 10606, "trec": 5452, "sst2": 6920, "sst5": 8544}
    texts, y, names = sentence_sets.load("trec", "test")
    assert (len(texts), len(names), y.max()) == (500, 6, 5)
