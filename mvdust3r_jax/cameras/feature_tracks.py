"""Tracks: features of several views that matches join to one point, and where cameras see them.

Pixels are ideal: of photographs that all have the same focal length, measured from the principal
point. NumPy in float64 on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from mvdust3r_jax.cameras.features import Matches

# One point has features of several orientations; farther apart in a view they are several points.
_SAME_PX = 1.5


class Tracks(NamedTuple):
    """Observations, one row each, ordered by track (0 ... T-1) and view; one a view at most."""

    track: Int[np.ndarray, " n"]
    view: Int[np.ndarray, " n"]
    pixel_px: Float[np.ndarray, "n 2"]

    @property
    def count(self) -> int:
        """How many tracks there are."""
        return int(self.track.max(initial=-1)) + 1

    def take(self, kept: Bool[np.ndarray, " n"]) -> Tracks:
        """Some observations, tracks keeping their numbers."""
        return Tracks(*(field[kept] for field in self))


def component_of(
    count: int, first: Int[np.ndarray, " e"], second: Int[np.ndarray, " e"]
) -> Int[np.ndarray, " count"]:
    """Of each of ``count`` things the number of its connected group; edges join two of them."""
    # SciPy takes a third as long to import as JAX, and most runs refine nothing.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def join_matches(matches: Sequence[Matches], ideal_px: Sequence[np.ndarray]) -> Tracks:
    """Connected features; those that would put a view's different pixels into a track are left out.

    ideal_px: of all features [n, 2], view by view.
    """
    counts = [len(pixels) for pixels in ideal_px]
    starts = np.concatenate([[0], np.cumsum(counts)])
    edges = [starts[list(m.views)] + m.features for m in matches]
    edges = np.concatenate(edges) if edges else np.zeros((0, 2), np.int64)
    label = component_of(int(starts[-1]), *edges.T)
    view, pixel_px = np.repeat(np.arange(len(counts)), counts), np.concatenate(ideal_px)
    matched = np.unique(edges)
    order = matched[np.lexsort((view[matched], label[matched]))]
    return _consistent(Tracks(label[order], view[order], pixel_px[order]))


def _consistent(tracks: Tracks) -> Tracks:
    """The first observation of each view, without tracks that see two things in one view."""
    first = np.ones(len(tracks.track), bool)
    first[1:] = (np.diff(tracks.track) != 0) | (np.diff(tracks.view) != 0)
    owner = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
    apart = np.abs(tracks.pixel_px - tracks.pixel_px[owner]).max(axis=-1, initial=0) > _SAME_PX
    torn = np.isin(tracks.track, tracks.track[apart])
    return renumbered(tracks.take(first & ~torn))[0]


def renumbered(tracks: Tracks) -> tuple[Tracks, Int[np.ndarray, " T"]]:
    """Tracks of at least two observations, numbered from 0; and which numbers they had."""
    labels, number, length = np.unique(tracks.track, return_inverse=True, return_counts=True)
    kept = length[number] >= 2
    return Tracks(
        np.unique(number[kept], return_inverse=True)[1], tracks.view[kept], tracks.pixel_px[kept]
    ), labels[length >= 2]


def projection_errors(
    world_from_cam: Float[np.ndarray, "V 4 4"],
    focal_px: float,
    points: Float[np.ndarray, "T 3"],
    tracks: Tracks,
) -> Float[np.ndarray, " n"]:
    """Pixels between each observation and its point's projection; infinite behind a camera."""
    seen = in_cameras(world_from_cam, points, tracks)
    with np.errstate(all="ignore"):
        away = focal_px * seen[:, :2] / seen[:, 2:] - tracks.pixel_px
    length = np.linalg.norm(away, axis=-1)
    return np.where((seen[:, 2] > 0) & np.isfinite(length), length, np.inf)


def in_cameras(
    world_from_cam: Float[np.ndarray, "V 4 4"], points: Float[np.ndarray, "T 3"], tracks: Tracks
) -> Float[np.ndarray, "n 3"]:
    """Each observation's point in the frame of the camera that observes it."""
    poses = np.asarray(world_from_cam, np.float64)[tracks.view]
    offset = points[tracks.track] - poses[:, :3, 3]
    return np.einsum("nji,nj->ni", poses[:, :3, :3], offset)


def triangulate(
    world_from_cam: Float[np.ndarray, "V 4 4"], focal_px: float, tracks: Tracks
) -> Float[np.ndarray, "T 3"]:
    """Points nearest to their rays (least squares); where along parallel ones, nothing says."""
    poses = np.asarray(world_from_cam, np.float64)[tracks.view]
    rays = np.concatenate([tracks.pixel_px / focal_px, np.ones((len(tracks.view), 1))], axis=-1)
    rays = np.einsum("nij,nj->ni", poses[:, :3, :3], rays)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    matrix, vector = np.zeros((tracks.count, 3, 3)), np.zeros((tracks.count, 3))
    np.add.at(matrix, tracks.track, across)
    np.add.at(vector, tracks.track, np.einsum("nij,nj->ni", across, poses[:, :3, 3]))
    # Of parallel rays the sum is singular by exactly one direction: the damping leaves their points
    # on the plane through the world's origin across them.
    damping = 1e-9 * np.trace(matrix, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    return np.linalg.solve(matrix + damping, vector[..., None])[..., 0]
