"""Colors of pictures as sRGB, 8 bits: profiles (ICC) and named colors count, depths are scaled.

A profile that cannot be used (damaged, or of other channels than the picture's) is passed over, as
viewers do; one that is sRGB's to within rounding leaves the values as they are.
"""

from __future__ import annotations

import functools
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from mvdust3r_jax.media import tone
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.named_colors import Named

# A profile that moves no color by more than this many of 255 levels is taken for sRGB.
_SAME_LEVELS = 2
# Modes that the color engine takes as they are.
_MANAGED = ("RGB", "L", "CMYK", "LAB")
# Values of a picture in named colors that are converted at a time: floats of a large one would need
# gigabytes.
_PART_VALUES = 6_000_000
_BYTE, _WORD = 255.0, 65535.0
# Above 1, up to here, floats are of a picture that has something brighter than white.
_BRIGHTEST = 16.0


def srgb_and_alpha(
    image: Image.Image, named: Named | None = None
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"] | None]:
    """SRGB values and the opacity, None where the picture has none.

    named: colors that hold instead of the picture's profile.
    """
    image = eight_bit(image)
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        alpha = np.asarray(rgba.getchannel("A"))
        image = image.convert("L") if image.mode == "LA" else _with_info(rgba.convert("RGB"), image)
    elif image.mode not in _MANAGED:
        image = _with_info(image.convert("L" if image.mode == "1" else "RGB"), image)
    return np.asarray(_managed(image)) if named is None else _by_name(image, named), alpha


def _by_name(image: Image.Image, named: Named) -> UInt8[np.ndarray, "h w 3"]:
    pixels = np.asarray(image.convert("RGB"))
    if tone.is_ordinary(*named):
        return pixels
    parts = np.array_split(pixels, -(-pixels.size // _PART_VALUES))
    wide = (part.astype(np.uint16) * (65535 // 255) for part in parts)
    return np.concatenate([tone.to_srgb(part, *named) for part in wide])


def _with_info(image: Image.Image, source: Image.Image) -> Image.Image:
    """The converted image with its source's profile."""
    image.info = source.info
    return image


def _managed(image: Image.Image) -> Image.Image:
    """A picture of a managed mode, converted by its profile where it has a usable one."""
    profile = image.info.get("icc_profile")
    transform = _transform(bytes(profile or b""), image.mode) if profile or _is_lab(image) else None
    return image.convert("RGB") if transform is None else ImageCms.applyTransform(image, transform)


def _is_lab(image: Image.Image) -> bool:
    return image.mode == "LAB"


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB from the profile (without one: from Lab); None where there is nothing to do."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else None
        source = source or ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    # The engine raises OSError, its own error, and more for damaged profiles.
    except Exception:
        return None
    return None if _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode not in ("RGB", "L"):
        return False
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    image = Image.fromarray(grid) if mode == "RGB" else Image.fromarray(steps[None])
    before = np.asarray(image.convert("RGB"), int)
    after = np.asarray(ImageCms.applyTransform(image, transform), int)
    return bool(np.abs(after - before).max() <= _SAME_LEVELS)


def eight_bit(image: Image.Image) -> Image.Image:
    """16-bit and float gray images as 8-bit ones; their own convert() would clip, not scale.

    Raises:
      ImageError: values of more than 16 bits, or none that is finite.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    gray = np.asarray(image, np.float64)
    finite = gray[np.isfinite(gray)]
    if not finite.size:
        raise ImageError("it has no pixel that is a finite number")
    highest = float(finite.max())
    if image.mode.startswith("I") and highest > _WORD:
        raise ImageError(f"it has values up to {highest:.0f}; gray of 8 or 16 bits is expected")
    full = _full_scale(image.mode, highest)
    gray = np.nan_to_num(gray, posinf=highest)
    return _with_info(Image.fromarray(to_uint8(gray / full)), image)


def _full_scale(mode: str, highest: float) -> float:
    """White, of the scales that are in use: photographs of one camera get the same one."""
    scales = {"I": (_BYTE, _WORD), "F": (1.0, _BYTE, _WORD)}.get(mode, (_WORD,))
    # Floats little above 1 are brighter than white; an almost black picture of bytes has more.
    if mode == "F" and 1 < highest <= _BRIGHTEST:
        return highest
    return next((scale for scale in scales if highest <= scale), highest)


def to_uint8(image_01: np.ndarray) -> np.ndarray:
    """Values in [0, 1], rounded to 8 bits; what is outside is cut, NaN is 0."""
    return np.round(np.nan_to_num(np.clip(image_01, 0, 1)) * 255).astype(np.uint8)
