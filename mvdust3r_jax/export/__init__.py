"""What a reconstruction leaves as: one table of formats for the command line and `Scene.save`.

Each exporter is a function of ``(path, scene)`` that writes one file (or folder) and leaves
nothing half-written. They write every pixel of ``scene.masks``; `write` narrows that mask first.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mvdust3r_jax.export.cameras_json import write_cameras
from mvdust3r_jax.export.cloud import write_ply
from mvdust3r_jax.export.colmap import write_colmap
from mvdust3r_jax.export.glb import write_glb
from mvdust3r_jax.export.html import write_html
from mvdust3r_jax.export.nerfstudio import write_nerfstudio
from mvdust3r_jax.export.point_filter import PointFilter, keep_mask
from mvdust3r_jax.export.preview import write_preview
from mvdust3r_jax.export.splat_ply import write_splat_ply
from mvdust3r_jax.export.video import write_videos
from mvdust3r_jax.scene import Scene

__all__ = ["EXPORTERS", "Exporter", "PointFilter", "with_videos", "write"]


class Exporter(NamedTuple):
    """A format: its writer, the name it writes under, and what to say about it in ``--help``."""

    function: Callable[[Path, Scene], None]
    file_name: str
    help: str


def _write_npz(path: Path, scene: Scene) -> None:
    """Every array of the scene; `Scene.load` reads it back."""
    scene.save_arrays(path)


EXPORTERS: dict[str, Exporter] = {
    "ply": Exporter(write_ply, "scene.ply", "coloured points with confidence"),
    "glb": Exporter(write_glb, "scene.glb", "points and camera frusta, y up"),
    "3dgs": Exporter(write_splat_ply, "gaussians.ply", "Gaussians in the standard 3DGS layout"),
    "colmap": Exporter(write_colmap, "colmap", "COLMAP text model with tracks"),
    "nerfstudio": Exporter(write_nerfstudio, "nerfstudio", "transforms.json and seed points"),
    "npz": Exporter(_write_npz, "points.npz", "all arrays, the filtered mask included"),
    "cameras": Exporter(write_cameras, "cameras.json", "poses and intrinsics, both resolutions"),
    "preview": Exporter(write_preview, "preview.png", "contact sheet: input, depth, confidence"),
    "html": Exporter(write_html, "scene.html", "one self-contained page with a 3-D view"),
    "mp4": Exporter(write_videos, "videos", "orbit and fly-through of the Gaussians"),
}


def with_videos(**options) -> dict[str, Exporter]:
    """All exporters, that of videos with options of `video.write_videos`."""
    videos = EXPORTERS["mp4"]._replace(function=functools.partial(write_videos, **options))
    return EXPORTERS | {"mp4": videos}


def write(
    scene: Scene,
    folder: str | Path,
    formats: Sequence[str],
    points: PointFilter | None = None,
    exporters: Mapping[str, Exporter] = EXPORTERS,
) -> list[Path]:
    """Write the named formats into ``folder`` and return their paths, in the order of ``formats``.

    points: which points to keep (default: all but the least confident tenth). exporters: other
    writers than the usual ones (`with_videos`). All names are checked before anything is written:
    ValueError for an unknown one, naming those that exist.
    """
    unknown = [name for name in formats if name not in exporters]
    if unknown:
        raise ValueError(f"unknown export format {unknown[0]!r}; there are: {', '.join(exporters)}")
    kept = dataclasses.replace(scene, masks=keep_mask(scene, points or PointFilter()))
    paths = []
    for name in formats:
        exporter = exporters[name]
        paths.append(Path(folder) / exporter.file_name)
        exporter.function(paths[-1], kept)
    return paths
