"""Stills that name their colors instead of having a profile are seen in those colors."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax.media import named_colors, photographs
from tests.media import profiles

QUARTERS = np.array([[200, 90, 90], [90, 190, 90], [90, 90, 200], [180, 180, 180]])
REC2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
P3_SRGB, PQ, SRGB, BT709, UNSPECIFIED = (12, 13), (9, 16), (1, 13), (1, 1), (2, 2)


def light_in(primaries):
    """Linear light of the quarters in other primaries."""
    coded = QUARTERS / 255
    light = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    matrix = np.linalg.solve(profiles.xyz_from_rgb(primaries), profiles.xyz_from_rgb(profiles.SRGB))
    return np.clip(light @ matrix.T, 0, 1)


def coded_as(numbers):
    """The quarters in the colors of these numbers of H.273, 8 bits."""
    if numbers == PQ:
        power = (light_in(REC2020) * 203 / 10000) ** 0.1593017578125
        coded = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    elif numbers == P3_SRGB:
        light = light_in(profiles.P3)
        coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    else:
        coded = QUARTERS / 255
    return np.round(coded * 255).astype(np.uint8)


def picture(colors, side=32):
    return Image.fromarray(colors.reshape(2, 2, 3).repeat(side, 0).repeat(side, 1))


def png(image, numbers, **options):
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    chunk = b"cICP" + bytes([*numbers, 0, 1])
    data = buffer.getvalue()
    return (
        data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    )


def avif(image, numbers, **options):
    buffer = io.BytesIO()
    image.save(buffer, "AVIF", quality=100, subsampling="4:4:4", **options)
    data = bytearray(buffer.getvalue())
    struct.pack_into(">HH", data, data.index(b"colrnclx") + 8, *numbers)
    return bytes(data)


def heic(image, numbers):
    pytest.importorskip("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    told = {"color_primaries": numbers[0], "transfer_characteristics": numbers[1]}
    told |= {"matrix_coefficients": 1, "full_range_flag": 1, "save_nclx_profile": True}
    image.save(buffer, "HEIF", quality=98, chroma=444, **told)
    return buffer.getvalue()


WRITERS = {"png": png, "avif": avif, "heic": heic}


def middles(data):
    return photographs.read_photo(data).pixels[16::32, 16::32].reshape(4, 3).astype(int)


@pytest.mark.parametrize("numbers", [P3_SRGB, PQ, SRGB, BT709, UNSPECIFIED])
@pytest.mark.parametrize("kind", WRITERS)
def test_numbers_are_brought_to_srgb(kind, numbers):
    """P3 and HDR as a viewer shows them; ordinary and unspecified numbers change nothing."""
    data = WRITERS[kind](picture(coded_as(numbers)), numbers)
    # 8 bits of PQ are coarse.
    atol = {P3_SRGB: 4, PQ: 14}.get(numbers, 3)
    np.testing.assert_allclose(middles(data), QUARTERS, atol=atol)


def test_which_of_a_profile_and_numbers_holds():
    """In PNG the numbers, in AVIF the profile; numbers that say nothing leave it to the profile."""
    profile = profiles.rgb_profile(profiles.P3, 2.2)
    image = picture(coded_as(SRGB))
    by_profile = [profiles.srgb_of(color, profiles.P3, 2.2) for color in QUARTERS]
    for data, expected in (
        (png(image, SRGB, icc_profile=profile), QUARTERS),
        (png(image, UNSPECIFIED, icc_profile=profile), by_profile),
        (avif(image, PQ, icc_profile=profile), by_profile),
    ):
        np.testing.assert_allclose(middles(data), expected, atol=4)


def box(kind, body):
    return struct.pack(">I4s", 8 + len(body), kind) + body


@pytest.mark.parametrize("wide", [False, True])
def test_of_several_pictures_in_an_avif_the_main_one_counts(wide):
    """A gain map has colors of its own in the same file; numbers of one byte or of two."""
    colors = [box(b"colr", b"nclx" + struct.pack(">HHHB", *told, 0, 128)) for told in (PQ, P3_SRGB)]
    owned = b"".join(
        struct.pack(">HBH" if wide else ">HBB", item, 1, number | (0x8000 if wide else 0x80))
        for item, number in ((1, 1), (2, 2))
    )
    ipma = box(b"ipma", bytes([0, 0, 0, wide]) + struct.pack(">I", 2) + owned)
    main = box(b"pitm", struct.pack(">IH", 0, 2))
    meta = main + box(b"iprp", box(b"ipco", b"".join(colors)) + ipma)
    data = box(b"ftyp", b"avif") + box(b"meta", bytes(4) + meta)
    assert named_colors._nclx_of_avif(io.BytesIO(data)) == P3_SRGB


@pytest.mark.parametrize(("space", "mark"), [(65535, "R03"), (1, "R03"), (65535, "R98")])
def test_adobe_rgb_of_cameras(space, mark):
    """Said by EXIF alone, as cameras do; sRGB where it says that, or the other mark."""
    exif = Image.Exif()
    exif[0x8769] = {0xA001: space, 0xA005: {1: mark, 2: b"0100"}}
    is_adobe = (space, mark) == (65535, "R03")
    light = light_in(profiles.ADOBE) ** (1 / profiles.ADOBE_GAMMA)
    coded = np.round(light * 255).astype(np.uint8) if is_adobe else coded_as(SRGB)
    buffer = io.BytesIO()
    picture(coded).save(buffer, "JPEG", quality=98, subsampling=0, exif=exif)
    np.testing.assert_allclose(middles(buffer.getvalue()), QUARTERS, atol=4)
