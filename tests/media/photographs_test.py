"""Photographs of every kind become network input, and pixels can be traced back to the file."""

import errno
import io
import os

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mvdust3r_jax.media import fitting, masks, photographs
from mvdust3r_jax.media.kinds import ImageError

GRADIENT = (np.add.outer(np.arange(40), np.arange(60))[..., None] * [1, 2, 0.5]).astype(np.uint8)


def save(path, array=GRADIENT, **options):
    Image.fromarray(array).save(path, **options)
    return path


def exif(**tags):
    data = Image.Exif()
    numbers = {"orientation": 0x0112, "film_focal": 0xA405}
    for name, value in tags.items():
        data[numbers[name]] = value
    return data


@pytest.mark.parametrize(
    "suffix", ["png", "webp", "tif", "bmp", "ppm", "jpg", "gif", "jp2", "avif"]
)
def test_formats(tmp_path, suffix):
    """Every format is read upright with its own size; lossless ones exactly."""
    options = {"lossless": True} if suffix == "webp" else {}
    photo = photographs.read_photo(save(tmp_path / f"a.{suffix}", **options))
    assert photo.original_size == (40, 60) and photo.mask.all() and photo.name == f"a.{suffix}"
    tolerance = 0 if suffix in ("png", "tif", "bmp", "ppm", "webp") else 80
    assert np.abs(photo.pixels.astype(int) - GRADIENT).max() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """All eight orientations come out as the upright picture."""
    transposes = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(GRADIENT)
    if orientation > 1:
        stored = stored.transpose(transposes[orientation])
    stored.save(tmp_path / "a.png", exif=exif(orientation=orientation))
    photo = photographs.read_photo(tmp_path / "a.png")
    assert photo.original_size == (40, 60)
    np.testing.assert_array_equal(photo.pixels, GRADIENT)


def test_exif_focal_length(tmp_path):
    """The 35 mm equivalent refers to the diagonal of 43.27 mm."""
    data = exif()
    data.get_ifd(0x8769)[0xA405] = 26
    save(tmp_path / "a.jpg", exif=data)
    focal = photographs.read_photo(tmp_path / "a.jpg").exif_focal_px
    np.testing.assert_allclose(focal, 26 / 43.27 * np.hypot(40, 60))
    assert photographs.read_photo(save(tmp_path / "b.jpg")).exif_focal_px is None


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((4, 5), 51, np.uint8), 51),
        (np.full((4, 5), 51 * 257, np.uint16), 51),
        (np.full((4, 5), 0.2, np.float32), 51),
        (np.full((4, 5), True), 255),
        (np.full((4, 5), 51.0, np.float32), 51),
        (np.full((4, 5), 51 * 257.0, np.float32), 51),
        (np.full((4, 5), 51, np.int32), 51),
    ],
)
def test_gray_images_of_any_depth(tmp_path, array, expected):
    """Of 8 or 16 bits, float or one bit, by what white is in them, not by the brightest pixel."""
    path = save(tmp_path / "a.tif", array)
    np.testing.assert_array_equal(photographs.read_photo(path).pixels, np.full((4, 5, 3), expected))


@pytest.mark.parametrize("odd", [np.inf, np.nan, -np.inf])
def test_values_that_are_not_finite_leave_the_others(tmp_path, odd):
    """A dead pixel of a float picture; of nothing else it is no photograph."""
    array = np.full((4, 5), 0.2, np.float32)
    array[0, 0] = odd
    photo = photographs.read_photo(save(tmp_path / "a.tif", array))
    np.testing.assert_array_equal(photo.pixels[1:], 51)
    with pytest.raises(ImageError, match=r"b.tif cannot be read .* no pixel that is a finite"):
        photographs.read_photo(save(tmp_path / "b.tif", array * np.float32(np.nan)))


def test_more_than_16_bits_are_named(tmp_path):
    """Their scale is not known: 32-bit integers came out white."""
    array = np.linspace(0, 2**31 - 1, 20).reshape(4, 5).astype(np.int32)
    with pytest.raises(ImageError, match=r"a.tif .* up to 2147483647; gray of 8 or 16 bits"):
        photographs.read_photo(save(tmp_path / "a.tif", array))
    photo = photographs.read_photo(save(tmp_path / "a.tif", np.full((4, 5), 51 * 257, np.int32)))
    np.testing.assert_array_equal(photo.pixels, 51)


