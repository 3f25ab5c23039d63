"""Views of a room: colour, metric depth and normals for given cameras.

Cameras are OpenCV (x right, y down, z forward), pixel centres are integers, depth is measured
along z. The image is cast in square tiles, and only primitives that reach into a tile are tested.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from data.rooms.light import expose, light_maps, shade
from data.rooms.primitives import (
    NUM_BOXES,
    NUM_CYLINDERS,
    SHELL,
    cast,
    guard,
    shell_exit,
    visible,
)
from data.rooms.scene import Scene
from data.rooms.textures import albedo


@struct.dataclass
class RoomViews:
    """Rendered views. normals: unit, world frame, towards the camera."""

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
    """Face, inward normal and surface coordinates where rays leave the shell."""
    target = jnp.where(dirs > 0, size.reshape(1, 1, 3), 0.0)
    axis = jnp.argmin(jnp.abs(points - target), axis=-1)
    positive = jnp.take_along_axis(dirs, axis[..., None], axis=-1)[..., 0] > 0
    normal = -jax.nn.one_hot(axis, 3) * jnp.where(positive, 1.0, -1.0)[..., None]
    # Material rows: y0, x1, y1, x0, floor, ceiling.
    row = jnp.where(axis == 0, jnp.where(positive, 1, 3), jnp.where(positive, 2, 0))
    row = jnp.where(axis == 2, jnp.where(positive, 5, 4), row)
    return row, normal, _face_coordinates(points, axis)


def _face_coordinates(q, axis):
    """The two coordinates across ``axis``: (y, z), (x, z) or (x, y)."""
    u = jnp.where(axis == 0, q[..., 1], q[..., 0])
    v = jnp.where(axis == 2, q[..., 1], q[..., 2])
    return jnp.stack([u, v], axis=-1)


def _primitive_surface(prims, owner, points):
    """Normal, surface coordinates in metres and face number on primitives."""
    forward = jnp.take(prims.world_from_local, owner, axis=0)
    backward = jnp.take(prims.local_from_world, owner, axis=0)
    local = jnp.einsum("...ij,...j->...i", backward[..., :3], points) + backward[..., 3]
    half = jnp.sqrt((forward[..., :3] ** 2).sum(axis=-2))
    is_box = owner < NUM_BOXES
    is_cylinder = (owner >= NUM_BOXES) & (owner < NUM_BOXES + NUM_CYLINDERS)
    x, y, z = local[..., 0], local[..., 1], local[..., 2]
    box_axis = jnp.argmax(jnp.abs(local), axis=-1)
    cap = is_cylinder & (jnp.abs(z) >= jnp.sqrt(x * x + y * y))
    flat = is_box | cap
    axis = jnp.where(cap, 2, box_axis)
    hot = jax.nn.one_hot(axis, 3) * jnp.sign(local)
    side = jnp.stack([x, y, jnp.where(is_cylinder, 0.0, z)], axis=-1)
    gradient = jnp.where(flat[..., None], hot, side)
    normal = jnp.einsum("...ij,...i->...j", backward[..., :3], gradient)
    normal = normal / jnp.sqrt((normal**2).sum(-1, keepdims=True) + 1e-20)
    metric = local * half
    around = jnp.arctan2(y, x) * jnp.maximum(half[..., 0], half[..., 1])
    curved = jnp.stack([around, metric[..., 2]], axis=-1)
    uv = jnp.where(flat[..., None], _face_coordinates(metric, axis), curved)
    face = owner * 6 + jnp.where(flat, 2 * axis + (jnp.sum(hot, axis=-1) > 0), 0)
    return normal, uv, face


def _shade_view(scene, maps, origin, dirs, depth, owner, pixel_angle):
    """Radiance and normals of the pixels ``[K, P]`` of one view."""
    points = origin + dirs * depth[..., None]
    row, normal, uv = _shell_surface(points, dirs, scene.size)
    on_shell = owner == SHELL
    index = jnp.maximum(owner, 0)
    normal_p, uv_p, face = _primitive_surface(scene.primitives, index, points)
    normal = jnp.where(on_shell[..., None], normal, normal_p)
    uv = jnp.where(on_shell[..., None], uv, uv_p)
    row_p = jnp.take(scene.material_of, index)
    row, face = jnp.where(on_shell, row, row_p), jnp.where(on_shell, row, face + 8)
    material = jnp.take(scene.materials, row, axis=0)
    length = jnp.sqrt((dirs**2).sum(-1, keepdims=True))
    views = -dirs / length
    slant = jnp.maximum(jnp.abs((normal * views).sum(-1)), 0.15)
    footprint = depth * pixel_angle / slant
    colour = albedo(uv, material, footprint, face)
    return shade(scene, maps, points, normal, views, owner, colour, material), normal


def render(
    scene: Scene,
    world_from_cam: Float[Array, "C 4 4"],
    intrinsics: Float[Array, "C 3 3"],
    height: int,
    width: int,
) -> RoomViews:
    """Colour in [0, 1], z-depth in metres (exact at pixel centres) and normals of C views."""
    tile = tile_size(height, width)
    (u, v), rows, columns = _split(height, width, tile)
    maps = light_maps(scene, shadow_size(height))

    def one(pose, k):
        dirs, depth, owner = _cast_view(scene, pose, k, u, v, tile)
        angle = 1.0 / k[0, 0]
        radiance, normal = _shade_view(
            scene, maps, pose[:3, 3].reshape(1, 1, 3), dirs, depth, owner, angle
        )
        return radiance, depth, normal

    radiance, depth, normal = jax.vmap(one)(world_from_cam, intrinsics)
    radiance, depth, normal = (
        _join(a, rows, columns, tile, height, width) for a in (radiance, depth, normal)
    )
    return RoomViews(expose(radiance, scene.exposure), depth, normal)


def shadow_size(height: int) -> int:
    """Side of the shadow maps for an image height: finer images get finer shadows."""
    return 64 if height <= 96 else 128 if height <= 160 else 192


def cast_depth(scene: Scene, origins: Float[Array, "K 3"], dirs: Float[Array, "K P 3"]):
    """Factor on each direction at the first surface, without culling: for probes and tests."""
    limit = shell_exit(jnp.zeros(3), scene.size, origins, dirs)
    everyone = jnp.broadcast_to(scene.primitives.active, (len(origins), len(scene.material_of)))
    return cast(scene.primitives, origins, dirs, everyone, limit)[0]


__all__ = ["RoomViews", "cast_depth", "guard", "render", "shadow_size", "tile_size"]
