"""Floor plans, structural parts and furniture placement, as fixed-size arrays from one key.

World frame: x, y along the walls, z up, meters; the floor is z = 0 and the shell starts at the
origin. Rectangles are ``(x0, y0, x1, y1)``. Sides of a rectangle: 0 at y0, 1 at x1, 2 at y1,
3 at x0; a piece on side s is turned by 90 s degrees, so that its front looks into the room.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from data.rooms import catalog
from data.rooms.draws import Draws, rows
from data.rooms.options import Options
from data.rooms.pieces import FREE, HUNG
from mvdust3r_jax import pytrees

MAX_ROOMS = 3
FLOOR_SLOTS, HUNG_SLOTS = 14, 2 * 4 * MAX_ROOMS
WALL_THICKNESS_M = 0.12
DOOR_HEIGHT_M = 2.08
_TRIES = 12
_TABLES = catalog.piece_tables()
_IS_HUNG, _IS_FITTED = _TABLES.place == HUNG, _TABLES.fitted
_KINDS_FLOOR, _FITTED_FLOOR = (np.flatnonzero(~_IS_HUNG & (_IS_FITTED == f)) for f in (False, True))
_KINDS_HUNG, _FITTED_HUNG = (np.flatnonzero(_IS_HUNG & (_IS_FITTED == f)) for f in (False, True))
# Of the pieces of a room with fitted furniture, so many are.
_FITTED_SHARE = 0.5


@pytrees.dataclass
class Plan:
    """Rooms and the two dividing walls (inactive where there are fewer rooms).

    door: start and end of the opening along each wall; wall_x, wall_y: where the walls stand;
    fitted: whether the rooms have fitted furniture.
    """

    size: Float[Array, "3"]
    rooms: Float[Array, "R 4"]
    room_active: Bool[Array, " R"]
    door: Float[Array, "2 2"]
    wall_x: Float[Array, ""]
    wall_y: Float[Array, ""]
    fitted: Bool[Array, ""]


@pytrees.dataclass
class Placed:
    """Furniture pieces: class, size (W, D, H), base center, turn about z, footprint."""

    kind: Int[Array, " F"]
    size: Float[Array, "F 3"]
    base: Float[Array, "F 3"]
    turn: Float[Array, " F"]
    rect: Float[Array, "F 4"]
    active: Bool[Array, " F"]


def make_plan(draws: Draws, options: Options) -> Plan:
    """Room sizes, dividing walls and their door openings."""
    several = draws.chance(options.multi_room)
    count = jnp.where(several, 2 + draws.whole(2), 1)
    side = draws.between(options.room_min, options.room_max, 2)
    wide = jnp.maximum(side[0], 3.2) + draws.between(3.0, 4.5)
    x = jnp.where(several, wide, side[0])
    y = jnp.where(several, jnp.maximum(side[1], jnp.where(count == 3, 5.8, 3.0)), side[1])
    size = jnp.stack([x, y, draws.between(2.4, 3.1)])
    half = WALL_THICKNESS_M / 2
    wall_x = x - draws.between(2.9, 3.1) - jnp.where(several, 0.1 * (x - 6.0), 0.0)
    wall_y = y * draws.between(0.47, 0.53)
    spot = jnp.where(draws.chance(0.5), draws.between(0.18, 0.3), draws.between(0.7, 0.82))
    width = draws.between(0.85, 1.2)
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
    # Asked for only where it matters: without the option the numbers stay those of older seeds.
    fitted = draws.chance(options.fitted) if options.fitted else jnp.zeros((), bool)
    active, doors = jnp.arange(MAX_ROOMS) < count, jnp.stack([door_x, door_y])
    return Plan(size, rooms, active, doors, wall_x, wall_y, fitted)


def _box(x0, x1, y0, y1, z0, z1):
    """Center and half size as one vector ``[6]``."""
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
    draws: Draws, plan: Plan
) -> tuple[Float[Array, "S 6"], Bool[Array, " S"], Float[Array, "4"]]:
    """Structural boxes (center, half size), which exist, and the corner block's rectangle."""
    x, y, h = plan.size
    boxes = _divider(plan.wall_x, 0.0, y, plan.door[0], h, False)
    boxes += _divider(plan.wall_y, plan.wall_x, x, plan.door[1], h, True)
    tall, deep = draws.between(0.06, 0.14), 0.015
    boxes += [_box(0, x, 0, deep, 0, tall), _box(0, x, y - deep, y, 0, tall)]
    boxes += [_box(0, deep, 0, y, 0, tall), _box(x - deep, x, 0, y, 0, tall)]
    # The block stands in a corner of the first room, where no door can be.
    block = draws.between(0.15, 0.35, 2) * jnp.stack([plan.rooms[0, 2], y])
    top = draws.chance(0.5)
    y0 = jnp.where(top, y - block[1], 0.0)
    rect = jnp.stack([jnp.zeros(()), y0, block[0], y0 + block[1]])
    boxes.append(_box(rect[0], rect[2], rect[1], rect[3], 0.0, h))
    for i in range(3):
        at = plan.size[0] * (0.25 + 0.25 * i)
        boxes.append(_box(at - 0.06, at + 0.06, 0.0, y, h - 0.16, h))
    several = plan.room_active[1]
    flags = [several] * 6 + [plan.room_active[2]] * 6 + [draws.chance(0.8)] * 4
    has_block = draws.chance(0.3)
    flags += [has_block] + [draws.chance(0.2)] * 3
    for i in range(MAX_ROOMS):
        room = plan.rooms[i]
        middle = (room[:2] + room[2:]) / 2
        half = (room[2:] - room[:2]) / 2 * draws.between(0.35, 0.75, 2)
        boxes.append(_box(*_span(middle, half, 0), *_span(middle, half, 1), 0.0, 0.012))
        flags.append(plan.room_active[i] & draws.chance(0.6))
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
    """Center (x, y) of a piece on one side of a room: ``along`` from its start, ``out`` of it."""
    x0, y0, x1, y1 = room[..., 0], room[..., 1], room[..., 2], room[..., 3]
    xs = jnp.stack([x0 + along, x1 - out, x0 + along, x0 + out], axis=-1)
    ys = jnp.stack([y0 + out, y0 + along, y1 - out, y0 + along], axis=-1)
    picked = jnp.take_along_axis(jnp.stack([xs, ys], axis=-2), side[..., None, None], axis=-1)
    return picked[..., 0]


