"""nerfstudio's ``transforms.json`` and the seed points it names.

Camera axes are OpenGL's (x right, y up, z back), as nerfstudio expects. A world that is the
reference camera's is turned to z-up, which nerfstudio's viewer and its default orientation assume:
world x = reference x, world y = reference z (forward), world z = -reference y (up). The world of
known poses is kept: poses read from a ``transforms.json`` come back as they were. Intrinsics are at
the original resolution and count the center of the first pixel as (0.5, 0.5). ``file_path`` leads
to ``images/`` beside the folder, where `export.photographs` wrote it; else it is the photograph's
name: put the photographs (EXIF rotation applied) beside the file. Views without a pose are left
out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvdust3r_jax.export.cloud import KNOWN_FRAME, cloud, write_points_ply
from mvdust3r_jax.export.photographs import FOLDER, written_names
from mvdust3r_jax.export.posed_views import OPENGL_FROM_OPENCV, posed_views
from mvdust3r_jax.geometry.pixels import corner_from_center
from mvdust3r_jax.storage.results import results_folder
from mvdust3r_jax.storage.scene_arrays import SceneArrays

# nerfstudio's world (z up) from the reference camera's frame (y down, z forward).
Z_UP_FROM_WORLD = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


def _turn(scene: SceneArrays) -> np.ndarray:
    """[4, 4]: what the file's world is of the scene's."""
    return Z_UP_FROM_WORLD if scene.world_is_reference else np.eye(4)


def transforms_dict(scene: SceneArrays, ply_file_path: str, image_paths: Sequence[str]) -> dict:
    """The file's content as plain Python data, one frame per view with a pose."""
    frames = []
    for view in posed_views(scene):
        k = np.asarray(scene.original_intrinsics[view], np.float64)
        height, width = (int(n) for n in scene.original_sizes[view])
        pose = _turn(scene) @ np.asarray(scene.world_from_cam[view], np.float64)
        frames.append(
            {
                "file_path": image_paths[view],
                "fl_x": float(k[0, 0]),
                "fl_y": float(k[1, 1]),
                "cx": float(corner_from_center(k[0, 2])),
                "cy": float(corner_from_center(k[1, 2])),
                "w": width,
                "h": height,
                "transform_matrix": (pose @ OPENGL_FROM_OPENCV).tolist(),
            }
        )
    return {
        "camera_model": "OPENCV",
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "ply_file_path": ply_file_path,
        "applied_transform": _turn(scene)[:3].tolist(),
        "frames": frames,
    }


def write_nerfstudio(path: str | Path, scene: SceneArrays) -> None:
    """Write the folder ``path`` with ``transforms.json`` and ``sparse_pc.ply``."""
    points, colors, confidence = cloud(scene)
    turned = (points @ _turn(scene)[:3, :3].T).astype(points.dtype)
    written = written_names(scene, Path(path).parent)
    images = [f"../{FOLDER}/{name}" for name in written] if written else list(map(str, scene.names))
    with results_folder(path) as folder:
        content = transforms_dict(scene, "sparse_pc.ply", images)
        content = json.dumps(content, indent=1, allow_nan=False)
        (folder / "transforms.json").write_text(content + "\n")
        comment = "frame: x right, y forward, z up" if scene.world_is_reference else KNOWN_FRAME
        write_points_ply(folder / "sparse_pc.ply", turned, colors, confidence, comment)
