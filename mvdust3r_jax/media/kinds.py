"""Which picture files are read: their formats, and what is opened but is not one photograph.

Raw files, animations and files of several pictures are refused by name; of JPEGs with a second
picture (depth, gain map, stereo) and of HEIC files it is the main one.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from mvdust3r_jax.media import signatures

# Endings by Pillow's name of the format. What starts other programs (PostScript) or holds no
# photographs is not read.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".insp"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif", ".heics", ".heifs"),
}
SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
RAW_SUFFIXES = {
    *(".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".orf", ".rw2"),
    *(".raf", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".rwl", ".mrw", ".x3f", ".erf", ".kdc"),
}
# Pictures that are not read, or (PFM) are depth as often as a photograph.
UNREAD_SUFFIXES = {
    *(".jxl", ".exr", ".hdr", ".tga", ".psd", ".psb", ".pfm", ".avci", ".avcs", ".jxr", ".wdp"),
    *(".qoi", ".dds", ".xcf"),
}
# A file whose header promises more is not decoded: it would need gigabytes.
MAX_PIXELS = 150_000_000
# Formats whose further pictures belong to the first, which is the photograph.
_MAIN_FIRST = ("MPO", "HEIF")
# TIFF: what a directory holds (1: a smaller version, 4: a mask), how pixels are coded, raw marks.
_SUBFILE, _PHOTOMETRIC, _DNG_VERSION = 254, 262, 50706
_SENSOR_CODINGS = (32803, 34892)
# First bytes of raw files that are no TIFF: Fujifilm, Canon's CR3, Olympus, Panasonic.
_RAW_STARTS = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")

_RAW = "a raw file of a camera; develop it first: save it as JPEG, PNG or 16-bit TIFF"

Source = str | os.PathLike | bytes


class ImageError(ValueError):
    """A picture that cannot be used; the message names it and says why."""


class TooLargeError(ImageError):
    """A picture of more pixels than are read."""


def readable_formats() -> list[str]:
    """Readable formats of this installation; HEIC where pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif
    except ImportError:
        return [name for name in FORMATS if name in Image.OPEN and name != "HEIF"]
    pillow_heif.register_heif_opener()
    return [name for name in FORMATS if name in Image.OPEN]


def check(image: Image.Image, name: str) -> None:
    """Go to the photograph of an opened file; ImageError where it is none of a bearable size."""
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


def reason(source: Source, name: str, error: Exception | None) -> str:
    """Why a file cannot be opened, by what it begins with and what the decoder said."""
    start = source[:1000] if isinstance(source, bytes) else signatures.start_of(source)
    suffix = Path(name).suffix.lower()
    if not start:
        return "it is empty"
    if suffix in RAW_SUFFIXES or start.startswith(_RAW_STARTS) or start[8:11] == b"crx":
        return f"it is {_RAW}"
    if suffix in FORMATS["HEIF"] and "HEIF" not in readable_formats():
        return "HEIC files need another package: pip install 'mvdust3r-jax[heic]'"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {MAX_PIXELS:,} pixels; make it smaller"
    if (video := signatures.video_kind(start)) is not None:
        return f"it is a video ({video}); give it an ending of one, such as .mp4"
    if isinstance(error, Image.UnidentifiedImageError):
        return _unidentified(start, suffix)
    return str(error) or type(error).__name__


def _unidentified(start: bytes, suffix: str) -> str:
    kind = signatures.picture_kind(start)
    if kind in signatures.UNREAD:
        return f"{kind} is not read"
    if suffix in UNREAD_SUFFIXES:
        return f"{suffix.lstrip('.').upper()} is not read"
    return "it is no photograph of a known format"
