"""What a file is by its first bytes, whatever it is called: a picture, a video, or neither.

Only to tell the user what lies there, and to find videos whose ending says little; what is opened
as what is decided by `kinds` and by ffmpeg.
"""

from __future__ import annotations

import os
from pathlib import Path

_PICTURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"8BPS": "Photoshop",
    b"qoif": "QOI",
}
# Those of them that are not read.
UNREAD = ("JPEG XL", "OpenEXR", "Radiance HDR", "Photoshop", "QOI")
_VIDEOS = {
    b"\x1aE\xdf\xa3": "Matroska",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "Windows Media",
    b"FLV\x01": "Flash",
    b"OggS": "Ogg",
    b"\0\0\x01\xba": "MPEG",
}
# Brands of the container of MP4 that are pictures; all others are taken for videos.
_STILL_BRANDS = (b"avif", b"avis", b"mif1", b"msf1", b"hei", b"hev", b"avci", b"crx ", b"jp2 ")
# MPEG's transport stream has this byte at the start of each packet of 188 bytes; cameras' (M2TS)
# has four bytes of time before each.
_SYNC, _PACKET, _TIMED_PACKET = 0x47, 188, 192
_READ_BYTES = 4 + 3 * _TIMED_PACKET


def start_of(path: str | os.PathLike) -> bytes:
    """The first bytes of a file, as many as are needed here; none where it cannot be read."""
    path = Path(path)
    try:
        # Opening a pipe would wait for ever.
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(_READ_BYTES)
    except OSError:
        return b""


def picture_kind(start: bytes) -> str | None:
    """The name of a kind of picture, None where it is no known one."""
    if start[4:8] == b"ftyp":
        return "HEIC or AVIF" if start[8:12].startswith(_STILL_BRANDS) else None
    if start[:4] == b"RIFF":
        return "WebP" if start[8:12] == b"WEBP" else None
    return next((kind for mark, kind in _PICTURES.items() if start.startswith(mark)), None)


def video_kind(start: bytes) -> str | None:
    """The name of a kind of video, None where it is no known one."""
    if start[4:8] == b"ftyp":
        return None if start[8:12].startswith(_STILL_BRANDS) else "MP4"
    if start[4:8] in (b"moov", b"mdat", b"wide"):
        return "QuickTime"
    if start[:4] == b"RIFF":
        return "AVI" if start[8:12] == b"AVI " else None
    if _is_stream(start, 0, _PACKET) or _is_stream(start, 4, _TIMED_PACKET):
        return "MPEG-TS"
    return next((kind for mark, kind in _VIDEOS.items() if start.startswith(mark)), None)


def _is_stream(start: bytes, first: int, step: int) -> bool:
    """Whether packets begin where they should, as far as the file or what is read of it goes."""
    marks = start[first : first + 3 * step : step]
    return len(start) >= step and len(marks) > 0 and set(marks) == {_SYNC}
