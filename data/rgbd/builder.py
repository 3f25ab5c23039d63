"""Posed RGB-D folders and a choice of trajectories, as a TFDS data set."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from data.rgbd.choice import Choice
from data.rgbd.compare import fingerprint
from data.rgbd.frames import encoded_frame
from data.rgbd.layouts import LAYOUTS, FramePaths
from data.schema import CorruptRecord, Frame, Scene
from data.stored.builder import SceneBuilder


class Rgbd(SceneBuilder, skip_registration=True):
    """Posed RGB-D frames of real rooms, with trajectories chosen by overlap.

    root: the folder that the choice was made from, or a copy of it. short_side: see
    ``frames.encoded_frame``.
    """

    def __init__(self, *, root: Path, choice: Choice, short_side: int = 0, **builder_args):
        self.root, self.choice, self.short_side = root, choice, short_side
        rule = choice.rule
        super().__init__(num_inputs=rule.num_inputs, num_targets=rule.num_targets, **builder_args)

    def scene_names(self) -> dict[str, Sequence[str]]:
        """Scenes with at least one trajectory, in the order of the choice."""
        return {
            split: [name for name, scene in scenes.items() if len(scene.trajectories)]
            for split, scenes in self.choice.scenes.items()
        }

    def made_from(self) -> dict:
        """The choice, the raw files of its scenes, and the size of frames."""
        found = LAYOUTS[self.choice.layout].find(self.root)
        names = sorted({name for scenes in self.choice.scenes.values() for name in scenes})
        prints = {name: fingerprint(found[name]).split("-") for name in names if name in found}
        told = {"short_side": self.short_side, "choice": self.choice.digest()}
        for place, kind in enumerate(("files", "cameras")):
            told[kind] = {name: sums[place] for name, sums in prints.items()}
        return super().made_from() | told

    def load_scene(self, split: str, name: str) -> Scene:
        """The scene's chosen frames; one that has disappeared since is reported when read."""
        chosen = self.choice.scenes[split][name]
        listed = functools.cache(lambda: _by_name(self.choice.layout, self.root, name))

        def frame(index: int) -> Frame:
            wanted = chosen.frames[index]
            if wanted not in listed():
                raise CorruptRecord(f"{wanted}: is in the choice, but not usable in the folder")
            return encoded_frame(listed()[wanted], self.short_side)

        return Scene(name, len(chosen.frames), frame, chosen.trajectories)


def _by_name(layout: str, root: Path, scene: str) -> dict[str, FramePaths]:
    found = LAYOUTS[layout].find(root)
    if scene not in found:
        raise FileNotFoundError(f"scene {scene!r} of the choice is not below {root}")
    frames, _ = LAYOUTS[layout].read(found[scene])
    return {frame.name: frame for frame in frames}
