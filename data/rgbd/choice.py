"""Chosen trajectories of posed RGB-D scenes as one small file, and what a scene's part of it needs.

The file (``.npz``) names frames and holds index tables; it contains no image, so a split can be
shared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data.overlap import Rule
from data.rgbd.layouts import LAYOUTS, FramePaths
from data.schema import Trajectories
from mvdust3r_jax.storage.atomic import whole_file

_TABLES = ("frames", "inputs", "targets", "needs")


@dataclasses.dataclass(frozen=True)
class SceneChoice:
    """frames: names of the frames that are stored, in order; problems: one line a bad frame."""

    frames: tuple[str, ...]
    trajectories: Trajectories
    problems: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Choice:
    """scenes[split][scene]; layout and rule are kept so that a shared file explains itself.

    sources: by "split/scene", which shares of the scene's frames were considered, and what tells
    the scene's files then from others; empty in files of earlier versions.
    """

    layout: str
    rule: Rule
    seed: int
    scenes: dict[str, dict[str, SceneChoice]]
    sources: dict[str, tuple[float, float, str]] = dataclasses.field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the file; equal choices become equal bytes."""
        header = {
            "layout": self.layout,
            "rule": dataclasses.asdict(self.rule),
            "seed": self.seed,
            "sources": self.sources,
            "problems": {
                split: {name: scene.problems for name, scene in scenes.items()}
                for split, scenes in self.scenes.items()
            },
        }
        arrays = {"header": np.array(json.dumps(header))}
        for split, scenes in self.scenes.items():
            for name, scene in scenes.items():
                arrays |= _arrays(f"{split}/{name}", scene)
        # Whole or not at all; of a name NumPy would make one that ends in .npz.
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Choice:
        """Reads ``save``'s file; ValueError for one that is damaged or another's."""
        if path.is_dir():
            raise ValueError(f"{path} is no choice file: it is a folder")
        with path.open("rb") as file:
            try:
                return cls._read(file)
            # Whatever an empty or damaged file makes of the readers of NumPy, zip and JSON.
            except Exception as error:
                raise ValueError(f"{path} is no choice file: {error}") from error

    @classmethod
    def _read(cls, file: BinaryIO) -> Choice:
        with np.load(file) as stored:
            header = json.loads(str(stored["header"]))
            scenes = {
                split: {
                    name: _scene_choice(stored, f"{split}/{name}", problems)
                    for name, problems in named.items()
                }
                for split, named in header["problems"].items()
            }
        sources = {name: tuple(told) for name, told in header.get("sources", {}).items()}
        return cls(header["layout"], Rule(**header["rule"]), header["seed"], scenes, sources)

    def check_any(self, path: Path) -> None:
        """ValueError where no scene has a trajectory; ``path``: the file, which is in the way."""
        scenes = [scene for named in self.scenes.values() for scene in named.values()]
        if not any(len(scene.trajectories) for scene in scenes):
            raise ValueError(
                f"{path}: no scene gives a trajectory with {self.rule}; remove it and choose anew: "
                "a wider range of --lo and --hi, fewer --inputs and --targets or, of small images, "
                "a smaller --step or a larger --radius may help"
            )

    def digest(self) -> str:
        """What tells choices apart: equal ones have equal digests."""
        total = hashlib.sha256(repr((self.layout, self.rule, self.seed)).encode())
        for split, scenes in self.scenes.items():
            for name, scene in scenes.items():
                total.update(repr((split, name, scene.frames)).encode())
                for table in _arrays("", scene).values():
                    total.update(table.tobytes())
        return total.hexdigest()[:16]


def _arrays(prefix: str, scene: SceneChoice) -> dict[str, np.ndarray]:
    tables = dataclasses.asdict(scene.trajectories) | {"frames": np.array(scene.frames, np.str_)}
    return {f"{prefix}/{key}": tables[key] for key in _TABLES}


def _scene_choice(stored, prefix: str, problems: Sequence[str]) -> SceneChoice:
    tables = {key: stored[f"{prefix}/{key}"] for key in _TABLES}
    frames = tuple(str(name) for name in tables.pop("frames"))
    return SceneChoice(frames, Trajectories(**tables), tuple(problems))


@dataclasses.dataclass(frozen=True)
class Task:
    """One scene (or one end of it) to choose from, in a process of its own."""

    layout: str
    path: Path
    split: str
    name: str
    rule: Rule
    seed: int
    # The part of the scene's frames that belongs to this split, as shares of its length.
    begin: float = 0.0
    end: float = 1.0

    def frames(self) -> tuple[list[FramePaths], list[str]]:
        """Frames to consider, at equal distances where there are more than the rule's maximum."""
        frames, problems = LAYOUTS[self.layout].read(self.path)
        frames = frames[round(self.begin * len(frames)) : round(self.end * len(frames))]
        if len(frames) > self.rule.max_frames:
            kept = np.linspace(0, len(frames) - 1, self.rule.max_frames).round().astype(int)
            frames = [frames[number] for number in kept]
        return frames, problems
