"""Photographs as the network takes them: any file, size, aspect and orientation to one H x W.

A photograph is first turned upright (EXIF), then a window of the network's aspect is cut out around
the principal point and resized by Lanczos' filter (``crop``, as in training), or the whole of it is
scaled to fit and the rest padded (``pad``). What was done is kept as the affine map
``net_from_original`` of pixel coordinates, so that cameras can be given at both resolutions.
Pixel (0, 0) has its centre at (0, 0) in both.
"""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import ExifTags, Image, ImageOps

Fit = Literal["crop", "pad"]
FITS = ("crop", "pad")
# What can be read; formats that start other programs (PostScript) or hold no photographs are not.
FORMATS = ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF"]
SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".ppm"),
    *(".pgm", ".jp2", ".avif", ".heic", ".heif"),
}
HEIF_SUFFIXES = {".heic", ".heif"}
# A file whose header promises more is not decoded: it would need gigabytes.
MAX_PIXELS = 150_000_000
# Large JPEGs are decoded at a reduced size that is still this many times the network's.
_DRAFT_FACTOR = 4
# Padding and transparency are white, like the background of the training renders.
_BACKGROUND = 255
# Diagonal of 35 mm film, to which EXIF's "equivalent focal length" refers.
_FILM_DIAGONAL_MM = 43.27


class ImageError(ValueError):
    """A photograph that cannot be used; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Photo:
    """An upright photograph, perhaps decoded at a reduced size.

    pixels: sRGB. mask: what shows the scene. original_size: (height, width) of the upright file.
    film_focal_mm: EXIF's 35 mm equivalent focal length, None where unknown.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    original_size: tuple[int, int]
    name: str
    film_focal_mm: float | None = None

    @property
    def exif_focal_px(self) -> float | None:
        """Focal length at the original size by the EXIF data."""
        if self.film_focal_mm is None:
            return None
        return self.film_focal_mm / _FILM_DIAGONAL_MM * float(np.hypot(*self.original_size))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What the network gets of one photograph, and the map to it from the file's pixels."""

    pixels: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    net_from_original: Float[np.ndarray, "3 3"]


# ---------------------------------------------------------------- finding


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Image files of a folder (not below it) in natural order: 2.jpg before 10.jpg."""
    folder = Path(folder)
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise ImageError(f"{folder} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found, key=lambda path: natural_key(path.name))


def natural_key(name: str) -> list:
    """Sorts numbers inside names by value."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", name.lower())]


# ---------------------------------------------------------------- reading


def read_photo(
    source: str | os.PathLike | np.ndarray | Image.Image,
    *,
    name: str | None = None,
    target: tuple[int, int] | None = None,
) -> Photo:
    """One photograph, upright, on white where it is transparent.

    Args:
      source: a file, a PIL image, or an array [h, w], [h, w, 3] or [h, w, 4], uint8, uint16 or
        float in [0, 1].
      name: how the result is called; the file's name by default.
      target: (height, width) of what it is for; large JPEGs are then decoded faster.

    Raises:
      ImageError: naming the file and the reason. FileNotFoundError.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array")
    if isinstance(source, Image.Image):
        return _from_image(source, source.size, name or "image")
    path = Path(source)
    name = name or path.name
    if not path.exists():
        raise FileNotFoundError(f"there is no image at {path}")
    if not path.is_file():
        # Opening a pipe would wait for ever.
        raise ImageError(f"{path} cannot be read as an image: {_reason(path, None)}")
    try:
        # Warnings of the decoder are about damage that either matters (then it raises) or not.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(path, formats=readable_formats()) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise ImageError(
                    f"{path} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} "
                    "are read: make it smaller"
                )
            size = image.size
            if target is not None:
                wanted = max(target) * _DRAFT_FACTOR
                image.draft("RGB", (wanted, wanted))
            return _from_image(image, size, name)
    except ImageError:
        raise
    # A damaged file makes the decoders raise almost anything (OSError, SyntaxError, struct.error).
    except Exception as error:
        told = ImageError(f"{path} cannot be read as an image: {_reason(path, error)}")
        told.add_note("leave it out, or save it as JPEG or PNG")
        raise told from error


def readable_formats() -> list[str]:
    """Readable formats of this installation; HEIC where pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return [name for name in FORMATS if name in Image.OPEN]
    pillow_heif.register_heif_opener()
    return [name for name in [*FORMATS, "HEIF"] if name in Image.OPEN]


def _reason(path: Path, error: Exception | None) -> str:
    if not path.is_file():
        return "it is a folder" if path.is_dir() else "it is no regular file"
    if path.stat().st_size == 0:
        return "it is empty"
    if path.suffix.lower() in HEIF_SUFFIXES and "HEIF" not in readable_formats():
        return "HEIC files need another package: pip install 'mvdust3r-jax[heic]'"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS:,} pixels; make it smaller"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no photograph of a known format"
    return str(error) or type(error).__name__


