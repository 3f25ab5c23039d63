"""Masks of any program keep what was meant, or are refused by name."""

import numpy as np
import pytest
from PIL import Image

from mvdust3r_jax.media import masks, orientation, photographs
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.mask_files import masks_of

KEEP = np.arange(30) < np.full((20, 1), 15)
COLORS = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128] * 11


def palette(indices, colors=COLORS):
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    image.putpalette(colors[:768])
    return image


def gray(values, dtype=np.uint8):
    return Image.fromarray(np.asarray(values).astype(dtype))


def alpha(value, color=0):
    rgba = np.full((*KEEP.shape, 4), color, np.uint8)
    rgba[..., 3] = KEEP * value
    return Image.fromarray(rgba)


def transparent_index():
    image = palette(KEEP * 1, [9, 9, 9] * 256)
    image.info["transparency"] = 0
    return image


def labels():
    values = KEEP * 1
    values[:, 10:15] = 3
    return values


def speck():
    """16 bits; a pixel aside is brighter than the white of 8 bits, and dark all the same."""
    values = KEEP * 65535
    values[0, -1] = 300
    return values


ENCODINGS = {
    "255": lambda: gray(KEEP * 255),
    "0 and 1": lambda: gray(KEEP),
    "one bit": lambda: Image.fromarray(KEEP),
    "labels 1 and 3": lambda: gray(labels()),
    "16 bit": lambda: gray(KEEP * 65535, np.uint16),
    "16 bit, 0 and 1": lambda: gray(KEEP, np.uint16),
    "16 bit, 0 and 255": lambda: gray(KEEP * 255, np.uint16),
    "float": lambda: gray(KEEP, np.float32),
    "palette": lambda: palette(KEEP * 3),
    "palette, dark": lambda: palette(KEEP * 8, [0, 0, 0] * 8 + [64, 0, 0] * 248),
    "palette, black last": lambda: palette(~KEEP * 1, [255, 255, 255, 0, 0, 0] * 128),
    "colors": lambda: Image.fromarray(KEEP[..., None] * np.array([0, 60, 10], np.uint8)),
    "cut-out": lambda: alpha(255),
    "cut-out, white": lambda: alpha(255, 255),
    "cut-out, 0 and 1": lambda: alpha(1),
    "transparent index": transparent_index,
    "opaque": lambda: Image.merge("RGBA", [*[gray(KEEP * 255)] * 3, gray(KEEP * 0 + 255)]),
    "gray and alpha": lambda: Image.merge("LA", [gray(KEEP * 0 + 7), gray(KEEP * 255)]),
}


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_what_was_meant(tmp_path, kind, suffix):
    """The left half is kept and the right half is not."""
    image = ENCODINGS[kind]()
    if suffix == "png" and image.mode == "F" or suffix == "tif" and "transparency" in image.info:
        pytest.skip("the format does not hold this")
    image.save(tmp_path / f"m.{suffix}")
    np.testing.assert_array_equal(masks.read_mask(tmp_path / f"m.{suffix}"), KEEP)


@pytest.mark.parametrize(
    "image",
    [
        lambda: palette(~KEEP, [255, 255, 255, 0, 0, 0] + [0] * 762),
        lambda: gray(speck(), np.uint16).convert("I"),
        lambda: alpha(255).convert("LA"),
    ],
    ids=["palette", "int32", "LA"],
)
def test_an_image_is_read_as_its_file_would_be(tmp_path, image):
    """Whatever Pillow keeps in it: indices of a palette are no shades of gray."""
    photo = photographs.read_photo(np.zeros((*KEEP.shape, 3), np.uint8))
    image().save(tmp_path / "m.tif")
    for mask in (image(), tmp_path / "m.tif"):
        np.testing.assert_array_equal(masks.with_mask(photo, mask).mask, KEEP)


def test_jpeg_is_read_as_gray(tmp_path):
    """Its noise beside black is no label."""
    gray(KEEP * 255).convert("RGB").save(tmp_path / "m.jpg", quality=60)
    assert np.mean(masks.read_mask(tmp_path / "m.jpg") != KEEP) < 0.05


@pytest.mark.parametrize("color", [(255, 255, 255), (200, 30, 60)])
@pytest.mark.parametrize(("suffix", "quality"), [("webp", 60), ("avif", 50)])
def test_lossy_formats_are_read_as_gray(tmp_path, suffix, quality, color):
    """The noise beside black is no label, of white and of colored masks; exact files are exact."""
    big = np.kron(KEEP, np.ones((10, 10), bool))
    big[50:80, 200:230] = True
    image = Image.fromarray(big[..., None] * np.array(color, np.uint8))
    image.save(tmp_path / f"m.{suffix}", quality=quality)
    assert np.mean(masks.read_mask(tmp_path / f"m.{suffix}") != big) < 1e-3
    dark = Image.fromarray(big[..., None] * np.array([0, 60, 10], np.uint8))
    dark.save(tmp_path / "m.webp", lossless=True)
    np.testing.assert_array_equal(masks.read_mask(tmp_path / "m.webp"), big)


