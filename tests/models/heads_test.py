"""Heads: activations, pixel order, batch norm of the skip CNN, and its fast convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mvdust3r_jax import ModelConfig, MVDust3r
from mvdust3r_jax.models import dpt, heads, winograd
from mvdust3r_jax.models.encoder import patchify
from mvdust3r_jax.models.mvdust3r import abstract_variables
from tests.compiled import compiled, normal

conv5x5, upsample = compiled(winograd.conv5x5), compiled(dpt.upsample)


def test_pixel_shuffle_undoes_patchify():
    """Cutting into patches and laying out pixels are inverses."""
    images = normal(0, 2, 8, 12, 5)
    there = compiled(patchify)(images, 4)
    np.testing.assert_array_equal(compiled(heads.pixel_shuffle)(there, (2, 3), 4), images)


def test_points_keep_direction_and_grow_exponentially():
    """|point| = exp(d) - 1, along the raw vector."""
    points = np.asarray(
        compiled(heads.points_from_raw)(np.float32([[0.0, 3.0, 4.0], [0.1, 0.0, 0.0]]))
    )
    np.testing.assert_allclose(points[0], np.expm1(5.0) * np.array([0, 0.6, 0.8]), rtol=1e-6)
    np.testing.assert_allclose(points[1], [np.expm1(0.1), 0, 0], rtol=1e-6)


@pytest.mark.parametrize("raw", [[0.0, 0.0, 0.0], [1e-30, 0.0, 0.0], [200.0, 0.0, 0.0]])
def test_point_gradients_are_finite(raw):
    """At the origin, and far outside."""
    grad = jax.jit(jax.grad(lambda x: heads.points_from_raw(x).sum()))(np.float32(raw))
    assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("conf_max", [1e9, float("inf")])
def test_confidence_is_clipped_with_finite_gradient(conf_max):
    """1 + exp(raw) between 1 and its limit; where it is clipped the gradient is zero."""
    raw = np.float32([-200.0, 0.0, 1.0, 100.0, 1e6])
    confidence = np.asarray(compiled(heads.confidence_from_raw)(raw, conf_max))
    np.testing.assert_allclose(confidence[:3], [1, 2, 1 + np.e], rtol=1e-6)
    assert np.all(np.isfinite(confidence)) and np.all(confidence <= conf_max)
    grad = jax.jit(jax.grad(lambda x: heads.confidence_from_raw(x, conf_max).sum()))(raw)
    assert np.all(np.isfinite(grad)) and not np.any(np.asarray(grad)[3:])


def test_gaussians_are_in_range(key):
    """Unit quaternions, opacities in (0, 1), the SH coefficients' channels."""
    head = heads.GaussianHead(patch=4, sh_degree=1, hidden=16)
    g, _ = compiled(head.init_with_output)(key, 10 * np.asarray(normal(0, 2, 6, 8)), (2, 3))
    assert g.colors.shape == (2, 8, 12, 12) and g.scales.shape == (2, 8, 12, 3)
    np.testing.assert_allclose((np.asarray(g.rotations) ** 2).sum(-1), 1, rtol=1e-5)
    assert np.all((g.opacities > 0) & (g.opacities < 1))


@pytest.fixture(scope="module")
def cnn():
    """A skip CNN with random last layer, and its input."""
    module = heads.SkipCnn(256, "float32")
    image, xyz = (normal(seed, 2, 9, 14, 3) for seed in range(2))
    variables = jax.jit(module.init, static_argnums=3)(jax.random.key(2), image, xyz, False)
    kernel = variables["params"]["conv3"]["kernel"]
    assert not np.any(kernel)
    noisy = jax.tree.map(lambda x: x, variables)
    noisy["params"]["conv3"]["kernel"] = 0.02 * np.asarray(normal(3, *kernel.shape))
    return module, variables, noisy, image, xyz


def test_fresh_skip_cnn_changes_nothing(cnn):
    """Its last convolution starts at zero."""
    module, fresh, _, image, xyz = cnn
    unchanged = compiled(module.apply)(fresh, image, xyz, False)
    np.testing.assert_array_equal(unchanged, xyz)


def test_fast_convolution_is_the_direct_one(cnn, monkeypatch):
    """Inference with Winograd's algorithm moves points by less than 1e-7 of their size."""
    module, _, noisy, image, xyz = cnn
    fast = jax.jit(module.apply, static_argnums=3)(noisy, image, xyz, False)
    monkeypatch.setattr(heads, "_wide_conv", None)
    direct = jax.jit(lambda *a: module.apply(*a, False))(noisy, image, xyz)
    assert np.abs(direct - xyz).max() > 1e-5
    np.testing.assert_allclose(fast, direct, atol=3e-7)


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (9, 14), (17, 5)])
def test_winograd_is_convolution(size):
    """Any image size, to 1e-4 of the largest result: float32 rounding of the transforms."""
    x, kernel = normal(0, 2, *size, 6), normal(1, 5, 5, 6, 7)
    numbers = nn.linear._conv_dimension_numbers(x.shape)
    want = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    got = conv5x5(x, kernel)
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_training_uses_and_records_batch_statistics(cnn):
    """Training normalizes by the batch and moves the running mean a tenth of the way."""
    module, _, noisy, image, xyz = cnn
    apply = jax.jit(lambda v: module.apply(v, image, xyz, True, mutable=["batch_stats"]))
    _, updated = apply(noisy)
    conv = nn.Conv(256, (3, 3)).bind({"params": noisy["params"]["conv0"]})
    batch_mean = np.mean(conv(np.concatenate([image, xyz], -1)), axis=(0, 1, 2))
    mean = updated["batch_stats"]["norm0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * batch_mean, atol=1e-6)


def test_batch_statistics_are_shared_over_an_axis(cnn):
    """Two devices with half the batch each see the statistics of the whole batch."""
    module, _, noisy, image, xyz = cnn
    shared = heads.SkipCnn(256, "float32", bn_axis_name="data")
    whole, _ = jax.jit(lambda v: module.apply(v, image, xyz, True, mutable=["batch_stats"]))(noisy)
    by_half = jax.vmap(
        lambda i, x: shared.apply(noisy, i, x, True, mutable=["batch_stats"]), axis_name="data"
    )
    halves, _ = jax.jit(by_half)(*(np.asarray(x)[:, None] for x in (image, xyz)))
    np.testing.assert_allclose(np.asarray(halves)[:, 0], whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 4)])
