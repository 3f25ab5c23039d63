"""Gaussians of any shape, rotation and color, and what a similarity makes of them, by hand."""

import numpy as np
from scipy.spatial.transform import Rotation

from mvdust3r_jax.types import Gaussians


def random_gaussians(*grid):
    """Of degree 1."""
    rng = np.random.default_rng(0)
    rotations = rng.normal(size=(*grid, 4))
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    return Gaussians(
        colors=rng.normal(size=(*grid, 12)).astype(np.float32),
        opacities=rng.uniform(size=grid).astype(np.float32),
        scales=rng.uniform(0.5, 1.5, (*grid, 3)).astype(np.float32),
        rotations=rotations.astype(np.float32),
    )


def moved_by_hand(gaussians, scale, rotation):
    """What a similarity makes of them; coefficients of degree 1 are a vector (-y, z, -x)."""
    colors = gaussians.colors.reshape(*gaussians.colors.shape[:-1], 4, 3).astype(np.float64)
    vector = np.stack([-colors[..., 3, :], -colors[..., 1, :], colors[..., 2, :]], axis=-2)
    x, y, z = np.moveaxis(rotation @ vector, -2, 0)
    colors = np.stack([colors[..., 0, :], -y, z, -x], axis=-2)
    turned = Rotation.from_matrix(rotation) * _rotations(gaussians)
    quats = turned.as_quat(scalar_first=True).reshape(gaussians.rotations.shape)
    return Gaussians(
        colors=colors.reshape(gaussians.colors.shape).astype(np.float32),
        opacities=gaussians.opacities,
        scales=np.float32(scale) * gaussians.scales,
        rotations=quats.astype(np.float32),
    )


def assert_alike(found, wanted, tolerance):
    """The same ellipsoids and colors; quaternions may have the other sign."""
    np.testing.assert_array_equal(found.opacities, wanted.opacities)
    np.testing.assert_allclose(found.colors, wanted.colors, atol=tolerance)
    largest = np.abs(_covariances(wanted)).max()
    np.testing.assert_allclose(
        _covariances(found), _covariances(wanted), rtol=0, atol=tolerance * largest
    )


def _rotations(gaussians):
    return Rotation.from_quat(gaussians.rotations.reshape(-1, 4), scalar_first=True)


def _covariances(gaussians):
    factors = _rotations(gaussians).as_matrix() * gaussians.scales.reshape(-1, 1, 3)
    return factors @ factors.swapaxes(1, 2)
