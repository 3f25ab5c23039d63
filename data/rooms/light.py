"""Light: soft shadow maps, ambient occlusion from a height map, shading and exposure.

A light's shadow map is a downward pinhole image of what it sees: directions
``(f(a), f(b), -1)`` with ``a, b`` in [-1, 1] and ``f(a) = a / (1 - s |a|)``, which reaches far down
to the horizon. It keeps the first primitive and its distance; a surface is never shadowed by the
convex primitive that it belongs to, so no bias can leak or stripe. Four neighbours are compared and
blended, which softens the edge. The height map holds how high the furniture stands below a point.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from data.rooms.primitives import Primitives, cast, visible
from data.rooms.textures import Field

SPREAD = 0.95
# A first hit must be this much nearer to the light than the surface to throw a shadow.
SHADOW_BIAS_M = 0.03
HEIGHT_RADII_M = (0.12, 0.4)


@struct.dataclass
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
    centres = (jnp.arange(size) + 0.5) / size * 2 - 1
    x = _warp(centres)
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
    limit = jnp.full(blocks.shape[:2], 1e4)
    t, first = cast(scene.primitives, origins, blocks, candidates, limit)
    return _untile(t * jnp.sqrt((blocks**2).sum(-1)), tile), _untile(first, tile)


def light_maps(scene, size: int, tile: int = 16) -> LightMaps:
    """All maps of one scene; ``size`` must be a multiple of ``tile``."""
    distance, first = jax.vmap(lambda p: _shadow_map(scene, p, size, tile))(scene.light_position)
    return LightMaps(distance, first, height_map(scene.primitives, scene.size, size // 2))


def height_map(prims: Primitives, room: Float[Array, "3"], size: int) -> Float[Array, "S S"]:
    """Highest top of the shadow-throwing primitives over each cell of the floor plan.

    Tops are those of oriented boxes around the primitives: the footprint of the half axes is
    tested at the cell's centre, which is enough for the soft shade that it is used for.
    """
    step = room[:2] / size
    x = (jnp.arange(size) + 0.5) * step[0]
    y = (jnp.arange(size) + 0.5) * step[1]
    gx, gy = (a.ravel() for a in jnp.meshgrid(x, y))
    inverse = prims.local_from_world
    centre = prims.world_from_local[:, :, 3]
    axes = prims.world_from_local[:, :, :3]
    top = centre[:, 2] + jnp.abs(axes[:, 2]).max(axis=-1)
    points = jnp.stack([gx, gy], axis=-1)
    local = jnp.einsum("nij,pj->npi", inverse[:, :2, :2], points)
    shift = inverse[:, :2, 3] + inverse[:, :2, 2] * centre[:, 2:]
    inside = (jnp.abs(local + shift[:, None]) <= 1).all(axis=-1) & prims.casts[:, None]
    return jnp.where(inside, top[:, None], 0.0).max(axis=0).reshape(size, size)


def _lookup(image, u, v):
    """Values at four neighbours of fractional pixels, and their bilinear weights."""
    size = image.shape[-1]
    u, v = jnp.clip(u, 0, size - 1.001), jnp.clip(v, 0, size - 1.001)
    i, j = jnp.floor(u), jnp.floor(v)
    fu, fv = u - i, v - j
    base = j.astype(jnp.int32) * size + i.astype(jnp.int32)
    flat = image.reshape(-1)
    values = [jnp.take(flat, base + shift) for shift in (0, 1, size, size + 1)]
    return values, [(1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv]


def lit(maps: LightMaps, index: int, light, points, owner) -> Float[Array, "*grid"]:
    """Share of light ``index`` that reaches the points; ``owner`` is their primitive."""
    offset = points - light
    away = jnp.sqrt((offset**2).sum(-1))
    drop = jnp.maximum(-offset[..., 2], 1e-3)
    size = maps.distance_m.shape[-1]
    u, v = ((_unwarp(offset[..., i] / drop) + 1) * 0.5 * size - 0.5 for i in range(2))
    packed = jnp.where(maps.first[index] < 0, 1e4, maps.distance_m[index])
    nearest, weights = _lookup(packed, u, v)
    owners, _ = _lookup(maps.first[index], u, v)
    blocked = [
        (d < away - SHADOW_BIAS_M) & (o != owner) for d, o in zip(nearest, owners, strict=True)
    ]
    return 1 - sum(b * w for b, w in zip(blocked, weights, strict=True))


def occlusion(maps: LightMaps, room, points, normals) -> Float[Array, "*grid"]:
    """Share of ambient light that arrives: furniture around (height map), and the shell's edges."""
    size = maps.height_m.shape[0]
    start = points + 0.04 * normals
    scale = size / room[:2]
    hidden = 0.0
    for k, radius in enumerate(HEIGHT_RADII_M):
        for step in range(4):
            angle = (step + 0.5 * k) * jnp.pi / 2
            u = (start[..., 0] + radius * jnp.cos(angle)) * scale[0] - 0.5
            v = (start[..., 1] + radius * jnp.sin(angle)) * scale[1] - 0.5
            values, weights = _lookup(maps.height_m, u, v)
            height = sum(a * w for a, w in zip(values, weights, strict=True))
            hidden = hidden + jnp.clip((height - start[..., 2] - 0.02) / radius, 0, 1)
    hidden = hidden / (4 * len(HEIGHT_RADII_M))
    edges = jnp.minimum(points, room.reshape((1,) * (points.ndim - 1) + (3,)) - points)
    # The face itself is at distance 0 along its normal; only the other two directions count.
    near = jnp.exp(-jnp.maximum(edges, 0) / 0.18) * (1 - jnp.abs(normals))
    return (1 - 0.6 * hidden) * (1 - 0.3 * jnp.minimum(near.sum(-1), 1.5))


