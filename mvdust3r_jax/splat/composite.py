"""Alpha compositing of the block lists, front to back, and its gradient, back to front.

Blocks are processed in groups (``blocks.Plan``) in lockstep: a step draws the next few splats of
every block's list on all of the block's pixels. A group ends when its longest list does, or when
all its pixels are opaque, so the cost follows the intersections present.

Transmittance is carried as gsplat's kernel carries it (one product and one comparison a splat),
so the same splats are drawn. The loops have data-dependent trip counts, which reverse-mode
differentiation cannot cross: the gradient is written by hand and visits the same splats in the
opposite order, dividing transmittance out again.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mvdust3r_jax.splat.blocks import (
    PIXELS,
    from_groups,
    pixel_centers,
    pixel_moments,
    plan_groups,
    to_blocks,
)
from mvdust3r_jax.splat.materialize import keep, unknown_one
from mvdust3r_jax.splat.project import Splats, View
from mvdust3r_jax.splat.tiles import BLOCK, MIN_ALPHA, Lists

MAX_ALPHA = 0.999
# A splat that would bring the transmittance to this or below is not drawn, nor any behind it.
STOP_TRANSMITTANCE = 1e-4
_LOG_MIN_ALPHA = math.log(MIN_ALPHA)
# Of a group, however small the image: a few vector registers.
_FEWEST_LANES = 32


class Schedule(NamedTuple):
    """How the work is cut: blocks per group at most, groups at least, and splats per step.

    A group takes as long as its longest list, so small images need groups of few blocks. There are
    fewer groups than that where each would have less than 32 blocks.
    """

    lanes: int
    groups: int
    forward: int
    backward: int

    def fitted(self, lists: Lists) -> Schedule:
        """With as many blocks per group as the image asks for."""
        blocks = lists.starts.shape[0] - 1
        return self._replace(lanes=min(self.lanes, max(blocks // self.groups, _FEWEST_LANES)))


# A few kilobytes per array stay in a core's cache ...
CPU_SCHEDULE = Schedule(lanes=256, groups=8, forward=4, backward=1)
# ... whereas an accelerator wants few, large steps.
WIDE_SCHEDULE = Schedule(lanes=4096, groups=1, forward=8, backward=4)


class Picture(NamedTuple):
    """One image. drawn: splats composited. tried: splats met before the pixel was opaque."""

    rgb: Float[Array, "H W 3"]
    transmittance: Float[Array, "H W"]
    drawn: Int[Array, "H W"]
    tried: Int[Array, "H W"]


class _Table(NamedTuple):
    """The splats as rows (mean 2, conic 3, log opacity, color 3), and the lists into them.

    one: for ``materialize.keep``.
    """

    rows: Float[Array, "9 G"]
    lists: Lists
    one: Float[Array, ""]


def _table(splats: Splats, lists: Lists) -> _Table:
    log_opacity = jnp.log(jnp.maximum(splats.opacities, MIN_ALPHA / 2))
    rows = jnp.stack([*splats.means, *splats.conics, log_opacity, *splats.colors])
    return _Table(rows, lists, unknown_one(lists.total >= 0))


class _Step(NamedTuple):
    """The next splats of each block: ``index`` [n, lanes], ``rows`` [9, n, lanes].

    raw: opacity times the Gaussian at each pixel, [n, P, lanes], and exactly 0 where the splat is
    skipped: past the end of the list, below 1/255, or numerically outside.
    """

    index: Int[Array, "n lanes"]
    rows: Float[Array, "9 n lanes"]
    raw: Float[Array, "n P lanes"]


def _evaluate(table: _Table, begin: Array, ends: Array, step: Array, centers: tuple) -> _Step:
    """Splats ``step`` [n] of the lists from ``begin`` [lanes]; ``ends`` is [1 or P, lanes]."""
    last = table.lists.splats.shape[0] - 1
    slot = jnp.minimum(begin[None] + step[:, None], last)
    index = table.lists.splats[slot]
    rows = keep(table.rows[:, index.reshape(-1)], table.one).reshape(9, *slot.shape)
    x, y, a, b, c, log_opacity = rows[:6, :, None]
    dx, dy = x - centers[0][None], y - centers[1][None]
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    log_alpha = log_opacity - sigma
    drawn = (sigma >= 0) & (log_alpha >= _LOG_MIN_ALPHA) & (step[:, None, None] < ends[None])
    return _Step(index, rows, jnp.exp(jnp.where(drawn, log_alpha, -jnp.inf)))


def composite(splats: Splats, lists: Lists, view: View, schedule: Schedule) -> Picture:
    """Draw one camera's image, without background."""
    table, schedule = _table(splats, lists), schedule.fitted(lists)
    plan = plan_groups(lists, schedule.lanes)
    shape = (PIXELS, schedule.lanes)

    def group(_, member):
        begin, length, block = member
        centers = pixel_centers(block, view)

        def draw(state):
            first, light, (red, green, blue), drawn, tried = state
            step = first + jnp.arange(schedule.forward, dtype=jnp.int32)
            _, rows, raw = _evaluate(table, begin, length[None], step, centers)
            alphas = jnp.minimum(raw, MAX_ALPHA)
            for k in range(schedule.forward):
                alpha, color = alphas[k], rows[6:, k][:, None]
                after = light * (1 - alpha)
                alive = after > STOP_TRANSMITTANCE
                weight = jnp.where(alive, alpha * light, 0.0)
                red, green, blue = (
                    total + weight * c for total, c in zip((red, green, blue), color, strict=True)
                )
                drawn = drawn + (weight > 0)
                tried = tried + (alive & (step[k] < length)[None])
                # What is left when a pixel stops is kept with its sign turned.
                light = jnp.where(alive, after, -jnp.abs(light))
            return first + schedule.forward, light, (red, green, blue), drawn, tried

        zeros, counts = jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
        start = (jnp.int32(0), jnp.ones(shape), (zeros,) * 3, counts, counts)
        _, light, rgb, drawn, tried = lax.while_loop(
            lambda state: (state[0] < length[0]) & jnp.any(state[1] > 0), draw, start
        )
        return None, (jnp.stack([*rgb, jnp.abs(light)]), jnp.stack([drawn, tried]))

    _, (values, counts) = lax.scan(group, None, plan)
    values, counts = from_groups(values, plan, view), from_groups(counts, plan, view)
    return Picture(values[..., :3], values[..., 3], counts[..., 0], counts[..., 1])


