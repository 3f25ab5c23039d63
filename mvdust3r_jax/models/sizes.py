"""Sizes inside the heads that no configuration changes, and what their maps take.

The networks, the count of operations and the memory plan read them; nothing heavy is imported.
"""

from __future__ import annotations

# Wide maps that inference holds at once: of one view on CPUs (in cache), of a few elsewhere.
MAP_BYTES = 2**30

# ---------------------------------------------------------------- conv head and skip CNN

CELL = 4  # pixels of a cell's side in the conv head
CONVOLUTIONS = 2
SKIP_MAPS = 4  # of the skip CNN's width, float32, held at once


def skip_pixel_bytes(width: int) -> int:
    """Memory that the skip CNN's maps of this width take per pixel."""
    return SKIP_MAPS * width * 4


# ---------------------------------------------------------------- DPT head

DPT_CHANNELS = (96, 192, 384, 768)
DPT_WIDTH = 256
DPT_OUT_WIDTH = 128
# float32 maps of half the image's size that exist at once
DPT_PIXEL_BYTES = 6 * DPT_WIDTH * 4 // 4


def hooks(dec_depth: int) -> tuple[int, int, int]:
    """Decoder layers (counted from 1) whose tokens enter, beside the encoder's output."""
    return dec_depth // 2, dec_depth * 3 // 4, dec_depth
