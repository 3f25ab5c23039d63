"""Geometry against inverses and axioms, over several batch shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from mvdust3r_jax.geometry import align, camera, pointmaps, transforms
from tests.compiled import Compiled, normal, uniform
from tests.pinhole import pinhole

align, camera, pointmaps, tf = map(Compiled, (align, camera, pointmaps, transforms))
BATCHES = [(), (1,), (2, 3)]


def random_rigid(batch):
    return tf.rigid(tf.rotation_from_quat(normal(8, *batch, 4)), normal(9, *batch, 3))


@pytest.mark.parametrize("batch", BATCHES)
def test_inverse_undoes(batch):
    """invert_rigid(T) @ T is the identity."""
    a_from_b = random_rigid(batch)
    product = np.asarray(tf.invert_rigid(a_from_b)) @ np.asarray(a_from_b)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(4), (*batch, 4, 4)), atol=1e-6)


@pytest.mark.parametrize("batch", BATCHES)
def test_quaternion_round_trip(batch):
    """Rotation -> quaternion -> rotation, half turns and the identity included."""
    rotation = tf.rotation_from_quat(normal(0, *batch, 4))
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


@pytest.mark.parametrize("angle", [1e-3, 1.0, 1.6, 3.1, 3.1415, np.pi])
def test_the_angle_has_a_finite_gradient(angle):
    """A radian's degrees for its four entries, and no more at a half turn."""
    c, s = np.cos(angle), np.sin(angle)
    turned = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    value, grad = jax.value_and_grad(tf.rotation_angle_deg)(turned, np.eye(3, dtype=np.float32))
    np.testing.assert_allclose(value, np.rad2deg(angle), rtol=1e-6, atol=1e-5)
    along = np.sum(np.asarray(grad) * [[-s, -c, 0], [c, -s, 0], [0, 0, 0]])
    np.testing.assert_allclose(abs(along), np.rad2deg(1.0), rtol=1e-3)
    assert np.abs(grad).max() < 60


def test_norm_gradient_at_zero_is_zero():
    """The guarded norm has value and gradient 0 at the origin."""
    value, grad = jax.value_and_grad(tf.safe_norm)(jnp.zeros(3))
    assert value == 0 and (grad == 0).all()


@pytest.mark.parametrize("batch", BATCHES)
def test_project_inverts_unproject(batch):
    """Unprojecting a depth map and projecting it returns the pixel grid."""
    depth = uniform(0, *batch, 5, 7, low=0.5, high=4.0)
    intrinsics = jnp.asarray(pinhole(uniform(1, *batch, low=5.0, high=9.0), 5, 7))
    pixels = camera.project(camera.unproject(depth, intrinsics), intrinsics)
    grid = np.broadcast_to(camera.pixel_grid(5, 7), pixels.shape)
    np.testing.assert_allclose(pixels, grid, atol=1e-4)


@pytest.mark.parametrize("batch", BATCHES)
def test_similarity_is_recovered(batch):
    """The alignment of a transformed cloud is the transform; zero weights ignore outliers."""
    source = normal(0, *batch, 20, 3)
    target_from_source = np.asarray(random_rigid(batch))
    target = 1.7 * np.array(tf.transform_points(target_from_source, source))
    target[..., 0, :] = 100.0
    weights = np.ones((*batch, 20), np.float32)
    weights[..., 0] = 0.0
    scale, rotation, translation = align.similarity(source, target, weights)
    np.testing.assert_allclose(scale, np.full(batch, 1.7), rtol=1e-5)
    np.testing.assert_allclose(rotation, target_from_source[..., :3, :3], atol=1e-5)
    np.testing.assert_allclose(translation, 1.7 * target_from_source[..., :3, 3], atol=1e-5)


@pytest.mark.parametrize("fit", [align.similarity, align.robust_similarity])
@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("weight", [1e-15, 1.0, 1e15])
def test_similarities_have_no_unit(fit, unit, weight):
    """Neither the points' unit nor the size of the weights changes anything but the translation."""
    source, unit = np.asarray(normal(0, 20, 3)), np.float32(unit)
    target_from_source = np.asarray(random_rigid(()))
    target = 2 * np.asarray(tf.transform_points(target_from_source, source))
    scale, rotation, shift = fit(unit * source, unit * target, np.full(20, weight, np.float32))
    np.testing.assert_allclose(scale, 2.0, rtol=1e-5)
    np.testing.assert_allclose(rotation, target_from_source[:3, :3], atol=1e-5)
    np.testing.assert_allclose(shift / unit, 2 * target_from_source[:3, 3], atol=1e-5)


@pytest.mark.parametrize("fit", [align.similarity, align.robust_similarity])
def test_points_without_weight_do_not_reach_a_similarity(fit):
    """Not even as NaN, and their gradient is 0."""
    known = np.arange(20) != 3
    source = np.where(known[:, None], normal(0, 20, 3), np.nan)
    value_and_grad = jax.value_and_grad(lambda x: fit(x, 2 * source + 1, known * 1.0)[0])
    scale, gradient = jax.jit(value_and_grad)(source)
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

    gradient, scale = jax.jit(jax.grad(total, has_aux=True))(points)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(scale, 3.0 if shape.any() else 0.0, rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_masked_points_do_not_reach_the_medians(wrong):
    """They change neither shift nor scale, and have gradient 0."""
    points = np.float32(CUBE * np.stack([np.arange(8), np.ones(8), np.ones(8)], axis=-1))
    points[3], known = wrong, np.concatenate([points[:3], np.ones((1, 3)), points[4:]])

    def total(points, valid):
        shift, scale = align.median_shift_scale(points, valid)
        return jnp.where(valid.any(), shift.sum() + scale, 0.0)

    value_and_grad = jax.jit(jax.value_and_grad(total))
    value, gradient = value_and_grad(points, np.arange(8) != 3)
    np.testing.assert_allclose(value, value_and_grad(known, np.arange(8) != 3)[0])
    assert np.isfinite(gradient).all() and not gradient[3].any()
    assert not value_and_grad(points, np.zeros(8, bool))[1].any()


def test_a_robust_similarity_of_nothing_is_the_identity():
    """No weight is positive; with weights the outlier is passed over, in half precision too."""
    source = np.asarray(normal(0, 20, 3), jnp.bfloat16)
    target = 2 * source
    target[0] = 100.0
    found = align.robust_similarity(source, target, np.zeros(20, np.float32))
    for got, want in zip(found, (1.0, np.eye(3), np.zeros(3)), strict=True):
        np.testing.assert_array_equal(got, want)
    nothing = np.full(20, np.nan, np.float32)
    assert np.isnan(align.robust_similarity(source, target, nothing)[0])
    weights = np.ones(20, jnp.bfloat16)
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
    points = np.ones((1, 1, 2, 3), np.float32)
    points[0, 0, 1] = np.nan
    valid = np.array([[[True, False]]])
    value, grad = jax.value_and_grad(pointmaps.mean_distance)(points, valid)
    np.testing.assert_allclose(value, np.sqrt(3.0), rtol=1e-6)
    assert np.isfinite(grad).all() and (grad[0, 0, 1] == 0).all()
