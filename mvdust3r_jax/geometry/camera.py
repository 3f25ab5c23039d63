"""Pinhole cameras: pixels, depth and points. OpenCV axes; the first pixel's center is (0, 0).

``intrinsics`` is ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`` in pixels, ``[..., 3, 3]``.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from mvdust3r_jax.geometry.pixels import corner_from_center
from mvdust3r_jax.geometry.transforms import transform_points

# A point nearer to the camera plane than this (in scene units) is projected as if it lay there.
MIN_PROJECTION_DEPTH = 1e-8


def pixel_grid(height: int, width: int) -> Float[Array, "H W 2"]:
    """Pixel centers (u, v) = (column, row) as integers in float32."""
    v, u = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij"
    )
    return jnp.stack([u, v], axis=-1)


def unproject(
    depth_m: Float[Array, "*batch H W"], intrinsics: Float[Array, "*batch 3 3"]
) -> Float[Array, "*batch H W 3"]:
    """Points in the camera frame; depth is measured along z."""
    pixels = pixel_grid(*depth_m.shape[-2:])
    focal = jnp.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], axis=-1)[..., None, None, :]
    center = intrinsics[..., None, None, :2, 2]
    pixels = pixels.reshape((1,) * (focal.ndim - 3) + pixels.shape)
    xy = (pixels - center) / focal * depth_m[..., None]
    return jnp.concatenate([xy, depth_m[..., None]], axis=-1)


def project(
    points_cam: Float[Array, "*batch *grid 3"], intrinsics: Float[Array, "*batch 3 3"]
) -> Float[Array, "*batch *grid 2"]:
    """Pixel coordinates (u, v); points behind the camera give finite nonsense, so mask by z > 0."""
    z = points_cam[..., 2:]
    z = jnp.where(jnp.abs(z) < MIN_PROJECTION_DEPTH, MIN_PROJECTION_DEPTH, z)
    grid = points_cam.ndim - intrinsics.ndim + 1
    spread = intrinsics.reshape(*intrinsics.shape[:-2], *(1,) * grid, 3, 3)
    focal = jnp.stack([spread[..., 0, 0], spread[..., 1, 1]], axis=-1)
    return points_cam[..., :2] / z * focal + spread[..., :2, 2]


def depth_to_world(
    depth_m: Float[Array, "*batch H W"],
    intrinsics: Float[Array, "*batch 3 3"],
    world_from_cam: Float[Array, "*batch 4 4"],
) -> Float[Array, "*batch H W 3"]:
    """Pointmaps in the world frame."""
    return transform_points(world_from_cam, unproject(depth_m, intrinsics))


def half_pixel_shift(intrinsics: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3 3"]:
    """The same camera for a rasterizer whose first pixel's center is (0.5, 0.5)."""
    return intrinsics.at[..., :2, 2].set(corner_from_center(intrinsics[..., :2, 2]))
