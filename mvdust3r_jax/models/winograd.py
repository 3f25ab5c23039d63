"""Wide 5x5 convolutions with a sixth of the multiplications (Winograd's F(4x4, 5x5)).

Direct 5x5 convolution spends 25 products per output and channel pair. Here the image is cut into
overlapping 8x8 tiles, tiles and kernels go to a domain in which convolution is a product of numbers
(64 matrix products over channels for 16 outputs: 4 a piece), and the results come back. With the
transforms it is a fifth at 256 channels. They are exact in exact arithmetic; in float32 a result is
off by about 2e-5 of the largest (direct: 1e-6), so this is for terms that enter with a small
factor.

Construction: Lavin and Gray, arXiv 1509.09308, by Toom-Cook at the points below. 8 = 2 * 4 makes
every tile two blocks of 4 a side, so that tiles are four shifted copies of one array of blocks.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

KERNEL = 5
BLOCK = 4  # outputs of a tile a side
TILE = BLOCK + KERNEL - 1
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
STRIP = 4  # rows of blocks worked on at once: what is in flight stays near the cache


@functools.cache
def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices of the one-dimensional algorithm, ``y = back @ ((kernel @ g) * (tile @ d))``.

    Returns:
      back ``[4, 8]``, kernel ``[8, 5]``, tile ``[8, 8]``; float64, rows of the tile transform
      scaled to unit sum of magnitudes (the kernel's the other way) for even rounding errors.
    """

    def evaluate(length: int) -> np.ndarray:
        at_points = np.vander(POINTS, length, increasing=True)
        return np.vstack([at_points, np.eye(length)[-1:]])

    tile = np.linalg.inv(evaluate(TILE)).T
    scale = np.abs(tile).sum(axis=1, keepdims=True)
    return evaluate(BLOCK).T, evaluate(KERNEL) * scale, tile / scale


def conv5x5(x: Float[Array, "B H W C"], kernel: Float[Array, "5 5 C D"]) -> Float[Array, "B H W D"]:
    """Convolution with zero padding of 2 (output of the input's size), image by image."""
    back, kernel_1d, tile = transforms()
    weights = jnp.einsum("xi,yj,ijcd->xycd", kernel_1d, kernel_1d, kernel.astype(jnp.float32))
    weights = weights.reshape(TILE**2, *kernel.shape[2:]).astype(x.dtype)
    halves = tile.reshape(TILE, 2, BLOCK)  # a tile's side: which of its two blocks, where inside
    to_domain = np.einsum("xai,ybj->xyabij", halves, halves).reshape(TILE**2, TILE**2)
    matrices = jnp.asarray(to_domain, x.dtype), jnp.asarray(np.kron(back, back), x.dtype)
    return jax.lax.map(lambda image: _one_image(image, weights, *matrices), x)


def macs(height: int, width: int, channels_in: int, channels_out: int) -> int:
    """Multiply-accumulates of `conv5x5` for one image, without the kernel's transform."""
    tiles = -(-height // (BLOCK * STRIP)) * STRIP * -(-width // BLOCK)
    to_domain, from_domain = TILE**4 * channels_in, BLOCK**2 * TILE**2 * channels_out
    return tiles * (to_domain + TILE**2 * channels_in * channels_out + from_domain)


def _one_image(x: Array, weights: Array, to_domain: Array, from_domain: Array) -> Array:
    height, width, channels = x.shape
    columns = -(-width // BLOCK)
    strips = -(-height // (BLOCK * STRIP))
    margin = KERNEL // 2
    rows_needed = (strips * STRIP + 1) * BLOCK
    columns_needed = (columns + 1) * BLOCK
    x = jnp.pad(
        x,
        (
            (margin, rows_needed - height - margin),
            (margin, columns_needed - width - margin),
            (0, 0),
        ),
    )

    def strip(index: Array) -> Array:
        rows = jax.lax.dynamic_slice_in_dim(x, index * STRIP * BLOCK, (STRIP + 1) * BLOCK)
        blocks = rows.reshape(STRIP + 1, BLOCK, columns + 1, BLOCK, channels)
        blocks = blocks.transpose(1, 3, 0, 2, 4).reshape(BLOCK**2, STRIP + 1, columns + 1, channels)
        tiles = jnp.stack(
            [blocks[:, i : i + STRIP, j : j + columns] for i in (0, 1) for j in (0, 1)]
        )
        tiles = (to_domain @ tiles.reshape(TILE**2, -1)).reshape(TILE**2, -1, channels)
        product = jnp.einsum("ptc,pcd->ptd", tiles, weights)
        y = from_domain @ product.reshape(TILE**2, -1)
        y = y.reshape(BLOCK, BLOCK, STRIP, columns, -1).transpose(2, 0, 3, 1, 4)
        return y.reshape(STRIP * BLOCK, columns * BLOCK, -1)

    y = jax.lax.map(strip, jnp.arange(strips))
    return y.reshape(-1, *y.shape[2:])[:height, :width]
