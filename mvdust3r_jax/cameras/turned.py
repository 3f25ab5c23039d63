"""Cameras of files brought to the upright photograph: fields of view in pixels, turned poses.

Programs that pass over EXIF (COLMAP is one) take a photograph's pixels as they are stored. The
poses of such cameras are turned about the optical axis, and the intrinsics with them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mvdust3r_jax.cameras.entries import CameraError, Entry
from mvdust3r_jax.geometry.pixels import image_middle
from mvdust3r_jax.media import orientation
from mvdust3r_jax.media.picture import Header

# Sides are rounded to whole pixels, in the larger or in the smaller image.
_ROUNDING_PX = 1.0


def with_pixels(entry: Entry, header: Header | None) -> Entry:
    """The entry with its field of view in pixels of the photograph, whatever its size."""
    if entry.intrinsics is not None or entry.angles == (None, None) or header is None:
        return entry
    # Pixels are square where one angle alone is told.
    of_sides = [
        None if angle is None else 0.5 * side / np.tan(0.5 * angle)
        for angle, side in zip(entry.angles, header.size[::-1], strict=True)
    ]
    fx, fy = (of_sides[i] if of_sides[i] is not None else of_sides[1 - i] for i in (0, 1))
    middle = image_middle(header.size)
    x, y = (
        given if given is not None else at for given, at in zip(entry.center, middle, strict=True)
    )
    matrix = np.array([[fx, 0, x], [0, fy, y], [0, 0, 1]])
    return dataclasses.replace(entry, intrinsics=matrix, size=header.size)


def as_upright(entry: Entry, header: Header | None) -> Entry:
    """The camera of the upright photograph, for an entry that may be of the stored pixels.

    Raises:
      CameraError: it cannot be told of which it is, or the stored pixels are mirrored.
    """
    if header is None or header.tag == 1 or entry.upright:
        return entry
    stored = orientation.upright_size(header.size, header.tag)
    fits_upright, fits_stored = (_same_shape(entry.size, size) for size in (header.size, stored))
    if fits_upright == fits_stored:
        error = CameraError(
            f"the camera of {entry.name} may be that of the photograph as it is stored or as its "
            f"EXIF orientation ({header.tag}) turns it; its size {_told(entry)} does not say which"
        )
        error.add_note("save the photographs upright, without the tag")
        raise error
    return entry if fits_upright else _turned(entry, header.tag)


def _told(entry: Entry) -> str:
    return f"{entry.size[1]} x {entry.size[0]}" if all(entry.size) else "(not in the file)"


def _same_shape(size: tuple[int, int], photo: tuple[int, int]) -> bool:
    """Whether an image of the one (height, width) can be the other, enlarged or made smaller."""
    if not all(size):
        return False
    scale = photo[1] / size[1]
    return abs(photo[0] - scale * size[0]) <= max(_ROUNDING_PX, scale)


def _turned(entry: Entry, tag: int) -> Entry:
    if orientation.is_mirrored(tag):
        raise CameraError(
            f"the camera of {entry.name} is that of mirrored pixels (EXIF orientation {tag}), "
            "which no pose of the upright photograph describes"
        )
    upright_from_stored = orientation.upright_from_stored(tag, entry.size)
    turn = np.eye(4)
    turn[:2, :2] = upright_from_stored[:2, :2]
    intrinsics, pose = entry.intrinsics, entry.world_from_cam
    if intrinsics is not None:
        intrinsics = upright_from_stored @ intrinsics @ turn[:3, :3].T
    if pose is not None and pose.shape == (4, 4):
        pose = pose @ turn.T
    size = orientation.upright_size(entry.size, tag)
    return dataclasses.replace(entry, intrinsics=intrinsics, world_from_cam=pose, size=size)
