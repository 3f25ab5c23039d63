"""Floor plans, structural parts and furniture placement, as fixed-size arrays from one key.

World frame: x, y along the walls, z up, metres; the floor is z = 0 and the shell starts at the
origin. Rectangles are ``(x0, y0, x1, y1)``. Sides of a rectangle: 0 at y0, 1 at x1, 2 at y1,
3 at x0; a piece on side s is turned by 90 s degrees, so that its front looks into the room.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from data.rooms import catalog

MAX_ROOMS = 3
FLOOR_SLOTS, HUNG_SLOTS = 14, 2 * 4 * MAX_ROOMS
WALL_THICKNESS_M = 0.12
DOOR_HEIGHT_M = 2.08
# Structural boxes: two dividing walls of three boxes with two casings of three, four skirtings,
# one corner block, three beams, one rug per room.
STRUCTURE = 12 + 4 + 1 + 3 + MAX_ROOMS
_TRIES = 12
_TABLES = catalog.piece_tables()
_KINDS_FLOOR = np.flatnonzero(_TABLES.place != catalog.HUNG)
_KINDS_HUNG = np.flatnonzero(_TABLES.place == catalog.HUNG)


@dataclasses.dataclass(frozen=True)
class Options:
    """What rooms are drawn from. Sizes in metres; probabilities in [0, 1].

    multi_room: chance of two or three rooms. dark: factor on all light. density: pieces of
    furniture per square metre (bounds). fov_deg: horizontal field of view (bounds).
    """

    room_min: float = 3.0
    room_max: float = 8.0
    multi_room: float = 0.3
    density: tuple[float, float] = (0.35, 0.75)
    dark: float = 1.0
    fov_deg: tuple[float, float] = (50.0, 80.0)


@struct.dataclass
class Plan:
    """Rooms and the two dividing walls (inactive where there are fewer rooms).

    door: start and end of the opening along each wall; wall_x, wall_y: where the walls stand.
    """

    size: Float[Array, "3"]
    rooms: Float[Array, "R 4"]
    room_active: Bool[Array, "R"]
    door: Float[Array, "2 2"]
    wall_x: Float[Array, ""]
    wall_y: Float[Array, ""]


@struct.dataclass
class Placed:
    """Furniture pieces: class, size (W, D, H), base centre, turn about z, footprint."""

    kind: Int[Array, "F"]
    size: Float[Array, "F 3"]
    base: Float[Array, "F 3"]
    turn: Float[Array, "F"]
    rect: Float[Array, "F 4"]
    active: Bool[Array, "F"]


def uniform(key, low, high, shape=()):
    """Uniform floats, bounds may be traced."""
    return low + (high - low) * jax.random.uniform(key, shape)


def make_plan(key: jax.Array, options: Options) -> Plan:
    """Room sizes, dividing walls and their door openings."""
    keys = jax.random.split(key, 8)
    draw = jax.random.uniform(keys[0], (2,))
    several = draw[0] < options.multi_room
    count = jnp.where(several, jnp.where(draw[1] < 0.5, 2, 3), 1)
    side = uniform(keys[1], options.room_min, options.room_max, (2,))
    wide = jnp.maximum(side[0], 3.2) + uniform(keys[2], 3.0, 4.5)
    x = jnp.where(several, wide, side[0])
    y = jnp.where(several, jnp.maximum(side[1], jnp.where(count == 3, 5.8, 3.0)), side[1])
    size = jnp.stack([x, y, uniform(keys[3], 2.4, 3.1)])
    half = WALL_THICKNESS_M / 2
    wall_x = x - uniform(keys[4], 2.9, 3.1) - jnp.where(several, 0.1 * (x - 6.0), 0.0)
    wall_y = y * uniform(keys[5], 0.47, 0.53)
    low = jax.random.bernoulli(keys[6])
    spot = jnp.where(low, uniform(keys[7], 0.18, 0.3), uniform(keys[7], 0.7, 0.82))
    width = uniform(keys[2], 0.85, 1.2)
    door_x = spot * y + jnp.array([-0.5, 0.5]) * width
    door_y = (wall_x + x) / 2 + jnp.array([-0.5, 0.5]) * width
    zero = jnp.zeros(())
    rooms = jnp.stack(
        [
            jnp.stack([zero, zero, jnp.where(count > 1, wall_x - half, x), y]),
            jnp.stack([wall_x + half, zero, x, jnp.where(count > 2, wall_y - half, y)]),
            jnp.stack([wall_x + half, wall_y + half, x, y]),
        ]
    )
    return Plan(
        size, rooms, jnp.arange(MAX_ROOMS) < count, jnp.stack([door_x, door_y]), wall_x, wall_y
    )


def _box(x0, x1, y0, y1, z0, z1):
    """Centre and half size as one vector ``[6]``."""
    lo = jnp.stack([jnp.asarray(v, jnp.float32) for v in (x0, y0, z0)])
    hi = jnp.stack([jnp.asarray(v, jnp.float32) for v in (x1, y1, z1)])
    return jnp.concatenate([(lo + hi) / 2, (hi - lo) / 2])


def _divider(at, start, end, door, height, along_x):
    """Three boxes of a wall with an opening, and three of its casing."""
    half = WALL_THICKNESS_M / 2

    def piece(a0, a1, z0, z1, thick):
        lo, hi = at - thick, at + thick
        return _box(a0, a1, lo, hi, z0, z1) if along_x else _box(lo, hi, a0, a1, z0, z1)

    trim, wide = half + 0.015, 0.06
    return [
        piece(start, door[0], 0.0, height, half),
        piece(door[1], end, 0.0, height, half),
        piece(door[0], door[1], DOOR_HEIGHT_M, height, half),
        piece(door[0] - wide, door[0] + 0.01, 0.0, DOOR_HEIGHT_M, trim),
        piece(door[1] - 0.01, door[1] + wide, 0.0, DOOR_HEIGHT_M, trim),
        piece(door[0] - wide, door[1] + wide, DOOR_HEIGHT_M - 0.01, DOOR_HEIGHT_M + wide, trim),
    ]


def structure(
    key: jax.Array, plan: Plan
) -> tuple[Float[Array, "S 6"], Bool[Array, "S"], Float[Array, "4"]]:
    """Structural boxes (centre, half size), which exist, and the corner block's rectangle."""
    keys = jax.random.split(key, 8)
    x, y, h = plan.size
    boxes = _divider(plan.wall_x, 0.0, y, plan.door[0], h, False)
    boxes += _divider(plan.wall_y, plan.wall_x, x, plan.door[1], h, True)
    tall, deep = uniform(keys[0], 0.06, 0.14), 0.015
    boxes += [_box(0, x, 0, deep, 0, tall), _box(0, x, y - deep, y, 0, tall)]
    boxes += [_box(0, deep, 0, y, 0, tall), _box(x - deep, x, 0, y, 0, tall)]
    # The block stands in a corner of the first room, where no door can be.
    block = uniform(keys[1], 0.15, 0.35, (2,)) * jnp.stack([plan.rooms[0, 2], y])
    top = jax.random.bernoulli(keys[2])
    y0 = jnp.where(top, y - block[1], 0.0)
    rect = jnp.stack([jnp.zeros(()), y0, block[0], y0 + block[1]])
    boxes.append(_box(rect[0], rect[2], rect[1], rect[3], 0.0, h))
    for i in range(3):
        at = plan.size[0] * (0.25 + 0.25 * i)
        boxes.append(_box(at - 0.06, at + 0.06, 0.0, y, h - 0.16, h))
    several = plan.room_active[1]
    flags = [several] * 6 + [plan.room_active[2]] * 6 + [jax.random.bernoulli(keys[3], 0.8)] * 4
    has_block = jax.random.bernoulli(keys[4], 0.3)
    flags += [has_block] + [jax.random.bernoulli(keys[5], 0.2)] * 3
    for i in range(MAX_ROOMS):
        room, k = plan.rooms[i], jax.random.fold_in(keys[6], i)
        middle = (room[:2] + room[2:]) / 2
        half = (room[2:] - room[:2]) / 2 * uniform(k, 0.35, 0.75, (2,))
        boxes.append(_box(*_span(middle, half, 0), *_span(middle, half, 1), 0.0, 0.012))
        flags.append(plan.room_active[i] & jax.random.bernoulli(jax.random.fold_in(k, 1), 0.6))
    rect = jnp.where(has_block, rect, -jnp.ones(4))
    return jnp.stack(boxes), jnp.stack(flags), rect


