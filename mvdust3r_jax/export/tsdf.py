"""Fusion of depth maps into a truncated signed distance field, and its zero surface.

The field is positive in front of surfaces and negative behind them, in units of the truncation
distance, on a grid of cubes. Only voxels near some view's points are computed; a surface is drawn
only between voxels that a view has seen. NumPy and SciPy; marching cubes from scikit-image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mvdust3r_jax.export.depth_files import depth_of_views
from mvdust3r_jax.export.depth_surface import (
    Surface,
    points_between,
    signed_distances,
    surface_of,
)
from mvdust3r_jax.export.posed_views import invert_rigid, posed_views, project, transform
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Distances are cut off at this many voxels: thinner things than twice that lose their back.
TRUNCATION_VOXELS = 4
# Voxels are computed around points of the surfaces; these are no farther apart than this.
_SPACING_VOXELS = 2
# The field is some arrays of this size; the voxels grow where the scene would need more.
MAX_VOXELS = 16_000_000
# Points farther out than this share on either side do not stretch the grid.
_OUTLIERS = 0.005


class Field(NamedTuple):
    """Voxel (i, j, k) has its center at ``origin + voxel * (i, j, k)``."""

    distance: np.ndarray  # [I, J, K] float32, 1 where nothing is known
    seen: np.ndarray  # [I, J, K]
    origin: np.ndarray  # [3]
    voxel: float


def fuse(scene: SceneArrays, max_voxels: int = MAX_VOXELS) -> Field | None:
    """The field of all views with a pose; None where no depth is known."""
    depths = depth_of_views(scene)
    views = posed_views(scene)
    shown = depths[views] > 0
    if not shown.any():
        return None
    points = np.asarray(scene.points, np.float64)[views][shown]
    origin, voxel, shape = _grid(points, pixel_size(scene, depths), max_voxels)
    surfaces = {
        view: surface_of(depths[view], scene.intrinsics[view], TRUNCATION_VOXELS * voxel)
        for view in views.tolist()
    }
    between = [
        transform(scene.world_from_cam[view], points_between(surface, _SPACING_VOXELS * voxel))
        for view, surface in surfaces.items()
    ]
    index = np.argwhere(_near_points(np.concatenate([points, *between]), origin, voxel, shape))
    centers = origin + voxel * index
    total, weight = np.zeros(len(index)), np.zeros(len(index))
    for view, surface in surfaces.items():
        value, sureness = _seen_from(scene, view, surface, centers, TRUNCATION_VOXELS * voxel)
        total += sureness * value
        weight += sureness
    distance, seen = np.ones(shape, np.float32), np.zeros(shape, bool)
    distance[tuple(index.T)] = np.where(weight > 0, total / np.where(weight > 0, weight, 1), 1)
    seen[tuple(index.T)] = weight > 0
    return Field(distance, seen, origin, voxel)


def pixel_size(scene: SceneArrays, depths: np.ndarray) -> float:
    """Median side of what a pixel covers, in the scene's unit."""
    focal = np.asarray(scene.intrinsics, np.float64)[:, 0, 0]
    sides = depths / focal[:, None, None]
    return float(np.median(sides[depths > 0]))


def _grid(points: np.ndarray, voxel: float, max_voxels: int) -> tuple[np.ndarray, float, tuple]:
    """Origin, side of a voxel (``voxel`` or larger) and shape of a grid around the points."""
    low, high = np.quantile(points, [_OUTLIERS, 1 - _OUTLIERS], axis=0)
    while True:
        margin = (TRUNCATION_VOXELS + 1) * voxel
        shape = np.ceil((high - low + 2 * margin) / voxel) + 1
        if np.prod(shape) <= max_voxels:
            return low - margin, voxel, tuple(shape.astype(int))
        voxel *= 1.1


def _near_points(points: np.ndarray, origin: np.ndarray, voxel: float, shape: tuple) -> np.ndarray:
    """[I, J, K]: voxels within the truncation distance of a point."""
    from scipy import ndimage

    near = np.zeros(shape, bool)
    index = np.round((points - origin) / voxel).astype(int)
    index = index[((index >= 0) & (index < shape)).all(axis=-1)]
    near[tuple(index.T)] = True
    ball = ndimage.generate_binary_structure(3, 1)
    return ndimage.binary_dilation(near, ball, iterations=TRUNCATION_VOXELS)


def _seen_from(
    scene: SceneArrays, view: int, surface: Surface, centers: np.ndarray, truncation: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of voxel centers [n, 3]: the view's distances in [-1, 1], and weights, 0 for what it hides.

    The distance is that to the surface's plane at the voxel's pixel: along a ray that grazes a
    floor it would be many times as long.
    """
    from scipy import ndimage

    in_view = transform(invert_rigid(scene.world_from_cam[view]), centers)
    pixels = np.nan_to_num(project(in_view, surface.intrinsics), nan=-1.0)
    confidence = np.asarray(scene.confidence[view], np.float64)
    place = pixels[:, ::-1].T
    weight = ndimage.map_coordinates(confidence, place, order=0, mode="nearest")
    distance = signed_distances(surface, in_view, pixels) / truncation
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(distance) & (distance > -1)
    return np.where(seen, np.clip(distance, -1, 1), 0), np.where(seen, weight, 0)


def zero_surface(field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [n, 3] in the world and faces [m, 3], counterclockwise seen from the front."""
    from skimage.measure import marching_cubes

    values = field.distance[field.seen]
    if min(field.seen.shape) < 2 or not values.size or values.min() >= 0 or values.max() <= 0:
        return np.zeros((0, 3)), np.zeros((0, 3), int)
    # A cell is drawn where all of its corners are seen; scikit-image looks at the last one.
    cells = field.seen.copy()
    for axis in range(3):
        cells &= np.roll(cells, 1, axis)
        np.moveaxis(cells, axis, 0)[0] = False
    if not cells.any():
        return np.zeros((0, 3)), np.zeros((0, 3), int)
    vertices, faces, _, _ = marching_cubes(
        field.distance, 0.0, mask=cells, gradient_direction="descent", allow_degenerate=False
    )
    return field.origin + field.voxel * vertices.astype(np.float64), faces
