"""Gaussians seen by one camera: means, conics, radii and colours in the image.

Semantics of gsplat 1.4 (pinhole, "classic", packed), which MV-DUSt3R+ pins. Conventions: cameras
are camera-from-world with OpenCV axes; the centre of the first pixel is (0.5, 0.5); lengths are
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

from mvdust3r_jax.splat.gaussians import Gaussians3D, rotation_rows, view_colors

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

    means: Float[Array, "2 G"]
    conics: Float[Array, "3 G"]
    opacities: Float[Array, "G"]
    colors: Float[Array, "3 G"]


class Footprint(NamedTuple):
    """Where a splat lies; no gradient passes.

    radii: pixels, 0 where culled. depths: scene units along z. deviations: standard deviations
    along x and y, pixels.
    """

    radii: Int[Array, "G"]
    depths: Float[Array, "G"]
    deviations: Float[Array, "2 G"]


def _to_camera(means: Float[Array, "3 G"], viewmat: Float[Array, "4 4"]) -> Float[Array, "3 G"]:
    """Points in the camera frame."""
    x, y, z = means
    rows = [
        viewmat[i, 0] * x + viewmat[i, 1] * y + viewmat[i, 2] * z + viewmat[i, 3] for i in range(3)
    ]
    return jnp.stack(rows)


def _image_factor(
    gaussians: Gaussians3D, point: Float[Array, "3 G"], camera: Camera, view: View
) -> tuple[list[Float[Array, "G"]], list[Float[Array, "G"]]]:
    """The two rows of ``U = J W R S``: the splat's covariance before the blur is ``U U^T``."""
    fx, fy = camera.intrinsics[0, 0], camera.intrinsics[1, 1]
    cx, cy = camera.intrinsics[0, 2], camera.intrinsics[1, 2]
    x, y, z = point
    margin_x = _VIEW_MARGIN * 0.5 * view.width / fx
    margin_y = _VIEW_MARGIN * 0.5 * view.height / fy
    slope_x = jnp.clip(x / z, -(cx / fx + margin_x), (view.width - cx) / fx + margin_x)
    slope_y = jnp.clip(y / z, -(cy / fy + margin_y), (view.height - cy) / fy + margin_y)
    rotation = rotation_rows(gaussians.quats)
    rows = ([], [])
    for j in range(3):
        column = [
            sum(camera.viewmat[i, k] * rotation[k][j] for k in range(3)) * gaussians.scales[j] / z
            for i in range(3)
        ]
        rows[0].append(fx * (column[0] - slope_x * column[2]))
        rows[1].append(fy * (column[1] - slope_y * column[2]))
    return rows


def _covariance(rows: tuple[list, list], eps2d: float) -> tuple[Array, Array, Array]:
    """(xx, xy, yy) of the blurred 2-D covariance, square pixels."""
    xx = sum(u * u for u in rows[0]) + eps2d
    xy = sum(u * v for u, v in zip(*rows, strict=True))
    yy = sum(v * v for v in rows[1]) + eps2d
    return xx, xy, yy


def _image_means(point: Float[Array, "3 G"], camera: Camera) -> Float[Array, "2 G"]:
    x, y, z = point
    intrinsics = camera.intrinsics
    return jnp.stack(
        [
            intrinsics[0, 0] * x / z + intrinsics[0, 2],
            intrinsics[1, 1] * y / z + intrinsics[1, 2],
        ]
    )


def _directions(means: Float[Array, "3 G"], viewmat: Float[Array, "4 4"]) -> Float[Array, "3 G"]:
    """Unit vectors from the camera's position (from the full inverse, as gsplat takes it)."""
    offset = means - jnp.linalg.inv(viewmat)[:3, 3, None]
    squared = jnp.sum(offset * offset, axis=0)
    return offset * lax.rsqrt(jnp.where(squared > 0, squared, 1.0))[None]


def footprint(gaussians: Gaussians3D, camera: Camera, view: View) -> Footprint:
    """Radii, depths and extents, with culling; anything not finite is culled."""
    point = _to_camera(gaussians.means, camera.viewmat)
    xx, xy, yy = _covariance(_image_factor(gaussians, point, camera, view), view.eps2d)
    det = xx * yy - xy * xy
    half_trace = 0.5 * (xx + yy)
    root = jnp.sqrt(jnp.maximum(half_trace * half_trace - det, _RADIUS_FLOOR))
    radius = jnp.ceil(3.0 * jnp.sqrt(half_trace + root))
    means = _image_means(point, camera)
    size = jnp.array([view.width, view.height], means.dtype)[:, None]
    touches = jnp.all((means + radius[None] > 0) & (means - radius[None] < size), axis=0)
    in_range = (point[2] >= view.near_plane) & (point[2] <= view.far_plane)
    finite = jnp.isfinite(means.sum(axis=0)) & jnp.isfinite(1.0 / det) & jnp.isfinite(half_trace)
    finite &= jnp.isfinite(gaussians.opacities) & jnp.isfinite(gaussians.colors).all(axis=(0, 1))
    visible = touches & in_range & finite & (det > 0)
    radius = jnp.where(visible, jnp.minimum(radius, _LARGEST_RADIUS), 0.0)
    deviations = jnp.sqrt(jnp.where(visible[None], jnp.stack([xx, yy]), 0.0))
    depths = jnp.where(visible, point[2], jnp.inf)
    return Footprint(radius.astype(jnp.int32), depths, deviations)


def _harmless(gaussians: Gaussians3D, visible: Bool[Array, "G"]) -> Gaussians3D:
    """Culled Gaussians replaced by constants, so that no derivative of theirs can be NaN."""
    unit = jnp.array([1.0, 0.0, 0.0, 0.0], gaussians.quats.dtype)[:, None]
    return Gaussians3D(
        means=jnp.where(visible[None], gaussians.means, 0.0),
        quats=jnp.where(visible[None], gaussians.quats, unit),
        scales=jnp.where(visible[None], gaussians.scales, 0.0),
        opacities=jnp.where(visible, gaussians.opacities, 0.0),
        colors=jnp.where(visible[None, None], gaussians.colors, 0.0),
    )


def project(
    gaussians: Gaussians3D, camera: Camera, visible: Bool[Array, "G"], view: View
) -> Splats:
    """Means, conics, opacities and colours of the visible Gaussians; differentiable, never NaN."""
    gaussians = _harmless(gaussians, visible)
    ahead = jnp.array([0.0, 0.0, 1.0], gaussians.means.dtype)[:, None]
    point = jnp.where(visible[None], _to_camera(gaussians.means, camera.viewmat), ahead)
    # A culled Gaussian has scale 0; a blur of at least 1 keeps its determinant away from 0.
    xx, xy, yy = _covariance(_image_factor(gaussians, point, camera, view), view.eps2d)
    det = jnp.where(visible, xx * yy - xy * xy, 1.0)
    conics = jnp.stack([yy / det, -xy / det, xx / det])
    direction = ahead
    if view.sh_degree is not None and view.sh_degree > 0:
        direction = _directions(gaussians.means, camera.viewmat)
    colors = view_colors(gaussians.colors, direction, view.sh_degree)
    return Splats(_image_means(point, camera), conics, gaussians.opacities, colors)
