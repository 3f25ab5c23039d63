"""Frames of posed RGB-D folders: read, checked against each other, and encoded for storage.

Colour is brought to the size of the depth image; what fits already is stored byte for byte. Depth
is encoded anew, without loss, so that it is read fast.
"""

from __future__ import annotations

import collections
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from data.augment import Window, resample
from data.rgbd.layouts import FramePaths
from data.stored.schema import (
    CorruptRecord,
    Frame,
    decode_depth_units,
    decode_image,
    encode_depth_units,
    encode_jpeg,
)

# Some recorders write this for "no measurement".
_NO_DEPTH = 65535
# Colour and depth of one camera may differ in size, but not in shape by more than rounding.
_ASPECT_TOLERANCE = 0.02


def read_depth_units(paths: FramePaths) -> np.ndarray:
    """``uint16 [H, W]`` millimetres, 0 where unknown; ``CorruptRecord`` where unreadable."""
    depth = decode_depth_units(paths.depth.read_bytes(), paths.depth.name)
    return np.where(depth == _NO_DEPTH, 0, depth).astype(np.uint16)


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """(height, width) from the header."""
    try:
        width, height = Image.open(io.BytesIO(data)).size
    except OSError as error:
        raise CorruptRecord(f"{name}: not an image ({len(data)} bytes)") from error
    return height, width


def check_frames(frames: Sequence[FramePaths]) -> tuple[list[int], list[np.ndarray], list[str]]:
    """Decodes every frame: the good ones' numbers, their depth in metres, and what was wrong.

    Depth must have the size that most frames of the scene have, and colour its shape.
    """
    depths, problems = {}, []
    for number, paths in enumerate(frames):
        try:
            depths[number] = _checked_depth(paths)
        except (CorruptRecord, OSError) as error:
            problems.append(f"{paths.name}: {error}")
    if not depths:
        return [], [], problems
    usual = collections.Counter(depth.shape for depth in depths.values()).most_common(1)[0][0]
    good = [number for number, depth in depths.items() if depth.shape == usual]
    for number, depth in depths.items():
        if depth.shape != usual:
            name = frames[number].name
            problems.append(f"{name}: depth of size {depth.shape}, the scene has {usual}")
    return good, [depths[number] for number in good], problems


def _checked_depth(paths: FramePaths) -> np.ndarray:
    units = read_depth_units(paths)
    if not units.any():
        raise CorruptRecord("depth is empty")
    image = decode_image(paths.image.read_bytes(), paths.image.name)
    if not image.any():
        raise CorruptRecord("the image is empty (all black)")
    _check_aspect(image.shape[:2], units.shape, paths.name)
    return units.astype(np.float32) / 1000


def _check_aspect(image: tuple[int, int], depth: tuple[int, int], name: str) -> None:
    ratio = (image[1] / image[0]) / (depth[1] / depth[0])
    if abs(ratio - 1) > _ASPECT_TOLERANCE:
        raise CorruptRecord(f"{name}: depth of size {depth} for an image of size {image}")


def encoded_frame(paths: FramePaths, short_side: int = 0) -> Frame:
    """The frame as it is stored.

    short_side: where positive, a larger frame is reduced so that its shorter side has this many
    pixels, and the intrinsics follow.
    """
    try:
        image_bytes, depth_bytes = paths.image.read_bytes(), paths.depth.read_bytes()
    except OSError as error:
        raise CorruptRecord(f"{paths.name}: {error}") from error
    decoded = decode_depth_units(depth_bytes, paths.depth.name)
    units = np.where(decoded == _NO_DEPTH, 0, decoded).astype(np.uint16)
    size, intrinsics = units.shape, paths.intrinsics
    _check_aspect(image_size(image_bytes, paths.image.name), size, paths.name)
    if 0 < short_side < min(size):
        return _reduced(paths, image_bytes, units, short_side)
    if image_size(image_bytes, paths.image.name) != size:
        image = Image.fromarray(decode_image(image_bytes, paths.image.name))
        resized = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        image_bytes = encode_jpeg(np.asarray(resized))
    return Frame(
        paths.name, image_bytes, encode_depth_units(units), paths.world_from_cam, intrinsics
    )


def _reduced(paths: FramePaths, image_bytes: bytes, units: np.ndarray, short_side: int) -> Frame:
    height, width = units.shape
    scale = short_side / min(height, width)
    size = round(height * scale), round(width * scale)
    image = Image.fromarray(decode_image(image_bytes, paths.image.name))
    # Colour may have another size than depth, so each is reduced from its own.
    image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    window = Window.whole((height, width), size)
    depth = resample(units.astype(np.float32), window)
    return Frame(
        paths.name,
        encode_jpeg(np.asarray(image)),
        encode_depth_units(np.rint(depth)),
        paths.world_from_cam,
        window.intrinsics(paths.intrinsics),
    )
