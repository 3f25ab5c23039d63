"""The TFDS builder that all data sets share: subclasses only say which scenes there are.

``array_record`` files, written and read without TensorFlow. Records lie in the order of generation
(``disable_shuffling``), because trajectories address frames by record number. A rebuild with the
same arguments is byte-identical: protocol buffers are written with sorted keys (their default order
changes from process to process).

A frame that cannot be loaded is stored as an empty record, so that the numbering stays; it is
listed in ``builder.skipped``, and the pipeline passes over the trajectories that contain it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf import json_format
from tensorflow_datasets.core import writer as tfds_writer
from tensorflow_datasets.proto import tf_example_pb2

from data.schema import (
    NO_FRAME,
    CorruptRecord,
    Frame,
    Scene,
    encode_depth_units,
    encode_jpeg,
    frame_features,
    trajectory_features,
)
from data.stored import beam
from data.stored.origin import moved, scene_origin

FRAMES, TRAJECTORIES = "frames", "trajectories"
# Keys of frames: the scene's number times this, plus the frame's number.
_MAX_FRAMES = 1_000_000
# The name of an empty record says why it is empty.
UNREADABLE = "unreadable:"


class _StableWriter(tfds_writer.ExampleWriter):
    """TFDS's writer, but equal examples become equal bytes."""

    def write(self, path, examples):
        return super().write(path, ((key, _sorted_bytes(value)) for key, value in examples))


def _sorted_bytes(serialized: bytes) -> bytes:
    example = tf_example_pb2.Example.FromString(serialized)
    return example.SerializeToString(deterministic=True)


class SceneBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Frames and trajectories of scenes; see the module for what is written.

    Subclasses define ``scene_names()`` (split -> names, in order) and ``load_scene(split, name)``.
    num_inputs, num_targets: widths of the trajectory tables.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First layout: one record per frame, one trajectory table per scene."}
    # Nothing is downloaded; TFDS would look for check sums, with a package it does not require.
    url_infos = None
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name=FRAMES, description="Posed RGB-D frames."),
        tfds.core.BuilderConfig(name=TRAJECTORIES, description="Index tables into frames."),
    ]

    def __new__(cls, **arguments):
        """Remembers the arguments: Beam's workers get a builder by making it again."""
        builder = super().__new__(cls)
        builder._arguments = arguments
        return builder

    def __getstate__(self):
        return {"_original_state": self._arguments}

    def __setstate__(self, state):
        self._arguments = state["_original_state"]
        super().__setstate__(state)

    def __init__(self, *, data_dir, config: str, num_inputs: int, num_targets: int):
        self.num_inputs, self.num_targets = num_inputs, num_targets
        # Where Beam's workers have put the frames, if they have.
        self.parts: Path | None = None
        self.skipped: list[str] = []
        try:
            super().__init__(data_dir=data_dir, config=config)
        except json_format.ParseError as error:
            place = Path(data_dir) / self.name
            raise ValueError(
                f"{place / config}: dataset_info.json of what lies there is damaged ({error}); "
                f"remove {place}, or choose another place"
            ) from error

    def scene_names(self) -> dict[str, Sequence[str]]:
        """Scenes of each split, in the order in which they are stored."""
        raise NotImplementedError

    def load_scene(self, split: str, name: str) -> Scene:
        """One scene; its frames are loaded later, when asked for."""
        raise NotImplementedError

    def made_from(self) -> dict:
        """What the data set depends on, as JSON: another such object is another data set."""
        scenes = {split: list(names) for split, names in self.scene_names().items() if names}
        return {"inputs": self.num_inputs, "targets": self.num_targets, "scenes": scenes}

    def _info(self) -> tfds.core.DatasetInfo:
        features = frame_features()
        if self.builder_config.name == TRAJECTORIES:
            features = trajectory_features(self.num_inputs, self.num_targets)
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=features,
            # Trajectories address frames by their place in the files.
            disable_shuffling=True,
        )

    def _example_writer(self):
        return _StableWriter(file_format=self.info.file_format)

    def _split_generators(self, dl_manager):
        del dl_manager
        # TFDS refuses a split without examples.
        filled = {split: names for split, names in self.scene_names().items() if names}
        if not filled:
            raise ValueError(f"{self.name}: no scene of any split has a trajectory")
        generate = self._frames if self.builder_config.name == FRAMES else self._trajectories
        return {split: generate(split, names) for split, names in filled.items()}

    def _generate_examples(self):
        raise NotImplementedError("splits bring their own generators")

    def _frames(self, split: str, names: Sequence[str]) -> Iterator[tuple[int, dict]]:
        for number, name in enumerate(names):
            records = scene_frames(self, split, number, name)
            if self.parts is not None:
                records = beam.read_part(self.parts, split, number)
            for key, example, problem in records:
                if problem:
                    self.skipped.append(problem)
                yield key, example

    def _trajectories(self, split: str, names: Sequence[str]) -> Iterator[tuple[int, dict]]:
        first = 0
        for number, name in enumerate(names):
            scene = self.load_scene(split, name)
            yield number, _table_example(scene, first)
            first += scene.num_frames


def scene_frames(
    builder: SceneBuilder, split: str, number: int, name: str
) -> Iterator[tuple[int, dict, str | None]]:
    """(key, example, problem or None) for every frame of scene ``number`` of the split."""
    scene = builder.load_scene(split, name)
    if scene.num_frames > _MAX_FRAMES:
        raise ValueError(f"{name}: at most {_MAX_FRAMES} frames, got {scene.num_frames}")
    origin_m = None
    for index in range(scene.num_frames):
        problem = None
        try:
            frame = scene.frame(index)
            if origin_m is None:
                origin_m = scene_origin(frame.world_from_cam)
            pose = moved(frame.world_from_cam, origin_m, frame.name)
            frame = dataclasses.replace(frame, world_from_cam=pose)
        except CorruptRecord as error:
            problem = f"{name}: {error}"
            frame = _placeholder(f"{UNREADABLE} {problem}")
        yield number * _MAX_FRAMES + index, _frame_example(name, frame), problem


def is_placeholder(depth_units: np.ndarray) -> bool:
    """Whether decoded depth ``[H, W]`` stands for a frame that could not be loaded."""
    return depth_units.shape == (1, 1)


def _placeholder(name: str) -> Frame:
    blank = np.zeros((1, 1), np.uint16)
    image = encode_jpeg(np.zeros((1, 1, 3), np.uint8))
    return Frame(name, image, encode_depth_units(blank), np.eye(4), np.eye(3))


def _frame_example(scene: str, frame: Frame) -> dict:
    example = {field.name: getattr(frame, field.name) for field in dataclasses.fields(frame)}
    example |= {
        "scene": scene,
        "world_from_cam": np.asarray(frame.world_from_cam, np.float32),
        "intrinsics": np.asarray(frame.intrinsics, np.float32),
        "depth_unit_m": np.float32(frame.depth_unit_m),
    }
    return example


def _table_example(scene: Scene, first_frame: int) -> dict:
    tables = scene.trajectories
    no_target = np.full((len(tables), 1), NO_FRAME)
    targets, needs = (t if t.shape[1] else no_target for t in (tables.targets, tables.needs))
    return {
        "scene": scene.name,
        "first_frame": first_frame,
        "num_frames": scene.num_frames,
        "inputs": tables.inputs.astype(np.int32),
        "targets": targets.astype(np.int32),
        "needs": needs.astype(np.int32),
    }
