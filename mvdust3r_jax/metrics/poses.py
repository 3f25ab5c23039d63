"""Errors of camera poses between all pairs of a sample's views, jitted, batched over leading axes.

Angles in degrees, lengths in meters. A function whose name ends in ``_release`` computes what the
published evaluation computes, oddities included; the plain name is the usual definition. What has
no value (no baseline) is NaN in the plain ones and never counts as perfect.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax import pytrees
from mvdust3r_jax.geometry.transforms import invert_rigid, rotation_angle_deg, safe_norm
from mvdust3r_jax.products import exact_products

# Errors of a pose that could not be estimated.
FAILED_ROTATION_DEG, FAILED_TRANSLATION_DEG = 180.0, 90.0


# Two cameras nearer than this (meters) have no direction from one to the other.
MIN_BASELINE_M = 1e-6


# The release's arccos is continued linearly beyond this cosine.
_COS_BOUND = 0.9999


# The release's smallest squared sine between directions.
_MIN_SQUARED_SINE = 1e-15


@pytrees.dataclass
class PairErrors:
    """Angles between true and estimated relative poses of all pairs i < j of a sample's views."""

    rotation_deg: Float[Array, "*batch P"]
    translation_deg: Float[Array, "*batch P"]


def view_pairs(num_views: int) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " P"]]:
    """Indices i < j of all pairs of views."""
    return np.triu_indices(num_views, 1)


def _direction_angle_deg(t: Float[Array, "*batch 3"], u: Float[Array, "*batch 3"]) -> Array:
    """Angle between two directions regardless of sign, in [0, 90], accurate at both ends."""
    sine, cosine = safe_norm(jnp.cross(t, u)), jnp.abs(jnp.sum(t * u, axis=-1))
    # Of no direction the arctangent is 0, but its gradient NaN.
    cosine = jnp.where((sine == 0) & (cosine == 0), 1.0, cosine)
    return jnp.rad2deg(jnp.arctan2(sine, cosine))


@jax.jit
@exact_products
def pair_errors(
    ref_from_cam: Float[Array, "*batch V 4 4"],
    true_ref_from_cam: Float[Array, "*batch V 4 4"],
    ok: Bool[Array, "*batch V"],
) -> PairErrors:
    """Errors of the relative poses ``cam_i_from_cam_j`` (RRE and RTE).

    The frames of the two sets of poses may differ by any similarity. A pair with a pose that is not
    ``ok``, or not finite, counts 180 and 90 degrees, one without estimated baseline 90. Where the
    true cameras coincide the translation angle is undefined: NaN. Gradients are finite: 0 for what
    is not ``ok`` and where two cameras coincide. Baselines below about 1e-19 count as none, and the
    range ends at about 1e19 (`safe_norm`).
    """
    ok &= jnp.isfinite(ref_from_cam).all(axis=(-2, -1))
    anywhere = jnp.eye(4, dtype=ref_from_cam.dtype).reshape((1,) * ok.ndim + (4, 4))
    ref_from_cam = jnp.where(ok[..., None, None], ref_from_cam, anywhere)
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
    slope = -1 / math.sqrt(1 - _COS_BOUND**2)
    high = math.acos(_COS_BOUND) + slope * (cosine - _COS_BOUND)
    low = math.acos(-_COS_BOUND) + slope * (cosine + _COS_BOUND)
    inner = jnp.arccos(jnp.clip(cosine, -_COS_BOUND, _COS_BOUND))
    return jnp.where(cosine > _COS_BOUND, high, jnp.where(cosine < -_COS_BOUND, low, inner))


@jax.jit
@exact_products
def pair_errors_release(
    world_from_cam: Float[Array, "*batch V 4 4"],
    true_world_from_cam: Float[Array, "*batch V 4 4"],
    ok: Bool[Array, "*batch V"],
) -> PairErrors:
    """The published RRE and RTE: of ``c2w_i inverse(c2w_j)``, which depends on the world frame.

    A failed pose stands for rotation I and camera-from-world translation (1, 1, 1), as it does
    there. Undefined directions give 90.
    """
    failed = jnp.eye(4, dtype=world_from_cam.dtype).at[:3, 3].set(-1.0)
    failed = failed.reshape((1,) * ok.ndim + (4, 4))
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
    return (below / jnp.where(total > 0, total, jnp.nan)).astype(angle_deg.dtype)


@partial(jax.jit, static_argnames="max_threshold_deg")
def mean_average_accuracy(
    errors: PairErrors, max_threshold_deg: int = 30
) -> Float[Array, "*batch"]:
    """mAA@30: mean over the thresholds 1, 2, ..., 30 of the share of pairs with both below it.

    A pair without true baseline is judged by its rotation alone.
    """
    larger = jnp.fmax(errors.rotation_deg, errors.translation_deg)[..., None]
    thresholds = jnp.arange(1, max_threshold_deg + 1).reshape((1,) * (larger.ndim - 1) + (-1,))
    return jnp.mean((larger < thresholds).astype(larger.dtype), axis=(-2, -1))
