"""Which splats each block of pixels sees, front to back: lists of a static capacity.

gsplat cuts a splat at the borders of 16x16 tiles (``TILE``). That cut is part of the result and is
kept exactly, but the lists here belong to smaller blocks (``BLOCK`` pixels a side, which divides
``TILE``), and a splat enters only the blocks that its alpha >= 1/255 can reach: a splat that
covers a few pixels is not evaluated at 256.

Route: sort the Gaussians by depth; count the blocks of each; a prefix sum of the counts gives every
(block, Gaussian) pair a slot, in depth order; bring the slots into the order of the blocks without
disturbing the depths. The last part is a counting sort over chunks of slots: each chunk is sorted
alone, as one 32-bit key (block, place in the chunk), and then moved to where the counts of all
chunks say. The loops run over the chunks present, so the cost follows the scene, not the capacity.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mvdust3r_jax.splat.materialize import materialize
from mvdust3r_jax.splat.project import Footprint, Splats, View

TILE = 16
BLOCK = 4
# Smallest alpha that is drawn.
MIN_ALPHA = 1.0 / 255.0
# Added to a splat's computed reach, relative and in pixels, so that rounding hides no pixel.
_REACH_SLACK = (1e-3, 1e-2)
# Running totals of pairs stop here; two of them still fit int32.
SATURATED = (1 << 30) - 1
# Entries summed at once where additions are cheap and a program of many sizes is not.
_SUM_ROW = 512
# Slots sorted at once: few enough to stay in a core's cache, and their number fits the key.
_LARGEST_CHUNK = 1 << 16
_KEY_BITS = 32


class Lists(NamedTuple):
    """The splats of every block in drawing order, block after block.

    splats: Gaussian indices. starts: where the list of a block begins (row-major blocks), and the
    end of the last. total: pairs that the scene has; those beyond the capacity are not listed.
    """

    splats: Int[Array, " capacity"]
    starts: Int[Array, " blocks_1"]
    total: Int[Array, ""]


def grid_shape(view: View) -> tuple[int, int]:
    """Rows and columns of blocks."""
    return -(-view.height // BLOCK), -(-view.width // BLOCK)


def chunk_size(view: View, capacity: int) -> int:
    """Slots per chunk, a power of two: what the key leaves beside the block, or the capacity."""
    rows, columns = grid_shape(view)
    room = _KEY_BITS - (rows * columns).bit_length()
    return min(_LARGEST_CHUNK, 1 << room, 1 << (capacity - 1).bit_length())


def listed_capacity(view: View, capacity: int) -> int:
    """The capacity rounded up to whole chunks: what the lists really hold."""
    size = chunk_size(view, capacity)
    return -(-capacity // size) * size


def _span(
    mean: Float[Array, " G"], radius: Float[Array, " G"], reach: Float[Array, " G"], size: int
) -> tuple[Float[Array, " G"], Float[Array, " G"]]:
    """First block and number of blocks along one axis: tile cut, reach and image intersected."""
    tiles = -(-size // TILE)
    first_tile = jnp.clip(jnp.floor(mean / TILE - radius / TILE), 0, tiles)
    end_tile = jnp.clip(jnp.ceil(mean / TILE + radius / TILE), 0, tiles)
    first = jnp.maximum(jnp.ceil(mean - reach - 0.5), first_tile * TILE)
    end = jnp.minimum(jnp.floor(mean + reach - 0.5) + 1, jnp.minimum(end_tile * TILE, size))
    first_block = jnp.floor(first / BLOCK)
    count = jnp.where(end > first, jnp.ceil(end / BLOCK) - first_block, 0)
    return first_block, count


def block_spans(
    splats: Splats, shape: Footprint, view: View
) -> tuple[tuple[Array, Array, Array], Int[Array, " G"]]:
    """(first column, columns, first row) of the blocks each splat may color, and their number.

    alpha >= 1/255 holds within ``sqrt(2 log(255 opacity))`` standard deviations of the mean.
    """
    log_range = jnp.log(jnp.maximum(splats.opacities / MIN_ALPHA, 1e-6))
    drawn = (shape.radii > 0) & (log_range >= -_REACH_SLACK[0])
    deviations = jnp.sqrt(2 * jnp.maximum(log_range, 0.0))
    relative, absolute = _REACH_SLACK
    reach_x, reach_y = (
        deviations * deviation * (1 + relative) + absolute for deviation in shape.deviations
    )
    # Culled splats may lie anywhere: a harmless place keeps the conversion to integers defined.
    mean_x, mean_y = (jnp.where(drawn, mean, 0.0) for mean in splats.means)
    radius = shape.radii.astype(mean_x.dtype)
    places = (
        *_span(mean_x, radius, reach_x, view.width),
        *_span(mean_y, radius, reach_y, view.height),
    )
    places = [jnp.where(drawn, place, 0.0).astype(jnp.int32) for place in places]
    first_x, count_x, first_y, count_y = materialize(places, shape.radii[0] >= 0)
    return (first_x, count_x, first_y), count_x * count_y


def _saturating_add(a: Array, b: Array) -> Array:
    return jnp.minimum(a + b, SATURATED)


def _shifted_sums(x: Int[Array, "*rows n"]) -> Int[Array, "*rows n"]:
    """Running sums along the last axis by adding shifted copies, each twice as far."""
    step = 1
    while step < x.shape[-1]:
        padding = [(0, 0)] * (x.ndim - 1) + [(step, 0)]
        x = _saturating_add(x, jnp.pad(x[..., :-step], padding))
        step *= 2
    return x


def sum_by_rows(counts: Int[Array, " n"]) -> Int[Array, " n"]:
    """More additions than a scan in pairs, which takes TPU compilers ten times as long."""
    size = counts.shape[0]
    rows = jnp.pad(counts, (0, -size % _SUM_ROW)).reshape(-1, _SUM_ROW)
    rows = _shifted_sums(rows)
    before = jnp.pad(_shifted_sums(rows[:, -1])[:-1], (1, 0))
    return _saturating_add(rows, before[:, None]).reshape(-1)[:size]


def saturating_cumsum(counts: Int[Array, " n"]) -> Int[Array, " n"]:
    """Running sum that stops at 2^30 - 1 instead of wrapping around."""
    return lax.platform_dependent(
        jnp.minimum(counts, SATURATED),
        cpu=lambda x: lax.associative_scan(_saturating_add, x),
        default=sum_by_rows,
    )


def _order_packed(keys: Int[Array, " n"]) -> Int[Array, " n"]:
    """Key and index as one 64-bit number: XLA's CPU sort is 4x faster on one array than on two."""
    with jax.enable_x64(True):
        high = lax.convert_element_type(keys, jnp.uint64)
        shift = lax.full_like(high, 32)
        packed = lax.shift_left(high, shift) | lax.iota(jnp.uint64, keys.shape[0])
        order = lax.convert_element_type(lax.sort(packed), jnp.uint32)
    return order.astype(jnp.int32)


