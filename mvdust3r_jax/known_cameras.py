"""Cameras that are known beforehand: read from files, and a scene aligned to them.

Poses are camera-to-world with OpenCV axes, intrinsics belong to the upright photographs at their
original size, the first pixel's centre at (0, 0). NumPy arrays, float64.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mvdust3r_jax.geometry.transforms import quat_from_rotation, rotation_from_quat
from mvdust3r_jax.scene import Scene
from mvdust3r_jax.splat.gaussians import sh_basis
from mvdust3r_jax.types import Gaussians

# nerfstudio's cameras look along -z with y up.
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# Camera centres closer together than this share of the scene's size give no scale.
_MIN_BASELINE_SHARE = 1e-6


class CameraError(ValueError):
    """Known cameras that cannot be used; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class KnownCameras:
    """What is known of the V photographs; None where it is not."""

    intrinsics: Float[np.ndarray, "V 3 3"] | None = None
    world_from_cam: Float[np.ndarray, "V 4 4"] | None = None

    def __post_init__(self):
        for name, size in (("intrinsics", 3), ("world_from_cam", 4)):
            array = getattr(self, name)
            if array is None:
                continue
            if array.ndim != 3 or array.shape[1:] != (size, size):
                raise CameraError(f"{name} [V, {size}, {size}] is expected, got {array.shape}")
            if not np.isfinite(array).all():
                raise CameraError(f"{name} has entries that are not finite numbers")
        if self.intrinsics is not None and (self.intrinsics[:, [0, 1], [0, 1]] <= 0).any():
            raise CameraError("intrinsics have a focal length that is not positive")
        if self.world_from_cam is not None:
            rotation = self.world_from_cam[:, :3, :3]
            error = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max()
            if error > 1e-2 or (np.linalg.det(rotation) < 0).any():
                raise CameraError("world_from_cam has an upper 3x3 that is no rotation")


