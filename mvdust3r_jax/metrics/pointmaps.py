"""Errors of pointmaps and of camera poses, jitted and batched over any leading axes.

Lengths are in the ground truth's units (metres), angles in degrees. A function or field whose name
ends in ``_release`` computes what the published evaluation computes, oddities included, for
comparison with published tables; the plain name is the usual definition. What has no value (nothing
valid, no baseline) is NaN in the plain ones and never counts as perfect.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.geometry.align import median_shift_scale, similarity
from mvdust3r_jax.geometry.pointmaps import masked, mean_distance
from mvdust3r_jax.geometry.transforms import invert_rigid, rotation_angle_deg, safe_norm

# A view's mean point error, and the chamfer distance, count at most this much.
ERROR_CAP = 10.0
# The prediction's median radius after normalisation is clipped to these limits.
_MIN_SCALE, _MAX_SCALE = 1e-3, 1e3
ACCURACY_THRESHOLDS_M = (0.1, 0.2, 0.3, 0.5)
# Errors of a pose that could not be estimated.
FAILED_ROTATION_DEG, FAILED_TRANSLATION_DEG = 180.0, 90.0
# Two cameras nearer than this (metres) have no direction from one to the other.
MIN_BASELINE_M = 1e-6
# The release's arccos is continued linearly beyond this cosine.
_COS_BOUND = 0.9999
# The release's smallest squared sine between directions.
_MIN_SQUARED_SINE = 1e-15


@struct.dataclass
class PointErrors:
    """Errors of aligned pointmaps.

    per_view: mean error of each view, capped, NaN for an empty view. nd: its mean over the views
    with valid pixels, NaN for an empty sample. nd_release: the same with empty views counted as 0.
    """

    per_view: Float[Array, "*batch V"]
    nd: Float[Array, "*batch"]
    nd_release: Float[Array, "*batch"]


@struct.dataclass
class PairErrors:
    """Angles between true and estimated relative poses of all pairs i < j of a sample's views."""

    rotation_deg: Float[Array, "*batch P"]
    translation_deg: Float[Array, "*batch P"]


@jax.jit
def align_pointmaps(
    points: Float[Array, "*batch V H W 3"],
    true_points: Float[Array, "*batch V H W 3"],
    valid: Bool[Array, "*batch V H W"],
) -> tuple[Float[Array, "*batch V H W 3"], Float[Array, "*batch V H W 3"]]:
    """Prediction and truth, both shifted to their medians, the prediction at the truth's scale.

    Per-axis medians and median radii over the valid pixels of all views; both clouds must be in the
    frame of the reference camera, because a per-axis median depends on the axes. The prediction is
    divided by its mean distance first, and its median radius clipped to [1e-3, 1e3]: that only
    matters for degenerate predictions. Invalid pixels are 0.
    """
    points, true_points = masked(points, valid), masked(true_points, valid)
    points = points / mean_distance(points, valid)[..., None, None, None, None]
    flat = (*valid.shape[:-3], -1)
    shift, scale = median_shift_scale(points.reshape(*flat, 3), valid.reshape(flat))
    true_shift, true_scale = median_shift_scale(true_points.reshape(*flat, 3), valid.reshape(flat))
    factor = true_scale / jnp.clip(scale, _MIN_SCALE, _MAX_SCALE)
    aligned = (points - shift[..., None, None, None, :]) * factor[..., None, None, None, None]
    return masked(aligned, valid), masked(true_points - true_shift[..., None, None, None, :], valid)


@jax.jit
def point_errors(
    points: Float[Array, "*batch V H W 3"],
    true_points: Float[Array, "*batch V H W 3"],
    valid: Bool[Array, "*batch V H W"],
) -> PointErrors:
    """Normalised distance (ND) between median-aligned clouds; non-finite predictions cost the cap.

    Both clouds in the frame of the reference camera (see `align_pointmaps`).
    """
    aligned, truth = align_pointmaps(points, true_points, valid)
    error = safe_norm(aligned - truth)
    wrong = ~jnp.isfinite(points).all(axis=-1) | ~jnp.isfinite(aligned).all(axis=-1)
    error = jnp.where(valid, jnp.where(wrong, jnp.inf, error), 0.0)
    count = valid.sum(axis=(-2, -1))
    capped = jnp.minimum(error.sum(axis=(-2, -1)) / jnp.maximum(count, 1), ERROR_CAP)
    seen = count > 0
    nd = capped.sum(axis=-1) / jnp.where(seen.any(axis=-1), seen.sum(axis=-1), jnp.nan)
    return PointErrors(jnp.where(seen, capped, jnp.nan), nd, capped.mean(axis=-1))


