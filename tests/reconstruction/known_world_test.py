"""Scenes in the world of known poses: points, cameras and Gaussians move together."""

import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.cameras import known as known_cameras
from mvdust3r_jax.cameras.known import KnownCameras
from mvdust3r_jax.geometry import transforms
from mvdust3r_jax.reconstruction import known_world
from mvdust3r_jax.reconstruction.reconstruct import reconstruct
from mvdust3r_jax.reconstruction.scene import Scene
from mvdust3r_jax.splat.gaussians import sh_basis
from tests.reconstruction.turned_gaussians import assert_alike, moved_by_hand, random_gaussians


def test_known_poses_make_the_scene_metric(perfect):
    """A scene given in another frame and scale moves there with points, cameras and splats."""
    model, photos, points, _, poses = perfect
    turn = np.eye(4)
    turn[:3, :3] = transforms.rotation_from_axis_angle(jnp.array([0.3, 1.0, -0.5]))
    turn[:3, 3] = [1, 2, 3]
    metric = poses.copy()
    metric[:, :3, 3] *= 2.5
    metric = turn @ metric
    scene = reconstruct(photos, model, cameras=KnownCameras(world_from_cam=metric))
    want = 2.5 * points @ turn[:3, :3].T + turn[:3, 3]
    np.testing.assert_allclose(scene.points, want, atol=0.03)
    np.testing.assert_allclose(scene.world_from_cam, metric, atol=1e-6)
    wanted = moved_by_hand(random_gaussians(*scene.masks.shape), 2.5, turn[:3, :3])
    assert_alike(scene.gaussians, wanted, 0.01)  # as exact as the poses that were found
    assert scene.metric and not scene.world_is_reference


def test_poses_that_give_no_scale_are_refused(perfect):
    """Cameras in one place cannot scale a scene."""
    model, photos, _, _, _ = perfect
    with pytest.raises(known_cameras.CameraError, match="one place"):
        reconstruct(
            photos, model, cameras=KnownCameras(world_from_cam=np.tile(np.eye(4), (3, 1, 1)))
        )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rotated_sh_shows_the_same_color(degree):
    """Turning the coefficients and the direction together changes nothing."""
    rng = np.random.default_rng(0)
    rotation = np.array(transforms.rotation_from_axis_angle(jnp.array([0.4, -1.1, 0.7])))
    count = (degree + 1) ** 2
    coefficients = rng.normal(size=(5, 3 * count)).astype(np.float32)
    turned = known_world.rotate_sh(coefficients, rotation)
    directions = rng.normal(size=(5, 3)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)

    def color(c, d):
        basis = sh_basis(tuple(jnp.asarray(d.T)), degree)
        terms = zip(basis, c.reshape(5, count, 3).swapaxes(0, 1), strict=True)
        return sum(np.broadcast_to(b, 5)[:, None] * one for b, one in terms)

    want = color(coefficients, directions)
    np.testing.assert_allclose(color(turned, directions @ rotation.T), want, atol=1e-5)


def test_rounding_of_a_place_gives_no_scale(perfect):
    """A tripod in a COLMAP model: centers are -R^T t, and differ by the last digits."""
    model, photos, _, _, poses = perfect
    tripod = poses.copy()
    tripod[:, :3, 3] = [1.3, 2.7, -0.9]
    tripod[:, :3, 3] += 1e-15 * np.arange(9).reshape(3, 3)
    with pytest.raises(known_cameras.CameraError, match="one place"):
        reconstruct(photos, model, cameras=KnownCameras(world_from_cam=tripod))


def test_poses_of_other_axes_leave_a_doubt_that_is_kept(perfect, tmp_path):
    """Of the right ones there is none; in the file of the scene, too."""
    model, photos, _, _, poses = perfect
    assert not reconstruct(photos, model, cameras=KnownCameras(world_from_cam=poses)).pose_doubt
    mistaken = poses @ np.diag([1.0, -1.0, -1.0, 1.0])
    scene = reconstruct(photos, model, cameras=KnownCameras(world_from_cam=mistaken))
    assert "OpenGL" in scene.pose_doubt
    assert Scene.load(scene.save_arrays(tmp_path / "scene.npz")).pose_doubt == scene.pose_doubt
