"""The published trajectory files: HDF5 with one data set ``json_strs`` of fixed-length JSON.

Every string is one trajectory: ``scene_name``, ``rgb_list`` and ``depth_list`` (paths); poses as
``pose_raw_list`` (4x4 camera-to-world) or ``pose_list`` (text files); intrinsics as
``intrinsic_raw`` (one 3x3 or 4x4) or ``intrinsic_list`` (text files); optional ``nv``: then the
first image and depth are wide, nv views side by side. Depth is 16-bit PNG in millimeters, or
``.npy`` in meters (floating point). Paths are those of the machine that wrote them; ``PathMap``
finds the files here.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
from jaxtyping import Float, UInt16

from data.color import Color, depth_intrinsics, read_color, stored_bytes
from data.rgbd.layouts import checked_pose, read_intrinsics, read_matrix
from data.schema import (
    MILLIMETER,
    CorruptRecord,
    Frame,
    decode_sensor_depth,
    depth_units,
    encode_depth_units,
)
from mvdust3r_jax.cameras import entries

# Of which an entry has lists of paths, view by view.
_PICTURES = ("rgb", "depth")


@dataclasses.dataclass(frozen=True)
class FrameKey:
    """What makes a frame of a released trajectory; equal keys are stored once.

    column, columns: which part of a wide image; 0 of 1 for an ordinary one. Matrices are tuples,
    row by row, so that keys can be compared.
    """

    image: str
    depth: str
    world_from_cam: tuple[float, ...]
    intrinsics: tuple[float, ...]
    column: int = 0
    columns: int = 1


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One trajectory: inputs first, then render-only frames."""

    scene: str
    frames: tuple[FrameKey, ...]


class PathMap:
    """Finds the files of other machines' paths below ``root``.

    The longest tail of the path that exists below the root is taken; what one search found is tried
    first for the next, so that a data set costs one search.
    """

    def __init__(self, root: Path):
        self.root, self._dropped = root, 0

    def __call__(self, recorded: str) -> Path:
        """The file here; ``CorruptRecord`` where there is none."""
        parts = [part for part in PurePosixPath(recorded).parts if part not in ("/", ".", "..")]
        for dropped in (self._dropped, *range(len(parts))):
            candidate = self.root.joinpath(*parts[dropped:])
            # That of pathlib raises for names that are too long for the disk.
            if os.path.isfile(candidate):
                self._dropped = dropped
                return candidate
        raise CorruptRecord(f"{recorded}: no file of this name below {self.root}")

    def size(self, recorded: str) -> int | None:
        """Bytes of the file here; None where there is none."""
        try:
            return self(recorded).stat().st_size
        except (CorruptRecord, OSError):
            return None


