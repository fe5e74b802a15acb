import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cotrain.views.histograms import colour_histograms, gradient_histograms, tents


def test_a_vertical_edge_by_hand():
    """All gradients point across: orientation 0, and the block is the same number four times, 1/2 of its length."""
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[0, :, 4:] = 255
    blocks = gradient_histograms(image, (2, 2)).reshape(4, 9)  # one block of four cells
    assert blocks[:, 1:] == pytest.approx(0, abs=1e-6)
    assert blocks[:, 0] == pytest.approx(0.5)


def test_a_strong_edge_does_not_drown_a_faint_slope():
    """The root of red jumps by 1 in two columns of eight, that of green rises by 0.1 a row elsewhere (half of it at the
    border). Of a cell's weights 1.0 fall on the two columns and 2.5 on the others, 3.5 on all rows and 3.1875 where the
    border counts half; the slope at 90 degrees is shared by two orientations. The edge is cut to 0.2."""
    image = np.zeros((1, 8, 8, 2), np.uint8)
    image[0, :, 4:, 0] = 255
    image[0, :, :, 1] = (255 * (0.5 + 0.05 * np.arange(8)[:, None]) ** 2).round()
    strong, faint = 1.0 * 3.5, 2.5 * 3.1875 * 0.1 / 2
    length = np.sqrt(4 * (strong**2 + 2 * faint**2))
    blocks = gradient_histograms(image, (2, 2)).reshape(4, 9)
    assert blocks[:, [4, 5]] / blocks[:, :1] == pytest.approx(np.full((4, 2), faint / length / 0.2), rel=0.05)


def test_orientation_is_shared_among_neighbours():
    """A slope at 30 degrees lies halfway between the centres at 20 and 40 degrees."""
    y, x = np.mgrid[:16, :16]
    ramp = np.cos(np.pi / 6) * x + np.sin(np.pi / 6) * y
    image = (255 * (ramp / ramp.max()) ** 2).round().astype(np.uint8)  # squared, because the root is taken inside
    found = gradient_histograms(image[None, :, :, None], (2, 2)).reshape(4, 9).sum(0)
    assert found[1] == pytest.approx(found[2], rel=0.1)
    assert found[[0, 3, 4, 5, 6, 7, 8]].sum() < 0.15 * found.sum()


def test_brightness_and_sign_do_not_matter():
    image = np.random.default_rng(0).integers(0, 2, (3, 16, 16, 1)).astype(np.uint8) * 255
    assert gradient_histograms(image, (4, 4)) == pytest.approx(gradient_histograms(255 - image, (4, 4)), abs=1e-5)


def test_a_flat_image_has_no_gradient():
    assert (gradient_histograms(np.full((1, 8, 8, 1), 77, np.uint8), (2, 2)) == 0).all()


def test_colours_by_hand():
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[0, :4] = (255, 0, 0)  # upper half red, lower half black
    found = colour_histograms(image)
    assert found[0, 48] == pytest.approx(0.5**0.5)  # red is level 3 of 4: 3 * 16
    assert found[0, 0] == pytest.approx(0.5**0.5)
    assert found[0, 64:].reshape(3, 4, 4)[0] == pytest.approx(np.repeat([[1], [1], [0], [0]], 4, axis=1))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (3, 2), (33, 64)])
def test_mean_colours_are_those_of_torch(height, width):
    images = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    means = F.adaptive_avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, 4)
    assert colour_histograms(images)[:, 64:] == pytest.approx(means.flatten(1).numpy(), abs=1e-6)


@pytest.mark.parametrize(("side", "cells"), [(64, 32), (21, 7), (50, 16)])
def test_a_picture_is_made_smaller_by_tents_as_torch_does_it(side, cells):
    x = torch.rand(2, 1, side, 5, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, size=(cells, 5), mode="bilinear", antialias=True, align_corners=False)
    weights = tents(side, cells)
    assert weights / weights.sum(1, keepdims=True) @ x.numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_no_images():
    none = np.zeros((0, 8, 8, 3), np.uint8)
    assert gradient_histograms(none, (3, 3)).shape == (0, 2 * 2 * 4 * 9)
    assert colour_histograms(none).shape == (0, 64 + 48)
