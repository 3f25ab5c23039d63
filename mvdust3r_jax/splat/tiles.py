"""Which splats each block of pixels sees, front to back: lists of a static capacity.

gsplat cuts a splat at the borders of 16x16 tiles (``TILE``). That cut is part of the result and is
kept exactly, but the lists here belong to smaller blocks (``BLOCK`` pixels a side, which divides
``TILE``), and a splat enters only the blocks that its alpha >= 1/255 can reach: a splat that
covers a few pixels is not evaluated at 256.

Route: sort the Gaussians by depth; count the blocks of each; expand to (block, Gaussian) pairs
through a prefix sum; sort the pairs by block. The last two run at the smallest of a few static
sizes that holds the pairs present, so their cost follows the scene and not the capacity.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mvdust3r_jax.splat.project import Footprint, View

TILE = 16
BLOCK = 4
# Smallest alpha that is drawn.
MIN_ALPHA = 1.0 / 255.0
# Added to a splat's computed reach, relative and in pixels, so that rounding hides no pixel.
_REACH_SLACK = (1e-3, 1e-2)
# Running totals of pairs stop here; two of them still fit int32.
_SATURATED = 1 << 30
# The pair arrays are sorted at capacity / 2^k for k below this.
_SIZES = 4
_SMALLEST_SIZE = 1 << 14


class Lists(NamedTuple):
    """The splats of every block in drawing order, block after block.

    splats: Gaussian indices. starts: where the list of a block begins (row-major blocks), and the
    end of the last. total: pairs that the scene has; min(total, capacity) are listed.
    """

    splats: Int[Array, "capacity"]
    starts: Int[Array, "blocks_1"]
    total: Int[Array, ""]


def grid_shape(view: View) -> tuple[int, int]:
    """Rows and columns of blocks."""
    return -(-view.height // BLOCK), -(-view.width // BLOCK)


def _span(
    mean: Float[Array, "G"], radius: Float[Array, "G"], reach: Float[Array, "G"], size: int
) -> tuple[Int[Array, "G"], Int[Array, "G"]]:
    """First block and number of blocks along one axis: tile cut, reach and image intersected."""
    tiles = -(-size // TILE)
    first_tile = jnp.clip(jnp.floor(mean / TILE - radius / TILE), 0, tiles)
    end_tile = jnp.clip(jnp.ceil(mean / TILE + radius / TILE), 0, tiles)
    first = jnp.maximum(jnp.ceil(mean - reach - 0.5), first_tile * TILE)
    end = jnp.minimum(jnp.floor(mean + reach - 0.5) + 1, jnp.minimum(end_tile * TILE, size))
    first_block = jnp.floor(first / BLOCK)
    count = jnp.where(end > first, jnp.ceil(end / BLOCK) - first_block, 0)
    return first_block.astype(jnp.int32), count.astype(jnp.int32)


def block_spans(
    means: Float[Array, "2 G"], opacities: Float[Array, "G"], shape: Footprint, view: View
) -> tuple[Int[Array, "4 G"], Int[Array, "G"]]:
    """(first column, columns, first row, rows) of blocks that each splat may colour, and how many.

    alpha >= 1/255 holds within ``sqrt(2 log(255 opacity))`` standard deviations of the mean.
    """
    log_range = jnp.log(jnp.maximum(opacities / MIN_ALPHA, 1e-6))
    drawn = (shape.radii > 0) & (log_range >= -_REACH_SLACK[0])
    deviations = jnp.sqrt(2 * jnp.maximum(log_range, 0.0))
    relative, absolute = _REACH_SLACK
    reach = deviations[None] * shape.deviations * (1 + relative) + absolute
    # Culled splats may lie anywhere: a harmless place keeps the conversion to integers defined.
    means = jnp.where(drawn[None], means, 0.0)
    radius = shape.radii.astype(means.dtype)
    first_x, count_x = _span(means[0], radius, reach[0], view.width)
    first_y, count_y = _span(means[1], radius, reach[1], view.height)
    count = jnp.where(drawn, count_x * count_y, 0)
    return jnp.stack([first_x, count_x, first_y, count_y]), count


def _saturating_sum(counts: Int[Array, "n"]) -> Int[Array, "n"]:
    """Inclusive running sum that stays at 2^30 instead of wrapping around."""
    return lax.associative_scan(
        lambda a, b: jnp.minimum(a + b, _SATURATED), jnp.minimum(counts, _SATURATED)
    )


def _sort_pairs_packed(major: Int[Array, "n"], minor: Int[Array, "n"]) -> tuple[Array, Array]:
    """Sorted (major, minor), both non-negative, as one 64-bit key: 4x faster on CPU than a pair."""
    with jax.enable_x64(True):
        high = lax.convert_element_type(major, jnp.uint64)
        low = lax.convert_element_type(minor, jnp.uint64)
        shift = lax.full_like(high, 32)
        keys = lax.sort(lax.shift_left(high, shift) | low, is_stable=False)
        major = lax.convert_element_type(lax.shift_right_logical(keys, shift), jnp.int32)
        minor = lax.convert_element_type(keys, jnp.uint32)
    return major, minor.astype(jnp.int32)


def _sort_pairs_native(major: Int[Array, "n"], minor: Int[Array, "n"]) -> tuple[Array, Array]:
    return tuple(lax.sort((major, minor), num_keys=2, is_stable=False))


def sort_pairs(major: Int[Array, "n"], minor: Int[Array, "n"]) -> tuple[Array, Array]:
    """Pairs of non-negative int32 in lexicographic order."""
    return lax.platform_dependent(major, minor, cpu=_sort_pairs_packed, default=_sort_pairs_native)


def depth_order(depths: Float[Array, "G"]) -> Int[Array, "G"]:
    """Gaussians front to back, ties by index; culled ones (infinite depth) last.

    The bits of non-negative floats order as integers. -0.0 cannot occur beyond a near plane of 0,
    and adding 0.0 makes it +0.0.
    """
    bits = lax.bitcast_convert_type(jnp.maximum(depths, 0.0) + 0.0, jnp.int32)
    return sort_pairs(bits, jnp.arange(depths.shape[0], dtype=jnp.int32))[1]


def _expand(
    size: int,
    capacity: int,
    blocks: int,
    columns: int,
    order: Int[Array, "G"],
    spans: Int[Array, "4 G"],
    ends: Int[Array, "G"],
) -> tuple[Int[Array, "capacity"], Int[Array, "blocks"]]:
    """The first ``size`` pairs sorted by block, and how many each block has."""
    begins = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
    ranks = jnp.arange(ends.shape[0], dtype=jnp.int32)
    # Empty splats begin where a later one does; the largest rank is the one that owns the slot.
    marks = jnp.zeros(size, jnp.int32).at[begins].max(ranks, mode="drop")
    owner = lax.cummax(marks)
    slot = jnp.arange(size, dtype=jnp.int32)
    first_x, count_x, first_y, _ = jnp.moveaxis(spans, 0, 0)[:, owner]
    within = slot - begins[owner]
    row = within // jnp.maximum(count_x, 1)
    block = (first_y + row) * columns + first_x + within - row * count_x
    block = jnp.where(slot < ends[-1], block, blocks)
    block, owner = sort_pairs(block, owner)
    counts = jnp.zeros(blocks, jnp.int32).at[block].add(1, mode="drop")
    splats = jnp.concatenate([order[owner], jnp.zeros(capacity - size, jnp.int32)])
    return splats, counts


def build_lists(
    means: Float[Array, "2 G"],
    opacities: Float[Array, "G"],
    shape: Footprint,
    view: View,
    capacity: int,
) -> Lists:
    """Depth-ordered splats of every block. Beyond the capacity the farthest splats are left out."""
    rows, columns = grid_shape(view)
    blocks = rows * columns
    spans, counts = block_spans(means, opacities, shape, view)
    order = depth_order(jnp.where(counts > 0, shape.depths, jnp.inf))
    ends = _saturating_sum(counts[order])
    total = ends[-1]
    sizes = [capacity >> k for k in range(_SIZES) if k == 0 or capacity >> k >= _SMALLEST_SIZE]
    branches = [partial(_expand, size, capacity, blocks, columns) for size in sizes]
    smallest = sum(total <= size for size in sizes[1:])
    splats, block_counts = lax.switch(smallest, branches, order, spans[:, order], ends)
    starts = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(block_counts)])
    return Lists(splats, starts, total)
