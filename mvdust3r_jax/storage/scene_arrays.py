"""The arrays of a reconstruction, and their file: pointmaps, confidences, cameras, Gaussians.

Conventions: views in the order in which the photographs were given; the world is the camera frame
of the reference view (view 0, OpenCV axes: x right, y down, z forward) at the network's scale, or
that of the known poses, where these were given. Pixel (0, 0) has its centre at (0, 0). All arrays
are NumPy. Points and poses of a world far from its origin (a survey's) are float64; `recentred`
gives what draws in float32 a scene that loses nothing by it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.types import Gaussians

# The file inside an output folder from which `SceneArrays.load` restores everything.
SCENE_FILE = "scene.npz"
_FORMAT = 1
# Photographs of more pixels a side are none.
_MAX_SIDE = 1_000_000


class Cameras(NamedTuple):
    """The cameras of all views; ``ok`` is false where no pose could be found (it is then identity).

    ``intrinsics`` belongs to the image as the network saw it, ``original_intrinsics`` to the file
    as it was given (EXIF rotation applied), whose (height, width) is ``original_sizes``.
    """

    world_from_cam: Float[np.ndarray, "V 4 4"]
    intrinsics: Float[np.ndarray, "V 3 3"]
    original_intrinsics: Float[np.ndarray, "V 3 3"]
    original_sizes: Int[np.ndarray, "V 2"]
    ok: Bool[np.ndarray, " V"]


@dataclasses.dataclass
class SceneArrays:
    """A reconstructed scene as arrays: what exports and the viewer read.

    images_01: the pixels as fed to the network, in [0, 1]. points: pointmaps in the world frame.
    confidence: at least 1. gaussians: per pixel, centred on ``points``; colours are SH
    coefficients, ``scales`` standard deviations in the points' unit, at most what training
    rendered; None for networks without Gaussian heads.
    masks: pixels that show the scene (false on padding, transparency and user masks).
    timings: seconds of each stage. metric: whether one unit of ``points`` is one metre (or
    whatever unit the known poses were given in). world_is_reference: whether the world is the
    reference view's camera frame; false where known poses brought a world of their own.
    """

    images_01: Float[np.ndarray, "V H W 3"]
    points: Float[np.ndarray, "V H W 3"]
    confidence: Float[np.ndarray, "V H W"]
    gaussians: Gaussians | None
    world_from_cam: Float[np.ndarray, "V 4 4"]
    pose_ok: Bool[np.ndarray, " V"]
    intrinsics: Float[np.ndarray, "V 3 3"]
    original_intrinsics: Float[np.ndarray, "V 3 3"]
    original_sizes: Int[np.ndarray, "V 2"]
    names: list[str]
    masks: Bool[np.ndarray, "V H W"]
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    metric: bool = False
    # Files of scenes saved before there was this field have no other world.
    world_is_reference: bool = True

    @property
    def colors(self) -> Float[np.ndarray, "V H W 3"]:
        """Colour of every point: its pixel, in [0, 1]."""
        return self.images_01

    @property
    def cameras(self) -> Cameras:
        """Poses and intrinsics, at the network's and at the original resolution."""
        return Cameras(
            self.world_from_cam,
            self.intrinsics,
            self.original_intrinsics,
            self.original_sizes,
            self.pose_ok,
        )

    @property
    def depth(self) -> Float[np.ndarray, "V H W"]:
        """Depth along z of every point in its own camera; meaningless without a found pose."""
        rotation, centre = self.world_from_cam[:, :3, :3], self.world_from_cam[:, :3, 3]
        offset = self.points - centre[:, None, None, :]
        return np.einsum("vhwj,vj->vhw", offset, rotation[:, :, 2])

    def recentred(self) -> tuple[Self, Float[np.ndarray, "3"]]:
        """The scene moved to the origin, in float32, and where that origin was in its world.

        Scenes whose points float32 holds are returned as they are, with an origin of zeros.
        """
        if self.points.dtype != np.float64:
            return self, np.zeros(3)
        centre = np.asarray(self.world_from_cam[0], np.float64)[:3, 3]
        origin = np.round(centre) if np.isfinite(centre).all() else np.zeros(3)
        poses = np.array(self.world_from_cam, np.float64)
        poses[:, :3, 3] -= origin
        points = (self.points - origin).astype(np.float32)
        return dataclasses.replace(self, points=points, world_from_cam=poses), origin

    def keep(self, min_confidence: float) -> Bool[np.ndarray, "V H W"]:
        """Pixels of the scene (not padding) with finite points and at least this confidence."""
        finite = np.isfinite(self.points).all(axis=-1)
        return self.masks & finite & (self.confidence >= min_confidence)

    def save_arrays(self, path: str | os.PathLike) -> Path:
        """Write every field to one ``.npz``; float32 arrays, names and timings as JSON."""
        path = Path(path)
        arrays = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), np.ndarray)
        }
        if self.gaussians is not None:
            arrays |= {f"gaussians_{k}": v for k, v in vars(self.gaussians).items()}
        meta = {
            "format": _FORMAT,
            "names": self.names,
            "timings": self.timings,
            "metric": self.metric,
            "world_is_reference": self.world_is_reference,
        }
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save_arrays` wrote; ``path`` is the folder or the ``.npz`` file itself.

        Raises FileNotFoundError where there is none, ValueError if it is no such file.
        """
        path = Path(path)
        path = path / SCENE_FILE if path.is_dir() else path
        arrays, meta = _read(path)
        prefix = "gaussians_"
        parts = {
            k.removeprefix(prefix): arrays.pop(k) for k in list(arrays) if k.startswith(prefix)
        }
        try:
            scene = cls(gaussians=Gaussians(**parts) if parts else None, **arrays, **meta)
            _check(scene)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is no scene of this package: {error}") from error
        return scene


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and the JSON beside them; ValueError where the file is damaged or another one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
        meta = json.loads(str(arrays.pop("meta"))) if "meta" in arrays else None
    except OSError as error:
        if error.strerror:
            raise
        raise ValueError(f"{path} is damaged: {error}") from error
    # A damaged archive makes the reader raise almost anything: bad zip, zlib, sizes, encodings.
    except Exception as error:
        raise ValueError(f"{path} is damaged: {str(error) or type(error).__name__}") from error
    if not isinstance(meta, dict) or "format" not in meta:
        raise ValueError(f"{path} is no saved scene: it has {sorted(arrays)[:5]} but no 'meta'")
    if meta.pop("format") != _FORMAT:
        raise ValueError(f"{path} was saved by another version of this package")
    return arrays, meta


def _check(scene: SceneArrays) -> None:
    """ValueError naming the first field that does not fit the others."""
    if not isinstance(scene.names, list) or not all(isinstance(n, str) for n in scene.names):
        raise ValueError("its names are no list of texts")
    if np.ndim(scene.points) != 4 or not np.size(scene.points):
        raise ValueError(f"its points have the shape {np.shape(scene.points)}")
    views, height, width = scene.points.shape[:3]
    pixels = (views, height, width)
    shapes = {"points": (*pixels, 3), "images_01": (*pixels, 3), "confidence": pixels}
    shapes |= {"masks": pixels, "pose_ok": (views,), "world_from_cam": (views, 4, 4)}
    shapes |= {"intrinsics": (views, 3, 3), "original_intrinsics": (views, 3, 3)}
    shapes |= {"original_sizes": (views, 2), "names": (views,)}
    for name, expected in shapes.items():
        if np.shape(getattr(scene, name)) != expected:
            found = np.shape(getattr(scene, name))
            raise ValueError(f"its {name} have the shape {found}, expected {expected}")
        if name != "names" and getattr(scene, name).dtype.kind not in "fbiu":
            raise ValueError(f"its {name} have the type {getattr(scene, name).dtype}")
    _check_cameras(scene)
    if scene.gaussians is not None:
        _check_gaussians(scene.gaussians, pixels)


def _check_cameras(scene: SceneArrays) -> None:
    for name in ("intrinsics", "original_intrinsics"):
        matrices = getattr(scene, name)
        if not np.isfinite(matrices).all() or (matrices[:, [0, 1], [0, 1]] <= 0).any():
            raise ValueError(f"its {name} are no cameras'")
    if not np.isfinite(scene.images_01).all():
        raise ValueError("its images have values that are not finite numbers")
    sizes = np.asarray(scene.original_sizes)
    if not ((sizes > 0) & (sizes <= _MAX_SIDE)).all():
        raise ValueError(f"its original sizes are {sizes.tolist()[:3]}")


def _check_gaussians(gaussians: Gaussians, pixels: tuple[int, int, int]) -> None:
    for name, last in (("opacities", ()), ("scales", (3,)), ("rotations", (4,))):
        found = np.shape(getattr(gaussians, name))
        if found != (*pixels, *last):
            raise ValueError(f"its Gaussians' {name} have the shape {found}")
    colors = np.shape(gaussians.colors)
    degrees = {(*pixels, 3 * (degree + 1) ** 2) for degree in range(4)}
    if colors not in degrees:
        raise ValueError(f"its Gaussians' colors have the shape {colors}")
