"""Where posed RGB-D folders keep their frames: ScanNet, ScanNet++, 7-Scenes and a plain layout.

A layout lists scenes below a root, and the frames of a scene as paths and cameras; nothing is
decoded here. Poses are camera-to-world in metres, OpenCV axes; intrinsics belong to the depth image
(the first pixel's centre at (0, 0)). A frame whose files or pose are unusable is not listed but
reported with its reason.

* ``7scenes``: ``SCENE/frame-000000.{color.png|jpg,depth.png,pose.txt}``; intrinsics from
  ``camera-intrinsics.txt`` (3x3) where it exists, else the published (585, 585, 320, 240).
* ``scannet``: ``SCENE/frames/{color/*.jpg,depth/*.png,pose/*.txt,intrinsic/intrinsic_depth.txt}``,
  also without ``frames/``; colour may have another size than depth.
* ``scannetpp``: ``SCENE/iphone/{rgb/frame_*.jpg,colmap/{cameras,images}.txt,render_depth/*.png}``.
  COLMAP puts the first pixel's centre at (0.5, 0.5). Its lens distortion is not undone.
* ``plain``: ``SCENE/{rgb/NAME.jpg|png,depth/NAME.png,pose/NAME.txt,intrinsics.txt}``, depth in
  millimetres; ``intrinsics/NAME.txt`` where frames differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data.stored.schema import CorruptRecord

_SEVEN_SCENES = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# A rotation written with few digits is off by about its last digit; far more is no rotation.
_ROTATION_TOLERANCE = 1e-2
# Scenes may lie this far below the root.
_DEPTHS = ("*", "*/*", "*/*/*")


@dataclasses.dataclass(frozen=True)
class FramePaths:
    """One frame on disk. intrinsics: of the depth image."""

    name: str
    image: Path
    depth: Path
    world_from_cam: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]


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
        rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
        matrix = np.array(rows, np.float64)
    except (OSError, ValueError) as error:
        raise CorruptRecord(f"{path.name}: {error}") from error
    if matrix.shape not in ((size, size), (4, 4)):
        raise CorruptRecord(f"{path.name}: expected a {size}x{size} matrix, found {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise CorruptRecord(f"{path.name}: not finite")
    return matrix[:size, :size]


def checked_pose(world_from_cam: np.ndarray, name: str) -> Float[np.ndarray, "4 4"]:
    """The pose, if it is finite and rigid; else ``CorruptRecord``."""
    pose = np.asarray(world_from_cam, np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise CorruptRecord(f"{name}: pose is not a finite 4x4 matrix")
    rotation = pose[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise CorruptRecord(f"{name}: pose is not rigid (R R^T differs from 1 by {error:.3g})")
    return pose


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


def _with_suffix(stem: Path) -> Path:
    """The image file of this stem; the first spelling where there is none."""
    candidates = [stem.with_name(stem.name + suffix) for suffix in _IMAGE_SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _scene_folders(root: Path, marker: str) -> list[Path]:
    """Folders that contain the marker (a glob): the root itself, or some below it."""
    if any(root.glob(marker)):
        return [root]
    # At fixed depths: a recursive search would list every frame of every scene.
    paths = [path for depth in _DEPTHS for path in root.glob(f"{depth}/{marker}")]
    return sorted({path.parents[marker.count("/")] for path in paths})


def _named(root: Path, folders: list[Path]) -> dict[str, Path]:
    """Scenes by the folder's name, or by the path below the root where names repeat."""
    if len({folder.name for folder in folders}) == len(folders):
        return {folder.name: folder for folder in folders}
    return {folder.relative_to(root).as_posix(): folder for folder in folders}


def _finder(marker: str) -> Callable[[Path], dict[str, Path]]:
    return lambda root: _named(root, _scene_folders(root, marker))


def _read_seven_scenes(scene: Path):
    camera = scene / "camera-intrinsics.txt"
    intrinsics = read_matrix(camera, 3) if camera.is_file() else _SEVEN_SCENES

    def frame(name):
        pose = checked_pose(read_matrix(scene / f"{name}.pose.txt", 4), name)
        image = _with_suffix(scene / f"{name}.color")
        return FramePaths(name, image, scene / f"{name}.depth.png", pose, intrinsics)

    names = {path.name.split(".")[0] for path in scene.glob("frame-*.*")}
    return _collect(sorted(names), frame)


