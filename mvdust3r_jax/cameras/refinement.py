"""Cameras refined on tracks of matched features, or left alone where they plainly gain nothing.

A fifth of the tracks is held back from the adjustment and judges it: their error must fall in all,
and rise by no more than 0.1 pixels in any view that moves. Errors are medians over observations in
(ideal) pixels, each track's point being the best one for the cameras in question.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from mvdust3r_jax.cameras.adjustment import Adjusted, adjust_from_afar, place_points
from mvdust3r_jax.cameras.feature_tracks import (
    Tracks,
    component_of,
    in_cameras,
    projection_errors,
    renumbered,
)

# A view takes part with so many observations, and stays refined with so many that fit.
MIN_OBSERVATIONS = 30
# An observation fits within so many pixels; of those held back, this share must.
_FIT_PX, _MIN_FIT_SHARE = 4.0, 0.6
# Every so many-th track is held back.
_HELD_EVERY = 5
# The error of what was held back must fall to this share for cameras to be moved: features are
# located to a few tenths of a pixel, differences below that say nothing. The focal length follows
# where it falls to the second share.
_WORTH_SHARE, _WORTH_PX, _FOCAL_SHARE = 0.8, 0.05, 0.9
# Errors are told up to this.
_FAR_PX = 1e4
# Cameras may be bent so that near and far are exchanged and features still fit to a few tenths of a
# pixel. What was triangulated in a view must be ordered in depth as the guesses are: the rank
# correlation is -0.7 to 0.2 in such views of generated rooms, and 0.8 to 0.9 in others.
_MIN_RANK_CORRELATION = 0.5
# A view may not fit worse than before by more than this.
_WORSE_PX = 0.1
# No focal length is believed beyond these factors.
_FOCAL_RANGE = (0.5, 2.0)


@dataclasses.dataclass(frozen=True)
class RefinedCameras:
    """What came of it; where ``refined`` is false everywhere the cameras are those of the start.

    error_px: medians before and after, of the tracks that were held back; None without tracks.
    tracks, points: those among views that took part; points in the frame of ``world_from_cam``.
    why: a sentence for people.
    """

    world_from_cam: Float[np.ndarray, "V 4 4"]
    focal_factor: float
    refined: Bool[np.ndarray, " V"]
    tracks: Tracks
    points: Float[np.ndarray, "T 3"]
    error_px: tuple[float, float] | None
    why: str


def refine_cameras(start: Adjusted, tracks: Tracks, free_focal: bool) -> RefinedCameras:
    """Refine poses, and with ``free_focal`` the common factor of all focal lengths, if it helps.

    ``start.points`` are guesses, as the network makes them; they need not be finite. The view with
    most observations keeps its pose, and the scale is free.
    """
    views, errors = _linked_views(tracks, len(start.world_from_cam)), None
    while views.sum() >= 2:
        own, numbers = renumbered(tracks.take(views[tracks.view]))
        attempt = _attempt(start._replace(points=start.points[numbers]), own, free_focal)
        errors = attempt.error_px
        bad = views & ~attempt.good
        if attempt.why and not bad.any():
            return _unchanged(start, views, errors, attempt.why)
        if not bad.any():
            return _accepted(start, attempt, own, views)
        views = _linked_views(tracks.take((views & attempt.good)[tracks.view]), len(views))
    why = (
        f"fewer than two photographs share {MIN_OBSERVATIONS} matched features that fit, at depths "
        "in the predicted order"
    )
    return _unchanged(start, views, errors, why)


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """Cameras adjusted; ``why`` they must not be taken, or "".

    good: views that fit not much worse than before, in the predicted order of depths.
    """

    cameras: Adjusted
    good: Bool[np.ndarray, " V"]
    error_px: tuple[float, float]
    why: str


def _attempt(start: Adjusted, tracks: Tracks, free_focal: bool) -> _Attempt:
    held = tracks.track % _HELD_EVERY == 0
    fit, numbers = renumbered(tracks.take(~held))
    before = start._replace(points=place_points(start, tracks))
    old = projection_errors(*before, tracks)
    anchor = int(np.bincount(tracks.view).argmax())
    free = (("poses",), ("poses", "focal")) if free_focal else (("poses",),)
    best, new = before, old
    for what in free:
        begin = best._replace(points=best.points[numbers])
        moved = adjust_from_afar(begin, fit, anchor, what)
        moved = moved._replace(points=_all_points(moved, numbers, best.points))
        moved = moved._replace(points=place_points(moved, tracks))
        found = projection_errors(*moved, tracks)
        plausible = _FOCAL_RANGE[0] < moved.focal_px / start.focal_px < _FOCAL_RANGE[1]
        falls = np.median(found[held]) <= _FOCAL_SHARE * np.median(new[held])
        if falls and plausible:
            best, new = moved, found
    error_px = tuple(min(float(np.median(x[held])), _FAR_PX) for x in (old, new))
    good = _good_views(old, new, tracks, held, len(start.world_from_cam))
    good &= _agree_in_depth(start, best, tracks.take(new < _FIT_PX))
    return _Attempt(best, good, error_px, _refusal(old[held], new[held]))


def _all_points(moved: Adjusted, numbers: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points of all tracks: those of the adjusted ones in their places."""
    points = points.copy()
    points[numbers] = moved.points
    return points


