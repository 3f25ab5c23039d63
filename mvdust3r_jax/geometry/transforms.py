"""Rigid transforms ``[..., 4, 4]`` and quaternions ``[..., 4]`` (wxyz), named ``a_from_b``.

Leading axes are batch axes everywhere and broadcast. Quaternions need not be normalized on input;
q and -q are the same rotation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mvdust3r_jax.products import exact_products

# Below this squared length a vector has no direction; the guarded square root stays at its root,
# which keeps both value and gradient finite at zero.
_TINY_SQUARED = 1e-24
# Sums of singular values below so many roundings of the largest one are 0.
_ROUNDINGS = 8


def safe_norm(x: Float[Array, "*batch n"], keepdims: bool = False) -> Array:
    """Euclidean length over the last axis, with gradient 0 (not NaN) at the zero vector.

    It squares: in float32 lengths below about 1e-19 come out 0, those above 1.8e19 infinite.
    """
    squared = jnp.sum(x * x, axis=-1, keepdims=keepdims)
    positive = squared > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


def normalize(x: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Unit vector along the last axis; vectors shorter than 1e-12 are returned scaled by 1e12."""
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squared, _TINY_SQUARED))


def rigid(
    rotation: Float[Array, "*batch 3 3"], translation: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 4 4"]:
    """``a_from_b`` from the rotation a_from_b and b's origin expressed in a."""
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


@exact_products
def invert_rigid(a_from_b: Float[Array, "*batch 4 4"]) -> Float[Array, "*batch 4 4"]:
    """``b_from_a``; the upper 3x3 must be a rotation (this is not checked)."""
    b_from_a_rotation = jnp.swapaxes(a_from_b[..., :3, :3], -1, -2)
    origin = -jnp.einsum("...ij,...j->...i", b_from_a_rotation, a_from_b[..., :3, 3])
    return rigid(b_from_a_rotation, origin)


@exact_products
def transform_points(
    a_from_b: Float[Array, "*batch 4 4"], points_b: Float[Array, "*batch *grid 3"]
) -> Float[Array, "*batch *grid 3"]:
    """Points of frame b in frame a; ``grid`` is any number of axes between batch and xyz."""
    grid = points_b.ndim - a_from_b.ndim + 1
    if grid < 0:
        raise ValueError(
            f"points {points_b.shape} have fewer axes than the batch of {a_from_b.shape}"
        )
    spread = a_from_b.reshape(*a_from_b.shape[:-2], *(1,) * grid, 4, 4)
    return jnp.einsum("...ij,...j->...i", spread[..., :3, :3], points_b) + spread[..., :3, 3]


def rotation_from_quat(quat_wxyz: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrices; inputs are normalized first."""
    w, x, y, z = jnp.moveaxis(normalize(quat_wxyz), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_matrices(
    quat_wxyz: Float[np.ndarray, "*batch 4"],
) -> Float[np.ndarray, "*batch 3 3"]:
    """Those of unit quaternions, by NumPy and in their own precision: files need float64."""
    w, x, y, z = np.moveaxis(quat_wxyz, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_from_rotation(rotation: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 4"]:
    """Unit quaternions wxyz: of the four equivalent formulas, the one with the largest divisor."""
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    squares = jnp.stack(
        [1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], axis=-1
    )
    w, x, y, z = jnp.moveaxis(squares, -1, 0)
    yz, zx, xy = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
    zy, xz, yx = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
    candidates = jnp.stack(
        [
            jnp.stack([w, yz - zy, zx - xz, xy - yx], axis=-1),
            jnp.stack([yz - zy, x, xy + yx, xz + zx], axis=-1),
            jnp.stack([zx - xz, xy + yx, y, yz + zy], axis=-1),
            jnp.stack([xy - yx, xz + zx, yz + zy, z], axis=-1),
        ],
        axis=-2,
    )
    best = jnp.argmax(squares, axis=-1)[..., None, None]
    return normalize(jnp.take_along_axis(candidates, best, axis=-2)[..., 0, :])


def rotation_from_axis_angle(axis_angle: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Rotation about ``axis_angle`` by its length in radians (exponential map of so(3))."""
    angle = safe_norm(axis_angle)[..., None]
    half = 0.5 * angle
    # sin(half) / angle tends to 1/2; the series is exact to float32 below 1e-3.
    small = angle < 1e-3
    factor = jnp.where(
        small, 0.5 - angle**2 / 48, jnp.sin(half) / jnp.where(small, jnp.ones_like(angle), angle)
    )
    return rotation_from_quat(jnp.concatenate([jnp.cos(half), factor * axis_angle], axis=-1))


@jax.custom_jvp
@exact_products
def nearest_rotation(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """The rotation R for which ``trace(R^T matrix)`` is largest; reflections are excluded.

    First derivatives are finite everywhere; second ones where the singular values differ. They are
    0 in directions in which R is not determined, as about the line of a matrix of rank 1.
    """
    return _signed_svd(matrix)[0]


def _signed_svd(matrix: Float[Array, "*batch 3 3"]) -> tuple[Array, Array, Array]:
    """R, d and V of ``matrix = R V diag(d) V^T``, d descending, whose last entry may be < 0."""
    u, singular, vt = jnp.linalg.svd(matrix)
    sign = jnp.sign(jnp.linalg.det(u) * jnp.linalg.det(vt))
    signs = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign], axis=-1)
    rotation = jnp.einsum("...ik,...k,...kj->...ij", u, signs, vt)
    return rotation, singular * signs, jnp.swapaxes(vt, -1, -2)


@nearest_rotation.defjvp
@exact_products
def _nearest_rotation_jvp(primals, tangents):
    """``dR = R X``: X is antisymmetric, and ``X P + P X = R^T dM - dM^T R`` for ``P = R^T M``.

    In the basis of V each entry of X is that of the right side over the sum of two of d. The SVD's
    own derivative divides by differences, which are 0 for what is equally long in two directions.
    """
    rotation, d, v = _signed_svd(primals[0])
    turned = rotation @ v
    side = jnp.swapaxes(turned, -1, -2) @ tangents[0] @ v
    side = side - jnp.swapaxes(side, -1, -2)
    sums = d[..., :, None] + d[..., None, :]
    determined = sums > _ROUNDINGS * jnp.finfo(d.dtype).eps * d[..., :1, None]
    x = jnp.where(determined, side / jnp.where(determined, sums, 1.0), 0.0)
    return rotation, turned @ x @ jnp.swapaxes(v, -1, -2)


@exact_products
def rotation_angle_deg(
    rotation_1: Float[Array, "*batch 3 3"], rotation_2: Float[Array, "*batch 3 3"]
) -> Float[Array, "*batch"]:
    """Angle between two rotations in [0, 180] degrees, accurate at both ends.

    Up to a right angle by the Frobenius distance, 2 sqrt(2) sin(angle / 2), which does not lose
    small angles as the arccos of a trace does; beyond it by sine and cosine, whose gradient stays
    small at a half turn, where it has no direction.
    """
    difference = rotation_1 - rotation_2
    chord = safe_norm(difference.reshape(*difference.shape[:-2], 9)) / (2 * jnp.sqrt(2.0))
    acute = chord < jnp.sqrt(0.5)
    near = 2 * jnp.arcsin(jnp.where(acute, chord, 0.0))
    turn = jnp.swapaxes(rotation_1, -1, -2) @ rotation_2
    twice_cosine = jnp.trace(turn, axis1=-2, axis2=-1) - 1
    skew = turn - jnp.swapaxes(turn, -1, -2)
    twice_sine = safe_norm(jnp.stack([skew[..., 0, 1], skew[..., 0, 2], skew[..., 1, 2]], axis=-1))
    far = jnp.arctan2(twice_sine, jnp.where(acute, 1.0, twice_cosine))
    return jnp.rad2deg(jnp.where(acute, near, far))