def test_transparency_is_white_and_masked(tmp_path):
    """Alpha blends over white; what is less than half opaque is no part of the scene."""
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0, 3], rgba[0, 1, 3] = 255, 127
    photo = photographs.read_photo(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(photo.pixels[..., 0], [[0, 128], [255, 255]])
    np.testing.assert_array_equal(photo.mask, [[True, False], [False, False]])


def test_arrays_and_pil_images():
    """Arrays and PIL images are taken as files are; wrong ones say what is expected."""
    for source in (GRADIENT, Image.fromarray(GRADIENT), GRADIENT / np.float32(255)):
        np.testing.assert_array_equal(photographs.read_photo(source).pixels, GRADIENT)
    half = photographs.read_photo(jnp.asarray(GRADIENT / 255, jnp.bfloat16)).pixels
    np.testing.assert_allclose(half, GRADIENT, atol=1)
    for wrong, message in [
        (np.zeros((2, 3, 5), np.uint8), r"\[h, w, 3\].*\(2, 3, 5\)"),
        (np.full((2, 3, 3), 7.0), r"\[0, 1\].*7"),
        (np.full((2, 3, 3), np.nan), "nan"),
        (np.zeros((2, 3, 3), np.int64), "int64"),
        (np.zeros((0, 3, 3), np.uint8), "shape"),
    ]:
        with pytest.raises(ImageError, match=message):
            photographs.read_photo(wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"not an image", "no photograph of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no photograph"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, content, message):
    """Empty files, other files, and formats that would start another program."""
    path = tmp_path / "ü b.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"ü b.jpg cannot be read as an image: .*{message}"):
        photographs.read_photo(path)


def test_places_without_images(tmp_path):
    """Missing files, folders in place of files, folders without images."""
    with pytest.raises(FileNotFoundError, match="no image at"):
        photographs.read_photo(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="it is a folder"):
        photographs.read_photo(tmp_path)
    with pytest.raises(ImageError, match="holds no images"):
        photographs.list_images(tmp_path)
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="no regular file"):
        photographs.read_photo(tmp_path / "pipe.jpg")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ImageError, match="a.heic"):
        photographs.read_photo(tmp_path / "a.heic")


def test_what_may_not_be_read_is_no_empty_file(tmp_path, monkeypatch):
    """The system's own words, and the name."""

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "a.png")

    path = save(tmp_path / "a.png")
    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr("io.open", refused)
    with pytest.raises(ImageError, match="a.png cannot be read: Permission denied"):
        photographs.read_photo(path)


def test_huge_dimensions_are_refused_before_decoding(tmp_path):
    """A header that promises 10^10 pixels costs no memory."""
    header = b"P6\n100000 100000\n255\n"
    (tmp_path / "huge.ppm").write_bytes(header + b"\0" * 1000)
    with pytest.raises(ImageError, match="more than 150,000,000 pixels"):
        photographs.read_photo(tmp_path / "huge.ppm")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"]), st.data())
def test_damaged_images_raise_only_the_clear_error(tmp_path_factory, kind, data):
    """Truncated and altered files give a photograph or an ImageError that names the file."""
    buffer = io.BytesIO()
    Image.fromarray(GRADIENT).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path_factory.getbasetemp() / "fuzzed.bin"
    path.write_bytes(content)
    try:
        photographs.read_photo(path)
    except ImageError as error:
        assert "fuzzed.bin" in str(error)


def test_natural_order_and_hidden_files(tmp_path):
    """2.jpg comes before 10.jpg; hidden and other files are not taken."""
    for name in ["10.jpg", "2.JPG", "a b.png", ".hidden.jpg", "notes.txt"]:
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in photographs.list_images(tmp_path)] == ["2.JPG", "10.jpg", "a b.png"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.HIF", "HEIF"), ("a.insp", "JPEG"), ("a.j2k", "JPEG2000"), ("a.pbm", "PPM")],
)
def test_other_endings_of_what_is_read(tmp_path, name, kind):
    """Cameras and phones call them so; they were dropped from a folder without a word."""
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    image = Image.fromarray(GRADIENT).convert("1" if kind == "PPM" else "RGB")
    image.save(tmp_path / name, kind)
    assert photographs.list_images(tmp_path) == [tmp_path / name]
    assert photographs.read_photo(tmp_path / name).original_size == (40, 60)


