"""One furnished interior from one integer: geometry, materials and lights in fixed-size arrays.

``ROOMS_VERSION`` names the mapping from seeds to scenes; it changes whenever the same seed would
give another picture. Training, validation and test rooms come from disjoint ranges of seeds.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from data.rooms import catalog, layout
from data.rooms.draws import Draws, rows
from data.rooms.materials import (
    FLOOR_CLASSES,
    FLOOR_WEIGHTS,
    WALL_CLASSES,
    WALL_WEIGHTS,
    class_index,
    material_bounds,
)
from data.rooms.options import Options
from data.rooms.pieces import BOX, CYLINDER, SPHERE
from data.rooms.primitives import (
    NUM_BOXES,
    NUM_CYLINDERS,
    NUM_SPHERES,
    Primitives,
)
from data.rooms.textures import Field, hsv_to_rgb
from mvdust3r_jax import pytrees

ROOMS_VERSION = "1.6.0"
# Half-open ranges of seeds; every seed is below 2^32.
SPLITS = {
    "train": (0, 3_000_000_000),
    "validation": (3_000_000_000, 3_500_000_000),
    "test": (3_500_000_000, 4_000_000_000),
}
DEFAULT_OPTIONS = Options()
_TABLES = catalog.piece_tables()
_BOUNDS = material_bounds()
# Material rows: four walls, floor, ceiling; dividing wall, casing, block, beams, lamp cord, lamp
# shade, three rugs; then MAX_ROLES rows for each piece.
FIXED_ROWS = 15
# Random numbers of one scene (a bound, most of them for materials).
_NUMBERS = 16_384
_PIECES = layout.FLOOR_SLOTS + layout.HUNG_SLOTS


@pytrees.dataclass
class Scene:
    """Everything that is rendered. Colors are linear light.

    material_of: row of ``materials`` per primitive; rows 0-5 are the shell (walls at y0, x1, y1,
    x0, then floor and ceiling). rooms: floor rectangles. furniture: footprints, -9 where unused.
    """

    primitives: Primitives
    material_of: Int[Array, " N"]
    materials: Float[Array, "rows M"]
    size: Float[Array, "3"]
    rooms: Float[Array, "R 4"]
    room_active: Bool[Array, " R"]
    furniture: Float[Array, "F 4"]
    light_position: Float[Array, "L 3"]
    light_color: Float[Array, "L 3"]
    ambient: Float[Array, "3"]
    exposure: Float[Array, ""]
    fov_deg: Float[Array, ""]


def scene_key(seed: Integer[Array, ""]) -> jax.Array:
    """The random key of a seed; the version is part of it."""
    return jax.random.fold_in(jax.random.key(seed), hash_version(ROOMS_VERSION))


def hash_version(version: str) -> int:
    """A small number from a version ``major.minor.patch``."""
    major, minor, patch = (int(part) for part in version.split("."))
    return (major * 1000 + minor) * 1000 + patch


def _rotation(turn, tilt):
    """Rotation about z by ``turn`` after one about x by ``tilt``."""
    c, s, ct, st = jnp.cos(turn), jnp.sin(turn), jnp.cos(tilt), jnp.sin(tilt)
    zero = jnp.zeros_like(c * ct)
    rows = [[c + zero, -s * ct, s * st], [s + zero, c * ct, -c * st], [zero, st + zero, ct + zero]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def _assemble(draws, placed):
    """Parts of all pieces ``[F, P]``: world_from_local, shape, role, existence."""
    kind = placed.kind
    shape, role = rows(_TABLES.shape, kind), rows(_TABLES.role, kind)
    at, at_m, half, half_m = jnp.moveaxis(rows(_TABLES.geometry, kind), 2, 0)
    jitter = rows(_TABLES.jitter, kind)
    grid = shape.shape
    size = placed.size[:, None]
    shift = draws.between(-1.0, 1.0, *grid, 2) * jitter[..., :2]
    at = at.at[..., :2].add(shift)
    center, half = at * size + at_m, half * size + half_m
    angles = draws.between(-1.0, 1.0, *grid, 2) * jitter[..., 2:]
    turned = _rotation(placed.turn, jnp.zeros_like(placed.turn))[:, None]
    axes = turned @ _rotation(angles[..., 0], angles[..., 1])
    world = jnp.einsum("fpij,fpj->fpi", jnp.broadcast_to(turned, axes.shape), center)
    world = world + placed.base[:, None]
    half = jnp.maximum(half, 0.002)
    matrix = jnp.concatenate([axes * half[..., None, :], world[..., None]], axis=-1)
    exists = draws.unit(*grid) < rows(_TABLES.chance, kind)
    return matrix, shape, role, exists & placed.active[:, None]


def draw_palette(draws: Draws) -> Float[Array, "4"]:
    """Four hues that a room's free colors keep to: mostly warm ones and blues."""
    low, high = jnp.array([0.03, 0.53, 0.22, 0.0]), jnp.array([0.14, 0.66, 0.42, 1.0])
    kind = draws.choice((0.42, 0.3, 0.14, 0.14), 4)
    return draws.between(low[kind], high[kind], 4)


