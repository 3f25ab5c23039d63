"""Scenes are normalized by what is known of them, and rendered as published."""

import jax
import numpy as np
import pytest

from data.box import box_views
from mvdust3r_jax.geometry.truth import reference_from_cameras, true_pointmaps
from mvdust3r_jax.splat.pointmaps import normalized_scenes, render
from mvdust3r_jax.types import Gaussians, Prediction
from tests.compiled import compiled, normal


def mean_length(points, valid):
    return np.linalg.norm(np.asarray(points), axis=-1)[valid].mean()


def test_points_and_cameras_are_divided_by_the_mean_distance_of_what_is_known():
    """Points by that of the input views' points, cameras by the truth's in all views.

    Longer points are the same scene, so along themselves they have no derivative; the factor has
    none at all.
    """
    batch = box_views(np.random.default_rng(0), 1, 3, 6, 6)
    holes = np.random.default_rng(1).random(batch.depth_m.shape) < 0.4
    holes[:, 2] = False
    batch = jax.device_put(batch.replace(depth_m=np.where(holes, 0, batch.depth_m)))
    poses = np.asarray(compiled(reference_from_cameras)(batch.world_from_cam, 1))[:, 0]
    cameras_m = jax.device_put(poses)
    points = np.asarray(normal(2, 1, 2, 6, 6, 3))

    @jax.jit
    def along_itself(points):
        def scenes(points):
            prediction = Prediction(points, np.ones(points.shape[:-1], np.float32))
            made = normalized_scenes(prediction, batch, cameras_m)
            return made.points, made.factor, made.ref_from_cam

        return jax.jvp(scenes, (points,), (points,))

    (found, factor, cameras), (longer, factor_longer, _) = jax.device_get(along_itself(points))
    expected = mean_length(points, ~holes[:, :2])
    np.testing.assert_allclose(factor, expected, rtol=1e-5)
    np.testing.assert_allclose(found, points / expected, rtol=1e-5)
    # Differences of numbers of up to 3.
    np.testing.assert_allclose(longer, 0, atol=1e-5)
    assert not factor_longer.any()
    true_factor = mean_length(compiled(true_pointmaps)(batch, 1)[:, 0], ~holes)
    np.testing.assert_allclose(cameras[..., :3, 3], poses[..., :3, 3] / true_factor, rtol=1e-5)
    np.testing.assert_array_equal(cameras[..., :3, :3], poses[..., :3, :3])


@pytest.mark.parametrize("sh_degree", [0, 1])
def test_one_gaussian_before_the_white_background(sh_degree):
    """Far smaller than a pixel, it is blurred by a variance of 0.1 squared pixels."""
    shape = (1, 1, 5, 5)
    points = np.zeros((*shape, 3), np.float32)
    points[..., 2] = 1.0
    # Only the first one is drawn, at the pixel (2, 1).
    opacities = np.zeros(shape, np.float32)
    opacities[0, 0, 0, 0] = 0.9
    intrinsics = np.float32([[[[9, 0, 2], [0, 9, 1], [0, 0, 1]]]])
    # Coefficients of 0 are gray, which is 0 in [-1, 1].
    colors = np.zeros((*shape, 3 * (sh_degree + 1) ** 2), np.float32)
    rotations = np.tile(np.float32([1, 0, 0, 0]), (*shape, 1))
    scales = np.full((*shape, 3), 1e-4, np.float32)
    gaussians = Gaussians(colors, opacities, scales, rotations)
    prediction = Prediction(points, np.ones(shape, np.float32), gaussians)
    image, overflow = compiled(render)(
        *(points, prediction, scales, np.zeros_like(points)),
        *(np.eye(4, dtype=np.float32)[None, None], intrinsics),
        sh_degree=sh_degree,
    )
    v, u = np.mgrid[:5, :5]
    alpha = 0.9 * np.exp(-((u - 2) ** 2 + (v - 1) ** 2) / (2 * 0.1))
    # What is fainter is left out.
    alpha = np.where(alpha < 1 / 255, 0, alpha)[..., None]
    np.testing.assert_allclose(image[0, 0], np.broadcast_to(1 - alpha, (5, 5, 3)), atol=1e-4)
    assert not overflow.any()
