"""Gaussians in the world: rotations from quaternions, and color from spherical harmonics.

Arrays here are component-first (``[3, G]``, ``[K, 3, G]``): one component of all Gaussians lies
together in memory, so formulas written per component run as plain vector loops. Quaternions are
wxyz of any length; directions point from the camera to the Gaussian.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from mvdust3r_jax.splat.materialize import keep, unknown_one

# Keeps the division defined. Every normal float32 quaternion is told from zero (the identity).
_TINY_QUATERNION = 1e-30

# Real spherical harmonics with the signs of 3D Gaussian splatting (Kerbl et al. 2023), degree 0-3.
_SH_0 = 0.28209479177387814
_SH_1 = 0.48860251190291987
_SH_2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
_SH_3 = (
    0.5900435899266435,
    2.890611442640554,
    0.4570457994644658,
    0.3731763325901154,
    1.445305721320277,
)


# Three components, each of all Gaussians. Not one array: slicing and stacking it would cost a pass
# over memory in every formula, and several in its derivative.
Vector = tuple[Float[Array, " G"], Float[Array, " G"], Float[Array, " G"]]


class Gaussians3D(NamedTuple):
    """Gaussians in the world, component-first, ready for any camera.

    means: scene units. factors: ``R S`` (rotation times scales), whose product with its transpose
    is the covariance. opacities: 0 to 1; -1 marks a Gaussian with an input that is not finite,
    which no camera sees. colors: RGB [1, 3, G], or SH coefficients [K, 3, G].
    """

    means: Vector
    factors: tuple[Vector, Vector, Vector]
    opacities: Float[Array, " G"]
    colors: Float[Array, "K 3 G"]


def rotation_rows(quats: Float[Array, "4 G"]) -> list[list[Float[Array, " G"]]]:
    """Rotation matrices as three rows of three ``[G]`` arrays; the zero quaternion is the identity.

    Division by the largest component first keeps the squared length within float32 for any length.
    """
    largest = lax.stop_gradient(jnp.max(jnp.abs(quats), axis=0))
    w, x, y, z = quats / jnp.maximum(largest, _TINY_QUATERNION)[None]
    squared = w * w + x * x + y * y + z * z
    twice = 2.0 / jnp.where(squared > 0, squared, 1.0)
    xx, yy, zz = twice * x * x, twice * y * y, twice * z * z
    xy, xz, yz = twice * x * y, twice * x * z, twice * y * z
    wx, wy, wz = twice * w * x, twice * w * y, twice * w * z
    return [
        [1 - (yy + zz), xy - wz, xz + wy],
        [xy + wz, 1 - (xx + zz), yz - wx],
        [xz - wy, yz + wx, 1 - (xx + yy)],
    ]


def gaussians_3d(
    means: Float[Array, "G 3"],
    quats: Float[Array, "G 4"],
    scales: Float[Array, "G 3"],
    opacities: Float[Array, " G"],
    colors: Float[Array, "G K 3"],
) -> Gaussians3D:
    """Everything that no camera changes. NaN and infinity become harmless constants."""
    usable = jnp.isfinite(opacities) & jnp.isfinite(colors).all(axis=(1, 2))
    for array in (means, quats, scales):
        usable &= jnp.isfinite(array).all(axis=1)
    means, quats, scales = (
        jnp.where(usable[None], array.T, 0.0) for array in (means, quats, scales)
    )
    rotation = rotation_rows(quats)
    opacities = jnp.where(usable, opacities, -1.0)
    one = unknown_one(opacities[0] < jnp.inf)
    return Gaussians3D(
        means=tuple(keep(mean, one) for mean in means),
        factors=tuple(
            tuple(keep(rotation[i][j] * scales[j], one) for j in range(3)) for i in range(3)
        ),
        opacities=keep(opacities, one),
        colors=keep(jnp.where(usable[None, None], colors.transpose(1, 2, 0), 0.0), one),
    )


def sh_basis(direction: Vector, degree: int) -> list[Float[Array, " G"] | float]:
    """The (degree + 1)^2 basis values for unit directions, in 3D Gaussian splatting's order."""
    x, y, z = direction
    basis = [_SH_0]
    if degree >= 1:
        basis += [-_SH_1 * y, _SH_1 * z, -_SH_1 * x]
    if degree >= 2:
        c0, c1, c2 = _SH_2
        basis += [c0 * x * y, -c0 * y * z, c1 * (3 * z * z - 1), -c0 * x * z]
        basis += [c2 * (x * x - y * y)]
    if degree >= 3:
        c0, c1, c2, c3, c4 = _SH_3
        basis += [-c0 * y * (3 * x * x - y * y), c1 * x * y * z, -c2 * y * (5 * z * z - 1)]
        basis += [c3 * z * (5 * z * z - 3), -c2 * x * (5 * z * z - 1)]
        basis += [c4 * z * (x * x - y * y), -c0 * x * (x * x - 3 * y * y)]
    return basis


def view_colors(
    coefficients: Float[Array, "K 3 G"], direction: Vector, degree: int | None
) -> Float[Array, "3 G"]:
    """RGB toward the camera: ``max(SH + 0.5, 0)``, or with ``degree=None`` the RGB as given."""
    if degree is None:
        return coefficients[0]
    color = sum(
        value * coefficients[k] if k == 0 else value[None] * coefficients[k]
        for k, value in enumerate(sh_basis(direction, degree))
    )
    return jnp.maximum(color + 0.5, 0.0)
