"""Cameras that are known beforehand: read from files, and a scene aligned to them.

Poses are camera-to-world with OpenCV axes, intrinsics belong to the upright photographs at their
original size, the first pixel's centre at (0, 0). NumPy arrays, float64.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

# nerfstudio's cameras look along -z with y up.
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# nerfstudio's camera models whose images are pinhole images if all distortion is zero.
_PINHOLE_MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")

Use = Literal["all", "intrinsics", "poses"]
USES = ("all", "intrinsics", "poses")


class CameraError(ValueError):
    """Known cameras that cannot be used; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class KnownCameras:
    """What is known of the V photographs; None where it is not.

    image_sizes: (height, width) of the images that the intrinsics belong to, 0 where not told;
    None stands for the photographs' own. left_out: sentences on what a file lacks.
    """

    intrinsics: Float[np.ndarray, "V 3 3"] | None = None
    world_from_cam: Float[np.ndarray, "V 4 4"] | None = None
    image_sizes: Int[np.ndarray, "V 2"] | None = None
    left_out: tuple[str, ...] = ()

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

    def intrinsics_of(
        self, view: int, original_size: tuple[int, int], name: str
    ) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of a photograph of that (height, width), enlarged or made smaller for it.

        Raises:
          CameraError: they belong to an image of another shape.
        """
        known = np.array(self.intrinsics[view], np.float64)
        of = (0, 0) if self.image_sizes is None else self.image_sizes[view].tolist()
        if not all(of) or tuple(of) == tuple(original_size):
            return known
        scale = original_size[1] / of[1]
        # Sides are rounded to whole pixels in the larger or in the smaller image.
        if abs(original_size[0] - scale * of[0]) > max(1.0, scale):
            raise CameraError(
                f"{name} has {original_size[1]} x {original_size[0]} pixels, its intrinsics belong "
                f"to an image of {of[1]} x {of[0]}, which has another shape"
            )
        known[[0, 1], [0, 1]] *= scale
        known[:2, 2] = scale * (known[:2, 2] + 0.5) - 0.5
        return known


# ---------------------------------------------------------------- files


class _Entry(NamedTuple):
    """A camera of a file. flaw: why its intrinsics cannot be used, None if they can."""

    name: str
    intrinsics: Any
    world_from_cam: Any
    size: tuple[int, int]
    flaw: str | None = None


def read_cameras(path: str | os.PathLike, names: Sequence[str], use: Use = "all") -> KnownCameras:
    """The cameras of the named photographs, from our `cameras.json` or a `transforms.json`.

    Photographs (paths, or bare names) are found by the longest end of their path that a camera's
    name shares, file endings aside. Intrinsics or poses that are not in the file for every
    photograph are left out, which ``left_out`` tells.

    Raises:
      CameraError: a photograph without a camera or with several, one camera for two photographs,
      or intrinsics of a lens that is no pinhole.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CameraError(f"{path} is no JSON file: {error}") from error
    try:
        entries = _entries(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CameraError(
            f"{path} is neither a cameras.json nor a nerfstudio transforms.json: {error!r}"
        ) from error
    found = _matched(path, names, entries)
    flawed = [entry for entry in found if entry.flaw]
    if flawed and use != "poses":
        error = CameraError(f"{path}: {flawed[0].name} has {flawed[0].flaw}")
        error.add_note("undistort the photographs, or use only the poses of the file")
        raise error
    fields: dict[str, Any] = {"left_out": ()}
    for key, word in (("intrinsics", "intrinsics"), ("world_from_cam", "poses")):
        arrays = [getattr(entry, key) for entry in found]
        lacking = [name for name, x in zip(names, arrays, strict=True) if x is None]
        if use not in ("all", word):
            continue
        if lacking:
            told = f"{path} has no {word} for {_few(lacking)}, so none are taken from it"
            fields["left_out"] += (told,)
        else:
            fields[key] = np.array(arrays, np.float64)
    return KnownCameras(image_sizes=np.array([entry.size for entry in found], int), **fields)


def _few(names: Sequence[str]) -> str:
    bare = [PurePath(name).name for name in names]
    return ", ".join(bare[:5]) + (f" and {len(bare) - 5} more" if len(bare) > 5 else "")


def _matched(path, names: Sequence[str], entries: Sequence[_Entry]) -> list[_Entry]:
    """The entry of each photograph; CameraError where there is none, or more than one."""
    found, missing, taken = [], [], {}
    for name in names:
        scores = [_likeness(name, entry.name) for entry in entries]
        best = max(scores, default=(0, False))
        if best[0] == 0:
            missing.append(name)
            continue
        likely = [i for i, score in enumerate(scores) if score == best]
        if len(likely) > 1:
            several = ", ".join(entries[i].name for i in likely[:3])
            raise CameraError(f"{path}: the camera of {name} may be any of {several}")
        other = taken.setdefault(likely[0], name)
        if other != name:
            camera = entries[likely[0]].name
            raise CameraError(f"{path} has one camera, {camera}, for both {other} and {name}")
        found.append(entries[likely[0]])
    if missing:
        raise CameraError(f"{path} has no camera for {_few(missing)}")
    return found


def _likeness(name: str, camera: str) -> tuple[int, bool]:
    """(how many last parts of two paths agree, file endings aside; whether the endings do)."""
    ours, theirs = PurePath(name).parts[::-1], PurePath(camera).parts[::-1]
    if not ours or not theirs or not _spellings(ours[0]) & _spellings(theirs[0]):
        return 0, False
    same = 1
    for a, b in zip(ours[1:], theirs[1:], strict=False):
        if a != b:
            break
        same += 1
    return same, ours[0] == theirs[0]


def _spellings(name: str) -> set[str]:
    """A file's name with and without ending; exported names have "_" for white space."""
    return {"_".join(text.split()) for text in (name, PurePath(name).stem)}


def _entries(content: Mapping[str, Any]) -> list[_Entry]:
    if "frames" in content:
        return [_nerfstudio_camera({**content, **frame}) for frame in content["frames"]]
    return [
        _Entry(
            str(view["name"]),
            view["original"]["intrinsics"],
            view["world_from_cam"],
            (int(view["original"].get("height", 0)), int(view["original"].get("width", 0))),
        )
        for view in content["views"]
    ]


def _nerfstudio_camera(frame: Mapping[str, Any]) -> _Entry:
    """Of a frame with the file's common values; its pixels are counted from the corner."""
    width, height = int(frame.get("w") or 0), int(frame.get("h") or 0)
    focal_x, focal_y = (_nerfstudio_focal(frame, *x) for x in (("x", width), ("y", height)))
    centre_x = frame.get("cx", width / 2 if width else None)
    centre_y = frame.get("cy", height / 2 if height else None)
    intrinsics = None
    if None not in (focal_x, centre_x, centre_y):
        focal_y = focal_y or focal_x
        intrinsics = [[focal_x, 0, centre_x - 0.5], [0, focal_y, centre_y - 0.5], [0, 0, 1]]
    pose = np.array(frame["transform_matrix"], float) @ _OPENCV_FROM_OPENGL
    return _Entry(str(frame["file_path"]), intrinsics, pose, (height, width), _flaw(frame))


def _nerfstudio_focal(frame: Mapping[str, Any], axis: str, side: int) -> float | None:
    """Focal length in pixels, given as such or as the field of view over ``side`` pixels."""
    focal, angle = frame.get(f"fl_{axis}"), frame.get(f"camera_angle_{axis}")
    if focal is None and angle is not None and side:
        focal = 0.5 * side / np.tan(0.5 * float(angle))
    return None if focal is None else float(focal)


def _flaw(frame: Mapping[str, Any]) -> str | None:
    """Why a pinhole camera is not what took the image."""
    model = str(frame.get("camera_model", "OPENCV"))
    if model not in _PINHOLE_MODELS or frame.get("is_fisheye"):
        return f"the camera model {model if model not in _PINHOLE_MODELS else 'fisheye'}"
    bent = [f"{name} = {frame[name]}" for name in _DISTORTION if float(frame.get(name) or 0) != 0]
    return f"lens distortion ({', '.join(bent)})" if bent else None


# ---------------------------------------------------------------- alignment
