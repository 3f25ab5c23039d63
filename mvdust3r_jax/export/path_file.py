"""Camera paths in a file: keyframes, as the viewer saves them, and the poses between them.

JSON: ``{"format": "mvdust3r camera path 1", "keyframes": [{"world_from_cam": [4 x 4, OpenCV axes],
"vertical_fov_deg": 50}, ...]}``. Written by hand it is as good; two keyframes are the least.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.export.camera_paths import through

FORMAT = "mvdust3r camera path 1"
# Of a rotation's rows from being unit and perpendicular.
_ROTATION_TOLERANCE = 1e-3


class PathError(ValueError):
    """A file that is no camera path; the message names it and what is wrong."""


class Keyframe(NamedTuple):
    """A view of the path: camera-to-world, OpenCV axes, and the vertical field of view."""

    world_from_cam: Float[np.ndarray, "4 4"]
    vertical_fov_deg: float


def content(frames: Sequence[Keyframe]) -> dict[str, Any]:
    """What the file holds."""
    keyframes = [
        {"world_from_cam": f.world_from_cam.tolist(), "vertical_fov_deg": f.vertical_fov_deg}
        for f in frames
    ]
    return {"format": FORMAT, "keyframes": keyframes}


def read_path(path: str | Path) -> list[Keyframe]:
    """The keyframes of a file.

    Raises:
      PathError: it is no such file, or a keyframe is no camera. OSError: it cannot be read.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, expected {FORMAT!r}")
        frames = [
            Keyframe(np.array(k["world_from_cam"], np.float64), float(k["vertical_fov_deg"]))
            for k in found["keyframes"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise PathError(f"{path} is no camera path: {what}") from error
    if len(frames) < 2:
        raise PathError(f"{path}: a path takes at least 2 keyframes, it has {len(frames)}")
    for number, frame in enumerate(frames):
        _check(path, number, frame)
    return frames


def _check(path: str | Path, number: int, frame: Keyframe) -> None:
    pose, fov = frame
    good = pose.shape == (4, 4) and np.isfinite(pose).all()
    if good:
        rotation = pose[:3, :3]
        off = np.abs(rotation @ rotation.T - np.eye(3)).max()
        good = off < _ROTATION_TOLERANCE and np.linalg.det(rotation) > 0
    if not good:
        raise PathError(f"{path}: world_from_cam of keyframe {number} is no pose [4, 4]")
    if not 0 < fov < 180:
        raise PathError(f"{path}: vertical_fov_deg of keyframe {number} is {fov}, expected 0..180")


def poses_along(
    frames: Sequence[Keyframe], num_frames: int
) -> tuple[Float[np.ndarray, "n 4 4"], Float[np.ndarray, " n"]]:
    """``num_frames`` poses through all keyframes at a steady pace, and their fields of view."""
    cameras = np.stack([frame.world_from_cam for frame in frames])
    steps = np.linspace(0, len(frames) - 1, num_frames)
    fovs = [frame.vertical_fov_deg for frame in frames]
    return through(cameras, steps), np.interp(steps, np.arange(len(frames)), fovs)
