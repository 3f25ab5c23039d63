"""Where posed RGB-D folders keep their frames: ScanNet, ScanNet++, 7-Scenes and a plain layout.

A layout lists scenes below a root, and the frames of a scene as paths and cameras; nothing is
decoded here. Poses are camera-to-world in meters, OpenCV axes; intrinsics belong to the depth image
(the first pixel's center at (0, 0)). A frame whose files or pose are unusable is not listed but
reported with its reason.

* ``7scenes``: ``SCENE/frame-000000.{color.png|jpg,depth.png,pose.txt}``; intrinsics from
  ``camera-intrinsics.txt`` (3x3) where it exists, else the published (585, 585, 320, 240).
* ``scannet``: ``SCENE/frames/{color/*.jpg,depth/*.png,pose/*.txt,intrinsic/intrinsic_depth.txt}``,
  also without ``frames/``; color may have another size than depth.
* ``scannetpp``: ``SCENE/iphone/{rgb/frame_*.jpg,colmap/{cameras,images}.txt,render_depth/*.png}``.
  COLMAP's intrinsics follow the depth to its size. Its lens distortion is not undone.
* ``plain``: ``SCENE/{rgb/NAME.jpg|png,depth/NAME.png,pose/NAME.txt,intrinsics.txt}``, depth in
  millimeters; ``intrinsics/NAME.txt`` where frames differ.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.schema import CorruptRecord
from mvdust3r_jax.cameras import colmap, entries
from mvdust3r_jax.media.names import natural_key

_SEVEN_SCENES, _SEVEN_SCENES_SIZE = (
    np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]]),
    (480, 640),
)
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# Scenes may lie this far below the root.
_DEPTHS = ("*", "*/*", "*/*/*")


@dataclasses.dataclass(frozen=True)
class FramePaths:
    """One frame on disk.

    intrinsics: of an image of (height, width) ``intrinsics_size``; of the depth image where None.
    """

    name: str
    image: Path
    depth: Path
    world_from_cam: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    intrinsics_size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """find: scene folders below a root; read: good frames of a scene and lines on the bad ones."""

    find: Callable[[Path], dict[str, Path]]
    read: Callable[[Path], tuple[list[FramePaths], list[str]]]


def read_matrix(path: Path, size: int) -> Float[np.ndarray, "n n"]:
    """Text matrix; ``CorruptRecord`` where it is missing, misshapen or not finite.

    A 4x4 matrix serves where 3x3 is asked for: ScanNet pads its intrinsics.
    """
    try:
        rows = [line.split() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        matrix = np.array(rows, np.float64)
    except (OSError, ValueError) as error:
        raise CorruptRecord(f"{path.name}: {error}") from error
    if matrix.shape not in ((size, size), (4, 4)):
        raise CorruptRecord(f"{path.name}: expected a {size}x{size} matrix, found {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise CorruptRecord(f"{path.name}: not finite")
    return matrix[:size, :size]


def read_intrinsics(path: Path) -> Float[np.ndarray, "3 3"]:
    """Text matrix, if it can be a camera's; else ``CorruptRecord``."""
    matrix = read_matrix(path, 3)
    try:
        return entries.checked_intrinsics(matrix)
    except ValueError as error:
        raise CorruptRecord(f"{path.name}: {error}") from error


def checked_pose(world_from_cam: np.ndarray, name: str) -> Float[np.ndarray, "4 4"]:
    """The pose, if it is finite and rigid; else ``CorruptRecord``."""
    try:
        return entries.checked_pose(world_from_cam)
    except ValueError as error:
        raise CorruptRecord(f"{name}: {error}") from error


def _collect(names: list[str], frame_of: Callable[[str], FramePaths]):
    frames, problems = [], []
    for name in names:
        try:
            frame = frame_of(name)
            for path in (frame.image, frame.depth):
                if not path.is_file():
                    raise CorruptRecord(f"{path.name} is missing")
            frames.append(frame)
        except CorruptRecord as error:
            problems.append(f"{name}: {error}")
    return frames, problems


def _with_suffix(stem: Path, suffixes: tuple[str, ...] = _IMAGE_SUFFIXES) -> Path:
    """The image file of this stem; the first spelling where there is none."""
    spellings = [spelled for suffix in suffixes for spelled in (suffix, suffix.upper())]
    candidates = [stem.with_name(stem.name + suffix) for suffix in spellings]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _depth_image(stem: Path) -> Path:
    return _with_suffix(stem, (".png",))


def _scene_folders(root: Path, marker: str) -> list[Path]:
    """Folders that contain the marker (a glob): the root itself, or some below it; absolute."""
    # ``.`` has no name of its own.
    root = Path(os.path.abspath(root))
    if any(root.glob(marker)):
        return [root]
    # At fixed depths: a recursive search would list every frame of every scene.
    paths = [path for depth in _DEPTHS for path in root.glob(f"{depth}/{marker}")]
    folders = {path.parents[marker.count("/")] for path in paths}
    return sorted(folders, key=natural_key)