def _is_worth(new_px: np.ndarray, old_px: np.ndarray) -> bool:
    """Whether the median falls by a share and by an amount that mean something."""
    old, new = float(np.median(old_px)), float(np.median(new_px))
    return bool(new <= _WORTH_SHARE * old and new <= old - _WORTH_PX)


def _refusal(old_px: np.ndarray, new_px: np.ndarray) -> str:
    """Why the cameras stay as they are, or ""."""
    old, new, share = np.median(old_px), np.median(new_px), np.mean(new_px < _FIT_PX)
    if not _is_worth(new_px, old_px):
        return f"matched features fit hardly better (median {old:.2f} px, then {new:.2f} px)"
    if share < _MIN_FIT_SHARE:
        return f"only {share:.0%} of the matched features would fit within {_FIT_PX:.0f} px"
    return ""


def _good_views(old, new, tracks: Tracks, held, count: int) -> Bool[np.ndarray, " V"]:
    """Views with enough observations that fit, whose held ones are not worse by `_WORSE_PX`."""
    fitting = np.bincount(tracks.view[new < _FIT_PX], minlength=count)
    good = fitting >= MIN_OBSERVATIONS
    for view in np.flatnonzero(good):
        own = held & (tracks.view == view)
        if own.any():
            good[view] = np.median(new[own]) <= np.median(old[own]) + _WORSE_PX
    return good


def _agree_in_depth(start: Adjusted, found: Adjusted, tracks: Tracks) -> Bool[np.ndarray, " V"]:
    """Views in which points are ordered in depth as the guesses of the start are."""
    guess = in_cameras(start.world_from_cam, start.points, tracks)[:, 2]
    depth = in_cameras(found.world_from_cam, found.points, tracks)[:, 2]
    agree = np.zeros(len(start.world_from_cam), bool)
    for view in range(len(agree)):
        own = (tracks.view == view) & np.isfinite(guess)
        if own.sum() >= MIN_OBSERVATIONS:
            ranks = [np.argsort(np.argsort(x[own])) for x in (guess, depth)]
            agree[view] = np.corrcoef(*ranks)[0, 1] >= _MIN_RANK_CORRELATION
    return agree


def _linked_views(tracks: Tracks, count: int) -> Bool[np.ndarray, " V"]:
    """The largest group of views that share tracks, without those that have too few of them."""
    enough = np.ones(count, bool)
    while True:
        own = renumbered(tracks.take(enough[tracks.view]))[0]
        left = _largest_group(own, count)
        left &= np.bincount(own.view, minlength=count) >= MIN_OBSERVATIONS
        if (left == enough).all() or not left.any():
            return left
        enough = left


def _largest_group(tracks: Tracks, count: int) -> Bool[np.ndarray, " V"]:
    """Views joined by tracks; none where nothing is tracked."""
    seen = np.unique(tracks.view)
    if not len(seen):
        return np.zeros(count, bool)
    label = component_of(count + tracks.count, tracks.view, count + tracks.track)[:count]
    return label == np.bincount(label[seen]).argmax()


def _accepted(start: Adjusted, attempt: _Attempt, tracks: Tracks, views) -> RefinedCameras:
    now = attempt.cameras
    fits = projection_errors(*now, tracks) < _FIT_PX
    kept, numbers = renumbered(tracks.take(fits))
    factor, points = now.focal_px / start.focal_px, now.points[numbers]
    return RefinedCameras(
        now.world_from_cam, factor, views, kept, points, attempt.error_px, "refined"
    )


def _unchanged(start: Adjusted, views, error_px, why: str) -> RefinedCameras:
    nothing = Tracks(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2)))
    poses, none = np.asarray(start.world_from_cam, np.float64), np.zeros_like(views)
    return RefinedCameras(poses, 1.0, none, nothing, np.zeros((0, 3)), error_px, why)