def _order_pairs(keys: Int[Array, " n"]) -> Int[Array, " n"]:
    """The same with two operands; TPUs have no 64-bit integers."""
    return lax.sort((keys, lax.iota(jnp.int32, keys.shape[0])), num_keys=1, is_stable=True)[1]


def depth_order(depths: Float[Array, " G"]) -> Int[Array, " G"]:
    """Gaussians front to back, ties by index; infinite depths last. Depths must not be negative.

    The bits of non-negative floats order as integers do; -0.0 loses its sign.
    """
    bits = lax.bitcast_convert_type(depths, jnp.int32) & 0x7FFFFFFF
    return lax.platform_dependent(bits, cpu=_order_packed, default=_order_pairs)


class _Slots(NamedTuple):
    """Gaussians front to back, with the slots they own: ``ends[i-1]`` to ``ends[i]``."""

    order: Int[Array, " G"]
    spans: tuple[Int[Array, " G"], Int[Array, " G"], Int[Array, " G"]]
    ends: Int[Array, " G"]


def _chunk_pairs(slots: _Slots, first: Int[Array, ""], size: int, columns: int, blocks: int):
    """Block and Gaussian of ``size`` slots from ``first`` on; block ``blocks`` beyond the last."""
    slot = first + jnp.arange(size, dtype=jnp.int32)
    rank = jnp.searchsorted(slots.ends, slot, side="right").astype(jnp.int32)
    rank = jnp.minimum(rank, slots.ends.shape[0] - 1)
    begin = jnp.where(rank > 0, slots.ends[jnp.maximum(rank - 1, 0)], 0)
    first_x, count_x, first_y = (row[rank] for row in slots.spans)
    within = slot - begin
    row = within // jnp.maximum(count_x, 1)
    block = (first_y + row) * columns + first_x + within - row * count_x
    return jnp.where(slot < slots.ends[-1], block, blocks), slots.order[rank]


