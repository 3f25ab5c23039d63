"""The DPT head (Ranftl et al. 2021): raw xyz and confidence from four depths of the network.

Token maps of four layers are brought to 4, 2, 1 and 1/2 times the patch grid's size, projected to
one width, and fused from the coarsest to the finest. Used by DUSt3R at 512; float32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models.sizes import DPT_CHANNELS, DPT_OUT_WIDTH, DPT_WIDTH


def _interpolation(size: int) -> np.ndarray:
    """Matrix [2 * size, size] of linear interpolation with corners aligned."""
    position = np.arange(2 * size) * (size - 1) / max(2 * size - 1, 1)
    low = np.minimum(position.astype(int), max(size - 2, 0))
    share = position - low
    matrix = np.zeros((2 * size, size))
    matrix[np.arange(2 * size), low] += 1 - share
    matrix[np.arange(2 * size), np.minimum(low + 1, size - 1)] += share
    return matrix.astype(np.float32)


def upsample(x: Float[Array, "B h w C"]) -> Float[Array, "B h2 w2 C"]:
    """Doubles height and width bilinearly, corners on corners (align_corners)."""
    rows, columns = (jnp.asarray(_interpolation(s)) for s in x.shape[1:3])
    x = jnp.einsum("Hh,bhwc->bHwc", rows, x)
    return jnp.einsum("Ww,bhwc->bhWc", columns, x)


def conv(width: int, size: int, name: str, **options) -> nn.Conv:
    """A float32 convolution that keeps the size at stride 1."""
    pad = size // 2
    return nn.Conv(width, (size, size), padding=((pad, pad), (pad, pad)), name=name, **options)


class Expand(nn.Module):
    """Transposed convolution whose stride is its size: every token becomes a square of pixels."""

    width: int
    size: int

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h2 w2 C"]:
        shape = (x.shape[-1], self.size, self.size, self.width)
        kernel = self.param("kernel", nn.initializers.lecun_normal(in_axis=0), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        x = jnp.einsum("bhwc,cijd->bhiwjd", x, kernel)
        b, h, i, w, j, d = x.shape
        return x.reshape(b, h * i, w * j, d) + bias.reshape(1, 1, 1, d)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, added to the input."""

    @nn.compact
    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        y = conv(DPT_WIDTH, 3, "conv1")(jax.nn.relu(x))
        return x + conv(DPT_WIDTH, 3, "conv2")(jax.nn.relu(y))


class Fusion(nn.Module):
    """Adds a finer map (if there is one) to the coarser one, and doubles the size."""

    @nn.compact
    def __call__(self, x: Array, finer: Array | None = None) -> Float[Array, "B h2 w2 C"]:
        if finer is not None:
            x = x + ResidualUnit(name="unit1")(finer)
        x = ResidualUnit(name="unit2")(x)
        # A 1x1 convolution and interpolation commute: the convolution first costs a quarter.
        return upsample(conv(DPT_WIDTH, 1, "out")(x))


class DptPointHead(nn.Module):
    """Raw xyz and confidence from encoder tokens and three layers of decoder tokens."""

    patch: int

    @nn.compact
    def __call__(
        self, tokens: list[Float[Array, "*batch N _"]], grid: tuple[int, int]
    ) -> Float[Array, "*batch H W 4"]:
        """``tokens``: encoder output, then the decoder layers of ``hooks``."""
        batch = tokens[0].shape[:-2]
        maps = [t.reshape(-1, *grid, t.shape[-1]) for t in tokens]
        maps = [
            conv(c, 1, f"map{i}")(m)
            for i, (c, m) in enumerate(zip(DPT_CHANNELS, maps, strict=True))
        ]
        maps[0] = Expand(DPT_CHANNELS[0], 4, name="resize0")(maps[0])
        maps[1] = Expand(DPT_CHANNELS[1], 2, name="resize1")(maps[1])
        maps[3] = conv(DPT_CHANNELS[3], 3, "resize3", strides=2)(maps[3])
        maps = [conv(DPT_WIDTH, 3, f"project{i}", use_bias=False)(m) for i, m in enumerate(maps)]
        x = Fusion(name="fusion3")(maps[3])[:, : grid[0], : grid[1]]  # an odd grid was rounded up
        for i in (2, 1, 0):
            x = Fusion(name=f"fusion{i}")(x, maps[i])
        x = upsample(conv(DPT_OUT_WIDTH, 3, "out0")(x))
        x = jax.nn.relu(conv(DPT_OUT_WIDTH, 3, "out1")(x))
        x = conv(4, 1, "out2")(x)
        return x.reshape(*batch, *x.shape[1:])
