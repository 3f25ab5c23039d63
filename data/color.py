"""Color of data sets' raw frames: read by the one reader of pictures, stored as 8-bit sRGB.

A photograph's EXIF orientation meets the depth beside it, which has no tag: the shape of the depth
says whether it lies as the sensor does or upright, and color follows it. Where the shape cannot
say (a half turn, mirrored or square pictures) the frame is refused.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from data.schema import CorruptRecord, decode_image, encode_jpeg
from mvdust3r_jax.geometry.pixels import corner_from_center, is_about_middle, resized_intrinsics
from mvdust3r_jax.media import orientation
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.photographs import read_photo
from mvdust3r_jax.media.picture import read_header

# Color and depth of one camera may differ in size, but not in shape by more than rounding.
_ASPECT_TOLERANCE = 0.02
# The reader of stored frames must see the same picture; decoders differ in the last digit.
_SAME_LEVELS = 1.0
# Shorter focal lengths, in shares of the longer side, are no pixels but shares themselves.
_SHORTEST = 0.05
# How much nearer a principal point may lie to the middle of the color image.
_NEAR = 0.1


@dataclasses.dataclass(frozen=True)
class Color:
    """pixels: sRGB, lying as the depth does. data: the file's bytes, where they show just that."""

    pixels: UInt8[np.ndarray, "h w 3"]
    data: bytes | None


def read_color(data: bytes, name: str, depth_size: tuple[int, int], columns: int = 1) -> Color:
    """The color for a depth image of that (height, width).

    columns: how many views of that size lie side by side in the picture.

    Raises:
      CorruptRecord: unreadable, of another shape than the depth, or it cannot be told how it lies.
    """
    try:
        photo, kind = read_photo(data, name=name), read_header(data, name).kind
    except ImageError as error:
        raise CorruptRecord(f"{name}: the image cannot be decoded ({error})") from error
    whole = depth_size[0], depth_size[1] * columns
    if photo.tag == 1:
        _check_shape(photo.original_size, whole, name)
        same = kind in ("JPEG", "PNG") and _is_same(photo.pixels, data, name)
        return Color(photo.pixels, data if same else None)
    stored = orientation.upright_size(photo.original_size, photo.tag)
    upright, lying = (_same_shape(size, whole) for size in (photo.original_size, stored))
    if not (upright or lying):
        _check_shape(photo.original_size, whole, name)
    if upright and lying:
        raise CorruptRecord(
            f"{name}: EXIF orientation {photo.tag}; whether depth of size {depth_size} is turned "
            "with it cannot be told; save the image without the tag, lying as the depth does"
        )
    pixels = photo.pixels if upright else orientation.stored_array(photo.pixels, photo.tag)
    return Color(pixels, None)


def _is_same(pixels: np.ndarray, data: bytes, name: str) -> bool:
    """Whether the reader of stored frames sees the same; profiles and 16 bits would be lost."""
    decoded = decode_image(data, name)
    difference = (
        np.abs(decoded.astype(np.int16) - pixels) if decoded.shape == pixels.shape else None
    )
    return difference is not None and float(difference.mean()) <= _SAME_LEVELS


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs((size[1] / size[0]) / (other[1] / other[0]) - 1) <= _ASPECT_TOLERANCE


def _check_shape(image: tuple[int, int], depth: tuple[int, int], name: str) -> None:
    if not _same_shape(image, depth):
        raise CorruptRecord(f"{name}: depth of size {depth} for an image of size {image}")


def resized(
    pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Of that (height, width), by Lanczos' filter."""
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS))


def stored_bytes(color: Color, size: tuple[int, int]) -> bytes:
    """The file's own bytes where they fit, else a JPEG of that (height, width)."""
    if color.data is not None and color.pixels.shape[:2] == size:
        return color.data
    return encode_jpeg(resized(color.pixels, size))


def depth_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"],
    of_size: tuple[int, int] | None,
    depth_size: tuple[int, int],
    image_size: tuple[int, int],
) -> Float[np.ndarray, "3 3"]:
    """Intrinsics of the depth image from those of an image of (height, width) ``of_size``.

    of_size: None where the file does not say; they then must be about the depth image.

    Raises:
      CorruptRecord: the images differ in shape, the principal point is far from the middle, or
      the focal length is that of no lens.
    """
    matrix = np.array(intrinsics, np.float64)
    if of_size is not None and of_size != depth_size:
        if not _same_shape(of_size, depth_size):
            raise CorruptRecord(f"intrinsics of size {of_size} for depth of size {depth_size}")
        scale = np.array(depth_size[::-1]) / of_size[::-1]
        matrix = resized_intrinsics(matrix, scale)
    fx, fy = matrix[[0, 1], [0, 1]]
    if min(fx, fy) < _SHORTEST * max(depth_size):
        raise CorruptRecord(
            f"the focal length ({fx:.1f}, {fy:.1f}) is far too short for depth of size "
            f"{depth_size}: pixels are expected"
        )
    share = corner_from_center(matrix[:2, 2]) / depth_size[::-1]
    of_color = corner_from_center(matrix[:2, 2]) / image_size[::-1]
    foreign = np.abs(of_color - 0.5).max() + _NEAR < np.abs(share - 0.5).max()
    if not is_about_middle(matrix[:2, 2], depth_size) or foreign:
        u, v = matrix[:2, 2]
        raise CorruptRecord(
            f"the principal point ({u:.1f}, {v:.1f}) is not about the middle of depth of size "
            f"{depth_size}: the intrinsics belong to an image of another size"
        )
    return matrix
