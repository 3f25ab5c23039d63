"""Masks: which pixels of a photograph count, whatever program wrote them. One rule:

1. Transparency, where the file has any: what is at least half opaque is kept (cut-outs); where
   nothing is, everything that is not wholly transparent.
2. Colors (palettes, labels in color): everything but black is kept. Several colors without black
   (color maps of plotting programs) do not say what is kept, which is asked back.
3. Gray: what is at least half of white is kept. Where nothing is that bright (0/1, labels 1, 2, 3,
   8-bit values in a 16-bit file), everything but 0 is kept.

Colors of a JPEG, AVIF, HEIC or lossy WebP are never exact: these are read as gray. Gray with few
values of which dark ones cover much may be labels or shades, which is asked back. A mask that keeps
nothing is an error.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mvdust3r_jax.media import orientation
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.photographs import Photo, SupportsArray
from mvdust3r_jax.media.picture import read_picture

# Formats that store no exact values; WebP has a kind of either sort.
_LOSSY = ("JPEG", "MPO", "AVIF", "HEIF")
# Fewer values than this are labels rather than shades, if the dark ones cover this share.
_FEW_VALUES, _DARK_SHARE = 32, 0.1
# Shapes agree if the aspects differ by no more.
_ASPECT_TOLERANCE = 0.02


def read_mask(path: str | os.PathLike) -> Bool[np.ndarray, "h w"]:
    """What a mask file keeps, by the rule above, upright.

    Raises:
      ImageError: it cannot be read, may mean several things, or keeps nothing.
    """
    return _read(path)[0]


def _read(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """The same, and the orientation by EXIF that was undone (1: none)."""
    picture = read_picture(path)
    keep = _kept(picture.image, str(path), _is_lossy(path, picture.header.kind))
    if not keep.any():
        raise ImageError(f"the mask {path} leaves nothing: no pixel of it is kept")
    return keep, picture.header.tag


def _is_lossy(path: str | os.PathLike, kind: str) -> bool:
    return kind in _LOSSY or (kind == "WEBP" and b"VP8 " in _chunks(Path(path).read_bytes()))


def _chunks(webp: bytes) -> list[bytes]:
    """Names of a WebP file's parts: pixels are "VP8 " where lossy, "VP8L" where exact."""
    names, at = [], 12
    while at + 8 <= len(webp):
        name, length = struct.unpack_from("<4sI", webp, at)
        names.append(name)
        at += 8 + length + length % 2
    return names


def _kept(image: Image.Image, name: str, lossy: bool) -> np.ndarray:
    alpha = _alpha(image)
    if alpha is not None and not (alpha == 255).all():
        return alpha >= 128 if (alpha >= 128).any() else alpha > 0
    if image.mode.startswith(("I", "F")):
        full = 65535 if image.mode.startswith("I") else 1
        return _by_brightness(np.nan_to_num(np.asarray(image)), full, name, lossy)
    colors = np.asarray(image.convert("RGB"))
    brightest = colors.max(axis=-1)
    if not lossy and (colors != colors[..., :1]).any():
        _check_black(colors, brightest, name)
        return brightest > 0
    return _by_brightness(brightest, 255, name, lossy)


def _check_black(colors: np.ndarray, brightest: np.ndarray, name: str) -> None:
    """ImageError where a mask in colors has several of them, none of which is the background's."""
    if not brightest.all():
        return
    found = np.unique(colors.reshape(-1, 3), axis=0)
    if len(found) > 1:
        shown = ", ".join(str(tuple(color)) for color in found[:3].tolist())
        error = ImageError(f"the mask {name} has {len(found)} colors ({shown}) and no black")
        error.add_note("save what is to be kept as white, all else as black")
        raise error


def _alpha(image: Image.Image) -> np.ndarray | None:
    if "A" in image.getbands() or "transparency" in image.info:
        return np.asarray(image.convert("RGBA").getchannel("A"))
    return None


