"""What a camera file says of one image, and whether that can be a camera.

Poses are camera-to-world with OpenCV axes, intrinsics count the first pixel's center as (0, 0).
float64: a survey's coordinates lie far from the origin.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

# A rotation written with few digits is off by about its last digit; far more is no rotation.
_ROTATION_TOLERANCE = 1e-2
# Calibrations leave a skew; as a share of the focal length this moves no pixel by a whole one.
_SKEW_SHARE = 1e-3
# Focal lengths that a photograph can have, in shares of its longer side: fields of view of 152 to
# 0.06 degrees. What is shorter is a share itself, or millimeters.
_SHORTEST, _LONGEST = 0.125, 1000.0


class CameraError(ValueError):
    """Known cameras that cannot be used; the message says which and why."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A camera of a file; None where the file does not tell.

    size: (height, width) of the image that the intrinsics belong to, 0 where not told. angles:
    fields of view (x, y) in radians where the file has no focal length in pixels, and center: the
    principal point (x, y) beside them, None for the image's middle. flaw: why its
    intrinsics cannot be used. upright: whether the file's convention is the upright photograph;
    other programs' files may be about the pixels as they are stored. mask: the file's mask of the
    image, "" where it names none.
    """

    name: str
    intrinsics: Float[np.ndarray, "3 3"] | None
    world_from_cam: Float[np.ndarray, "4 4"] | None
    size: tuple[int, int] = (0, 0)
    angles: tuple[float | None, float | None] = (None, None)
    center: tuple[float | None, float | None] = (None, None)
    flaw: str | None = None
    upright: bool = False
    mask: str = ""


def checked_pose(matrix: Any) -> Float[np.ndarray, "4 4"]:
    """The camera-to-world pose; ValueError saying what is wrong with a matrix that is none."""
    pose = np.asarray(matrix, np.float64)
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0, 0, 0, 1]])
    if pose.shape != (4, 4):
        raise ValueError(f"a pose of the shape {pose.shape}, expected 4 x 4")
    if not np.isfinite(pose).all():
        raise ValueError("a pose with entries that are not finite numbers")
    rotation = pose[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    determinant = np.linalg.det(rotation)
    if error > _ROTATION_TOLERANCE or determinant < 0:
        kind = "singular" if abs(determinant) < 1e-9 else f"of determinant {determinant:.4g}"
        raise ValueError(f"a pose that is not rigid: its 3x3 is no rotation (it is {kind})")
    if np.abs(pose[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ValueError(f"a pose whose last row is {pose[3].tolist()}, expected 0 0 0 1")
    return pose


def checked_intrinsics(matrix: Any) -> Float[np.ndarray, "3 3"]:
    """The intrinsics; ValueError saying what is wrong with a matrix that is none."""
    intrinsics = np.asarray(matrix, np.float64)
    if intrinsics.shape != (3, 3):
        raise ValueError(f"intrinsics of the shape {intrinsics.shape}, expected 3 x 3")
    if not np.isfinite(intrinsics).all():
        raise ValueError("intrinsics with entries that are not finite numbers")
    if not (intrinsics[[0, 1], [0, 1]] > 0).all():
        raise ValueError("a focal length that is not positive")
    if np.abs(intrinsics[2] - [0, 0, 1]).max() > 1e-6:
        raise ValueError(f"intrinsics whose last row is {intrinsics[2].tolist()}, expected 0 0 1")
    skew = max(np.abs(intrinsics[[0, 1], [1, 0]]))
    if skew > _SKEW_SHARE * intrinsics[0, 0]:
        raise ValueError(f"intrinsics with a skew of {skew:g} pixels, which no camera here has")
    return intrinsics


def check_focal(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], name: str) -> None:
    """CameraError where no photograph of this (height, width) has such focal lengths."""
    for focal in intrinsics[[0, 1], [0, 1]]:
        if not _SHORTEST <= focal / max(size) <= _LONGEST:
            angle = np.degrees(2 * np.arctan(max(size) / 2 / focal))
            error = CameraError(
                f"a focal length of {focal:.4g} pixels for {name} of {size[1]} x {size[0]} pixels "
                f"would be a field of view of {angle:.3g} degrees"
            )
            error.add_note("it counts in pixels of the photograph, not in millimeters or shares")
            raise error


def whole_number(value: Any, field: str) -> int:
    """A side in pixels, 0 where it is not told; ValueError for what is no such number."""
    number = float(value or 0)
    if not np.isfinite(number) or number < 0 or number > 1e6:
        raise ValueError(f"{field} = {value}, expected a number of pixels")
    return int(number)