def test_soft_edges_are_cut_at_half(tmp_path):
    """Many shades: at least half of white is kept."""
    ramp = np.tile(np.arange(256), (20, 1))
    gray(ramp).save(tmp_path / "m.png")
    np.testing.assert_array_equal(masks.read_mask(tmp_path / "m.png"), ramp >= 128)


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_that_keeps_nothing_is_named(tmp_path, value):
    """Black, or wholly transparent."""
    image = gray(KEEP * 0) if value == 0 else alpha(0, value)
    image.save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"m\.png leaves nothing"):
        masks.read_mask(tmp_path / "m.png")


def test_labels_with_a_bright_one_are_asked_back(tmp_path):
    """0, 15 and 255 may be labels or shades: half would be lost, or too much kept."""
    values = KEEP * 15
    values[:, 20:] = 255
    gray(values).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"m\.png has the values 0, 15, 255"):
        masks.read_mask(tmp_path / "m.png")


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.where(KEEP[..., None], [253, 231, 36], [68, 1, 84]).astype(np.uint8)),
        palette(KEEP * 1, [30, 30, 30, 128, 0, 0] * 128),
    ],
    ids=["viridis", "palette"],
)
def test_colors_without_black_are_asked_back(tmp_path, image):
    """Which of them is the background is not said: everything was kept."""
    image.save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"m\.png has 2 colors \(.*\) and no black"):
        masks.read_mask(tmp_path / "m.png")
    Image.new("RGB", (30, 20), (128, 0, 0)).save(tmp_path / "one.png")
    assert masks.read_mask(tmp_path / "one.png").all()


def test_masks_turn_with_their_photograph(tmp_path):
    """A mask with the tag, one made of the upright picture, one of the stored pixels."""
    keep = np.zeros((20, 30), bool)
    keep[:5, :20] = True
    tag = Image.Exif()
    tag[0x0112] = 6
    stored = orientation.stored_array(keep, 6)
    Image.fromarray(np.zeros((30, 20, 3), np.uint8)).save(tmp_path / "p.jpg", exif=tag)
    photo = photographs.read_photo(tmp_path / "p.jpg")
    gray(stored * 255).save(tmp_path / "tag.png", exif=tag)
    gray(keep * 255).save(tmp_path / "upright.png")
    gray(stored * 255).save(tmp_path / "stored.png")
    for name in ("tag", "upright", "stored"):
        masked = masks.with_mask(photo, tmp_path / f"{name}.png")
        np.testing.assert_array_equal(masked.mask, keep)


@pytest.mark.parametrize(
    ("tag", "size"), [(2, (20, 30)), (3, (20, 30)), (4, (20, 30)), (6, (20, 20))]
)
def test_turns_that_the_shape_does_not_tell_are_asked_back(tmp_path, tag, size):
    """Upright or as stored, a mask looks the same; one with a tag, or symmetric, passes."""
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "p.jpg", exif=exif)
    photo = photographs.read_photo(tmp_path / "p.jpg")
    keep = np.zeros(size, bool)
    keep[:5, :8] = True
    gray(keep * 255).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=rf"m\.png may be that of p\.jpg .* orientation \({tag}\)"):
        masks.with_mask(photo, tmp_path / "m.png")
    gray(orientation.stored_array(keep, tag) * 255).save(tmp_path / "m.png", exif=exif)
    np.testing.assert_array_equal(masks.with_mask(photo, tmp_path / "m.png").mask, keep)
    assert masks.with_mask(photo, np.ones(size, bool)).mask.all()


def test_masks_are_combined_and_must_fit():
    """With what the photograph itself leaves out; nothing left, or another shape, is refused."""
    pixels = np.zeros((20, 30, 4), np.uint8)
    pixels[:, 15:, 3] = 255
    photo = photographs.read_photo(pixels, name="a.png")
    with pytest.raises(ImageError, match="leaves nothing of a.png"):
        masks.with_mask(photo, KEEP)
    with pytest.raises(ImageError, match="does not fit"):
        masks.with_mask(photo, np.ones((30, 20)))


def test_masks_may_be_called_masks(tmp_path):
    """As those beside photographs are; one of the photograph's own name goes first."""
    for name in ("1_mask.png", "2.jpg_mask.png", "dynamic_mask_3.png", "4_mask.png", "4.png"):
        gray(KEEP * 255).save(tmp_path / name)
    found = masks_of(tmp_path, [f"a/{i}.jpg" for i in range(1, 5)])
    names = ["1_mask.png", "2.jpg_mask.png", "dynamic_mask_3.png", "4.png"]
    assert [path.name for path in found] == names
