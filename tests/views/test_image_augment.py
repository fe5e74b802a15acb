import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from cotrain.randomness import Draws
from cotrain.views import image_augment as image

OPERATIONS = {
    "autocontrast": image.autocontrast,
    "brightness": image.brightness,
    "colour": image.colour,
    "contrast": image.contrast,
    "equalize": image.equalize,
    "posterize": image.posterize,
    "sharpness": image.sharpness,
    "solarize": image.solarize,
    "rotate": image.rotate(30.0),
    "shear": image.shear(0.3, along=0),
    "translate": image.translate(0.3, along=1),
    "crop": image.crop(0.125),
    "cutout": image.cutout(0.5),
}


def numbers(*rows):
    return torch.tensor([[*row, *[0.5] * (5 - len(row))] for row in rows])


def picture(seed=0, size=16):
    levels = np.random.default_rng(seed).integers(40, 200, (size, size, 3), dtype=np.uint8)
    return levels, torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_keeps_shape_and_range(name, channels):
    x = torch.rand(5, channels, 16, 16)
    x[0] = 0.25  # flat
    for extreme in (0.0, 0.5, 1 - 2**-24):
        made = OPERATIONS[name](x, torch.full((5, 5), extreme))
        assert made.shape == x.shape
        assert made.min() >= -1e-6
        assert made.max() <= 1 + 1e-6


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_acts_on_each_image_alone(name):
    x, n = torch.rand(4, 3, 16, 16), torch.rand(4, 5)
    together = OPERATIONS[name](x, n)
    for row in range(4):
        torch.testing.assert_close(OPERATIONS[name](x[row : row + 1], n[row : row + 1])[0], together[row])


@pytest.mark.parametrize("dark", [0, 170])  # rows of the picture
@pytest.mark.parametrize(
    ("name", "reference"), [("autocontrast", ImageOps.autocontrast), ("equalize", ImageOps.equalize)]
)
def test_against_pillow(name, reference, dark):
    levels, x = picture(size=256)
    levels[:dark], x[:, :, :dark] = 0, 0
    expected = np.asarray(reference(Image.fromarray(levels))).astype(int)
    found = (OPERATIONS[name](x, numbers([0.5]))[0].permute(1, 2, 0) * 255).round().numpy().astype(int)
    assert np.abs(found - expected).max() <= 2  # Pillow works in whole levels


def test_solarize_and_posterize_against_pillow():
    levels, x = picture()
    expected = np.asarray(ImageOps.solarize(Image.fromarray(levels), threshold=128))
    found = (image.solarize(x, numbers([128 / 255]))[0].permute(1, 2, 0) * 255).round().numpy()
    np.testing.assert_array_equal(found, expected)
    for number, bits in ((0.0, 4), (0.5, 6), (0.99, 8)):
        expected = np.asarray(ImageOps.posterize(Image.fromarray(levels), bits))
        found = (image.posterize(x, numbers([number]))[0].permute(1, 2, 0) * 255).round().numpy()
        np.testing.assert_array_equal(found, expected)


def test_blends_by_hand():
    x = torch.tensor([[0.0, 1.0], [0.5, 0.5]]).view(1, 1, 2, 2)
    torch.testing.assert_close(image.brightness(x, numbers([0.5])), x / 2)
    torch.testing.assert_close(image.contrast(x, numbers([0.5])), 0.25 + x / 2)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    torch.testing.assert_close(image.colour(red, numbers([0.5])).flatten(), torch.tensor([0.6495, 0.1495, 0.1495]))


def test_crop_mirrors_the_edge():
    x = torch.arange(8.0).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    moved = image.crop(0.25)(x, numbers([0.5, 1.0]))[0, 0, 0]
    assert moved.tolist() == [2, 3, 4, 5, 6, 7, 6, 5]
    moved = image.crop(0.25)(x, numbers([0.5, 0.0]))[0, 0, 0]
    assert moved.tolist() == [2, 1, 0, 1, 2, 3, 4, 5]


def test_quarter_turns_say_what_they_did():
    x = torch.randn(64, 2, 5, 5)
    turned, turn = image.quarter_turns(x, Draws(torch.arange(64), 0))
    assert set(turn.tolist()) == {0, 1, 2, 3}
    for row in range(64):
        assert torch.equal(turned[row], x[row].rot90(int(turn[row]), (1, 2)))


def test_geometry_by_hand():
    x = torch.full((1, 1, 9, 9), 0.5)
    x[0, 0, 4, 6] = 1.0  # right of the middle
    turned = image.rotate(90.0)(x, numbers([1.0]))[0, 0]
    assert turned.max() == pytest.approx(1.0, abs=1e-4)
    assert divmod(turned.argmax().item(), 9) in ((2, 4), (6, 4))
    moved = image.translate(2 / 9, along=0)(x, numbers([1.0]))[0, 0]
    assert divmod(moved.argmax().item(), 9) == (4, 4)
    slanted = image.shear(1.0, along=0)(x, numbers([1.0]))[0, 0]
    torch.testing.assert_close(slanted[4], x[0, 0, 4])  # the middle row stays


def test_cutout_by_hand():
    made = image.cutout(0.5)(torch.ones(1, 1, 8, 8), numbers([1.0, 0.5, 0.5]))[0, 0]
    hole = torch.ones(8, 8)
    hole[2:6, 2:6] = 0.5
    assert torch.equal(made, hole)
    assert (image.cutout(0.5)(torch.ones(1, 1, 8, 8), numbers([0.0])) == 1).all()


def test_strong_changes_more_than_weak():
    x = torch.rand(64, 3, 16, 16)
    weak, strong = (a(x, Draws(torch.arange(64), 0)) for a in (image.weak_image(), image.strong_image()))
    assert weak.shape == strong.shape == x.shape
    assert not torch.equal(weak, x)
    assert torch.equal(weak, image.weak_image()(x, Draws(torch.arange(64), 0)))
    assert strong.min() >= 0
    assert strong.max() <= 1 + 1e-6
    # what comes from x alone is still there after weak: moved and mirrored, no value is new
    assert torch.isin(weak, x).all()
    assert not torch.isin(strong, x).all()


@pytest.mark.parametrize("shape", [(31, 31), (21, 61), (61, 21)])
def test_a_turn_is_a_turn_in_pixels(shape):
    """Two points right of and below the middle stay as far from it, and square to each other."""
    row, column = shape[0] // 2, shape[1] // 2
    places = []
    for down, right in ((0, 8), (8, 0)):
        x = torch.full((1, 1, *shape), 0.5)
        x[0, 0, row + down, column + right] = 1.0
        found = image.rotate(30.0)(x, numbers([1.0]))[0, 0] - 0.5
        mass = found / found.sum()
        y, x = (mass.sum(1 - side) @ torch.arange(shape[side]).float() for side in (0, 1))
        places.append((float(y) - row, float(x) - column))
    (y1, x1), (y2, x2) = places
    assert math.hypot(y1, x1) == pytest.approx(8, abs=0.3)
    assert math.hypot(y2, x2) == pytest.approx(8, abs=0.3)
    assert abs(math.degrees(math.atan2(y1, x1))) == pytest.approx(30, abs=3)
    assert y1 * y2 + x1 * x2 == pytest.approx(0, abs=3)


def test_a_slant_is_in_pixels():
    x = torch.full((1, 1, 21, 61), 0.5)
    x[0, 0, 15, 30] = 1.0  # five rows below the middle
    slanted = image.shear(1.0, along=0)(x, numbers([1.0]))[0, 0]
    assert abs(divmod(slanted.argmax().item(), 61)[1] - 30) == 5
