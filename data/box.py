"""The smallest source of posed RGB-D samples: views from inside a box with patterned walls.

NumPy only, milliseconds a batch, every sample a function of (seed, number): for tests and smoke
runs. It keeps the protocol of all training sources: ``next`` gives ``(Batch, info)``,
``get_state`` and ``set_state`` move the position.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from data.sample_place import SamplePlace
from mvdust3r_jax.geometry.pixels import image_middle
from mvdust3r_jax.types import Batch


class BoxSource:
    """Endless batches ``[batch_size, S, height, width]``; the number of inputs is drawn per batch.

    info: ``ids`` (one string a sample).
    """

    epoch_samples = 0

    def __init__(
        self,
        *,
        batch_size: int,
        num_inputs: tuple[int, ...],
        num_targets: int,
        height: int,
        width: int,
        seed: int,
        split: str = "train",
        process_index: int = 0,
        process_count: int = 1,
    ):
        self._size = (num_targets, height, width)
        self._num_inputs = num_inputs
        self._seed = (seed, sum(split.encode()))
        self._place = SamplePlace(batch_size, process_index, process_count)

    def __iter__(self) -> BoxSource:
        return self

    def __next__(self) -> tuple[Batch, dict[str, Any]]:
        index, numbers = self._place.advance()
        num_targets, height, width = self._size
        # The number of views is the same in all processes: they run one program together.
        drawn = np.random.default_rng((*self._seed, index)).integers(len(self._num_inputs))
        num_views = self._num_inputs[drawn] + num_targets
        rngs = [np.random.default_rng((*self._seed, number, 1)) for number in numbers]
        samples = [box_views(rng, 1, num_views, height, width) for rng in rngs]
        batch = jax.tree.map(lambda *arrays: np.concatenate(arrays), *samples)
        return batch, {"ids": [f"box/{number}" for number in numbers]}

    def get_state(self) -> dict[str, int]:
        """Position before the next batch, the same in every process."""
        return self._place.get_state()

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position, whatever number of processes and batch size it comes from."""
        self._place.set_state(state)


def box_views(rng: np.random.Generator, batch: int, views: int, height: int, width: int) -> Batch:
    """Cameras near the middle of a box of 2..3 m half size, turned by up to half a radian."""
    half = rng.uniform(2.0, 3.0, (batch, 1, 1, 1, 3))
    center = rng.uniform(-0.5, 0.5, (batch, views, 3))
    yaw, pitch = rng.uniform(-0.5, 0.5, (2, batch, views)) * np.array([1.0, 0.3])[:, None, None]
    world_from_cam = np.tile(np.eye(4), (batch, views, 1, 1))
    world_from_cam[..., :3, :3] = _rotations(yaw, pitch)
    world_from_cam[..., :3, 3] = center
    focal_px = 0.8 * width
    x, y = image_middle((height, width))
    intrinsics = np.array([[focal_px, 0, x], [0, focal_px, y], [0, 0, 1]])
    v, u = np.mgrid[:height, :width]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(intrinsics).T
    rays_world = np.einsum("bsij,hwj->bshwi", world_from_cam[..., :3, :3], rays)
    rays_world = np.where(np.abs(rays_world) < 1e-6, 1e-6, rays_world)
    origin = center[:, :, None, None]
    # The wall that a ray leaves through; z of a camera ray is 1, so the ray's parameter is depth.
    depth_m = ((np.sign(rays_world) * half - origin) / rays_world).min(-1)
    hit = origin + rays_world * depth_m[..., None]
    waves = rng.normal(0.0, 2.0, (batch, 1, 1, 1, 3, 3))
    images = np.sin(np.einsum("bshwi,bshwij->bshwj", hit, np.broadcast_to(waves, (*hit.shape, 3))))
    arrays = images, depth_m, world_from_cam, np.broadcast_to(intrinsics, (batch, views, 3, 3))
    return Batch(*(np.ascontiguousarray(a, np.float32) for a in arrays))


def _rotations(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Rotation about y (down) by yaw, then about x by pitch."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    about_y = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1)
    about_x = np.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], -1)
    shape = (*yaw.shape, 3, 3)
    return about_y.reshape(shape) @ about_x.reshape(shape)
