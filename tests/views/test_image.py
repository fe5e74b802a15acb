import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cotrain.errors import InputError
from cotrain.views.image import HogView, PatchView, PixelView
from cotrain.views.patches import learn_patches, patch_features
from cotrain.views.pixels import MEMORY, common_levels, common_shape, decode
from cotrain.views.sample import sample_rows
from cotrain.views.scale import one_scale, own_scales

VIEWS = [PixelView, HogView, PatchView]


def cells(images):
    return pd.DataFrame({"picture": pd.Series(list(images), dtype=object)})


def stripes(count, side=12, seed=0):
    """Grey images uint8 with stripes across (class 0) or down (class 1), shifted and noisy."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, count)
    wave = 90 * np.sin(np.arange(side)[None] * 2 * np.pi / 4 + rng.uniform(0, 6, (count, 1)))
    images = (
        np.where(y[:, None, None] == 0, wave[:, :, None], wave[:, None, :])
        + 128
        + rng.normal(0, 10, (count, side, side))
    )
    return images.clip(0, 255).astype(np.uint8), y


class TestDecode:
    def test_reads_every_mode_upright_and_in_one_size(self, tmp_path):
        colour = np.zeros((20, 10, 3), np.uint8)
        colour[:10] = (255, 0, 0)  # the upper half is red, the lower one black
        Image.fromarray(colour).save(tmp_path / "rgb.png")
        Image.fromarray(colour).convert("P").save(tmp_path / "palette.png")
        Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.tif")
        turned = Image.fromarray(colour).transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by a quarter clockwise
        turned.save(tmp_path / "turned.png", exif=exif)
        clear = np.zeros((20, 10, 4), np.uint8)
        clear[:10] = (255, 0, 0, 255)
        Image.fromarray(clear).save(tmp_path / "clear.png")
        names = ["rgb.png", "palette.png", "cmyk.tif", "turned.png", "clear.png"]
        pixels = decode(names, str(tmp_path), (20, 10, 3))
        for name, image in zip(names, pixels, strict=True):
            assert image[2, 5] == pytest.approx((255, 0, 0), abs=3), name
            assert image[17, 5] == pytest.approx((255,) * 3 if name == "clear.png" else (0, 0, 0), abs=3), name

    def test_sixteen_bits_and_bool(self, tmp_path):
        Image.fromarray(np.full((6, 6), 65535, np.uint16)).save(tmp_path / "deep.png")
        assert (decode(["deep.png"], str(tmp_path), (6, 6, 1)) == 255).all()
        assert (decode([np.eye(6, dtype=bool)], None, (6, 6, 1))[0, :, :, 0] == 255 * np.eye(6)).all()

    def test_arrays_of_the_right_shape_are_not_touched(self):
        images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), np.uint8)
        assert (decode(list(images), None, (8, 8, 1))[..., 0] == images).all()

    def test_a_file_that_has_changed_is_read_again(self, tmp_path):
        for level in (10, 200):
            Image.new("L", (8, 8), level).save(tmp_path / "a.png")
            assert decode(["a.png"], str(tmp_path), (8, 8, 1)).mean() == level

    @pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
    def test_a_broken_file_is_named(self, tmp_path, content):
        (tmp_path / "good.png").parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "good.png")
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(InputError, match=r"Column 'picture'.*bad\.png"):
            decode(["good.png", "bad.png"], str(tmp_path), (8, 8, 1), "picture")
        with pytest.raises(InputError, match=r"bad\.png"):
            common_shape(["good.png", "bad.png"], str(tmp_path))

    def test_a_truncated_file_is_named(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.png")
        (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
        with pytest.raises(InputError, match=r"half\.png"):
            decode(["half.png"], str(tmp_path), (32, 32, 3))

    @pytest.mark.parametrize("cell", [None, float("nan"), 3, np.zeros((4, 4)), np.zeros(4, np.uint8)])
    def test_what_is_no_image_is_refused(self, cell):
        with pytest.raises(InputError, match="Row 0"):
            decode([cell], None, (8, 8, 1))


class TestCommonShape:
    def test_small_images_keep_their_size(self):
        assert common_shape([np.zeros((8, 8), np.uint8)] * 3, None) == (8, 8, 1)
        assert common_shape([np.zeros((28, 28), np.uint8)] * 3, None) == (28, 28, 1)

    def test_large_images_keep_their_aspect_and_colours(self):
        image = np.random.default_rng(0).integers(0, 256, (200, 400, 3), np.uint8)
        image[:, :200, 0] = 255
        assert common_shape([image], None) == (32, 64, 3)

    def test_grey_images_in_three_channels_are_grey(self):
        grey = np.repeat(np.random.default_rng(0).integers(0, 256, (30, 30, 1), np.uint8), 3, axis=2)
        assert common_shape([grey, grey], None) == (30, 30, 1)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])  # the last says of itself how it is turned
    def test_a_turned_photo_counts_as_turned(self, tmp_path, suffix):
        exif = Image.Exif()
        exif[0x0112] = 6
        packed = {"compression": "tiff_lzw"} if suffix == "tif" else {}  # others Pillow 13 reads askew
        Image.new("L", (40, 20)).save(tmp_path / f"a.{suffix}", exif=exif, **packed)
        assert common_shape([f"a.{suffix}"], str(tmp_path)) == (40, 20, 1)

    def test_many_images_are_made_smaller(self):
        cell = np.zeros((64, 64), np.uint8)
        many = [cell] * 150_000
        height, width, channels = common_shape(many, None)
        assert height * width * channels * len(many) <= 1.1 * MEMORY

    def test_the_order_does_not_matter(self):
        images = [np.zeros((side, side), np.uint8) for side in range(5, 60) for _ in range(8)]
        assert common_shape(images, None) == common_shape(images[::-1], None)

    def test_no_image(self):
        with pytest.raises(InputError, match="no image"):
            common_shape([], None, "picture")


class TestCommonLevels:
    @pytest.mark.parametrize(
        ("low", "high", "dtype", "levels"),
        [
            (0, 65_535, np.uint16, (0, 65_535)),
            (300, 30_000, np.uint16, (0, 65_535)),
            (200, 4_000, np.uint16, (0, 4_095)),
            (0, 1, np.uint16, (0, 1)),
            (40, 250, np.int32, (0, 255)),
            (0.2, 0.9, np.float32, (0, 1)),
            (9, 200, np.float32, (0, 255)),
            (0.5, 5, np.float32, (0.5, 5)),  # a narrow part of 0..255
            (30_000, 30_100, np.uint16, (30_000, 30_100)),
            (-1_024, 3_071, np.int32, (-1_024, 3_071)),
            (7, 7, np.int32, (7, 8)),
        ],
    )
    def test_the_usual_range_or_their_own(self, tmp_path, low, high, dtype, levels):
        values = np.full((6, 6), low, dtype)
        values[3:] = high
        Image.fromarray(values).save(tmp_path / "deep.tif")
        Image.new("RGB", (6, 6)).save(tmp_path / "plain.png")
        found = common_levels(["deep.tif", "plain.png"], str(tmp_path))
        assert found == pytest.approx(levels)
        dark, light = decode(["deep.tif"], str(tmp_path), (6, 6, 1), levels=found)[0, [0, 5], 0, 0].tolist()
        black, white = levels
        assert [dark, light] == pytest.approx([255 * (each - black) / (white - black) for each in (low, high)], abs=1)

    def test_of_eight_bits_there_are_none(self, tmp_path):
        Image.new("L", (6, 6)).save(tmp_path / "a.png")
        assert common_levels(["a.png", np.zeros((4, 4), np.uint8)], str(tmp_path)) is None

    def test_sixteen_bits_are_read_as_ever(self, tmp_path):
        values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
        Image.fromarray(values).save(tmp_path / "a.png")
        for levels in (None, (0, 65_535)):
            pixels = decode(["a.png"], str(tmp_path), (256, 256, 1), levels=levels)
            assert (pixels[0, :, :, 0] == values // 257).all()

    def test_they_are_kept_for_later_frames(self, tmp_path):
        for number, white in enumerate((4_095, 300)):
            Image.fromarray(np.full((6, 6), white, np.uint16)).save(tmp_path / f"{number}.png")
            Image.fromarray(np.zeros((6, 6), np.uint16)).save(tmp_path / f"{number} black.png")
        view = PixelView(("picture",), folder=str(tmp_path))
        assert view.extract(cells(["0.png", "0 black.png"])).max() == 255
        assert view.settings["levels"] == (0, 4_095)
        assert view.fresh().extract(cells(["1.png", "1 black.png"])).max() == 18
        before = {name: value for name, value in view.settings.items() if name != "levels"}  # a model saved before
        assert PixelView(("picture",), **before).extract(cells(["0.png"])).max() == 15

    def test_fractions_that_are_none(self, tmp_path):
        values = np.float32([[0, 1, np.nan], [np.inf, -np.inf, 0.5]])
        Image.fromarray(values).save(tmp_path / "a.tif")
        assert common_levels(["a.tif"], str(tmp_path)) == (0, 1)
        pixels = decode(["a.tif"], str(tmp_path), (2, 3, 1), levels=(0, 1))
        assert pixels[0, :, :, 0].tolist() == [[0, 255, 0], [255, 0, 127]]


class TestPatches:
    def test_features_equal_the_formula_patch_by_patch(self):
        rng = np.random.default_rng(0)
        pictures = rng.normal(0, 30, (6, 9, 10, 2)).astype(np.float32)
        learned = learn_patches(pictures, (3, 4), 5, flat=10.0, noise=0.1, patches=500)
        found = patch_features(pictures, learned, grid=(2, 2)).reshape(6, 4, 5)
        rows, columns = 7, 7
        for number, picture in enumerate(pictures):
            total, count = np.zeros((4, 5)), np.zeros(4)
            for top in range(rows):
                for left in range(columns):
                    patch = picture[top : top + 3, left : left + 4].transpose(2, 0, 1).ravel()
                    patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
                    z = learned["whiten"] @ patch - learned["shift"]
                    distance = np.linalg.norm(z - learned["centres"], axis=1)
                    quadrant = 2 * (top * 2 // rows) + left * 2 // columns
                    total[quadrant] += np.maximum(0, distance.mean() - distance)
                    count[quadrant] += 1
            assert found[number] == pytest.approx(total / count[:, None], abs=1e-4)

    def test_whitening_whitens(self):
        rng = np.random.default_rng(0)
        pictures = np.cumsum(rng.normal(0, 20, (200, 12, 12, 1)), axis=1).astype(np.float32)  # neighbours correlate
        learned = learn_patches(pictures, (4, 4), 8, flat=1.0, noise=1e-4)
        windows = np.lib.stride_tricks.sliding_window_view(pictures, (4, 4), axis=(1, 2)).reshape(-1, 16)
        patches = windows - windows.mean(1, keepdims=True)
        patches /= np.sqrt((patches**2).mean(1, keepdims=True) + 1)
        covariance = np.cov((patches @ learned["whiten"].T - learned["shift"]).T)
        values = np.linalg.eigvalsh(covariance)
        assert values[0] == pytest.approx(0, abs=0.01)  # the mean was taken out
        assert values[1:] == pytest.approx(1, abs=0.1)

    def test_flat_pictures_and_few_patches(self):
        learned = learn_patches(np.full((2, 5, 5, 1), 9.0), (3, 3), 50, flat=10.0)
        assert len(learned["centres"]) == 3  # 18 patches, five for each centre
        assert np.isfinite(patch_features(np.full((2, 5, 5, 1), 9.0), learned)).all()

    def test_batches_do_not_matter(self):
        images, _ = stripes(40)
        learned = learn_patches(images[..., None], (4, 4), 20, flat=10.0)
        together = patch_features(images[..., None], learned)
        assert together[7:8] == pytest.approx(patch_features(images[7:8, ..., None], learned), abs=1e-5)


def test_the_view_of_gradients_sees_colours_too():
    red, blue = np.zeros((2, 10, 16, 16, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    view = HogView(("picture",), shape=(16, 16, 3)).fit(np.concatenate([red, blue]))
    one, other = view.transform(np.stack([red[0], blue[0]]))
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize("view_class", VIEWS)
class TestViews:
    def test_learns_stripes_from_few(self, view_class):
        images, y = stripes(300)
        view = view_class(("picture",))
        raw = view.extract(cells(images))
        features = view.fit(raw).transform(raw)
        assert features.dtype == np.float32
        assert len(features) == 300
        if view_class is PixelView:
            return  # a shifted wave is no linear function of pixels
        from sklearn.linear_model import LogisticRegression

        assert LogisticRegression().fit(features[:20], y[:20]).score(features[20:], y[20:]) > 0.95

    @pytest.mark.parametrize("shape", [(8, 8), (28, 28), (32, 20, 3), (64, 64, 3), (5, 9)])
    def test_any_size(self, view_class, shape):
        images = np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8)
        view = view_class(("picture",))
        raw = view.extract(cells(images))
        features = view.fit(raw).transform(raw)
        assert np.isfinite(features).all()
        assert np.square(features - features.mean(0)).sum(1).mean() == pytest.approx(10, rel=0.2)

    def test_saved_and_loaded_gives_the_same(self, view_class, tmp_path):
        images, _ = stripes(50)
        view = view_class(("picture",))
        raw = view.extract(cells(images))
        expected = view.fit(raw).transform(raw[:7])
        np.savez(tmp_path / "learned.npz", **view.learned)
        other = view_class(view.columns, **view.settings)
        with np.load(tmp_path / "learned.npz", allow_pickle=False) as learned:
            other.learned = dict(learned)
        assert (other.transform(other.extract(cells(images[:7]))) == expected).all()

    def test_the_order_of_rows_does_not_change_what_is_learnt(self, view_class):
        images, _ = stripes(60)
        view = view_class(("picture",))
        raw = view.extract(cells(images))
        other = view.fresh().fit(raw[::-1])
        view.fit(raw)
        assert view.learned.keys() == other.learned.keys()
        assert all((view.learned[name] == other.learned[name]).all() for name in view.learned)

    def test_views_of_a_column_share_a_source_and_later_frames_the_shape(self, view_class):
        images, _ = stripes(20)
        view = view_class(("picture",), shape=(12, 12, 1))
        assert view.source == HogView(("picture",), shape=(12, 12, 1)).source
        assert view.source != HogView(("picture",), shape=(8, 8, 1)).source
        chosen = view_class(("picture",))
        chosen.extract(cells(images))
        assert chosen.settings["shape"] == (12, 12, 1)
        assert chosen.fresh().extract(cells([np.zeros((50, 50), np.uint8)])).shape == (1, 12, 12, 1)

    def test_equal_images_and_no_rows(self, view_class):
        view = view_class(("picture",))
        raw = view.extract(cells([np.full((10, 10), 9, np.uint8)] * 5))
        features = view.fit(raw).transform(raw)
        assert np.isfinite(features).all()
        assert view.transform(raw[:0]).shape == (0, features.shape[1])

    def test_two_columns_are_refused(self, view_class):
        with pytest.raises(InputError, match="one column"):
            view_class(("a", "b"))


def test_sampled_rows_are_a_set_of_contents():
    rows = np.random.default_rng(0).integers(0, 9, (100, 3))
    chosen = rows[sample_rows(rows, 20)]
    shuffled = np.random.default_rng(1).permutation(rows)
    assert (shuffled[sample_rows(shuffled, 20)] == chosen).all()


def test_scales_by_hand():
    x = np.array([[0.0, 5, 1], [2, 5, 3]], np.float32)  # deviations 1, 0, 1: mean squared length 2
    one = one_scale(x)
    assert one["scale"] == pytest.approx(5**0.5)
    own = own_scales(x * np.array([1, 1, 10], np.float32))
    assert own["scale"] == pytest.approx([5**0.5, 0, 5**0.5 / 10])