def draw_materials(
    draws: Draws, classes: Int[Array, "rows"], palette: Float[Array, "4"]
) -> Float[Array, "rows M"]:
    """One material per row within the bounds of its class, colors in linear light.

    Classes of any hue take one of the palette, and are more often pale than strong.
    """
    bounds = rows(_BOUNDS, classes)
    count = len(classes)
    m = draws.between(bounds[:, 0], bounds[:, 1], count, bounds.shape[-1])
    free = bounds[:, 1, 0] - bounds[:, 0, 0] >= 1
    chosen = palette[draws.whole(len(palette), count)] + draws.between(-0.03, 0.03, count)
    low, high = bounds[:, 0, 1], bounds[:, 1, 1]
    share = (m[:, 1] - low) / jnp.maximum(high - low, 1e-6)
    pale = low + (high - low) * share**1.7
    hue, saturation = jnp.where(free, chosen, m[:, 0]), jnp.where(free, pale, m[:, 1])
    base = jnp.stack([hue, saturation, m[:, 2]], axis=-1)
    related = [
        jnp.stack([base[:, 0] + m[:, i], base[:, 1] * m[:, i + 1], base[:, 2] * m[:, i + 2]], -1)
        for i in (Field.B, Field.C)
    ]
    colors = jnp.stack([base, *related], axis=1)
    rgb = hsv_to_rgb(jnp.concatenate([colors[..., :1], jnp.clip(colors[..., 1:], 0, 1)], -1))
    return jnp.concatenate([rgb.reshape(-1, 9) ** 2.2, m[:, 9:]], axis=-1)


def _choose(draws, names, weights, *shape):
    return rows(np.array([class_index(n) for n in names]), draws.choice(weights, *shape))


def _classes(draws, placed_kinds):
    """Material class of every row."""
    main, accent = _choose(draws, WALL_CLASSES, WALL_WEIGHTS, 2)
    walls = jnp.where(jnp.arange(4) == draws.whole(6), accent, main)
    floor = _choose(draws, FLOOR_CLASSES, FLOOR_WEIGHTS)
    inner = _choose(draws, WALL_CLASSES, WALL_WEIGHTS, 2)
    row = class_index
    fixed = [floor, row("ceiling"), inner[0], row("white"), inner[1], row("wood"), row("metal")]
    fixed += [row("shade")] + [row("carpet")] * layout.MAX_ROOMS
    roles = rows(_TABLES.roles, placed_kinds).reshape(-1)
    return jnp.concatenate([walls, jnp.stack([jnp.asarray(r) for r in fixed]), roles])


def _lights(draws, plan, options):
    """One lamp below each room's ceiling; a single room gets a weaker second light."""
    count, rects = layout.MAX_ROOMS, plan.rooms
    extent = rects[:, 2:] - rects[:, :2]
    spot = (rects[:, :2] + rects[:, 2:]) / 2 + draws.between(-0.15, 0.15, count, 2) * extent
    lamp = jnp.concatenate([spot, plan.size[2] - draws.between(0.25, 0.6, count, 1)], axis=-1)
    corner = rects[0, :2] + extent[0] * draws.between(0.15, 0.85, 2)
    second = jnp.concatenate([corner, draws.between(1.6, 2.0, 1)])
    single = ~plan.room_active[1]
    position = lamp.at[1].set(jnp.where(single, second, lamp[1]))
    reach = jnp.sqrt((extent**2).sum(-1, keepdims=True)) * 0.5
    warm = draws.unit(count, 1)
    tint = jnp.array([[1.0, 0.86, 0.68]]) * warm + jnp.array([[0.92, 0.97, 1.0]]) * (1 - warm)
    power = draws.between(0.7, 1.3, count, 1) * (1.0 + reach**2)
    power = power.at[1].multiply(jnp.where(single, 0.45, 1.0))
    on = plan.room_active.at[1].set(True)[:, None]
    return position, tint * power * on * options.dark, lamp


def _lamp_parts(lamp, height):
    """Cord (cylinder) and shade (ball) of each ceiling lamp as matrices ``[R, 2, 3, 4]``."""
    cord = (height - lamp[:, 2:]) / 2
    cord_center = jnp.concatenate([lamp[:, :2], lamp[:, 2:] + cord], axis=-1)
    half_cord = jnp.concatenate([jnp.full((len(lamp), 2), 0.01), cord], axis=-1)
    half_shade = jnp.broadcast_to(jnp.array([[0.2, 0.2, 0.13]]), half_cord.shape)
    diagonal = jnp.stack([half_cord, half_shade], axis=1)[..., None] * jnp.eye(3).reshape(
        1, 1, 3, 3
    )
    center = jnp.stack([cord_center, lamp], axis=1)
    return jnp.concatenate([diagonal, center[..., None]], axis=-1)


