"""Views of a room: color, metric depth and normals for given cameras.

Cameras are OpenCV (x right, y down, z forward), pixel centers are integers, depth is measured
along z. The image is cast in square tiles, and only primitives that reach into a tile are tested.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from data.rooms.light import expose, light_maps, shade
from data.rooms.primitives import (
    NUM_BOXES,
    NUM_CYLINDERS,
    SHELL,
    cast,
    shell_exit,
    visible,
)
from data.rooms.scene import Scene
from data.rooms.textures import albedo
from data.rooms.vec import along, dot, fetch, fetch_columns, scaled, split, unit, where
from mvdust3r_jax import pytrees

# Views are rendered in groups of about this many pixels.
VIEW_PIXELS = 128 * 128


@pytrees.dataclass
class RoomViews:
    """Rendered views. normals: unit, world frame, toward the camera."""

    images_01: Float[Array, "C H W 3"]
    depth_m: Float[Array, "C H W"]
    normals: Float[Array, "C H W 3"]


def tile_size(height: int, width: int) -> int:
    """Tiles of 16 pixels for small images, 28 or 32 for large ones."""
    return 16 if max(height, width) <= 128 else 28 if height % 28 == 0 else 32


def _split(height, width, tile):
    """Pixel coordinates ``[K, P]`` of all tiles (the last ones may reach over the border)."""
    rows, columns = -(-height // tile), -(-width // tile)
    inner = jnp.arange(tile, dtype=jnp.float32)
    v = (jnp.arange(rows) * tile).reshape(-1, 1, 1, 1) + inner.reshape(1, 1, -1, 1)
    u = (jnp.arange(columns) * tile).reshape(1, -1, 1, 1) + inner.reshape(1, 1, 1, -1)
    shape = (rows, columns, tile, tile)
    grid = [jnp.broadcast_to(a, shape).reshape(rows * columns, tile * tile) for a in (u, v)]
    return grid, rows, columns


def _join(blocks, rows, columns, tile, height, width):
    """Inverse of ``_split`` for ``[C, K, P, ...]``."""
    lead, rest = blocks.shape[0], blocks.shape[3:]
    grid = blocks.reshape(lead, rows, columns, tile, tile, *rest)
    image = jnp.moveaxis(grid, 3, 2).reshape(lead, rows * tile, columns * tile, *rest)
    return image[:, :height, :width]


def _planes(origin, corners):
    """Planes through the camera that bound a tile, from its corner directions ``[K, 4, 3]``."""
    normals = jnp.cross(corners, jnp.roll(corners, -1, axis=1))
    middle = corners.mean(axis=1, keepdims=True)
    side = jnp.sign((normals * middle).sum(-1, keepdims=True))
    normals = normals * side
    return jnp.concatenate([normals, -(normals @ origin)[..., None]], axis=-1)


def _rays(world_from_cam, intrinsics, u, v):
    """World directions with z-depth 1 per pixel ``[..., 3]``."""
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1]
    r = world_from_cam[:3, :3]
    return jnp.stack([x * r[i, 0] + y * r[i, 1] + r[i, 2] for i in range(3)], axis=-1)


def _cast_view(scene, world_from_cam, intrinsics, u, v, tile):
    """Directions ``[K, P, 3]``, depth and primitive of every pixel of one view."""
    origin = world_from_cam[:3, 3]
    dirs = _rays(world_from_cam, intrinsics, u, v)
    low_u, low_v = u[:, 0] - 0.5, v[:, 0] - 0.5
    cu = low_u[:, None] + jnp.array([[0, tile, tile, 0]], jnp.float32)
    cv = low_v[:, None] + jnp.array([[0, 0, tile, tile]], jnp.float32)
    planes = _planes(origin, _rays(world_from_cam, intrinsics, cu, cv))
    candidates = visible(scene.primitives, planes)
    origins = jnp.broadcast_to(origin, (len(dirs), 3))
    limit = shell_exit(jnp.zeros(3), scene.size, origins, dirs)
    return dirs, *cast(scene.primitives, origins, dirs, candidates, limit)


def _shell_surface(points, dirs, size):
    """Material row, inward normal and surface coordinates where rays leave the shell."""
    gaps = [
        jnp.abs(p - jnp.where(d >= 0, size[i], 0.0))
        for i, (p, d) in enumerate(zip(points, dirs, strict=True))
    ]
    on_x = (gaps[0] <= gaps[1]) & (gaps[0] <= gaps[2])
    on_y = ~on_x & (gaps[1] <= gaps[2])
    axis = jnp.where(on_x, 0, jnp.where(on_y, 1, 2))
    normal = tuple(jnp.where(axis == i, -jnp.sign(dirs[i]), 0.0) for i in range(3))
    # Material rows: walls at y0, x1, y1, x0, then floor and ceiling.
    rows = [jnp.where(d > 0, *pair) for d, pair in zip(dirs, ((1, 3), (2, 0), (5, 4)), strict=True)]
    row = jnp.where(on_x, rows[0], jnp.where(on_y, rows[1], rows[2]))
    return row, normal, *_face_coordinates(points, axis)


def _face_coordinates(q, axis):
    """The two coordinates across ``axis``: (y, z), (x, z) or (x, y)."""
    return jnp.where(axis == 0, q[1], q[0]), jnp.where(axis == 2, q[1], q[2])


def _primitive_surface(prims, owner, points):
    """Normal, surface coordinates in meters and face number on primitives."""
    entries = prims.local_from_world
    inverse = [tuple(fetch(entries[:, i, j], owner) for j in range(4)) for i in range(3)]
    local = tuple(dot(row[:3], points) + row[3] for row in inverse)
    half_table = jnp.sqrt((prims.world_from_local[:, :, :3] ** 2).sum(axis=1))
    half = fetch_columns(half_table, owner)
    is_box = owner < NUM_BOXES
    is_cylinder = ~is_box & (owner < NUM_BOXES + NUM_CYLINDERS)
    x, y, z = (jnp.abs(c) for c in local)
    cap = is_cylinder & (z * z >= x * x + y * y)
    box_axis = jnp.where((x >= y) & (x >= z), 0, jnp.where(y >= z, 1, 2))
    axis = jnp.where(cap, 2, box_axis)
    flat = is_box | cap
    side = (local[0], local[1], jnp.where(is_cylinder, 0.0, local[2]))
    gradient = tuple(jnp.where(flat, jnp.sign(local[i]) * (axis == i), side[i]) for i in range(3))
    normal = unit(tuple(dot(gradient, tuple(row[j] for row in inverse)) for j in range(3)))
    metric = tuple(c * h for c, h in zip(local, half, strict=True))
    u, v = _face_coordinates(metric, axis)
    around = jnp.arctan2(local[1], local[0]) * jnp.maximum(half[0], half[1])
    u, v = jnp.where(flat, u, around), jnp.where(flat, v, metric[2])
    positive = sum(gradient) > 0
    face = owner * 6 + jnp.where(flat, 2 * axis + positive, 0)
    return normal, u, v, face


def _shade_view(scene, maps, origin, dirs, depth, owner, pixel_angle):
    """Radiance and normals (component-first) of the pixels ``[K, P]`` of one view."""
    dirs = split(dirs)
    points = along(split(origin), dirs, depth)
    row, normal, u, v = _shell_surface(points, dirs, scene.size)
    on_shell = owner == SHELL
    index = jnp.maximum(owner, 0)
    normal_p, u_p, v_p, face = _primitive_surface(scene.primitives, index, points)
    normal = where(on_shell, normal, normal_p)
    u, v = jnp.where(on_shell, u, u_p), jnp.where(on_shell, v, v_p)
    face = jnp.where(on_shell, row, face + 8)
    row = jnp.where(on_shell, row, fetch(scene.material_of, index))
    material = fetch_columns(scene.materials, row)
    views = scaled(unit(dirs), -1.0)
    slant = jnp.maximum(jnp.abs(dot(normal, views)), 0.15)
    footprint = depth * pixel_angle / slant
    color = albedo(u, v, material, footprint, face)
    return shade(scene, maps, points, normal, views, owner, color, material), normal


def render(
    scene: Scene,
    world_from_cam: Float[Array, "C 4 4"],
    intrinsics: Float[Array, "C 3 3"],
    height: int,
    width: int,
) -> RoomViews:
    """Color in [0, 1], z-depth in meters (exact at pixel centers) and normals of C views."""
    tile = tile_size(height, width)
    (u, v), rows, columns = _split(height, width, tile)
    maps = light_maps(scene, shadow_size(height))
    together = max(1, VIEW_PIXELS // (height * width))

    def one(camera):
        pose, k = camera
        dirs, depth, owner = _cast_view(scene, pose, k, u, v, tile)
        angle = 1.0 / k[0, 0]
        return depth, *_shade_view(scene, maps, pose[:3, 3], dirs, depth, owner, angle)

    # A loop over views rather than a vmap: its results are stored once, where a compiler that
    # fuses the steps below into the shading would shade each pixel several times.
    depth, radiance, normal = jax.lax.map(one, (world_from_cam, intrinsics), batch_size=together)
    join = partial(_join, rows=rows, columns=columns, tile=tile, height=height, width=width)
    radiance, normal = (jnp.stack([join(a) for a in x], axis=-1) for x in (radiance, normal))
    return RoomViews(expose(radiance, scene.exposure), join(depth), normal)


def pixel_owners(
    scene: Scene,
    world_from_cam: Float[Array, "C 4 4"],
    intrinsics: Float[Array, "3 3"],
    height: int,
    width: int,
) -> Int[Array, "C H W"]:
    """The primitive that each pixel shows, `SHELL` for walls, floor and ceiling."""
    tile = tile_size(height, width)
    (u, v), rows, columns = _split(height, width, tile)
    owner = jax.lax.map(
        lambda pose: _cast_view(scene, pose, intrinsics, u, v, tile)[2], world_from_cam
    )
    return _join(owner, rows, columns, tile, height, width)


def shadow_size(height: int) -> int:
    """Side of the shadow maps for an image height: finer images get finer shadows."""
    return 64 if height <= 96 else 128 if height <= 160 else 192


def first_hit(scene: Scene, origins: Float[Array, "K 3"], dirs: Float[Array, "K P 3"]):
    """Factor on each direction at the first surface and its primitive, without culling."""
    limit = shell_exit(jnp.zeros(3), scene.size, origins, dirs)
    everyone = jnp.broadcast_to(scene.primitives.active, (len(origins), len(scene.material_of)))
    return cast(scene.primitives, origins, dirs, everyone, limit)