def _by_brightness(values: np.ndarray, full: float, name: str, lossy: bool) -> np.ndarray:
    """Gray values as a mask: by half of white, or labels where nothing is that bright."""
    bright = values >= (full + 1) // 2 if full > 1 else values >= 0.5
    if lossy:
        return bright
    if not bright.any():
        return values > 0
    dark = (values > 0) & ~bright
    if dark.sum() > _DARK_SHARE * (values > 0).sum() and len(np.unique(values)) < _FEW_VALUES:
        shown = ", ".join(f"{value:g}" for value in np.unique(values)[:6])
        error = ImageError(f"the mask {name} has the values {shown}: labels, or shades of gray?")
        error.add_note("save what is to be kept as white, all else as black")
        raise error
    return bright


def _of_array(values: np.ndarray) -> np.ndarray:
    """Truth values as they are, 8-bit pixels as those of a file, other numbers [h, w] as gray."""
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    colored = values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8
    if not colored and (values.ndim != 2 or values.dtype.kind not in "biuf"):
        shape = f"{values.dtype} {list(values.shape)}"
        raise ImageError(f"a mask is an array [h, w], or [h, w, 3 or 4] of uint8, got {shape}")
    if values.dtype == bool:
        return values
    if values.dtype == np.uint8:
        return _kept(Image.fromarray(values), "mask", lossy=False)
    full = {"f": 1.0, "u": 65535}.get(values.dtype.kind, 255)
    return _by_brightness(np.nan_to_num(values), full, "mask", lossy=False)


def with_mask(photo: Photo, mask: str | os.PathLike | SupportsArray | Image.Image) -> Photo:
    """The photograph with a further mask: a file, or an array [h, w] true where it counts.

    The rule above holds for arrays of numbers, too; floats are white at 1. A mask of another size
    but the same aspect is stretched; one of the stored pixels of a photograph that EXIF lays on
    its side is turned with it.

    Raises:
      ImageError: the mask has another shape, leaves nothing, or its shape cannot say whether it is
      that of the upright photograph or of the stored pixels.
    """
    if isinstance(mask, Image.Image):
        keep, name, tag = _kept(mask, "mask", lossy=False), "mask", 1
    elif hasattr(mask, "__array__"):
        keep, name, tag = _of_array(np.asarray(mask)), "mask", 1
    else:
        (keep, tag), name = _read(mask), os.fspath(mask)
    # A mask with a tag of its own is upright.
    keep = _turned(keep, photo, name) if tag == 1 else keep
    keep = _stretched(keep, photo, name)
    if not (photo.mask & keep).any():
        raise ImageError(f"the mask {name} leaves nothing of {photo.name}")
    return dataclasses.replace(photo, mask=photo.mask & keep)


def _turned(keep: np.ndarray, photo: Photo, name: str) -> np.ndarray:
    """Upright, where the mask has the shape of the pixels as they are stored."""
    if photo.tag == 1:
        return keep
    stored = orientation.upright_size(photo.original_size, photo.tag)
    fits_upright, fits_stored = (_fits(keep.shape, size) for size in (photo.original_size, stored))
    turned = np.asarray(orientation.upright(Image.fromarray(keep), photo.tag))
    if fits_upright and fits_stored and not np.array_equal(keep, turned):
        error = ImageError(
            f"the mask {name} may be that of {photo.name} as it is stored or as its EXIF "
            f"orientation ({photo.tag}) turns it; its shape {keep.shape} does not say which"
        )
        error.add_note("save the photographs upright, without the tag")
        raise error
    return turned if fits_stored and not fits_upright else keep


def _stretched(keep: np.ndarray, photo: Photo, name: str) -> np.ndarray:
    h, w = photo.mask.shape
    if not _fits(keep.shape, (h, w)):
        raise ImageError(
            f"the mask {name} has the shape {keep.shape}, which does not fit {photo.name} "
            f"of {photo.original_size}"
        )
    return np.asarray(Image.fromarray(keep).resize((w, h), Image.Resampling.NEAREST))


def _fits(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    ratio = other[0] / other[1]
    return abs(shape[0] / shape[1] - ratio) <= _ASPECT_TOLERANCE * ratio
