"""Camera frusta as triangles: thin edges that every viewer draws, and the image's rectangle.

Vertices are in the world frame, units of the scene's points.
"""

from __future__ import annotations

import colorsys

import numpy as np

from mvdust3r_jax.export.posed_views import reference_distances, transform, usable_pixels
from mvdust3r_jax.geometry.pixels import center_from_corner
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Depth of a frustum's image plane, as a share of the points' median distance to the reference.
SIZE_SHARE = 0.08
# Thickness of an edge, as a share of the frustum's depth.
_THICKNESS = 0.015
# Apex to the four corners, then around the image.
_EDGES = np.array([[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]])
# Texture coordinates of the corners: top left, top right, bottom right, bottom left.
CORNER_UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
IMAGE_FACES = np.array([[0, 1, 2], [0, 2, 3]])


def frustum_depth(scene: SceneArrays) -> float:
    """Distance of the image planes from their cameras that suits the scene's size."""
    distances = reference_distances(scene)[usable_pixels(scene)]
    return SIZE_SHARE * float(np.median(distances)) if distances.size else SIZE_SHARE


def corners(scene: SceneArrays, view: int, depth: float) -> np.ndarray:
    """[5, 3]: apex, then the corners of the image at ``depth``: the outer edges of its pixels."""
    height, width = np.asarray(scene.images_01).shape[1:3]
    k = np.asarray(scene.intrinsics[view], np.float64)
    pixels = center_from_corner(np.array([width, height]) * CORNER_UV)
    rays = np.concatenate([(pixels - k[:2, 2]) / k[[0, 1], [0, 1]], np.ones((4, 1))], axis=1)
    return transform(scene.world_from_cam[view], np.concatenate([np.zeros((1, 3)), depth * rays]))


def edges(apex_and_corners: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """(vertices [48, 3], faces [48, 3]): one three-sided prism per edge."""
    start, end = np.moveaxis(apex_and_corners[_EDGES], 1, 0)
    along = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    # Any axis that is far from parallel to the edge spans its cross-section.
    helper = np.eye(3)[np.argmin(np.abs(along), axis=-1)]
    side = np.cross(along, helper)
    side /= np.linalg.norm(side, axis=-1, keepdims=True)
    angles = np.deg2rad([0, 120, 240])[:, None, None]
    ring = np.cos(angles) * side + np.sin(angles) * np.cross(along, side)
    ring *= 0.5 * _THICKNESS * depth
    vertices = np.stack([start + ring, end + ring]).transpose(2, 0, 1, 3)
    quads = [(i, (i + 1) % 3, 3 + (i + 1) % 3, 3 + i) for i in range(3)]
    prism = np.array([face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))])
    faces = prism + 6 * np.arange(len(_EDGES))[:, None, None]
    return vertices.reshape(-1, 3), faces.reshape(-1, 3)


def view_color(view: int, num_views: int) -> tuple[int, int, int]:
    """A distinct uint8 color per view, red to violet in view order."""
    rgb = colorsys.hsv_to_rgb(0.8 * view / max(num_views - 1, 1), 0.85, 0.95)
    return tuple(round(255 * channel) for channel in rgb)