def read_cameras(path: str | os.PathLike, names: Sequence[str]) -> KnownCameras:
    """The cameras of the named photographs, from our `cameras.json` or a `transforms.json`.

    Photographs are found by file name, with or without ending. Intrinsics or poses that are not
    in the file for every photograph are left out. Raises CameraError, naming what is missing.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CameraError(f"{path} is no JSON file: {error}") from error
    try:
        entries = dict(_entries(content))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CameraError(
            f"{path} is neither a cameras.json nor a nerfstudio transforms.json: {error!r}"
        ) from error
    found = [entries.get(name) or entries.get(Path(name).stem) for name in names]
    missing = [name for name, entry in zip(names, found, strict=True) if entry is None]
    if missing:
        raise CameraError(f"{path} has no camera for {', '.join(missing[:5])}")
    fields = {}
    for key in ("intrinsics", "world_from_cam"):
        arrays = [entry[key] for entry in found]
        if all(array is not None for array in arrays):
            fields[key] = np.array(arrays, np.float64)
    return KnownCameras(**fields)


def _entries(content: Mapping[str, Any]):
    """(name, {"intrinsics", "world_from_cam"}) of every camera, by file name and by stem."""
    if "frames" in content:
        cameras = [_nerfstudio_camera(content, frame) for frame in content["frames"]]
    else:
        cameras = [
            (view["name"], view["original"]["intrinsics"], view["world_from_cam"])
            for view in content["views"]
        ]
    for name, intrinsics, world_from_cam in cameras:
        entry = {"intrinsics": intrinsics, "world_from_cam": world_from_cam}
        yield Path(name).name, entry
        yield Path(name).stem, entry


def _nerfstudio_camera(content: Mapping[str, Any], frame: Mapping[str, Any]):
    value = lambda key: frame.get(key, content.get(key))  # noqa: E731
    intrinsics = None
    if value("fl_x") is not None:
        focal_y = value("fl_y") or value("fl_x")
        # Its pixels are counted from the corner.
        centre_x, centre_y = value("cx") - 0.5, value("cy") - 0.5
        intrinsics = [[value("fl_x"), 0, centre_x], [0, focal_y, centre_y], [0, 0, 1]]
    return frame["file_path"], intrinsics, np.array(frame["transform_matrix"]) @ _OPENCV_FROM_OPENGL


# ---------------------------------------------------------------- alignment


def align_to_poses(scene: Scene, world_from_cam: Float[np.ndarray, "V 4 4"]) -> Scene:
    """The scene moved, turned and scaled into the world of the known poses, which it then has.

    The rotation is the mean of all views' (chordal), which two views determine as well; the scale
    is the ratio of the distances between camera centres. Views without a found pose do not count.

    Raises:
      CameraError: fewer than two views have a pose, or their centres coincide.
    """
    known, found = np.asarray(world_from_cam, np.float64), scene.world_from_cam.astype(np.float64)
    use = np.flatnonzero(scene.pose_ok)
    if len(use) < 2:
        raise CameraError(f"aligning to known poses takes 2 estimated ones, there are {len(use)}")
    rotation = _mean_rotation(known[use, :3, :3] @ found[use, :3, :3].swapaxes(1, 2))
    centres, targets = found[use, :3, 3], known[use, :3, 3]
    spread = [np.linalg.norm(c - c.mean(axis=0), axis=1).mean() for c in (centres, targets)]
    size = float(np.median(np.linalg.norm(scene.points[scene.masks], axis=-1)))
    if spread[0] <= _MIN_BASELINE_SHARE * size or spread[1] <= 0:
        raise CameraError("the cameras stand in one place, which gives no scale to align")
    scale = spread[1] / spread[0]
    translation = targets.mean(axis=0) - scale * rotation @ centres.mean(axis=0)
    return dataclasses.replace(
        scene,
        points=(scale * scene.points @ rotation.T + translation).astype(np.float32),
        gaussians=_moved(scene.gaussians, scale, rotation),
        world_from_cam=known.astype(np.float32),
        pose_ok=np.ones_like(scene.pose_ok),
        metric=True,
        world_is_reference=False,
    )


def _mean_rotation(rotations: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(rotations.sum(axis=0))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def _moved(gaussians: Gaussians | None, scale: float, rotation: np.ndarray) -> Gaussians | None:
    """Gaussians scaled and turned; their positions are the points."""
    if gaussians is None:
        return None
    turned = np.float32(rotation) @ np.asarray(rotation_from_quat(jnp.asarray(gaussians.rotations)))
    return Gaussians(
        colors=rotate_sh(gaussians.colors, rotation),
        opacities=gaussians.opacities,
        scales=np.asarray(gaussians.scales * np.float32(scale)),
        rotations=np.asarray(quat_from_rotation(jnp.asarray(turned))),
    )


def rotate_sh(
    coefficients: Float[np.ndarray, "*batch K3"], rotation: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*batch K3"]:
    """SH coefficients (coefficient-major, then RGB) of the same colours after a rotation.

    Solved by least squares over random directions d: the new function at d is the old one at
    the direction before the rotation. Exact, because a rotation stays inside a degree.
    """
    count = coefficients.shape[-1] // 3
    if count == 1:
        return coefficients
    directions = np.random.default_rng(0).normal(size=(8 * count, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    new = _sh_matrix(directions, count)
    old = _sh_matrix(directions @ rotation.astype(np.float32), count)
    new_from_old = np.linalg.lstsq(new, old, rcond=None)[0]
    split = coefficients.reshape(*coefficients.shape[:-1], count, 3)
    turned = np.einsum("ij,...jc->...ic", new_from_old, split)
    return turned.reshape(coefficients.shape).astype(np.float32)


def _sh_matrix(directions: np.ndarray, count: int) -> np.ndarray:
    """[n, K]: the basis functions at each direction."""
    columns = sh_basis(tuple(jnp.asarray(directions.T)), round(count**0.5) - 1)
    return np.stack([np.broadcast_to(np.asarray(c), len(directions)) for c in columns], axis=-1)