@jax.jit
def similarity_error(
    points: Float[Array, "*batch V H W 3"],
    true_points: Float[Array, "*batch V H W 3"],
    valid: Bool[Array, "*batch V H W"],
) -> Float[Array, "*batch"]:
    """Mean point distance after the least-squares similarity of the prediction onto the truth.

    Any similarity of the prediction leaves it unchanged. All valid pixels of a sample weigh the
    same. Infinite for a non-finite prediction, NaN for an empty sample.
    """
    flat = (*valid.shape[:-3], -1)
    wrong = jnp.any(valid & ~jnp.isfinite(points).all(axis=-1), axis=(-3, -2, -1))
    source = masked(jnp.nan_to_num(points), valid).reshape(*flat, 3)
    target, mask = masked(true_points, valid).reshape(*flat, 3), valid.reshape(flat)
    scale, rotation, translation = similarity(source, target, mask.astype(source.dtype))
    moved = scale[..., None, None] * jnp.einsum("...ij,...nj->...ni", rotation, source)
    distance = safe_norm(moved + translation[..., None, :] - target)
    count = mask.sum(axis=-1)
    mean = jnp.sum(jnp.where(mask, distance, 0.0), axis=-1) / jnp.where(count > 0, count, jnp.nan)
    return jnp.where(wrong, jnp.inf, mean)


def accuracy(
    nd: Float[Array, "*batch"], thresholds_m: tuple[float, ...] = ACCURACY_THRESHOLDS_M
) -> Float[Array, "*batch t"]:
    """1 where the distance is below a threshold (DAc is its mean over samples); NaN stays NaN."""
    thresholds = jnp.asarray(thresholds_m).reshape((1,) * nd.ndim + (-1,))
    below = (nd[..., None] < thresholds).astype(jnp.float32)
    return jnp.where(jnp.isnan(nd)[..., None], jnp.nan, below)