def _splat_gradient(
    row: Float[Array, "9 lanes"],
    pull: Float[Array, "P lanes"],
    colors: Float[Array, "3 lanes"],
    center: tuple[Array, Array],
) -> Float[Array, "9 lanes"]:
    """Sum over a block's pixels of the cotangents of (mean 2, conic 3, log opacity, color 3).

    pull: cotangent of log alpha. Its moments about the splat follow from those about the block.
    """
    total, u, v, uu, uv, vv = lax.dot(pixel_moments(), pull, precision=lax.Precision.HIGHEST)
    x, y = row[0] - center[0], row[1] - center[1]
    dx, dy = x * total - u, y * total - v
    dxx, dxy, dyy = x * (dx - u) + uu, x * dy - y * u + uv, y * (dy - v) + vv
    a, b, c = row[2:5]
    by_mean = [-(a * dx + b * dy), -(b * dx + c * dy)]
    return jnp.stack([*by_mean, -0.5 * dxx, -dxy, -0.5 * dyy, total, *colors])


def _group_gradient(
    gradient: Array, member: tuple, table: _Table, view: View, schedule: Schedule
) -> Array:
    """Add the cotangents from one group of blocks to ``gradient`` [G, 9]."""
    (begin, length, block), (toward, behind, light), depth = member
    centers = pixel_centers(block, view)
    middle = tuple(c[0] + (BLOCK - 1) / 2 for c in centers)
    ends = jnp.minimum(depth, length[None])
    size = schedule.backward

    def draw(state):
        first, light, behind, gradient = state
        step = first + jnp.arange(size, dtype=jnp.int32)
        index, rows, raw = _evaluate(table, begin, ends, step, centers)
        alphas = jnp.minimum(raw, MAX_ALPHA)
        inverses = 1 / (1 - alphas)
        updates = []
        for k in reversed(range(size)):
            light = light * inverses[k]
            shade = sum(t * c[None] for t, c in zip(toward, rows[6:, k], strict=True))
            by_alpha = light * shade - behind * inverses[k]
            weight = keep(alphas[k] * light, table.one)
            # A capped alpha does not move.
            pull = jnp.where(raw[k] <= MAX_ALPHA, by_alpha * raw[k], 0.0)
            behind = behind + weight * shade
            colors = sum(weight[p][None] * toward[:, p] for p in range(PIXELS))
            updates.append(_splat_gradient(rows[:, k], keep(pull, table.one), colors, middle))
        for k, update in zip(reversed(range(size)), updates, strict=True):
            gradient = gradient.at[index[k]].add(update.T)
        return first - size, light, behind, gradient

    last = (jnp.max(ends) + size - 1) // size * size - size
    start = (last, light, behind, gradient)
    return lax.while_loop(lambda state: state[0] >= 0, draw, start)[-1]


def composite_gradient(
    splats: Splats,
    lists: Lists,
    picture: Picture,
    cotangents: tuple[Float[Array, "H W 3"], Float[Array, "H W"]],
    view: View,
    schedule: Schedule,
) -> Splats:
    """Cotangent of the splats, given those of the colors and the transmittance."""
    table, schedule = _table(splats, lists), schedule.fitted(lists)
    plan = plan_groups(lists, schedule.lanes)
    by_rgb, by_light = cotangents
    light = picture.transmittance
    # Behind the last splat there is only the background: its share of the cotangent starts there.
    planes = jnp.concatenate([by_rgb, (by_light * light)[..., None], light[..., None]], axis=-1)
    planes = to_blocks(planes, view)
    tried = to_blocks(picture.tried[..., None], view)[0]

    def group(gradient, member):
        block = member.block
        mine = planes.at[:, :, block].get(mode="fill", fill_value=0)
        depth = tried.at[:, block].get(mode="fill", fill_value=0)
        given = (member, (mine[:3], mine[3], mine[4]), depth)
        return _group_gradient(gradient, given, table, view, schedule), None

    gradient = jnp.zeros(table.rows.shape[::-1], table.rows.dtype)
    x, y, a, b, c, log_opacity, *colors = lax.scan(group, gradient, plan)[0].T
    by_opacity = log_opacity / jnp.maximum(splats.opacities, MIN_ALPHA / 2)
    return Splats((x, y), (a, b, c), by_opacity, jnp.stack(colors))
