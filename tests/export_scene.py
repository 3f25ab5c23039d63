"""An exact scene for the tests of exporters and viewer: a textured box room, seen by a few cameras.

Depth is the analytic distance to the walls, so every camera, point and reprojection is exact.
"""

import numpy as np

from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.types import Gaussians

HALF = np.array([2.0, 1.4, 3.0])


def _pose(angle_deg, center):
    a = np.deg2rad(angle_deg)
    rotation = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, center
    return pose


def _walls(origin, directions):
    """Distance along each ray (in units of its direction) to the box around it."""
    with np.errstate(divide="ignore"):
        return (np.where(directions > 0, HALF, -HALF) - origin) / directions


def _paint(points):
    """Checkerboard tinted by position, in [0, 1]."""
    checks = (np.floor(points * 2.5 + 1e-6).astype(int).sum(axis=-1) % 2)[..., None]
    tint = 0.5 + 0.5 * points / HALF / 1.01
    return np.clip(0.25 + 0.5 * tint * (0.5 + 0.5 * checks), 0, 1)


def box_room(num_views=3, height=32, width=48, scale=3, with_gaussians=True, sh_degree=0):
    """A ``Scene`` of ``num_views`` exact views; originals are ``scale`` times as large, cropped.

    The world is view 0's camera frame. The network image is a resize (1/scale) of the original
    without a border of ``6 * scale`` columns on the left.
    """
    rng = np.random.default_rng(0)
    focal = 0.9 * width
    k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    room_from_cam = np.stack(
        [_pose(9.0 * i - 8, [0.25 * i - 0.3, 0.05 * i, -1.2 + 0.1 * i]) for i in range(num_views)]
    )
    v, u = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    rays = np.stack([(u - k[0, 2]) / focal, (v - k[1, 2]) / focal, np.ones_like(u, float)], -1)
    directions = np.einsum("vij,hwj->vhwi", room_from_cam[:, :3, :3], rays)
    origins = room_from_cam[:, None, None, :3, 3]
    depth = _walls(origins, directions).min(axis=-1)
    room_points = origins + depth[..., None] * directions
    world_from_room = np.linalg.inv(room_from_cam[0])
    points = room_points @ world_from_room[:3, :3].T + world_from_room[:3, 3]
    # A pixel center u of the crop lies at scale * (u + 0.5) - 0.5 + border in the original.
    original = np.diag([scale, scale, 1.0]) @ k
    original[:2, 2] += 0.5 * scale - 0.5
    original[0, 2] += 6 * scale
    shape = (num_views, height, width)
    gaussians = None
    if with_gaussians:
        factor = 3 * (sh_degree + 1) ** 2
        gaussians = Gaussians(
            colors=rng.normal(0, 0.3, (*shape, factor)).astype(np.float32),
            opacities=rng.uniform(0.3, 0.99, shape).astype(np.float32),
            scales=rng.uniform(-0.001, 0.02, (*shape, 3)).astype(np.float32),
            rotations=_unit(rng.normal(size=(*shape, 4))).astype(np.float32),
        )
    return Scene(
        images_01=_paint(room_points).astype(np.float32),
        points=points.astype(np.float32),
        confidence=(1 + 9 * rng.uniform(size=shape)).astype(np.float32),
        gaussians=gaussians,
        world_from_cam=(world_from_room @ room_from_cam).astype(np.float32),
        pose_ok=np.ones(num_views, bool),
        intrinsics=np.repeat(k[None].astype(np.float32), num_views, 0),
        original_intrinsics=np.repeat(original[None].astype(np.float32), num_views, 0),
        original_sizes=np.tile([height * scale, (width + 6) * scale], (num_views, 1)),
        names=[f"view {i}.jpg" for i in range(num_views)],
        masks=np.ones(shape, bool),
        timings={"network": 1.25, "poses": 0.5},
    )


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
