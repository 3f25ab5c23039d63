"""Cameras that fly around and through a scene, and their quaternions."""

import dataclasses

import jax
import numpy as np
from scipy.spatial.transform import Rotation

from mvdust3r_jax.export import (
    camera_paths,
    posed_views,
)
from mvdust3r_jax.geometry import transforms

UP = np.array([[0.0, -1.0, 0.0]])


def test_orbit_looks_at_one_point_and_closes(scene):
    """All optical axes meet in the target, poses are rotations, neighbors are close."""
    poses = camera_paths.orbit(scene, 24)
    rotations = poses[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (24, 1, 1)), atol=1e-12
    )
    start = scene.world_from_cam[0]
    distance = np.median((scene.points[0] - start[:3, 3]) @ start[:3, 2])
    target = start[:3, 3] + distance * start[:3, 2]
    to_target = target - poses[:, :3, 3]
    np.testing.assert_allclose(
        poses[:, :3, 2], to_target / np.linalg.norm(to_target, axis=1, keepdims=True), atol=1e-6
    )
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0, append=poses[:1, :3, 3]), axis=1)
    assert steps.max() < 3 * steps.min()


def test_flight_passes_through_every_camera(scene):
    """Frame i * frames_per_view is camera i; a single camera gives a single frame."""
    poses = camera_paths.fly_through(scene, 5)
    assert len(poses) == 11
    np.testing.assert_allclose(poses[::5], scene.world_from_cam, atol=1e-6)
    alone = dataclasses.replace(scene, pose_ok=np.array([False, True, False]))
    np.testing.assert_allclose(
        camera_paths.fly_through(alone, 5), scene.world_from_cam[1:2], atol=1e-6
    )


def test_flight_between_cameras_is_even_and_takes_the_short_way():
    """In steps of 100 degrees, also where quaternions change their sign; a parabola stays one."""
    steps = np.arange(6.0)
    cameras = np.tile(np.eye(4), (6, 1, 1))
    cameras[:, :3, :3] = Rotation.from_rotvec(np.deg2rad(100) * steps[:, None] * UP).as_matrix()
    cameras[:, :3, 3] = np.stack([steps, steps**2, 0 * steps], axis=-1)
    between = np.arange(1, 4.01, 0.25)  # the ends' knots are repeated
    poses = camera_paths.through(cameras, between)
    turns = Rotation.from_rotvec(np.deg2rad(100) * between[:, None] * UP).as_matrix()
    np.testing.assert_allclose(poses[:, :3, :3], turns, atol=1e-9)
    centers = np.stack([between, between**2, 0 * between], axis=-1)
    np.testing.assert_allclose(poses[:, :3, 3], centers, atol=1e-9)


def test_quaternions_agree_with_the_geometry_package(key):
    """The NumPy quaternions of the exporters are those of `geometry.transforms`, up to sign."""
    rotations = transforms.rotation_from_quat(jax.random.normal(key, (50, 4)))
    quats = posed_views.quat_from_rotation(np.asarray(rotations))
    np.testing.assert_allclose(posed_views.rotation_matrices(quats), rotations, atol=1e-6)
    theirs = np.asarray(transforms.quat_from_rotation(rotations))
    np.testing.assert_allclose(np.abs(np.sum(theirs * quats, axis=-1)), 1, atol=1e-6)
