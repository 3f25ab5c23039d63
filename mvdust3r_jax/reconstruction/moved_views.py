"""A scene whose cameras were refined: each view's points and Gaussians follow their camera.

Their depth follows what was triangulated, by a factor that is smooth over the image. The world
stays that of the reference, at the network's scale; views that were not refined keep their place
among the others. NumPy in float64 on the host.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.cameras.feature_tracks import Tracks, in_cameras
from mvdust3r_jax.cameras.refinement import RefinedCameras
from mvdust3r_jax.reconstruction.depth_field import depth_field
from mvdust3r_jax.reconstruction.known_world import moved_gaussians
from mvdust3r_jax.reconstruction.pose_doubt import mean_rotation
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.types import Gaussians

# A view's depth is scaled by its tracks where it has so many.
_MIN_DEPTHS = 20


def network_pixels(scene: Scene, view: np.ndarray, pixel_px: np.ndarray, focal_px: float):
    """Rows and columns [n], [n] of the pointmaps at ideal pixels [n, 2] of the given views [n]."""
    height, width = scene.points.shape[1:3]
    k = np.asarray(scene.intrinsics, np.float64)[view]
    column = k[:, 0, 0] * pixel_px[:, 0] / focal_px + k[:, 0, 2]
    row = k[:, 1, 1] * pixel_px[:, 1] / focal_px + k[:, 1, 2]
    clipped = (np.clip(np.rint(row), 0, height - 1), np.clip(np.rint(column), 0, width - 1))
    return tuple(x.astype(int) for x in clipped)


def with_refined_cameras(scene: Scene, found: RefinedCameras, focal_px: float) -> Scene:
    """The scene with these cameras.

    focal_px: of the ideal pixels in ``found.tracks``, before it was refined.
    """
    ratio, scale = _depth_ratios(scene, found, focal_px)
    poses = _in_the_old_world(scene, found, scale)
    old = np.asarray(scene.world_from_cam, np.float64)
    ratio = np.where(found.refined[:, None, None], scale * ratio, 1.0)
    # One factor is that of all focal lengths; views that were not refined have it as well.
    stretch = np.array([1 / found.focal_factor, 1 / found.focal_factor, 1.0])
    points = _moved_points(scene.points, old, poses, ratio, stretch)
    gaussians = _moved_gaussians(scene.gaussians, old, poses, ratio)
    poses[~scene.pose_ok] = poses[scene.reference] = np.eye(4)  # up to rounding it is already
    return dataclasses.replace(
        scene,
        points=points.astype(np.float32),
        gaussians=gaussians,
        world_from_cam=poses.astype(np.float32),
        intrinsics=_longer(scene.intrinsics, found.focal_factor),
        original_intrinsics=_longer(scene.original_intrinsics, found.focal_factor),
    )


def _depth_ratios(
    scene: Scene, found: RefinedCameras, focal_px: float
) -> tuple[Float[np.ndarray, "V H W"], float]:
    """Of each view's pixels, triangulated over predicted depth, and the scale between both.

    ``scale`` brings the refined world to the network's; where a view has few tracks its ratio is 1
    after the scale.
    """
    tracks: Tracks = found.tracks
    row, column = network_pixels(scene, tracks.view, tracks.pixel_px, focal_px)
    predicted = np.asarray(scene.depth, np.float64)[tracks.view, row, column]
    true = in_cameras(found.world_from_cam, found.points, tracks)[:, 2]
    usable = np.isfinite(predicted) & (predicted > 0) & (true > 0)
    logs = np.log(true[usable] / predicted[usable])
    pixel_px = np.stack([column, row], axis=-1)[usable].astype(np.float64)
    scale = float(np.exp(-np.median(logs))) if usable.any() else 1.0
    ratio = np.full(scene.points.shape[:3], 1 / scale)
    for view in np.flatnonzero(found.refined):
        own = tracks.view[usable] == view
        if own.sum() >= _MIN_DEPTHS:
            median = np.median(logs[own])
            field = depth_field(pixel_px[own], logs[own] - median, *ratio.shape[1:])
            ratio[view] = np.exp(median + field)
    return ratio, scale


def _in_the_old_world(
    scene: Scene, found: RefinedCameras, scale: float
) -> Float[np.ndarray, "V 4 4"]:
    """Refined poses beside those that were not: the similarity that moves the former least.

    Then all of them from the reference's camera.
    """
    old, new, use = (
        np.asarray(scene.world_from_cam, np.float64),
        found.world_from_cam,
        found.refined,
    )
    turn = mean_rotation(old[use, :3, :3] @ new[use, :3, :3].swapaxes(1, 2))
    shift = (old[use, :3, 3] - scale * new[use, :3, 3] @ turn.T).mean(axis=0)
    poses = old.copy()
    poses[use, :3, :3] = turn @ new[use, :3, :3]
    poses[use, :3, 3] = scale * new[use, :3, 3] @ turn.T + shift
    return np.linalg.inv(poses[scene.reference]) @ poses


def _moved_points(points, old, poses, ratio, stretch) -> Float[np.ndarray, "V H W 3"]:
    cam_from_old = np.linalg.inv(old)
    with np.errstate(invalid="ignore"):
        seen = np.einsum("vij,vhwj->vhwi", cam_from_old[:, :3, :3], points)
        seen = (seen + cam_from_old[:, None, None, :3, 3]) * stretch * ratio[..., None]
        moved = np.einsum("vij,vhwj->vhwi", poses[:, :3, :3], seen)
    return moved + poses[:, None, None, :3, 3]


def _moved_gaussians(gaussians: Gaussians | None, old, poses, ratio) -> Gaussians | None:
    """Each view's Gaussians turned with its camera and scaled with their depth."""
    if gaussians is None:
        return None
    turns = poses[:, :3, :3] @ old[:, :3, :3].swapaxes(1, 2)
    parts = []
    for view, (turn, scale) in enumerate(zip(turns, ratio, strict=True)):
        own = Gaussians(**{k: np.asarray(x)[view : view + 1] for k, x in vars(gaussians).items()})
        parts.append(vars(moved_gaussians(own, scale[None, ..., None], turn)))
    return Gaussians(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def _longer(intrinsics, factor: float) -> Float[np.ndarray, "V 3 3"]:
    longer = np.array(intrinsics)
    longer[:, [0, 1], [0, 1]] *= factor
    return longer
