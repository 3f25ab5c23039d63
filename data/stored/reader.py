"""Stored data sets read back: trajectories by number, frames by record, views as arrays.

A data set's folder is what ``data.stored.write.write_dataset`` returns; it holds the TFDS configs
``frames`` and ``trajectories``. Frames stay encoded until a sample needs them, and only a sample's
own frames are read: one record each, wherever they lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from jaxtyping import Float, Int, UInt8

from data.augment import MAX_EXTRA_PX, Jitter, Window, resample, resample_image
from data.schema import (
    NO_FRAME,
    CorruptRecord,
    decode_depth_units,
    decode_image,
    decode_image_half,
    is_jpeg,
)
from data.stored.builder import FRAMES, TRAJECTORIES, is_placeholder
from mvdust3r_jax.storage.places import local_path

_ENCODED = {"image": tfds.decode.SkipDecoding(), "depth": tfds.decode.SkipDecoding()}


@dataclasses.dataclass(frozen=True)
class Views:
    """``S`` decoded views of one scene, the fields of ``types.Batch`` without the batch axis."""

    images: Float[np.ndarray, "S H W 3"]
    depth_m: Float[np.ndarray, "S H W"]
    world_from_cam: Float[np.ndarray, "S 4 4"]
    intrinsics: Float[np.ndarray, "S 3 3"]


def _version_folder(root: Path, config: str) -> Path:
    found = sorted((root / config).glob("*/dataset_info.json"))
    # TFDS calls a folder so until it is complete.
    versions = [path for path in found if not path.parent.name.startswith("incomplete.")]
    if not versions:
        raise FileNotFoundError(
            f"{root} is no data set: expected {config}/VERSION/dataset_info.json below it"
        )
    return versions[-1].parent


def _opened(root: Path, config: str) -> tfds.core.DatasetBuilder:
    """The config's builder; ValueError where the files that describe it are damaged."""
    folder = _version_folder(root, config)
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # parsers of two kinds of JSON, without a common base
        raise ValueError(
            f"{folder}: dataset_info.json or features.json is damaged or missing: {error}"
        ) from error


def _rows(tables: tfds.core.DatasetBuilder, split: str) -> list[dict]:
    """The tables of all scenes, decoded; ValueError where they are damaged."""
    try:
        return list(tables.as_data_source(split))
    except Exception as error:  # the reader's and the parser's errors have no common base
        raise ValueError(f"{tables.data_dir}: records of {split} are damaged: {error}") from error


def _check_whole(split: tfds.core.SplitInfo) -> None:
    """ValueError naming the first file of a split that was cut off or holds other records."""
    for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
        try:
            reader = array_record_module.ArrayRecordReader(str(path))
            found = reader.num_records()
            reader.close()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is cut off or no ArrayRecord file: {error}") from error
        if found != count:
            raise ValueError(f"{path} holds {found} records, dataset_info.json says {count}")


def check_config(root: Path, config: str) -> None:
    """That one config of a data set is there whole, in all splits.

    Raises:
      FileNotFoundError, ValueError: naming the file that is not.
    """
    for split in _opened(root, config).info.splits.values():
        _check_whole(split)


