"""Photographs as the network takes them: any size and aspect to one H x W.

A window of the network's aspect is cut out around the principal point and resized by Lanczos'
filter (``crop``, as in training), or the whole photograph is scaled to fit and the rest padded
(``pad``; up to a pixel of the result is cut at its borders, so that its pixels stay square). What
was done is kept as the affine map ``net_from_original`` of pixel coordinates, so
that cameras can be given at both resolutions. Pixel (0, 0) has its center at (0, 0) in both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.photographs import BACKGROUND, Photo

Fit = Literal["crop", "pad"]
FITS = ("crop", "pad")
# A window that is a smaller share of the largest one shows next to nothing.
_LEAST_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What the network gets of one photograph, and the map to it from the file's pixels."""

    pixels: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    net_from_original: Float[np.ndarray, "3 3"]


def fit_photo(
    photo: Photo,
    height: int,
    width: int,
    fit: Fit = "crop",
    principal_point: Sequence[float] | None = None,
) -> Fitted:
    """Cut or pad to ``height x width``.

    ``principal_point`` (u, v) at the original size, where known, becomes the point
    (width / 2, height / 2), which the network and the pose estimation take for it.

    Raises:
      ImageError: the principal point lies outside the photograph, or so near its border that
      nothing is left; ValueError: unknown ``fit``.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    out = np.array([height, width])
    whole = np.array(photo.original_size, float)
    window = _window(photo, out, fit, principal_point)
    # As many whole pixels of the result as the photograph covers, and what they show of it.
    pixel = (window[1] - window[0]) / out
    low, high = (np.clip(window, 0, whole) - window[0]) / pixel
    count = np.maximum(np.floor(high - low + 1e-6), 1)
    first = np.round((low + high - count) / 2).astype(int)
    start = np.clip(first, low, np.maximum(low, high - count))
    inside = window[0] + pixel * np.stack([start, np.minimum(start + count, high)])
    inside, last = np.clip(inside, 0, whole), first + count.astype(int)
    pixels = np.full((height, width, 3), BACKGROUND, np.uint8)
    mask = np.zeros((height, width), bool)
    covered = slice(first[0], last[0]), slice(first[1], last[1])
    pixels[covered], mask[covered] = _resample(photo, inside, last - first)
    scale = (last - first) / (inside[1] - inside[0])
    offset = first - 0.5 + scale * (0.5 - inside[0])
    net_from_original = np.array(
        [[scale[1], 0, offset[1]], [0, scale[0], offset[0]], [0, 0, 1]], np.float64
    )
    return Fitted(pixels, mask, net_from_original)


def _window(photo: Photo, out: np.ndarray, fit: Fit, principal_point) -> np.ndarray:
    """[[top, left], [bottom, right]] of what the result shows, from the corner of the original."""
    whole = np.array(photo.original_size, float)
    if principal_point is None:
        scale = np.max(out / whole) if fit == "crop" else np.min(out / whole)
        return whole / 2 + np.array([[-0.5], [0.5]]) * out / scale
    center = np.asarray(principal_point, float)[::-1] + 0.5
    if not (np.all(center > 0) and np.all(center < whole)):
        u, v = map(float, principal_point)
        raise ImageError(
            f"{photo.name} of {photo.original_size[1]} x {photo.original_size[0]} pixels: its "
            f"principal point ({u:.1f}, {v:.1f}) lies outside of it"
        )
    # Pixels of the result before and after the point, which is to have the coordinate out / 2.
    before, after = out / 2 + 0.5, out / 2 - 0.5
    scales = np.concatenate([before / center, after / (whole - center)])
    scale = np.max(scales) if fit == "crop" else np.min(scales)
    share = np.max(out / whole) / scale
    if fit == "crop" and share < _LEAST_SHARE:
        u, v = map(float, principal_point)
        error = ImageError(
            f"{photo.name} of {photo.original_size[1]} x {photo.original_size[0]} pixels: the "
            f"window around its principal point ({u:.1f}, {v:.1f}) has {share:.1%} of the width "
            "of the one around the middle"
        )
        error.add_note("intrinsics are in pixels; if these are right, take --fit pad")
        raise error
    return np.stack([center - before / scale, center + after / scale])


def _resample(photo: Photo, inside: np.ndarray, shape: np.ndarray):
    """Pixels and mask of a window of the photograph ([[top, left], [bottom, right]])."""
    # Of the decoded image, which may be smaller than the file says.
    (top, left), (bottom, right) = inside * (np.array(photo.mask.shape) / photo.original_size)
    box, size = (left, top, right, bottom), (int(shape[1]), int(shape[0]))
    image = Image.fromarray(photo.pixels).resize(size, Image.Resampling.LANCZOS, box=box)
    mask = Image.fromarray(photo.mask.astype(np.uint8) * 255)
    mask = mask.resize(size, Image.Resampling.BOX, box=box)
    return np.asarray(image), np.asarray(mask) > 127


def original_intrinsics(
    intrinsics: Float[np.ndarray, "*batch 3 3"], net_from_original: Float[np.ndarray, "*batch 3 3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Intrinsics at the file's resolution from those at the network's: crop and resize undone."""
    return np.linalg.inv(net_from_original) @ intrinsics
