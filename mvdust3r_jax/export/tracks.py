"""Tracks: which pixels of which views show the same point, as structure from motion stores it.

Pixels are (u, v), the first center at (0, 0); observations are at the original resolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mvdust3r_jax.export.posed_views import (
    invert_rigid,
    posed_views,
    project,
    transform,
    usable_pixels,
)
from mvdust3r_jax.storage.scene_arrays import SceneArrays

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

# Two pixels may see the same point when their points differ by less than this share of the depth;
# of views whose points disagree by more, none joins. The same share as `point_filter`'s.
MATCH_TOLERANCE = 0.05
# Going to the nearest point of another view and back may end this many pixels from the start:
# views from different distances sample a surface differently.
_RETURN_PX = 1.5
# A pixel shows the nearest point up to its own border, some more where the surface slants.
_MOVED_PX = 1.0


class Tracks(NamedTuple):
    """Observations of ``P`` points, one row each, ordered by point.

    seeds: flat index into (V, H, W) of the pixel that carries the point's position and color.
    """

    point: np.ndarray  # [n] index of the point
    view: np.ndarray  # [n]
    pixel_px: np.ndarray  # [n, 2] in the original photograph
    seeds: np.ndarray  # [P]


class _Sight(NamedTuple):
    """What matching needs of one view, computed once. Its usable pixels are numbered 0 ... n-1."""

    pixels: np.ndarray  # [n, 2] (u, v)
    points: np.ndarray  # [n, 3] float64
    normals: np.ndarray  # [n, 3] of the surface through the neighboring pixels; zero for none
    tree: cKDTree
    cam_from_world: np.ndarray  # [4, 4]
    intrinsics: np.ndarray  # [3, 3]


def build_tracks(scene: SceneArrays, starts: np.ndarray) -> Tracks:
    """Tracks that start at the pixels ``starts`` [V, H, W], joined over the views with a pose.

    Going through the views in order, every start pixel that no earlier track has claimed seeds a
    point, which the other views then join by mutual nearest points. A pixel belongs to one track at
    most. A seed that another view sees as well, but only by pixels of other tracks, is dropped: its
    piece of surface is a point already.
    """
    usable = usable_pixels(scene)
    views = posed_views(scene)
    sights = {view: _sight(scene, view, usable[view]) for view in views.tolist()}
    free = {view: np.ones(len(sights[view].points), bool) for view in views}
    parts, seeds, count = [], [], 0
    for view in views:
        own = np.flatnonzero(starts[view][usable[view]] & free[view])
        lone, joined, repeated = np.ones((3, len(own)), bool) & [[True], [False], [False]]
        found = []
        for other in views[views != view]:
            match, seen = _mutual(sights[view], own, sights[other])
            matched = np.flatnonzero(match >= 0)
            taken = ~free[other][match[matched]]
            repeated[matched[taken]] = True
            members = _one_each(matched[~taken], match)
            free[other][match[members]] = False
            joined[members] = True
            found.append((members, other, seen[members]))
        kept = joined | (lone & ~repeated)
        ids = np.where(kept, count + np.cumsum(kept) - 1, -1)
        count += int(kept.sum())
        free[view][own[kept]] = False
        u, v = sights[view].pixels[own[kept]].T
        seeds.append(np.ravel_multi_index((np.full_like(u, view), v, u), usable.shape))
        parts.append((ids[kept], view, sights[view].pixels[own[kept]]))
        parts += [(ids[members], other, seen) for members, other, seen in found]
    return _assemble(scene, parts, seeds)


def _sight(scene: SceneArrays, view: int, usable: np.ndarray) -> _Sight:
    # SciPy takes a third as long to import as JAX, and only this format needs it here.
    from scipy.spatial import cKDTree

    row, column = np.nonzero(usable)
    points = np.asarray(scene.points[view], np.float64)[row, column]
    return _Sight(
        np.stack([column, row], axis=-1),
        points,
        _normals(np.asarray(scene.points[view], np.float64))[row, column],
        cKDTree(points),
        invert_rigid(scene.world_from_cam[view]),
        np.asarray(scene.intrinsics[view], np.float64),
    )


def _normals(points: np.ndarray) -> np.ndarray:
    """[H, W, 3]: unit normals of a pointmap [H, W, 3] by differences; zero where there is none."""
    if min(points.shape[:2]) < 2:
        return np.zeros_like(points)
    with np.errstate(invalid="ignore", over="ignore"):
        normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        return np.nan_to_num(normal / np.where(length > 0, length, np.inf))


def _mutual(here: _Sight, own: np.ndarray, there: _Sight) -> tuple[np.ndarray, np.ndarray]:
    """Of each pixel ``own`` the pixel of ``there`` that shows its point (-1: none), and where.

    It is the nearest point there, lies within the tolerance, and its nearest point here is the one
    that was begun with, or a neighbor's; along the surface they lie a pixel apart at most.
    """
    found, seen = np.full(len(own), -1), np.full((len(own), 2), np.nan)
    if not len(own) or not len(there.points):
        return found, seen
    points = here.points[own]
    reach = MATCH_TOLERANCE * transform(there.cam_from_world, points)[:, 2]
    distance, match = there.tree.query(points, distance_upper_bound=max(reach.max(), 0))
    near = np.flatnonzero(distance < reach)
    back = here.tree.query(there.points[match[near]])[1]
    away = np.abs(here.pixels[back] - here.pixels[own[near]]).max(axis=-1)
    near = near[away <= _RETURN_PX]
    moved = _moved(points[near], there, match[near])
    close = np.abs(moved).max(axis=-1, initial=0) <= _MOVED_PX  # false for NaN
    near, moved = near[close], moved[close]
    found[near], seen[near] = match[near], there.pixels[match[near]] + moved
    return found, seen


def _one_each(members: np.ndarray, match: np.ndarray) -> np.ndarray:
    """Of the members that want the same pixel, the first."""
    return members[np.unique(match[members], return_index=True)[1]]


def _moved(points: np.ndarray, there: _Sight, match: np.ndarray) -> np.ndarray:
    """[n, 2]: by how many pixels a view shows ``points`` beside its pixels ``match``.

    This is how far the two points lie apart along the surface: exact to first order, where the bare
    pixel would be wrong by its rounding. How far they lie apart across the surface is what the
    views disagree in, and stays in the residual.
    """
    start, normal = there.points[match], there.normals[match]
    across = np.sum((points - start) * normal, axis=-1, keepdims=True) * normal
    wanted, shown = (
        project(transform(there.cam_from_world, xyz), there.intrinsics)
        for xyz in (points - across, start)
    )
    return wanted - shown


def _assemble(scene: SceneArrays, parts: list, seeds: list[np.ndarray]) -> Tracks:
    """Concatenate, take pixels to the original resolution and order by point."""
    if not parts:  # no view has a pose
        empty = np.zeros(0, np.int64)
        return Tracks(empty, empty, np.zeros((0, 2)), empty)
    point = np.concatenate([ids for ids, _, _ in parts])
    view = np.concatenate([np.full(len(ids), view) for ids, view, _ in parts])
    pixel = np.concatenate([original_pixels(scene, int(view), pixel) for _, view, pixel in parts])
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
