"""Other colors of a sample's surfaces: in range, the same in all views, none at share 0."""

import jax.numpy as jnp
import numpy as np

from data import recolor
from tests.compiled import compiled, uniform

recolored = compiled(recolor.recolored)
IMAGES = np.asarray(uniform(1, 3, 2, 16, 24, 3))


def test_share_zero_changes_nothing(key):
    """Bit for bit."""
    np.testing.assert_array_equal(recolored(key, IMAGES, 0.0), IMAGES)


def test_that_share_of_the_samples_changes(key):
    """Half of them, each another way, in [0, 1]."""
    images = np.broadcast_to(IMAGES[:1], (400, *IMAGES.shape[1:]))
    found = np.asarray(recolored(key, images, 0.5))
    changed = (found != images).any(axis=(1, 2, 3, 4))
    assert 0.4 < changed.mean() < 0.6 and found.min() >= 0 and found.max() <= 1
    colors = np.round(found[changed][:, 0, 0, 0], 4)
    assert len(np.unique(colors, axis=0)) == changed.sum()


def test_a_surface_has_one_color_in_all_views(key):
    """Pixels that were alike stay alike, in whichever view they are."""
    images = np.concatenate([IMAGES, IMAGES[:, ::-1, ::-1]], axis=1)
    found = np.asarray(recolored(key, images, 1.0))
    np.testing.assert_array_equal(found[:, :2], found[:, :1:-1, ::-1])


def test_hues_turn_about_gray():
    """Rotations that keep gray; a third of a turn takes red to another primary color."""
    turned = np.asarray(recolor._turned(jnp.array([0.3, 2 * np.pi / 3])))
    np.testing.assert_allclose(
        turned @ turned.mT, np.broadcast_to(np.eye(3), turned.shape), atol=1e-6
    )
    np.testing.assert_allclose(turned @ np.ones(3), np.ones((2, 3)), atol=1e-6)
    assert sorted(np.round(turned[1] @ [1.0, 0, 0], 5)) == [0, 0, 1] and turned[1, 0, 0] < 0.5
