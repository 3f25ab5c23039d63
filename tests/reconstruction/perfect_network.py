"""Known geometry in the network's place: pointmaps of a curved surface, exact to the pixel."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax import ModelConfig
from mvdust3r_jax.geometry import camera, transforms
from mvdust3r_jax.media.photographs import Photo
from mvdust3r_jax.reconstruction.model import Model
from mvdust3r_jax.reconstruction.network import Answer
from mvdust3r_jax.types import Prediction
from tests.pinhole import pinhole
from tests.reconstruction.turned_gaussians import random_gaussians

# The package's attribute of this name is the function.
RECONSTRUCT = importlib.import_module("mvdust3r_jax.reconstruction.reconstruct")
CONFIG = ModelConfig(
    16, 1, 1, 16, 2, 1, patch=8, skip=False, gaussian_hidden=8, cross_ref=True, sh_degree=1
)


def posed_box(count, focal=55.0, moved_px=(0, 0)):
    """Cameras around a curved surface, and the pointmaps a perfect network would give.

    Of all views, or of each: its focal length, and how far its principal point is off the middle.
    """
    height, width = 48, 64
    rng = np.random.default_rng(2)
    v, u = np.mgrid[:height, :width]
    intrinsics = pinhole(np.broadcast_to(np.float32(focal), count), height, width)
    # Of photographs whose middle is the principal point, not of the published recipe's crops.
    intrinsics[:, :2, 2] += np.float32(moved_px) - 0.5
    depth = 4 + np.sin(u / 9 + np.arange(count)[:, None, None]) + 0.5 * np.cos(v / 7)
    tilt = np.array(transforms.rotation_from_axis_angle(jnp.array(rng.normal(0, 0.2, (count, 3)))))
    tilt[0] = np.eye(3)
    world_from_cam = np.tile(np.eye(4), (count, 1, 1))
    world_from_cam[:, :3, :3] = tilt
    world_from_cam[1:, :3, 3] = rng.normal(0, 0.5, (count - 1, 3))
    points = camera.depth_to_world(
        jnp.asarray(depth, jnp.float32),
        jnp.asarray(intrinsics),
        jnp.asarray(world_from_cam, jnp.float32),
    )
    return np.asarray(points), intrinsics, world_from_cam


def answered(monkeypatch, points, intrinsics, poses):
    confidence = np.full((3, 48, 64), 5.0, np.float32)
    prediction = Prediction(points, confidence, random_gaussians(3, 48, 64))

    def ask(*_):
        return Answer(prediction, reference=0)

    monkeypatch.setattr(RECONSTRUCT, "asking", lambda *_: ask)
    model = Model(CONFIG, {}, (48, 64), "perfect")
    blank = Photo(np.zeros((96, 128, 3), np.uint8), np.ones((96, 128), bool), (96, 128), "a")
    return model, [blank] * 3, points, intrinsics, poses


@pytest.fixture
def perfect(monkeypatch):
    """`reconstruct` with the network replaced by the right answer for three views."""
    return answered(monkeypatch, *posed_box(3))
