"""Procedural rooms as a TFDS data set: one room and one trajectory a seed.

Rendering needs no disk (``data.rooms.stream``); a stored copy is for hosts that cannot render fast
enough, and for fixed evaluation sets. Depth is stored in steps of 0.2 mm: millimeters would hide
the exactness of generated geometry.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import numpy as np

from data.overlap import Rule, inputs_needed
from data.rooms import ROOMS_VERSION, SPLITS, sample_trajectory
from data.schema import Frame, Scene, Trajectories, encode_depth, encode_jpeg
from data.stored.builder import SceneBuilder
from data.surfaces import Surfaces, world_points
from mvdust3r_jax.types import Batch, pixels_from_images

# 65535 steps reach 13.1 m, farther than any room is long.
DEPTH_STEP_M = 0.0002


class RoomsDataset(SceneBuilder, skip_registration=True):
    """Procedurally generated furnished rooms: posed RGB-D frames and trajectories.

    counts: trajectories of each split. known: tables by seed, shared by the builders of both
    configs so that every room is rendered once.
    """

    name = "rooms"

    def __init__(
        self,
        *,
        counts: dict[str, int],
        num_inputs: int,
        num_targets: int,
        height: int,
        width: int,
        known: dict[int, Trajectories] | None = None,
        **builder_args,
    ):
        self._counts, self._size = counts, (height, width)
        self._known = {} if known is None else known
        super().__init__(num_inputs=num_inputs, num_targets=num_targets, **builder_args)

    def scene_names(self) -> dict[str, Sequence[str]]:
        """``VERSION:SEED``, seeds counted from the start of the split's range."""
        for split, count in self._counts.items():
            low, high = SPLITS[split]
            if count > high - low:
                raise ValueError(f"split {split!r} has {high - low} rooms, {count} were wanted")
        return {
            split: [f"{ROOMS_VERSION}:{SPLITS[split][0] + number}" for number in range(count)]
            for split, count in self._counts.items()
        }

    def made_from(self) -> dict:
        """How many rooms of each split, and the size of their views."""
        told = {"version": ROOMS_VERSION, "counts": self._counts, "size": list(self._size)}
        return {**super().made_from(), "scenes": None, **told}

    def load_scene(self, split: str, name: str) -> Scene:
        """The room's views, rendered when first asked for."""
        seed = int(name.rpartition(":")[2])
        views = functools.cache(lambda: self._render(seed))

        def frame(index: int) -> Frame:
            batch = views()
            return Frame(
                f"{index:02d}",
                encode_jpeg(pixels_from_images(batch.images[index])),
                encode_depth(batch.depth_m[index], DEPTH_STEP_M),
                batch.world_from_cam[index],
                batch.intrinsics[index],
                DEPTH_STEP_M,
            )

        if seed not in self._known:
            self._known[seed] = _tables(views(), self.num_inputs)
        return Scene(name, self.num_inputs + self.num_targets, frame, self._known[seed])

    def _render(self, seed: int) -> Batch:
        views = sample_trajectory(seed, self.num_inputs, self.num_targets, *self._size)
        return jax.device_get(views)


def _tables(views: Batch, num_inputs: int) -> Trajectories:
    """One trajectory; ``needs`` is measured as for real scenes, all inputs where they are few."""
    # Neighboring pixels lie farther apart than in 640x480 images.
    rule = Rule(radius_per_step_m=0.015 * 480 / min(views.depth_m.shape[1:]))
    points = [
        world_points(depth, intrinsics, pose, rule.step)
        for depth, intrinsics, pose in zip(
            views.depth_m, views.intrinsics, views.world_from_cam, strict=True
        )
    ]
    surfaces = Surfaces(points, rule.radius_m)
    share = np.ones((len(points), len(points)), np.float32)
    inputs, targets = np.arange(num_inputs), np.arange(num_inputs, len(points))
    needs = [
        inputs_needed(surfaces, share, int(target), inputs.tolist(), rule.coverage) or num_inputs
        for target in targets
    ]
    return Trajectories(
        inputs[None].astype(np.int32),
        targets[None].astype(np.int32),
        np.array([needs], np.int32),
    )
