"""Errors of pointmaps, jitted and batched over any leading axes.

Lengths are in the ground truth's units (meters). A function or field whose name ends in
``_release`` computes what the published evaluation computes, oddities included, for comparison with
published tables; the plain name is the usual definition. What has no value (nothing valid) is NaN
in the plain ones and never counts as perfect.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvdust3r_jax import pytrees
from mvdust3r_jax.geometry.align import median_shift_scale, similarity
from mvdust3r_jax.geometry.pointmaps import masked, mean_distance
from mvdust3r_jax.geometry.transforms import safe_norm
from mvdust3r_jax.products import exact_products

# A view's mean point error, and the chamfer distance, count at most this much.
ERROR_CAP = 10.0
# The prediction's median radius after normalization is clipped to these limits.
_MIN_SCALE, _MAX_SCALE = 1e-3, 1e3
ACCURACY_THRESHOLDS_M = (0.1, 0.2, 0.3, 0.5)


@pytrees.dataclass
class PointErrors:
    """Errors of aligned pointmaps.

    per_view: mean error of each view, capped, NaN for an empty view. nd: its mean over the views
    with valid pixels, NaN for an empty sample. nd_release: the same with empty views counted as 0.
    """

    per_view: Float[Array, "*batch V"]
    nd: Float[Array, "*batch"]
    nd_release: Float[Array, "*batch"]


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
    """Normalized distance (ND) between median-aligned clouds; non-finite predictions cost the cap.

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
@exact_products
def similarity_error(
    points: Float[Array, "*batch V H W 3"],
    true_points: Float[Array, "*batch V H W 3"],
    valid: Bool[Array, "*batch V H W"],
) -> Float[Array, "*batch"]:
    """Mean point distance after the least-squares similarity of the prediction onto the truth.

    Any similarity of the prediction leaves it unchanged. All valid pixels of a sample weigh the
    same. Infinite for a non-finite prediction, NaN for an empty sample. Half precision is taken as
    float32.
    """
    points, true_points = pytrees.full_precision((points, true_points))
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
    below = (nd[..., None] < thresholds).astype(nd.dtype)
    return jnp.where(jnp.isnan(nd)[..., None], jnp.nan, below)
