"""Per-pixel heads: pointmap and confidence, the skip CNN that refines them, and Gaussians.

Heads end in float32. A patch token holds its pixels as (row, column, channel).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mvdust3r_jax.models import winograd
from mvdust3r_jax.models.linear import dense, dense_in_parts, token_product, xavier, zeros
from mvdust3r_jax.models.sizes import CELL, CONVOLUTIONS, MAP_BYTES
from mvdust3r_jax.types import Gaussians

# exp of anything larger overflows float32, and then gradients are 0 * inf.
MAX_EXPONENT = 88.0
# The smallest distance whose direction is used; keeps the square root's gradient finite.
MIN_DISTANCE = 1e-8
# The skip CNN's correction is scaled by this before it is added.
SKIP_SCALE = 1e-4
GAUSSIAN_NORM_EPS = 1e-5
SCALE_FACTOR = 0.1
BATCH_NORM_EPS = 1e-5
BATCH_NORM_MOMENTUM = 0.9  # the share of the old running statistics; PyTorch's momentum 0.1


def safe_exp(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Exp that stays finite, with a zero gradient above ``MAX_EXPONENT``."""
    return jnp.exp(jnp.minimum(x, MAX_EXPONENT))


def pixel_shuffle(
    x: Float[Array, "*batch N P"], grid: tuple[int, int], patch: int
) -> Float[Array, "*batch H W C"]:
    """Lays out each token's ``patch * patch * C`` numbers as pixels."""
    rows, columns = grid
    batch = x.shape[:-2]
    x = x.reshape(*batch, rows, columns, patch, patch, -1)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*batch, rows * patch, columns * patch, x.shape[-1])


