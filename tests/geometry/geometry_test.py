"""Geometry against inverses and axioms, over several batch shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

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


@pytest.mark.parametrize("fit", [align.similarity, align.robust_similarity])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("weight", [1e-15, 1.0, 1e15])
def test_similarities_have_no_unit(key, fit, unit, weight):
    """Neither the points' unit nor the size of the weights changes anything but the translation."""
    source = jax.random.normal(key, (20, 3))
    target_from_source = random_rigid(key, ())
    target = 2 * tf.transform_points(target_from_source, source)
    scale, rotation, shift = fit(unit * source, unit * target, jnp.full(20, weight))
    np.testing.assert_allclose(scale, 2.0, rtol=1e-5)
    np.testing.assert_allclose(rotation, target_from_source[:3, :3], atol=1e-5)
    np.testing.assert_allclose(shift / unit, 2 * target_from_source[:3, 3], atol=1e-5)


@pytest.mark.parametrize("fit", [align.similarity, align.robust_similarity])
def test_points_without_weight_do_not_reach_a_similarity(key, fit):
    """Not even as NaN, and their gradient is 0."""
    source = jax.random.normal(key, (20, 3)).at[3].set(jnp.nan)
    weights = jnp.ones(20).at[3].set(0.0)
    scale, gradient = jax.value_and_grad(lambda x: fit(x, 2 * source + 1, weights)[0])(source)
    np.testing.assert_allclose(scale, 2.0, rtol=1e-5)
    assert np.isfinite(gradient).all() and not gradient[3].any()


CUBE = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("fit", [align.similarity, align.robust_similarity])
def test_gradients_of_similarities_are_those_of_differences(fit):
    """Also of a cube, which is equally long in all directions: the SVD has no derivative there."""
    with jax.enable_x64(True):
        bent = 2 * CUBE + 0.1 * np.sin(np.arange(24.0)).reshape(8, 3)
        for target in (2 * CUBE + 1, bent):
            # The robust one has corners where points fit exactly.
            if fit is align.similarity or target is bent:
                given = (jnp.asarray(CUBE), jnp.asarray(target), jnp.linspace(0.5, 1, 8))
                check_grads(jax.jit(fit), given, order=1, eps=1e-6)


@pytest.mark.parametrize(
    "matrix", [np.eye(3), np.diag([2.0, 1, 1]), np.diag([2.0, 1, 0]), np.diag([3.0, 2, -1])]
)
def test_the_nearest_rotation_has_derivatives(matrix):
    """Equal singular values, a plane and a reflection included; forward and backward."""
    with jax.enable_x64(True):
        turn = tf.rotation_from_axis_angle(jnp.array([0.3, -0.5, 0.2]))
        check_grads(jax.jit(tf.nearest_rotation), (turn @ matrix,), order=1)


@pytest.mark.parametrize("shape", [np.zeros((5, 3)), np.outer(np.arange(5), [1, 2, 3])])
def test_gradients_of_a_similarity_of_too_little_are_finite(shape):
    """Of one point and of points on a line, off the origin; those of one point have scale 0."""
    points = jnp.asarray(shape + [0.1, 0.2, 0.3], jnp.float32)

    def total(points):
        found = align.similarity(points, 3 * points + 1, jnp.ones(5))
        return sum(jnp.sum(x) for x in found), found[0]

    gradient, scale = jax.grad(total, has_aux=True)(points)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(scale, 3.0 if shape.any() else 0.0, rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_masked_points_do_not_reach_the_medians(wrong):
    """They change neither shift nor scale, and have gradient 0."""
    points = jnp.asarray(CUBE, jnp.float32).at[:, 0].multiply(jnp.arange(8.0)).at[3].set(wrong)

    def total(points, valid):
        shift, scale = align.median_shift_scale(points, valid)
        return jnp.where(valid.any(), shift.sum() + scale, 0.0)

    value, gradient = jax.value_and_grad(total)(points, jnp.arange(8) != 3)
    np.testing.assert_allclose(value, total(points.at[3].set(1.0), jnp.arange(8) != 3))
    assert np.isfinite(gradient).all() and not gradient[3].any()
    assert not jax.grad(total)(points, jnp.zeros(8, bool)).any()


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
