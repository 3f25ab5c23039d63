"""Terms through the rasterizer: a perfect prediction renders the truth, gradients stay finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data.box import box_views
from mvdust3r_jax.geometry.truth import reference_from_cameras, true_pointmaps
from mvdust3r_jax.splat.pointmaps import Scenes, clip_scales, normalized_scenes, render
from mvdust3r_jax.training.losses import pool_of
from mvdust3r_jax.training.objective import total_loss
from mvdust3r_jax.training.objective_config import ObjectiveConfig
from mvdust3r_jax.training.render_loss import Rendered, render_terms, rgb, scene_terms
from mvdust3r_jax.types import Gaussians, Prediction
from tests.compiled import compiled

WEIGHTS = {"confidence": 2.0, "rgb": 3.0, "scale_clip": 5.0}
CONFIG = ObjectiveConfig(num_refs=2, num_targets=1, weights=WEIGHTS)


def perfect_prediction(batch, num_refs=2, sh_degree=0):
    """The prediction that knows the truth, at twice its scale, with opaque Gaussians."""
    num_inputs = batch.images.shape[1] - 1
    points = 2 * true_pointmaps(batch, num_refs)[:, :, :num_inputs]
    shape = points.shape[:-1]
    gaussians = Gaussians(
        colors=jnp.zeros((*shape, 3 * (sh_degree + 1) ** 2)),
        opacities=jnp.full(shape, 0.99),
        # Clipped to the largest scale that is rendered.
        scales=jnp.full((*shape, 3), 1.0),
        rotations=jnp.zeros((*shape, 4)).at[..., 0].set(1.0),
    )
    return Prediction(points, jnp.full(shape, 2.0), gaussians)


def perfect(batch, num_refs=2, sh_degree=0):
    return compiled(perfect_prediction)(batch, num_refs, sh_degree)


def batch_of(size=1, pixels=24):
    batch = box_views(np.random.default_rng(0), size, 3, pixels, pixels)
    # Slow colors, so that half a pixel matters little and a whole wrong pose much.
    waves = np.sin(compiled(true_pointmaps)(batch, 1)[:, 0])
    return jax.device_put(batch.replace(images=waves))


@jax.jit
def perfect_loss(batch):
    return total_loss(CONFIG, perfect_prediction(batch), batch, jax.random.key(0))


def test_the_loss_is_the_weighted_sum_of_its_terms():
    """Of points as well as of scenes, none of which is 0."""
    loss, terms = perfect_loss(batch_of())
    assert all(abs(terms[name]) > 1e-3 for name in WEIGHTS)
    expected = sum(weight * float(terms[name]) for name, weight in WEIGHTS.items())
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_colors_count_where_depth_is_known():
    """A mean over the known pixels of the chosen views, whatever is rendered elsewhere."""
    rng = np.random.default_rng(0)
    images, rendered = rng.random((1, 3, 4, 5, 3), np.float32), rng.random((1, 2, 4, 5, 3))
    valid = rng.random((1, 3, 4, 5)) < 0.5

    @jax.jit
    def error(images, rendered, valid):
        scenes = Scenes(*[None] * 6, images=images, valid=valid)
        scene = Rendered(CONFIG, scenes, jnp.array([2, 0]), None)
        scene.images = rendered, None
        return rgb(scene)

    of_pixels = np.linalg.norm(rendered - images[:, [2, 0]], axis=-1)
    expected = of_pixels[valid[:, [2, 0]]].mean()
    np.testing.assert_allclose(error(images, np.float32(rendered), valid)[0], expected, rtol=1e-5)


def test_perfect_prediction_renders_the_input_views():
    """True points give the input images back, and half a pixel of principal point is seen."""
    batch = batch_of()
    prediction = jax.tree.map(lambda x: x[:, 1], perfect(batch))

    @jax.jit
    def error(shift_px):
        poses = reference_from_cameras(batch.world_from_cam, 2)[:, 1]
        scenes = normalized_scenes(prediction, batch, poses)
        scales = clip_scales(scenes.prediction.gaussians.scales, scenes.factor)
        intrinsics = scenes.intrinsics[:, :2].at[..., :2, 2].add(shift_px)
        images, overflow = render(
            *(scenes.points, scenes.prediction, scales, scenes.pixels),
            *(scenes.ref_from_cam[:, :2], intrinsics),
            sh_degree=0,
        )
        return jnp.median(jnp.abs(images - scenes.pixels)), overflow.sum()

    (exact, lost), (shifted, shifted_lost) = error(0.0), error(0.5)
    assert lost == shifted_lost == 0
    assert exact < 0.02
    assert shifted > 3 * exact


def test_value_and_gradient_are_finite_at_the_edges():
    """An empty sample beside a full one, points at the origin, scales of zero: all finite."""
    batch = batch_of(2)
    full = np.array([1, 0], np.float32).reshape(2, 1, 1, 1)
    batch = batch.replace(depth_m=jnp.asarray(batch.depth_m * full))
    prediction = jax.tree.map(np.array, perfect(batch))
    prediction.points[0, 0, 0, :2] = 0.0
    prediction.gaussians.scales[:, :, 0] = 0.0

    def loss(prediction):
        return total_loss(CONFIG, prediction, batch, jax.random.key(0))

    (value, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(prediction)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    # The published scale term is 1e12 and more for an empty sample; here it does not count.
    assert float(terms["scale_clip"]) < 10
    for leaf in jax.tree.leaves(gradient):
        assert not np.any(np.asarray(leaf)[1])


def test_gradient_taken_beside_the_value_is_that_of_autodiff():
    """A factor on the loss included, against plain differentiation of every scene's terms."""
    batch = batch_of(2, pixels=8)
    prediction = perfect(batch)
    poses = np.asarray(compiled(reference_from_cameras)(batch.world_from_cam, 2))
    views = jnp.asarray(np.arange(3))

    @jax.jit
    @jax.value_and_grad
    def of_scene(prediction, batch, pose):
        terms = scene_terms(
            Rendered(CONFIG, normalized_scenes(prediction, batch, pose), views, None)
        )
        return 3 / 4 * (3 * terms["rgb"] + 5 * terms["scale_clip"])[0]

    def scene(sample, path):
        of_path = jax.tree.map(lambda x: np.asarray(x)[sample, path][None], prediction)
        of_sample = jax.tree.map(lambda x: np.asarray(x)[sample][None], batch)
        return of_scene(of_path, of_sample, poses[sample, path][None])

    def rendered(prediction):
        pool = pool_of(batch, 2, 2)
        return 3 * render_terms(CONFIG, prediction, batch, jax.random.key(0), pool=pool)[0]

    scenes = [jax.device_get(scene(*index)) for index in np.ndindex(2, 2)]
    value, gradient = jax.jit(jax.value_and_grad(rendered))(prediction)
    np.testing.assert_allclose(value, sum(value for value, _ in scenes), rtol=1e-5)
    expected = jax.tree.map(lambda *x: np.concatenate(x), *(gradient for _, gradient in scenes))
    for a, b in zip(*map(jax.tree.leaves, (gradient, expected)), strict=True):
        np.testing.assert_allclose(a, b.reshape(a.shape), rtol=1e-5, atol=1e-7)


