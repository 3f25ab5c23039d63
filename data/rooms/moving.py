"""Rooms in which a piece of furniture moves while the photographs are taken.

The piece that the views show most slides along the floor at constant speed, the same camera path
passes by. Truth is what each view saw at its own time, so the piece has no one place in the world:
networks that assume a static scene meet what they cannot explain.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer

from data.rooms import catalog
from data.rooms.layout import FLOOR_SLOTS, Options
from data.rooms.render import pixel_owners, render
from data.rooms.sample import scene_intrinsics
from data.rooms.scene import DEFAULT_OPTIONS, FIXED_ROWS, Scene, make_scene, scene_key
from data.rooms.vec import fetch
from data.rooms.walk import CLEARANCE_M, choose_poses
from mvdust3r_jax import pytrees
from mvdust3r_jax.products import exact_products
from mvdust3r_jax.types import AnyArray, Batch, images_from_01

DIRECTIONS = 16
# A camera nearer to the piece than this, in meters, counts as much as half the piece in a wall.
_CROWDED = 0.5


@pytrees.dataclass
class MovingBatch:
    """Views of a room at rest and of the same room with one piece moving, same cameras.

    at_rest, moving: as of `sample_batch`, no render-only views. on_piece: pixels of the moving
    views that show the piece; on_piece_at_rest: those of the views at rest. path_m: how far it
    slides in all, 0 where the views show no furniture.
    """

    at_rest: Batch
    moving: Batch
    on_piece_at_rest: Bool[Array, "B V H W"]
    on_piece: Bool[Array, "B V H W"]
    path_m: Float[Array, " B"]


def piece_of_primitive(scene: Scene) -> Int[Array, " N"]:
    """The floor piece that a primitive is part of, -1 for the shell, lamps and hung pieces."""
    piece = (scene.material_of - FIXED_ROWS) // catalog.MAX_ROLES
    on_floor = (scene.material_of >= FIXED_ROWS) & (piece < FLOOR_SLOTS)
    return jnp.where(on_floor & scene.primitives.active, piece, -1)


def pieces_shown(scene: Scene, owner: Int[Array, "*pixels"]) -> Int[Array, "*pixels"]:
    """The floor piece that pixels show whose primitives are known, -1 for all else."""
    piece = fetch(piece_of_primitive(scene), jnp.maximum(owner, 0))
    return jnp.where(owner >= 0, piece, -1)


def moved(scene: Scene, piece: Int[Array, ""], shift_m: Float[Array, "2"]) -> Scene:
    """The scene with one floor piece shifted along x and y."""
    prims = scene.primitives
    of_piece = (piece_of_primitive(scene) == piece) & (piece >= 0)
    shift = jnp.concatenate([shift_m, jnp.zeros(1)])[None] * of_piece[:, None]
    forward = prims.world_from_local.at[:, :, 3].add(shift)
    back = prims.local_from_world
    back = back.at[:, :, 3].add(-(back[:, :, :3] * shift[:, None, :]).sum(axis=-1))
    return scene.replace(primitives=prims.replace(world_from_local=forward, local_from_world=back))


def _trouble(scene, piece, shift_m, cameras):
    """How badly a shifted piece stands: overlap with others, out of its room, near a camera."""
    rect = scene.furniture[piece]
    at = rect + jnp.concatenate([shift_m, shift_m])
    others = jnp.where(jnp.arange(len(scene.furniture))[:, None] == piece, -9.0, scene.furniture)
    low, high = jnp.maximum(at[None, :2], others[:, :2]), jnp.minimum(at[None, 2:], others[:, 2:])
    overlap = jnp.maximum(high - low, 0.0).prod(axis=-1).sum()
    outside = jnp.maximum(jnp.maximum(-at[:2], at[2:] - scene.size[:2]), 0.0).sum()
    gap = jnp.maximum(at[None, :2] - cameras[:, :2], cameras[:, :2] - at[None, 2:]).max(axis=-1)
    near = jnp.maximum(CLEARANCE_M - gap, 0.0).max()
    return overlap + outside + _CROWDED * (near > 0)


def _choose_path(scene, owner, cameras, path_m):
    """The piece that most pixels show, and the direction in which it gets least in the way."""
    pieces = pieces_shown(scene, owner)
    seen = (pieces.reshape(-1, 1) == jnp.arange(FLOOR_SLOTS)[None]).sum(axis=0)
    piece = jnp.where(seen.max() > 0, jnp.argmax(seen), -1)
    angle = jnp.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    ways = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1) * path_m

    def along(way):
        places = jnp.linspace(-0.5, 0.5, 5)
        return jax.vmap(lambda t: _trouble(scene, piece, t * way, cameras))(places).sum()

    return piece, ways[jnp.argmin(jax.vmap(along)(ways))]


def _sample(seed, num_inputs, height, width, path_m, options):
    scene = make_scene(seed, options)
    intrinsics = scene_intrinsics(scene, height, width)
    key = jax.random.fold_in(scene_key(jnp.asarray(seed, jnp.uint32)), 1)
    wanted = num_inputs, 0, intrinsics, height, width, 1.0
    poses = choose_poses(key, scene, *wanted, options.hand_held)
    owner = pixel_owners(scene, poses, intrinsics, height, width)
    piece, way = _choose_path(scene, owner, poses[:, :3, 3], path_m)
    stacked = jnp.broadcast_to(intrinsics, (num_inputs, 3, 3))

    def piece_of(owner):
        return (pieces_shown(scene, owner) == piece) & (piece >= 0)

    def at_time(given):
        pose, time = given
        now = moved(scene, piece, (time - 0.5) * way)
        view = render(now, pose[None], intrinsics[None], height, width)
        shown = pixel_owners(now, pose[None], intrinsics, height, width)
        return view.images_01[0], view.depth_m[0], piece_of(shown[0])

    times = jnp.linspace(0.0, 1.0, num_inputs)
    images, depth, on_piece = jax.lax.map(at_time, (poses, times))
    rest = render(scene, poses, stacked, height, width)
    return MovingBatch(
        Batch(images_from_01(rest.images_01), rest.depth_m, poses, stacked),
        Batch(images_from_01(images), depth, poses, stacked),
        piece_of(owner),
        on_piece,
        jnp.where(piece >= 0, path_m, 0.0),
    )


@partial(jax.jit, static_argnames=("num_inputs", "height", "width", "options"))
@exact_products
def moving_batch(
    seeds: Integer[AnyArray, " B"],
    num_inputs: int,
    height: int,
    width: int,
    *,
    path_m: float = 1.0,
    options: Options = DEFAULT_OPTIONS,
) -> MovingBatch:
    """Rooms of the given seeds with a piece that slides ``path_m`` from the first to the last view.

    The rooms at rest and their cameras are those of `sample_batch`.
    """

    def one(seed):
        return _sample(seed, num_inputs, height, width, path_m, options)

    return jax.lax.map(one, jnp.asarray(seeds).astype(jnp.uint32))
