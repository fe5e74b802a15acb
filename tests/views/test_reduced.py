"""A reduced view against scikit-learn's PCA."""

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA

from cotrain.views.audio import MfccView
from cotrain.views.image import PixelView
from cotrain.views.reduced import ReducedView
from cotrain.views.table import ScaledView

FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 8)), columns=[f"x{i}" for i in range(8)])


def test_components_equal_pca():
    base = ScaledView(list(FRAME))
    view = ReducedView.of(base, dimensions=3)
    raw = view.extract(FRAME)
    ours = view.fit(raw).transform(raw)
    plain = base.fit(raw).transform(raw)
    theirs = PCA(3).fit_transform(plain)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)


def test_made_anew_from_its_settings_and_arrays():
    view = ReducedView.of(ScaledView(list(FRAME)), dimensions=3)
    raw = view.extract(FRAME)
    view.fit(raw)
    again = ReducedView(view.columns, **view.settings)
    again.learned = view.learned
    np.testing.assert_array_equal(again.transform(raw), view.transform(raw))


def test_what_an_extraction_pins_is_kept_for_views_made_anew():
    class Pinning(ScaledView):
        def __init__(self, columns, rate=None):
            super().__init__(columns)
            self.settings = {"rate": rate}

        def extract(self, frame):
            self.settings["rate"] = self.settings["rate"] or 8_000
            return super().extract(frame)

    globals()["Pinning"] = Pinning
    view = ReducedView(list(FRAME), f"{__name__}:Pinning", {"rate": None})
    view.extract(FRAME)
    assert view.fresh().base.settings["rate"] == 8_000


def test_what_another_view_of_the_base_pins_is_kept_too():
    base = MfccView(["sound"])
    view = ReducedView.of(base)
    base.settings["rate"] = 8_000
    assert view.base.settings["rate"] == view.settings["base_settings"]["rate"] == 8_000


def test_on_features_that_are_there_it_learns_and_says_the_same():
    base = ScaledView(list(FRAME))
    raw = base.extract(FRAME)
    features = base.fit(raw).transform(raw)
    alone, upon = ReducedView.of(base, dimensions=3).fit(raw), ReducedView.of(base, dimensions=3).fit_on(base, features)
    assert alone.learned.keys() == upon.learned.keys()
    np.testing.assert_allclose(upon.cut(features), alone.transform(raw), atol=1e-6)
    np.testing.assert_allclose(upon.transform(raw), alone.transform(raw), atol=1e-6)


def test_directions_are_those_of_rows_from_everywhere():
    base = ScaledView(list(FRAME)[:2])
    features = np.zeros((6_000, 2))
    features[:5_000, 0], features[5_000:, 1] = np.tile([-1, 1], 2_500), np.tile([-9, 9], 500)
    view = ReducedView.of(base, dimensions=1).fit_on(base, features)
    np.testing.assert_allclose(np.abs(view.learned["direction"]), [[0, 1]], atol=0.1)


def test_it_knows_its_base():
    view = ReducedView.of(ScaledView(list(FRAME)), dimensions=3)
    assert view.is_of(ScaledView(list(FRAME)))
    assert not view.is_of(ScaledView(list(FRAME)[:2]))
    assert not view.is_of(view)


def test_pictures_that_are_all_alike_have_a_direction_too():
    frame = pd.DataFrame({"picture": pd.Series([np.full((6, 6), 255, np.uint8)] * 9, dtype=object)})
    view = ReducedView.of(PixelView(("picture",)))
    raw = view.extract(frame)
    assert view.fit(raw).transform(raw).tolist() == [[0.0]] * 9
