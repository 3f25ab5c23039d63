"""Vectors as triples of arrays, one array per component.

Per-pixel work is laid out component-first: compilers vectorize ``x * y`` over pixels well, and a
last axis of three badly. Rows of small tables are fetched field by field for the same reason.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Added below square roots and divisors of directions.
TINY = 1e-12
Triple = tuple[Array, Array, Array]


def split(x: Float[Array, "*grid 3"]) -> Triple:
    """Components of the last axis."""
    return x[..., 0], x[..., 1], x[..., 2]


def dot(a: Triple, b: Triple) -> Array:
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def along(origin: Triple, direction: Triple, t: Array | float) -> Triple:
    """Points ``origin + t * direction``."""
    return tuple(o + t * d for o, d in zip(origin, direction, strict=True))


def minus(a: Triple, b: Triple) -> Triple:
    """Difference."""
    return tuple(x - y for x, y in zip(a, b, strict=True))


def scaled(a: Triple, factor: Array | float) -> Triple:
    """Product with a number per pixel."""
    return tuple(x * factor for x in a)


def unit(a: Triple) -> Triple:
    """Direction of a vector; the zero vector stays (nearly) zero."""
    return scaled(a, 1.0 / jnp.sqrt(dot(a, a) + TINY))


def where(mask: Array, a: Triple, b: Triple) -> Triple:
    """Choice per pixel."""
    return tuple(jnp.where(mask, x, y) for x, y in zip(a, b, strict=True))


def fetch(table: Array, index: Int[Array, "*grid"]) -> Array:
    """``table[index]`` for a vector table and indices known to lie inside it."""
    return table.at[index].get(mode="promise_in_bounds")


def fetch_columns(table: Float[Array, "rows M"], index: Int[Array, "*grid"]) -> list[Array]:
    """The M fields of rows ``index``, each ``[*grid]``."""
    return [fetch(table[:, column], index) for column in range(table.shape[1])]
