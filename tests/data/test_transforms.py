import numpy as np
import pytest
import torch

from lightning_nas.data.transforms import Cutout, Finish, moments
from lightning_nas.training.seeding import seeded


def squares(height, width, size):
    """Every image that a square about some centre makes, by counting pixels."""
    made = {}
    for y in range(height):
        for x in range(width):
            mask = np.zeros((height, width), bool)
            for i in range(height):
                for j in range(width):
                    top, left = y - size // 2, x - size // 2
                    mask[i, j] = top <= i < top + size and left <= j < left + size
            made[mask.tobytes()] = made.get(mask.tobytes(), 0) + 1
    return made


@pytest.mark.parametrize("size", [1, 2, 3, 4, 20])
def test_cutout_paints_each_square_as_often_as_it_has_centres(size):
    cutout, expected, seen = Cutout(size, [0.5, 0.25]), squares(6, 5, size), {}
    draws = 3000
    for i in range(draws):
        with seeded(i):
            painted = cutout(torch.ones(2, 6, 5))
        assert painted[0].eq(0.5).equal(painted[1].eq(0.25))
        mask = painted[0].eq(0.5).numpy().tobytes()
        seen[mask] = seen.get(mask, 0) + 1
    assert seen.keys() == expected.keys()
    for mask, centres in expected.items():
        assert seen[mask] / draws == pytest.approx(centres / 30, abs=0.02)


def test_cutout_paints_the_rounded_mean_and_keeps_its_input():
    image = torch.zeros(1, 4, 4, dtype=torch.uint8)
    assert Cutout(9, [0.3])(image).unique().tolist() == [round(0.3 * 255)]
    assert not image.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_finish_makes_the_moments_zero_and_one(dtype):
    pixels = np.random.default_rng(0).integers(3, 250, (1500, 2, 5, 5)).astype(dtype)
    scaled = pixels.astype(np.float64) / (255 if dtype == np.uint8 else 1)
    mean, std = moments([torch.from_numpy(pixels[:700]), torch.from_numpy(pixels[700:])])
    np.testing.assert_allclose(mean, scaled.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(std, scaled.std((0, 2, 3)), rtol=1e-9)
    expected = (scaled - scaled.mean((0, 2, 3), keepdims=True)) / scaled.std((0, 2, 3), keepdims=True)
    finished = Finish(mean, std)(torch.from_numpy(pixels))
    assert finished.dtype == torch.float32
    np.testing.assert_allclose(finished, expected, atol=1e-5)


def test_a_channel_that_never_changes_is_not_divided_by_zero():
    mean, std = moments([torch.full((3, 1, 2, 2), 51, dtype=torch.uint8)])
    assert mean == pytest.approx([0.2])
    assert std == [1.0]
