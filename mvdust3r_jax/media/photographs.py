"""Photographs: any picture file, array or image as upright 8-bit sRGB with a mask.

Transparency goes over white and is masked. What a file says of itself (orientation, color
profile, depth of its values) is applied by `picture` and `color`.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from mvdust3r_jax.media import color, companions, signatures
from mvdust3r_jax.media.kinds import RAW_SUFFIXES, SUFFIXES, UNREAD_SUFFIXES, ImageError
from mvdust3r_jax.media.names import natural_key, printable
from mvdust3r_jax.media.picture import Picture, decoded, read_picture

# Large JPEGs are decoded at a reduced size that is still this many times the network's.
_DRAFT_FACTOR = 4
# Padding and transparency are white, like the background of the training renders.
BACKGROUND = 255
# Diagonal of 35 mm film, to which EXIF's "equivalent focal length" refers.
_FILM_DIAGONAL_MM = 43.27


@runtime_checkable
class SupportsArray(Protocol):
    """Arrays of NumPy, and of every library that gives NumPy its numbers (JAX, PyTorch on CPUs)."""

    def __array__(self, *args: Any, **options: Any) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Photo:
    """An upright photograph, perhaps decoded at a reduced size.

    pixels: sRGB. mask: what shows the scene. original_size: (height, width) of the upright file.
    film_focal_mm: EXIF's 35 mm equivalent focal length, None where unknown. tag: the orientation
    by EXIF that was undone (1: none).
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]
    original_size: tuple[int, int]
    name: str
    film_focal_mm: float | None = None
    tag: int = 1

    @property
    def exif_focal_px(self) -> float | None:
        """Focal length at the original size by the EXIF data."""
        if self.film_focal_mm is None:
            return None
        return self.film_focal_mm / _FILM_DIAGONAL_MM * float(np.hypot(*self.original_size))


# ---------------------------------------------------------------- finding


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Photographs of a folder (not below it) in natural order: 2.jpg before 10.jpg.

    Depth maps, normals and masks that belong to one of them by their names are left out.

    Raises:
      ImageError: there is none, with what there is instead.
    """
    folder = Path(folder)
    found = companions.split(_pictures(folder))[0]
    if not found:
        error = ImageError(f"{folder} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
        for sentence in passed_over(folder):
            error.add_note(sentence)
        raise error
    return found


def _pictures(folder: Path) -> list[Path]:
    paths = [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]
    return [path for path in paths if path.is_file()]


def passed_over(folder: str | os.PathLike) -> list[str]:
    """Sentences on what a folder holds that looks like photographs but is not taken."""
    folder = Path(folder)
    raw, broken, odd, unread, nameless = [], [], [], [], []
    for path in _visible(folder):
        suffix = path.suffix.lower()
        if suffix in RAW_SUFFIXES:
            raw.append(path)
        elif suffix in UNREAD_SUFFIXES:
            unread.append(path)
        elif suffix in SUFFIXES and not path.is_file():
            (broken if path.is_symlink() else odd).append(path)
        elif not suffix and signatures.picture_kind(signatures.start_of(path)):
            nameless.append(path)
    reasons = {"raw files, which must be developed first": raw}
    reasons |= {"broken links": broken, "no regular files": odd}
    reasons |= {"kinds of pictures that are not read; convert them": unread}
    reasons |= {"pictures without an ending, such as .jpg": nameless}
    told = [
        f"passed over in {folder}: {_listed(paths)} ({reason})"
        for reason, paths in reasons.items()
        if paths
    ]
    if beside := companions.split(_pictures(folder))[1]:
        example = printable(beside[0].name)
        told.append(
            f"passed over in {folder}: {len(beside)} depth maps, normals or masks of its "
            f"photographs, such as {example} (give them by their names to take them)"
        )
    return told


def _visible(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(paths, key=lambda path: natural_key(path.name))


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(printable(path.name) for path in paths[:3]) + more


# ---------------------------------------------------------------- reading


def read_photo(
    source: str | os.PathLike | bytes | SupportsArray | Image.Image,
    *,
    name: str | None = None,
    target: tuple[int, int] | None = None,
) -> Photo:
    """One photograph, upright, on white where it is transparent.

    Args:
      source: a file or its content, a PIL image, or an array [h, w], [h, w, 3] or [h, w, 4],
        uint8, uint16 or float in [0, 1], of NumPy or of what gives NumPy its numbers.
      name: how the result is called; the file's name by default.
      target: (height, width) of what it is for; large JPEGs are then decoded faster.

    Raises:
      ImageError: naming the file and the reason. FileNotFoundError.
    """
    if isinstance(source, Image.Image):
        return _from_picture(decoded(source), name or "image")
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source), name or "array")
    if not isinstance(source, str | os.PathLike | bytes):
        told = type(source).__name__
        raise ImageError(f"a photograph is a file, an array or a PIL image, got {told}")
    reduced_to = None if target is None else max(target) * _DRAFT_FACTOR
    if isinstance(source, bytes):
        return _from_picture(read_picture(source, name, reduced_to), name or "image")
    return _from_picture(read_picture(source, None, reduced_to), name or Path(source).name)


def _from_picture(picture: Picture, name: str) -> Photo:
    try:
        colors = color.srgb_and_alpha(picture.image, picture.colors)
        pixels, mask = _on_background(*colors)
    except ImageError as error:
        raise ImageError(f"{name} cannot be read as a photograph: {error}") from error
    header = picture.header
    return Photo(pixels, mask, header.size, name, picture.film_focal_mm, header.tag)


def _on_background(pixels: np.ndarray, alpha: np.ndarray | None):
    """Colors over the background, and which pixels are more than half opaque."""
    if alpha is None:
        return pixels, np.ones(pixels.shape[:2], bool)
    share = alpha[..., None].astype(np.float32) / 255
    blended = np.round(pixels * share + BACKGROUND * (1 - share)).astype(np.uint8)
    return blended, alpha >= 128


def _from_array(array: np.ndarray, name: str) -> Photo:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] not in (3, 4) or 0 in array.shape:
        raise ImageError(f"{name}: an image [h, w, 3] is expected, got shape {array.shape}")
    if array.dtype == np.uint16:
        array = array / 65535
    elif array.dtype.name == "bfloat16":  # which NumPy does not know as a float
        array = array.astype(np.float32)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(f"{name}: float images are in [0, 1], got [{low:.3g}, {high:.3g}]")
        array = color.to_uint8(array)
    if array.dtype != np.uint8:
        raise ImageError(f"{name}: uint8, uint16 or float is expected, got {array.dtype}")
    alpha = array[..., 3] if array.shape[-1] == 4 else None
    return Photo(*_on_background(array[..., :3], alpha), array.shape[:2], name)
