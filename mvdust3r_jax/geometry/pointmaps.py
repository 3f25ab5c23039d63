"""Pointmaps ``[..., V, H, W, 3]``: one 3-D point per pixel, and their normalizations.

Masks are ``[..., V, H, W]`` booleans, true where a pixel counts. Values under a false mask never
reach a result, not even as NaN, and receive gradient exactly 0.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax.geometry.transforms import safe_norm

# Added to the number of valid points, and the smallest factor: an empty sample divides by 1e-8.
NORM_EPS = 1e-8


def masked(points: Float[Array, "*grid 3"], valid: Bool[Array, "*grid"]) -> Float[Array, "*grid 3"]:
    """Points with the origin written wherever the mask is false."""
    return jnp.where(valid[..., None], points, 0.0)


def mean_distance(
    points: Float[Array, "*batch V H W 3"], valid: Bool[Array, "*batch V H W"]
) -> Float[Array, "*batch"]:
    """Mean distance to the origin over all views together ("avg_dis"), at least 1e-8."""
    distance = safe_norm(masked(points, valid))
    axes = (-3, -2, -1)
    total = jnp.sum(distance, axis=axes)
    count = jnp.sum(valid, axis=axes, dtype=distance.dtype)
    return jnp.maximum(total / (count + NORM_EPS), NORM_EPS)


def take_view(
    values: Float[Array, "B V *rest"], view: Int[Array, " B"]
) -> Float[Array, " B *rest"]:
    """``values[b, view[b]]``: one view of each sample."""
    return jax.vmap(lambda sample, index: sample[index])(values, view)