def test_pictures_that_are_not_read_are_named(tmp_path):
    """By kind, in a folder and given by name; a picture without an ending, too."""
    save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / "picture")
    (tmp_path / "b.jxl").write_bytes(b"\xff\x0a\xfa")
    (tmp_path / "c.tga").write_bytes(b"x")
    (tmp_path / "notes").write_text("none")
    told = "\n".join(photographs.passed_over(tmp_path))
    assert "b.jxl, c.tga (kinds of pictures that are not read" in told
    assert "picture (pictures without an ending" in told and "notes" not in told
    for name, what in (("b.jxl", "JPEG XL"), ("c.tga", "TGA")):
        with pytest.raises(ImageError, match=rf"{name} cannot be read .*: {what} is not read"):
            photographs.read_photo(tmp_path / name)
    (tmp_path / "d.jpg").write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))
    with pytest.raises(ImageError, match=r"d\.jpg .* is a video \(MP4\); give it an ending"):
        photographs.read_photo(tmp_path / "d.jpg")


# ---------------------------------------------------------------- fitting


def coordinates(height, width):
    """A photograph whose red is its column and green its row."""
    v, u = np.mgrid[:height, :width]
    return photographs.read_photo(np.stack([u, v, 0 * u], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("fit", fitting.FITS)
@pytest.mark.parametrize("size", [(120, 200), (200, 120), (90, 90), (30, 40), (241, 77)])
@pytest.mark.parametrize("out", [(48, 48), (32, 64)])
@pytest.mark.parametrize("point", [None, (0.45, 0.6)])
def test_pixels_come_from_where_the_map_says(fit, size, out, point):
    """What is seen at a pixel of the result is the file's pixel that the affine map gives."""
    photo = coordinates(*size)
    point = None if point is None else (point[0] * size[1], point[1] * size[0])
    fitted = fitting.fit_photo(photo, *out, fit, point)
    assert fitted.pixels.shape == (*out, 3)
    inner = fitted.mask.copy()
    # Lanczos rings at the border of the photograph; the coordinates inside are linear.
    for _ in range(3):
        inner[1:-1, 1:-1] &= inner[2:, 1:-1] & inner[:-2, 1:-1] & inner[1:-1, 2:] & inner[1:-1, :-2]
        inner[[0, -1]] = inner[:, [0, -1]] = False
    v, u = np.nonzero(inner)
    original = np.linalg.inv(fitted.net_from_original) @ np.stack([u, v, np.ones_like(u)])
    seen = fitted.pixels[v, u, :2].T
    # Half a gray level of rounding, and a little overshoot where the image is enlarged.
    assert len(u) > 30 and np.abs(seen - original[:2]).max() < 1.0
    if fit == "crop":
        assert fitted.mask.all()
    if point is not None:
        mapped = fitted.net_from_original @ [*point, 1]
        np.testing.assert_allclose(mapped[:2], [out[1] / 2, out[0] / 2], atol=0.6)


def test_crop_takes_the_largest_centered_window():
    """Of 120 x 200 to a square: all rows, the middle 120 columns."""
    fitted = fitting.fit_photo(coordinates(120, 200), 60, 60)
    corners = np.linalg.inv(fitted.net_from_original) @ [[-0.5, 59.5], [-0.5, 59.5], [1, 1]]
    np.testing.assert_allclose(corners[:2], [[39.5, 159.5], [-0.5, 119.5]], atol=1e-9)


def test_padding_is_white_and_masked():
    """The whole photograph is shown, the rest is no part of the scene."""
    fitted = fitting.fit_photo(coordinates(100, 200), 64, 64, "pad")
    assert fitted.mask.sum() == 32 * 64 and fitted.mask[16:48].all()
    assert (fitted.pixels[~fitted.mask] == 255).all()


@pytest.mark.parametrize("size", [(47, 700), (700, 47), (100, 200), (480, 641), (3000, 2)])
@pytest.mark.parametrize("point", [None, (0.3, 0.45)])
def test_padded_pixels_stay_square(size, point):
    """One scale for both axes, whatever the aspect, and all but a pixel of the result is shown."""
    height, width = size
    center = None if point is None else (point[0] * width, point[1] * height)
    fitted = fitting.fit_photo(coordinates(height, width), 64, 64, "pad", center)
    scale = fitted.net_from_original[[0, 1], [0, 1]]
    rows, columns = fitted.mask.any(axis=1).sum(), fitted.mask.any(axis=0).sum()
    if min(size) * scale.min() >= 1:
        np.testing.assert_allclose(scale[0], scale[1], rtol=1e-9)
    assert rows > height * scale[1] - 1 and columns > width * scale[0] - 1


@pytest.mark.parametrize("size, divisor", [((960, 1280), 4), ((961, 1280), 1), ((962, 1280), 2)])
def test_reduced_decoding_keeps_the_geometry(tmp_path, size, divisor):
    """A large JPEG, decoded at a fraction, has the map and nearly the pixels of the full one."""
    v, u = np.mgrid[: size[0], : size[1]]
    array = np.stack([u / 6, v / 5, 0 * u], axis=-1).astype(np.uint8)
    path = save(tmp_path / "big.jpg", array, quality=95)
    small = photographs.read_photo(path, target=(32, 32))
    assert small.pixels.shape[0] == size[0] // divisor and small.original_size == size
    a, b = (
        fitting.fit_photo(small, 32, 32),
        fitting.fit_photo(photographs.read_photo(path), 32, 32),
    )
    np.testing.assert_allclose(a.net_from_original, b.net_from_original)
    assert np.abs(a.pixels.astype(int) - b.pixels).max() <= 3


def test_masks_are_combined(tmp_path):
    """A mask of another size with the same aspect is stretched; another aspect is refused."""
    photo = coordinates(40, 60)
    mask = np.zeros((20, 30), np.uint8)
    mask[:, :15] = 255
    rgba = np.stack([mask] * 3 + [np.full_like(mask, 255)], axis=-1)
    arrays = (mask, mask > 0, mask / 255, mask.astype(np.uint16) * 257, mask // 255, rgba)
    for source in (*arrays, save(tmp_path / "m.png", mask)):
        masked = masks.with_mask(photo, source)
        np.testing.assert_array_equal(masked.mask.mean(axis=0), np.arange(60) < 30)
    with pytest.raises(ImageError, match="does not fit"):
        masks.with_mask(photo, np.ones((30, 20)))


def test_wrong_requests():
    """Unknown policies and impossible principal points."""
    with pytest.raises(ValueError, match="crop, pad"):
        fitting.fit_photo(coordinates(20, 20), 8, 8, "stretch")
    with pytest.raises(ImageError, match="outside"):
        fitting.fit_photo(coordinates(20, 20), 8, 8, "crop", (30, 5))
    # In shares of the sides, as some programs give it.
    with pytest.raises(ImageError, match=r"principal point \(0.5, 0.5\) has 0.9% of"):
        fitting.fit_photo(coordinates(200, 200), 8, 8, "crop", (0.5, 0.5))
    assert fitting.fit_photo(coordinates(200, 200), 8, 8, "pad", (0.5, 0.5)).mask.any()


def test_intrinsics_at_the_original_size():
    """A ray through a pixel is the same ray at both resolutions."""
    fitted = fitting.fit_photo(coordinates(120, 200), 32, 48)
    network = np.array([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]])
    original = fitting.original_intrinsics(network, fitted.net_from_original)
    pixel = np.array([70.0, 30, 1])
    ray = np.linalg.inv(original) @ pixel
    np.testing.assert_allclose(np.linalg.inv(network) @ fitted.net_from_original @ pixel, ray)
    np.testing.assert_allclose(original[0, 0], 40 * 120 / 32)


def test_heic_is_read_where_its_reader_is_installed(tmp_path):
    """Nearly the pixels that were stored (mean error below 4 of 255), under the file's name."""
    heif = pytest.importorskip("pillow_heif")
    y, x = np.mgrid[:48, :64]
    pixels = np.stack([2 * x, 3 * y, x + y], axis=-1).astype(np.uint8)
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=90)
    photo = photographs.read_photo(tmp_path / "a.heic")
    assert photo.name == "a.heic" and photo.original_size == (48, 64)
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("tag", range(1, 9))
def test_heic_is_turned_as_its_png_twin(tmp_path, tag):
    """The container keeps its orientation in a box beside EXIF: turned once, not twice."""
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30], pixels[:20, 30:] = (200, 40, 40), (40, 200, 40)
    exif = Image.Exif()
    exif[0x0112] = tag
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png", exif=exif.tobytes())
    heif.from_pillow(picture).save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    want, got = (photographs.read_photo(tmp_path / f"a.{kind}").pixels for kind in ("png", "heic"))
    assert got.shape == want.shape
    assert np.abs(got.astype(int) - want).mean() < 3
