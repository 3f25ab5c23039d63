"""Surfaces of a scene's frames as points, and which points of one frame another one covers.

Points are ``[n, 3]`` in world coordinates, meters; ``share[a, b]`` is the share of a's points that
have a neighbor in b nearer than the radius.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree

# Pairs of frames whose coverage is remembered: 4 kB each for 640x480 depth at step 3.
_CACHED_PAIRS = 40_000


def world_points(
    depth_m: Float[np.ndarray, "H W"],
    intrinsics: Float[np.ndarray, "3 3"],
    world_from_cam: Float[np.ndarray, "4 4"],
    step: int,
) -> Float[np.ndarray, "n 3"]:
    """Points of every step-th pixel whose depth is known."""
    v, u = np.meshgrid(*(np.arange(0, size, step) for size in depth_m.shape), indexing="ij")
    depth = depth_m[v, u]
    known = np.isfinite(depth) & (depth > 0)
    u, v, depth = u[known], v[known], depth[known]
    x = (u - intrinsics[0, 2]) / intrinsics[0, 0] * depth
    y = (v - intrinsics[1, 2]) / intrinsics[1, 1] * depth
    points = np.stack([x, y, depth], axis=-1).astype(np.float64)
    return points @ world_from_cam[:3, :3].T + world_from_cam[:3, 3]


# States of a cell: no point of the frame within the radius of any place in it, perhaps, everywhere.
_FAR, _UNSURE, _NEAR = 0, 1, 2
# Cells are a third of the radius; a little more, so that rounding cannot make a near cell far.
_CELLS_PER_RADIUS = 3 * (1 - 1e-6)
# Frames whose surroundings are kept at once, and the most cells of one; above, only trees are used.
_KEPT_GRIDS, _MAX_CELLS = 4, 60_000_000


def _cell_offsets() -> tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, "k 3"]]:
    """Around a place's cell: those that may hold a point within the radius; those that surely do.

    That is, all of whose points are within the radius of all places in the middle one.
    """
    reach = np.arange(-3, 4)
    offsets = np.stack(np.meshgrid(reach, reach, reach), axis=-1).reshape(-1, 3)
    nearest = np.maximum(np.abs(offsets) - 1, 0)
    farthest = np.abs(offsets) + 1
    squared = _CELLS_PER_RADIUS**2
    return (
        offsets[(nearest**2).sum(axis=1) <= squared],
        offsets[(farthest**2).sum(axis=1) < squared],
    )


class _Surroundings:
    """Of every cell: whether a point of one frame is within the radius of the places in it.

    A dense grid over the frame's box; it decides most points by one look-up. Cells are integers of
    a grid that all frames share.
    """

    def __init__(self, cells: Int[np.ndarray, "n 3"]):
        maybe, surely = _cell_offsets()
        # A margin of the offsets' reach.
        self._low = cells.min(axis=0) - 3
        self._shape = cells.max(axis=0) - self._low + 4
        self._states = None
        if np.prod(self._shape.astype(float)) > _MAX_CELLS:
            return
        self._states = np.full(np.prod(self._shape), _FAR, np.uint8)
        own = np.unique(self._flat(cells - self._low))
        for state, offsets in ((_UNSURE, maybe), (_NEAR, surely)):
            for offset in self._flat(offsets):
                self._states[own + offset] = state

    def _flat(self, cells: np.ndarray) -> np.ndarray:
        _, columns, layers = self._shape
        return (cells[..., 0] * columns + cells[..., 1]) * layers + cells[..., 2]

    def states(self, cells: Int[np.ndarray, "n 3"]) -> UInt8[np.ndarray, " n"]:
        """The states of some cells."""
        if self._states is None:
            return np.full(len(cells), _UNSURE, np.uint8)
        cells = cells - self._low
        # A negative number is a large one without its sign.
        inside = np.flatnonzero((cells.view(np.uint32) < self._shape.view(np.uint32)).all(axis=1))
        result = np.full(len(cells), _FAR, np.uint8)
        result[inside] = self._states[self._flat(cells[inside])]
        return result


class Surfaces:
    """The points of a scene's frames, and who covers whom: exactly, by grids and KD-trees."""

    def __init__(self, points: Sequence[Float[np.ndarray, "_ 3"]], radius_m: float, workers=1):
        self.points, self.radius_m, self._workers = points, radius_m, workers
        self._trees = [cKDTree(p) if len(p) else None for p in points]
        cells = [np.floor(p * (_CELLS_PER_RADIUS / radius_m)).astype(np.int32) for p in points]
        self._cells = cells
        self._surroundings = functools.lru_cache(_KEPT_GRIDS)(lambda b: _Surroundings(cells[b]))
        self._packed = functools.lru_cache(_CACHED_PAIRS)(self._search)

    def __len__(self) -> int:
        return len(self.points)

    def covered(self, a: int, b: int) -> Bool[np.ndarray, " n"]:
        """Which of a's points have a neighbor in b."""
        return np.unpackbits(self._packed(a, b), count=len(self.points[a])).astype(bool)

    def _search(self, a: int, b: int) -> np.ndarray:
        """``covered`` as packed bits, which are small enough to be remembered."""
        if not len(self.points[a]) or not len(self.points[b]):
            return np.packbits(np.zeros(len(self.points[a]), bool))
        states = self._surroundings(b).states(self._cells[a])
        hit, unsure = states == _NEAR, np.flatnonzero(states == _UNSURE)
        if len(unsure):
            distance, _ = self._trees[b].query(
                self.points[a][unsure], distance_upper_bound=self.radius_m, workers=self._workers
            )
            hit[unsure] = np.isfinite(distance)
        return np.packbits(hit)

    def shares(
        self, progress: Callable[[int], None] = lambda done: None
    ) -> Float[np.ndarray, "F F"]:
        """``share[a, b]`` for all pairs; ``progress`` is told after each frame."""
        share = np.zeros((len(self), len(self)), np.float32)
        for b in range(len(self)):
            for a in range(len(self)):
                if a != b and len(self.points[a]):
                    share[a, b] = self.covered(a, b).mean()
            progress(b)
        np.fill_diagonal(share, 1.0)
        return share
