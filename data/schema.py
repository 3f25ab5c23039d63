"""What a stored data set holds: posed RGB-D frames, and trajectories that index them.

Every data set of this project (rooms, posed RGB-D folders, released trajectories) is a TFDS builder
with the same two configs, so that frames which many trajectories share are stored once:

* ``frames``: one record per frame, scene after scene, in the order that ``trajectories`` counts;
* ``trajectories``: one record per scene: tables of indices into the scene's frames.

Conventions: OpenCV camera axes; ``world_from_cam`` camera-to-world, meters; intrinsics in pixels of
the stored image, the first pixel's center at (0, 0). Color is JPEG or PNG, 8-bit RGB. Depth is a
16-bit PNG of the same height and width in units of ``depth_unit_m`` (0.001, millimeters, unless a
builder says otherwise) along z; 0 means unknown.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8, UInt16
from PIL import Image

MILLIMETER = 0.001
# Written where a table of target frames is shorter than its neighbors.
NO_FRAME = -1
# Sensor depth of 640x480 takes 121, 107, 92, 88 kB at levels 1, 3, 6, 9.
_PNG_LEVEL = 6
# Raw sensor depth has few values: unfiltered it is smaller and decodes in half the time; smooth or
# interpolated depth needs differences, and those to the left decode faster than a mixture.
_PNG_FILTERS = (cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_FILTER_SUB)
_UINT16_MAX = 65535
# OpenCV's reduced modes are named for BGR and gray only.
_READ_HALF = cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB


class CorruptRecord(ValueError):
    """A stored frame or file that cannot be used; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """One encoded frame.

    name: unique within its scene. image: JPEG or PNG bytes. depth: 16-bit PNG bytes.
    """

    name: str
    image: bytes
    depth: bytes
    world_from_cam: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    depth_unit_m: float = MILLIMETER


@dataclasses.dataclass(frozen=True)
class Trajectories:
    """``n`` trajectories of one scene as indices into the scene's frames.

    inputs: input views in order; a shorter trajectory is padded with -1. targets: render-only views
    (-1 where there are fewer). needs: how many of the first inputs cover the target, so that a
    trajectory of V views is also one of fewer; 0 where coverage was not measured.
    """

    inputs: Int[np.ndarray, "n V"]
    targets: Int[np.ndarray, "n T"]
    needs: Int[np.ndarray, "n T"]

    def __post_init__(self):
        shapes = self.inputs.shape, self.targets.shape, self.needs.shape
        if len({len(self.inputs), len(self.targets), len(self.needs)}) != 1 or (
            self.targets.shape != self.needs.shape
        ):
            raise ValueError(f"expected [n, V], [n, T], [n, T] tables, got {shapes}")

    @classmethod
    def whole(cls, inputs, targets) -> Trajectories:
        """Trajectories whose targets need all of their inputs."""
        inputs, targets = np.asarray(inputs, np.int32), np.asarray(targets, np.int32)
        return cls(inputs, targets, np.full(targets.shape, inputs.shape[1], np.int32))

    def __len__(self) -> int:
        return len(self.inputs)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One scene to be stored: its frames are loaded one by one, when they are written.

    frame: from 0..num_frames-1 to the encoded frame; raises ``CorruptRecord`` where there is none.
    """

    name: str
    num_frames: int
    frame: Callable[[int], Frame]
    trajectories: Trajectories


def frame_features() -> tfds.features.FeaturesDict:
    """TFDS features of one record of the config ``frames``."""
    return tfds.features.FeaturesDict(
        {
            "scene": tfds.features.Text(),
            "name": tfds.features.Text(),
            "image": tfds.features.Image(shape=(None, None, 3)),
            "depth": tfds.features.Image(shape=(None, None, 1), dtype=np.uint16),
            "world_from_cam": tfds.features.Tensor(shape=(4, 4), dtype=np.float32),
            "intrinsics": tfds.features.Tensor(shape=(3, 3), dtype=np.float32),
            "depth_unit_m": tfds.features.Scalar(np.float32),
        }
    )


def trajectory_features(num_inputs: int, num_targets: int) -> tfds.features.FeaturesDict:
    """TFDS features of one record (one scene) of the config ``trajectories``.

    first_frame: record number of the scene's first frame; inputs, targets, needs: ``Trajectories``.
    TFDS cannot read a table without columns: without targets there is one, of ``NO_FRAME``.
    """
    table, num_targets = tfds.features.Tensor, max(num_targets, 1)
    return tfds.features.FeaturesDict(
        {
            "scene": tfds.features.Text(),
            "first_frame": tfds.features.Scalar(np.int64),
            "num_frames": tfds.features.Scalar(np.int64),
            "inputs": table(shape=(None, num_inputs), dtype=np.int32),
            "targets": table(shape=(None, num_targets), dtype=np.int32),
            "needs": table(shape=(None, num_targets), dtype=np.int32),
        }
    )


def encode_jpeg(image: UInt8[np.ndarray, "H W 3"], quality: int = 95) -> bytes:
    """RGB to JPEG (4:2:0); the same bytes on every call."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def depth_units(depth_m: Float[np.ndarray, "H W"], unit_m: float) -> UInt16[np.ndarray, "H W"]:
    """Meters in stored units; what is not finite, not positive or beyond the range becomes 0."""
    units = np.rint(np.where(np.isfinite(depth_m), depth_m, 0) / unit_m)
    return np.where((units > 0) & (units <= _UINT16_MAX), units, 0).astype(np.uint16)


