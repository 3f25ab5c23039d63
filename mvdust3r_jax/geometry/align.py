"""Alignments between two point sets: similarity by least squares, robust or not, and by medians.

Points are ``[..., n, 3]``; masks or weights ``[..., n]``. A similarity is returned as
``(scale, rotation, translation)`` with ``target = scale * rotation @ source + translation``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mvdust3r_jax import pytrees
from mvdust3r_jax.geometry.pointmaps import masked
from mvdust3r_jax.geometry.transforms import nearest_rotation, safe_norm
from mvdust3r_jax.products import exact_products

# Points that differ from their mean by at most so many times what rounding does to the largest
# coordinate are one point.
_ROUNDINGS = 4
# Of the robust similarity: rounds, and width of the loss in median residuals.
_ROUNDS, _WIDTH_MEDIANS = 10, 2.0


def _divisor(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The number itself, and 1 in place of 0."""
    return jnp.where(x == 0, 1.0, x)


def _shares(weights: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """Weights with sum 1, also where their own sum is too small or too large for a float."""
    # The result does not depend on what it is divided by first, so neither does its gradient.
    largest = jax.lax.stop_gradient(weights.max(axis=-1, keepdims=True, initial=0.0))
    weights = weights / _divisor(largest)
    return weights / _divisor(weights.sum(axis=-1, keepdims=True))


def _centered(
    points: Float[Array, "*batch n 3"], shares: Float[Array, "*batch n"]
) -> tuple[Float[Array, "*batch n 3"], Float[Array, "*batch 3"], Float[Array, "*batch"]]:
    """Points about their mean in units of the largest deviation; mean; unit, 0 if they coincide."""
    counting = shares != 0
    points = masked(points, counting)
    # A mean of points far from the origin is not exact, and neither is one of equal points.
    largest = jnp.abs(points).max(axis=(-2, -1), initial=0.0)
    mean = jnp.einsum("...n,...ni->...i", shares, points)
    centered = points - mean[..., None, :]
    unit = jnp.abs(masked(centered, counting)).max(axis=(-2, -1), initial=0.0)
    unit = jnp.where(unit <= _ROUNDINGS * jnp.finfo(unit.dtype).eps * largest, 0.0, unit)
    # Alignments do not depend on it.
    unit = jax.lax.stop_gradient(unit)
    apart = (unit > 0)[..., None, None]
    return jnp.where(apart, centered / _divisor(unit)[..., None, None], 0.0), mean, unit


@exact_products
def similarity(
    source: Float[Array, "*batch n 3"],
    target: Float[Array, "*batch n 3"],
    weights: Float[Array, "*batch n"],
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch 3 3"], Float[Array, "*batch 3"]]:
    """Weighted least-squares similarity (Umeyama 1991, eq. 40-42); reflections are excluded.

    Units and sizes of weights are free. The scale is 0 where the source's points coincide or
    nothing has weight. Points without weight do not count, not even NaN. Gradients are finite in
    all of these cases, and where singular values are equal. Half precision is taken as float32.
    """
    source, target, weights = pytrees.full_precision((source, target, weights))
    shares = _shares(weights)
    source, source_mean, source_unit = _centered(source, shares)
    target, target_mean, target_unit = _centered(target, shares)
    covariance = jnp.einsum("...n,...ni,...nj->...ij", shares, target, source)
    rotation = nearest_rotation(covariance)
    variance = jnp.einsum("...n,...ni->...", shares, source**2)
    scale = jnp.sum(rotation * covariance, axis=(-2, -1)) / _divisor(variance)
    scale = scale * target_unit / _divisor(source_unit)
    translation = target_mean - scale[..., None] * jnp.einsum(
        "...ij,...j->...i", rotation, source_mean
    )
    return scale, rotation, translation


@exact_products
def robust_similarity(
    source: Float[Array, "n 3"], target: Float[Array, "n 3"], weights: Float[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, "3 3"], Float[Array, "3"]]:
    """A `similarity` with little regard to outliers.

    Least squares, reweighted by Geman and McClure's loss as wide as the usual residual. The
    identity where no weight is positive. Half precision is taken as float32.
    """
    source, target, weights = pytrees.full_precision((source, target, weights))
    # So written, NaN stays NaN.
    known = ~jnp.all(weights <= 0)
    # Any weights do where the result is not used; without any there is no median.
    weights = _shares(jnp.where(known, weights, 1.0))
    counting = weights > 0
    source, target = masked(source, counting), masked(target, counting)
    # What rounding does to the points is no residual.
    least = jnp.finfo(target.dtype).eps * lower_median(safe_norm(target), counting)

    def step(reweighted: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        scale, rotation, translation = similarity(source, target, reweighted)
        residual = safe_norm(target - scale * source @ rotation.T - translation[None])
        width = _divisor(_WIDTH_MEDIANS * lower_median(residual, counting) + least)
        return weights / (1 + (residual / width) ** 2) ** 2, (scale, rotation, translation)

    found = jax.lax.scan(step, weights, None, length=_ROUNDS)[1]
    scale, rotation, translation = (x[-1] for x in found)
    return (
        jnp.where(known, scale, 1.0),
        jnp.where(known, rotation, jnp.eye(3, dtype=rotation.dtype)),
        jnp.where(known, translation, 0.0),
    )


def lower_median(
    values: Float[Array, "*batch n"], valid: Bool[Array, "*batch n"]
) -> Float[Array, "*batch"]:
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
    points = masked(points, valid)
    by_axis = jnp.swapaxes(points, -1, -2)
    shift = lower_median(by_axis, jnp.broadcast_to(valid[..., None, :], by_axis.shape))
    # Distances from NaN, where nothing is valid, would have a gradient of NaN.
    center = jnp.where(valid.any(axis=-1)[..., None], shift, 0.0)
    return shift, lower_median(safe_norm(points - center[..., None, :]), valid)
