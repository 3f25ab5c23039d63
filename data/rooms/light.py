"""Light: soft shadow maps, ambient occlusion from a height map, shading and exposure.

A light's shadow map is a downward pinhole image of what it sees: directions
``(f(a), f(b), -1)`` with ``a, b`` in [-1, 1] and ``f(a) = a / (1 - s |a|)``, which reaches far down
to the horizon. It keeps the first primitive and its distance; a surface is never shadowed by the
convex primitive that it belongs to, so no bias can leak or stripe. Four neighbors are compared and
blended, which softens the edge. The height map holds how high the furniture stands below a point.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from data.rooms.primitives import SHELL, Primitives, cast, visible
from data.rooms.textures import Field
from data.rooms.vec import Triple, along, dot, fetch, minus, scaled, unit
from mvdust3r_jax import pytrees

SPREAD = 0.95
# A first hit must be this much nearer to the light than the surface to throw a shadow.
SHADOW_BIAS_M = 0.03
# Distance of shadow map cells that see no primitive.
NOTHING_M = 1e4
HEIGHT_RADII_M = (0.12, 0.4)


@pytrees.dataclass
class LightMaps:
    """Shadow maps of L lights (distance, primitive id) and the height map over the floor plan."""

    distance_m: Float[Array, "L S S"]
    first: Int[Array, "L S S"]
    height_m: Float[Array, "S S"]


def _warp(a):
    return a / (1 - SPREAD * jnp.abs(a))


def _unwarp(x):
    return x / (1 + SPREAD * jnp.abs(x))


def _tiles(image, tile):
    """``[S, S, ...]`` as ``[tiles, tile * tile, ...]``."""
    s = image.shape[0] // tile
    split = image.reshape(s, tile, s, tile, *image.shape[2:])
    return jnp.moveaxis(split, 1, 2).reshape(s * s, tile * tile, *image.shape[2:])


def _untile(blocks, tile):
    s = round((blocks.shape[0]) ** 0.5)
    grid = blocks.reshape(s, s, tile, tile)
    return jnp.moveaxis(grid, 1, 2).reshape(s * tile, s * tile)


def _shadow_map(scene, light, size, tile):
    """Distance and primitive that the light at ``light`` sees first, ``[S, S]`` each."""
    centers = (jnp.arange(size) + 0.5) / size * 2 - 1
    x = _warp(centers)
    gx, gy = jnp.meshgrid(x, x)
    dirs = jnp.stack([gx, gy, -jnp.ones_like(gx)], axis=-1)
    blocks = _tiles(dirs, tile)
    edges = _warp(jnp.arange(0, size + 1, tile) / size * 2 - 1)
    lo, hi = edges[:-1], edges[1:]
    low_x, low_y = (a.ravel() for a in jnp.meshgrid(lo, lo))
    high_x, high_y = (a.ravel() for a in jnp.meshgrid(hi, hi))
    zero, one = jnp.zeros_like(low_x), jnp.ones_like(low_x)
    # With h = light.z - z, a point is inside where lo * h <= x - light.x <= hi * h, and h >= 0.
    normals = [(one, zero, low_x), (-one, zero, -high_x), (zero, one, low_y), (zero, -one, -high_y)]
    normals = jnp.stack([jnp.stack(n, axis=-1) for n in normals], axis=1)
    down = jnp.broadcast_to(jnp.array([0.0, 0.0, -1.0]), (len(low_x), 1, 3))
    normals = jnp.concatenate([normals, down], axis=1)
    planes = jnp.concatenate([normals, -(normals @ light)[..., None]], axis=-1)
    candidates = visible(scene.primitives, planes) & scene.primitives.casts[None]
    origins = jnp.broadcast_to(light, (len(blocks), 3))
    limit = jnp.full(blocks.shape[:2], NOTHING_M)
    t, first = cast(scene.primitives, origins, blocks, candidates, limit)
    return _untile(t * jnp.sqrt((blocks**2).sum(-1)), tile), _untile(first, tile)


def light_maps(scene, size: int, tile: int = 16) -> LightMaps:
    """All maps of one scene; ``size`` must be a multiple of ``tile``."""
    distance, first = jax.vmap(lambda p: _shadow_map(scene, p, size, tile))(scene.light_position)
    distance = jnp.where(first == SHELL, NOTHING_M, distance)
    return LightMaps(distance, first, height_map(scene.primitives, scene.size, size // 2))


def height_map(prims: Primitives, room: Float[Array, "3"], size: int) -> Float[Array, "S S"]:
    """Highest top of the shadow-throwing primitives over each cell of the floor plan.

    Tops are those of oriented boxes around the primitives: the footprint of the half axes is
    tested at the cell's center, which is enough for the soft shade that it is used for.
    """
    step = room[:2] / size
    x = (jnp.arange(size) + 0.5) * step[0]
    y = (jnp.arange(size) + 0.5) * step[1]
    gx, gy = (a.reshape(1, -1) for a in jnp.meshgrid(x, y))
    inverse = prims.local_from_world
    center = prims.world_from_local[:, :, 3]
    axes = prims.world_from_local[:, :, :3]
    top = center[:, 2] + jnp.abs(axes[:, 2]).max(axis=-1)
    shift = inverse[:, :2, 3] + inverse[:, :2, 2] * center[:, 2:]
    inside = prims.casts[:, None]
    for i in range(2):
        local = inverse[:, i, 0, None] * gx + inverse[:, i, 1, None] * gy + shift[:, i, None]
        inside = inside & (jnp.abs(local) <= 1)
    return jnp.where(inside, top[:, None], 0.0).max(axis=0).reshape(size, size)


def _neighbors(size, u, v):
    """Flat indices of the four map cells around fractional ones, and bilinear weights."""
    u, v = jnp.clip(u, 0, size - 1.001), jnp.clip(v, 0, size - 1.001)
    i, j = jnp.floor(u), jnp.floor(v)
    fu, fv = u - i, v - j
    base = j.astype(jnp.int32) * size + i.astype(jnp.int32)
    weights = [(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv]
    return [base, base + 1, base + size, base + size + 1], weights


def lit(maps: LightMaps, index: Int[Array, ""], offset: Triple, away: Array, owner: Array) -> Array:
    """Share of light ``index`` that reaches the points.

    offset: light to point; away: its length; owner: the primitive on which the point lies.
    """
    size = maps.distance_m.shape[-1]
    # Points above the last row of the map, or above the light, are looked up at its horizon.
    across = jnp.maximum(jnp.abs(offset[0]), jnp.abs(offset[1]))
    drop = jnp.maximum(-offset[2], across / _warp(1 - 1 / size) + 1e-6)
    u, v = ((_unwarp(offset[i] / drop) + 1) * 0.5 * size - 0.5 for i in range(2))
    cells, weights = _neighbors(size, u, v)
    distance, first = maps.distance_m[index].reshape(-1), maps.first[index].reshape(-1)
    shadow = 0.0
    for cell, weight in zip(cells, weights, strict=True):
        nearer = fetch(distance, cell) < away - SHADOW_BIAS_M
        shadow = shadow + weight * (nearer & (fetch(first, cell) != owner))
    return 1 - shadow


def occlusion(maps: LightMaps, room: Float[Array, "3"], points: Triple, normals: Triple) -> Array:
    """Share of ambient light that arrives: furniture around (height map), and the shell's edges."""
    size = maps.height_m.shape[0]
    height_m = maps.height_m.reshape(-1)
    start = along(points, normals, 0.04)
    taps = jnp.array(
        [
            (r, r * math.cos(a), r * math.sin(a))
            for k, r in enumerate(HEIGHT_RADII_M)
            for a in (math.pi / 2 * (step + 0.5 * k) for step in range(4))
        ]
    )

    def tap(i, hidden):
        u = (start[0] + taps[i, 1]) * (size / room[0]) - 0.5
        v = (start[1] + taps[i, 2]) * (size / room[1]) - 0.5
        cells, weights = _neighbors(size, u, v)
        height = sum(fetch(height_m, c) * w for c, w in zip(cells, weights, strict=True))
        return hidden + jnp.clip((height - start[2] - 0.02) / taps[i, 0], 0, 1)

    hidden = jax.lax.fori_loop(0, len(taps), tap, jnp.zeros_like(points[0])) / len(taps)
    near = 0.0
    for i in range(3):
        edge = jnp.maximum(jnp.minimum(points[i], room[i] - points[i]), 0.0)
        # The face itself is at distance 0 along its normal; only the other directions count.
        near = near + jnp.exp(edge * (-1 / 0.18)) * (1 - jnp.abs(normals[i]))
    return (1 - 0.6 * hidden) * (1 - 0.3 * jnp.minimum(near, 1.5))


