"""Predicted pointmaps as Gaussians in a normalized scene, and their images in given cameras.

Training, evaluation and exports share this: predicted points are divided by the mean distance of
the input views' points to the reference camera, true camera positions by the same measure of the
truth, render-only views included. Every input pixel is one Gaussian. With ``sh_degree`` 0 it has
its own pixel's color; otherwise its spherical harmonics give a color of at least 0, where 1 is
white. The background is white.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.geometry.camera import half_pixel_shift, unproject
from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.geometry.transforms import invert_rigid, transform_points
from mvdust3r_jax.geometry.truth import known_depth
from mvdust3r_jax.splat.rasterize import rasterize
from mvdust3r_jax.types import Batch, Prediction, images_from_01

# Standard deviations of Gaussians that are rendered, in units of the normalized scene.
MIN_SCALE, MAX_SCALE = 1e-4, 4e-3


def clip_scales(
    scales: Float[Array, "*batch V H W 3"],
    factor: Float[Array, "*batch"],
    max_scale: float = MAX_SCALE,
) -> Float[Array, "*batch V H W 3"]:
    """Raw scales in units of the normalized scene, clipped to what is rendered."""
    return jnp.clip(scales / factor[..., None, None, None, None], MIN_SCALE, max_scale)


# The published renderer's settings, in units of the normalized scene and pixels squared.
NEAR, FAR, EPS_2D = 0.01, 100.0, 0.1


def render(
    points: Float[Array, "N V H W 3"],
    prediction: Prediction,
    scales: Float[Array, "N V H W 3"],
    pixels: Float[Array, "N V H W 3"],
    ref_from_cam: Float[Array, "N C 4 4"],
    intrinsics: Float[Array, "N C 3 3"],
    *,
    sh_degree: int,
    capacity: int | None = None,
) -> tuple[Float[Array, "N C H W 3"], Int[Array, "N C"]]:
    """Images of all views' Gaussians together, and intersections that did not fit.

    Images are in [-1, 1] unless colors are brighter than white.
    ``points``, ``scales`` and the cameras' translations are in the normalized scene; ``intrinsics``
    follow the data's convention (first pixel's center at (0, 0)).
    """
    height, width = points.shape[2:4]

    def one(means, quats, scales, opacities, colors, ref_from_cam, intrinsics):
        cameras = ref_from_cam.shape[0]
        image, _, info = rasterize(
            means, quats, scales, opacities, colors,
            invert_rigid(ref_from_cam), half_pixel_shift(intrinsics), width, height,
            near_plane=NEAR, far_plane=FAR, eps2d=EPS_2D, backgrounds=jnp.ones((cameras, 3)),
            sh_degree=sh_degree or None, capacity=capacity,
        )  # fmt: skip
        return image, info.overflow

    def flat(x: Array) -> Array:
        return x.reshape(x.shape[0], -1, *x.shape[4:])

    gaussians = prediction.gaussians
    colors = flat(pixels)
    if sh_degree:
        colors = rearrange(gaussians.colors, "n v h w (k c) -> n (v h w) k c", c=3)
    images, overflow = jax.vmap(one)(
        *(flat(points), flat(gaussians.rotations), flat(scales), flat(gaussians.opacities)),
        *(colors, ref_from_cam, intrinsics),
    )
    return (images_from_01(images) if sh_degree else images), overflow


def with_room_for_all(draw: Callable[[int], tuple[Any, Any]], capacity: int) -> Any:
    """What ``draw(capacity)`` gives beside intersections that did not fit, once there are none.

    Outside `jit`: it looks at their number, and draws again with a capacity (a power of two) that
    the fullest image needs.
    """
    while True:
        drawn, overflow = draw(capacity)
        lacking = int(np.max(overflow))
        if lacking <= 0:
            return drawn
        capacity = 1 << (capacity + lacking - 1).bit_length()


class Scenes(NamedTuple):
    """Samples and chosen paths on one axis N, cameras and points in the normalized scene.

    factor: measure of the prediction, without gradient. known: samples with any known depth; where
    there is none the factors would be 1e-8, and are 1 instead.
    """

    prediction: Prediction
    points: Float[Array, "N V H W 3"]
    factor: Float[Array, " N"]
    known: Bool[Array, " N"]
    ref_from_cam: Float[Array, "N S 4 4"]
    intrinsics: Float[Array, "N S 3 3"]
    images: Float[Array, "N S H W 3"]
    valid: Bool[Array, "N S H W"]

    @property
    def pixels(self) -> Float[Array, "N V H W 3"]:
        """Images of the input views."""
        return self.images[:, : self.points.shape[1]]


def normalized_scenes(
    prediction: Prediction, batch: Batch, ref_from_cam: Float[Array, "N S 4 4"]
) -> Scenes:
    """Scenes of N (sample, path) pairs: their predictions, samples, and cameras in meters."""
    num_inputs = prediction.points.shape[1]
    valid = known_depth(batch)
    depth_m = jnp.where(valid, batch.depth_m, 0.0)
    truth = transform_points(ref_from_cam, unproject(depth_m, batch.intrinsics))
    known = valid[:, :num_inputs].any(axis=(1, 2, 3))
    factor = jnp.where(known, mean_distance(prediction.points, valid[:, :num_inputs]), 1.0)
    true_factor = jnp.where(known, mean_distance(truth, valid), 1.0)
    return Scenes(
        prediction=prediction,
        points=prediction.points / factor[:, None, None, None, None],
        factor=jax.lax.stop_gradient(factor),
        known=known,
        ref_from_cam=ref_from_cam.at[..., :3, 3].divide(true_factor[:, None, None]),
        intrinsics=batch.intrinsics,
        images=batch.images,
        valid=valid,
    )