def view_pairs(num_views: int) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Indices i < j of all pairs of views."""
    return np.triu_indices(num_views, 1)


def _direction_angle_deg(t: Float[Array, "*batch 3"], u: Float[Array, "*batch 3"]) -> Array:
    """Angle between two directions regardless of sign, in [0, 90], accurate at both ends."""
    sine, cosine = safe_norm(jnp.cross(t, u)), jnp.abs(jnp.sum(t * u, axis=-1))
    return jnp.rad2deg(jnp.arctan2(sine, cosine))


@jax.jit
def pair_errors(
    ref_from_cam: Float[Array, "*batch V 4 4"],
    true_ref_from_cam: Float[Array, "*batch V 4 4"],
    ok: Bool[Array, "*batch V"],
) -> PairErrors:
    """Errors of the relative poses ``cam_i_from_cam_j`` (RRE and RTE).

    The frames of the two sets of poses may differ by any similarity. A pair with a pose that is not
    ``ok`` counts 180 and 90 degrees, one without estimated baseline 90. Where the true cameras
    coincide the translation angle is undefined: NaN.
    """
    i, j = view_pairs(ok.shape[-1])
    relative = invert_rigid(ref_from_cam[..., i, :, :]) @ ref_from_cam[..., j, :, :]
    truth = invert_rigid(true_ref_from_cam[..., i, :, :]) @ true_ref_from_cam[..., j, :, :]
    rotation_deg = rotation_angle_deg(relative[..., :3, :3], truth[..., :3, :3])
    found, wanted = relative[..., :3, 3], truth[..., :3, 3]
    translation_deg = jnp.where(
        safe_norm(found) > 0, _direction_angle_deg(found, wanted), FAILED_TRANSLATION_DEG
    )
    both = ok[..., i] & ok[..., j] & jnp.isfinite(relative).all(axis=(-2, -1))
    rotation_deg = jnp.where(both, rotation_deg, FAILED_ROTATION_DEG)
    translation_deg = jnp.where(both, translation_deg, FAILED_TRANSLATION_DEG)
    moved = safe_norm(wanted) > MIN_BASELINE_M
    return PairErrors(rotation_deg, jnp.where(moved, translation_deg, jnp.nan))


def _extrapolated_arccos(cosine: Array) -> Array:
    """Arccos, continued linearly beyond +-0.9999: a cosine of 1 gives 0.405139 degrees, not 0."""
    slope = -1 / np.sqrt(1 - _COS_BOUND**2)
    high = np.arccos(_COS_BOUND) + slope * (cosine - _COS_BOUND)
    low = np.arccos(-_COS_BOUND) + slope * (cosine + _COS_BOUND)
    inner = jnp.arccos(jnp.clip(cosine, -_COS_BOUND, _COS_BOUND))
    return jnp.where(cosine > _COS_BOUND, high, jnp.where(cosine < -_COS_BOUND, low, inner))


@jax.jit
def pair_errors_release(
    world_from_cam: Float[Array, "*batch V 4 4"],
    true_world_from_cam: Float[Array, "*batch V 4 4"],
    ok: Bool[Array, "*batch V"],
) -> PairErrors:
    """The published RRE and RTE: of ``c2w_i inverse(c2w_j)``, which depends on the world frame.

    A failed pose stands for rotation I and camera-from-world translation (1, 1, 1), as it does
    there. Undefined directions give 90.
    """
    failed = jnp.eye(4).at[:3, 3].set(-1.0).reshape((1,) * ok.ndim + (4, 4))
    poses = jnp.where(ok[..., None, None], world_from_cam, failed)
    i, j = view_pairs(ok.shape[-1])
    relative = poses[..., i, :, :] @ invert_rigid(poses[..., j, :, :])
    truth = true_world_from_cam[..., i, :, :] @ invert_rigid(true_world_from_cam[..., j, :, :])
    trace = jnp.sum(relative[..., :3, :3] * truth[..., :3, :3], axis=(-2, -1))
    found, wanted = relative[..., :3, 3], truth[..., :3, 3]
    lengths = jnp.maximum(safe_norm(found), 1e-15) * jnp.maximum(safe_norm(wanted), 1e-15)
    cosine = jnp.sum(found * wanted, axis=-1) / lengths
    squared_sine = jnp.maximum(1 - cosine**2, _MIN_SQUARED_SINE)
    return PairErrors(
        jnp.rad2deg(_extrapolated_arccos((trace - 1) / 2)),
        jnp.rad2deg(jnp.arccos(jnp.sqrt(1 - squared_sine))),
    )


def share_below(
    angle_deg: Float[Array, "*batch P"], threshold_deg: float = 15.0
) -> Float[Array, "*batch"]:
    """Share of the defined pairs strictly below the threshold (RRA@15, RTA@15)."""
    defined = ~jnp.isnan(angle_deg)
    total = defined.sum(axis=-1)
    below = jnp.sum(defined & (angle_deg < threshold_deg), axis=-1)
    return below / jnp.where(total > 0, total, jnp.nan)


@partial(jax.jit, static_argnames="max_threshold_deg")
def mean_average_accuracy(
    errors: PairErrors, max_threshold_deg: int = 30
) -> Float[Array, "*batch"]:
    """mAA@30: mean over the thresholds 1, 2, ..., 30 of the share of pairs with both below it.

    A pair without true baseline is judged by its rotation alone.
    """
    larger = jnp.fmax(errors.rotation_deg, errors.translation_deg)[..., None]
    thresholds = jnp.arange(1, max_threshold_deg + 1).reshape((1,) * (larger.ndim - 1) + (-1,))
    return jnp.mean((larger < thresholds).astype(jnp.float32), axis=(-2, -1))
