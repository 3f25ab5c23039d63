"""The one door for pictures: whatever a file says of itself is applied, or the file is refused.

A picture comes out upright, in the file's own values: `photographs` makes sRGB of it, `masks`
decides what it keeps. Raw files, animations and files of several pictures are refused by name;
of JPEGs with a second picture (depth, gain map, stereo) and of HEIC files it is the main one.
"""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image

from mvdust3r_jax.media import orientation
from mvdust3r_jax.media.salvage import without_metadata

# Endings by Pillow's name of the format. What starts other programs (PostScript) or holds no
# photographs is not read.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pnm"),
    "JPEG2000": (".jp2",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
RAW_SUFFIXES = {
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".orf", ".rw2"),
    *(".raf", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".rwl", ".mrw", ".x3f", ".erf", ".kdc"),
}
# A file whose header promises more is not decoded: it would need gigabytes.
MAX_PIXELS = 150_000_000
# The longest lenses have 1700 mm; what is far beyond is damage.
_MAX_FILM_FOCAL_MM = 5000
# Formats whose further pictures belong to the first, which is the photograph.
_MAIN_FIRST = ("MPO", "HEIF")
# TIFF: what a directory holds (1: a smaller version, 4: a mask), how pixels are coded, raw marks.
_SUBFILE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706
_SENSOR_CODINGS = (32803, 34892)
# First bytes of raw files that are no TIFF: Fujifilm, Canon's CR3, Olympus, Panasonic.
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")

_RAW = "a raw file of a camera; develop it first: save it as JPEG, PNG or 16-bit TIFF"

Source = str | os.PathLike | bytes
_T = TypeVar("_T")


class ImageError(ValueError):
    """A picture that cannot be used; the message names it and says why."""


class TooLargeError(ImageError):
    """A picture of more pixels than are read."""


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded.

    kind: Pillow's name of the format. size: (height, width), upright. tag: EXIF's orientation.
    """

    kind: str
    size: tuple[int, int]
    tag: int


@dataclasses.dataclass(frozen=True)
class Picture:
    """An upright picture in the file's own mode and values, perhaps decoded at a reduced size.

    film_focal_mm: EXIF's 35 mm equivalent focal length, None where unknown.
    """

    image: Image.Image
    header: Header
    film_focal_mm: float | None


def read_header(source: Source, name: str | None = None) -> Header:
    """Size, format and orientation of a file (or its bytes), checked as for `read_picture`.

    Raises:
      ImageError: naming the file and the reason. FileNotFoundError.
    """
    return _with_opened(source, name, _header)


def read_picture(source: Source, name: str | None = None, reduced_to: int | None = None) -> Picture:
    """The picture of a file (or its bytes), upright.

    Args:
      source: path, or content.
      name: how messages call it; the path by default.
      reduced_to: JPEGs may be decoded smaller, with sides of at least this many pixels.

    Raises:
      ImageError: naming the file and the reason. FileNotFoundError.
    """
    return _with_opened(source, name, lambda image: decoded(image, reduced_to))


def decoded(image: Image.Image, reduced_to: int | None = None) -> Picture:
    """The picture of an opened image, upright."""
    header, focal = _header(image), _film_focal_mm(image)
    if reduced_to is not None:
        image.draft("RGB", (reduced_to, reduced_to))
    image.load()
    # Pillow turns TIFFs itself when it decodes them.
    turned = image if image.format == "TIFF" else orientation.upright(image, header.tag)
    turned.info = image.info
    return Picture(turned, header, focal)


def _header(image: Image.Image) -> Header:
    tag, (width, height) = orientation.tag_of(image), image.size
    size = (height, width)
    upright = size if image.format == "TIFF" else orientation.upright_size(size, tag)
    return Header(image.format, upright, tag)


def _film_focal_mm(image: Image.Image) -> float | None:
    try:
        value = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.FocalLengthIn35mmFilm)
        value = value[0] if isinstance(value, tuple) else value
        focal = float(value) if value else 0.0
        return focal if 0 < focal < _MAX_FILM_FOCAL_MM else None
    # Damaged metadata make the reader raise almost anything; most runs do not need the number.
    except Exception:
        return None


# ---------------------------------------------------------------- opening


def _with_opened(source: Source, name: str | None, use: Callable[[Image.Image], _T]) -> _T:
    """``use`` of the opened file; of what is left of it where its metadata are damaged."""
    name = name or ("image" if isinstance(source, bytes) else str(source))
    if not isinstance(source, bytes):
        _check_place(Path(source))
    failure: Exception | None = None
    for attempt in _attempts(source):
        try:
            # Warnings of the decoder are about damage that either matters (it raises) or not.
            with (
                warnings.catch_warnings(action="ignore"),
                Image.open(attempt, formats=readable_formats()) as image,
            ):
                _check(image, name)
                return use(image)
        except ImageError:
            raise
        # A damaged file makes the decoders raise almost anything (OSError, SyntaxError, KeyError).
        except Exception as error:
            failure = failure or error
    told = ImageError(f"{name} cannot be read as an image: {_reason(source, name, failure)}")
    told.add_note("leave it out, or save it as JPEG or PNG")
    raise told from failure


def _check_place(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"there is no image at {path}")
    if not path.is_file():
        # Opening a pipe would wait for ever.
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ImageError(f"{path} cannot be read as an image: it is {kind}")


def _attempts(source: Source) -> Iterator[Path | io.BytesIO]:
    """The file as it is, then with less and less metadata."""
    yield io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    for rest in without_metadata(data):
        yield io.BytesIO(rest)


def readable_formats() -> list[str]:
    """Readable formats of this installation; HEIC where pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return [name for name in FORMATS if name in Image.OPEN and name != "HEIF"]
    pillow_heif.register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def _check(image: Image.Image, name: str) -> None:
    """ImageError for what is opened, but is not one photograph of a bearable size."""
    if image.format == "TIFF" and _is_raw(image, name):
        raise _raw_error(name)
    _choose_page(image, name)
    if image.width * image.height > MAX_PIXELS:
        raise TooLargeError(
            f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} "
            "are read: make it smaller"
        )


