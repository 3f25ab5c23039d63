"""Depth maps as files, one set per view, at the resolution that the network saw.

``NAME.npz`` holds ``depth`` (float32, along the optical axis, in the scene's unit; 0 where there
is none), ``confidence`` (float32), ``intrinsics`` [3, 3] (the first pixel's center is (0, 0)) and
``world_from_cam`` [4, 4] (OpenCV axes). Where poses were known, ``NAME.png`` holds the
same depth in whole thousandths of their unit (millimeters, of meters), 16 bits, 0 where there is
none or where it is beyond 65.535 units.
``depth.json`` names them all.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mvdust3r_jax.export.photographs import file_names
from mvdust3r_jax.export.posed_views import depth_maps, posed_views, usable_pixels
from mvdust3r_jax.media.names import are_distinct_files, numbered
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

_MM_MAX = np.iinfo(np.uint16).max


def write_depth(path: str | Path, scene: SceneArrays) -> None:
    """Write the folder ``path``; views without a pose have no depth and are left out."""
    depths, names = depth_of_views(scene), stems(scene)
    index = {
        "unit": scene.unit,
        "png": "depth in thousandths of the unit",
        "pixel": "the first pixel's center is (0, 0)",
        "views": [],
    }
    with results_folder(path) as folder:
        for view in posed_views(scene).tolist():
            entry = {"photograph": str(scene.names[view]), "depth": f"{names[view]}.npz"}
            _write_npz(folder / entry["depth"], scene, view, depths[view])
            if scene.metric:
                entry["depth_mm"] = f"{names[view]}.png"
                entry["pixels_beyond_png"] = write_png_mm(folder / entry["depth_mm"], depths[view])
            index["views"].append(entry)
        content = json.dumps(index, indent=1, ensure_ascii=False)
        (folder / "depth.json").write_text(content + "\n", "utf-8")


def depth_of_views(scene: SceneArrays) -> np.ndarray:
    """[V, H, W] float32: depth of the usable pixels in front of their camera, 0 elsewhere."""
    depth = depth_maps(scene)
    with np.errstate(invalid="ignore"):
        seen = usable_pixels(scene) & (depth > 0)
    return np.where(seen, depth, 0).astype(np.float32)


def stems(scene: SceneArrays) -> list[str]:
    """A distinct name without ending for each view's files."""
    names = [Path(name).stem for name in file_names(scene)]
    if are_distinct_files(names):
        return names
    return [numbered(i, name) for i, name in enumerate(names)]


def _write_npz(path: Path, scene: SceneArrays, view: int, depth: np.ndarray) -> None:
    np.savez_compressed(
        path,
        depth=depth,
        confidence=np.asarray(scene.confidence[view], np.float32),
        intrinsics=np.asarray(scene.intrinsics[view], np.float64),
        world_from_cam=np.asarray(scene.world_from_cam[view], np.float64),
    )


def write_png_mm(path: Path, depth_m: np.ndarray) -> int:
    """Whole thousandths as a 16-bit PNG; returns how many pixels were too far for it, and are 0."""
    millimeters = np.round(np.asarray(depth_m, np.float64) * 1000)
    beyond = millimeters > _MM_MAX
    Image.fromarray(np.where(beyond, 0, millimeters).astype(np.uint16)).save(path)
    return int(beyond.sum())