def _read_scannet(scene: Path):
    base = scene / "frames" if (scene / "frames").is_dir() else scene
    intrinsics = read_matrix(base / "intrinsic" / "intrinsic_depth.txt", 3)

    def frame(name):
        pose = checked_pose(read_matrix(base / "pose" / f"{name}.txt", 4), name)
        depth = base / "depth" / f"{name}.png"
        return FramePaths(name, _with_suffix(base / "color" / name), depth, pose, intrinsics)

    # Exported frames are numbered without leading zeros.
    names = sorted({p.stem for p in base.glob("color/*")}, key=lambda name: (len(name), name))
    return _collect(names, frame)


def _read_scannetpp(scene: Path):
    base = scene / "iphone"
    cameras = _colmap_cameras(base / "colmap" / "cameras.txt")
    images = _colmap_images(base / "colmap" / "images.txt")

    def frame(name):
        camera, cam_from_world = images[name]
        pose = checked_pose(cam_from_world, name)
        pose = np.linalg.inv(pose)
        depth = base / "render_depth" / f"{name}.png"
        return FramePaths(name, _with_suffix(base / "rgb" / name), depth, pose, cameras[camera])

    return _collect(sorted(images), frame)


def _colmap_rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise CorruptRecord(f"{path} is missing")
    return [row.split() for row in path.read_text().splitlines() if not row.startswith("#")]


def _colmap_cameras(path: Path) -> dict[str, Float[np.ndarray, "3 3"]]:
    cameras = {}
    for number, model, _, _, *values in filter(None, _colmap_rows(path)):
        numbers = [float(value) for value in values]
        if model.startswith("SIMPLE") or model in ("RADIAL", "RADIAL_FISHEYE"):
            numbers.insert(0, numbers[0])
        fx, fy, cx, cy = numbers[:4]
        cameras[number] = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    return cameras


def _colmap_images(path: Path) -> dict[str, tuple[str, Float[np.ndarray, "4 4"]]]:
    """Name (without suffix) to camera and cam_from_world; every second row lists key points."""
    images = {}
    for row in _colmap_rows(path)[::2]:
        if len(row) < 10:
            continue
        w, x, y, z, *translation = (float(value) for value in row[1:8])
        cam_from_world = np.eye(4)
        cam_from_world[:3, :3] = _rotation(np.array([w, x, y, z]))
        cam_from_world[:3, 3] = translation
        images[Path(" ".join(row[9:])).stem] = row[8], cam_from_world
    return images


def _rotation(quat_wxyz: Float[np.ndarray, "4"]) -> Float[np.ndarray, "3 3"]:
    """Float64, which poses in large scenes need and the JAX version has not."""
    w, x, y, z = quat_wxyz / np.linalg.norm(quat_wxyz)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _read_plain(scene: Path):
    shared = scene / "intrinsics.txt"

    def frame(name):
        pose = checked_pose(read_matrix(scene / "pose" / f"{name}.txt", 4), name)
        own = scene / "intrinsics" / f"{name}.txt"
        intrinsics = read_matrix(own if own.is_file() else shared, 3)
        depth = scene / "depth" / f"{name}.png"
        return FramePaths(name, _with_suffix(scene / "rgb" / name), depth, pose, intrinsics)

    return _collect(sorted({path.stem for path in scene.glob("rgb/*")}), frame)


def _find_scannet(root: Path) -> dict[str, Path]:
    folders = _scene_folders(root, "intrinsic/intrinsic_depth.txt")
    # The published export has ``frames/`` between the scene and its files.
    return _named(root, [path.parent if path.name == "frames" else path for path in folders])


LAYOUTS = {
    "7scenes": Layout(_finder("frame-*.pose.txt"), _read_seven_scenes),
    "scannet": Layout(_find_scannet, _read_scannet),
    "scannetpp": Layout(_finder("iphone/colmap/images.txt"), _read_scannetpp),
    "plain": Layout(_finder("rgb"), _read_plain),
}
