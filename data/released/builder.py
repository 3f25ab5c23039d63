"""Published trajectory files as a TFDS data set: frames that trajectories share are stored once."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
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

    def check_any(self, find: PathMap) -> None:
        """FileNotFoundError where no frame at all has its files here."""
        scenes = (rows for named in self.trajectories.values() for rows in named.values())
        keys = [key for rows in scenes for trajectory in rows for key in trajectory.frames]
        here = (None not in (find.size(key.image), find.size(key.depth)) for key in keys)
        if keys and not any(here):
            raise FileNotFoundError(
                f"none of {len(keys)} frames has its image and depth below {find.root}, the first "
                f"would be {keys[0].image} and {keys[0].depth}"
            )


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
        """The trajectories of the files, and which of the images and depths are there."""
        told = hashlib.sha256(repr(self._listing.trajectories).encode()).hexdigest()[:16]
        files = {
            f"{split}/{name}": _found(trajectories, self._find)
            for split, scenes in self._listing.trajectories.items()
            for name, trajectories in scenes.items()
        }
        return super().made_from() | {"trajectories": told, "files": files}

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


def _found(trajectories: Sequence[Trajectory], find: PathMap) -> str:
    """What tells a scene's images and depths from others: how many are there, and their sizes."""
    keys = [key for trajectory in trajectories for key in trajectory.frames]
    recorded = sorted({path for key in keys for path in (key.image, key.depth)})
    sizes = {path: find.size(path) for path in recorded}
    found = sum(size is not None for size in sizes.values())
    return f"{found} of {len(sizes)} found, {zlib.crc32(repr(sizes).encode()):08x}"


def _frame_name(key: FrameKey) -> str:
    name = Path(key.image).stem
    return f"{name}/{key.column}" if key.columns > 1 else name
