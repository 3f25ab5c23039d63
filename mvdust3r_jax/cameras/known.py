"""Cameras that are known beforehand: what is known of each photograph, and how files are read.

Poses are camera-to-world with OpenCV axes, intrinsics belong to the upright photographs at their
original size, the first pixel's center at (0, 0). NumPy arrays, float64.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from mvdust3r_jax.cameras import colmap, json_files
from mvdust3r_jax.cameras.entries import (
    CameraError,
    Entry,
    check_focal,
    checked_intrinsics,
    checked_pose,
)
from mvdust3r_jax.cameras.matching import few, matched
from mvdust3r_jax.cameras.turned import as_upright, with_pixels
from mvdust3r_jax.geometry.pixels import is_about_middle, resized_intrinsics
from mvdust3r_jax.media.kinds import ImageError
from mvdust3r_jax.media.picture import Header, read_header

Use = Literal["all", "intrinsics", "poses"]
# What a folder is searched for, in this order; the first that is there is taken.
_JSON_FILES = ("cameras.json", "transforms.json")
_SPLIT_FILES = tuple(f"transforms_{split}.json" for split in ("train", "val", "test"))
_MODEL_FOLDERS = (".", "sparse", "colmap/sparse", "colmap")
_MODEL_FILES = tuple(f"{part}.{kind}" for part in colmap.FILES for kind in ("bin", "txt"))
# Fields of KnownCameras with one entry for each view.
_OF_VIEWS = ("intrinsics", "world_from_cam", "image_sizes")


@dataclasses.dataclass(frozen=True)
class KnownCameras:
    """What is known of the V photographs; None where it is not.

    image_sizes: (height, width) of the images that the intrinsics belong to, 0 where not told;
    None stands for the photographs' own. left_out: sentences on what a file lacks.
    """

    intrinsics: Float[np.ndarray, "V 3 3"] | None = None
    world_from_cam: Float[np.ndarray, "V 4 4"] | None = None
    image_sizes: Int[np.ndarray, "V 2"] | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self):
        for name, size in (("intrinsics", 3), ("world_from_cam", 4)):
            array = getattr(self, name)
            if array is None:
                continue
            if np.ndim(array) != 3 or np.shape(array)[1:] != (size, size):
                shape = np.shape(array)
                raise CameraError(f"{name} [V, {size}, {size}] is expected, got {shape}")
            check = checked_intrinsics if name == "intrinsics" else checked_pose
            for view, matrix in enumerate(array):
                try:
                    check(matrix)
                except ValueError as error:
                    raise CameraError(f"{name} of view {view}: {error}") from error
            object.__setattr__(self, name, np.asarray(array, np.float64))
        if self.image_sizes is not None:
            object.__setattr__(self, "image_sizes", np.asarray(self.image_sizes, np.int64))
        fields = {name: getattr(self, name) for name in _OF_VIEWS}
        counts = {name: len(array) for name, array in fields.items() if array is not None}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise CameraError(f"as many of each as there are views are expected, got {told}")

    def intrinsics_of(
        self, view: int, original_size: tuple[int, int], name: str
    ) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of a photograph of that (height, width), enlarged or made smaller for it.

        Raises:
          CameraError: they belong to an image of another shape, or plainly of another size where
          the file does not tell it, or their focal length is none in pixels.
        """
        intrinsics = self._in_pixels_of(view, original_size, name)
        check_focal(intrinsics, original_size, name)
        return intrinsics

    def _in_pixels_of(
        self, view: int, original_size: tuple[int, int], name: str
    ) -> Float[np.ndarray, "3 3"]:
        known = np.array(self.intrinsics[view], np.float64)
        if self.image_sizes is None:
            return known
        of = self.image_sizes[view].tolist()
        if not all(of):
            _check_middle(known, original_size, name)
            return known
        if tuple(of) == tuple(original_size):
            return known
        scale = original_size[1] / of[1]
        # Sides are rounded to whole pixels in the larger or in the smaller image.
        if abs(original_size[0] - scale * of[0]) > max(1.0, scale):
            raise CameraError(
                f"{name} has {original_size[1]} x {original_size[0]} pixels, its intrinsics belong "
                f"to an image of {of[1]} x {of[0]}, which has another shape"
            )
        return resized_intrinsics(known, scale)


def _check_middle(intrinsics: np.ndarray, size: tuple[int, int], name: str) -> None:
    """CameraError where the principal point is not about the middle of the (height, width)."""
    if not is_about_middle(intrinsics[:2, 2], size):
        u, v = intrinsics[:2, 2]
        error = CameraError(
            f"the principal point ({u:.1f}, {v:.1f}) is far from the middle of {name} of "
            f"{size[1]} x {size[0]} pixels, and the file does not tell the size it belongs to"
        )
        error.add_note("write that size into the file (w and h of a transforms.json)")
        raise error


