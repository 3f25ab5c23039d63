"""Alignments between two point sets: similarity by least squares, robust or not, and by medians.

Points are ``[..., n, 3]``; masks or weights ``[..., n]``. A similarity is returned as
``(scale, rotation, translation)`` with ``target = scale * rotation @ source + translation``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvdust3r_jax import pytrees
from mvdust3r_jax.geometry.transforms import safe_norm

# Smallest total weight and source variance that a similarity is divided by.
_EPS = 1e-12
# Of the robust similarity: rounds, width of the loss in median residuals, and its least width.
_ROUNDS, _WIDTH_MEDIANS, _LEAST_WIDTH = 10, 2.0, 1e-9


def similarity(
    source: Float[Array, "*batch n 3"],
    target: Float[Array, "*batch n 3"],
    weights: Float[Array, "*batch n"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch 3 3"], Float[Array, "*batch 3"]]:
    """Weighted least-squares similarity (Umeyama 1991, eq. 40-42); reflections are excluded.

    Half precision is taken as float32.
    """
    source, target, weights = pytrees.full_precision((source, target, weights))
    weights = weights / jnp.maximum(weights.sum(axis=-1, keepdims=True), _EPS)
    source_mean = jnp.einsum("...n,...ni->...i", weights, source)
    target_mean = jnp.einsum("...n,...ni->...i", weights, target)
    source_centered = source - source_mean[..., None, :]
    target_centered = target - target_mean[..., None, :]
    covariance = jnp.einsum("...n,...ni,...nj->...ij", weights, target_centered, source_centered)
    u, singular, vt = jnp.linalg.svd(covariance)
    sign = jnp.sign(jnp.linalg.det(u) * jnp.linalg.det(vt))
    signs = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign], axis=-1)
    rotation = jnp.einsum("...ik,...k,...kj->...ij", u, signs, vt)
    variance = jnp.einsum("...n,...ni->...", weights, source_centered**2)
    scale = jnp.sum(singular * signs, axis=-1) / jnp.maximum(variance, _EPS)
    translation = target_mean - scale[..., None] * jnp.einsum(
        "...ij,...j->...i", rotation, source_mean
    )
    return scale, rotation, translation


def robust_similarity(
    source: Float[Array, "n 3"], target: Float[Array, "n 3"], weights: Float[Array, "n"]
) -> tuple[Float[Array, ""], Float[Array, "3 3"], Float[Array, "3"]]:
    """A `similarity` with little regard to outliers.

    Least squares, reweighted by Geman and McClure's loss as wide as the usual residual. The
    identity where no weight is positive. Half precision is taken as float32.
    """
    source, target, weights = pytrees.full_precision((source, target, weights))
    # So written, NaN stays NaN.
    known = ~jnp.all(weights <= 0)
    # Any weights do where the result is not used; without any there is no median.
    weights = jnp.where(known, weights, 1.0)

    def step(reweighted: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        scale, rotation, translation = similarity(source, target, reweighted)
        residual = safe_norm(target - scale * source @ rotation.T - translation[None])
        width = _WIDTH_MEDIANS * lower_median(residual, weights > 0) + _LEAST_WIDTH
        return weights / (1 + (residual / width) ** 2) ** 2, (scale, rotation, translation)

    found = jax.lax.scan(step, weights, None, length=_ROUNDS)[1]
    scale, rotation, translation = (x[-1] for x in found)
    return (
        jnp.where(known, scale, 1.0),
        jnp.where(known, rotation, jnp.eye(3)),
        jnp.where(known, translation, 0.0),
    )


def lower_median(values: Float[Array, "*batch n"], valid: Bool[Array, "*batch n"]) -> Array:
    """Median over the valid entries, for even counts the lower middle value; NaN where none is.

    This is PyTorch's convention, which the published evaluation uses; NumPy averages the two.
    """
    ordered = jnp.sort(jnp.where(valid, values, jnp.inf), axis=-1)
    count = valid.sum(axis=-1)
    index = jnp.maximum(count - 1, 0) // 2
    median = jnp.take_along_axis(ordered, index[..., None], axis=-1)[..., 0]
    return jnp.where(count > 0, median, jnp.nan)


def median_shift_scale(
    points: Float[Array, "*batch n 3"], valid: Bool[Array, "*batch n"]
) -> tuple[Float[Array, "*batch 3"], Float[Array, "*batch"]]:
    """Per-axis median, and the median distance to it: a shift and a scale that ignore outliers."""
    by_axis = jnp.swapaxes(points, -1, -2)
    shift = lower_median(by_axis, jnp.broadcast_to(valid[..., None, :], by_axis.shape))
    scale = lower_median(safe_norm(points - shift[..., None, :]), valid)
    return shift, scale