def _span(middle, half, axis):
    return middle[axis] - half[axis], middle[axis] + half[axis]


def _keep_clear(plan: Plan) -> Float[Array, "2 4"]:
    """Floor in front of the openings; inactive ones lie outside the plan."""
    reach = 0.8
    dx, dy = plan.door
    first = jnp.stack([plan.wall_x - reach, dx[0] - 0.1, plan.wall_x + reach, dx[1] + 0.1])
    second = jnp.stack([dy[0] - 0.1, plan.wall_y - reach, dy[1] + 0.1, plan.wall_y + reach])
    active = plan.room_active[1:3, None]
    return jnp.where(active, jnp.stack([first, second]), -9.0)


def _overlaps(rect, others, margin):
    low = jnp.maximum(rect[..., None, :2], others[..., :2])
    high = jnp.minimum(rect[..., None, 2:], others[..., 2:])
    return ((high - low) > -margin).all(axis=-1)


def _side_pose(room, side, along, out):
    """Centre (x, y) of a piece on one side of a room: ``along`` from its start, ``out`` of it."""
    x0, y0, x1, y1 = room[..., 0], room[..., 1], room[..., 2], room[..., 3]
    xs = jnp.stack([x0 + along, x1 - out, x0 + along, x0 + out], axis=-1)
    ys = jnp.stack([y0 + out, y0 + along, y1 - out, y0 + along], axis=-1)
    pick = side[..., None]
    take = lambda a: jnp.take_along_axis(a, pick, axis=-1)[..., 0]  # noqa: E731
    return jnp.stack([take(xs), take(ys)], axis=-1)


