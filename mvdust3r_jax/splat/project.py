"""Gaussians seen by one camera: means, conics, radii and colors in the image.

Semantics of gsplat 1.4 (pinhole, "classic", packed), which MV-DUSt3R+ pins. Conventions: cameras
are camera-from-world with OpenCV axes; the center of the first pixel is (0.5, 0.5); lengths are
float32 in pixels or scene units.

The formulas run on separate components (``[G]`` arrays) rather than 3x3 matrices: they fuse into
a few loops, where a batch of 400,000 tiny matrix products does not. The 2-D covariance is formed
as ``U U^T`` with ``U = J W R S`` [2, 3], which rounding cannot make indefinite.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.splat.gaussians import Gaussians3D, Vector, view_colors

# gsplat's packed kernel keeps this much under the root of the eigenvalue formula.
_RADIUS_FLOOR = 0.1
# The Jacobian is taken no further outside the image than this share of its half width.
_VIEW_MARGIN = 0.3
# A radius beyond this (pixels) covers every image; larger ones would not fit int32.
_LARGEST_RADIUS = 1e9


class Camera(NamedTuple):
    """One pinhole camera (or, with leading axes, several)."""

    viewmat: Float[Array, "*C 4 4"]
    intrinsics: Float[Array, "*C 3 3"]


class View(NamedTuple):
    """What is the same for every camera of a call: Python numbers, static under jit."""

    width: int
    height: int
    near_plane: float
    far_plane: float
    eps2d: float
    sh_degree: int | None


class Splats(NamedTuple):
    """Gaussians in one image; the differentiable part of a projection.

    means: pixels (x, y). conics: (a, b, c) of the inverse covariance, 1 / pixels^2.
    """

    means: tuple[Float[Array, " G"], Float[Array, " G"]]
    conics: Vector
    opacities: Float[Array, " G"]
    colors: Float[Array, "3 G"]


class Footprint(NamedTuple):
    """Where a splat lies; no gradient passes.

    radii: pixels, 0 where culled. depths: scene units along z. deviations: standard deviations
    along x and y, pixels.
    """

    radii: Int[Array, " G"]
    depths: Float[Array, " G"]
    deviations: tuple[Float[Array, " G"], Float[Array, " G"]]


def _to_camera(means: Vector, viewmat: Float[Array, "4 4"]) -> Vector:
    """x, y and z in the camera frame."""
    x, y, z = means
    return tuple(
        viewmat[i, 0] * x + viewmat[i, 1] * y + viewmat[i, 2] * z + viewmat[i, 3] for i in range(3)
    )


def _image_factor(
    factors: tuple[Vector, Vector, Vector], point: Vector, camera: Camera, view: View
) -> tuple[Vector, Vector]:
    """The two rows of ``U = J W R S``: the splat's covariance before the blur is ``U U^T``."""
    viewmat, intrinsics = camera
    x, y, z = point
    inverse_z = 1.0 / z
    rows = []
    for axis, (slope, size) in enumerate(
        [(x * inverse_z, view.width), (y * inverse_z, view.height)]
    ):
        focal, center = intrinsics[axis, axis], intrinsics[axis, 2]
        margin = _VIEW_MARGIN * 0.5 * size / focal
        slope = jnp.clip(slope, -(center / focal + margin), (size - center) / focal + margin)
        scale = focal * inverse_z
        toward = [scale * (viewmat[axis, k] - slope * viewmat[2, k]) for k in range(3)]
        rows.append(tuple(sum(toward[k] * factors[k][j] for k in range(3)) for j in range(3)))
    return tuple(rows)


def _covariance(
    rows: tuple[Vector, Vector], eps2d: float
) -> tuple[Float[Array, " G"], Float[Array, " G"], Float[Array, " G"], Float[Array, " G"]]:
    """(xx, xy, yy) of the blurred 2-D covariance, square pixels, and its determinant.

    The determinant is a sum of squares (Lagrange's identity): ``xx yy - xy xy`` would lose a
    needle's to rounding, and be 0 or less in one program and not in another.
    """
    u, v = rows
    xx, yy = (sum(c * c for c in row) for row in rows)
    xy = sum(a * b for a, b in zip(u, v, strict=True))
    cross = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    det = eps2d * (eps2d + xx + yy) + sum(c * c for c in cross)
    return xx + eps2d, xy, yy + eps2d, det


def _image_means(point: Vector, camera: Camera) -> tuple[Array, Array]:
    """Pixels."""
    x, y, z = point
    inverse_z = 1.0 / z
    k = camera.intrinsics
    return k[0, 0] * (x * inverse_z) + k[0, 2], k[1, 1] * (y * inverse_z) + k[1, 2]


def _directions(means: Vector, viewmat: Float[Array, "4 4"]) -> Vector:
    """Unit vectors from the camera's position (from the full inverse, as gsplat takes it)."""
    position = jnp.linalg.inv(viewmat)[:3, 3]
    offset = [mean - position[i] for i, mean in enumerate(means)]
    squared = sum(d * d for d in offset)
    inverse = lax.rsqrt(jnp.where(squared > 0, squared, 1.0))
    return tuple(d * inverse for d in offset)


def footprint(gaussians: Gaussians3D, camera: Camera, view: View) -> Footprint:
    """Radii, depths and extents, with culling; what overflows float32 is culled as well."""
    point = _to_camera(gaussians.means, camera.viewmat)
    rows = _image_factor(gaussians.factors, point, camera, view)
    xx, _, yy, det = _covariance(rows, view.eps2d)
    half_trace = 0.5 * (xx + yy)
    root = jnp.sqrt(jnp.maximum(half_trace * half_trace - det, _RADIUS_FLOOR))
    radius = jnp.ceil(3.0 * jnp.sqrt(half_trace + root))
    means = _image_means(point, camera)
    visible = (point[2] >= view.near_plane) & (point[2] <= view.far_plane)
    visible &= (det > 0) & jnp.isfinite(det) & (gaussians.opacities >= 0)
    for mean, size in zip(means, (view.width, view.height), strict=True):
        visible &= (mean + radius > 0) & (mean - radius < size)
    radius = jnp.where(visible, jnp.minimum(radius, _LARGEST_RADIUS), 0.0)
    deviations = tuple(jnp.sqrt(jnp.where(visible, v, 0.0)) for v in (xx, yy))
    depths = jnp.where(visible, point[2], jnp.inf)
    return Footprint(radius.astype(jnp.int32), depths, deviations)


def project(
    gaussians: Gaussians3D, camera: Camera, visible: Bool[Array, " G"], view: View
) -> Splats:
    """Means, conics, opacities and colors of the visible Gaussians.

    Culled ones are put one unit ahead of the camera first, so that no derivative is ever NaN.
    """
    means = tuple(jnp.where(visible, mean, 0.0) for mean in gaussians.means)
    x, y, z = _to_camera(means, camera.viewmat)
    point = (jnp.where(visible, x, 0.0), jnp.where(visible, y, 0.0), jnp.where(visible, z, 1.0))
    factors = tuple(tuple(jnp.where(visible, f, 0.0) for f in row) for row in gaussians.factors)
    xx, xy, yy, det = _covariance(_image_factor(factors, point, camera, view), view.eps2d)
    inverse_det = 1.0 / jnp.where(visible, det, 1.0)
    conics = tuple(v * inverse_det for v in (yy, -xy, xx))
    direction = _directions(means, camera.viewmat) if view.sh_degree else means
    colors = view_colors(gaussians.colors, direction, view.sh_degree)
    return Splats(_image_means(point, camera), conics, gaussians.opacities, colors)