def _one_light(scene, maps, index, points, normals, views, owner, gloss):
    """Diffuse and mirrored share of one light."""
    light = scene.light_position[index]
    offset = minus(points, (light[0], light[1], light[2]))
    squared = dot(offset, offset)
    away = jnp.sqrt(squared + 1e-6)
    toward = scaled(offset, -1 / away)
    cosine = dot(normals, toward)
    share = lit(maps, index, offset, away, owner) / (0.6 + squared)
    half = unit(tuple(a + b for a, b in zip(toward, views, strict=True)))
    shine = 0.6 * gloss * jnp.maximum(dot(normals, half), 0) ** 32 * (cosine > 0)
    # Wrapped a little: lamps are not points, and walls reflect.
    return jnp.maximum(cosine + 0.1, 0) / 1.1 * share, shine * share


def shade(
    scene, maps: LightMaps, points: Triple, normals: Triple, views: Triple, owner, color, material
) -> Triple:
    """Radiance toward the camera; ``views`` are unit vectors from the points to the camera."""
    ambient = occlusion(maps, scene.size, points, normals) * (0.75 + 0.25 * normals[2])
    glow = 2.6 * jnp.mean(scene.ambient) * material[Field.EMISSION]
    gloss = material[Field.GLOSS]

    def add(index, sums):
        soft, sharp = _one_light(scene, maps, index, points, normals, views, owner, gloss)
        power = scene.light_color[index]
        return tuple(
            (diffuse + power[i] * soft, shine + power[i] * sharp)
            for i, (diffuse, shine) in enumerate(sums)
        )

    start = tuple((ambient * scene.ambient[i] + glow, jnp.zeros_like(glow)) for i in range(3))
    sums = jax.lax.fori_loop(0, scene.light_position.shape[0], add, start)
    return tuple(c * diffuse + shine for c, (diffuse, shine) in zip(color, sums, strict=True))


def expose(radiance: Float[Array, "C H W 3"], exposure) -> Float[Array, "C H W 3"]:
    """Display values in [0, 1]: partial auto exposure per view, a soft shoulder, gamma 2.2."""
    mean = jnp.exp(jnp.log(radiance + 1e-3).mean(axis=(1, 2, 3), keepdims=True))
    gain = exposure * 0.6 * (0.35 / mean) ** 0.7
    mapped = 1 - jnp.exp(-radiance * gain)
    # exp and log are vectorized on every backend, pow is not.
    return jnp.exp(jnp.log(jnp.clip(mapped, 1e-6, 1.0)) / 2.2)
