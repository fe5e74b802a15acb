import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cotrain.auto.align import align
from cotrain.auto.columns import Columns, infer
from cotrain.auto.fit import fit
from cotrain.auto.problem import load
from cotrain.auto.read import read
from cotrain.auto.vectors import read_vectors, vector_columns, vector_shape
from cotrain.errors import InputError


@given(arrays(np.float64, array_shapes(max_dims=4, max_side=4), elements=st.floats(-1e9, 1e9)))
def test_any_array_is_read_as_it_was_written(values):
    values = values + 0.5  # whole numbers in short lists are names
    written = json.dumps(values.tolist())
    with np.printoptions(threshold=10**6, precision=17):
        forms = [written, str(values.tolist()).replace("[", "(").replace("]", ")"), str(values), f" {written}\n"]
    for cell in forms:
        if (values % 1).any():
            assert vector_shape([cell, cell]) == values.shape
        found, strays = read_vectors([cell, None, ""], values.shape)
        assert not strays
        np.testing.assert_allclose(found[0], values.ravel(), rtol=1e-12)
        assert np.isnan(found[1:]).all()


@pytest.mark.parametrize(
    "cells",
    [
        ["[0.5, 1]", "[0.5]"],  # of different lengths
        ["[0.5, 1]", "none"],
        ["[0.5, a]"],
        ["[3, 4, 5]", "[1, 2, 3]"],  # rather tags
        ["[[0.5, 1], [2]]"],
        ["[0.5, 1]]"],
        ["[0.5] and [1.5]"],
        ["[]"],
        ["0.5, 1"],
        ["(see below)"],
        [],
    ],
)
def test_what_is_no_vector(cells):
    assert vector_shape(cells) == ()


def test_cells_of_another_shape_are_told():
    values, strays = read_vectors(["[1.5, 2]", "[1, 2, 3]", "x", "[null, 2]"], (2,))
    assert strays == [1, 2]
    np.testing.assert_array_equal(values, [[1.5, 2], [np.nan] * 2, [np.nan] * 2, [np.nan, 2]])


def test_the_columns_of_an_aligned_table():
    assert vector_columns("a", (2, 2)) == ("a:0_0", "a:0_1", "a:1_0", "a:1_1")


def embeddings(rows=60, size=12):
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    x = rng.normal(size=(rows, size)) + 2 * y[:, None]
    label = [["no", "yes"][c] if row < 12 else None for row, c in enumerate(y)]
    return x, y, label


@pytest.mark.parametrize("how", ["lists", "arrays", "csv", "json", "parquet"])
def test_a_column_of_embeddings_however_it_is_stored(tmp_path, how):
    x, _, label = embeddings()
    frame = pd.DataFrame({"embedding": x.tolist() if how != "arrays" else list(x), "label": label})
    data = frame
    if how == "csv":
        frame.to_csv(data := tmp_path / "t.csv", index=False)
    elif how == "json":
        frame.to_json(data := tmp_path / "t.jsonl", orient="records", lines=True, double_precision=15)
    elif how == "parquet":
        frame.to_parquet(data := tmp_path / "t.parquet")
    problem = load(data, target="label")
    assert problem.columns.vector == problem.columns.features == ("embedding",)
    assert problem.columns.shapes == {"embedding": (12,)}
    assert not [warning for warning in problem.audit.warnings if "embedding" in warning]
    np.testing.assert_allclose(problem.frame.to_numpy(np.float64), x[problem.rows], rtol=1e-9)
    known = type(problem.columns).from_dict(json.loads(json.dumps(problem.columns.to_dict())))
    assert known == problem.columns


def test_vectors_of_another_length_or_none_at_all_count_as_missing():
    x, _, label = embeddings()
    frame = pd.DataFrame({"embedding": x.tolist(), "n": np.arange(60) % 7, "label": label})
    columns = infer(read(frame).frame, target="label")
    said: list[str] = []
    found = align(pd.DataFrame({"embedding": ["[1.5, 2]", ""], "n": [1, 2]}), columns, said)
    assert found.shape == (2, 13)
    assert found.filter(like="embedding").isna().all(axis=None)
    assert "not vectors of 12 numbers count as missing: 1, first '[1.5, 2]'" in said[0]


def test_numbers_of_vectors_that_are_infinite_count_as_missing():
    columns = Columns("label", vector=("v",), shapes={"v": (2,)})
    found = align(pd.DataFrame({"v": ["[1, 2]", "[1, 1e999]", "[-Infinity, 3]"]}), columns)
    np.testing.assert_array_equal(found, [[1, 2], [1, np.nan], [np.nan, 3]])


def test_they_are_left_out_by_their_own_name():
    x, _, label = embeddings()
    frame = read(pd.DataFrame({"embedding": x.tolist(), "n": np.arange(60) % 7, "label": label})).frame
    assert infer(frame, target="label", drop="embedding").features == ("n",)


def test_a_vector_as_a_label_is_refused():
    frame = pd.DataFrame({"n": np.arange(40) % 7, "label": [[0.5, 1.0]] * 20 + [[1.5, 2.0]] * 20})
    with pytest.raises(InputError, match="label"):
        load(frame, target="label")


@pytest.mark.parametrize("how", ["array", "cells"])
def test_arrays_of_pictures_are_seen_as_pictures(how):
    rng = np.random.default_rng(0)
    y = np.arange(130) % 2
    place, grid = rng.uniform(2, 6, (130, 2, 1, 1)), np.mgrid[:8, :8]
    narrow = np.where(y[:, None] == [0, 1], 3.0, 0.3)[..., None, None]  # lights that lie and lights that stand
    pictures = (255 * np.exp(-(narrow * (grid - place) ** 2).sum(1) / 4)).astype(np.uint8)
    codes = np.where(np.arange(130) < 20, y, -1)
    quick = {"encoder": "none", "method": "logistic", "jobs": 1, "budget": 4}
    if how == "array":
        result, new = fit(pictures, codes, **quick), pictures
    else:
        new = pd.DataFrame({"image": list(pictures)})
        known = [str(code) if code >= 0 else None for code in codes]
        result = fit(new.assign(label=known), target="label", image="image", **quick)
    assert any("seen as pictures of 8 by 8 pixels" in warning for warning in result.report["warnings"])
    assert (result.student.predict(new) == y.astype(str)).mean() > 0.9
