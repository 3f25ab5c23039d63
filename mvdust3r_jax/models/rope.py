"""Two-dimensional rotary position embedding (RoPE) of image patches.

A head's channels are split in two halves: the first turns with the patch's row, the second with its
column, both counted from 0. Within a half of width ``d`` channel ``i`` pairs with ``i + d/2`` and
turns by ``index * base ** (-2 i / d)``. Only differences of positions reach attention scores.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BASE = 100.0


def rope_table(rows: int, columns: int, head_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and signed sine of every patch and channel, for ``rotate``.

    Args:
      rows, columns: size of the patch grid; tokens run row by row.
      head_dim: channels of one head, a multiple of 4.

    Returns:
      cos, sin: float32 ``[N, head_dim]``. The sine carries the minus of the first quarter of each
      half, so that a rotation is ``x * cos + swap(x) * sin``.
    """
    if head_dim % 4:
        raise ValueError(f"2-D RoPE needs a head width that is a multiple of 4, got {head_dim}")
    half = head_dim // 2
    frequency = BASE ** (-np.arange(0, half, 2) / half)
    row, column = np.divmod(np.arange(rows * columns), columns)
    angle = np.stack([row, column], axis=1)[:, :, None] * frequency  # N, half, quarter channel
    cos = np.repeat(np.cos(angle)[:, :, None], 2, axis=2)
    sin = np.stack([-np.sin(angle), np.sin(angle)], axis=2)
    shape = (rows * columns, head_dim)
    return cos.reshape(shape).astype(np.float32), sin.reshape(shape).astype(np.float32)


def rotate(
    x: Float[Array, "*batch N heads d"], table: tuple[np.ndarray, np.ndarray]
) -> Float[Array, "*batch N heads d"]:
    """Turns queries or keys by their token's position; float32 inside, x's type outside."""
    cos, sin = (jnp.asarray(t).reshape(t.shape[0], 1, t.shape[1]) for t in table)
    lead = (1,) * (x.ndim - 3)
    cos, sin = cos.reshape(lead + cos.shape), sin.reshape(lead + sin.shape)
    quarters = x.reshape(*x.shape[:-1], 2, 2, x.shape[-1] // 4)
    swapped = jax.lax.rev(quarters, (quarters.ndim - 2,)).reshape(x.shape)
    return (x * cos + swapped * sin).astype(x.dtype)
