"""Geometry against inverses and axioms, over several batch shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mvdust3r_jax.geometry import align, camera, pointmaps
from mvdust3r_jax.geometry import transforms as tf
from tests.pinhole import pinhole

BATCHES = [(), (1,), (2, 3)]


def random_rigid(key, batch):
    k1, k2 = jax.random.split(key)
    rotation = tf.rotation_from_quat(jax.random.normal(k1, (*batch, 4)))
    return tf.rigid(rotation, jax.random.normal(k2, (*batch, 3)))


@pytest.mark.parametrize("batch", BATCHES)
def test_inverse_undoes(key, batch):
    """invert_rigid(T) @ T is the identity."""
    a_from_b = random_rigid(key, batch)
    np.testing.assert_allclose(
        tf.invert_rigid(a_from_b) @ a_from_b, np.broadcast_to(np.eye(4), (*batch, 4, 4)), atol=1e-6
    )


@pytest.mark.parametrize("batch", BATCHES)
def test_quaternion_round_trip(key, batch):
    """Rotation -> quaternion -> rotation, half turns and the identity included."""
    rotation = tf.rotation_from_quat(jax.random.normal(key, (*batch, 4)))
    np.testing.assert_allclose(
        tf.rotation_from_quat(tf.quat_from_rotation(rotation)), rotation, atol=2e-6
    )
    special = tf.rotation_from_quat(jnp.eye(4))
    np.testing.assert_allclose(
        tf.rotation_from_quat(tf.quat_from_rotation(special)), special, atol=1e-6
    )


@pytest.mark.parametrize("angle", [0.0, 1e-5, 1e-2, 1.0, 3.1])
def test_axis_angle_has_its_angle(angle):
    """A rotation by an angle is that angle away from the identity, also for tiny angles."""
    axis = jnp.array([0.6, 0.0, 0.8])
    rotation = tf.rotation_from_axis_angle(axis * angle)
    got = tf.rotation_angle_deg(rotation, jnp.eye(3))
    np.testing.assert_allclose(got, np.rad2deg(angle), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("angle", [1e-3, 1.0, 3.1, np.pi])
def test_the_angle_has_a_finite_gradient(angle):
    """At a half turn too, where it is 180 exactly."""
    c, s = np.cos(angle), np.sin(angle)
    turned = jnp.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], jnp.float32)
    value, grad = jax.value_and_grad(tf.rotation_angle_deg)(turned, jnp.eye(3))
    np.testing.assert_allclose(value, np.rad2deg(angle), rtol=1e-3)
    assert np.isfinite(grad).all() and (angle == np.pi) == (not grad.any())


def test_norm_gradient_at_zero_is_zero():
    """The guarded norm has value and gradient 0 at the origin."""
    value, grad = jax.value_and_grad(tf.safe_norm)(jnp.zeros(3))
    assert value == 0 and (grad == 0).all()


@pytest.mark.parametrize("batch", BATCHES)
def test_project_inverts_unproject(key, batch):
    """Unprojecting a depth map and projecting it returns the pixel grid."""
    k1, k2 = jax.random.split(key)
    depth = jax.random.uniform(k1, (*batch, 5, 7), minval=0.5, maxval=4.0)
    focal = jax.random.uniform(k2, batch, minval=5.0, maxval=9.0)
    intrinsics = jnp.asarray(pinhole(focal, 5, 7))
    pixels = camera.project(camera.unproject(depth, intrinsics), intrinsics)
    grid = np.broadcast_to(camera.pixel_grid(5, 7), pixels.shape)
    np.testing.assert_allclose(pixels, grid, atol=1e-4)


@pytest.mark.parametrize("batch", BATCHES)
def test_similarity_is_recovered(key, batch):
    """The alignment of a transformed cloud is the transform; zero weights ignore outliers."""
    k1, k2 = jax.random.split(key)
    source = jax.random.normal(k1, (*batch, 20, 3))
    target_from_source = random_rigid(k2, batch)
    target = 1.7 * tf.transform_points(target_from_source, source)
    target = target.at[..., 0, :].set(100.0)
    weights = jnp.ones((*batch, 20)).at[..., 0].set(0.0)
    scale, rotation, translation = align.similarity(source, target, weights)
    np.testing.assert_allclose(scale, np.full(batch, 1.7), rtol=1e-5)
    np.testing.assert_allclose(rotation, target_from_source[..., :3, :3], atol=1e-5)
    np.testing.assert_allclose(translation, 1.7 * target_from_source[..., :3, 3], atol=1e-5)


def test_a_robust_similarity_of_nothing_is_the_identity(key):
    """No weight is positive; with weights the outlier is passed over, in half precision too."""
    source = jax.random.normal(key, (20, 3)).astype(jnp.bfloat16)
    target = (2 * source).at[0].set(100.0)
    scale, rotation, translation = align.robust_similarity(source, target, jnp.zeros(20))
    assert scale == 1 and (rotation == jnp.eye(3)).all() and (translation == 0).all()
    assert np.isnan(align.robust_similarity(source, target, jnp.full(20, jnp.nan))[0])
    weights = jnp.ones(20, jnp.bfloat16)
    scale, rotation, _ = align.robust_similarity(source, target, weights)
    np.testing.assert_allclose(scale, 2.0, rtol=1e-3)
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-3)


@pytest.mark.parametrize(("count", "expected"), [(0, np.nan), (1, 3.0), (2, 1.0), (3, 2.0)])
def test_lower_median(count, expected):
    """Even counts take the lower middle value, an empty set is NaN."""
    values = jnp.array([3.0, 1.0, 2.0, 7.0])
    got = align.lower_median(values, jnp.arange(4) < count)
    np.testing.assert_array_equal(got, np.float32(expected))


def test_masked_points_do_not_reach_the_mean_distance():
    """NaN under a false mask changes neither the value nor the gradient."""
    points = jnp.ones((1, 1, 2, 3)).at[0, 0, 1].set(jnp.nan)
    valid = jnp.array([[[True, False]]])
    value, grad = jax.value_and_grad(pointmaps.mean_distance)(points, valid)
    np.testing.assert_allclose(value, np.sqrt(3.0), rtol=1e-6)
    assert np.isfinite(grad).all() and (grad[0, 0, 1] == 0).all()
