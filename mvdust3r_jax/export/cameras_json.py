"""``cameras.json``: poses, focal lengths and intrinsics at both resolutions, conventions stated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mvdust3r_jax.export.posed_views import posed_views
from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_arrays import SceneArrays

_CONVENTIONS = {
    "world": "the camera frame of the reference view (the view whose pose is the identity)",
    "camera_axes": "OpenCV: x right, y down, z forward",
    "world_from_cam": "camera-to-world, 4x4, rows; null where no pose was found",
    "intrinsics": "[[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels",
    "pixels": "the center of the first pixel is (0, 0); COLMAP and OpenGL count it (0.5, 0.5)",
    "units": "those of scene.ply; arbitrary scale unless poses were given",
    "original": "the photograph after its EXIF rotation, before crop and resize",
}


_KNOWN_WORLD = {
    "world": "that of the known poses which were given",
    "units": "those of the known poses",
}


def conventions(scene: SceneArrays) -> dict[str, str]:
    """What the numbers mean, in words."""
    return _CONVENTIONS if scene.world_is_reference else _CONVENTIONS | _KNOWN_WORLD


def cameras_dict(scene: SceneArrays) -> dict:
    """The file's content as plain Python data."""
    posed = set(posed_views(scene).tolist())
    height, width = np.asarray(scene.points).shape[1:3]
    views = []
    for index, name in enumerate(scene.names):
        pose = np.asarray(scene.world_from_cam[index], np.float64)
        original_height, original_width = (int(n) for n in scene.original_sizes[index])
        views.append(
            {
                "name": str(name),
                "world_from_cam": pose.tolist() if index in posed else None,
                "network": _camera(scene.intrinsics[index], height, width),
                "original": _camera(
                    scene.original_intrinsics[index], original_height, original_width
                ),
            }
        )
    return {"conventions": conventions(scene), "views": views}


def _camera(intrinsics: np.ndarray, height: int, width: int) -> dict:
    matrix = np.asarray(intrinsics, np.float64)
    return {
        "width": width,
        "height": height,
        "focal_px": [float(matrix[0, 0]), float(matrix[1, 1])],
        "principal_point_px": [float(matrix[0, 2]), float(matrix[1, 2])],
        "intrinsics": matrix.tolist(),
    }


def write_cameras(path: str | Path, scene: SceneArrays) -> None:
    """Write ``cameras_dict`` as JSON."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(cameras_dict(scene), indent=1, allow_nan=False) + "\n")
