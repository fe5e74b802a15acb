"""The recipes of the five methods on sounds, images and texts: rows, splits, bars; and tiny runs on the real data."""

import inspect
import os

import numpy as np
import pytest
import torch

from cotrain.methods.semi.comparison import LEVELS, NAMES, ROWS
from cotrain.recipe import load
from cotrain.run import Run, Table

RECIPES = {name: load(name) for name in ("audio_ssl", "image_ssl", "text_ssl_nets")}
SPLITS = {"audio_ssl": 3_000, "image_ssl": 24_000, "text_ssl_nets": 7_600}
stored = pytest.mark.skipif(not os.environ.get("COTRAIN_DATA"), reason="COTRAIN_DATA is not set")
each = pytest.mark.parametrize("name", RECIPES)


@each
@pytest.mark.parametrize("full", [False, True])
def test_rows_are_the_recipe_s_arguments_and_hold_the_same_methods(name, full):
    rows = RECIPES[name].rows(full)
    assert set(ROWS) <= set(rows)
    assert "supervised, all labels" in rows
    known = set(inspect.signature(RECIPES[name].recipe).parameters)
    assert all(set(row) <= known for row in rows.values())


@each
def test_every_method_has_a_point_of_the_grid(name):
    assert set(RECIPES[name].CHOSEN) == set(NAMES)
    assert set(RECIPES[name].CHOSEN.values()) <= set(LEVELS)


def table(recipe, **scores):
    """0.5 everywhere but where it is said."""
    made = Table()
    for row in recipe.rows():
        for seed in range(3):
            made.add(row, seed, {"accuracy": scores.get(row.replace(" ", "_"), 0.5)})
    return made


@pytest.mark.parametrize("name", ["image_ssl", "text_ssl_nets"])
def test_bars_over_the_net_alone_by_hand(name):
    recipe = RECIPES[name]
    # MixMatch and ReMixMatch count with their mixup, FixMatch without.
    scores = {"fixmatch": 0.53, "mixmatch": 0.9, "mixmatch_+_mixup": 0.51, "remixmatch_+_mixup": 0.6}
    found = recipe.bars(table(recipe, **scores))
    assert [round(bar.value, 9) for bar in found] == [0.03, 0.01, 0.1]
    assert [bar.held for bar in found] == [True, False, True]
    assert "mixup adds -0.010" in found[0].text


def test_bars_on_sounds_by_hand():
    recipe = RECIPES["audio_ssl"]
    scores = {
        "mixmatch_+_mixup": 0.6,
        "remixmatch_+_mixup": 0.54,
        "fixmatch": 0.56,
        "fixmatch_+_mixup": 0.62,
        "mean_teacher_+_mixup": 0.49,
        "supervised_+_mixup,_all_labels": 0.66,
        "supervised,_all_labels": 0.61,
        "forest_on_cepstra": 0.8,
    }
    found = recipe.bars(table(recipe, **scores))
    assert [round(bar.value, 9) for bar in found] == [0.1, 0.04, 0.06, round(0.05 / 3, 9), -0.04]
    assert [bar.held for bar in found] == [True, False, True, True, False]
    aside = found[-1].text
    held, failed = aside.split("did not hold:")
    assert "the forest on cepstra has 0.800, the best method 0.620" in held
    assert "remixmatch over both older ones" in held
    assert "mixmatch over fixmatch" in held
    assert "mixup helps fixmatch" in held
    assert "the best over all labels" in held
    assert "remixmatch over fixmatch" in failed
    assert "mixup helps mean teacher" in failed
    assert "mixup helps deep co-training" in failed


@stored
@pytest.mark.data
@each
def test_held_out_rows_are_labelled_ones_and_nothing_is_judged_that_was_learnt(name):
    recipe = RECIPES[name]
    plain, apart = recipe.rows_of(10, 3, held_out=False), recipe.rows_of(10, 3, held_out=True)
    assert set(apart.test) | set(apart.labelled) == set(plain.labelled)
    for split in (plain, apart, recipe.rows_of(0, 3, held_out=False)):
        assert not set(split.test) & (set(split.labelled) | set(split.unlabelled))
        assert max(split.test) < SPLITS[name]
    whole = recipe.rows_of(0, 3, held_out=False)
    assert set(whole.labelled) == set(plain.labelled) | set(plain.unlabelled)


@stored
@pytest.mark.data
def test_no_sound_of_a_test_or_held_out_speaker_is_learnt():
    recipe = RECIPES["audio_ssl"]
    speakers = np.array(recipe.fsdd.labels()[1])
    for held_out in (False, True):
        split = recipe.rows_of(10, 0, held_out)
        learnt = set(speakers[split.labelled]) | set(speakers[split.unlabelled])
        assert not learnt & set(speakers[split.test])


@stored
@pytest.mark.data
def test_spectrograms_have_their_size_and_do_not_know_the_level():
    recipe = RECIPES["audio_ssl"]
    waves = recipe.recordings()[0][:8]
    x = recipe.spectrogram(waves)
    assert x.shape == (8, 40, 50)
    torch.testing.assert_close(recipe.spectrogram(waves / 8), x, atol=1e-3, rtol=1e-3)
    net = recipe.net(full=False)
    assert 70_000 < sum(p.numel() for p in net.parameters()) < 85_000
    assert net(x).shape == (8, 10)


@stored
@pytest.mark.data
def test_vocabulary_and_word_vectors_are_learnt_from_the_pool():
    recipe = RECIPES["text_ssl_nets"]
    ids, _, vectors = recipe.tokens()
    pool = recipe.rows_of(0, 0, held_out=False).labelled
    used = ids[pool].unique()
    assert used.max() < len(vectors)
    never = torch.ones(len(vectors), dtype=torch.bool)
    never[used] = False
    assert (vectors[never] == 0).all()  # an id that stands in no row of the pool has no vector


@stored
@pytest.mark.data
@pytest.mark.parametrize("row", ["supervised", "deep co-training + mixup", "remixmatch + mixup", "mean teacher"])
@pytest.mark.parametrize("name", ["audio_ssl", pytest.param("image_ssl", marks=pytest.mark.slow), "text_ssl_nets"])
def test_a_tiny_run_gives_a_number(name, row):
    recipe = RECIPES[name]
    made = recipe.recipe(**recipe.rows()[row], steps=2)
    assert isinstance(made, Run)
    numbers = made.measure()
    assert list(numbers) == ["accuracy"]
    assert 0 <= numbers["accuracy"] <= 1


@stored
@pytest.mark.data
@pytest.mark.slow
def test_fixmatch_reads_news_with_ten_labels_a_class():
    recipe = RECIPES["text_ssl_nets"]
    assert recipe.recipe(method="fixmatch", steps=200).measure()["accuracy"] > 0.7
    assert recipe.recipe(method="em").measure()["accuracy"] > 0.78
