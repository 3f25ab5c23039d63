"""What a file means to be transparent is masked, and nothing else."""

import struct
import zlib

import numpy as np
import pytest

from mvdust3r_jax.media import photographs
from mvdust3r_jax.media.masks import read_mask


def png(values, depth, transparent):
    """A gray PNG of this depth whose one value (or color, of 16 bits) is transparent."""
    values = np.asarray(values)
    colored = values.ndim == 3
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in values]
    else:
        bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = [np.packbits(row).tobytes() for row in bits.reshape(len(values), -1)]
    head = struct.pack(">IIBBBBB", values.shape[1], len(values), depth, 2 * colored, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    told = np.atleast_1d(transparent).astype(">u2").tobytes()
    chunks = [(b"IHDR", head), (b"tRNS", told), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_a_gray_png(tmp_path, depth):
    """Of any depth, as a photograph and as a mask; the other values keep their brightness."""
    full = 2**depth - 1
    values = np.full((4, 8), full)
    values[:, :4] = full // 3
    photo = photographs.read_photo(png(values, depth, full // 3))
    np.testing.assert_array_equal(photo.mask, values == full)
    np.testing.assert_array_equal(photo.pixels, 255)
    (tmp_path / "m.png").write_bytes(png(values, depth, full // 3))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), values == full)


def test_a_transparent_value_that_no_pixel_has():
    """Nothing is masked, and 16-bit values are scaled as without it."""
    values = np.full((4, 8), 51 * 257)
    photo = photographs.read_photo(png(values, 16, 7))
    assert photo.mask.all() and (photo.pixels == 51).all()


def test_the_transparent_color_of_a_png_of_16_bits():
    """Pillow decodes the high bytes only; the color is compared with these."""
    colors = np.full((4, 8, 3), 60000)
    colors[:, :4] = [1000, 20000, 300]
    photo = photographs.read_photo(png(colors, 16, [1000, 20000, 300]))
    np.testing.assert_array_equal(photo.mask, np.arange(8) >= np.full((4, 1), 4))


@pytest.mark.parametrize("opaque", [0, 4, 8])
def test_the_fourth_byte_of_a_bmp(opaque):
    """All 0 means nothing to most writers; where some pixels are opaque, it says which."""
    pixels = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    alpha = np.broadcast_to(255 * (np.arange(8) < opaque), (4, 8)).astype(np.uint8)
    stored = np.dstack([pixels[::-1, :, ::-1], alpha]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 108, 8, 4, 1, 32, 3, len(stored), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    start = b"BM" + struct.pack("<IHHI", 14 + len(head) + len(stored), 0, 0, 14 + len(head))
    photo = photographs.read_photo(start + head + stored)
    kept = opaque or 8
    np.testing.assert_array_equal(photo.mask, np.arange(8) < np.full((4, 1), kept))
    np.testing.assert_array_equal(photo.pixels[:, :kept], pixels[:, :kept])
