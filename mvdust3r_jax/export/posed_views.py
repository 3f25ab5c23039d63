"""Views of a scene: its cameras, depths and usable pixels, as several file formats need them.

World is the camera frame of the reference view (OpenCV axes: x right, y down, z forward) or that of
known poses, which may lie anywhere; units of the points. Pixels: the first pixel's center is (0,
0), at both resolutions; a format that counts from the pixel's corner (COLMAP, nerfstudio) gets +0.5
in its own module. NumPy in float64: files are made on the host, and float32 does not hold 0.01 px
at 6000 px after a chain of products.
"""

from __future__ import annotations

import numpy as np

from mvdust3r_jax.geometry.transforms import rotation_matrices as rotation_matrices
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# A transform of world to a y-up frame that looks along -z, as OpenGL and glTF have it.
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def invert_rigid(a_from_b: np.ndarray) -> np.ndarray:
    """``b_from_a`` in float64 for transforms [..., 4, 4] whose upper 3x3 is a rotation."""
    a_from_b = np.asarray(a_from_b, np.float64)
    b_from_a = np.zeros_like(a_from_b)
    rotation = np.swapaxes(a_from_b[..., :3, :3], -1, -2)
    b_from_a[..., :3, :3] = rotation
    b_from_a[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, a_from_b[..., :3, 3])
    b_from_a[..., 3, 3] = 1
    return b_from_a


def transform(a_from_b: np.ndarray, points_b: np.ndarray) -> np.ndarray:
    """Points [..., 3] moved by one transform [4, 4]; infinite ones become NaN."""
    a_from_b = np.asarray(a_from_b)
    with np.errstate(invalid="ignore"):
        return points_b @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def project(points_cam: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels (u, v) [..., 2] of points [..., 3] by one camera [3, 3]; NaN where z <= 0."""
    z = np.where(points_cam[..., 2] > 0, points_cam[..., 2], np.nan)[..., None]
    focal = np.array([intrinsics[0, 0], intrinsics[1, 1]])
    return points_cam[..., :2] / z * focal + intrinsics[:2, 2]


def usable_pixels(scene: SceneArrays) -> np.ndarray:
    """[V, H, W]: pixels of the scene whose point is finite."""
    finite = np.isfinite(np.asarray(scene.points)).all(axis=-1)
    return np.asarray(scene.masks, bool) & finite


def posed_views(scene: SceneArrays) -> np.ndarray:
    """Indices of the views whose camera is known."""
    finite = np.isfinite(np.asarray(scene.world_from_cam)).all(axis=(-1, -2))
    return np.flatnonzero(np.asarray(scene.pose_ok, bool) & finite)


def reference_center(scene: SceneArrays) -> np.ndarray:
    """[3]: where the reference camera stands, from which training measures distances."""
    center = np.asarray(scene.world_from_cam[scene.reference], np.float64)[:3, 3]
    return center if np.isfinite(center).all() else np.zeros(3)


def reference_distances(scene: SceneArrays) -> np.ndarray:
    """[V, H, W]: of all points to the reference camera's center."""
    offset = np.asarray(scene.points, np.float64) - reference_center(scene)
    return np.linalg.norm(offset, axis=-1)


def down_direction(scene: SceneArrays) -> np.ndarray:
    """[3], unit: y of the reference camera where that is the world, else the mean of all cameras'.

    Known poses do not say which way their world is up, but photographs are seldom upside down.
    """
    down = np.array([0.0, 1.0, 0.0])
    if not scene.world_is_reference:
        mean = np.asarray(scene.world_from_cam, np.float64)[posed_views(scene), :3, 1].sum(axis=0)
        length = np.linalg.norm(mean)
        down = mean / length if length > 0 else down
    return down


def depth_maps(scene: SceneArrays) -> np.ndarray:
    """[V, H, W]: z of each view's own points in its own camera, NaN for views without a pose."""
    points = np.asarray(scene.points, np.float64)
    depth = np.full(points.shape[:-1], np.nan)
    cam_from_world = invert_rigid(scene.world_from_cam)
    for view in posed_views(scene):
        depth[view] = transform(cam_from_world[view], points[view])[..., 2]
    return depth


def view_colors(scene: SceneArrays) -> np.ndarray:
    """[V, H, W, 3]: the images as uint8."""
    return np.round(np.clip(np.asarray(scene.images_01), 0, 1) * 255).astype(np.uint8)


def quat_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions wxyz with w >= 0 of rotations [..., 3, 3].

    They are the dominant eigenvectors of the symmetric 4x4 matrix of Bar-Itzhack (2000), which
    has no special cases and forgives a slightly non-orthogonal input.
    """
    m = np.asarray(rotation, np.float64)
    k = np.zeros((*m.shape[:-2], 4, 4))
    k[..., 0, 0] = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    off = [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]]
    for i in range(3):
        k[..., 0, i + 1] = k[..., i + 1, 0] = off[i]
        for j in range(3):
            k[..., i + 1, j + 1] = m[..., i, j] + m[..., j, i]
        k[..., i + 1, i + 1] -= k[..., 0, 0]
    quat = np.linalg.eigh(k)[1][..., :, -1]
    return quat * np.where(quat[..., :1] < 0, -1.0, 1.0)
