"""Frames of posed RGB-D folders: read, checked against each other, and encoded for storage.

Color is brought to the size of the depth image, and lies as it does; what fits already is stored
byte for byte. Depth is encoded anew, without loss, so that it is read fast. The choice and the
build read a frame by the same function: what passes the one passes the other.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from data import color as colors
from data.augment import Window, resample
from data.rgbd.layouts import FramePaths
from data.schema import (
    CorruptRecord,
    Frame,
    decode_sensor_depth,
    encode_depth_units,
    encode_jpeg,
)
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.picture import read_header

Taken = TypeVar("Taken")


@dataclasses.dataclass(frozen=True)
class ReadFrame:
    """units: ``uint16 [H, W]`` millimeters, 0 where unknown. intrinsics: of this depth image."""

    color: colors.Color
    units: np.ndarray
    intrinsics: Float[np.ndarray, "3 3"]


def read_frame(paths: FramePaths) -> ReadFrame:
    """A frame's files, decoded and brought together; ``CorruptRecord`` saying what is wrong.

    That may be that nothing is in them: no known depth, or a black picture.
    """
    try:
        image_bytes, depth_bytes = paths.image.read_bytes(), paths.depth.read_bytes()
    except OSError as error:
        raise CorruptRecord(f"{error.filename}: {error.strerror}") from error
    units = _depth_units(depth_bytes, paths.depth.name)
    color = colors.read_color(image_bytes, paths.image.name, units.shape)
    intrinsics = colors.depth_intrinsics(
        paths.intrinsics, paths.intrinsics_size, units.shape, color.pixels.shape[:2]
    )
    if not units.any():
        raise CorruptRecord("depth is empty")
    if not color.pixels.any():
        raise CorruptRecord("the image is empty (all black)")
    return ReadFrame(color, units, intrinsics)


def _depth_units(data: bytes, name: str) -> np.ndarray:
    depth = decode_sensor_depth(data, name)
    try:
        tag = read_header(data, name).tag
    except ImageError as error:
        raise CorruptRecord(str(error)) from error
    if tag != 1:
        raise CorruptRecord(f"{name}: depth with EXIF orientation {tag}; save it without the tag")
    return depth


def check_frames(
    frames: Sequence[FramePaths], take: Callable[[FramePaths, np.ndarray], Taken]
) -> tuple[list[FramePaths], list[Taken], list[str]]:
    """Decodes every frame: the good ones, what ``take`` makes of them, and what was wrong.

    take: of a frame and its depth in meters, which is not kept. The intrinsics of the good ones
    belong to their depth image, whatever they were given for. Depth must have the size that most
    frames of the scene have.
    """
    found, problems = [], []
    for paths in frames:
        try:
            own, depth_m = _checked(paths)
            found.append((own, depth_m.shape, take(own, depth_m)))
        except CorruptRecord as error:
            problems.append(f"{paths.name}: {error}")
    usual = collections.Counter(shape for _, shape, _ in found).most_common(1)
    good = [(own, taken) for own, shape, taken in found if shape == usual[0][0]]
    problems += [
        f"{own.name}: depth of size {shape}, the scene has {usual[0][0]}"
        for own, shape, _ in found
        if shape != usual[0][0]
    ]
    return [own for own, _ in good], [taken for _, taken in good], problems


def _checked(paths: FramePaths) -> tuple[FramePaths, np.ndarray]:
    frame = read_frame(paths)
    own = dataclasses.replace(paths, intrinsics=frame.intrinsics, intrinsics_size=None)
    return own, frame.units.astype(np.float32) / 1000


def encoded_frame(paths: FramePaths, short_side: int = 0) -> Frame:
    """The frame as it is stored.

    short_side: where positive, a larger frame is reduced so that its shorter side has this many
    pixels, and the intrinsics follow.
    """
    try:
        frame = read_frame(paths)
    except CorruptRecord as error:
        raise CorruptRecord(f"{paths.name}: {error}") from error
    size = frame.units.shape
    if 0 < short_side < min(size):
        return _reduced(paths, frame, short_side)
    image = colors.stored_bytes(frame.color, size)
    depth = encode_depth_units(frame.units)
    return Frame(paths.name, image, depth, paths.world_from_cam, frame.intrinsics)


def _reduced(paths: FramePaths, frame: ReadFrame, short_side: int) -> Frame:
    height, width = frame.units.shape
    scale = short_side / min(height, width)
    size = round(height * scale), round(width * scale)
    # Color may have another size than depth, so each is reduced from its own.
    image = encode_jpeg(colors.resized(frame.color.pixels, size))
    window = Window.whole((height, width), size)
    units = np.rint(resample(frame.units.astype(np.float32), window))
    if not units.any():
        raise CorruptRecord(f"{paths.name}: depth is empty when reduced to {size}")
    intrinsics = window.intrinsics(frame.intrinsics)
    return Frame(paths.name, image, encode_depth_units(units), paths.world_from_cam, intrinsics)