def _is_raw(image: Image.Image, name: str) -> bool:
    tags = image.tag_v2
    sensor = tags.get(_PHOTOMETRIC) in _SENSOR_CODINGS
    return _DNG_VERSION in tags or sensor or Path(name).suffix.lower() in RAW_SUFFIXES


def _raw_error(name: str) -> ImageError:
    return ImageError(f"{name} is {_RAW}")


def _choose_page(image: Image.Image, name: str) -> None:
    """Go to the one picture that a file of several stands for; ImageError where there is none."""
    try:
        count = getattr(image, "n_frames", 1)
    # The list of further pictures is damaged; the first one is there.
    except Exception:
        count = 1
    if image.format in _MAIN_FIRST or (count == 1 and image.format != "TIFF"):
        return
    if image.format != "TIFF":
        error = ImageError(f"{name} is an animation of {count} pictures")
        error.add_note("make a video (MP4) of it, or save each of its pictures as a file")
        raise error
    pages = _full_pages(image, count)
    if len(pages) != 1:
        what = f"{len(pages)} pictures" if pages else "only a reduced picture"
        error = ImageError(f"{name} holds {what}, one is expected in a file")
        error.add_note("save each picture of it as a file of its own")
        raise error
    image.seek(pages[0])


def _full_pages(image: Image.Image, count: int) -> list[int]:
    """Pages of a TIFF that are neither smaller versions of another one nor masks."""
    full = []
    for page in range(count):
        image.seek(page)
        if not int(image.tag_v2.get(_SUBFILE, 0)) & 5:
            full.append(page)
    return full


def _reason(source: Source, name: str, error: Exception | None) -> str:
    start = source[:64] if isinstance(source, bytes) else _start(Path(source))
    suffix = Path(name).suffix.lower()
    if not start:
        return "it is empty"
    if suffix in RAW_SUFFIXES or start.startswith(_RAW_STARTS) or start[8:11] == b"crx":
        return f"it is {_RAW}"
    if suffix in FORMATS["HEIF"] and "HEIF" not in readable_formats():
        return "HEIC files need another package: pip install 'mvdust3r-jax[heic]'"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS:,} pixels; make it smaller"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no photograph of a known format"
    return str(error) or type(error).__name__


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
