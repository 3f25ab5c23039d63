"""COLMAP's files ``cameras``, ``images`` and ``points3D``, binary (.bin) and text (.txt).

Points are counted from 1 here as in COLMAP's own models; an observation names its point, and a
point's track names (image, index among that image's observations).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_PINHOLE = 1
_SEEN = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
_TRACK = np.dtype([("image", "<u4"), ("index", "<u4")])


class Sparse(NamedTuple):
    """``I`` images with a camera each, ``P`` points, ``n`` observations ordered by point.

    Pixels count the first center as (0.5, 0.5).
    """

    image_ids: np.ndarray  # [I], which are the cameras' as well
    names: list[str]
    sizes: np.ndarray  # [I, 2] width, height
    pinhole: np.ndarray  # [I, 4] fx, fy, cx, cy
    quats: np.ndarray  # [I, 4] wxyz, camera from world
    translations: np.ndarray  # [I, 3]
    positions: np.ndarray  # [P, 3]
    colors: np.ndarray  # [P, 3] uint8
    errors: np.ndarray  # [P] mean distance in pixels
    point: np.ndarray  # [n] index of the point
    image: np.ndarray  # [n] id of the image
    pixel_px: np.ndarray  # [n, 2]

    def tracks(self) -> tuple[np.ndarray, np.ndarray]:
        """All tracks one after the other, and where each begins, [P + 1]."""
        track = np.zeros(len(self.point), _TRACK)
        track["image"] = self.image
        for image_id in self.image_ids:
            here = self.image == image_id
            track["index"][here] = np.arange(here.sum())
        return track, np.searchsorted(self.point, np.arange(len(self.positions) + 1))


# ---------------------------------------------------------------- binary


def cameras_bin(model: Sparse) -> bytes:
    """One PINHOLE camera per image."""
    parts = [struct.pack("<Q", len(model.image_ids))]
    for i, size, pinhole in zip(model.image_ids, model.sizes, model.pinhole, strict=True):
        parts.append(struct.pack("<IiQQ4d", i, _PINHOLE, *size, *pinhole))
    return b"".join(parts)


def images_bin(model: Sparse) -> bytes:
    """Poses, names and observations."""
    parts = [struct.pack("<Q", len(model.image_ids))]
    rows = zip(model.image_ids, model.quats, model.translations, model.names, strict=True)
    for i, quat, translation, name in rows:
        here = model.image == i
        seen = np.empty(here.sum(), _SEEN)
        seen["x"], seen["y"] = model.pixel_px[here].T
        seen["point"] = model.point[here] + 1
        parts.append(struct.pack("<I7dI", i, *quat, *translation, i))
        parts += [name.encode() + b"\0", struct.pack("<Q", len(seen)), seen.tobytes()]
    return b"".join(parts)


def points_bin(model: Sparse) -> bytes:
    """Positions, colors, errors and tracks."""
    track, begins = model.tracks()
    parts = [struct.pack("<Q", len(model.positions))]
    rows = zip(model.positions, model.colors.tolist(), model.errors, strict=True)
    for i, (xyz, rgb, error) in enumerate(rows):
        part = track[begins[i] : begins[i + 1]]
        parts.append(struct.pack("<Q3d3BdQ", i + 1, *xyz, *rgb, error, len(part)))
        parts.append(part.tobytes())
    return b"".join(parts)


# ---------------------------------------------------------------- text


def _lines(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _numbers(values, digits: int) -> str:
    return " ".join(f"{x:.{digits}g}" for x in values)


def cameras_txt(model: Sparse) -> bytes:
    """One PINHOLE camera per image."""
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, FX, FY, CX, CY"]
    for i, (w, h), pinhole in zip(model.image_ids, model.sizes, model.pinhole, strict=True):
        lines.append(f"{i} PINHOLE {w} {h} {_numbers(pinhole, 9)}")
    return _lines(lines)


def images_txt(model: Sparse) -> bytes:
    """Poses and names; below each its observations."""
    lines = [
        "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME",
        "# POINTS2D[] as (X, Y, POINT3D_ID)",
    ]
    rows = zip(model.image_ids, model.quats, model.translations, model.names, strict=True)
    for i, quat, translation, name in rows:
        here = model.image == i
        seen = zip(model.pixel_px[here], model.point[here] + 1, strict=True)
        lines.append(f"{i} {_numbers([*quat, *translation], 12)} {i} {name}")
        lines.append(" ".join(f"{x:.3f} {y:.3f} {point}" for (x, y), point in seen))
    return _lines(lines)


def points_txt(model: Sparse) -> bytes:
    """One line per point."""
    track, begins = model.tracks()
    lines = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
    rows = zip(model.positions, model.colors, model.errors, strict=True)
    for i, (xyz, (r, g, b), error) in enumerate(rows):
        seen = " ".join(f"{image} {index}" for image, index in track[begins[i] : begins[i + 1]])
        lines.append(f"{i + 1} {_numbers(xyz, 12)} {r} {g} {b} {error:.4f} {seen}")
    return _lines(lines)


# File name -> its writer.
Writers = dict[str, Callable[[Sparse], bytes]]
BINARY: Writers = {
    "cameras.bin": cameras_bin,
    "images.bin": images_bin,
    "points3D.bin": points_bin,
}
TEXT: Writers = {"cameras.txt": cameras_txt, "images.txt": images_txt, "points3D.txt": points_txt}
