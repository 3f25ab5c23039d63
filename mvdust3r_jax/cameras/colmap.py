"""COLMAP's models, text or binary: ``cameras`` and ``images`` with sizes, intrinsics and poses.

COLMAP counts the first pixel's center as (0.5, 0.5) and gives camera-from-world poses. Its images
are the pixels as they are stored: it does not turn photographs by EXIF.
"""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mvdust3r_jax.cameras.entries import CameraError, Entry, whole_number
from mvdust3r_jax.geometry.pixels import center_from_corner
from mvdust3r_jax.geometry.transforms import rotation_matrices

# Models by their number in binary files: how many focal lengths, and names of the parameters after
# the principal point. Without focal lengths there is no principal point either.
_MODELS = {
    "SIMPLE_PINHOLE": (1, ()),
    "PINHOLE": (2, ()),
    "SIMPLE_RADIAL": (1, ("k",)),
    "RADIAL": (1, ("k1", "k2")),
    "OPENCV": (2, ("k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": (2, ("k1", "k2", "k3", "k4")),
    "FULL_OPENCV": (2, ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
    "FOV": (2, ("omega",)),
    "SIMPLE_RADIAL_FISHEYE": (1, ("k",)),
    "RADIAL_FISHEYE": (1, ("k1", "k2")),
    "THIN_PRISM_FISHEYE": (2, ("k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1")),
    "RAD_TAN_THIN_PRISM_FISHEYE": (2, tuple(f"d{i}" for i in range(12))),
    "SIMPLE_DIVISION": (1, ("k",)),
    "DIVISION": (2, ("k",)),
    "SIMPLE_FISHEYE": (1, ()),
    "FISHEYE": (2, ()),
    "EUCM": (2, ("alpha", "beta")),
    "EQUIRECTANGULAR": (0, ("w", "h")),
}
# No pinhole, whatever their parameters are.
_BENT = ("FISHEYE", "EUCM", "EQUIRECTANGULAR")
_PARTS = ("cameras", "images")
# What a model's files are called; only the first two are read.
FILES = (*_PARTS, "points3D", "rigs", "frames")


@dataclasses.dataclass(frozen=True)
class Camera:
    """size: (height, width). flaw: why a pinhole camera is not what took the images."""

    intrinsics: Float[np.ndarray, "3 3"] | None
    size: tuple[int, int]
    flaw: str | None


def is_model(folder: Path) -> bool:
    """Whether the folder holds a model."""
    return any(all((folder / f"{p}{s}").is_file() for p in _PARTS) for s in (".bin", ".txt"))


def read(folder: Path) -> list[Entry]:
    """All images of the model (binary files first, as COLMAP takes them), in its order.

    Raises:
      CameraError: naming the file, and where it is damaged.
    """
    binary = all((folder / f"{part}.bin").is_file() for part in _PARTS)
    cameras_path, images_path = (folder / f"{p}.{'bin' if binary else 'txt'}" for p in _PARTS)
    cameras = (_binary_cameras if binary else _text_cameras)(cameras_path)
    images = (_binary_images if binary else _text_images)(images_path)
    entries = []
    for name, camera_id, cam_from_world in images:
        if camera_id not in cameras:
            raise CameraError(
                f"{images_path}: {name} has the camera {camera_id}, which is not told"
            )
        camera = cameras[camera_id]
        pose = _inverse(cam_from_world)
        entries.append(Entry(name, camera.intrinsics, pose, camera.size, flaw=camera.flaw))
    return entries


def _inverse(cam_from_world: np.ndarray) -> Float[np.ndarray, "4 4"]:
    pose = np.eye(4)
    pose[:3, :3] = cam_from_world[:3, :3].T
    pose[:3, 3] = -cam_from_world[:3, :3].T @ cam_from_world[:3, 3]
    return pose


def _parameters(model: str) -> int:
    """How many there are of a model."""
    count, names = _MODELS[model]
    return (count + 2 if count else 0) + len(names)


def _camera(model: str, width: int, height: int, values: list[float]) -> Camera:
    """ValueError for another number of parameters; an unknown model is a flaw."""
    size = whole_number(height, "HEIGHT"), whole_number(width, "WIDTH")
    if model not in _MODELS:
        return Camera(None, size, f"the camera model {model}, which is not known here")
    if len(values) != _parameters(model):
        raise ValueError(f"{model} has {_parameters(model)} parameters, got {len(values)}")
    count, names = _MODELS[model]
    if not count:
        return Camera(None, size, f"the camera model {model}")
    (fx, fy), (cx, cy) = (values[0], values[count - 1]), values[count : count + 2]
    u, v = center_from_corner(cx), center_from_corner(cy)
    matrix = np.array([[fx, 0, u], [0, fy, v], [0, 0, 1]], np.float64)
    bent = [f"{n} = {v:g}" for n, v in zip(names, values[count + 2 :], strict=True) if v != 0]
    flaw = f"lens distortion ({', '.join(bent)})" if bent else None
    if any(word in model for word in _BENT):
        flaw = f"the camera model {model}"
    return Camera(matrix, size, flaw)


def rotation_matrix(quat_wxyz: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """float64, which poses in large scenes need; NaN of a quaternion of length zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return rotation_matrices(quat_wxyz / np.linalg.norm(quat_wxyz))


def _cam_from_world(numbers) -> np.ndarray:
    """[4, 4] of a quaternion wxyz and a translation."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_matrix(np.array(numbers[:4])), numbers[4:7]
    return pose


# ---------------------------------------------------------------- text


def _rows(path: Path) -> list[str]:
    """Lines that are no comments, blank ones included: an image's second line may be empty."""
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def _text_cameras(path: Path) -> dict[int, Camera]:
    cameras = {}
    for row in filter(str.strip, _rows(path)):
        try:
            number, model, width, height, *values = row.split()
            sides = int(width), int(height)
            cameras[int(number)] = _camera(model, *sides, [float(value) for value in values])
        except ValueError as error:
            raise CameraError(f"{path}, {row[:60]!r}: {error}") from error
    return cameras


def _text_images(path: Path) -> list[tuple[str, int, np.ndarray]]:
    images, follows = [], False
    for row in _rows(path):
        # Blank lines may come before an image, and some programs write no line of points.
        if not row.strip() or (follows and not _is_image(row)):
            follows = False
            continue
        try:
            # A name may hold spaces.
            _, *numbers, camera, name = row.strip().split(maxsplit=9)
            images.append((name, int(camera), _cam_from_world([float(n) for n in numbers])))
        except (ValueError, IndexError) as error:
            raise CameraError(f"{path}, {row[:60]!r}: {error}") from error
        follows = True
    return images


def _is_image(row: str) -> bool:
    """Whether a line behind an image's is the next image's; else it is (x, y, number) of points."""
    fields = row.split()
    if len(fields) < 10:
        return False
    return len(fields) % 3 != 0 or not _is_number(fields[-1]) or _begins_with_a_pose(fields)


def _begins_with_a_pose(fields: list[str]) -> bool:
    """Whole numbers where an image has its own and its camera's, and a unit quaternion between."""
    if not (fields[0].isdecimal() and fields[8].isdecimal()):
        return False
    numbers = [float(text) if _is_number(text) else np.nan for text in fields[1:8]]
    return bool(np.isfinite(numbers).all() and abs(np.linalg.norm(numbers[:4]) - 1) < 1e-3)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


# ---------------------------------------------------------------- binary


class _Cursor:
    """Reads little-endian values one after the other; CameraError past the end."""

    def __init__(self, path: Path):
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, form: str) -> tuple:
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.data):
            raise CameraError(f"{self.path} is truncated: it ends after {len(self.data)} bytes")
        self.at += size
        return struct.unpack_from("<" + form, self.data, self.at - size)

    def text(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise CameraError(f"{self.path} is truncated in the name of an image")
        self.at, start = end + 1, self.at
        return self.data[start:end].decode("utf-8", "surrogateescape")


def _binary_cameras(path: Path) -> dict[int, Camera]:
    cursor, cameras = _Cursor(path), {}
    names = list(_MODELS)
    for _ in range(cursor.take("Q")[0]):
        number, model, width, height = cursor.take("iiQQ")
        if not 0 <= model < len(names):
            error = CameraError(f"{path}: camera {number} has the unknown model number {model}")
            error.add_note("save the model as text (colmap model_converter --output_type TXT)")
            raise error
        values = cursor.take(f"{_parameters(names[model])}d")
        try:
            cameras[number] = _camera(names[model], width, height, list(values))
        except ValueError as error:
            raise CameraError(f"{path}, camera {number}: {error}") from error
    return cameras


def _binary_images(path: Path) -> list[tuple[str, int, np.ndarray]]:
    cursor, images = _Cursor(path), []
    for _ in range(cursor.take("Q")[0]):
        _, *numbers, camera = cursor.take("I7dI")
        name, (points,) = cursor.text(), cursor.take("Q")
        # Two coordinates and the number of a point each.
        cursor.at += 24 * points
        images.append((name, camera, _cam_from_world(numbers)))
    if cursor.at > len(cursor.data):
        raise CameraError(f"{path} is truncated: it ends after {len(cursor.data)} bytes")
    return images