def points_from_raw(xyz: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Keeps the direction and turns the distance d into exp(d) - 1 (DUSt3R's 'exp' depth mode).

    Coordinate by coordinate: XLA's gradient of a sum over a short last axis takes 25 times as long
    on CPUs, because it is fused with the exponential and computes that one for every coordinate.
    """
    x, y, z = (xyz[..., i] for i in range(3))
    distance = jnp.sqrt(jnp.maximum(x * x + y * y + z * z, MIN_DISTANCE**2))
    factor = jnp.expm1(jnp.minimum(distance, MAX_EXPONENT)) / distance
    return jnp.stack([x * factor, y * factor, z * factor], axis=-1)


def confidence_from_raw(raw: Float[Array, "*batch"], conf_max: float) -> Float[Array, "*batch"]:
    """1 + exp(raw), at most ``conf_max``."""
    return jnp.minimum(1 + safe_exp(raw), conf_max)


def few_views_at_once(
    head: nn.Module, views: Any, *static: Any, view_bytes: int
) -> Float[Array, "B R V H W C"]:
    """``head(*views, *static)`` a few views at a time, for inference.

    All at once, the wide maps between a head's convolutions would be most of the memory that a
    reconstruction from many views takes.

    Args:
      head: bound to its variables, which it only reads.
      views: arrays ``[B, R, V, ...]``.
      static: further arguments.
      view_bytes: what the head holds for one view.
    """
    variables, head = head.variables, head.clone(parent=None)
    batch = jax.tree.leaves(views)[0].shape[:3]
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), views)

    def mapped(views: Any, group: int | None) -> Array:
        def one(view: Any) -> Array:
            return head.apply(variables, *view, *static)

        return jax.lax.map(one, views, batch_size=group)

    group = min(max(1, MAP_BYTES // view_bytes), math.prod(batch))
    out = jax.lax.platform_dependent(
        flat, cpu=partial(mapped, group=None), default=partial(mapped, group=group)
    )
    return out.reshape(*batch, *out.shape[1:])


def _wide_conv(x: Array, kernel: Array, strides, padding, **options) -> Array:
    """What ``nn.Conv`` calls: Winograd's algorithm where matrix products are the cost (CPUs).

    GPU and TPU libraries choose their own algorithms.
    """

    def direct(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(x, kernel, strides, padding, **options)

    return jax.lax.platform_dependent(x, kernel, cpu=winograd.conv5x5, default=direct)


class SkipCnn(nn.Module):
    """Refines raw xyz by what the image shows: four convolutions with batch norm.

    The last convolution starts at zero. The wide convolutions of inference may use Winograd's
    algorithm, which the small output scale makes exact enough; those of training never do.
    """

    width: int
    dtype: str
    bn_axis_name: str | tuple[str, ...] | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "*batch H W 3"], xyz: Float[Array, "*batch H W 3"], train: bool
    ) -> Float[Array, "*batch H W 3"]:
        x = jnp.concatenate([images, xyz], axis=-1)
        x = x.reshape(-1, *x.shape[-3:])
        wide = None if train else _wide_conv
        x = jax.nn.selu(self._conv_norm(x, 0, (self.width, 3), train))
        x = jax.nn.selu(self._conv_norm(x, 1, (self.width, 5), train, conv_general_dilated=wide))
        x = jax.nn.selu(self._conv_norm(x, 2, (self.width, 5), train, conv_general_dilated=wide))
        x = self._conv_norm(x, 3, (3, 3), train, kernel_init=zeros)
        return xyz + SKIP_SCALE * x.reshape(xyz.shape).astype(jnp.float32)

    def _conv_norm(self, x: Array, index: int, sizes: tuple[int, int], train: bool, **options):
        width, size = sizes
        options = {"kernel_init": xavier} | options
        x = nn.Conv(width, (size, size), dtype=self.dtype, name=f"conv{index}", **options)(x)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=BATCH_NORM_MOMENTUM,
            epsilon=BATCH_NORM_EPS,
            axis_name=self.bn_axis_name,
            use_fast_variance=False,
            dtype=self.dtype,
            name=f"norm{index}",
        )(x)


class LinearPointHead(nn.Module):
    """Raw xyz and confidence by one linear layer a token."""

    patch: int

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "*batch N D"], grid: tuple[int, int]
    ) -> Float[Array, "*batch H W 4"]:
        # Distances are exp of these numbers, and this is a thousandth of the operations of `mvdp`.
        with jax.default_matmul_precision("float32"):
            raw = dense(4 * self.patch**2, "float32", "proj")(tokens)
        return pixel_shuffle(raw, grid, self.patch)


def space_to_depth(x: Float[Array, "*batch H W C"], cell: int) -> Float[Array, "*batch h w P"]:
    """Cells of ``cell * cell`` pixels as channels: row, column, channel."""
    *batch, height, width, channels = x.shape
    x = x.reshape(*batch, height // cell, cell, width // cell, cell, channels)
    x = jnp.swapaxes(x, -4, -3)
    return x.reshape(*batch, height // cell, width // cell, cell * cell * channels)


def _conv_by_products(x: Array, kernel: Array, *_: Any, **__: Any) -> Array:
    """A 3x3 convolution that keeps the size, for ``nn.Conv``: nine matrix products, added up.

    XLA on CPUs takes three times as long for the gradients of its own convolution.
    """
    height, width, channels = x.shape[1:]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [
        token_product(padded[:, i : i + height, j : j + width].reshape(-1, channels), kernel[i, j])
        for i in range(3)
        for j in range(3)
    ]
    return sum(parts[1:], parts[0]).reshape(*x.shape[:3], kernel.shape[-1])


class ConvPointHead(nn.Module):
    """The linear head, plus a correction that looks across patches and at the image.

    Maps are a quarter as high and wide as the image; a cell of 4 x 4 pixels holds them as channels,
    so all convolutions have few positions and many channels. The correction starts at zero.

    Every ReLU follows a norm without bias: its channels have mean zero, so some are always above
    it. Without, all of them fell below zero early in training, and the correction stayed dead.
    """

    patch: int
    width: int

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "*batch N D"],
        images: Float[Array, "*batch H W 3"],
        grid: tuple[int, int],
    ) -> Float[Array, "*batch H W 4"]:
        linear = LinearPointHead(self.patch, name="linear")(tokens, grid)
        cells = self.patch // CELL
        coarse = dense(cells**2 * self.width, "float32", "coarse")(tokens)
        x = pixel_shuffle(coarse, grid, cells)
        x = x + dense(self.width, "float32", "pixels")(space_to_depth(images, CELL))
        lead = x.shape[:-3]
        x = x.reshape(-1, *x.shape[-3:])

        def positive_part(x: Array, norm: str) -> Array:
            return jax.nn.relu(nn.LayerNorm(use_bias=False, use_fast_variance=False, name=norm)(x))

        for index in range(CONVOLUTIONS):
            conv = nn.Conv(
                self.width,
                (3, 3),
                kernel_init=xavier,
                conv_general_dilated=_conv_by_products,
                name=f"conv{index}",
            )
            x = x + conv(positive_part(x, f"norm{index}"))
        x = dense(CELL**2 * 4, "float32", "out", zeros)(positive_part(x, "norm_out"))
        x = x.reshape(*lead, -1, x.shape[-1])
        return linear + pixel_shuffle(x, tuple(cells * side for side in grid), CELL)


class GaussianHead(nn.Module):
    """Color, opacity, scale and rotation of one Gaussian per pixel."""

    patch: int
    sh_degree: int
    hidden: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "*batch N D"], grid: tuple[int, int]) -> Gaussians:
        x = nn.LayerNorm(GAUSSIAN_NORM_EPS, use_fast_variance=False, name="norm")(tokens)

        def mlp(name: str, channels: int) -> Array:
            fc1 = nn.Dense(self.hidden, use_bias=False, kernel_init=xavier, name=f"{name}_fc1")
            # Normalizing a short quaternion magnifies rounding errors: short sums keep them small.
            fc2 = dense_in_parts(
                channels * self.patch**2, "float32", f"{name}_fc2", parts=4, use_bias=False
            )
            return pixel_shuffle(fc2(jax.nn.relu(fc1(x))), grid, self.patch)

        rotation = mlp("rotation", 4)
        square = jnp.sum(rotation**2, axis=-1, keepdims=True)
        norm = jnp.sqrt(jnp.maximum(square, GAUSSIAN_NORM_EPS**2))
        return Gaussians(
            colors=mlp("color", 3 * (self.sh_degree + 1) ** 2),
            opacities=jax.nn.sigmoid(mlp("opacity", 1))[..., 0],
            scales=SCALE_FACTOR * mlp("scale", 3),
            rotations=rotation / norm,
        )