def read_strings(path: Path) -> Iterator[bytes]:
    """The file's entries as they are stored.

    Raises:
      FileNotFoundError: no file. CorruptRecord: it is damaged, or has no data set of strings.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: a published HDF5 file was expected")
    try:
        with h5py.File(path) as stored:
            for text in _json_strings(stored, path):
                yield bytes(text)
    except OSError as error:
        raise CorruptRecord(f"{path} is cut off or no HDF5 file: {error}") from error


def _json_strings(stored: h5py.File, path: Path) -> h5py.Dataset:
    found = stored.get("json_strs")
    strings = isinstance(found, h5py.Dataset) and found.ndim == 1 and found.dtype.kind in "SO"
    if not strings:
        told = list(stored) if found is None else found
        raise CorruptRecord(f"{path}: expected a data set 'json_strs' of strings, found {told}")
    return found


def parse_trajectory(text: bytes, find: PathMap) -> Trajectory:
    """Cameras of one entry; text files are read here, images and depth only when stored.

    ``CorruptRecord`` for whatever is wrong with it.
    """
    try:
        entry = json.loads(text.rstrip(b"\0").decode())
        images, depths = ([str(path) for path in entry[f"{kind}_list"]] for kind in _PICTURES)
        columns = int(entry.get("nv") or 1)
        if columns < 1:
            raise CorruptRecord(f"nv is {columns}, expected how many views lie side by side")
        count = columns if columns > 1 else len(images)
        poses = _poses(entry, find)
        intrinsics = _intrinsics(entry, find, count)
        if len(poses) != count or (columns == 1 and len(depths) != count):
            raise CorruptRecord(f"{count} views, {len(depths)} depths, {len(poses)} poses")
        frames = tuple(
            FrameKey(
                images[0 if columns > 1 else view],
                depths[0 if columns > 1 else view],
                tuple(checked_pose(poses[view], f"view {view}").ravel().tolist()),
                tuple(intrinsics[view].ravel().tolist()),
                view if columns > 1 else 0,
                columns,
            )
            for view in range(count)
        )
        return Trajectory(str(entry["scene_name"]), frames)
    except CorruptRecord:
        raise
    except (KeyError, TypeError, IndexError) as error:
        raise CorruptRecord(f"entry lacks or misuses {error}") from error
    except (ValueError, OverflowError) as error:
        raise CorruptRecord(f"entry is damaged: {error}") from error


def _poses(entry: dict, find: PathMap) -> Sequence[np.ndarray]:
    if "pose_raw_list" in entry:
        return [np.asarray(pose, np.float64) for pose in entry["pose_raw_list"]]
    return [read_matrix(find(path), 4) for path in entry["pose_list"]]


def _intrinsics(entry: dict, find: PathMap, count: int) -> Sequence[np.ndarray]:
    if "intrinsic_raw" in entry:
        given = np.asarray(entry["intrinsic_raw"], np.float64)
        return [entries.checked_intrinsics(given[:3, :3])] * count
    matrices = {path: read_intrinsics(find(path)) for path in set(entry["intrinsic_list"])}
    # One file for all views, or one for each.
    listed = [matrices[path] for path in entry["intrinsic_list"]]
    return listed * count if len(listed) == 1 else listed


def load_frame(key: FrameKey, name: str, find: PathMap) -> Frame:
    """The encoded frame; ``CorruptRecord`` where a file is missing, unreadable or empty.

    Color that fits is stored byte for byte; wide images are cut, and color of another size than
    depth is resized to it.
    """
    image_path, depth_path = find(key.image), find(key.depth)
    depth_bytes, size = _depth(depth_path, key)
    whole = read_color(_bytes(image_path, key.image), key.image, size, key.columns)
    color = Color(_column(whole.pixels, key), whole.data if key.columns == 1 else None)
    if not color.pixels.any():
        raise CorruptRecord(f"{_part(key.image, key)}: the image is empty (all black)")
    given = np.reshape(key.intrinsics, (3, 3))
    intrinsics = depth_intrinsics(given, None, size, color.pixels.shape[:2])
    pose = np.reshape(key.world_from_cam, (4, 4))
    return Frame(name, stored_bytes(color, size), depth_bytes, pose, intrinsics)


def _depth(path: Path, key: FrameKey) -> tuple[bytes, tuple[int, int]]:
    """PNG bytes in millimeters, and (height, width); ``CorruptRecord`` without any known depth."""
    if path.suffix == ".npy":
        units = _units(_column(_meters(path, key.depth), key), _part(key.depth, key))
    else:
        units = _column(decode_sensor_depth(_bytes(path, key.depth), key.depth), key)
    if not units.any():
        raise CorruptRecord(f"{_part(key.depth, key)}: depth is empty")
    return encode_depth_units(units), units.shape


def _meters(path: Path, name: str) -> Float[np.ndarray, "H W"]:
    """The array of a ``.npy`` file; whole numbers are millimeters, which belong in a PNG."""
    try:
        stored = np.squeeze(np.load(path))
    # Whatever an empty or damaged file makes of NumPy's reader.
    except Exception as error:
        raise CorruptRecord(f"{name}: {error}") from error
    if stored.ndim != 2 or not stored.size or stored.dtype.kind != "f":
        found = f"{stored.dtype} {stored.shape}"
        raise CorruptRecord(
            f"{name}: expected floating-point depth in meters, height x width, found {found}"
        )
    return stored


def _units(depth_m: Float[np.ndarray, "H W"], name: str) -> UInt16[np.ndarray, "H W"]:
    """In millimeters; ``CorruptRecord`` where all depth is beyond what they can say."""
    units, known = depth_units(depth_m, MILLIMETER), depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    if known.size and not units.any():
        farthest_m = np.iinfo(np.uint16).max * MILLIMETER
        raise CorruptRecord(
            f"{name}: expected depth in meters, from {MILLIMETER} to {farthest_m:g}, "
            f"found {known.min():g} to {known.max():g}"
        )
    return units


def _bytes(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptRecord(f"{name}: {error.strerror}") from error


def _part(recorded: str, key: FrameKey) -> str:
    """The file, and which of the views in it is meant."""
    return f"{recorded}, view {key.column}" if key.columns > 1 else recorded


def _column(image: np.ndarray, key: FrameKey) -> np.ndarray:
    """One view of a wide image ``[H, columns * W, ...]``."""
    if image.shape[1] % key.columns:
        raise CorruptRecord(f"{key.image}: width {image.shape[1]} is no {key.columns} views")
    width = image.shape[1] // key.columns
    return image[:, key.column * width : (key.column + 1) * width]