def test_upsampling_keeps_corners_and_planes(shape):
    """Corner pixels stay, and a linear ramp stays linear (align_corners)."""
    rows, columns = shape
    ramp = np.arange(rows)[:, None] * 2.0 + np.arange(columns)[None, :]
    got = np.asarray(upsample(np.float32(ramp)[None, :, :, None]))[0, :, :, 0]
    want = np.linspace(0, 2 * (rows - 1), 2 * rows)[:, None] + np.linspace(
        0, columns - 1, 2 * columns
    )
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_views_in_groups_are_the_same_views(cnn):
    """A head over few views at a time gives what it gives over all at once, on every path."""
    module, _, noisy, image, xyz = cnn
    given = (np.asarray(x) for x in (image, xyz))
    views = tuple(np.stack([x, -x, 2 * x]).reshape(1, 2, 3, *x.shape[1:]) for x in given)
    want = jax.jit(lambda v: module.apply(noisy, *v, False))(views)
    grouped = jax.jit(lambda v: nn.apply(call, module)(noisy, v))

    def call(bound, views):
        return heads.few_views_at_once(bound, views, False, view_bytes=1)

    np.testing.assert_allclose(grouped(views), want, atol=1e-6)


def test_more_views_need_no_more_maps():
    """What the compiler plans for a view beyond the first is a small part of one wide map."""
    config = ModelConfig(16, 1, 1, 16, 1, 1, patch=8, gaussian_hidden=8)
    variables = abstract_variables(config)

    def planned(views):
        images = jax.ShapeDtypeStruct((1, views, 64, 64, 3), jnp.float32)
        run = jax.jit(MVDust3r(config).apply).lower(variables, images).compile()
        return run.memory_analysis().temp_size_in_bytes

    assert (planned(12) - planned(4)) / 8 < 0.25 * 4 * config.skip_width * 64 * 64


def test_fresh_conv_head_is_the_linear_head(key):
    """Its correction starts at zero, whatever the image."""
    head = heads.ConvPointHead(patch=8, width=6)
    tokens, images = normal(0, 2, 3, 6, 16), normal(1, 2, 3, 16, 24, 3)
    raw, variables = compiled(head.init_with_output)(key, tokens, images, (2, 3))
    linear = heads.LinearPointHead(patch=8)
    alone = {"params": variables["params"]["linear"]}
    expected = compiled(linear.apply)(alone, tokens, (2, 3))
    np.testing.assert_array_equal(raw, expected)


def test_conv_head_sees_pixels_of_the_neighboring_patch(key):
    """A pixel changes points across the patch border, in its own view only."""
    head = heads.ConvPointHead(patch=8, width=6)
    tokens, images = normal(0, 1, 2, 4, 16), np.array(normal(1, 1, 2, 16, 16, 3))
    variables = compiled(head.init)(key, tokens, images, (2, 2))
    kernel = variables["params"]["out"]["kernel"]
    variables["params"]["out"]["kernel"] = normal(2, *kernel.shape)
    apply = jax.jit(lambda x: head.apply(variables, tokens, x, (2, 2)))
    before = np.asarray(apply(images))
    images[0, 0, 3, 7] += 1.0
    moved = np.abs(apply(images) - before).max(-1)
    assert moved[0, 0, 3, 9] > 1e-4 and not moved[0, 1].any()


@pytest.mark.parametrize("push", [-100.0, 100.0])
def test_conv_head_learns_wherever_its_channels_have_gone(key, push):
    """However far below zero: all of its arrays have a gradient."""
    head = heads.ConvPointHead(patch=8, width=6)
    tokens, images = normal(0, 1, 2, 4, 16), normal(1, 1, 2, 16, 16, 3)
    params = compiled(head.init)(key, tokens, images, (2, 2))["params"]
    params["out"]["kernel"] = normal(2, *params["out"]["kernel"].shape)
    for name in ("coarse", "pixels", "conv0", "conv1"):
        params[name]["bias"] = np.asarray(params[name]["bias"]) + np.float32(push)
    weights = normal(3, 1, 2, 16, 16, 4)

    def loss(params):
        return (weights * head.apply({"params": params}, tokens, images, (2, 2))).sum()

    gradients = jax.jit(jax.grad(loss))(params)
    assert all(np.abs(g).max() > 1e-4 for g in jax.tree.leaves(gradients))


def test_convolution_by_products_is_the_convolution():
    """Values, and gradients of map and kernel."""
    x, kernel, weights = normal(0, 2, 5, 7, 4), normal(1, 3, 3, 4, 6), normal(2, 2, 5, 7, 6)

    def gradients(conv):
        both = jax.value_and_grad(lambda *a: (weights * conv(*a)).sum(), (0, 1))
        return jax.jit(both)(x, kernel)

    def plain(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    for own, other in zip(
        *(jax.tree.leaves(gradients(f)) for f in (heads._conv_by_products, plain)), strict=True
    ):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)