def _pack(matrix, shape, row, exists, casts):
    """Sort all parts into the fixed slots of their shapes; what does not fit is dropped.

    That is the last part on the walls, in 2 of 6,144 rooms of fitted furniture, in none of as many
    others.
    """
    chosen = []
    for code, slots in ((0, NUM_BOXES), (1, NUM_CYLINDERS), (2, NUM_SPHERES)):
        chosen.append(jnp.argsort(~(exists & (shape == code)), stable=True)[:slots])
    index = jnp.concatenate(chosen)
    code = np.repeat(np.arange(3), [NUM_BOXES, NUM_CYLINDERS, NUM_SPHERES])
    active = exists[index] & (shape[index] == code)
    forward = matrix[index]
    axes = forward[:, :, :3]
    inverse = jnp.swapaxes(axes, 1, 2) / (axes**2).sum(axis=1)[:, :, None]
    # Written out: the product of float32 sums must be exact on every backend.
    shift = -(inverse * forward[:, None, :, 3]).sum(axis=-1)
    backward = jnp.concatenate([inverse, shift[..., None]], axis=-1)
    prims = Primitives(forward, backward, active, active & casts[index])
    return prims, row[index]


def make_scene(seed: Integer[Array, ""] | int, options: Options = DEFAULT_OPTIONS) -> Scene:
    """The room of a seed in [0, 2^32). Pure; jit and vmap it over seeds."""
    draws = Draws(scene_key(jnp.asarray(seed, jnp.uint32)), _NUMBERS)
    plan = layout.make_plan(draws, options)
    boxes, box_on, block = layout.structure(draws, plan)
    placed = jax.tree.map(
        lambda *a: jnp.concatenate(a),
        layout.place_floor(draws, plan, block, options),
        layout.place_hung(draws, plan, options),
    )
    matrix, shape, role, exists = _assemble(draws, placed)
    row = FIXED_ROWS + jnp.arange(_PIECES)[:, None] * catalog.MAX_ROLES + role
    position, color, lamp = _lights(draws, plan, options)
    lamps = _lamp_parts(lamp, plan.size[2])
    palette = draw_palette(draws)
    materials = draw_materials(draws, _classes(draws, placed.kind), palette)
    structural = jnp.concatenate(
        [boxes[:, 3:, None] * jnp.eye(3)[None], boxes[:, :3, None]], axis=-1
    )
    box_rows = [6] * 3 + [7] * 3 + [6] * 3 + [7] * 3 + [7] * 4 + [8] + [9] * 3 + [12, 13, 14]
    n_lamp = 2 * layout.MAX_ROOMS
    all_matrix = jnp.concatenate([structural, lamps.reshape(-1, 3, 4), matrix.reshape(-1, 3, 4)])
    lamp_shapes = [CYLINDER, SPHERE] * layout.MAX_ROOMS
    fixed_shapes = jnp.array([BOX] * len(box_rows) + lamp_shapes)
    fixed_rows = jnp.array(box_rows + [10, 11] * layout.MAX_ROOMS)
    all_shape = jnp.concatenate([fixed_shapes, shape.ravel()])
    all_row = jnp.concatenate([fixed_rows, row.ravel()])
    all_exist = jnp.concatenate([box_on, jnp.repeat(plan.room_active, 2), exists.ravel()])
    casts = jnp.ones(len(all_exist), bool).at[len(box_rows) : len(box_rows) + n_lamp].set(False)
    prims, material_of = _pack(all_matrix, all_shape, all_row, all_exist, casts)
    look = draws.unit(4)
    tint = jnp.stack([0.95 + 0.1 * look[1], 1.0, 1.05 - 0.1 * look[1]])
    footprints = jnp.where(placed.active[:, None], placed.rect, -9.0)[: layout.FLOOR_SLOTS]
    return Scene(
        primitives=prims,
        material_of=material_of,
        materials=materials,
        size=plan.size,
        rooms=plan.rooms,
        room_active=plan.room_active,
        furniture=jnp.concatenate([footprints, block[None]]),
        light_position=position,
        light_color=color,
        ambient=(0.25 + 0.35 * look[0]) * options.dark * tint,
        exposure=jnp.exp(0.5 * (look[2] - 0.5)),
        fov_deg=options.fov_deg[0] + (options.fov_deg[1] - options.fov_deg[0]) * look[3],
    )
