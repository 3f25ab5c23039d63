"""The arrays of a reconstruction, and their file: pointmaps, confidences, cameras, Gaussians.

Conventions: views in the order in which the photographs were given; the world is the camera frame
of the reference view (OpenCV axes: x right, y down, z forward) at the network's scale, or
that of the known poses, where these were given. Pixel (0, 0) has its center at (0, 0). All arrays
are NumPy. Points and poses of a world far from its origin (a survey's) are float64; `recentered`
gives what draws in float32 a scene that loses nothing by it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from mvdust3r_jax.storage.atomic import whole_file
from mvdust3r_jax.storage.scene_check import FIELDS, SceneFileError, check_scene
from mvdust3r_jax.types import Gaussians

# The file inside an output folder from which `SceneArrays.load` restores everything.
SCENE_FILE = "scene.npz"
_FORMAT = 1


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


@dataclasses.dataclass(frozen=True)
class Refinement:
    """What refining the cameras on matched features came to (`reconstruction.refine`).

    refined: which views' cameras were moved; none where that was refused. tracks: points that
    matched features are of. error_px: median reprojection errors before and after, of tracks that
    the refinement did not see, in pixels of the photographs, larger ones made smaller for their
    features (`reconstruction.refine.MAX_SIDE`); None where nothing could be matched. focal_factor:
    by which all focal lengths were multiplied. why: what was decided, in words.
    """

    refined: list[bool]
    tracks: int
    error_px: tuple[float, float] | None
    focal_factor: float
    why: str


# Arrays have no single truth value, so two scenes cannot be compared field by field.
@dataclasses.dataclass(eq=False, repr=False)
class SceneArrays:
    """A reconstructed scene as arrays: what exports and the viewer read.

    images_01: the pixels as fed to the network, in [0, 1]. points: pointmaps in the world frame.
    confidence: at least 1. gaussians: per pixel, centered on ``points``; colors are SH
    coefficients, ``scales`` standard deviations in the points' unit, at most what training
    rendered; None for networks without Gaussian heads.
    masks: pixels that show the scene (false on padding, transparency and user masks).
    timings: seconds of each stage. metric: whether the unit of ``points`` is that in which known
    poses were given. world_is_reference: whether the world is the
    reference view's camera frame; false where known poses brought a world of their own.
    reference: that view. reference_margin: by how much its mean log confidence was above that of
    the second best view tried as the reference; None where only one was tried.
    refinement: what refining the cameras came to; None where that was not asked for.
    pose_doubt: why known poses may be mistaken (`reconstruction.pose_doubt`), "" where nothing
    speaks against them or none were given.
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
    reference: int = 0
    reference_margin: float | None = None
    refinement: Refinement | None = None
    pose_doubt: str = ""

    def __repr__(self) -> str:
        views, height, width = self.confidence.shape
        parts = [
            f"{views} views of {height} x {width}",
            f"reference {self.names[self.reference]!r}",
            f"{int(self.pose_ok.sum())} cameras found",
            "no Gaussians" if self.gaussians is None else "with Gaussians",
            f"unit: {self.unit}",
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def colors(self) -> Float[np.ndarray, "V H W 3"]:
        """Color of every point: its pixel, in [0, 1]."""
        return self.images_01

    @property
    def unit(self) -> str:
        """The unit of length in words."""
        return "that of the known poses" if self.metric else "the scene's, unknown"

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
        rotation, center = self.world_from_cam[:, :3, :3], self.world_from_cam[:, :3, 3]
        offset = self.points - center[:, None, None, :]
        return np.einsum("vhwj,vj->vhw", offset, rotation[:, :, 2])

    def recentered(self) -> tuple[Self, Float[np.ndarray, "3"]]:
        """The scene moved to the origin, in float32, and where that origin was in its world.

        Scenes whose points float32 holds are returned as they are, with an origin of zeros.
        """
        if self.points.dtype != np.float64:
            return self, np.zeros(3)
        center = np.asarray(self.world_from_cam[0], np.float64)[:3, 3]
        origin = np.round(center) if np.isfinite(center).all() else np.zeros(3)
        poses = np.array(self.world_from_cam, np.float64)
        poses[:, :3, 3] -= origin
        points = (self.points - origin).astype(np.float32)
        return dataclasses.replace(self, points=points, world_from_cam=poses), origin

    def keep(self, min_confidence: float | np.floating) -> Bool[np.ndarray, "V H W"]:
        """Pixels of the scene (not padding) with finite points and at least this confidence."""
        finite = np.isfinite(self.points).all(axis=-1)
        return self.masks & finite & (self.confidence >= min_confidence)

    def save_arrays(self, path: str | os.PathLike) -> Path:
        """Write every field to one ``.npz``: arrays of their types, names and timings as JSON.

        Raises SceneFileError for fields that `load` would refuse.
        """
        path = Path(path)
        arrays = {name: np.asarray(getattr(self, name)) for name in FIELDS}
        if self.gaussians is not None:
            parts = vars(self.gaussians).items()
            arrays |= {f"gaussians_{k}": np.asarray(v) for k, v in parts}
        meta = {
            "names": list(map(str, self.names)),
            "timings": self.timings,
            "metric": self.metric,
            "world_is_reference": self.world_is_reference,
            "reference": self.reference,
            "reference_margin": self.reference_margin,
            "refinement": self.refinement and dataclasses.asdict(self.refinement),
            "pose_doubt": self.pose_doubt,
        }
        check_scene(path, arrays, meta)
        text = json.dumps({"format": _FORMAT, **meta})
        with whole_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, meta=np.array(text), **arrays)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save_arrays` wrote; ``path`` is the folder or the ``.npz`` file itself.

        Raises FileNotFoundError where there is none, SceneFileError if it is no such file or does
        not hold what a scene needs, another OSError where it cannot be opened.
        """
        path = Path(path)
        path = path / SCENE_FILE if path.is_dir() else path
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise SceneFileError(f"{path} is no saved scene, which is an .npz archive")
            file.seek(0)
            try:
                with np.load(file, allow_pickle=False) as stored:
                    arrays = dict(stored)
            # Whatever a damaged archive makes of NumPy's reader, zipfile's and zlib's.
            except Exception as error:
                raise SceneFileError(f"{path} cannot be read as a saved scene: {error}") from error
        if "meta" not in arrays:
            found = ", ".join(sorted(arrays)[:5])
            raise SceneFileError(f"{path} is no saved scene: it has {found} but no 'meta'")
        meta = _meta_of(path, arrays.pop("meta"))
        check_scene(path, arrays, meta)
        if meta.get("refinement"):
            meta["refinement"] = _refinement_of(path, meta["refinement"])
        prefix = "gaussians_"
        parts = {
            k.removeprefix(prefix): arrays.pop(k) for k in list(arrays) if k.startswith(prefix)
        }
        return cls(gaussians=Gaussians(**parts) if parts else None, **arrays, **meta)


def _refinement_of(path: Path, fields: dict[str, Any]) -> Refinement:
    try:
        error_px = fields["error_px"]
        return Refinement(**fields | {"error_px": error_px and tuple(map(float, error_px))})
    except (KeyError, TypeError, ValueError) as error:
        raise SceneFileError(f"{path}: its 'refinement' is damaged: {error!r:.80}") from error


def _meta_of(path: Path, text: np.ndarray) -> dict[str, Any]:
    """The JSON text inside the file, of this version's format."""
    try:
        meta = json.loads(str(text))
        version = meta.pop("format")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise SceneFileError(f"{path}: its 'meta' is damaged: {error!r:.80}") from error
    if version != _FORMAT:
        raise SceneFileError(f"{path} was saved by another version of this package")
    return meta
