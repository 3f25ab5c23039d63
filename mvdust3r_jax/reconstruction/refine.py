"""Cameras of a scene refined on features of its photographs (bundle adjustment), points with them.

    scene = reconstruct(paths, model)
    scene = refine(scene, paths)
    scene.refinement  # what was done, or why not

The network's cameras and points are where the adjustment starts; what it cannot improve it leaves
as it is (`cameras.refinement`). Takes pycolmap (the extra ``refine``); runs on the CPU; the same
input gives the same result.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from mvdust3r_jax.cameras.adjustment import Adjusted
from mvdust3r_jax.cameras.feature_tracks import Tracks, join_matches
from mvdust3r_jax.cameras.features import Features, extract, import_pycolmap, match_all
from mvdust3r_jax.cameras.refinement import refine_cameras
from mvdust3r_jax.geometry.pixels import center_from_corner, corner_from_center
from mvdust3r_jax.media.photographs import Photo, read_photo
from mvdust3r_jax.reconstruction.moved_views import network_pixels, with_refined_cameras
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.storage.scene_arrays import Refinement

Source = str | os.PathLike | np.ndarray | Image.Image | Photo
# Photographs are made this large for their features at most: more pixels cost time only.
MAX_SIDE = 1600


def refine(
    scene: Scene,
    images: Sequence[Source],
    *,
    keep_focal: bool = False,
    progress: Callable[[str], None] = lambda stage: None,
) -> Scene:
    """The scene with cameras that fit matched features of its photographs, or unchanged.

    Views keep their pose beside the refined ones where they share too little with them. Points and
    Gaussians follow their view's camera, their depth scaled by what was triangulated; the reference
    stays the world and the scale the network's.

    Args:
      scene: from `reconstruct`, in the world of its reference.
      images: the photographs that it was made of, in the same order.
      keep_focal: focal lengths are known; else all are multiplied by one factor where the
        features plainly say so.
      progress: called with the name of each stage as it begins.

    Returns:
      A new scene whose ``refinement`` says what came of it.

    Raises:
      features.RefineExtraError: pycolmap is missing. ValueError: another number of images, one of
      another size, or a scene in the world of known poses.
    """
    import_pycolmap()
    _check(scene, images)
    begin = time.perf_counter()
    tracks = find_tracks(scene, images, progress)
    progress("adjust")
    scene = refine_on(scene, tracks, keep_focal=keep_focal)
    progress("")
    seconds = {"refine": time.perf_counter() - begin}
    return dataclasses.replace(scene, timings=scene.timings | seconds)


def find_tracks(
    scene: Scene,
    images: Sequence[Source],
    progress: Callable[[str], None] = lambda stage: None,
) -> Tracks:
    """Matched features of the photographs, where the network saw them and the view has a pose.

    Their ideal pixels are as large as those that the features were found in.
    """
    progress("features")
    found, ideal_px = [], []
    for view, image in enumerate(images):
        gray, scale = _gray(image, scene.original_sizes[view], scene.names[view])
        features = extract(gray)
        original_px = center_from_corner(corner_from_center(features.pixel_px) * scale)
        seen = _is_seen(scene, view, original_px) & bool(scene.pose_ok[view])
        found.append(Features(*(field[seen] for field in features)))
        ideal_px.append(_ideal(scene, view, original_px[seen]))
    progress("match")
    return join_matches(match_all(found, ideal_px, _common_focal(scene)), ideal_px)


def refine_on(scene: Scene, tracks: Tracks, *, keep_focal: bool = False) -> Scene:
    """`refine` on tracks that are found already."""
    focal_px = _common_focal(scene)
    poses = np.asarray(scene.world_from_cam, np.float64)
    start = Adjusted(poses, focal_px, _points_of(scene, tracks, focal_px))
    found = refine_cameras(start, tracks, not keep_focal)
    told = Refinement(
        refined=found.refined.tolist(),
        tracks=tracks.count,
        error_px=found.error_px,
        focal_factor=found.focal_factor,
        why=found.why,
    )
    if found.refined.any():
        scene = with_refined_cameras(scene, found, focal_px)
    return dataclasses.replace(scene, refinement=told)


def _check(scene: Scene, images: Sequence[Source]) -> None:
    if len(images) != len(scene.names):
        raise ValueError(f"{len(images)} images do not fit a scene of {len(scene.names)} views")
    if not scene.world_is_reference:
        raise ValueError("the scene has known poses, which refining would change")


# ---------------------------------------------------------------- photographs


def _gray(
    source: Source, original_size: Int[np.ndarray, "2"], name: str
) -> tuple[UInt8[np.ndarray, "h w"], Float[np.ndarray, "2"]]:
    """The photograph for its features, and (width, height) of the original in its pixels."""
    photo = source if isinstance(source, Photo) else read_photo(source, name=name)
    original = tuple(int(n) for n in original_size)
    if photo.original_size != original:
        raise ValueError(f"{name} has {photo.original_size} pixels, the scene's had {original}")
    image = Image.fromarray(photo.pixels).convert("L")
    shrink = _shrink(original)
    if shrink < 1:
        size = tuple(max(1, round(shrink * side)) for side in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image), np.array(original[::-1]) / np.array(image.size)


def _shrink(original_size: Sequence[int] | Int[np.ndarray, "2"]) -> float:
    """By what the sides of a photograph are multiplied for its features."""
    return min(1.0, MAX_SIDE / int(max(original_size)))


def _net_from_original(scene: Scene, view: int) -> Float[np.ndarray, "3 3"]:
    original = np.asarray(scene.original_intrinsics[view], np.float64)
    return np.asarray(scene.intrinsics[view], np.float64) @ np.linalg.inv(original)


def _is_seen(scene: Scene, view: int, original_px: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which pixels of the photograph the network saw and the masks keep."""
    to_net = _net_from_original(scene, view)
    column, row = np.rint(original_px @ to_net[:2, :2].T + to_net[:2, 2]).astype(int).T
    height, width = scene.masks.shape[1:]
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
    inside[inside] = scene.masks[view, row[inside], column[inside]]
    return inside


# ---------------------------------------------------------------- ideal pixels


def _common_focal(scene: Scene) -> float:
    """The focal length of ideal pixels: the median one, in pixels that features are found in.

    What counts in pixels, thresholds and errors, is thus the same for a photograph enlarged.
    """
    focal = np.asarray(scene.original_intrinsics, np.float64)[:, [0, 1], [0, 1]]
    shrink = [_shrink(size) for size in scene.original_sizes]
    return float(np.median(np.sqrt(focal.prod(axis=-1)) * shrink))


def _ideal(scene: Scene, view: int, original_px: np.ndarray) -> Float[np.ndarray, "n 2"]:
    k = np.asarray(scene.original_intrinsics[view], np.float64)
    return (original_px - k[:2, 2]) / k[[0, 1], [0, 1]] * _common_focal(scene)


def _points_of(scene: Scene, tracks: Tracks, focal_px: float) -> Float[np.ndarray, "T 3"]:
    """Of each track the mean of what the network says at its pixels; NaN where it says nothing."""
    row, column = network_pixels(scene, tracks.view, tracks.pixel_px, focal_px)
    said = np.asarray(scene.points, np.float64)[tracks.view, row, column]
    known = np.isfinite(said).all(axis=-1)
    sums = [np.bincount(tracks.track[known], x, tracks.count) for x in said[known].T]
    counts = np.bincount(tracks.track[known], minlength=tracks.count)
    return np.stack(sums, axis=-1) / np.where(counts > 0, counts, np.nan)[:, None]
