"""Training losses on pointmaps, renders and Gaussians: the terms, each on its own.

Every term follows the published recipe (arXiv 2412.06974, section 3.3 and its release) and its
golden data. ``S = V + T``: input views first, then render-only views. Masks are true where the
ground-truth depth is known; values under a false mask never reach a result.

Where samples are spread over devices or micro-batches, each function gets ``Totals``, what means
over all of them divide by, and returns *its share*: the sum of the shares, and of their gradients,
is exactly the value of the whole batch. Without it the samples given are the whole batch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.geometry.camera import unproject
from mvdust3r_jax.geometry.pointmaps import masked, mean_distance
from mvdust3r_jax.geometry.transforms import invert_rigid, safe_norm, transform_points
from mvdust3r_jax.types import Batch

# Weight of the reward for confidence: err * c - 0.2 log c is least at c = 0.2 / err.
CONFIDENCE_REWARD = 0.2
# Standard deviations of Gaussians that are rendered, in units of the normalised scene.
MIN_SCALE, MAX_SCALE = 1e-4, 4e-3


def global_sum(value: Array, axis_name: str | None) -> Array:
    """Sum over all devices of the mapped axis; the value itself without one."""
    return value if axis_name is None else jax.lax.psum(value, axis_name)


class Totals(NamedTuple):
    """Of the whole batch: how many samples, and the valid pixels of each slot on all paths."""

    samples: Float[Array, ""]
    slots: Float[Array, "V"]


def count_totals(batch: Batch, num_refs: int, num_inputs: int, axis_name: str | None) -> Totals:
    """``Totals`` of all devices' samples; a device calls it before it cuts its own into parts."""
    valid = known_depth(batch)[:, :num_inputs]
    own = Totals(jnp.float32(valid.shape[0]), slot_counts(valid, num_refs))
    return jax.tree.map(lambda x: global_sum(x, axis_name), own)


def sample_mean(
    per_sample: Float[Array, "*batch"], samples: Float[Array, ""] | None = None
) -> Float[Array, ""]:
    """Mean over ``samples`` (this one's share of it)."""
    return per_sample.sum() / (per_sample.size if samples is None else samples)


def known_depth(batch: Batch) -> Bool[Array, "B S H W"]:
    """Pixels whose depth is positive and finite."""
    return (batch.depth_m > 0) & jnp.isfinite(batch.depth_m)


def reference_from_cameras(
    world_from_cam: Float[Array, "B S 4 4"], num_refs: int
) -> Float[Array, "B R S 4 4"]:
    """Every camera's pose in the frame of each of the first R views."""
    ref_from_world = invert_rigid(world_from_cam[:, :num_refs])
    return jnp.einsum("brij,bsjk->brsik", ref_from_world, world_from_cam)


def true_pointmaps(batch: Batch, num_refs: int) -> Float[Array, "B R S H W 3"]:
    """Ground truth of every path: each view's points in the frame of view r, metres.

    Pixels without known depth hold the origin of their camera.
    """
    depth_m = jnp.where(known_depth(batch), batch.depth_m, 0.0)
    points_cam = unproject(depth_m, batch.intrinsics)
    ref_from_cam = reference_from_cameras(batch.world_from_cam, num_refs)
    return transform_points(ref_from_cam, points_cam[:, None])


def slot_order(num_refs: int, num_views: int) -> Int[np.ndarray, "R V"]:
    """Which view stands in slot j of path r: views 0 and r are swapped, so slot 0 is the reference.

    The published loss pools each slot over samples and paths.
    """
    order = np.tile(np.arange(num_views), (num_refs, 1))
    paths = np.arange(num_refs)
    order[paths, 0], order[paths, paths] = paths, 0
    return order


def _sum_slots(by_view: Float[Array, "B R V"]) -> Float[Array, "V"]:
    """Sum of each slot over batch and paths."""
    order = jnp.asarray(slot_order(*by_view.shape[1:]))[None]
    return jnp.take_along_axis(by_view, order, axis=2).sum(axis=(0, 1))


def slot_counts(valid: Bool[Array, "B V H W"], num_refs: int) -> Float[Array, "V"]:
    """Valid pixels of each slot, pooled over batch and paths."""
    counts = valid.sum(axis=(-2, -1)).astype(jnp.float32)[:, None]
    return _sum_slots(jnp.broadcast_to(counts, (counts.shape[0], num_refs, counts.shape[2])))


def _pool_slots(
    pixel_values: Float[Array, "B R V H W"],
    valid: Bool[Array, "B V H W"],
    counts: Float[Array, "V"] | None,
) -> Float[Array, "V"]:
    """Mean over the valid pixels of each slot, pooled over batch and paths; an empty slot is 0."""
    sums = _sum_slots(jnp.where(valid[:, None], pixel_values, 0.0).sum(axis=(-2, -1)))
    counts = slot_counts(valid, pixel_values.shape[1]) if counts is None else counts
    return sums / jnp.maximum(counts, 1.0)


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
    counts: Float[Array, "V"] | None = None,
) -> Float[Array, "V"]:
    """Mean normalised point error of each slot (slot 0 = the reference view of its path)."""
    return _pool_slots(point_errors(points, true_points, valid), valid, counts)


def confidence_loss(
    points: Float[Array, "B R V H W 3"],
    confidence: Float[Array, "B R V H W"],
    true_points: Float[Array, "B R V H W 3"],
    valid: Bool[Array, "B V H W"],
    *,
    reward: float = CONFIDENCE_REWARD,
    counts: Float[Array, "V"] | None = None,
) -> Float[Array, "V"]:
    """``mean(c |x - x_gt| - reward log c)`` of each slot; the training loss is their sum.

    ``confidence`` is at least 1. All gradients are 0 where nothing is valid. counts: of ``Totals``.
    """
    errors = point_errors(points, true_points, valid)
    confidence = jnp.where(valid[:, None], confidence, 1.0)
    values = confidence * errors - reward * jnp.log(confidence)
    return _pool_slots(values, valid, counts)


def clip_scales(
    scales: Float[Array, "*batch V H W 3"],
    factor: Float[Array, "*batch"],
    max_scale: float = MAX_SCALE,
) -> Float[Array, "*batch V H W 3"]:
    """Raw scales in units of the normalised scene, clipped to what is rendered."""
    return jnp.clip(scales / factor[..., None, None, None, None], MIN_SCALE, max_scale)


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