def test_terms_without_weight_are_not_computed(key):
    """The names of the terms follow the weights."""
    batch = batch_of()
    shapes = jax.eval_shape(
        lambda p: total_loss(ObjectiveConfig(num_refs=2, num_targets=1), p, batch, key)[1],
        perfect(batch),
    )
    assert "rgb" not in shapes and "scale_clip" not in shapes and "confidence" in shapes


def test_drawn_views_and_paths_are_an_unbiased_choice():
    """Every path and view is drawn, and all of them together have the mean of the whole."""
    batch = batch_of()
    prediction = perfect(batch)
    one = dataclasses.replace(CONFIG, render_paths=1, render_views=1)
    term = jax.jit(lambda key: total_loss(one, prediction, batch, key)[1]["rgb"])
    drawn = {float(term(jax.random.key(k))) for k in range(24)}
    assert len(drawn) == 2 * 3
    # All depths are known, so all paths and views weigh the same.
    np.testing.assert_allclose(np.mean([*drawn]), perfect_loss(batch)[1]["rgb"], rtol=1e-5)


def test_sh_color_is_measured_toward_the_own_camera():
    """Coefficients that give each pixel's color as seen from there cost nothing, others the rest.

    Points are not pulled to where their color would be right.
    """
    config = ObjectiveConfig(num_refs=1, num_targets=1, weights={"sh_color": 10.0}, sh_degree=1)
    batch = batch_of()
    prediction, truth = jax.device_get((perfect(batch, 1, 1), compiled(true_pointmaps)(batch, 1)))
    # Both in units of their own mean distances: the directions are not quite the true ones.
    points = prediction.points / np.linalg.norm(prediction.points, axis=-1).mean()
    poses = np.asarray(compiled(reference_from_cameras)(batch.world_from_cam, 1))[:, :, :2]
    centers = poses[..., :3, 3] / np.linalg.norm(truth, axis=-1).mean()
    directions = points - centers[..., None, None, :]
    x, y, z = np.moveaxis(directions / np.linalg.norm(directions, axis=-1, keepdims=True), -1, 0)
    # Color in [0, 1] is 0.5 + SH; the basis is 0.28209479 and 0.48860251 (-y, z, -x).
    slopes = np.random.default_rng(0).normal(size=(*points.shape, 3))
    turned = 0.48860251 * sum(
        value[..., None] * slopes[..., i, :] for i, value in enumerate((-y, z, -x))
    )
    constant = (np.asarray(batch.images[:, None, :2]) / 2 - turned) / 0.28209479
    right = np.concatenate([constant, slopes.reshape(*points.shape[:-1], 9)], axis=-1)

    def loss(prediction, colors):
        gaussians = prediction.gaussians.replace(colors=colors)
        prediction = prediction.replace(gaussians=gaussians)
        return total_loss(config, prediction, batch, jax.random.key(0))

    value = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (total, terms), _ = value(prediction, np.float32(right))
    assert terms["sh_color"] < 1e-5
    # Every color brighter by 0.1, which is 0.2 in [-1, 1].
    right[..., :3] += 0.1 / 0.28209479
    (total, terms), gradient = value(prediction, np.float32(right))
    np.testing.assert_allclose(terms["sh_color"], 0.2 * 3**0.5, rtol=1e-5)
    np.testing.assert_allclose(total, 10 * terms["sh_color"], rtol=1e-6)
    assert not np.any(gradient.points)


