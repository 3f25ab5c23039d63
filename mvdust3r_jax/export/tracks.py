"""Tracks: which pixels of which views show the same point, as structure from motion stores it.

Pixels are (u, v), the first centre at (0, 0); observations are at the original resolution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mvdust3r_jax.export.point_filter import nearest_pixel
from mvdust3r_jax.export.posed_views import (
    invert_rigid,
    posed_views,
    project,
    transform,
    usable_pixels,
)
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# Two pixels see the same point when their points differ by less than this share of the depth.
MATCH_TOLERANCE = 0.02


class Tracks(NamedTuple):
    """Observations of ``P`` points, one row each, ordered by point.

    seeds: flat index into (V, H, W) of the pixel that carries the point's position and colour.
    """

    point: np.ndarray  # [n] index of the point
    view: np.ndarray  # [n]
    pixel_px: np.ndarray  # [n, 2] in the original photograph
    seeds: np.ndarray  # [P]


class _Sight(NamedTuple):
    """What matching needs of all views, computed once."""

    points: np.ndarray  # [V, H, W, 3] float64
    usable: np.ndarray  # [V, H, W]
    cam_from_world: np.ndarray  # [V, 4, 4]
    intrinsics: np.ndarray  # [V, 3, 3]


def build_tracks(scene: SceneArrays, starts: np.ndarray) -> Tracks:
    """Tracks that start at the pixels ``starts`` [V, H, W], merged over the views with a pose.

    Going through the views in order, every start pixel that no earlier track has claimed seeds a
    point, which the other views then join. A pixel belongs to one track at most.
    """
    sight = _Sight(
        np.asarray(scene.points, np.float64),
        usable_pixels(scene),
        invert_rigid(scene.world_from_cam),
        np.asarray(scene.intrinsics, np.float64),
    )
    views = posed_views(scene)
    claimed = ~sight.usable
    parts, seeds, count = [], [], 0
    for view in views:
        row, column = np.nonzero(starts[view] & ~claimed[view])
        ids = count + np.arange(len(row))
        count += len(row)
        where = (np.full_like(row, view), row, column)
        claimed[where] = True
        seeds.append(np.ravel_multi_index(where, claimed.shape))
        parts.append((ids, view, np.stack([column, row], axis=-1)))
        for other in views[views != view]:
            found, pixel = _join(sight, sight.points[where], other, claimed[other])
            parts.append((ids[found], other, pixel))
    return _assemble(scene, parts, seeds)


def _join(
    sight: _Sight, seeds: np.ndarray, view: int, claimed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(indices of the seeds that ``view`` sees, their pixels there); marks the pixels as claimed.

    A seed is seen where the pixel that it projects to shows a point at the same place. The
    observation is that pixel, moved by how far the two points lie apart in the image: exact to
    first order, where the bare pixel would be wrong by its rounding.
    """
    in_view = transform(sight.cam_from_world[view], seeds)
    target = project(in_view, sight.intrinsics[view])
    row, column, inside = nearest_pixel(target, claimed.shape)
    there = sight.points[view, row, column]
    near = np.linalg.norm(there - seeds, axis=-1) < MATCH_TOLERANCE * in_view[:, 2]
    match = np.flatnonzero(inside & near & ~claimed[row, column])
    pixel_index = row[match] * claimed.shape[1] + column[match]
    match = match[np.unique(pixel_index, return_index=True)[1]]
    row, column = row[match], column[match]
    claimed[row, column] = True
    shown = project(transform(sight.cam_from_world[view], there[match]), sight.intrinsics[view])
    return match, np.stack([column, row], axis=-1) + (target[match] - shown)


def _assemble(scene: SceneArrays, parts: list, seeds: list[np.ndarray]) -> Tracks:
    """Concatenate, take pixels to the original resolution and order by point."""
    if not parts:
        empty = np.zeros(0, np.int64)
        return Tracks(empty, empty, np.zeros((0, 2)), empty)
    point = np.concatenate([ids for ids, _, _ in parts])
    view = np.concatenate([np.full(len(ids), view) for ids, view, _ in parts])
    pixel = np.concatenate([original_pixels(scene, view, pixel) for _, view, pixel in parts])
    order = np.argsort(point, kind="stable")
    return Tracks(point[order], view[order], pixel[order], np.concatenate(seeds))


def original_pixels(scene: SceneArrays, view: int, pixel: np.ndarray) -> np.ndarray:
    """Network pixels (u, v) [n, 2] in the original photograph: crop and resize undone."""
    to_original = np.asarray(scene.original_intrinsics[view], np.float64) @ np.linalg.inv(
        np.asarray(scene.intrinsics[view], np.float64)
    )
    return pixel @ to_original[:2, :2].T + to_original[:2, 2]


def reprojection_errors(scene: SceneArrays, tracks: Tracks, positions: np.ndarray) -> np.ndarray:
    """[n]: distance in original pixels between each observation and its point's projection."""
    cam_from_world = invert_rigid(scene.world_from_cam)
    errors = np.zeros(len(tracks.view))
    for view in np.unique(tracks.view):
        here = tracks.view == view
        k = np.asarray(scene.original_intrinsics[view], np.float64)
        shown = project(transform(cam_from_world[view], positions[tracks.point[here]]), k)
        errors[here] = np.linalg.norm(shown - tracks.pixel_px[here], axis=-1)
    return errors


def mean_errors(scene: SceneArrays, tracks: Tracks, positions: np.ndarray) -> np.ndarray:
    """[P]: each point's mean reprojection error; a point behind its own camera counts as 0."""
    errors = np.nan_to_num(reprojection_errors(scene, tracks, positions))
    total = np.bincount(tracks.point, errors, minlength=len(tracks.seeds))
    return total / np.maximum(np.bincount(tracks.point, minlength=len(tracks.seeds)), 1)