def _sort_distinct(keys: Array) -> Array:
    """No two keys are equal: stability is no matter, but faster on CPUs, another array on TPUs."""
    unstable = partial(lax.sort, is_stable=False)
    return lax.platform_dependent(keys, cpu=lax.sort, default=unstable)


def _sort_chunk(block: Int[Array, " size"], splat: Int[Array, " size"]) -> tuple[Array, Array]:
    """Both arrays stably ordered by block, through one 32-bit key."""
    size = block.shape[0]
    bits = (size - 1).bit_length()
    place = lax.iota(jnp.uint32, size)
    keys = _sort_distinct((block.astype(jnp.uint32) << bits) | place)
    source = (keys & jnp.uint32(size - 1)).astype(jnp.int32)
    return (keys >> bits).astype(jnp.int32), splat[source]


def _bucket(slots: _Slots, view: View, capacity: int) -> Lists:
    """The counting sort: sort the chunks, count, then move every chunk's runs to their places."""
    rows, columns = grid_shape(view)
    blocks, size = rows * columns, chunk_size(view, capacity)
    chunks = -(-capacity // size)
    total = slots.ends[-1]
    present = jnp.minimum((total + size - 1) // size, chunks)

    def sort(chunk, carry):
        sorted_blocks, sorted_splats, counts = carry
        pair = _sort_chunk(*_chunk_pairs(slots, chunk * size, size, columns, blocks))
        count = jnp.zeros(blocks, jnp.int32).at[pair[0]].add(1, mode="drop")
        return (
            lax.dynamic_update_index_in_dim(sorted_blocks, pair[0], chunk, 0),
            lax.dynamic_update_index_in_dim(sorted_splats, pair[1], chunk, 0),
            lax.dynamic_update_index_in_dim(counts, count, chunk, 0),
        )

    empty = jnp.zeros((chunks, size), jnp.int32)
    sorted_blocks, sorted_splats, counts = lax.fori_loop(
        0, present, sort, (empty, empty, jnp.zeros((chunks, blocks), jnp.int32))
    )
    per_block = counts.sum(axis=0)
    starts = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(per_block)])
    # Of a block's run: where it goes, less where it begins in its sorted chunk.
    earlier = jnp.cumsum(counts, axis=0) - counts
    shift = starts[:-1][None] + earlier - (jnp.cumsum(counts, axis=1) - counts)

    def move(chunk, splats):
        block = sorted_blocks[chunk]
        target = shift[chunk].at[block].get(mode="fill", fill_value=chunks * size)
        target = target + jnp.arange(size, dtype=jnp.int32)
        return splats.at[target].set(sorted_splats[chunk], mode="drop", unique_indices=True)

    splats = lax.fori_loop(0, present, move, jnp.zeros(chunks * size, jnp.int32))
    return Lists(splats, starts, total)


def build_lists(splats: Splats, shape: Footprint, view: View, capacity: int) -> Lists:
    """Depth-ordered splats of every block.

    The capacity is rounded up to whole chunks; beyond it the farthest splats are left out.
    """
    spans, counts = block_spans(splats, shape, view)
    order = depth_order(jnp.where(counts > 0, shape.depths, jnp.inf))
    slots = _Slots(order, tuple(s[order] for s in spans), saturating_cumsum(counts[order]))
    return _bucket(slots, view, capacity)