def shade(scene, maps, points, normals, views, owner, colour, material) -> Float[Array, "*grid 3"]:
    """Radiance towards the camera; ``views`` are unit vectors from the points to the camera."""
    ambient = occlusion(maps, scene.size, points, normals)
    sky = 0.75 + 0.25 * normals[..., 2]
    one = (1,) * (points.ndim - 1) + (3,)
    total = colour * (ambient * sky)[..., None] * scene.ambient.reshape(one)
    gloss = material[..., Field.GLOSS]
    for index in range(scene.light_position.shape[0]):
        light = scene.light_position[index].reshape(one)
        towards = light - points
        squared = (towards**2).sum(-1)
        direction = towards / jnp.sqrt(squared + 1e-6)[..., None]
        cosine = (normals * direction).sum(-1)
        # Wrapped a little: lamps are not points, and walls reflect.
        diffuse = jnp.maximum(cosine + 0.1, 0) / 1.1
        share = lit(maps, index, light, points, owner) / (0.6 + squared)
        half = direction + views
        half = half / jnp.sqrt((half**2).sum(-1, keepdims=True) + 1e-6)
        shine = gloss * 0.6 * jnp.maximum((normals * half).sum(-1), 0) ** 40
        power = scene.light_colour[index].reshape(one)
        total = total + power * (
            colour * (diffuse * share)[..., None] + (shine * share * (cosine > 0))[..., None]
        )
    glow = material[..., Field.EMISSION]
    return total + colour * (1.3 * glow)[..., None] * jnp.mean(scene.ambient) * 2


def expose(radiance: Float[Array, "C H W 3"], exposure) -> Float[Array, "C H W 3"]:
    """Display values in [0, 1]: partial auto exposure per view, a soft shoulder, gamma 2.2."""
    mean = jnp.exp(jnp.log(radiance + 1e-3).mean(axis=(1, 2, 3), keepdims=True))
    gain = exposure * 0.6 * (0.35 / mean) ** 0.7
    mapped = 1 - jnp.exp(-radiance * gain)
    return jnp.clip(mapped, 1e-6, 1.0) ** (1 / 2.2)
