"""The table of formats, and how a scene is written in several of them at once.

An exporter is a function of ``(path, scene)`` that writes one file (or folder).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mvdust3r_jax.export.cameras_json import write_cameras
from mvdust3r_jax.export.cloud import write_ply
from mvdust3r_jax.export.colmap import write_colmap, write_colmap_text
from mvdust3r_jax.export.depth_files import write_depth
from mvdust3r_jax.export.glb import write_glb
from mvdust3r_jax.export.html import write_html
from mvdust3r_jax.export.mesh import write_mesh
from mvdust3r_jax.export.nerfstudio import write_nerfstudio
from mvdust3r_jax.export.point_filter import Kept, NoPointsError, PointFilter, keep
from mvdust3r_jax.export.preview import write_preview
from mvdust3r_jax.export.splat_ply import write_splat_ply
from mvdust3r_jax.export.video import write_path_video, write_videos
from mvdust3r_jax.media import ffmpeg
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays


class Exporter(NamedTuple):
    """A format: its writer and the name it writes under (`cli.arguments.words` says what).

    requirement: the optional module that it takes, None for none; extra: the one that brings it.
    """

    function: Callable[[Path, SceneArrays], None]
    file_name: str
    requirement: str | None = None
    extra: str = "demo"


def _write_npz(path: Path, scene: SceneArrays) -> None:
    """Every array of the scene; `Scene.load` reads it back."""
    scene.save_arrays(path)


EXPORTERS: dict[str, Exporter] = {
    "ply": Exporter(write_ply, "scene.ply"),
    "glb": Exporter(write_glb, "scene.glb"),
    "3dgs": Exporter(write_splat_ply, "gaussians.ply"),
    "colmap": Exporter(write_colmap, "colmap"),
    "colmap-text": Exporter(write_colmap_text, "colmap_text"),
    "nerfstudio": Exporter(write_nerfstudio, "nerfstudio"),
    "npz": Exporter(_write_npz, "points.npz"),
    "cameras": Exporter(write_cameras, "cameras.json"),
    "preview": Exporter(write_preview, "preview.png"),
    "depth": Exporter(write_depth, "depth"),
    "mesh": Exporter(write_mesh, "mesh", "skimage", "mesh"),
    "html": Exporter(write_html, "scene.html"),
    "mp4": Exporter(write_videos, "videos", "imageio_ffmpeg"),
}


def with_videos(**options) -> dict[str, Exporter]:
    """All exporters, that of videos with options of `video.write_videos`."""
    videos = EXPORTERS["mp4"]._replace(function=functools.partial(write_videos, **options))
    return EXPORTERS | {"mp4": videos}


def with_path_video(**options) -> dict[str, Exporter]:
    """All exporters, the one of videos along a path; options of `video.write_path_video`."""
    function = functools.partial(write_path_video, **options)
    along = EXPORTERS["mp4"]._replace(function=function, file_name="path.mp4")
    return EXPORTERS | {"mp4": along}


def check(formats: Sequence[str], exporters: Mapping[str, Exporter] = EXPORTERS) -> None:
    """That all of the named formats can be written, before anything costly is done for them.

    Raises:
      ValueError: an unknown one, naming those that exist. ModuleNotFoundError: one that takes a
      package which is not installed; FileNotFoundError: or ffmpeg, which is not there.
    """
    for name in formats:
        if name not in exporters:
            raise ValueError(f"unknown export format {name!r}; there are: {', '.join(exporters)}")
        module = exporters[name].requirement
        if module and importlib.util.find_spec(module) is None:
            error = ModuleNotFoundError(f"the format {name} needs the package {module}")
            error.add_note(f"pip install 'mvdust3r-jax[{exporters[name].extra}]'")
            raise error
        if module == "imageio_ffmpeg":
            ffmpeg.program()


def write(
    scene: SceneArrays,
    folder: str | Path,
    formats: Sequence[str],
    points: PointFilter | Kept | None = None,
    exporters: Mapping[str, Exporter] = EXPORTERS,
    progress: Callable[[str], None] = lambda name: None,
    allow_empty: bool = False,
) -> list[Path]:
    """Write the named formats into ``folder`` and return their paths, in the order of ``formats``.

    They appear together or not at all, in the place of what this program wrote there before under
    their names; other files stay (`storage.results`).

    points: which points to keep (default: all but the least confident tenth), or what `keep` found
    of them. exporters: other writers than the usual ones (`with_videos`). progress: called with
    each format's name as it begins. allow_empty: write the formats even if no point is left.

    Raises:
      NoPointsError: none is left. ResultsError: a foreign file has one of their names. What `check`
      raises, before anything is written.
    """
    check(formats, exporters)
    left = points if isinstance(points, Kept) else keep(scene, points or PointFilter())
    if formats and not left.count and not allow_empty:
        raise NoPointsError(f"no point is left: {left}")
    kept = dataclasses.replace(scene, masks=left.mask)
    names = [exporters[name].file_name for name in formats]
    with results_folder(folder, parts=names) as stage:
        for name in formats:
            progress(name)
            exporters[name].function(stage / exporters[name].file_name, kept)
    return [Path(folder) / name for name in names]