# ---------------------------------------------------------------- files


def read_cameras(
    path: str | os.PathLike,
    names: Sequence[str],
    use: Use = "all",
    headers: Sequence[Header | None] | None = None,
) -> KnownCameras:
    """The cameras of the named photographs.

    Args:
      path: our ``cameras.json``, a ``transforms.json`` (nerfstudio, instant-ngp, NeRF's synthetic
        scenes), the ``cameras.json`` of 3-D Gaussian splatting, a file of a COLMAP model, text or
        binary, or a folder that holds one of these.
      names: the photographs, as paths or bare names. They are found by the longest end of their
        path that a camera's name shares, file endings aside.
      use: what to take.
      headers: size and orientation of each photograph; those that are files tell them themselves.

    Intrinsics or poses that are not in the file for every photograph are left out, which
    ``left_out`` tells.

    Raises:
      CameraError: a photograph without a camera or with several, one camera for two photographs,
      values that are no camera's, intrinsics of a lens that is no pinhole, or a camera of which
      it cannot be told whether it belongs to the photograph upright or as stored.
      FileNotFoundError.
    """
    path = Path(path)
    found = matched(path, names, _entries(path))
    headers = headers or [None] * len(names)
    pairs = zip(found, names, headers, strict=True)
    try:
        found = [_of_photograph(entry, header or _header(name)) for entry, name, header in pairs]
    except CameraError as error:
        told = CameraError(f"{path}: {error}")
        told.__notes__ = getattr(error, "__notes__", [])
        raise told from error
    flawed = [entry for entry in found if entry.flaw]
    if flawed and use != "poses":
        error = CameraError(f"{path}: {flawed[0].name} has {flawed[0].flaw}")
        error.add_note("undistort the photographs, or use only the poses of the file")
        raise error
    return _known(path, names, found, use)


def _of_photograph(entry: Entry, header: Header | None) -> Entry:
    return with_pixels(as_upright(entry, header), header)


def _header(name: str) -> Header | None:
    """Of a photograph that is a file here; one that cannot be read says so when it is read."""
    try:
        return read_header(name) if Path(name).is_file() else None
    except (ImageError, OSError):
        return None


def _known(path: Path, names: Sequence[str], found: Sequence[Entry], use: Use) -> KnownCameras:
    fields: dict[str, Any] = {"left_out": ()}
    for key, word in (("intrinsics", "intrinsics"), ("world_from_cam", "poses")):
        if use not in ("all", word):
            continue
        lacking = [n for n, e in zip(names, found, strict=True) if getattr(e, key) is None]
        if lacking:
            told = f"{path} has no {word} for {few(lacking)}, so none are taken from it"
            fields["left_out"] += (told,)
        else:
            fields[key] = np.stack([_checked(path, entry, key) for entry in found])
    if any(entry.mask for entry in found):
        told = f"{path} names masks, which are not taken from it: give their files or folder"
        fields["left_out"] += (told,)
    return KnownCameras(image_sizes=np.array([entry.size for entry in found], int), **fields)


def _checked(path: Path, entry: Entry, key: str) -> np.ndarray:
    check = checked_intrinsics if key == "intrinsics" else checked_pose
    try:
        return check(getattr(entry, key))
    except ValueError as error:
        raise CameraError(f"{path}: {entry.name} has {error}") from error


def _entries(path: Path) -> list[Entry]:
    """All cameras of a file, or of what a folder holds."""
    if path.name in _MODEL_FILES and colmap.is_model(path.parent):
        return colmap.read(path.parent)
    if not path.is_dir():
        return json_files.read(path)
    for names in (*([name] for name in _JSON_FILES), _SPLIT_FILES):
        present = [path / name for name in names if (path / name).is_file()]
        if present:
            return [entry for file in present for entry in json_files.read(file)]
    for name in _MODEL_FOLDERS:
        models = _models(path / name)
        if len(models) > 1:
            several = ", ".join(str(model) for model in models[:3])
            raise CameraError(f"{path} holds several models: give one of {several}")
        if models:
            return colmap.read(models[0])
    raise CameraError(
        f"{path} holds no cameras: expected {', '.join(_JSON_FILES)}, {_SPLIT_FILES[0]}, or "
        "a COLMAP model (cameras and images, .bin or .txt, here or in sparse/0)"
    )


def _models(folder: Path) -> list[Path]:
    """COLMAP models: the folder itself, or its numbered subfolders."""
    if colmap.is_model(folder):
        return [folder]
    numbered = sorted(
        (f for f in folder.glob("[0-9]*") if f.name.isdigit()), key=lambda f: int(f.name)
    )
    return [model for model in numbered if colmap.is_model(model)]
