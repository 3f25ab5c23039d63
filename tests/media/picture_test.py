"""What a picture file says of itself is applied, or the file is refused by name."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from mvdust3r_jax.media import orientation, photographs
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.picture import read_header
from tests.media import profiles

GRADIENT = (np.add.outer(np.arange(40), 2 * np.arange(60))[..., None] * [1, 1.4, 0.5]).astype(
    np.uint8
)
FORMATS = {
    "jpg": {"quality": 98, "subsampling": 0},
    "png": {},
    "webp": {"lossless": True},
    "tif": {},
    "avif": {"quality": 95},
}


def exif(tag):
    data = Image.Exif()
    data[0x0112] = tag
    return data


def stored(tag, upright=GRADIENT):
    return Image.fromarray(orientation.stored_array(upright, tag))


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_orientation_of_every_format(tmp_path, suffix, tag):
    """Size and pixels are the upright ones, before and after decoding."""
    path = tmp_path / f"a.{suffix}"
    stored(tag).save(path, exif=exif(tag), **FORMATS[suffix])
    photo = photographs.read_photo(path)
    assert read_header(path).size == photo.original_size == photo.pixels.shape[:2] == (40, 60)
    assert np.abs(photo.pixels.astype(int) - GRADIENT).mean() < (4 if suffix in "jpg avif" else 0.1)


@pytest.mark.parametrize("tag", range(1, 9))
def test_pixels_go_where_the_map_says(tag):
    """Every stored pixel lies, upright, at the coordinates that the map gives."""
    stored_pixels = np.asarray(stored(tag))
    h, w = stored_pixels.shape[:2]
    v, u = np.mgrid[:h, :w]
    ours = orientation.upright_from_stored(tag, (h, w)) @ np.stack([u, v, 0 * u + 1], -1)[..., None]
    x, y = ours[..., 0, 0].astype(int), ours[..., 1, 0].astype(int)
    np.testing.assert_array_equal(GRADIENT[y, x], stored_pixels)
    turned = np.asarray(orientation.upright(Image.fromarray(stored_pixels), tag))
    np.testing.assert_array_equal(turned, GRADIENT)
    sign = np.linalg.det(orientation.upright_from_stored(tag, (h, w))[:2, :2])
    assert orientation.is_mirrored(tag) == (sign < 0)


@pytest.mark.parametrize(
    ("primaries", "gamma"), [(profiles.P3, 2.2), (profiles.ADOBE, profiles.ADOBE_GAMMA)]
)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_profiles_are_converted_to_srgb(tmp_path, primaries, gamma, suffix):
    """The color that a color-managed viewer shows, within coding and rounding."""
    rgb = (200, 60, 60)
    profile = profiles.rgb_profile(primaries, gamma)
    Image.new("RGB", (32, 32), rgb).save(tmp_path / f"a.{suffix}", icc_profile=profile, quality=98)
    seen = photographs.read_photo(tmp_path / f"a.{suffix}").pixels[16, 16]
    np.testing.assert_allclose(seen, profiles.srgb_of(rgb, primaries, gamma), atol=4)


def test_profile_and_transparency(tmp_path):
    """Colors of a cut-out are converted before they go over white."""
    profile = profiles.rgb_profile(profiles.P3, 2.2)
    Image.new("RGBA", (8, 8), (200, 60, 60, 255)).save(tmp_path / "a.png", icc_profile=profile)
    seen = photographs.read_photo(tmp_path / "a.png").pixels[4, 4]
    np.testing.assert_allclose(seen, profiles.srgb_of((200, 60, 60), profiles.P3, 2.2), atol=2)


def test_srgb_profiles_and_damaged_ones_change_nothing(tmp_path):
    """Bit for bit the pixels without them."""
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    p3 = profiles.rgb_profile(profiles.P3, 2.2)
    for profile in (srgb, p3[:200], b"no profile", profiles.cmyk_profile(50)):
        Image.fromarray(GRADIENT).save(tmp_path / "a.png", icc_profile=profile)
        np.testing.assert_array_equal(photographs.read_photo(tmp_path / "a.png").pixels, GRADIENT)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_seen_as_its_press_prints_it(tmp_path, suffix):
    """CIE lightness 50 is sRGB 119, whatever the inks; without a profile inks are subtracted."""
    inks = Image.new("CMYK", (16, 16), (0, 200, 0, 0))
    inks.save(tmp_path / f"a.{suffix}", icc_profile=profiles.cmyk_profile(50))
    seen = photographs.read_photo(tmp_path / f"a.{suffix}").pixels[8, 8]
    np.testing.assert_allclose(seen, 119, atol=2)
    inks.save(tmp_path / f"b.{suffix}")
    seen = photographs.read_photo(tmp_path / f"b.{suffix}").pixels[8, 8]
    np.testing.assert_allclose(seen, [255, 55, 255], atol=4)


# ---------------------------------------------------------------- damaged metadata


def tiff_block(entries, sub=()):
    """A little-endian EXIF block; entries are (tag, type, count, value)."""

    def directory(rows):
        body = b"".join(struct.pack("<HHII", *row) for row in rows)
        return struct.pack("<H", len(rows)) + body + bytes(4)

    first = list(entries)
    if sub:
        first.append((0x8769, 4, 1, 8 + 2 + 12 * (len(first) + 1) + 4))
    return b"II*\0\x08\0\0\0" + directory(first) + (directory(sub) if sub else b"")


SIX = (0x0112, 3, 1, 6)
BLOCKS = {
    "nothing": b"",
    "noise": bytes(range(7, 60)),
    "cut": tiff_block([(0x0112, 3, 1, 1)])[:13],
    "outside": b"II*\0" + struct.pack("<I", 60000),
    "loop": b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8),
    "text pointer": tiff_block([(0x8769, 2, 4, 7)]),
    "orientation 0": tiff_block([(0x0112, 3, 1, 0)]),
    "orientation 9": tiff_block([(0x0112, 3, 1, 9)]),
    "orientation text": tiff_block([(0x0112, 2, 2, 0x31)]),
    "orientation outside": tiff_block([(0x0112, 3, 9, 60000)]),
    "0/0": tiff_block([(0x011A, 5, 1, 8), (0x0128, 3, 1, 2)]),
    "focal": tiff_block([(0x0112, 3, 1, 1)], [(0xA405, 5, 1, 60000)]),
}


def with_block(data, block):
    body = b"Exif\0\0" + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


@pytest.mark.parametrize("block", BLOCKS)
def test_pixels_are_read_whatever_the_metadata_are(block):
    """Bit for bit those of the same file without EXIF."""
    buffer = io.BytesIO()
    Image.fromarray(GRADIENT).save(buffer, "JPEG")
    expected = photographs.read_photo(buffer.getvalue()).pixels
    damaged = photographs.read_photo(with_block(buffer.getvalue(), BLOCKS[block]))
    np.testing.assert_array_equal(damaged.pixels, expected)
    assert damaged.tag == 1 and damaged.film_focal_mm is None


def test_orientation_counts_though_other_entries_are_damaged():
    """A pointer that leads nowhere does not lay the photograph on its side."""
    buffer = io.BytesIO()
    Image.fromarray(GRADIENT).save(buffer, "JPEG")
    block = tiff_block([SIX, (0x8769, 4, 1, 60000)])
    assert photographs.read_photo(with_block(buffer.getvalue(), block)).original_size == (60, 40)


@pytest.mark.parametrize(
    ("code", "body"),
    [(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"), (0xED, b"Photoshop 3.0\0" + b"8BIM" * 9)],
)
def test_damaged_segments_are_passed_over(code, body):
    """Multi-picture and Photoshop segments that lead nowhere."""
    buffer = io.BytesIO()
    Image.fromarray(GRADIENT).save(buffer, "JPEG")
    data = buffer.getvalue()
    segment = bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body
    photo = photographs.read_photo(data[:2] + segment + data[2:])
    np.testing.assert_array_equal(photo.pixels, photographs.read_photo(data).pixels)


def test_huge_notes_in_a_png_are_passed_over():
    """A text larger than the decoder takes: the picture is read, and its orientation counts."""
    import zlib

    from PIL import PngImagePlugin

    buffer = io.BytesIO()
    stored(6).save(buffer, "PNG", exif=exif(6))
    note = zlib.compress(bytes(2 * PngImagePlugin.MAX_TEXT_CHUNK))
    body = b"zTXt" + b"note\0\0" + note
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    data = buffer.getvalue()
    photo = photographs.read_photo(data[:33] + chunk + data[33:])
    np.testing.assert_array_equal(photo.pixels, GRADIENT)


# ---------------------------------------------------------------- what it really is


def raw_like(path, thumb=(8, 8), extra=()):
    """A TIFF as raw files are: a thumbnail first, the sensor's values in a directory below it."""
    rows = [(254, 4, 1, 1), (256, 4, 1, thumb[0]), (257, 4, 1, thumb[1]), (258, 3, 1, 8)]
    rows += [(259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1), (278, 4, 1, thumb[1]), *extra]
    rows += [(273, 4, 1, 400), (279, 4, 1, thumb[0] * thumb[1])]
    body = b"".join(struct.pack("<HHII", *row) for row in sorted(rows))
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(rows)) + body + bytes(4)
    path.write_bytes(data.ljust(400, b"\0") + bytes(thumb[0] * thumb[1]))
    return path


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("a.dng", [(50706, 1, 4, 0x0401)], "a.dng is a raw file"),
        ("a.tif", [(50706, 1, 4, 0x0401)], "a.tif is a raw file"),
        ("a.NEF", [], "a.NEF is a raw file"),
        ("a.tif", [], "a.tif holds only a reduced picture"),
    ],
)
def test_thumbnails_of_raw_files_are_no_photographs(tmp_path, name, extra, message):
    """By its tags or its ending; the thumbnail is never taken for the photograph."""
    with pytest.raises(ImageError, match=message):
        photographs.read_photo(raw_like(tmp_path / name, extra=extra))