def _side_length(room, side):
    extent = room[..., 2:] - room[..., :2]
    return jnp.where(side % 2 == 0, extent[..., 0], extent[..., 1])


def _candidates(draws, kind, size, plan):
    """``_TRIES`` poses ``[F, _TRIES]`` of each floor piece: center, turn, footprint, validity."""
    grid = (FLOOR_SLOTS, _TRIES)
    area = (plan.rooms[:, 2] - plan.rooms[:, 0]) * (plan.rooms[:, 3] - plan.rooms[:, 1])
    room = plan.rooms[draws.choice(jnp.where(plan.room_active, area, 0.0), *grid)]
    side = draws.whole(4, *grid)
    width, depth = size[:, None, 0], size[:, None, 1]
    along = width / 2 + draws.unit(*grid) * jnp.maximum(_side_length(room, side) - width, 0)
    wall = _side_pose(room, side, along, jnp.broadcast_to(depth / 2 + 0.02, grid))
    free = room[..., :2] + draws.between(0.2, 0.8, *grid, 2) * (room[..., 2:] - room[..., :2])
    is_free = (rows(_TABLES.place, kind) == FREE)[:, None]
    center = jnp.where(is_free[..., None], free, wall)
    turn = side * (jnp.pi / 2) + draws.between(-0.35, 0.35, *grid) * is_free
    cos, sin = jnp.abs(jnp.cos(turn)), jnp.abs(jnp.sin(turn))
    half = 0.5 * jnp.stack([cos * width + sin * depth, sin * width + cos * depth], axis=-1)
    rect = jnp.concatenate([center - half, center + half], axis=-1)
    inside = (rect[..., :2] >= room[..., :2] - 1e-3) & (rect[..., 2:] <= room[..., 2:] + 1e-3)
    return center, turn, rect, inside.all(axis=-1)


