"""Which pixels' points leave the house: confidence, agreement with other views, a budget.

Exporters write every pixel of ``scene.masks``; a filter therefore returns a smaller mask
``[V, H, W]``, and every format of one run shows the same points.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from mvdust3r_jax.export.posed_views import (
    depth_maps,
    invert_rigid,
    posed_views,
    project,
    reference_center,
    transform,
    usable_pixels,
)
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# A point contradicts a view when it floats in front of that view's surface by more than this
# share of the surface's depth.
CONTRADICTION_MARGIN = 0.05


class NoPointsError(ValueError):
    """Nothing is left to write; the message says what dropped the points."""


@dataclasses.dataclass(frozen=True)
class PointFilter:
    """What to keep. The steps are taken in the order of the fields.

    drop_share: this share of the scene's pixels, the least confident ones, is dropped.
    min_confidence: absolute threshold (confidences start at 1). consistent: drop points that a more
    confident pixel of another view looks through. far: drop points farther from their camera than
    this many times the median of all (sky, what is seen through windows). max_points: a random
    subset of this size.
    """

    drop_share: float = 0.1
    min_confidence: float = 0.0
    consistent: bool = False
    far: float | None = None
    max_points: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.drop_share < 1:
            raise ValueError(f"drop_share must be in [0, 1), got {self.drop_share}")
        if not np.isfinite(self.min_confidence):
            raise ValueError(f"min_confidence must be a finite number, got {self.min_confidence}")
        if self.far is not None and not 0 < self.far < np.inf:
            raise ValueError(f"far must be a number above 0, got {self.far}")
        if self.max_points is not None and self.max_points < 1:
            raise ValueError(f"max_points must be positive, got {self.max_points}")


@dataclasses.dataclass(frozen=True)
class Kept:
    """What a filter keeps: mask [V, H, W], always inside ``scene.masks``.

    dropped: how many pixels each reason took away, in the order of the steps.
    """

    mask: np.ndarray
    dropped: dict[str, int]

    @property
    def count(self) -> int:
        """How many points are left."""
        return int(self.mask.sum())

    def __str__(self) -> str:
        reasons = [f"{number:,} {reason}" for reason, number in self.dropped.items() if number]
        why = f" (dropped: {', '.join(reasons)})" if reasons else ""
        return f"{self.count:,} of {self.mask.size:,} points kept{why}"


def keep(scene: SceneArrays, points: PointFilter, seed: int = 0) -> Kept:
    """The pixels that the filter keeps, and why the others are dropped."""
    confidence = np.asarray(scene.confidence)
    left = np.asarray(scene.masks, bool).copy()
    dropped = {"outside of the scene": int(left.size - left.sum())}

    def narrow(reason: str, keeps: np.ndarray) -> None:
        nonlocal left
        before, left = int(left.sum()), left & keeps
        dropped[reason] = before - int(left.sum())

    narrow("not finite", usable_pixels(scene) & np.isfinite(confidence))
    if points.drop_share > 0 and left.any():
        narrow("least confident", confidence >= np.quantile(confidence[left], points.drop_share))
    if points.min_confidence > 0:
        least = points.min_confidence
        narrow(f"of a confidence below {least:g}", confidence >= least)
    if points.consistent:
        narrow("contradicted by another view", ~contradicted(scene, left))
    if points.far is not None:
        narrow("far away", ~beyond(scene, left, points.far))
    if points.max_points is not None:
        narrow("beyond the number asked for", within_budget(left, points.max_points, seed))
    return Kept(left, dropped)


def beyond(scene: SceneArrays, keep: np.ndarray, times: float) -> np.ndarray:
    """[V, H, W]: points farther from their camera than ``times`` the median of the kept ones.

    Views without a pose measure from the reference camera.
    """
    points = np.asarray(scene.points, np.float64)
    centers = np.tile(reference_center(scene), (len(points), 1))
    posed = posed_views(scene)
    centers[posed] = np.asarray(scene.world_from_cam, np.float64)[posed, :3, 3]
    with np.errstate(invalid="ignore"):
        distance = np.linalg.norm(points - centers[:, None, None], axis=-1)
        limit = times * np.median(distance[keep]) if keep.any() else np.inf
        return distance > limit


def within_budget(
    keep: Bool[np.ndarray, "*any"], max_points: int | None, seed: int = 0
) -> Bool[np.ndarray, "*any"]:
    """The mask itself, or a random subset of it with ``max_points`` true entries."""
    indices = np.flatnonzero(keep)
    if max_points is None or indices.size <= max_points:
        return keep
    chosen = np.random.default_rng(seed).choice(indices, max_points, replace=False)
    reduced = np.zeros(keep.size, bool)
    reduced[chosen] = True
    return reduced.reshape(keep.shape)


def contradicted(scene: SceneArrays, keep: Bool[np.ndarray, "V H W"]) -> Bool[np.ndarray, "V H W"]:
    """Points that some other view sees through.

    Point p is contradicted by view j when it projects to a kept pixel of j, nearer to the camera
    than that pixel's own surface by more than ``CONTRADICTION_MARGIN``, and is less confident.
    Views without a pose neither judge nor are spared: their points are judged by the others.
    """
    points = np.asarray(scene.points, np.float64)
    confidence = np.asarray(scene.confidence)
    cam_from_world = invert_rigid(scene.world_from_cam)
    intrinsics = np.asarray(scene.intrinsics, np.float64)
    depth = depth_maps(scene)
    bad = np.zeros(points.shape[:-1], bool)
    for judge in posed_views(scene):
        in_judge = transform(cam_from_world[judge], points)
        rows, columns, inside = nearest_pixel(project(in_judge, intrinsics[judge]), keep.shape[1:])
        surface = depth[judge][rows, columns]
        seen_through = in_judge[..., 2] < (1 - CONTRADICTION_MARGIN) * surface
        outvoted = confidence < confidence[judge][rows, columns]
        verdict = inside & keep[judge][rows, columns] & seen_through & outvoted
        verdict[judge] = False
        bad |= verdict
    return bad


def nearest_pixel(
    pixels: Float[np.ndarray, "*any 2"], size: tuple[int, int]
) -> tuple[Int[np.ndarray, "*any"], Int[np.ndarray, "*any"], Bool[np.ndarray, "*any"]]:
    """(row, column, inside) of the pixels (u, v) in an image of (height, width).

    Rows and columns of outsiders (and NaN) are 0, so that they can be used as indices.
    """
    height, width = size
    with np.errstate(invalid="ignore"):
        u, v = np.round(pixels[..., 0]), np.round(pixels[..., 1])
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    rows = np.where(inside, v, 0).astype(np.int64)
    columns = np.where(inside, u, 0).astype(np.int64)
    return rows, columns, inside
