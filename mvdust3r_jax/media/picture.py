"""The one door for pictures: whatever a file says of itself is applied, or the file is refused.

A picture comes out upright, in the file's own values: `photographs` makes sRGB of it, `masks`
decides what it keeps, `kinds` says what is no photograph.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import ExifTags, Image

from mvdust3r_jax.media import (
    decoder_warnings,
    kinds,
    named_colors,
    orientation,
    panoramas,
    transparency,
)
from mvdust3r_jax.media.kinds import ImageError, Source
from mvdust3r_jax.media.salvage import without_metadata

# The longest lenses have 1700 mm; what is far beyond is damage.
_MAX_FILM_FOCAL_MM = 5000

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says before its pixels are decoded.

    kind: Pillow's name of the format. size: (height, width), upright. tag: EXIF's orientation.
    mode: Pillow's name of what a pixel is.
    """

    kind: str
    size: tuple[int, int]
    tag: int
    mode: str = "RGB"


@dataclasses.dataclass(frozen=True)
class Picture:
    """An upright picture in the file's own mode and values, perhaps decoded at a reduced size.

    film_focal_mm: EXIF's 35 mm equivalent focal length, None where unknown. colors: those that the
    file names, None where its profile counts.
    """

    image: Image.Image
    header: Header
    film_focal_mm: float | None
    colors: named_colors.Named | None = None


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
    # First: where a PNG has no EXIF before its pixels, to look for it decodes and closes the file.
    colors, coding = named_colors.stated(image), transparency.coding(image)
    header, focal = _header(image), _film_focal_mm(image)
    if reduced_to is not None:
        _reduce(image, reduced_to)
    image.load()
    meant = transparency.as_meant(image, coding)
    # Pillow turns TIFFs itself when it decodes them.
    turned = meant if image.format == "TIFF" else orientation.upright(meant, header.tag)
    turned.info = meant.info
    return Picture(turned, header, focal, colors)


def _header(image: Image.Image) -> Header:
    tag, (width, height) = orientation.tag_of(image), image.size
    size = (height, width)
    upright = size if image.format == "TIFF" else orientation.upright_size(size, tag)
    return Header(image.format, upright, tag, image.mode)


def _reduce(image: Image.Image, reduced_to: int) -> None:
    """JPEGs are decoded smaller by a divisor of both sides: pixels keep their places exactly."""
    for divisor in (8, 4, 2):
        sides = [side // divisor for side in image.size if side % divisor == 0]
        if len(sides) == 2 and min(sides) >= reduced_to:
            image.draft("RGB", (sides[0], sides[1]))
            return


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
    for attempt in _attempts(source, name):
        try:
            # Warnings of the decoder are about damage that either matters (it raises) or not.
            with (
                decoder_warnings.ignored(),
                Image.open(attempt, formats=kinds.readable_formats()) as image,
            ):
                kinds.check(image, name)
                panoramas.check_photo(image, name)
                return use(image)
        except ImageError:
            raise
        # A damaged file makes the decoders raise almost anything (OSError, SyntaxError, KeyError).
        except Exception as error:
            failure = failure or error
    told = ImageError(f"{name} cannot be read as an image: {kinds.reason(source, name, failure)}")
    told.add_note("leave it out, or save it as JPEG or PNG")
    raise told from failure


def _check_place(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"there is no image at {path}")
    if not path.is_file():
        # Opening a pipe would wait for ever.
        kind = "a folder" if path.is_dir() else "no regular file"
        raise ImageError(f"{path} cannot be read as an image: it is {kind}")


def _attempts(source: Source, name: str) -> Iterator[Path | io.BytesIO]:
    """The file as it is, then with less and less metadata; ImageError if it may not be read."""
    yield io.BytesIO(source) if isinstance(source, bytes) else Path(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as error:
        raise ImageError(f"{name} cannot be read: {error.strerror or error}") from error
    for rest in without_metadata(data):
        yield io.BytesIO(rest)
