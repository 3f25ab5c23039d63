"""Answers without a network: a wall, the training rooms' mean, the truth; and points as splats.

What a method scores that sees nothing, and what one scores that knows everything: the two ends of
every scale. Pure functions of arrays; lengths in meters.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mvdust3r_jax.cameras.from_pointmaps import centered_pixels
from mvdust3r_jax.evaluation.estimate import first_view, ground_truth, principal_points
from mvdust3r_jax.geometry.pointmaps import mean_distance
from mvdust3r_jax.geometry.truth import known_depth
from mvdust3r_jax.types import Batch, Gaussians, Prediction

# The constant baseline sees a wall at unit depth, through a lens of this focal length over width.
_CONSTANT_FOCAL = 1.0
# Gaussians of the ground-truth oracle: standard deviation over the distance between pixels' rays.
_ORACLE_SPREAD = 0.6


def constant_prediction(batch: Batch, num_inputs: int) -> Prediction:
    """The same flat wall in front of every view, whatever the images show."""
    height, width = batch.images.shape[2:4]
    pixels = centered_pixels(height, width, principal_points(batch, num_inputs))
    rays = pixels / (_CONSTANT_FOCAL * width)
    points = jnp.concatenate([rays, jnp.ones_like(rays[..., :1])], axis=-1)
    return Prediction(points, jnp.ones(points.shape[:-1]))


def pointmap_sums(batch: Batch, num_inputs: int) -> tuple[Array, Array]:
    """True pointmaps, summed over the known pixels of each sample; and the counts.

    Returns:
      ``[B, V, H, W, 3]`` meters in the reference view's frame and ``[B, V, H, W]``, to be summed.
    """
    truth = ground_truth(batch, num_inputs, first_view(batch))
    return jnp.where(truth.valid[..., None], truth.points, 0.0), truth.valid.astype(jnp.float32)


def mean_pointmaps(points_sum: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Mean pointmap of the reference view, and one of all other views: ``[V, H, W, 3]``.

    Which source view comes first means nothing, so they share theirs.
    """
    roles = [slice(0, 1), *[slice(1, None)] * (len(count) - 1)]
    sums = np.stack([points_sum[role].sum(axis=0) for role in roles])
    counts = np.stack([count[role].sum(axis=0) for role in roles])
    return (sums / np.maximum(counts, 1)[..., None]).astype(np.float32)


def mean_prediction(mean: Float[Array, "V H W 3"], batch: Batch, num_inputs: int) -> Prediction:
    """The training set's mean pointmaps, whatever the images show."""
    points = jnp.broadcast_to(mean, (batch.images.shape[0], *mean.shape))
    return Prediction(points[:, :num_inputs], jnp.ones(points.shape[:-1])[:, :num_inputs])


def _round_splats(
    scales: Float[Array, "B V H W 3"], opacities: Float[Array, "B V H W"]
) -> Gaussians:
    """Gaussians that are not turned and have the colors of their pixels (SH degree 0)."""
    no_turn = jnp.array([1.0, 0, 0, 0]).reshape(1, 1, 1, 1, 4)
    rotations = jnp.broadcast_to(no_turn, (*opacities.shape, 4))
    return Gaussians(jnp.zeros_like(scales), opacities, scales, rotations)


def oracle_prediction(batch: Batch, num_inputs: int) -> Prediction:
    """Ground truth as if a network had predicted it; confidence 0 where the depth is unknown.

    Each pixel is an opaque round Gaussian about as large as the pixel's footprint.
    """
    truth = ground_truth(batch, num_inputs, first_view(batch))
    opacities = truth.valid.astype(jnp.float32)
    spread = batch.depth_m[:, :num_inputs] / batch.intrinsics[:, :num_inputs, 0, 0][..., None, None]
    scales = jnp.broadcast_to(_ORACLE_SPREAD * spread[..., None], truth.points.shape)
    gaussians = _round_splats(scales, 0.99 * opacities)
    return Prediction(truth.points, opacities, gaussians)


def fixed_splats(prediction: Prediction, batch: Batch, spread_px: float) -> Prediction:
    """The predicted points, each an opaque round Gaussian; all of a scene are of one size.

    What points alone can show of a new view.

    spread_px: standard deviation in pixels, seen from the scene's mean distance; what is rendered
    is clipped at ``max_scale`` times the focal length (`splat.pointmaps.clip_scales`).
    """
    num_inputs = prediction.points.shape[1]
    valid = known_depth(batch)[:, :num_inputs]
    distance = mean_distance(prediction.points, valid)
    spread = spread_px * distance / batch.intrinsics[:, 0, 0, 0]
    scales = jnp.broadcast_to(spread[:, None, None, None, None], prediction.points.shape)
    gaussians = _round_splats(scales, jnp.full(prediction.confidence.shape, 0.99))
    return prediction.replace(gaussians=gaussians)
