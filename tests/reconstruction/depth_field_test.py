"""A smooth field through values at some pixels: followed there, else zero, deaf to outliers."""

import numpy as np
import pytest

from mvdust3r_jax.reconstruction.depth_field import depth_field

HEIGHT, WIDTH = 48, 64


def smooth(column, row):
    return 0.15 * np.sin(3 * column / WIDTH) * np.cos(3 * row / HEIGHT)


def values_at(rng, count, noise=0.01, width=WIDTH):
    """Pixels in the left part of the image, and a smooth field's noisy values there."""
    pixel_px = rng.uniform(0, [width - 1, HEIGHT - 1], (count, 2))
    return pixel_px, smooth(*pixel_px.T) + noise * rng.normal(size=count)


@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_a_smooth_field_is_found(outliers):
    """To a third of a value's assumed noise, also where a tenth of all values is absurd."""
    rng = np.random.default_rng(0)
    pixel_px, values = values_at(rng, 1000)
    wrong = rng.random(1000) < outliers
    values[wrong] += rng.choice([-2, 2], wrong.sum())
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    error = depth_field(pixel_px, values, HEIGHT, WIDTH) - smooth(column, row)
    assert np.abs(error).mean() < 0.016


def test_far_from_all_values_it_is_zero():
    """Nothing is said of the right half by values in the left third."""
    pixel_px, values = values_at(np.random.default_rng(1), 300, width=WIDTH / 3)
    field = depth_field(pixel_px, values, HEIGHT, WIDTH)
    assert np.abs(field[:, : WIDTH // 4]).max() > 0.05 and np.abs(field[:, -4:]).max() < 0.005


def test_values_as_small_as_errors_of_features_move_nothing():
    """The field that is found above, at a tenth of its size."""
    pixel_px, values = values_at(np.random.default_rng(0), 1000, noise=0.0)
    assert depth_field(pixel_px, values, HEIGHT, WIDTH).any()
    assert not depth_field(pixel_px, 0.1 * values, HEIGHT, WIDTH).any()


def test_values_without_a_pattern_move_nothing():
    """What does not foretell the values held back is not applied."""
    rng = np.random.default_rng(2)
    pixel_px = rng.uniform(0, [WIDTH - 1, HEIGHT - 1], (200, 2))
    assert not depth_field(pixel_px, 0.05 * rng.normal(size=200), HEIGHT, WIDTH).any()
