"""Bundle adjustment: cameras and points that bring tracks' projections to their pixels.

pycolmap solves it, with one thread, by a Cauchy loss. Poses are ``world_from_cam`` [V, 4, 4], one
focal length is that of all (ideal) photographs. The pose of one view, the anchor, stays; the
scale of the result is free and near that of the start.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.cameras.feature_tracks import (
    Tracks,
    in_cameras,
    projection_errors,
    renumbered,
    triangulate,
)
from mvdust3r_jax.cameras.features import import_pycolmap

# Rounds from a poor start: the loss is as wide as this quantile of the errors, one pixel at least.
# Verified matches are nearly all right; by their median a group of views that fit each other would
# make outliers of what joins it to the others.
_ROUNDS = 12
_WIDTH_QUANTILE = 0.8
_MIN_LOSS_PX = 1.0
# Observations farther off than so many times the loss's width are left out of a round.
_OUTLIER_WIDTHS = 5.0
# Errors count up to so many widths.
_FAR_WIDTHS = 100.0
# The solver sees no error in points behind a camera, and a long step may bring them there. So the
# trust region stays as small as it begins (the free scale alone would let it grow without end), and
# a round after which the cost is higher is tried again with short steps.
_TRUST_RADII = (1e4, 1.0)
_ITERATIONS, _TOLERANCE = 100, 1e-8
# Rounds go on until cost and width fall by less than this share.
_SETTLED = 0.02


class Adjusted(NamedTuple):
    """Cameras and the points [T, 3] of all tracks."""

    world_from_cam: Float[np.ndarray, "V 4 4"]
    focal_px: float
    points: Float[np.ndarray, "T 3"]


def adjust(
    start: Adjusted,
    tracks: Tracks,
    anchor: int,
    loss_px: float,
    free: tuple[str, ...],
    radius: float = _TRUST_RADII[0],
) -> Adjusted:
    """One bundle adjustment of points and of what is ``free``: "poses", "focal".

    Only views and points with observations move; every track needs one. ``radius``: of the trust
    region.
    """
    pycolmap = import_pycolmap()
    model = _model(pycolmap, start, tracks)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = options.refine_extra_params = False
    options.refine_focal_length = "focal" in free
    options.refine_rig_from_world = "poses" in free
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = loss_px
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.initial_trust_region_radius = radius
    options.ceres.solver_options.max_trust_region_radius = radius
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    options.ceres.solver_options.function_tolerance = _TOLERANCE
    config = pycolmap.BundleAdjustmentConfig()
    for view in np.unique(tracks.view).tolist():
        config.add_image(view + 1)
    if "poses" in free and config.has_image(anchor + 1):
        config.set_constant_rig_from_world_pose(anchor + 1)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    poses = np.array(start.world_from_cam, np.float64)
    for view in np.unique(tracks.view).tolist():
        poses[view, :3] = model.images[view + 1].cam_from_world().inverse().matrix()
    points = np.array(start.points)
    for number in np.unique(tracks.track).tolist():
        points[number] = model.points3D[number + 1].xyz
    return Adjusted(poses, float(model.cameras[1].params[0]), points)


def _model(pycolmap, start: Adjusted, tracks: Tracks):
    """What pycolmap adjusts: view v is image v + 1, track t is point t + 1."""
    model = pycolmap.Reconstruction()
    focal = [start.focal_px, 0, 0]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="SIMPLE_PINHOLE", width=1, height=1, params=focal, camera_id=1)
    )
    row = np.zeros(len(tracks.view), np.int64)  # of each observation among its view's
    cam_from_world = np.linalg.inv(start.world_from_cam)
    for view in range(len(start.world_from_cam)):
        own = np.flatnonzero(tracks.view == view)
        row[own] = np.arange(len(own))
        image = pycolmap.Image(
            name=str(view), keypoints=tracks.pixel_px[own], camera_id=1, image_id=view + 1
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(cam_from_world[view, :3]))
    numbers, firsts = np.unique(tracks.track, return_index=True)
    for number, rows in zip(
        numbers.tolist(), np.split(np.arange(len(row)), firsts[1:]), strict=True
    ):
        seen = [pycolmap.TrackElement(int(tracks.view[i]) + 1, int(row[i])) for i in rows]
        point = pycolmap.Point3D(xyz=start.points[number], track=pycolmap.Track(seen))
        model.add_point3D_with_id(number + 1, point)
    return model


def place_points(
    cameras: Adjusted, tracks: Tracks, loss_px: float = _MIN_LOSS_PX
) -> Float[np.ndarray, "T 3"]:
    """The best point of each track for these cameras, from the better of two starts.

    Starts are the given points and triangulated ones.
    """
    points = _nearer(cameras, tracks, triangulate(cameras.world_from_cam, cameras.focal_px, tracks))
    start = cameras._replace(points=points)
    kept, numbers = renumbered(tracks.take(np.isfinite(projection_errors(*start, tracks))))
    if kept.count:
        moved = adjust(start._replace(points=points[numbers]), kept, -1, loss_px, ())
        points = points.copy()
        points[numbers] = moved.points
    return _nearer(cameras, tracks, points)


def _nearer(cameras: Adjusted, tracks: Tracks, others: np.ndarray) -> np.ndarray:
    """Of each track's given point and another, the one with the smaller mean capped error."""
    costs = []
    for points in (cameras.points, others):
        errors = projection_errors(cameras.world_from_cam, cameras.focal_px, points, tracks)
        costs.append(np.bincount(tracks.track, np.minimum(errors, 1e3), tracks.count))
    return np.where((costs[1] < costs[0])[:, None], others, cameras.points)


