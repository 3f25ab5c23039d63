"""Training losses on pointmaps, renders and Gaussians: the terms, each on its own.

Every term follows the published recipe (arXiv 2412.06974, section 3.3 and its release) and its
golden data. ``S = V + T``: input views first, then render-only views. Masks are true where the
ground-truth depth is known; values under a false mask never reach a result.

A batch may be spread over devices and cut into micro-batches. Each part returns *its share* of the
global value: sums over its own pixels and samples, divided by the counts of the whole batch, which
a `Pool` holds. The shares, and their gradients, add up to exactly the value of the whole batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.geometry.pointmaps import masked, mean_distance
from mvdust3r_jax.geometry.transforms import safe_norm
from mvdust3r_jax.geometry.truth import known_depth
from mvdust3r_jax.splat.pointmaps import MAX_SCALE, MIN_SCALE
from mvdust3r_jax.types import Batch

# Axes of chips over which sums are taken; None on one chip.
AxisName = str | tuple[str, ...] | None
# Weight of the reward for confidence: err * c - 0.2 log c is least at c = 0.2 / err.
CONFIDENCE_REWARD = 0.2


@pytrees.dataclass
class Pool:
    """Counts of a whole batch, over all devices and micro-batches.

    samples: of the batch. slot_pixels: valid pixels of each slot, over samples and paths.
    """

    samples: Float[Array, ""]
    slot_pixels: Float[Array, " V"]


def global_sum(value: Any, axis_name: AxisName) -> Any:
    """Sum over all devices of the mapped axis; the value itself without one."""
    return value if axis_name is None else jax.lax.psum(value, axis_name)


def pool_of(batch: Batch, num_inputs: int, num_refs: int, axis_name: AxisName = None) -> Pool:
    """Counts of a batch, and with ``axis_name`` of those of all devices together."""
    valid = known_depth(batch)[:, :num_inputs]
    own = Pool(jnp.float32(valid.shape[0]), _slot_pixels(valid, num_refs))
    return global_sum(own, axis_name)


def sample_mean(values: Float[Array, " n"], pool: Pool, *, per_sample: int = 1) -> Float[Array, ""]:
    """Share of the mean over the whole batch, of which each sample has ``per_sample`` values."""
    return values.sum() / (pool.samples * per_sample)


def slot_order(num_refs: int, num_views: int) -> Int[np.ndarray, "R V"]:
    """Which view stands in slot j of path r: views 0 and r are swapped, so slot 0 is the reference.

    The published loss pools each slot over samples and paths.
    """
    order = np.tile(np.arange(num_views), (num_refs, 1))
    paths = np.arange(num_refs)
    order[paths, 0], order[paths, paths] = paths, 0
    return order


def _by_slot(values: Float[Array, "B R V"]) -> Float[Array, " V"]:
    """Sums over samples and paths, view by view brought into its slot."""
    order = jnp.asarray(slot_order(*values.shape[1:]))[None]
    return jnp.take_along_axis(values, order, axis=2).sum(axis=(0, 1))


def _slot_pixels(valid: Bool[Array, "B V H W"], num_refs: int) -> Float[Array, " V"]:
    """Valid pixels of each slot, pooled over samples and paths."""
    counts = valid.sum(axis=(-2, -1)).astype(jnp.float32)[:, None]
    return _by_slot(jnp.broadcast_to(counts, (len(valid), num_refs, valid.shape[1])))


def _pool_slots(
    pixel_values: Float[Array, "B R V H W"],
    valid: Bool[Array, "B V H W"],
    pool: Pool | None,
) -> Float[Array, " V"]:
    """Mean over the valid pixels of each slot, pooled over batch and paths; an empty slot is 0."""
    sums = jnp.where(valid[:, None], pixel_values, 0.0).sum(axis=(-2, -1))
    pixels = _slot_pixels(valid, sums.shape[1]) if pool is None else pool.slot_pixels
    return _by_slot(sums) / jnp.maximum(pixels, 1.0)


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
    pool: Pool | None = None,
) -> Float[Array, " V"]:
    """Mean normalized point error of each slot (slot 0 = the reference view of its path)."""
    return _pool_slots(point_errors(points, true_points, valid), valid, pool)


def confidence_loss(
    points: Float[Array, "B R V H W 3"],
    confidence: Float[Array, "B R V H W"],
    true_points: Float[Array, "B R V H W 3"],
    valid: Bool[Array, "B V H W"],
    *,
    reward: float = CONFIDENCE_REWARD,
    pool: Pool | None = None,
) -> Float[Array, " V"]:
    """``mean(c |x - x_gt| - reward log c)`` of each slot; the training loss is their sum.

    ``confidence`` is at least 1. All gradients are 0 where nothing is valid.
    """
    errors = point_errors(points, true_points, valid)
    confidence = jnp.where(valid[:, None], confidence, 1.0)
    values = confidence * errors - reward * jnp.log(confidence)
    return _pool_slots(values, valid, pool)


def scale_excess(
    scales: Float[Array, "*batch V H W 3"],
    factor: Float[Array, "*batch"],
    max_scale: float = MAX_SCALE,
) -> Float[Array, "*batch"]:
    """Mean squared excess of the normalized scales over the clip range, over all pixels."""
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
