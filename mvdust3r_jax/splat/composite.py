"""Alpha compositing of the block lists, front to back, and its gradient, back to front.

Blocks are sorted by the length of their lists and processed in groups of ``lanes`` blocks in
lockstep: step ``l`` of a group draws splat ``l`` of every block's list on all of the block's
pixels. A group ends when its longest list does or when all its pixels are opaque, so the cost
follows the intersections present. Pixels and blocks are the two last axes, ``[P, lanes]`` with
``P = BLOCK^2``: every operation is a contiguous vector operation over blocks.

Transmittance is carried exactly as gsplat's kernel carries it (one product, one comparison per
splat), so the same splats are drawn. The loops have data-dependent trip counts, which reverse-mode
differentiation cannot cross: the gradient here is written by hand and visits the same splats in
the opposite order, dividing transmittance out again.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mvdust3r_jax.splat.project import Splats, View
from mvdust3r_jax.splat.tiles import BLOCK, MIN_ALPHA, Lists, grid_shape

MAX_ALPHA = 0.999
# A splat that would bring the transmittance to this or below is not drawn, nor any behind it.
STOP_TRANSMITTANCE = 1e-4
_PIXELS = BLOCK * BLOCK
# Columns of the table of splats: mean (2), conic (3), opacity, colour (3).
_COLUMNS = 9


class Picture(NamedTuple):
    """Per-pixel results. tried: how far down its list the pixel was still transparent."""

    rgb: Float[Array, "H W 3"]
    transmittance: Float[Array, "H W"]
    drawn: Int[Array, "H W"]
    tried: Int[Array, "H W"]


class _Plan(NamedTuple):
    """Blocks in groups: where their lists begin, how long they are, and which blocks they are."""

    begin: Int[Array, "groups lanes"]
    length: Int[Array, "groups lanes"]
    block: Int[Array, "groups lanes"]


def _plan(lists: Lists, lanes: int) -> _Plan:
    begin, length = lists.starts[:-1], jnp.diff(lists.starts)
    blocks = begin.shape[0]
    order = jnp.argsort(-length).astype(jnp.int32)
    padding = -blocks % lanes
    order = jnp.concatenate([order, jnp.full(padding, blocks, jnp.int32)]).reshape(-1, lanes)
    return _Plan(
        begin.at[order].get(mode="fill", fill_value=0),
        length.at[order].get(mode="fill", fill_value=0),
        order,
    )


def _to_blocks(image: Float[Array, "H W c"], view: View) -> Float[Array, "c P blocks"]:
    rows, columns = grid_shape(view)
    height, width, channels = image.shape
    image = jnp.pad(image, ((0, rows * BLOCK - height), (0, columns * BLOCK - width), (0, 0)))
    image = image.reshape(rows, BLOCK, columns, BLOCK, channels)
    return image.transpose(4, 1, 3, 0, 2).reshape(channels, _PIXELS, rows * columns)


def _from_groups(values: Float[Array, "groups c P lanes"], plan: _Plan, view: View) -> Array:
    """[H, W, c] from what the groups computed."""
    rows, columns = grid_shape(view)
    blocks = rows * columns
    channels = values.shape[1]
    place = jnp.zeros(blocks, jnp.int32)
    place = place.at[plan.block.reshape(-1)].set(
        jnp.arange(plan.block.size, dtype=jnp.int32), mode="drop"
    )
    values = values.transpose(1, 2, 0, 3).reshape(channels, _PIXELS, -1)[:, :, place]
    values = values.reshape(channels, BLOCK, BLOCK, rows, columns).transpose(3, 1, 4, 2, 0)
    return values.reshape(rows * BLOCK, columns * BLOCK, channels)[: view.height, : view.width]


def _table(splats: Splats) -> Float[Array, "G 9"]:
    """One row a splat: what a step gathers lies in one cache line."""
    return jnp.concatenate([splats.means, splats.conics, splats.opacities[None], splats.colors]).T


def _corner(block: Int[Array, "lanes"], view: View) -> tuple[Array, Array]:
    """Centres of the pixels of each block, x and y, [P, lanes]."""
    columns = grid_shape(view)[1]
    pixel = jnp.arange(_PIXELS, dtype=jnp.int32)[:, None]
    x = (block % columns * BLOCK)[None] + pixel % BLOCK
    y = (block // columns * BLOCK)[None] + pixel // BLOCK
    return x.astype(jnp.float32) + 0.5, y.astype(jnp.float32) + 0.5


def _fetch(table: Array, lists: Lists, begin: Array, length: Array, step: Array) -> Array:
    """Rows of the step-th splat of each block, component-first [9, lanes]; opacity 0 past the end."""
    slot = jnp.minimum(begin + step, lists.splats.shape[0] - 1)
    index = lists.splats[slot]
    rows = table[index].T
    opacity = jnp.where(step < length, rows[5], 0.0)
    return index, rows, opacity


def _alpha(rows: Array, opacity: Array, x: Array, y: Array) -> tuple[Array, ...]:
    """(alpha, uncapped alpha, dx, dy); alpha is 0 where the splat is skipped. [P, lanes]."""
    dx, dy = rows[0][None] - x, rows[1][None] - y
    a, b, c = rows[2][None], rows[3][None], rows[4][None]
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    raw = opacity[None] * jnp.exp(-sigma)
    alpha = jnp.minimum(raw, MAX_ALPHA)
    drawn = (sigma >= 0) & (alpha >= MIN_ALPHA)
    return jnp.where(drawn, alpha, 0.0), raw, dx, dy


def composite(splats: Splats, lists: Lists, view: View, lanes: int) -> Picture:
    """Draw one camera's image."""
    table = _table(splats)
    plan = _plan(lists, lanes)

    def group(_, member):
        begin, length, block = member
        x, y = _corner(block, view)

        def going(state):
            step, (light, *_) = state
            return (step < length[0]) & jnp.any(light > 0)

        def draw(state):
            step, (light, through, rgb, drawn, tried) = state
            _, rows, opacity = _fetch(table, lists, begin, length, step)
            alpha, *_ = _alpha(rows, opacity, x, y)
            after = light * (1 - alpha)
            alive = after > STOP_TRANSMITTANCE
            weight = jnp.where(alive, alpha * light, 0.0)
            rgb = rgb + weight[None] * rows[6:9][:, None]
            through = jnp.where(alive, after, through)
            drawn = drawn + (weight > 0)
            tried = tried + alive
            return step + 1, (jnp.where(alive, after, 0.0), through, rgb, drawn, tried)

        shape = (_PIXELS, lanes)
        # ``light`` falls to 0 once a pixel has stopped; ``through`` keeps its last transmittance.
        state = (
            jnp.ones(shape),
            jnp.ones(shape),
            jnp.zeros((3, *shape)),
            jnp.zeros(shape, jnp.int32),
            jnp.zeros(shape, jnp.int32),
        )
        _, (_, *result) = lax.while_loop(going, draw, (jnp.int32(0), state))
        return None, result

    _, (through, rgb, drawn, tried) = lax.scan(group, None, plan)
    pixels = _from_groups(jnp.concatenate([rgb, through[:, None]], axis=1), plan, view)
    counts = _from_groups(jnp.stack([drawn, tried], axis=1), plan, view)
    return Picture(pixels[..., :3], pixels[..., 3], counts[..., 0], counts[..., 1])


