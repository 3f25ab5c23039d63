"""Published trajectory files as a TFDS data set: frames that trajectories share are stored once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.released.reader import (
    FrameKey,
    PathMap,
    Trajectory,
    load_frame,
    parse_trajectory,
    read_strings,
)
from data.rgbd.splits import Splits
from data.schema import NO_FRAME, CorruptRecord, Scene, Trajectories
from data.stored.builder import SceneBuilder
from mvdust3r_jax.evaluation.rooms import room_of_scan


@dataclasses.dataclass(frozen=True)
class Listing:
    """What the HDF5 files say. problems: one line for every entry that is passed over."""

    trajectories: dict[str, dict[str, list[Trajectory]]]
    problems: tuple[str, ...]

    def with_validation(self, share: float) -> Listing:
        """This share of the training rooms in a split of their own; ScanNet's scans by room."""
        if not share:
            return self
        scenes = self.trajectories.get("train", {})
        rooms = {name: room_of_scan(name) for name in scenes}
        where = Splits(validation_share=share).of_scenes(rooms, seed=0)
        parts = {
            split: {name: rows for name, rows in scenes.items() if where[name] == split}
            for split in ("train", "validation")
        }
        return dataclasses.replace(self, trajectories=self.trajectories | parts)


def list_files(files: dict[str, Path], find: PathMap, limit: int | None = None) -> Listing:
    """Reads the files of all splits. limit: at most this many trajectories of each."""
    splits, problems = {}, []
    for split, path in files.items():
        scenes: dict[str, list[Trajectory]] = {}
        for number, text in enumerate(read_strings(path)):
            if number == limit:
                break
            try:
                trajectory = parse_trajectory(text, find)
                scenes.setdefault(trajectory.scene, []).append(trajectory)
            except CorruptRecord as error:
                problems.append(f"{path.name}, entry {number}: {error}")
        splits[split] = scenes
    return Listing(splits, tuple(problems))


class Released(SceneBuilder, skip_registration=True):
    """Posed RGB-D frames and trajectories as published with MV-DUSt3R.

    listing: from ``list_files``. targets_each: how many of a trajectory's last frames are
    render-only (the files do not say; training files have 2).
    """

    def __init__(self, *, listing: Listing, find: PathMap, targets_each: int, **builder_args):
        self._listing, self._find, self._targets = listing, find, targets_each
        lengths = [
            len(trajectory.frames)
            for scenes in listing.trajectories.values()
            for trajectories in scenes.values()
            for trajectory in trajectories
        ]
        longest = max(lengths, default=targets_each + 1)
        if min(lengths, default=longest) <= targets_each:
            raise ValueError(
                f"a trajectory of {min(lengths)} frames cannot have {targets_each} render-only ones"
            )
        super().__init__(
            num_inputs=longest - targets_each, num_targets=targets_each, **builder_args
        )

    def scene_names(self) -> dict[str, Sequence[str]]:
        """Scenes in the order in which the files first name them."""
        return {split: list(scenes) for split, scenes in self._listing.trajectories.items()}

    def made_from(self) -> dict:
        """The trajectories of the files."""
        told = hashlib.sha256(repr(self._listing.trajectories).encode()).hexdigest()[:16]
        return super().made_from() | {"trajectories": told}

    def load_scene(self, split: str, name: str) -> Scene:
        """The scene's distinct frames, numbered as they first occur."""
        trajectories = self._listing.trajectories[split][name]
        numbers: dict[FrameKey, int] = {}
        rows = [
            [numbers.setdefault(key, len(numbers)) for key in trajectory.frames]
            for trajectory in trajectories
        ]
        keys = list(numbers)
        inputs = np.full((len(rows), self.num_inputs), NO_FRAME, np.int32)
        targets = np.zeros((len(rows), self._targets), np.int32)
        for number, row in enumerate(rows):
            count = len(row) - self._targets
            inputs[number, :count], targets[number] = row[:count], row[count:]
        # Which inputs cover a target was not published: any number of them is accepted.
        tables = Trajectories(inputs, targets, np.zeros_like(targets))

        def frame(index: int):
            return load_frame(keys[index], _frame_name(keys[index]), self._find)

        return Scene(name, len(keys), frame, tables)


def _frame_name(key: FrameKey) -> str:
    name = Path(key.image).stem
    return f"{name}/{key.column}" if key.columns > 1 else name