@pytest.mark.parametrize(
    "start", [b"FUJIFILMCCD-RAW 0201", b"\0\0\0\x18ftypcrx ", b"IIU\0\x08\0\0\0"]
)
def test_raw_files_that_are_no_tiff_are_named(tmp_path, start):
    """By their first bytes, whatever they are called."""
    (tmp_path / "a.jpg").write_bytes(start + bytes(500))
    with pytest.raises(ImageError, match=r"a\.jpg cannot be read as an image: it is a raw file"):
        photographs.read_photo(tmp_path / "a.jpg")


def test_second_pictures_of_a_jpeg_are_left_alone(tmp_path):
    """Depth, gain map, stereo: the first picture is the photograph."""
    first, second = Image.fromarray(GRADIENT), Image.new("RGB", (20, 10))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=98)
    photo = photographs.read_photo(tmp_path / "a.jpg")
    assert read_header(tmp_path / "a.jpg").kind == "MPO" and photo.original_size == (40, 60)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_animations_are_refused(tmp_path, suffix):
    """One of their pictures would be taken without a word."""
    pictures = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    pictures[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pictures[1:])
    with pytest.raises(ImageError, match=f"a.{suffix} is an animation of 3 pictures"):
        photographs.read_photo(tmp_path / f"a.{suffix}")


def test_pages_of_a_tiff(tmp_path):
    """Two full pages are refused; of a picture and its smaller version it is the picture."""
    full, small = Image.fromarray(GRADIENT), Image.fromarray(GRADIENT[::2, ::2])
    full.save(tmp_path / "two.tif", save_all=True, append_images=[small])
    with pytest.raises(ImageError, match="two.tif holds 2 pictures, one is expected"):
        photographs.read_photo(tmp_path / "two.tif")
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "b.tif", True) as pages:
        small.save(pages, tiffinfo={254: 1})
        pages.newFrame()
        full.save(pages)
    with Image.open(tmp_path / "b.tif") as written:
        assert written.n_frames == 2 and written.size == (30, 20)
    photo = photographs.read_photo(tmp_path / "b.tif")
    np.testing.assert_array_equal(photo.pixels, GRADIENT)
    assert read_header(tmp_path / "b.tif").size == (40, 60)
