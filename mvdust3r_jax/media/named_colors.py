"""Colors that a still picture states by number or name instead of by a profile (ICC).

PNG has a chunk ``cICP``, AVIF and HEIC a box ``colr`` of the kind ``nclx``: the numbers of ITU-T
H.273 that videos use as well. Cameras' JPEGs in Adobe RGB say so in EXIF, by DCF's mark ``R03``. A
profile goes before these, but in PNG, where ``cICP`` goes before it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from PIL import ExifTags, Image

from mvdust3r_jax.media import tone

# H.273's numbers by the names that ffmpeg has for them; 2 is "unspecified".
_PRIMARIES = {1: "bt709", 9: "bt2020", 11: "smpte431", 12: "smpte432"}
_TRANSFERS = {1: "bt709", 13: "iec61966-2-1", 16: "smpte2084", 18: "arib-std-b67"}
_UNSPECIFIED = 2
_SRGB_BY_EXIF = 1
# Boxes that hold boxes are read whole; real ones have some kilobytes.
_LARGEST_META = 16_000_000


class Named(NamedTuple):
    """What `tone` takes: ffmpeg's names, "unknown" for numbers that mean no screen's colors."""

    primaries: str
    transfer: str


def stated(image: Image.Image) -> Named | None:
    """The colors that hold for an opened picture, before it is decoded; None: see its profile."""
    try:
        if image.format == "PNG":
            return _by_number(_cicp_of_png(image.fp))
        if image.info.get("icc_profile"):
            return None
        if image.format == "AVIF":
            return _by_number(_nclx_of_avif(image.fp))
        if image.format == "HEIF":
            told = image.info.get("nclx_profile") or {}
            names = ("color_primaries", "transfer_characteristics")
            return _by_number(tuple(int(told.get(name, _UNSPECIFIED)) for name in names))
        return _ADOBE_RGB if _is_adobe_by_exif(image) else None
    # Damaged metadata make the readers raise almost anything; the pixels are as they are.
    except Exception:
        return None


_ADOBE_RGB = Named(tone.ADOBE_RGB, tone.ADOBE_RGB)


def _by_number(numbers: tuple[int, int] | None) -> Named | None:
    if numbers is None or numbers == (_UNSPECIFIED, _UNSPECIFIED):
        return None
    primaries, transfer = numbers
    return Named(_PRIMARIES.get(primaries, "unknown"), _TRANSFERS.get(transfer, "unknown"))


def _is_adobe_by_exif(image: Image.Image) -> bool:
    exif = image.getexif()
    space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
    mark = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex, "")
    return space != _SRGB_BY_EXIF and str(mark).rstrip("\0 ") == "R03"


# ---------------------------------------------------------------- containers
# Pillow goes to the pixels itself, wherever a reader has left the file.


def _cicp_of_png(file: io.BufferedIOBase) -> tuple[int, int] | None:
    """The chunk, which stands before the pixels."""
    for kind, size in _parts(file, start=8, unstated=12):
        if kind == b"IDAT":
            return None
        if kind == b"cICP" and size >= 2:
            primaries, transfer = file.read(2)
            return primaries, transfer
    return None


def _nclx_of_avif(file: io.BufferedIOBase) -> tuple[int, int] | None:
    """The box of the main picture (gain maps and smaller pictures have their own)."""
    meta = _meta_of(file)
    if meta is None:
        return None
    boxes = dict(_boxes(meta[4:]))
    sizes = ">I" if boxes[b"pitm"][0] else ">H"
    main = struct.unpack_from(sizes, boxes[b"pitm"], 4)[0]
    inside = dict(_boxes(boxes[b"iprp"]))
    properties = list(_boxes(inside[b"ipco"]))
    for number in _properties_of(main, inside[b"ipma"]):
        kind, body = properties[number - 1]
        if kind == b"colr" and body[:4] == b"nclx":
            return struct.unpack_from(">HH", body, 4)
    return None


def _meta_of(file: io.BufferedIOBase) -> bytes | None:
    for kind, size in _parts(file):
        if kind == b"meta":
            return file.read(min(size, _LARGEST_META))
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of boxes that follow each other."""
    file = io.BytesIO(data)
    return ((kind, file.read(size)) for kind, size in _parts(file))


def _parts(
    file: io.BufferedIOBase, start: int = 0, unstated: int = 0
) -> Iterator[tuple[bytes, int]]:
    """(kind, bytes that follow its head) of parts of a file, which then stands behind the head.

    start: where the first part is. unstated: bytes of a part that its length leaves out, 0 of
    boxes; of PNG's chunks those of length, kind and checksum.
    """
    while True:
        file.seek(start)
        head = file.read(8)
        if len(head) < 8:
            return
        length, kind = struct.unpack(">I4s", head)
        if length + unstated < 8:
            return
        yield kind, length + unstated - 8
        start += length + unstated


def _properties_of(item: int, ipma: bytes) -> list[int]:
    """Numbers, from 1, of the properties that belong to a picture of the file."""
    version, flags, count = ipma[0], ipma[3], struct.unpack_from(">I", ipma, 4)[0]
    item_size, number_size = (4 if version else 2), (2 if flags & 1 else 1)
    at = 8
    for _ in range(count):
        owner, total = int.from_bytes(ipma[at : at + item_size]), ipma[at + item_size]
        at += item_size + 1
        # The first bit says whether a reader must know the property.
        most = (1 << (8 * number_size - 1)) - 1
        ends = [at + number_size * (i + 1) for i in range(total)]
        if owner == item:
            return [int.from_bytes(ipma[end - number_size : end]) & most for end in ends]
        at += number_size * total
    return []