def _from_image(image: Image.Image, size: tuple[int, int], name: str) -> Photo:
    """``size`` is (width, height) as stored, before any reduced decoding and rotation."""
    exif = image.getexif()
    focal = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
    turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    upright = ImageOps.exif_transpose(_eight_bit(image))
    alpha = None
    if "A" in upright.getbands() or "transparency" in upright.info:
        rgba = np.asarray(upright.convert("RGBA"))
        alpha, pixels = rgba[..., 3], rgba[..., :3]
    else:
        pixels = np.asarray(upright.convert("RGB"))
    width, height = size[::-1] if turned else size
    focal = float(focal) if focal else None
    return Photo(*_on_background(pixels, alpha), (height, width), name, focal)


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and float grey images as 8-bit ones; their own convert() would clip, not scale."""
    if not image.mode.startswith(("I", "F")):
        return image
    grey = np.asarray(image, np.float64)
    full = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nanmax(grey)))
    scaled = Image.fromarray(_to_uint8(grey / full))
    scaled.info = image.info
    scaled.getexif().update(image.getexif())
    return scaled


def _to_uint8(image_01: np.ndarray) -> np.ndarray:
    return np.round(np.nan_to_num(np.clip(image_01, 0, 1)) * 255).astype(np.uint8)


def _on_background(pixels: np.ndarray, alpha: np.ndarray | None):
    """Colours over the background, and which pixels are more than half opaque."""
    if alpha is None:
        return pixels, np.ones(pixels.shape[:2], bool)
    share = alpha[..., None].astype(np.float32) / 255
    blended = np.round(pixels * share + _BACKGROUND * (1 - share)).astype(np.uint8)
    return blended, alpha >= 128


def _from_array(array: np.ndarray, name: str) -> Photo:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] not in (3, 4) or 0 in array.shape:
        raise ImageError(f"{name}: an image [h, w, 3] is expected, got shape {array.shape}")
    if array.dtype == np.uint16:
        array = array / 65535
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(f"{name}: float images are in [0, 1], got [{low:.3g}, {high:.3g}]")
        array = _to_uint8(array)
    if array.dtype != np.uint8:
        raise ImageError(f"{name}: uint8, uint16 or float is expected, got {array.dtype}")
    alpha = array[..., 3] if array.shape[-1] == 4 else None
    return Photo(*_on_background(array[..., :3], alpha), array.shape[:2], name)


def with_mask(photo: Photo, mask: str | os.PathLike | np.ndarray) -> Photo:
    """The photograph with a further mask: a file or an array [h, w] of the same aspect."""
    if isinstance(mask, np.ndarray):
        bright, name = mask.reshape(*mask.shape[:2], -1).any(axis=-1), "mask"
    else:
        read = read_photo(mask)
        bright, name = read.pixels.max(axis=-1) > 127, read.name
    h, w = photo.mask.shape
    if abs(bright.shape[0] / bright.shape[1] - h / w) > 0.02 * h / w:
        raise ImageError(
            f"{name} has the shape {bright.shape}, which does not fit {photo.name} "
            f"of {photo.original_size}"
        )
    resized = Image.fromarray(bright).resize((w, h), Image.Resampling.NEAREST)
    return dataclasses.replace(photo, mask=photo.mask & np.asarray(resized))


# ---------------------------------------------------------------- fitting


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
      ImageError: the principal point lies outside the photograph; ValueError: unknown ``fit``.
    """
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}, got {fit!r}")
    out = np.array([height, width])
    whole = np.array(photo.original_size, float)
    window = _window(photo, out, fit, principal_point)
    # The part of the window that the photograph covers, on whole pixels of the result.
    inside = np.clip(window, 0, whole)
    pixel = (window[1] - window[0]) / out
    first = np.round((inside[0] - window[0]) / pixel).astype(int)
    last = np.maximum(np.round((inside[1] - window[0]) / pixel).astype(int), first + 1)
    pixels = np.full((height, width, 3), _BACKGROUND, np.uint8)
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
    centre = np.asarray(principal_point, float)[::-1] + 0.5
    if not (np.all(centre > 0) and np.all(centre < whole)):
        u, v = map(float, principal_point)
        raise ImageError(
            f"{photo.name} of {photo.original_size[1]} x {photo.original_size[0]} pixels: its "
            f"principal point ({u:.1f}, {v:.1f}) lies outside of it"
        )
    # Pixels of the result before and after the point, which is to have the coordinate out / 2.
    before, after = out / 2 + 0.5, out / 2 - 0.5
    scales = np.concatenate([before / centre, after / (whole - centre)])
    scale = np.max(scales) if fit == "crop" else np.min(scales)
    return np.stack([centre - before / scale, centre + after / scale])


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