def _named(root: Path, folders: list[Path]) -> dict[str, Path]:
    """Scenes by the folder's name, or by the path below the root where names repeat."""
    if len({folder.name for folder in folders}) == len(folders):
        return {folder.name: folder for folder in folders}
    root = Path(os.path.abspath(root))
    return {folder.relative_to(root).as_posix(): folder for folder in folders}


def _find_seven_scenes(root: Path) -> dict[str, Path]:
    """Sequences with their room's name, ``chess/seq-01``, even if there is only one room."""
    folders = _scene_folders(root, "frame-*.pose.txt")
    named = {f"{folder.parent.name}/{folder.name}": folder for folder in folders}
    sequences = all(folder.name.startswith("seq-") for folder in folders)
    return named if sequences and len(named) == len(folders) else _named(root, folders)


def _finder(marker: str) -> Callable[[Path], dict[str, Path]]:
    return lambda root: _named(root, _scene_folders(root, marker))


def _read_seven_scenes(scene: Path):
    camera = scene / "camera-intrinsics.txt"
    intrinsics, size = _SEVEN_SCENES, _SEVEN_SCENES_SIZE
    if camera.is_file():
        intrinsics, size = read_intrinsics(camera), None

    def frame(name):
        pose = checked_pose(read_matrix(scene / f"{name}.pose.txt", 4), name)
        image = _with_suffix(scene / f"{name}.color")
        return FramePaths(
            name, image, _depth_image(scene / f"{name}.depth"), pose, intrinsics, size
        )

    names = {path.name.split(".")[0] for path in scene.glob("frame-*.*")}
    return _collect(sorted(names, key=natural_key), frame)


def _read_scannet(scene: Path):
    base = scene / "frames" if (scene / "frames").is_dir() else scene
    intrinsics = read_intrinsics(base / "intrinsic" / "intrinsic_depth.txt")

    def frame(name):
        pose = checked_pose(read_matrix(base / "pose" / f"{name}.txt", 4), name)
        depth = _depth_image(base / "depth" / name)
        return FramePaths(name, _with_suffix(base / "color" / name), depth, pose, intrinsics)

    return _collect(_stems(base, "color", "depth", "pose"), frame)


def _stems(scene: Path, *folders: str) -> list[str]:
    """Frames of which any of the folders has a file, so that one that lacks a part is told.

    Numbers, often without leading zeros, are in the order of their values.
    """
    files = [path for folder in folders for path in (scene / folder).glob("*")]
    stems = {path.stem for path in files if not path.name.startswith(".")}
    return sorted(stems, key=natural_key)


def _read_scannetpp(scene: Path):
    base = scene / "iphone"
    try:
        listed = colmap.read(base / "colmap")
    except (entries.CameraError, OSError) as error:
        raise CorruptRecord(str(error)) from error
    images = {Path(entry.name).stem: entry for entry in listed}

    def frame(name):
        entry = images[name]
        pose = checked_pose(entry.world_from_cam, name)
        if entry.intrinsics is None:
            raise CorruptRecord(f"{name} has {entry.flaw}")
        image, depth = _with_suffix(base / "rgb" / name), _depth_image(base / "render_depth" / name)
        return FramePaths(name, image, depth, pose, entry.intrinsics, entry.size)

    return _collect(sorted(images, key=natural_key), frame)


def _read_plain(scene: Path):
    shared = scene / "intrinsics.txt"

    def frame(name):
        pose = checked_pose(read_matrix(scene / "pose" / f"{name}.txt", 4), name)
        own = scene / "intrinsics" / f"{name}.txt"
        intrinsics = read_intrinsics(own if own.is_file() else shared)
        depth = _depth_image(scene / "depth" / name)
        return FramePaths(name, _with_suffix(scene / "rgb" / name), depth, pose, intrinsics)

    return _collect(_stems(scene, "rgb", "depth", "pose"), frame)


def _find_scannet(root: Path) -> dict[str, Path]:
    folders = _scene_folders(root, "intrinsic/intrinsic_depth.txt")
    # The published export has ``frames/`` between the scene and its files.
    return _named(root, [path.parent if path.name == "frames" else path for path in folders])


LAYOUTS = {
    "7scenes": Layout(_find_seven_scenes, _read_seven_scenes),
    "scannet": Layout(_find_scannet, _read_scannet),
    "scannetpp": Layout(_finder("iphone/colmap/images.*"), _read_scannetpp),
    "plain": Layout(_finder("rgb"), _read_plain),
}