def test_rendering_without_any_weight_has_a_gradient_of_zero():
    """Only logged numbers are left: their sum is an array of 0, not Python's, which has none."""
    batch, config = batch_of(pixels=8), ObjectiveConfig(num_refs=2, num_targets=1)

    def weighted(prediction):
        return render_terms(config, prediction, batch, jax.random.key(0), pool=pool_of(batch, 2, 2))

    both = jax.jit(jax.value_and_grad(weighted, has_aux=True))
    (value, terms), gradient = both(perfect(batch))
    assert value.dtype == jnp.float32 and float(value) == 0
    assert set(terms) == {"mean_scale"}
    assert not any(np.any(np.asarray(x)) for x in jax.tree.leaves(gradient))


def test_without_any_weight_the_gradient_is_zero():
    """The terms are only logged: the loss is an array of 0, which can be differentiated."""
    batch, config = batch_of(pixels=8), ObjectiveConfig(num_refs=2, num_targets=1, weights={})

    def loss(prediction):
        return total_loss(config, prediction, batch, jax.random.key(0))

    (value, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(perfect(batch))
    assert value.dtype == jnp.float32 and float(value) == 0 and "confidence" in terms
    assert not any(np.any(np.asarray(x)) for x in jax.tree.leaves(gradient))


def test_color_term_without_harmonics_is_refused():
    """The published weight of sh_color on a network of degree 0 is an error, not an empty sum."""
    with pytest.raises(ValueError, match="sh_color = 10.0 needs sh_degree > 0"):
        ObjectiveConfig(weights={"sh_color": 10.0})


def test_variant_without_gaussians_is_refused():
    """A render weight on a network without Gaussian heads is an error."""
    batch = batch_of()
    prediction = perfect(batch).replace(gaussians=None)
    with pytest.raises(ValueError, match="no Gaussian heads"):
        total_loss(CONFIG, prediction, batch, jax.random.key(0))