def _side_length(room, side):
    extent = room[..., 2:] - room[..., :2]
    return jnp.where(side % 2 == 0, extent[..., 0], extent[..., 1])


def _candidates(key, kind, size, plan):
    """``_TRIES`` poses of one floor piece: centre, turn, footprint, and the room."""
    k = jax.random.split(key, 6)
    area = (plan.rooms[:, 2] - plan.rooms[:, 0]) * (plan.rooms[:, 3] - plan.rooms[:, 1])
    logits = jnp.log(jnp.where(plan.room_active, area, 1e-9))
    room = plan.rooms[jax.random.categorical(k[0], logits, shape=(_TRIES,))]
    side = jax.random.randint(k[1], (_TRIES,), 0, 4)
    length = _side_length(room, side)
    along = size[0] / 2 + jax.random.uniform(k[2], (_TRIES,)) * jnp.maximum(length - size[0], 0)
    wall = _side_pose(room, side, along, size[1] / 2 + 0.02)
    inner = uniform(k[3], 0.2, 0.8, (_TRIES, 2))
    free = room[:, :2] + inner * (room[:, 2:] - room[:, :2])
    is_free = jnp.asarray(_TABLES.place)[kind] == catalog.FREE
    centre = jnp.where(is_free, free, wall)
    wobble = uniform(k[4], -0.35, 0.35, (_TRIES,)) * is_free
    turn = side * (jnp.pi / 2) + wobble
    cos, sin = jnp.abs(jnp.cos(turn)), jnp.abs(jnp.sin(turn))
    half = 0.5 * jnp.stack([cos * size[0] + sin * size[1], sin * size[0] + cos * size[1]], axis=-1)
    rect = jnp.concatenate([centre - half, centre + half], axis=-1)
    inside = (rect[:, :2] >= room[:, :2] - 1e-3) & (rect[:, 2:] <= room[:, 2:] + 1e-3)
    return centre, turn, rect, inside.all(axis=-1)


