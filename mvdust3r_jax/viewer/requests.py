"""What a browser may send and ask for: pictures, videos, choices; everything else is refused.

Nothing that it says becomes a path: a file's own name is a label.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from mvdust3r_jax.media.kinds import FORMATS, MAX_PIXELS, ImageError, TooLargeError
from mvdust3r_jax.media.picture import read_header
from mvdust3r_jax.media.video_frames import SUFFIXES


class Wishes(NamedTuple):
    """What the page's user chose: all of `reconstruct`'s own words, None for its defaults.

    frames: taken of each video.
    """

    reference: int | str | None = None
    focal_px: float | str | None = None
    frames: int = 12


class Limits(NamedTuple):
    """What one upload may hold."""

    photographs: int = 48
    bytes_each: int = 40 << 20
    pixels_each: int = MAX_PIXELS
    bytes_video: int = 1 << 30
    frames: int = 48


class Refused(Exception):
    """A request that is answered with an HTTP error and one sentence."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def checked_order(asked: Any, count: int) -> list[int]:
    """Which of ``count`` files are taken, in which order: all, unless the page says otherwise."""
    if asked is None:
        return list(range(count))
    good = isinstance(asked, list) and all(type(n) is int and 0 <= n < count for n in asked)
    if not good or len(set(asked)) < len(asked):
        raise Refused(HTTPStatus.BAD_REQUEST, f"the order must name files from 0 to {count - 1}")
    return asked


def checked_wishes(asked: dict[str, Any], count: int, limits: Limits) -> Wishes:
    """What ``count`` files are reconstructed with; Refused for what no choice of the page is."""
    reference, focal = asked.get("reference"), asked.get("focal")
    frames = asked.get("frames", Wishes().frames)
    if reference not in (None, "auto", "middle", "first") and not (
        type(reference) is int and 0 <= reference < count
    ):
        raise Refused(HTTPStatus.BAD_REQUEST, f"no photograph is number {reference!r}")
    if focal not in (None, "exif", "one", "each") and not (
        type(focal) in (int, float) and 0 < focal < math.inf
    ):
        raise Refused(HTTPStatus.BAD_REQUEST, f"{focal!r} is no focal length in pixels")
    if type(frames) is not int or not 2 <= frames <= limits.frames:
        message = f"2 to {limits.frames} frames can be taken of a video, got {frames!r}"
        raise Refused(HTTPStatus.BAD_REQUEST, message)
    return Wishes(reference, focal, frames)


def label_of(name: str, index: int) -> str:
    """A printable label of at most 80 characters, from whatever the browser called the file."""
    base = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(c for c in base if c.isprintable())[:80].strip()
    return printable or f"photograph {index}"


def photograph_suffix(data: bytes, max_pixels: int, name: str) -> str:
    """The suffix that fits the data's own format; Refused where it is no acceptable picture."""
    label = label_of(name, 0)
    try:
        header = read_header(data, label)
    except TooLargeError as error:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
    except ImageError as error:
        message = f"not a picture that can be used: {error}"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message) from error
    height, width = header.size
    if height * width > max_pixels:
        message = f"{label} has {width} x {height} pixels; at most {max_pixels:,} are accepted"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    return FORMATS[header.kind][0]


def video_suffix(name: str) -> str:
    """The ending of a video's name; Refused where it has another."""
    suffix = Path(label_of(name, 0)).suffix.lower()
    if suffix not in SUFFIXES:
        message = f"{label_of(name, 0)} has no ending of a video"
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    return suffix