def composite_gradient(
    splats: Splats,
    lists: Lists,
    picture: Picture,
    rgb_cotangent: Float[Array, "H W 3"],
    transmittance_cotangent: Float[Array, "H W"],
    view: View,
    lanes: int,
) -> Splats:
    """Cotangent of the splats."""
    table = _table(splats)
    plan = _plan(lists, lanes)
    final = picture.transmittance
    planes = jnp.concatenate(
        [rgb_cotangent, (transmittance_cotangent * final)[..., None], final[..., None]], axis=-1
    )
    planes = _to_blocks(planes, view)
    tried = _to_blocks(picture.tried[..., None], view)[0]

    def group(gradient, member):
        begin, length, block = member
        x, y = _corner(block, view)
        mine = planes.at[:, :, block].get(mode="fill", fill_value=0)
        towards, behind, through = mine[:3], mine[3], mine[4]
        depth = tried.at[:, block].get(mode="fill", fill_value=0)

        def draw(state):
            step, through, behind, gradient = state
            index, rows, opacity = _fetch(table, lists, begin, length, step)
            alpha, raw, dx, dy = _alpha(rows, opacity, x, y)
            alpha = jnp.where(step < depth, alpha, 0.0)
            inverse = 1 / (1 - alpha)
            through = through * inverse
            weight = alpha * through
            shade = jnp.sum(towards * rows[6:9][:, None], axis=0)
            by_alpha = through * shade - behind * inverse
            behind = behind + weight * shade
            pull = jnp.where((alpha > 0) & (raw <= MAX_ALPHA), by_alpha * raw, 0.0)
            px, py = pull * dx, pull * dy
            sums = jnp.stack([pull, px, py, px * dx, px * dy, py * dy]).sum(axis=1)
            colors = jnp.sum(weight[None] * towards, axis=1)
            _, sx, sy, sxx, sxy, syy = sums
            a, b, c = rows[2:5]
            update = jnp.stack(
                [
                    -(a * sx + b * sy),
                    -(b * sx + c * sy),
                    -0.5 * sxx,
                    -sxy,
                    -0.5 * syy,
                    sums[0] / jnp.where(opacity > 0, opacity, 1.0),
                    *colors,
                ]
            )
            return step - 1, through, behind, gradient.at[index].add(update.T)

        last = jnp.max(depth) - 1
        state = (last, through, behind, gradient)
        *_, gradient = lax.while_loop(lambda state: state[0] >= 0, draw, state)
        return gradient, None

    gradient, _ = lax.scan(group, jnp.zeros_like(table), plan)
    gradient = gradient.T
    return Splats(gradient[:2], gradient[2:5], gradient[5], gradient[6:9])
