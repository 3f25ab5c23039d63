"""Training losses on pointmaps, renders and Gaussians: the terms, each on its own.

Every term follows the published recipe (arXiv 2412.06974, section 3.3 and its release) and its
golden data. ``S = V + T``: input views first, then render-only views. Masks are true where the
ground-truth depth is known; values under a false mask never reach a result.

Spread over devices: with ``axis_name`` each device returns *its share* of the global value, so that
the ``psum`` of the shares, and of their gradients, is exactly the value of the whole batch. Without
it the value itself is returned.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.geometry.pointmaps import masked, mean_distance
from mvdust3r_jax.geometry.transforms import safe_norm
from mvdust3r_jax.splat.pointmaps import MAX_SCALE, MIN_SCALE

# Weight of the reward for confidence: err * c - 0.2 log c is least at c = 0.2 / err.
CONFIDENCE_REWARD = 0.2


def global_sum(value: Array, axis_name: str | None) -> Array:
    """Sum over all devices of the mapped axis; the value itself without one."""
    return value if axis_name is None else jax.lax.psum(value, axis_name)


def sample_mean(
    per_sample: Float[Array, "*batch"], axis_name: str | None = None
) -> Float[Array, ""]:
    """Mean over all samples of all devices (this device's share of it)."""
    return per_sample.sum() / global_sum(jnp.float32(per_sample.size), axis_name)


def slot_order(num_refs: int, num_views: int) -> Int[np.ndarray, "R V"]:
    """Which view stands in slot j of path r: views 0 and r are swapped, so slot 0 is the reference.

    The published loss pools each slot over samples and paths.
    """
    order = np.tile(np.arange(num_views), (num_refs, 1))
    paths = np.arange(num_refs)
    order[paths, 0], order[paths, paths] = paths, 0
    return order


def _pool_slots(
    pixel_values: Float[Array, "B R V H W"],
    valid: Bool[Array, "B V H W"],
    axis_name: str | None,
) -> Float[Array, "V"]:
    """Mean over the valid pixels of each slot, pooled over batch and paths; an empty slot is 0."""
    num_refs, num_views = pixel_values.shape[1:3]
    valid = valid[:, None]
    sums = jnp.where(valid, pixel_values, 0.0).sum(axis=(-2, -1))
    counts = jnp.broadcast_to(valid.sum(axis=(-2, -1)), sums.shape).astype(sums.dtype)
    order = jnp.asarray(slot_order(num_refs, num_views))[None]
    sums = jnp.take_along_axis(sums, order, axis=2).sum(axis=(0, 1))
    counts = jnp.take_along_axis(counts, order, axis=2).sum(axis=(0, 1))
    return sums / jnp.maximum(global_sum(counts, axis_name), 1.0)


def point_errors(
    points: Float[Array, "B R V H W 3"],
    true_points: Float[Array, "B R V H W 3"],
    valid: Bool[Array, "B V H W"],
) -> Float[Array, "B R V H W"]:
    """Distances after dividing each cloud by its own mean distance to the origin; 0 under the mask.

    The prediction's factor is differentiated through.
    """
    valid = jnp.broadcast_to(valid[:, None], points.shape[:-1])
    points, true_points = masked(points, valid), masked(true_points, valid)
    scale = mean_distance(points, valid)[..., None, None, None, None]
    true_scale = mean_distance(true_points, valid)[..., None, None, None, None]
    return safe_norm(points / scale - true_points / true_scale)


def regression_loss(
    points: Float[Array, "B R V H W 3"],
    true_points: Float[Array, "B R V H W 3"],
    valid: Bool[Array, "B V H W"],
    *,
    axis_name: str | None = None,
) -> Float[Array, "V"]:
    """Mean normalised point error of each slot (slot 0 = the reference view of its path)."""
    return _pool_slots(point_errors(points, true_points, valid), valid, axis_name)


def confidence_loss(
    points: Float[Array, "B R V H W 3"],
    confidence: Float[Array, "B R V H W"],
    true_points: Float[Array, "B R V H W 3"],
    valid: Bool[Array, "B V H W"],
    *,
    reward: float = CONFIDENCE_REWARD,
    axis_name: str | None = None,
) -> Float[Array, "V"]:
    """``mean(c |x - x_gt| - reward log c)`` of each slot; the training loss is their sum.

    ``confidence`` is at least 1. All gradients are 0 where nothing is valid.
    """
    errors = point_errors(points, true_points, valid)
    confidence = jnp.where(valid[:, None], confidence, 1.0)
    values = confidence * errors - reward * jnp.log(confidence)
    return _pool_slots(values, valid, axis_name)


def scale_excess(
    scales: Float[Array, "*batch V H W 3"],
    factor: Float[Array, "*batch"],
    max_scale: float = MAX_SCALE,
) -> Float[Array, "*batch"]:
    """Mean squared excess of the normalised scales over the clip range, over all pixels."""
    normed = scales / factor[..., None, None, None, None]
    excess = jnp.maximum(normed - max_scale, 0.0) + jnp.maximum(MIN_SCALE - normed, 0.0)
    return jnp.mean(excess**2, axis=(-4, -3, -2, -1))


def rgb_error(
    render: Float[Array, "*batch V H W 3"],
    images: Float[Array, "*batch V H W 3"],
    valid: Bool[Array, "*batch V H W"],
) -> Float[Array, "*batch"]:
    """Mean Euclidean RGB distance over a sample's valid pixels of all views; 0 where none is."""
    difference = masked(render - images, valid)
    axes = (-3, -2, -1)
    return safe_norm(difference).sum(axis=axes) / jnp.maximum(valid.sum(axis=axes), 1)
