"""A COLMAP folder as trainers open it: ``images/`` and ``sparse/0/``, binary or text.

Intrinsics and image points are at the resolution of the original photographs (after EXIF
rotation). COLMAP counts the center of the first pixel as (0.5, 0.5): 0.5 is added to principal
points and image points. Poses are camera-from-world, OpenCV axes. Views without a pose are left
out, as COLMAP leaves out images that it could not register. ``images/`` holds the photographs where
`export.photographs` wrote them beside the folder; else whoever has them puts them there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mvdust3r_jax.export.colmap_files import BINARY, TEXT, Sparse
from mvdust3r_jax.export.photographs import FOLDER, spaceless_names, written_names
from mvdust3r_jax.export.point_filter import within_budget
from mvdust3r_jax.export.posed_views import (
    invert_rigid,
    posed_views,
    quat_from_rotation,
    usable_pixels,
    view_colors,
)
from mvdust3r_jax.export.tracks import build_tracks, mean_errors
from mvdust3r_jax.geometry.pixels import corner_from_center
from mvdust3r_jax.storage.results import results_folder, where_it_stands
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# COLMAP's tools slow down far below what a dense reconstruction offers.
MAX_POINTS = 100_000
MODEL_FOLDER = Path("sparse", "0")


def write_colmap(path: str | Path, scene: SceneArrays, max_points: int = MAX_POINTS) -> None:
    """The folder ``path`` with a binary model; at most ``max_points`` start a track."""
    _write(Path(path), scene, max_points, BINARY)


def write_colmap_text(path: str | Path, scene: SceneArrays, max_points: int = MAX_POINTS) -> None:
    """The same with a text model."""
    _write(Path(path), scene, max_points, TEXT)


def _write(
    path: Path, scene: SceneArrays, max_points: int, writers: dict[str, Callable[..., bytes]]
) -> None:
    written = written_names(scene, path.parent)
    model = sparse_model(scene, written or spaceless_names(scene), max_points)
    with results_folder(path) as folder:
        (folder / MODEL_FOLDER).mkdir(parents=True, exist_ok=True)
        for name, content in writers.items():
            (folder / MODEL_FOLDER / name).write_bytes(content(model))
        if written:
            (folder / FOLDER).mkdir(exist_ok=True)
        for name in written or ():
            source = where_it_stands(path.parent / FOLDER / name)
            shutil.copyfile(source, folder / FOLDER / name)


def sparse_model(scene: SceneArrays, names: list[str], max_points: int = MAX_POINTS) -> Sparse:
    """What COLMAP stores of a scene, by its conventions; ``names``: of all views' image files."""
    views = posed_views(scene)
    tracks = build_tracks(scene, within_budget(usable_pixels(scene), max_points))
    k = np.asarray(scene.original_intrinsics, np.float64)[views]
    cam_from_world = invert_rigid(scene.world_from_cam)[views]
    positions = np.asarray(scene.points, np.float64).reshape(-1, 3)[tracks.seeds]
    return Sparse(
        image_ids=views + 1,
        names=[names[view] for view in views],
        sizes=np.asarray(scene.original_sizes, np.int64)[views][:, ::-1],
        pinhole=np.stack([k[:, 0, 0], k[:, 1, 1], *corner_from_center(k[:, :2, 2].T)], axis=-1),
        quats=quat_from_rotation(cam_from_world[:, :3, :3]),
        translations=cam_from_world[:, :3, 3],
        positions=positions,
        colors=view_colors(scene).reshape(-1, 3)[tracks.seeds],
        errors=mean_errors(scene, tracks, positions),
        point=tracks.point,
        image=tracks.view + 1,
        pixel_px=corner_from_center(tracks.pixel_px),
    )
