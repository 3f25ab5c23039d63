"""Multiply-accumulates of the pointmap heads, of one view: what they need, nothing more.

Products with padding zeros of convolutions are not counted.
"""

from __future__ import annotations

from typing import NamedTuple

from mvdust3r_jax.models import sizes


class Shape(NamedTuple):
    """What a head's cost depends on; tokens a view, size in pixels (height, width)."""

    tokens: int
    size: tuple[int, int]
    patch: int
    enc_dim: int
    dec_dim: int
    conv_width: int


def linear_head(shape: Shape) -> int:
    """One product a token."""
    return shape.tokens * shape.dec_dim * 4 * shape.patch**2


def conv_head(shape: Shape) -> int:
    """The linear head and its correction."""
    wide, area, n, size = shape.conv_width, sizes.CELL**2, shape.tokens, shape.size
    rows, columns = (side // sizes.CELL for side in size)
    convolutions = sizes.CONVOLUTIONS * conv(rows, columns, 3, wide, wide)
    coarse = n * shape.dec_dim * shape.patch**2 // area * wide
    return linear_head(shape) + coarse + rows * columns * (3 + 4) * area * wide + convolutions


def conv(height: int, width: int, kernel: int, channels_in: int, channels_out: int) -> int:
    """A convolution that keeps the size."""

    def taps(size: int) -> int:
        reach = kernel // 2
        return sum(max(size - abs(offset), 0) for offset in range(-reach, reach + 1))

    return taps(height) * taps(width) * channels_in * channels_out


def _upsample(height: int, width: int, channels: int) -> int:
    """Doubling by two matrix products: rows, then columns."""
    return channels * (2 * height * height * width + 2 * height * 2 * width * width)


def dpt_head(shape: Shape) -> int:
    """Four maps, their fusion, and the output."""
    rows, columns = (side // shape.patch for side in shape.size)
    channels, wide, out = sizes.DPT_CHANNELS, sizes.DPT_WIDTH, sizes.DPT_OUT_WIDTH
    half = (rows + 1) // 2, (columns + 1) // 2
    maps = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), half]
    dims = [shape.enc_dim] + [shape.dec_dim] * 3
    total = sum(rows * columns * d * c for d, c in zip(dims, channels, strict=True))
    total += rows * columns * (16 * channels[0] ** 2 + 4 * channels[1] ** 2)
    total += _strided_conv(rows, columns, channels[3])
    for i, (h, w) in enumerate(maps):
        units = 2 if i == 3 else 4  # 3x3 convolutions in residual units
        total += conv(h, w, 3, channels[i], wide) + units * conv(h, w, 3, wide, wide)
        total += h * w * wide**2 + _upsample(h, w, wide)
    h, w = 8 * rows, 8 * columns
    total += conv(h, w, 3, wide, out) + _upsample(h, w, out)
    return total + conv(2 * h, 2 * w, 3, out, out) + 4 * h * w * out * 4


def _strided_conv(rows: int, columns: int, channels: int) -> int:
    """3x3, stride 2, padding 1."""

    def taps(size: int) -> int:
        return sum(0 <= 2 * o + k - 1 < size for o in range((size + 1) // 2) for k in range(3))

    return taps(rows) * taps(columns) * channels**2