def encode_depth(depth_m: Float[np.ndarray, "H W"], unit_m: float = MILLIMETER) -> bytes:
    """Meters to a 16-bit PNG; what is not finite, not positive or beyond the range becomes 0."""
    return encode_depth_units(depth_units(depth_m, unit_m))


def encode_depth_units(units: np.ndarray) -> bytes:
    """Depth in stored units ``[H, W]`` to PNG bytes: the smaller of two that decode fast."""
    return min((_png(units.astype(np.uint16), kind) for kind in _PNG_FILTERS), key=len)


def _png(units: np.ndarray, kind: int) -> bytes:
    options = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL, cv2.IMWRITE_PNG_FILTER, kind]
    done, data = cv2.imencode(".png", units, options)
    if not done:
        raise ValueError(f"PNG encoder refused a depth image of shape {units.shape}")
    return data.tobytes()


def decode_image(data: bytes, name: str) -> UInt8[np.ndarray, "H W 3"]:
    """JPEG or PNG bytes to RGB; raises ``CorruptRecord`` naming ``name``."""
    image = _decode(data, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise CorruptRecord(f"{name}: the image cannot be decoded ({len(data)} bytes)")
    return image


def is_jpeg(data: bytes) -> bool:
    """Other formats are halved another way by OpenCV: odd sides rounded down, all stretched."""
    return data.startswith(b"\xff\xd8")


def decode_image_half(data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
    """A JPEG at half its size, rounded up: each pixel the mean of four; much faster."""
    image = _decode(data, _READ_HALF)
    if image is None:
        raise CorruptRecord(f"{name}: the image cannot be decoded ({len(data)} bytes)")
    return image


def decode_depth_units(data: bytes, name: str) -> np.ndarray:
    """16-bit PNG bytes to ``uint16 [H, W]``; raises ``CorruptRecord`` naming ``name``."""
    depth = _decode(data, cv2.IMREAD_UNCHANGED)
    if depth is None or depth.ndim != 2 or depth.dtype != np.uint16:
        found = "nothing" if depth is None else f"{depth.dtype} {depth.shape}"
        raise CorruptRecord(f"{name}: expected a 16-bit one-channel depth image, found {found}")
    return depth


def decode_sensor_depth(data: bytes, name: str) -> np.ndarray:
    """The same of a sensor's file: what some recorders write for "no measurement" is 0 as well."""
    depth = decode_depth_units(data, name)
    return np.where(depth == _UINT16_MAX, np.uint16(0), depth)


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    """OpenCV's decoder; None for what it cannot read."""
    if not data:
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
