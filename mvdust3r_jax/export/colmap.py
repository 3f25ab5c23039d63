"""COLMAP text model: ``cameras.txt``, ``images.txt``, ``points3D.txt`` with tracks.

Intrinsics and image points are at the resolution of the original photographs (after EXIF
rotation). COLMAP counts the centre of the first pixel as (0.5, 0.5): 0.5 is added to principal
points and image points. Poses are camera-from-world, OpenCV axes. Views without a pose are left
out, as COLMAP leaves out images that it could not register. Images are named as the photographs,
or as the files in ``images/`` beside the model's folder, where `export.photographs` wrote them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mvdust3r_jax.export.photographs import spaceless_names, written_names
from mvdust3r_jax.export.point_filter import within_budget
from mvdust3r_jax.export.posed_views import (
    invert_rigid,
    posed_views,
    quat_from_rotation,
    usable_pixels,
    view_colors,
)
from mvdust3r_jax.export.tracks import Tracks, build_tracks, mean_errors
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# COLMAP's tools slow down far below what a dense reconstruction offers.
MAX_POINTS = 100_000


def write_colmap(path: str | Path, scene: SceneArrays, max_points: int = MAX_POINTS) -> None:
    """Write the model into the folder ``path``; at most ``max_points`` start a track."""
    views = posed_views(scene)
    names = written_names(scene, Path(path).parent) or spaceless_names(scene)
    tracks = build_tracks(scene, within_budget(usable_pixels(scene), max_points))
    with results_folder(path) as folder:
        (folder / "cameras.txt").write_text(_cameras_txt(scene, views))
        (folder / "images.txt").write_text(_images_txt(scene, views, tracks, names), "utf-8")
        (folder / "points3D.txt").write_text(_points_txt(scene, tracks))


def _cameras_txt(scene: SceneArrays, views: np.ndarray) -> str:
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, FX, FY, CX, CY"]
    for view in views:
        k = np.asarray(scene.original_intrinsics[view], np.float64)
        height, width = (int(n) for n in scene.original_sizes[view])
        fields = [k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5]
        values = " ".join(f"{x:.9g}" for x in fields)
        lines.append(f"{view + 1} PINHOLE {width} {height} {values}")
    return "\n".join(lines) + "\n"


def _images_txt(scene: SceneArrays, views: np.ndarray, tracks: Tracks, names: list[str]) -> str:
    lines = [
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "# POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    cam_from_world = invert_rigid(scene.world_from_cam)
    for view in views:
        pose = cam_from_world[view]
        numbers = [*quat_from_rotation(pose[:3, :3]), *pose[:3, 3]]
        values = " ".join(f"{x:.15g}" for x in numbers)
        lines.append(f"{view + 1} {values} {view + 1} {names[view]}")
        here = tracks.view == view
        pixels, ids = tracks.pixel_px[here] + 0.5, tracks.point[here] + 1
        lines.append(
            " ".join(f"{x:.3f} {y:.3f} {i}" for (x, y), i in zip(pixels, ids, strict=True))
        )
    return "\n".join(lines) + "\n"


def _points_txt(scene: SceneArrays, tracks: Tracks) -> str:
    """One line per point; an observation is (image, index among that image's points)."""
    lines = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    index = np.zeros(len(tracks.view), np.int64)
    for view in np.unique(tracks.view):
        here = tracks.view == view
        index[here] = np.arange(here.sum())
    positions = np.asarray(scene.points, np.float64).reshape(-1, 3)[tracks.seeds]
    colors = view_colors(scene).reshape(-1, 3)[tracks.seeds]
    errors = mean_errors(scene, tracks, positions)
    # What float32 and float64 hold.
    digits = ".15g" if scene.points.dtype == np.float64 else ".9g"
    bounds = np.searchsorted(tracks.point, np.arange(len(tracks.seeds) + 1))
    for i, (xyz, rgb) in enumerate(zip(positions, colors, strict=True)):
        part = slice(bounds[i], bounds[i + 1])
        track = " ".join(
            f"{v + 1} {k}" for v, k in zip(tracks.view[part], index[part], strict=True)
        )
        place = " ".join(f"{x:{digits}}" for x in xyz)
        lines.append(f"{i + 1} {place} {rgb[0]} {rgb[1]} {rgb[2]} {errors[i]:.4f} {track}")
    return "\n".join(lines) + "\n"
