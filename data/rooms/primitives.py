"""Convex primitives and ray casting: boxes, cylinders and spheres under affine maps.

A primitive is a unit shape (box ``[-1, 1]^3``, cylinder ``x^2 + y^2 <= 1, |z| <= 1``, ball) with
``world_from_local`` ``[3, 4]`` (three half axes as columns, then the center). All are convex, so a
ray meets each in one interval. Shapes stand in fixed slots: boxes first, then cylinders, then
spheres; an unused slot is inactive. The room shell is the inside of an axis-aligned box.

Rays come in blocks ``[K, P]`` (image tiles): a block has one origin, and up to four planes that
bound its rays, by which the primitives are culled before its loop. Directions need no unit length;
``t`` is the factor on the direction.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mvdust3r_jax import pytrees

NUM_BOXES, NUM_CYLINDERS, NUM_SPHERES = 224, 48, 80
# Id of the room shell in hit records.
SHELL = -1
# Direction components are kept at least this far from 0 before they are divided by.
TINY = 1e-9
# Hits nearer than this factor of the direction count as none.
T_MIN = 1e-4
T_MAX = 1e6


@pytrees.dataclass
class Primitives:
    """All primitives of one scene. casts: whether the primitive throws shadows."""

    world_from_local: Float[Array, "N 3 4"]
    local_from_world: Float[Array, "N 3 4"]
    active: Bool[Array, " N"]
    casts: Bool[Array, " N"]


def guard(x: Array) -> Array:
    """The value, kept away from zero (its sign stays)."""
    return jnp.where(jnp.abs(x) < TINY, jnp.where(x < 0, -TINY, TINY), x)


def box_interval(o, d):
    """Where the ray enters and leaves the unit box; ``o``, ``d`` are triples of arrays."""
    near, far = -T_MAX, T_MAX
    for axis in range(3):
        inverse = 1.0 / guard(d[axis])
        middle, half = -o[axis] * inverse, jnp.abs(inverse)
        near, far = jnp.maximum(near, middle - half), jnp.minimum(far, middle + half)
    return near, far


def _round_interval(o, d):
    """Where a ray is nearer than 1 to the origin of its 2 or 3 components; near > far if never.

    Taken from the ray's nearest point, not from the origin's distance: the usual discriminant
    loses the small sphere far away to cancellation.
    """
    inverse = 1.0 / jnp.maximum(sum(x * x for x in d), TINY)
    middle = -sum(x * y for x, y in zip(o, d, strict=True)) * inverse
    left = 1.0 - sum((x + middle * y) ** 2 for x, y in zip(o, d, strict=True))
    reach = jnp.sqrt(jnp.maximum(left, 0.0) * inverse)
    miss = left <= 0
    return jnp.where(miss, T_MAX, middle - reach), jnp.where(miss, -T_MAX, middle + reach)


def cylinder_interval(o, d):
    """Where the ray enters and leaves the unit cylinder along z."""
    near, far = _round_interval(o[:2], d[:2])
    inverse = 1.0 / guard(d[2])
    middle, half = -o[2] * inverse, jnp.abs(inverse)
    return jnp.maximum(near, middle - half), jnp.minimum(far, middle + half)


def sphere_interval(o, d):
    """Where the ray enters and leaves the unit ball."""
    return _round_interval(o, d)


def visible(prims: Primitives, planes: Float[Array, "K Q 4"]) -> Bool[Array, "K N"]:
    """Active primitives whose bounding parallelepiped reaches inside all planes of a block.

    A plane ``(n, c)`` keeps the points with ``n . x + c >= 0``. The test is conservative.
    """
    center = prims.world_from_local[:, :, 3]
    reach = jnp.einsum("kqi,nij->kqnj", planes[..., :3], prims.world_from_local[:, :, :3])
    offset = jnp.einsum("kqi,ni->kqn", planes[..., :3], center) + planes[..., 3:]
    inside = offset + jnp.abs(reach).sum(axis=-1) >= 0
    return inside.all(axis=1) & prims.active[None]


def _nearest(interval, table, lists, counts, first, origins, dirs, best):
    """Loop over one shape's lists ``[K, M]``, keeping the nearest entry and its slot."""

    def body(j, carry):
        t_best, id_best = carry
        slot = jax.lax.dynamic_index_in_dim(lists, j, axis=1, keepdims=False)
        m = table[slot]
        o = jnp.einsum("kij,kj->ki", m[:, :, :3], origins) + m[:, :, 3]
        local = [
            dirs[0] * m[:, i, 0, None] + dirs[1] * m[:, i, 1, None] + dirs[2] * m[:, i, 2, None]
            for i in range(3)
        ]
        near, far = interval([o[:, i, None] for i in range(3)], local)
        hit = (near < far) & (near > T_MIN) & (near < t_best) & (j < counts)[:, None]
        return jnp.where(hit, near, t_best), jnp.where(hit, slot[:, None] + first, id_best)

    return jax.lax.fori_loop(0, counts.max(), body, best)


def cast(
    prims: Primitives,
    origins: Float[Array, "K 3"],
    dirs: Float[Array, "K P 3"],
    candidates: Bool[Array, "K N"],
    t_limit: Float[Array, "K P"],
) -> tuple[Float[Array, "K P"], Int[Array, "K P"]]:
    """Nearest entry below ``t_limit`` over each block's candidates; id ``SHELL`` where none."""
    axes = [dirs[..., i] for i in range(3)]
    best = (t_limit, jnp.full(t_limit.shape, SHELL, jnp.int32))
    first = 0
    for size, interval in (
        (NUM_BOXES, box_interval),
        (NUM_CYLINDERS, cylinder_interval),
        (NUM_SPHERES, sphere_interval),
    ):
        part = candidates[:, first : first + size]
        lists = jnp.argsort(~part, axis=-1, stable=True).astype(jnp.int32)
        table = prims.local_from_world[first : first + size]
        best = _nearest(interval, table, lists, part.sum(-1), first, origins, axes, best)
        first += size
    return best


def shell_exit(
    lo: Float[Array, "3"],
    hi: Float[Array, "3"],
    origins: Float[Array, "K 3"],
    dirs: Float[Array, "K P 3"],
) -> Float[Array, "K P"]:
    """Where rays that start inside the axis-aligned shell leave it."""
    dirs = guard(dirs)
    wall = jnp.where(dirs > 0, hi.reshape(1, 1, 3), lo.reshape(1, 1, 3))
    return ((wall - origins[:, None]) / dirs).min(axis=-1)


def distance(prims: Primitives, points: Float[Array, "M 3"]) -> Float[Array, " M"]:
    """Lower bound of the distance to the nearest active primitive's bounding box; 0 inside.

    Half axes are orthogonal, so the distance to the bounding box is exact; for cylinders and
    spheres the box lies outside the surface.
    """
    axes = prims.world_from_local[:, :, :3]
    half = jnp.sqrt((axes**2).sum(axis=1))
    rotation = axes / jnp.maximum(half, TINY)[:, None, :]
    offset = points[:, None] - prims.world_from_local[None, :, :, 3]
    local = jnp.abs(jnp.einsum("nij,mni->mnj", rotation, offset)) - half[None]
    away = jnp.sqrt((jnp.maximum(local, 0.0) ** 2).sum(axis=-1))
    return jnp.where(prims.active[None], away, T_MAX).min(axis=-1)
