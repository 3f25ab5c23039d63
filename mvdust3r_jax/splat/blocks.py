"""Images as blocks of pixels, and blocks in groups of similar work.

A block's pixels and the blocks themselves are the two last axes, ``[P, lanes]`` with
``P = BLOCK^2``: operations on them are contiguous vector operations over blocks.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mvdust3r_jax.splat.project import View
from mvdust3r_jax.splat.tiles import BLOCK, Lists, grid_shape

PIXELS = BLOCK * BLOCK


class Plan(NamedTuple):
    """Blocks by falling length of their lists, ``lanes`` at a time.

    begin: first slot of the list. length: of the list. block: which block, or the number of blocks
    where the last group is filled up.
    """

    begin: Int[Array, "groups lanes"]
    length: Int[Array, "groups lanes"]
    block: Int[Array, "groups lanes"]


def plan_groups(lists: Lists, lanes: int) -> Plan:
    """Sorting by length leaves the blocks of a group with nearly equal work."""
    begin, length = lists.starts[:-1], jnp.diff(lists.starts)
    blocks = begin.shape[0]
    order = jnp.argsort(-length).astype(jnp.int32)
    order = jnp.concatenate([order, jnp.full(-blocks % lanes, blocks, jnp.int32)])
    order = order.reshape(-1, lanes)
    return Plan(
        begin.at[order].get(mode="fill", fill_value=0),
        length.at[order].get(mode="fill", fill_value=0),
        order,
    )


def to_blocks(image: Array, view: View) -> Array:
    """[H, W, c] to [c, P, blocks], zeros beyond the image."""
    rows, columns = grid_shape(view)
    height, width, channels = image.shape
    image = jnp.pad(image, ((0, rows * BLOCK - height), (0, columns * BLOCK - width), (0, 0)))
    image = image.reshape(rows, BLOCK, columns, BLOCK, channels)
    return image.transpose(4, 1, 3, 0, 2).reshape(channels, PIXELS, rows * columns)


def from_groups(values: Array, plan: Plan, view: View) -> Array:
    """[groups, c, P, lanes] to [H, W, c]."""
    rows, columns = grid_shape(view)
    channels = values.shape[1]
    places = jnp.arange(plan.block.size, dtype=jnp.int32)
    place = jnp.zeros(rows * columns, jnp.int32).at[plan.block.reshape(-1)].set(places, mode="drop")
    values = values.transpose(1, 2, 0, 3).reshape(channels, PIXELS, -1)[:, :, place]
    values = values.reshape(channels, BLOCK, BLOCK, rows, columns).transpose(3, 1, 4, 2, 0)
    return values.reshape(rows * BLOCK, columns * BLOCK, channels)[: view.height, : view.width]


def pixel_centers(
    block: Int[Array, " lanes"], view: View
) -> tuple[Float[Array, "P lanes"], Float[Array, "P lanes"]]:
    """Centers (x, y) of the blocks' pixels; the image's first is (0.5, 0.5)."""
    columns = grid_shape(view)[1]
    pixel = jnp.arange(PIXELS, dtype=jnp.int32)[:, None]
    x = (block % columns * BLOCK)[None] + pixel % BLOCK
    y = (block // columns * BLOCK)[None] + pixel // BLOCK
    return x.astype(jnp.float32) + 0.5, y.astype(jnp.float32) + 0.5


def pixel_moments() -> Float[Array, "6 P"]:
    """1, u, v, uu, uv, vv of every pixel, with (u, v) measured from the block's center."""
    pixel = jnp.arange(PIXELS)
    u = (pixel % BLOCK).astype(jnp.float32) - (BLOCK - 1) / 2
    v = (pixel // BLOCK).astype(jnp.float32) - (BLOCK - 1) / 2
    return jnp.stack([jnp.ones_like(u), u, v, u * u, u * v, v * v])