def adjust_from_afar(
    start: Adjusted, tracks: Tracks, anchor: int, free: tuple[str, ...] = ("poses",)
) -> Adjusted:
    """Rounds of adjustment by a loss that narrows; observations that do not fit are left out."""
    now = start._replace(points=place_points(start, tracks, _width(start, tracks)))
    for _ in range(_ROUNDS):
        loss_px = _width(now, tracks)
        begin = _cost(now, tracks, loss_px)
        for radius in _TRUST_RADII:
            moved = _round(now, tracks, anchor, loss_px, free, radius)
            gain = begin - _cost(moved, tracks, loss_px)
            if gain > 0:
                now = moved
                break
        narrower = _width(now, tracks) < (1 - _SETTLED) * loss_px
        if gain <= 0 or (gain < _SETTLED * begin and not narrower):
            break
    return now._replace(points=place_points(now, tracks))


def _round(
    now: Adjusted, tracks: Tracks, anchor: int, loss_px: float, free: tuple[str, ...], radius: float
) -> Adjusted:
    """Cameras and points adjusted to the observations that fit, then all points placed anew.

    Where no track fits in two views, all stays as it is.
    """
    errors = projection_errors(*now, tracks)
    kept, numbers = renumbered(tracks.take(errors < _OUTLIER_WIDTHS * loss_px))
    if not kept.count:
        return now
    moved = adjust(now._replace(points=now.points[numbers]), kept, anchor, loss_px, free, radius)
    points = now.points.copy()
    points[numbers] = moved.points
    now = _unmirrored(moved._replace(points=points), kept, numbers, anchor)
    return now._replace(points=place_points(now, tracks, loss_px))


def _cost(cameras: Adjusted, tracks: Tracks, loss_px: float) -> float:
    """Mean Cauchy loss, where a point behind a camera costs as much as one very far off."""
    errors = np.minimum(projection_errors(*cameras, tracks) / loss_px, _FAR_WIDTHS)
    return float(np.mean(np.log1p(errors**2)))


def _width(cameras: Adjusted, tracks: Tracks) -> float:
    """Of the loss, from the errors; points behind a camera have none."""
    errors = projection_errors(*cameras, tracks)
    finite = errors[np.isfinite(errors)]
    return max(float(np.quantile(finite, _WIDTH_QUANTILE)), _MIN_LOSS_PX) if len(finite) else 1e3


def _unmirrored(found: Adjusted, tracks: Tracks, numbers: np.ndarray, anchor: int) -> Adjusted:
    """With points before the cameras: mirrored at the anchor's center all projects the same."""
    ahead = in_cameras(found.world_from_cam, found.points[numbers], tracks)[:, 2] > 0
    if np.mean(ahead) >= 0.5:
        return found
    center, poses = found.world_from_cam[anchor, :3, 3], found.world_from_cam.copy()
    poses[:, :3, 3] = 2 * center - poses[:, :3, 3]
    return found._replace(world_from_cam=poses, points=2 * center - found.points)
