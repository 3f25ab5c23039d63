"""Pictures that no pinhole camera took, by what a file says: panoramas, 360 degrees, stereo pairs.

The network and the poses take every picture for that of one pinhole camera, so these are refused.
A stereo file whose frames are each one eye's whole picture is none of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from mvdust3r_jax.media.kinds import ImageError

# Google's description of panoramas, as an attribute or as an element of XMP.
_PHOTO = re.compile(rb"GPano:ProjectionType\s*(?:=\s*[\"']|>)\s*([\w ]+)")
# How ffmpeg names two pictures within one frame (7.0 and before: "stereo3d"), and what maps a
# sphere to it.
_STEREO = re.compile(
    r"(?:Stereo 3D|stereo3d): (side by side|top and bottom|checkerboard|interleaved \w+)"
)
_SPHERE = re.compile(
    r"[Ss]pherical(?: Mapping)?: ((?:tiled |half )?equirectangular|cubemap|fisheye|parametric)"
)
# Endings of cameras with two fisheye lenses: always, or where the frame is a circle's or two's.
_ALWAYS, _BY_SHAPE = (".360",), (".insv", ".insp")
# A projection that is a pinhole's.
_FLAT = "rectilinear"


def check_photo(image: Image.Image, name: str) -> None:
    """ImageError where an opened photograph's XMP, or its ending, tells of no pinhole camera."""
    _check_lenses(name, image.size[::-1])
    xmp = image.info.get("xmp")
    xmp = xmp.encode(errors="replace") if isinstance(xmp, str) else xmp
    # Damaged files have numbers there.
    found = _PHOTO.search(xmp if isinstance(xmp, bytes) else b"")
    if found is not None and found[1].decode().strip().lower() != _FLAT:
        projection = found[1].decode().strip()
        error = ImageError(f"{name} is a panorama ({projection}); a flat photograph is expected")
        error.add_note("cut flat views out of it, as programs for panoramas do, and give these")
        raise error


def check_video(path: Path, size: tuple[int, int], said: str) -> None:
    """ImageError where ffmpeg tells of stereo pairs within a frame, or of a sphere.

    size: (height, width).
    """
    _check_lenses(str(path), size)
    if (stereo := _STEREO.search(said)) is not None:
        error = ImageError(f"{path} holds two pictures in each frame (stereo, {stereo[1]})")
        error.add_note("cut one eye's picture out of it (ffmpeg -vf crop), or give one eye's video")
        raise error
    sphere = _SPHERE.search(said)
    if sphere is not None:
        error = ImageError(f"{path} is a 360-degree video ({sphere[1]}); a flat one is expected")
        error.add_note("make a flat video of it, as the camera's program does ('reframe')")
        raise error


def _check_lenses(name: str, size: tuple[int, int]) -> None:
    suffix, (height, width) = Path(name).suffix.lower(), size
    if suffix in _ALWAYS or (suffix in _BY_SHAPE and width in (height, 2 * height)):
        error = ImageError(f"{name} shows the fisheye views of a 360-degree camera")
        error.add_note("make flat pictures of it, as the camera's program does ('reframe')")
        raise error