def _kinds(draws, plan, options, count, usual, fitted):
    """Classes ``[count]`` drawn from ``usual``, in some rooms half of them from ``fitted``."""
    kinds = rows(usual, draws.choice(_TABLES.weight[usual], count))
    if not options.fitted:
        return kinds
    others = rows(fitted, draws.choice(_TABLES.weight[fitted], count))
    return jnp.where(plan.fitted & draws.chance(_FITTED_SHARE, count), others, kinds)


def place_floor(draws: Draws, plan: Plan, block: Float[Array, "4"], options: Options) -> Placed:
    """Pieces on the floor, each at the first of some random poses that is free."""
    area = plan.size[0] * plan.size[1]
    wanted = jnp.clip(area * draws.between(*options.density), 4, FLOOR_SLOTS)
    kinds = _kinds(draws, plan, options, FLOOR_SLOTS, _KINDS_FLOOR, _FITTED_FLOOR)
    bounds = rows(_TABLES.size, kinds)
    sizes = draws.between(bounds[:, 0], bounds[:, 1], FLOOR_SLOTS, 3)
    sizes = sizes.at[:, 2].min(plan.size[2] - 0.1)
    blocked = jnp.concatenate([_keep_clear(plan), block[None]])
    taken = jnp.concatenate([blocked, jnp.full((FLOOR_SLOTS, 4), -9.0)])

    def step(taken, slot):
        index, kind, size, center, turn, rect, inside = slot
        ok = inside & ~_overlaps(rect, taken[None], 0.06).any(axis=-1)
        best = jnp.argmax(ok)
        active = ok[best] & (index < wanted)
        rect = jnp.where(active, rect[best], -9.0)
        taken = taken.at[len(blocked) + index].set(rect)
        base = jnp.concatenate([center[best], jnp.zeros(1)])
        return taken, Placed(kind, size, base, turn[best], rect, active)

    slots = (jnp.arange(FLOOR_SLOTS), kinds, sizes, *_candidates(draws, kinds, sizes, plan))
    return jax.lax.scan(step, taken, slots)[1]


def place_hung(draws: Draws, plan: Plan, options: Options) -> Placed:
    """Two pieces on each wall of each room: pictures, windows, doors, shelves, cabinets."""
    n = HUNG_SLOTS
    index = jnp.arange(n)
    room_id, side, part = index // 8, (index // 2) % 4, index % 2
    kind = _kinds(draws, plan, options, n, _KINDS_HUNG, _FITTED_HUNG)
    bounds, base = rows(_TABLES.size, kind), rows(_TABLES.base_m, kind)
    size = draws.between(bounds[:, 0], bounds[:, 1], n, 3)
    room = plan.rooms[room_id]
    length = _side_length(room, side)
    margin = size[:, 0] / 2 + 0.1
    start = length * part / 2
    fits = length / 2 > 2 * margin
    along = start + draws.between(margin, jnp.maximum(length / 2 - margin, margin), n)
    center = _side_pose(room, side, along, size[:, 1] / 2)
    z = jnp.minimum(draws.between(base[:, 0], base[:, 1], n), plan.size[2] - size[:, 2] - 0.1)
    rect = jnp.concatenate([center - margin[:, None], center + margin[:, None]], axis=-1)
    clash = _overlaps(rect, _keep_clear(plan)[None], 0.0).any(axis=-1)
    tolerance = 1e-3
    edge = jnp.stack([room[:, 1], room[:, 2], room[:, 3], room[:, 0]], axis=-1)
    outer = jnp.stack([jnp.zeros(()), plan.size[0], plan.size[1], jnp.zeros(())])
    at_shell = jnp.abs(edge - outer[None]) < tolerance
    outside = jnp.take_along_axis(at_shell, side[:, None], axis=-1)[:, 0]
    names = list(catalog.PIECES)
    opening = (kind == names.index("window")) | (kind == names.index("door"))
    active = plan.room_active[room_id] & fits & ~clash & (outside | ~opening)
    active = active & draws.chance(0.75, n)
    where = jnp.concatenate([center, jnp.maximum(z, 0.0)[:, None]], axis=-1)
    return Placed(kind, size, where, side * (jnp.pi / 2), rect, active)