class TrajectorySet:
    """One split of one data set.

    inputs, targets: record numbers of frames, -1 where a row is shorter; needs: see
    ``schema.Trajectories``; scenes: the scene of each trajectory.
    """

    inputs: Int[np.ndarray, "n V"]
    targets: Int[np.ndarray, "n T"]
    needs: Int[np.ndarray, "n T"]
    scenes: list[str]

    def __init__(self, root: str | Path, split: str):
        self.root, self.split = local_path(root), split
        frames, tables = (_opened(self.root, config) for config in (FRAMES, TRAJECTORIES))
        if split not in frames.info.splits:
            raise ValueError(f"{root} has the splits {sorted(frames.info.splits)}, not {split!r}")
        for builder in (frames, tables):
            _check_whole(builder.info.splits[split])
        self._frames = frames.as_data_source(split, decoders=_ENCODED)
        rows = _rows(tables, split)
        self.scenes = [row["scene"].decode() for row in rows for _ in row["inputs"]]
        numbers = [[_shifted(row, key) for row in rows] for key in ("inputs", "targets")]
        self.inputs, self.targets = (np.concatenate(table) for table in numbers)
        self.needs = np.concatenate([row["needs"] for row in rows])

    def __len__(self) -> int:
        return len(self.inputs)

    def eligible(self, num_inputs: int, num_targets: int) -> Int[np.ndarray, " m"]:
        """Trajectories of at least this many inputs, whose first ones cover enough targets."""
        if num_inputs > self.inputs.shape[1]:
            return np.zeros(0, np.int64)
        enough = self.inputs[:, num_inputs - 1] != NO_FRAME
        return np.flatnonzero(enough & (self._covered(num_inputs).sum(axis=1) >= num_targets))

    def _covered(self, num_inputs: int) -> np.ndarray:
        return (self.targets != NO_FRAME) & (self.needs <= num_inputs)

    def records(
        self,
        trajectory: int,
        num_inputs: int,
        num_targets: int,
        rng: np.random.Generator | None = None,
    ) -> Int[np.ndarray, " S"]:
        """Record numbers: the first inputs in stored order, then targets that these cover.

        rng: draws the targets among those that qualify; without one the first are taken.
        """
        targets = self.targets[trajectory, self._covered(num_inputs)[trajectory]]
        if rng is not None:
            targets = rng.permutation(targets)
        return np.concatenate([self.inputs[trajectory, :num_inputs], targets[:num_targets]])

    def read(self, records: Sequence[int] | Int[np.ndarray, " S"]) -> list[dict]:
        """Encoded frames; ``CorruptRecord`` for whatever the reader trips over."""
        try:
            return self._frames.__getitems__([int(record) for record in records])
        except Exception as error:  # the reader's and the parser's errors have no common base
            raise CorruptRecord(f"{self.root.name}/{self.split}: {error}") from error


def _shifted(row: dict, key: str) -> np.ndarray:
    """A scene's frame numbers as record numbers of the split."""
    return np.where(row[key] == NO_FRAME, NO_FRAME, row[key] + row["first_frame"])


def decode_views(
    frames: Sequence[dict],
    size: tuple[int, int],
    *,
    rng: np.random.Generator | None = None,
    color: float = 0.5,
    hue: float = 0.1,
) -> Views:
    """Crops and resizes encoded frames to (height, width); with ``rng``, augments each on its own.

    Images are in [-1, 1], depth in meters.
    """
    count = len(frames)
    images = np.empty((count, *size, 3), np.float32)
    depth_m = np.empty((count, *size), np.float32)
    intrinsics = np.empty((count, 3, 3), np.float32)
    for view, frame in enumerate(frames):
        name = f"{frame['scene'].decode()}/{frame['name'].decode()}"
        depth = decode_depth_units(frame["depth"], name)
        if is_placeholder(depth):
            raise CorruptRecord(f"{name}: was unreadable when the data set was built")
        extra_px = 0 if rng is None else int(rng.integers(MAX_EXTRA_PX + 1))
        window = Window.centered(depth.shape, size, frame["intrinsics"], extra_px)
        if rng is None:
            image = resample_image(_decode_color(frame, name, depth.shape), window)
        else:
            image = Jitter.draw(rng, color, hue)(_resample_fast(frame, name, depth.shape, window))
        np.multiply(image, np.float32(2 / 255), out=images[view])
        images[view] -= 1
        depth_m[view] = resample(depth.astype(np.float32) * frame["depth_unit_m"], window)
        intrinsics[view] = window.intrinsics(frame["intrinsics"])
    poses = np.stack([frame["world_from_cam"] for frame in frames])
    return Views(images, depth_m, poses, intrinsics)


def _decode_color(frame: dict, name: str, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """The frame's image, which must have the size of its depth."""
    image = decode_image(frame["image"], name)
    if image.shape[:2] != size:
        raise CorruptRecord(f"{name}: depth {size}, image {image.shape[:2]}")
    return image


def _resample_fast(
    frame: dict, name: str, size: tuple[int, int], window: Window
) -> UInt8[np.ndarray, "H W 3"]:
    """The window of the frame's image; a JPEG that shrinks to less than half is decoded at half."""
    if min(window.step_x, window.step_y) < 2 or not is_jpeg(frame["image"]):
        return resample_image(_decode_color(frame, name, size), window)
    image = decode_image_half(frame["image"], name)
    if image.shape[:2] != tuple((side + 1) // 2 for side in size):
        raise CorruptRecord(f"{name}: depth {size}, half an image {image.shape[:2]}")
    return resample_image(image, window.halved())
