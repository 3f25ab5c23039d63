"""Camera paths for videos: an orbit in front of the scene, and a flight through the input cameras.

Poses are ``world_from_cam`` [n, 4, 4] in float64, OpenCV axes. Both paths are smooth and made of
the scene's own cameras: photographs taken from inside a room show nothing of its outside, so a
path never goes far from where a photograph was taken.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.export.posed_views import (
    depth_maps,
    posed_views,
    quat_from_rotation,
    rotation_matrices,
    usable_pixels,
)
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Radius of the orbit, as a share of the distance to the point that it looks at.
ORBIT_RADIUS = 0.2
# Quaternions nearer than this (cosine) are blended linearly: slerp divides by the angle's sine.
_NEARLY_PARALLEL = 0.9999


def orbit(
    scene: SceneArrays, num_frames: int, view: int | None = None
) -> Float[np.ndarray, "n 4 4"]:
    """A closed ellipse centered on one camera, looking at a fixed point in front of it.

    view: whose camera (default: the first with a pose). The point lies on its optical axis at
    the median depth of its pixels; the vertical radius is half of the horizontal one.
    """
    views = posed_views(scene)
    if not views.size:
        raise ValueError("no view of this scene has a pose: there is nothing to orbit")
    view = int(views[0]) if view is None else view
    start = np.asarray(scene.world_from_cam[view], np.float64)
    depth = depth_maps(scene)[view][usable_pixels(scene)[view]]
    ahead = depth[depth > 0]
    distance = float(np.median(ahead)) if ahead.size else 1.0
    target = start[:3, 3] + distance * start[:3, 2]
    angle = np.linspace(0, 2 * np.pi, num_frames, endpoint=False)[:, None]
    offset = np.cos(angle) * start[:3, 0] + 0.5 * np.sin(angle) * start[:3, 1]
    centers = start[:3, 3] + ORBIT_RADIUS * distance * offset
    return look_at(centers, target, down=start[:3, 1])


def look_at(
    centers: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "3"],
    down: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "n 4 4"]:
    """Poses at ``centers`` whose z axis points to ``target``, y axis nearly ``down``."""
    forward = _unit(target - centers)
    right = _unit(np.cross(np.broadcast_to(down, forward.shape), forward))
    poses = np.tile(np.eye(4), (len(centers), 1, 1))
    poses[:, :3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
    poses[:, :3, 3] = centers
    return poses


def fly_through(scene: SceneArrays, frames_per_view: int) -> Float[np.ndarray, "n 4 4"]:
    """Through all cameras in input order: a Catmull-Rom spline, rotations blended on the sphere.

    ``frames_per_view * (n - 1) + 1`` poses for n cameras; camera i is frame
    ``i * frames_per_view`` exactly.
    """
    cameras = np.asarray(scene.world_from_cam, np.float64)[posed_views(scene)]
    if not len(cameras):
        raise ValueError("no view of this scene has a pose: there is nothing to fly through")
    return through(cameras, np.arange(frames_per_view * (len(cameras) - 1) + 1) / frames_per_view)


def through(
    cameras: Float[np.ndarray, "m 4 4"], steps: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 4 4"]:
    """Poses at ``steps`` of a path through the cameras, the first of which is 0, the last m - 1."""
    segment = np.minimum(steps.astype(int), max(len(cameras) - 2, 0))
    blend = (steps - segment)[:, None]
    quats = quat_from_rotation(cameras[:, :3, :3])
    following = np.minimum(segment + 1, len(cameras) - 1)
    poses = np.tile(np.eye(4), (len(steps), 1, 1))
    poses[:, :3, :3] = rotation_matrices(slerp(quats[segment], quats[following], blend))
    poses[:, :3, 3] = _catmull_rom(cameras[:, :3, 3], segment, blend)
    return poses


def slerp(first: np.ndarray, second: np.ndarray, blend: np.ndarray) -> np.ndarray:
    """Unit quaternions [n, 4] the share ``blend`` [n, 1] of the short way from first to second."""
    cosine = np.sum(first * second, axis=-1, keepdims=True)
    second = np.where(cosine < 0, -second, second)
    cosine = np.abs(cosine)
    angle = np.arccos(np.clip(cosine, 0, _NEARLY_PARALLEL))
    near = cosine > _NEARLY_PARALLEL
    weight_1 = np.where(near, 1 - blend, np.sin((1 - blend) * angle) / np.sin(angle))
    weight_2 = np.where(near, blend, np.sin(blend * angle) / np.sin(angle))
    return _unit(weight_1 * first + weight_2 * second)


def _catmull_rom(knots: np.ndarray, segment: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Cubic through all knots [n, 3]; at the ends the knots are repeated."""
    padded = np.concatenate([knots[:1], knots, knots[-1:], knots[-1:]])
    p0, p1, p2, p3 = (padded[segment + i] for i in range(4))
    linear, square, cube = p2 - p0, 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * (p1 - p2) + p3 - p0
    return p1 + 0.5 * t * (linear + t * (square + t * cube))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