def place_floor(key: jax.Array, plan: Plan, block: Float[Array, "4"], options: Options) -> Placed:
    """Pieces on the floor, each at the first of some random poses that is free."""
    k_count, k_kind, k_size, k_pose = jax.random.split(key, 4)
    area = plan.size[0] * plan.size[1]
    wanted = jnp.clip(area * uniform(k_count, *options.density), 4, FLOOR_SLOTS)
    weights = jnp.log(jnp.asarray(_TABLES.weight[_KINDS_FLOOR]))
    kinds = jnp.asarray(_KINDS_FLOOR)[jax.random.categorical(k_kind, weights, shape=(FLOOR_SLOTS,))]
    bounds = jnp.asarray(_TABLES.size)[kinds]
    sizes = uniform(k_size, bounds[:, 0], bounds[:, 1], (FLOOR_SLOTS, 3))
    sizes = sizes.at[:, 2].min(plan.size[2] - 0.1)
    blocked = jnp.concatenate([_keep_clear(plan), block[None]])
    taken = jnp.concatenate([blocked, jnp.full((FLOOR_SLOTS, 4), -9.0)])

    def step(taken, slot):
        index, key, kind, size = slot
        centre, turn, rect, inside = _candidates(key, kind, size, plan)
        ok = inside & ~_overlaps(rect, taken[None], 0.06).any(axis=-1)
        best = jnp.argmax(ok)
        active = ok[best] & (index < wanted)
        rect = jnp.where(active, rect[best], -9.0)
        taken = taken.at[len(blocked) + index].set(rect)
        base = jnp.concatenate([centre[best], jnp.zeros(1)])
        return taken, Placed(kind, size, base, turn[best], rect, active)

    slots = (jnp.arange(FLOOR_SLOTS), jax.random.split(k_pose, FLOOR_SLOTS), kinds, sizes)
    return jax.lax.scan(step, taken, slots)[1]


def place_hung(key: jax.Array, plan: Plan) -> Placed:
    """Two pieces on each wall of each room: pictures, windows, doors, shelves, clocks."""
    k_kind, k_size, k_base, k_along, k_on = jax.random.split(key, 5)
    n = HUNG_SLOTS
    index = jnp.arange(n)
    room_id, side, part = index // 8, (index // 2) % 4, index % 2
    weights = jnp.log(jnp.asarray(_TABLES.weight[_KINDS_HUNG]))
    kind = jnp.asarray(_KINDS_HUNG)[jax.random.categorical(k_kind, weights, shape=(n,))]
    bounds, base = jnp.asarray(_TABLES.size)[kind], jnp.asarray(_TABLES.base_m)[kind]
    size = uniform(k_size, bounds[:, 0], bounds[:, 1], (n, 3))
    room = plan.rooms[room_id]
    length = _side_length(room, side)
    margin = size[:, 0] / 2 + 0.1
    start = length * part / 2
    fits = length / 2 > 2 * margin
    along = start + uniform(k_along, margin, jnp.maximum(length / 2 - margin, margin), (n,))
    centre = _side_pose(room, side, along, size[:, 1] / 2)
    z = jnp.minimum(uniform(k_base, base[:, 0], base[:, 1], (n,)), plan.size[2] - size[:, 2] - 0.1)
    rect = jnp.concatenate([centre - margin[:, None], centre + margin[:, None]], axis=-1)
    clash = _overlaps(rect, _keep_clear(plan)[None], 0.0).any(axis=-1)
    tolerance = 1e-3
    edge = jnp.stack([room[:, 1], room[:, 2], room[:, 3], room[:, 0]], axis=-1)
    outer = jnp.stack([jnp.zeros(()), plan.size[0], plan.size[1], jnp.zeros(())])
    at_shell = jnp.abs(edge - outer[None]) < tolerance
    outside = jnp.take_along_axis(at_shell, side[:, None], axis=-1)[:, 0]
    names = list(catalog.PIECES)
    opening = (kind == names.index("window")) | (kind == names.index("door"))
    active = plan.room_active[room_id] & fits & ~clash & (outside | ~opening)
    active = active & jax.random.bernoulli(k_on, 0.75, (n,))
    where = jnp.concatenate([centre, jnp.maximum(z, 0.0)[:, None]], axis=-1)
    return Placed(kind, size, where, side * (jnp.pi / 2), rect, active)
