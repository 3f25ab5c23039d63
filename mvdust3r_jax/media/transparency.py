"""Transparency that Pillow hands on as the file codes it, brought to what the file means.

PNG may name one value that is transparent: in the file's own depth (2, 4 or 16 bits), where Pillow
has scaled the pixels to 8 bits, or compares 16-bit ones with nothing. BMP has a fourth byte that
most writers leave at 0 without meaning transparency.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

# How PNG's pixels are coded, by Pillow's name, and what its numbers are multiplied by.
_SCALES = {"L;2": 85, "L;4": 17}
_COLORS_16 = "RGB;16B"


def coding(image: Image.Image) -> str:
    """Pillow's name of how the file codes a pixel; it is known only before decoding."""
    arguments = image.tile[0][3] if getattr(image, "tile", None) else ""
    return arguments if isinstance(arguments, str) else ""


def as_meant(image: Image.Image, coding: str) -> Image.Image:
    """The decoded picture of a file with its transparency as the file means it."""
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        return _with_info(image.convert("RGB"), image.info)
    value = image.info.get("transparency")
    if image.format != "PNG" or value is None:
        return image
    if image.mode.startswith("I"):
        return _sixteen_bit(image, int(value))
    if coding in _SCALES:
        image.info["transparency"] = value * _SCALES[coding]
    elif coding == _COLORS_16:
        # Of 16 bits Pillow keeps the high ones.
        image.info["transparency"] = tuple(part >> 8 for part in value)
    return image


def _sixteen_bit(image: Image.Image, value: int) -> Image.Image:
    """Gray and opacity of 8 bits each where a pixel has the value, else the picture without it."""
    gray = np.asarray(image)
    others = {key: told for key, told in image.info.items() if key != "transparency"}
    opaque = gray != value
    if opaque.all():
        return _with_info(image.copy(), others)
    gray = np.round(gray / 257).astype(np.uint8)
    pair = (Image.fromarray(gray), Image.fromarray(opaque * np.uint8(255)))
    return _with_info(Image.merge("LA", pair), others)


def _with_info(image: Image.Image, info: dict) -> Image.Image:
    image.info = info
    return image
